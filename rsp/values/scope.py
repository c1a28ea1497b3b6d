"""What names stand for at a stop: variables, functions, enumerators, types, registers.

Contents: the order in which names are looked up, which is gdb's (gdb/symtab.c, lookup_symbol): the
blocks outwards, the file, what all files see, other files. Not here: the grammar (`c_expression`),
and what a block or a file declares (`rsp.symbols.at_pc`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from rsp.arch.layout import Role
from rsp.errors import ExpressionError, RegisterUnavailable, SymbolError, SymbolNotFound, nearest
from rsp.symbols.at_pc.definitions import defined_in, function_of
from rsp.symbols.types.types import VOID, Function, Pointer
from rsp.values.arithmetic import base_types
from rsp.values.definition import value_of
from rsp.values.per_cpu import PerCpuValue
from rsp.values.value import UNAVAILABLE, UNTYPED, UNTYPED_CODE, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rsp.arch.registers import Registers
    from rsp.symbols.at_pc.definitions import Definition
    from rsp.symbols.at_pc.scopes import Scopes
    from rsp.symbols.binary import Binary, ElfSymbol
    from rsp.symbols.types.types import Type
    from rsp.values.per_cpu import Bases
    from rsp.values.value import Space

_ROLES: Final = {Role.PC: "pc", Role.SP: "sp", Role.FP: "fp"}


class FrameVariables(Protocol):
    """A frame of a stack, as expressions see it; `rsp.frames.frame.Frame` is one."""

    function: str | None
    """The name of its function, None where nothing tells."""
    pc: int
    """The linear address of its next instruction."""

    @property
    def inlined(self) -> bool:
        """Whether the function is a copy within the next frame's."""
        ...

    @property
    def registers(self) -> Registers:
        """The registers in it."""
        ...

    def variable(self, name: str) -> Value | None:
        """Return the argument or variable of a name, None without one; BadImage."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where an expression looks its names up.

    Attributes:
        space: the memory and the symbols.
        names: what comes first: the arguments and variables of a frame, and registers with their
            dollar (``$pc``).
        around: returns the place in the source, whose file comes before others: none where nothing
            says which, several where a file is meant of which there are several.
        frames: returns the frames in which the variables of functions are.
        registers: returns the current thread's registers; None where there are none.
        bases: of segments, which tell the current thread's CPU; None where there is none.
        cpu: whose per-CPU data is meant; None is the current thread's CPU, where that can be told.
        within: the file or the function that was named: only what that can see is meant.
        is_dry: only types matter: whatever is read is zero, and nothing is asked of the target.
    """

    space: Space
    names: Mapping[str, Value] = field(default_factory=dict)
    around: Callable[[], Sequence[Scopes]] = tuple
    frames: Callable[[], Sequence[FrameVariables]] = tuple
    registers: Callable[[], Registers] | None = None
    bases: Bases | None = None
    cpu: int | None = None
    within: str | None = None
    is_dry: bool = False

    def dry(self) -> Scope:
        """Return the same names over memory that is all zeros and costs nothing."""
        zeros = replace(self.space, read=lambda _, length: bytes(length))
        return replace(self, space=zeros, is_dry=True)

    def has(self, name: str) -> bool:
        """Return whether a name stands for a variable, a function or an enumerator."""
        if name in self.names:
            return True
        for around in self.around():
            if around.in_file(name) is not None:
                return True
            if around.type(name) is not None:
                return False
        symbols = self.space.symbols
        return symbols is not None and name in symbols

    def value(self, name: str) -> Value:
        """Return what a name stands for.

        Raises:
            SymbolNotFound: nothing; the message names the nearest symbols.
            SymbolError: there are no symbols.
            ExpressionError: several files are meant that each have one.
            BadImage: the file is damaged.
        """
        given = self.names.get(name)
        if given is not None:
            return self._settled(given)
        own = self._own(name)
        if own is not None and not own.external and (value := self._defined(own)) is not None:
            return value
        linked = self._linked(name)
        if linked is not None:
            return self._symbol(*linked)
        for definition in self._elsewhere(name) if own is None else (own,):
            if (value := self._defined(definition)) is not None:
                return value
        raise self._missing(name)

    def function(self, name: str) -> Definition | None:
        """Return the function that a name means, None where it means none.

        Raises:
            SymbolError, BadImage: as `value`.
        """
        own = self._own(name)
        if own is not None and not own.external:
            return own if own.is_function else None
        for around in self.around():
            if (copy := around.copy_of(name)) is not None:
                return copy
        linked = self._linked(name)
        if linked is not None:
            return function_of(*linked)
        found = (own,) if own is not None else self._elsewhere(name)
        return next((each for each in found if each.is_function), None)

    def type(self, name: str) -> Type:
        """Return a type by its name, ``struct page`` or ``u32``; C's own need no symbols.

        Raises:
            SymbolNotFound: there is none; the message names the nearest.
            SymbolError: there are no symbols.
        """
        own = base_types(self.space.word_size).get(name)
        if own is not None:
            return own
        for around in self.around():
            if (found := around.type(name)) is not None:
                return found
        if self.space.symbols is None:
            raise SymbolError(f"no symbols to find the type {name!r} in")
        return self.space.symbols.type(name)

    # --- the steps ---

    def _own(self, name: str) -> Definition | None:
        """Return what the file defines."""
        found = {
            around.file: definition
            for around in self.around()
            if (definition := around.in_file(name)) is not None
        }
        if len(found) > 1:
            raise ExpressionError(
                f"each of {', '.join(found)} has {name!r}: say which, by its path"
            )
        return next(iter(found.values()), None)

    def _linked(self, name: str) -> tuple[Binary, int, ElfSymbol] | None:
        """Return the symbol of a name: a global one, else the first."""
        symbols = self.space.symbols
        first = None
        for binary, slide in symbols.binaries() if symbols is not None else ():
            for symbol in binary.find(name):
                if symbol.is_global:
                    return binary, slide, symbol
                first = first or (binary, slide, symbol)
        return first if self.within is None else None

    def _elsewhere(self, name: str) -> Iterator[Definition]:
        """Yield what has no symbol: enumerators, what was optimized out, clones of functions."""
        symbols = self.space.symbols
        for binary, slide in symbols.binaries() if symbols and self.within is None else ():
            yield from defined_in(binary, slide, name)

    def _missing(self, name: str) -> SymbolError:
        symbols = self.space.symbols
        if symbols is None:
            hint = nearest(name, self.names)
            return SymbolError(
                f"{name!r} is a name{hint}, and there are no symbols to find it in: give "
                'connect(…, symbols="vmlinux"), or --symbols FILE'
            )
        if self.within is None:
            try:
                symbols[name]  # which names the nearest
            except SymbolNotFound as error:
                return error
        known = {*self.names, *(each for around in self.around() for each in around.file_names())}
        where = self.within or symbols.path
        return SymbolNotFound(f"no symbol {name!r} in {where}{nearest(name, known)}", name=name)

    # --- their values ---

    def _defined(self, definition: Definition) -> Value | None:
        value = value_of(definition, self.space, self.bases)
        return self._settled(value) if value is not None else None

    def _symbol(self, binary: Binary, slide: int, symbol: ElfSymbol) -> Value:
        address = symbol.address + (slide if binary.moves(symbol) else 0)
        if binary.is_code(symbol):
            ctype = binary.type_of_function(symbol) or UNTYPED_CODE
            return Value(self.space, ctype, address=address)
        ctype = binary.type_of_variable(symbol) or UNTYPED
        if not binary.is_per_cpu(symbol):
            return Value(self.space, ctype, address=address)
        return self._settled(PerCpuValue(self.space, ctype, address, self.bases))

    def _settled(self, value: Value) -> Value:
        """Return a value as it is here: of the CPU that is meant; in memory that may be read."""
        if self.is_dry and (value.space_ is not self.space or isinstance(value, PerCpuValue)):
            return Value(self.space, value.type_, address=0)
        if isinstance(value, PerCpuValue) and self.cpu is not None:
            return value.on(self.cpu)
        return value

    def register(self, name: str) -> Value:
        """Return the value of a register: ``$rip``, ``$sp``, ``$eax``.

        Raises:
            RegisterUnavailable: there is no such register.
            ExpressionError: it is no number of C.
        """
        given = self.names.get(f"${name}")
        if given is not None:
            return self._settled(given)
        if self.registers is None:
            raise RegisterUnavailable(f"no registers here: ${name}", register=name)
        registers = self.registers()
        layout, word = registers.layout, self.space.word_size
        code = Pointer(Function(VOID, (), prototyped=False), word)
        data = Pointer(VOID, word)
        roles = {"pc": code, "sp": data, "fp": data}
        if name in roles:
            return Value.number_(self.space, roles[name], getattr(registers, name))
        bits = layout[name].bits
        number = registers[name]
        pointers = {layout.role(role).name: kind for role, kind in _ROLES.items()}
        if bits > 64:
            raise ExpressionError(f"${name} has {bits} bits: `rsp regs` shows it")
        ctype: Type | None = roles.get(pointers.get(name, ""))
        if ctype is None:
            ctype = base_types(word)["int" if bits <= 32 else "long long" if word == 4 else "long"]
        if number is None:
            return Value.absent_value_(self.space, ctype, UNAVAILABLE)
        # In gdb they are signed, and flags and selectors are small.
        sign = 1 << bits - 1
        return Value.number_(self.space, ctype, (number ^ sign) - sign)
