"""A thread's registers: the snapshot that users see.

Contents: the value only. Not here: how it is read from a stub, how a register is written, how the
layout is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar, overload

from rsp.arch.flags import EFlags, flags_text
from rsp.arch.layout import Kind, Role
from rsp.errors import RegisterUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rsp.arch.layout import Register, RegisterLayout

_T = TypeVar("_T")
_WIDE = ("float", "vector")  # groups of gdb


class Registers(Mapping[str, "int | None"]):
    """The registers of one thread at one stop, all read at once.

    A mapping of gdb's names to unsigned integers at the registers' own width, None where the stub
    does not give the value. Iteration and ``len`` are over whole registers; sub-registers
    (``eax``, ``al``, ``ymm0``) can be read too. ``str()`` is a table.

    What the stub describes and does not send along with the others is asked for when it is first
    read. Once the target has run on, it is None.

    >>> from rsp.arch.layouts import layout_for_length
    >>> layout = layout_for_length(164)
    >>> registers = Registers(layout, layout.decode_values(bytes([0x34, 0x12, 0, 0, 0, 0, 0, 0])))
    >>> hex(registers["rax"]), hex(registers["ah"]), registers["rbx"]
    ('0x1234', '0x12', None)

    Attributes:
        layout: how the stub sent them.
    """

    __slots__ = ("_ask", "_linear_pc", "_pc", "_positions", "_unasked", "_values", "layout")

    def __init__(
        self,
        layout: RegisterLayout,
        values: Sequence[int | None],
        linear_pc: Callable[[Registers], int] | None = None,
        *,
        ask: Callable[[Register], int | None] | None = None,
        unasked: Iterable[str] = (),
    ) -> None:
        self.layout: RegisterLayout = layout
        self._ask = ask
        self._unasked = set(unasked)
        self._positions = layout.positions
        self._values = values
        self._linear_pc = linear_pc
        self._pc: int | None = None

    def __getitem__(self, name: str) -> int | None:
        position = self._positions.get(name) if isinstance(name, str) else None
        if position is not None and name in self._unasked and self._ask is not None:
            values = list(self._values)
            values[position] = self._ask(self.layout.registers[position])
            self._values = values
            self._unasked.discard(name)
        return self.layout.read(self, name) if position is None else self._values[position]

    @overload
    def get(self, name: str, /) -> int | None: ...
    @overload
    def get(self, name: str, /, default: int | _T | None) -> int | _T | None: ...
    def get(self, name: str, /, default: object = None) -> object:
        """Return a register's value; the default, at once, where there is no such register."""
        # That of Mapping would have the error look for the nearest names first.
        return default if isinstance(name, str) and name not in self.layout else self[name]

    def __contains__(self, name: object) -> bool:
        return name in self.layout

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        """Return the general registers; all others are counted."""
        known = [
            each.name
            for each in self.layout.registers
            if each.group == "general" and each.kind not in (Kind.X87, Kind.VECTOR)
        ]
        shown = ", ".join(f"{name}={_hex(self[name])}" for name in known)
        return f"Registers({shown}; {len(self)} in all)"

    def __str__(self) -> str:
        """Return a table as gdb's ``info registers``, with control registers where there are some.

        Floating point and vector registers are read by their names.
        """
        rows = []
        for register in self.layout.registers:
            if register.group not in _WIDE and register.kind not in (Kind.X87, Kind.VECTOR):
                name, value = register.name, self[register.name]
                shown = name if name.isprintable() else ascii(name)
                rows.append(f"{shown:<15}{_hex(value):<20}{_meaning(register, value)}")
        return "\n".join(map(str.rstrip, rows))

    def _ipython_key_completions_(self) -> list[str]:
        """Return the names of registers and sub-registers."""
        return [*self.layout.positions, *self.layout.sub_registers]

    @property
    def pc(self) -> int:
        """The linear address of the next instruction: with the CS base where that is not 0.

        Raises:
            RegisterUnavailable: the stub does not give it.
            LocalProtocolError: outside 64-bit mode, when it is first asked for after the target
                has run on: the base of CS is not known any more.
        """
        if self._pc is None:
            self._pc = self.role(Role.PC) if self._linear_pc is None else self._linear_pc(self)
        return self._pc

    @property
    def sp(self) -> int:
        """The stack pointer, as the register holds it; RegisterUnavailable without it."""
        return self.role(Role.SP)

    @property
    def fp(self) -> int:
        """The frame pointer register; RegisterUnavailable without it."""
        return self.role(Role.FP)

    @property
    def flags(self) -> EFlags:
        """EFLAGS, with the names of the Intel SDM; RegisterUnavailable without it."""
        return EFlags(self.role(Role.FLAGS))

    def role(self, role: Role) -> int:
        """Return the value of the register that has a role.

        Raises:
            RegisterUnavailable: the layout has none, or the stub does not give its value.
        """
        name = self.layout.role(role).name
        value = self[name]
        if value is None:
            raise RegisterUnavailable(f"the stub does not give {name}", register=name)
        return value


def _hex(value: int | None) -> str:
    return "<unavailable>" if value is None else f"{value:#x}"


def _meaning(register: Register, value: int | None) -> str:
    """Return gdb's third column: the number, or the flags."""
    if value is None:
        return ""
    if register.kind in (Kind.INTEGER, Kind.SELECTOR):
        return str(value - (value >> register.bits - 1 << register.bits))
    return flags_text(register.name, value) or ""
