"""What names stand for at a stop: variables, functions, enumerators, registers, per-CPU data.

Here lives: the order in which names are looked up, and the place of a CPU's own data (Linux
include/asm-generic/percpu.h). Here must not live: the grammar (`c_expression`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from operator import index
from typing import TYPE_CHECKING, Final, SupportsIndex, overload

from rsp.arch.layout import Role
from rsp.errors import BadImage, RegisterUnavailable, SymbolError, SymbolNotFound, nearest
from rsp.symbols.contents import Damaged
from rsp.symbols.dwarf.plans import Kind
from rsp.symbols.types import VOID, Enum, Function, Pointer
from rsp.symbols.variables import PER_CPU_SECTION
from rsp.target.c_arithmetic import base_types
from rsp.target.values import UNAVAILABLE, UNTYPED, UNTYPED_CODE, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rsp.symbols.binary import Binary
    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.symtab import ElfSymbol
    from rsp.symbols.types import Type
    from rsp.target.registers import Registers
    from rsp.target.values import Space

_OFFSETS: Final = "__per_cpu_offset"
_CPUS: Final = "nr_cpu_ids"
_FIRST_CPUS: Final = 64
_MOST_CPUS: Final = 8192

_ROLES: Final = {Role.PC: "pc", Role.SP: "sp", Role.FP: "fp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where an expression looks its names up.

    Attributes:
        space: the memory and the symbols.
        names: what comes before the symbols: the arguments and variables of a frame, and
            registers with their dollar (``$pc``).
        registers: returns the current thread's registers; None where there are none.
        cpu: whose per-CPU data is meant; None is the current thread's CPU, where that can be told.
        is_dry: only types matter: whatever is read is zero, and nothing is asked of the target.
    """

    space: Space
    names: Mapping[str, Value] = field(default_factory=dict)
    registers: Callable[[], Registers] | None = None
    cpu: int | None = None
    is_dry: bool = False

    def dry(self) -> Scope:
        """Return the same names over memory that is all zeros and costs nothing."""
        zeros = replace(self.space, read=lambda _, length: bytes(length))
        return replace(self, space=zeros, is_dry=True)

    def has(self, name: str) -> bool:
        """Return whether there is a variable or function of a name."""
        symbols = self.space.symbols
        return name in self.names or (symbols is not None and name in symbols)

    def value(self, name: str) -> Value:
        """Return what a name stands for.

        Raises:
            SymbolNotFound: nothing; the message names the nearest symbols.
            SymbolError: there are no symbols.
            BadImage: the file is damaged.
        """
        given = self._given(name)
        if given is not None:
            return given
        symbols = self.space.symbols
        if symbols is None:
            hint = nearest(name, self.names)
            raise SymbolError(
                f"{name!r} is a name{hint}, and there are no symbols to find it in: give "
                'connect(…, symbols="vmlinux"), or --symbols FILE'
            )
        for binary, slide in symbols.binaries():
            for symbol in binary.find(name):
                address = symbol.address + (slide if binary.moves(symbol) else 0)
                if binary.is_code(symbol):
                    ctype = _function_type(binary, symbol) or UNTYPED_CODE
                    return Value(self.space, ctype, address=address)
                return self._variable(binary, symbol, address)
        found = self._enumerator(name)
        if found is not None:
            return found
        symbols[name]  # raises SymbolNotFound, with the nearest
        raise SymbolNotFound(f"no symbol {name!r}", name=name)

    def _given(self, name: str) -> Value | None:
        value = self.names.get(name)
        if value is not None and self.is_dry:
            return Value(self.space, value.type_, address=0)
        return value

    def _variable(self, binary: Binary, symbol: ElfSymbol, address: int) -> Value:
        ctype = binary.type_of_variable(symbol) or UNTYPED
        if symbol.section != PER_CPU_SECTION or self.is_dry:
            return Value(self.space, ctype, address=address)
        variable = PerCpuValue(self.space, ctype, address, self.registers)
        return variable if self.cpu is None else variable.on(self.cpu)

    def _enumerator(self, name: str) -> Value | None:
        """Return an enumerator; the first question about one may make the index of names."""
        assert self.space.symbols is not None
        for binary, _ in self.space.symbols.binaries():
            for entry in binary.index.find(name):
                if entry.kind is not Kind.ENUMERATOR:
                    continue
                ctype = _entry_type(binary, binary.types.type, entry.offset)
                if isinstance(ctype, Enum) and name in ctype.enumerators:
                    return Value.number_(self.space, ctype, ctype.enumerators[name])
        return None

    def register(self, name: str) -> Value:
        """Return the value of a register: ``$rip``, ``$sp``, ``$eax``.

        Raises:
            RegisterUnavailable: there is no such register.
            SymbolError: it is no number of C.
        """
        given = self._given(f"${name}")
        if given is not None:
            return given
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
            raise SymbolError(f"${name} has {bits} bits: `rsp regs` shows it")
        ctype: Type | None = roles.get(pointers.get(name, ""))
        if ctype is None:
            ctype = base_types(word)["int" if bits <= 32 else "long long" if word == 4 else "long"]
        if number is None:
            return Value.absent_value_(self.space, ctype, UNAVAILABLE)
        # In gdb they are signed, and flags and selectors are small.
        sign = 1 << bits - 1
        return Value.number_(self.space, ctype, (number ^ sign) - sign)


