"""Names that are said to be of a function or a file: ``function::name``, ``'file.c'::name``.

Here lives: the scope that stands before a ``::`` (gdb manual, "Variables"). Here must not live: the
grammar (`c_expression`), and the order in which a scope is searched (`scope`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rsp.errors import SymbolError, SymbolNotFound
from rsp.symbols.at_pc.scopes import Surroundings
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import origins
from rsp.symbols.dwarf.ranges import pc_ranges
from rsp.values.value import Value

if TYPE_CHECKING:
    from rsp.symbols.dwarf.die import Die
    from rsp.values.definition import Definition
    from rsp.values.scope import FrameVariables, Scope

_BLOCKS = frozenset((dw.DW_TAG_lexical_block,))
_DEEPEST = 64
"""How many blocks within each other are looked into."""


def scope_of(scope: Scope, name: str) -> Scope:
    """Return the scope of a function or, where none is called so, of a source file.

    As in gdb it sees what the file has, and what all files see; unlike in gdb, nothing that another
    file has for itself.

    Raises:
        SymbolNotFound: there is neither; the message names the nearest.
        SymbolError: there are no symbols, or several files are meant that each have one.
    """
    symbols = scope.space.symbols
    if symbols is None:
        raise SymbolError(f"no symbols to find {name!r} in")
    function = scope.function(name) if name.isidentifier() else None
    if function is not None:
        around = (function.surroundings,)
        names = _FunctionNames(function, scope)
        return replace(scope, names=names, around=lambda: around, within=f"{name}()")
    found = tuple(
        Surroundings(binary=binary, slide=slide, unit=unit)
        for binary, slide in symbols.binaries()
        for unit in binary.units_of(name)
    )
    if found:
        return replace(scope, names={}, around=lambda: found, within=name)
    if name.isidentifier():
        scope.value(name)  # raises SymbolNotFound, with the nearest
        raise SymbolError(f"{name!r} is no function: a function or 'file.c' stands before ::")
    symbols.locations(f"{name}:1")  # raises SymbolNotFound, with the nearest files
    raise SymbolNotFound(f"{name!r} is neither a function nor a source file", name=name)


class _FunctionNames(Mapping[str, Value]):
    """What a function declares: its static variables, and those of the innermost frame of it."""

    def __init__(self, function: Definition, scope: Scope) -> None:
        self._function = function
        self._scope = scope

    def __getitem__(self, name: str) -> Value:
        found = self._find(name)
        if found is None:
            raise KeyError(name)
        if found.is_static:
            value = found.value(self._scope.space, self._scope.bases)
        else:
            value = self._of_frame(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        binary = self._function.binary
        for scopes in self._levels():
            for scope in scopes:
                yield from binary.names_in(scope)

    def __len__(self) -> int:
        return len(set(self))

    def _find(self, name: str) -> Definition | None:
        """Return what the function declares, else what one of the blocks within it does."""
        function = self._function
        for scopes in self._levels():
            dies = self._declared(scopes, name)
            if len(dies) > 1:
                raise SymbolError(
                    f"{len(dies)} blocks of {function.name}() have a {name!r}: "
                    "give its address, or its name in the symbol table"
                )
            for die in dies:
                return replace(function, die=die, name=name)
        return None

    def _declared(self, scopes: Sequence[Die], name: str) -> tuple[Die, ...]:
        dies: dict[int, Die] = {}
        for scope in scopes:
            if (die := self._function.binary.declared_in(scope, name)) is not None:
                # A copy and what it is a copy of are the same.
                dies.setdefault([each.offset for each in origins(die)][-1], die)
        return tuple(dies.values())

    def _levels(self) -> Iterator[list[Die]]:
        """Yield the function, its blocks, the blocks within those, each before its origins."""
        functions = self._function.binary.functions
        level = [self._function.die]
        for _ in range(_DEEPEST):
            scopes = {each.offset: each for die in level for each in origins(die)}
            if not scopes:
                return
            yield list(scopes.values())
            level = [
                child
                for block in scopes.values()
                for child in functions.walk(block.unit).children(block, _BLOCKS)
            ]

    def _of_frame(self, name: str) -> Value | None:
        function = self._function
        for frame in self._scope.frames():
            if frame.function == function.name and self._is_of(frame):
                return frame.variable(name)
        raise SymbolError(
            f"{name!r} is on the stack while {function.name}() runs, "
            "and the current thread is not in it"
        )

    def _is_of(self, frame: FrameVariables) -> bool:
        """Return whether a frame is of the function, and not of another of that name."""
        ranges = pc_ranges(self._function.die)
        place = frame.pc - self._function.slide
        return frame.inlined or any(begin <= place <= end for begin, end in ranges)
