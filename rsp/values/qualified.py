"""Names that are said to be of a function or a file: ``function::name``, ``'file.c'::name``.

Contents: the scope that stands before a ``::`` (gdb manual, "Variables"). Not here: the grammar
(`c_expression`), and the order in which a scope is searched (`scope`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from rsp.errors import ExpressionError, SymbolError, SymbolNotFound, ValueUnavailable
from rsp.symbols.at_pc.function_names import FunctionNames
from rsp.symbols.at_pc.scopes import scopes_of, scopes_of_file
from rsp.values.definition import value_of
from rsp.values.value import Value

if TYPE_CHECKING:
    from rsp.symbols.at_pc.definitions import Definition
    from rsp.values.scope import FrameVariables, Scope


def scope_of(scope: Scope, name: str) -> Scope:
    """Return the scope of a function or, where none is called so, of a source file.

    As in gdb it sees what the file has, and what all files see; unlike in gdb, nothing that another
    file has for itself.

    Raises:
        SymbolNotFound: there is neither; the message names the nearest.
        SymbolError: there are no symbols.
        ExpressionError: several files are meant that each have one.
    """
    symbols = scope.space.symbols
    if symbols is None:
        raise SymbolError(f"no symbols to find {name!r} in")
    function = scope.function(name) if name.isidentifier() else None
    if function is not None:
        around = (scopes_of(function),)
        names = _Values(function, scope)
        return replace(scope, names=names, around=lambda: around, within=f"{name}()")
    found = scopes_of_file(symbols, name)
    if found:
        return replace(scope, names={}, around=lambda: found, within=name)
    if name.isidentifier():
        scope.value(name)  # raises SymbolNotFound, with the nearest
        raise ExpressionError(f"{name!r} is no function: a function or 'file.c' stands before ::")
    symbols.locations(f"{name}:1")  # raises SymbolNotFound, with the nearest files
    raise SymbolNotFound(f"{name!r} is neither a function nor a source file", name=name)


class _Values(Mapping[str, Value]):
    """What a function declares: its static variables, and those of the innermost frame of it."""

    def __init__(self, function: Definition, scope: Scope) -> None:
        self._function = function
        self._scope = scope
        self._names = FunctionNames(function)

    def __getitem__(self, name: str) -> Value:
        found = self._find(name)
        if found is None:
            raise KeyError(name)
        if found.is_static:
            value = value_of(found, self._scope.space, self._scope.bases)
        else:
            value = self._of_frame(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(set(self))

    def _find(self, name: str) -> Definition | None:
        found = self._names.find(name)
        if len(found) > 1:
            raise ExpressionError(
                f"{len(found)} blocks of {self._function.name}() have a {name!r}: "
                "give its address, or its name in the symbol table"
            )
        return found[0] if found else None

    def _of_frame(self, name: str) -> Value | None:
        function = self._function
        for frame in self._scope.frames():
            if frame.function == function.name and self._is_of(frame):
                return frame.variable(name)
        raise ValueUnavailable(
            f"{name!r} is on the stack while {function.name}() runs, "
            "and the current thread is not in it"
        )

    def _is_of(self, frame: FrameVariables) -> bool:
        """Return whether a frame is of the function, and not of another of that name."""
        return frame.inlined or self._names.covers(frame.pc)