def find_type(space: Space, name: str) -> Type:
    """Return a type by its name, ``struct page`` or ``u32``; C's own need no symbols.

    Raises:
        SymbolNotFound: there is none; the message names the nearest.
        SymbolError: there are no symbols.
    """
    own = base_types(space.word_size).get(name)
    if own is not None:
        return own
    if space.symbols is None:
        raise SymbolError(f"no symbols to find the type {name!r} in")
    return space.symbols.type(name)


def _function_type(binary: Binary, symbol: ElfSymbol) -> Type | None:
    """Return the prototype of a function, None where nothing says so."""
    frames = binary.frames(symbol.address)
    if frames and frames[-1].entry == symbol.address:
        return _entry_type(binary, binary.types.type, frames[-1].die.offset)
    return None if binary.btf is None else binary.btf.function(symbol.name)


def _entry_type(binary: Binary, read: Callable[[Die], Type], offset: int) -> Type:
    try:
        return read(binary.units.die(offset))
    except Damaged as damage:
        raise BadImage(f"{binary.path}: {damage}", path=binary.path) from damage


class PerCpuValue(Value):
    """A variable that each CPU has its own of, before it is said which: ``[n]`` is CPU n's.

    Everything else is about the CPU of the current thread, where that can be told.
    """

    __slots__ = ("__offset", "__registers")

    def __init__(
        self,
        space: Space,
        ctype: Type,
        offset: int,
        registers: Callable[[], Registers] | None,
    ) -> None:
        super().__init__(space, ctype)
        self.__offset = offset
        self.__registers = registers

    def on(self, cpu: int) -> Value:
        """Return that of a CPU.

        Raises:
            SymbolError: the kernel cannot have that CPU, or this is no kernel.
            MemoryFault: its place cannot be read.
        """
        size = self.space_.word_size
        if not 0 <= cpu < self.__count():
            raise SymbolError(f"there is no CPU {cpu}: they are numbered below {self.__count()}")
        where = self.__offsets() + cpu * size
        offset = int.from_bytes(self.space_.read(where, size), "little")
        address = (self.__offset + offset) % (1 << 8 * size)
        return Value(self.space_, self.type_, address=address)

    def _place_(self) -> int:
        return self.on(self.__current())._place_() or 0

    @overload
    def __getitem__(self, key: str | SupportsIndex) -> Value: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Value, ...]: ...
    def __getitem__(self, key: str | SupportsIndex | slice) -> Value | tuple[Value, ...]:
        if isinstance(key, str | slice):
            return super().__getitem__(key)
        return self.on(index(key))

    def __offsets(self) -> int:
        symbols = self.space_.symbols
        if symbols is None or _OFFSETS not in symbols:
            raise SymbolError(
                f"a per-CPU variable, and no {_OFFSETS} that says where each CPU's is"
            )
        return symbols[_OFFSETS].address

    def __count(self) -> int:
        symbols, where = self.space_.symbols, self.__offsets()
        assert symbols is not None
        room = symbols[_OFFSETS].size // self.space_.word_size or _MOST_CPUS
        if _CPUS in symbols and where:
            room = min(room, int.from_bytes(self.space_.read(symbols[_CPUS].address, 4), "little"))
        return min(room, _MOST_CPUS)

    def __current(self) -> int:
        """Return the CPU of the current thread: the one whose offset a segment's base is.

        The kernel keeps it in GS on x86-64, where user mode has it swapped out, and in FS on i386.
        """
        size = self.space_.word_size
        bases = set()
        if self.__registers is not None:
            registers = self.__registers()
            names = ("gs_base", "k_gs_base", "fs_base")
            bases = {registers[name] for name in names if name in registers} - {None, 0}
        if bases:
            for count in dict.fromkeys((min(_FIRST_CPUS, self.__count()), self.__count())):
                data = self.space_.read(self.__offsets(), count * size)
                offsets = [
                    int.from_bytes(data[at : at + size], "little")
                    for at in range(0, len(data), size)
                ]
                found = [cpu for cpu, offset in enumerate(offsets) if offset in bases]
                if len(found) == 1:
                    return found[0]
                if found:
                    break
        raise SymbolError(
            "each CPU has its own, and nothing tells the CPU of the current thread: say which, "
            'as in value("runqueues", cpu=0) or runqueues[0]'
        )
