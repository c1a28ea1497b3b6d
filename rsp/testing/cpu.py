"""The CPUs of a scripted stub, and what their program does.

Contents: values only: State, a step of a program, and Cpu, the registers and the mode. Packets are
the business of ``stub``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rsp.arch.modes import CpuMode, linear_pc
from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The CPU before one instruction: what the instruction before it has changed.

    Attributes:
        registers: new values by name, the pc among them.
        mode: the CPU's mode from here on, None where it stays.
        writes: the memory that was written.
        signal: with which signal the target stops here by itself; 0 for not at all.
        output: what is printed in an ``O`` packet.
    """

    registers: Mapping[str, int] = field(default_factory=dict)
    mode: CpuMode | None = None
    writes: Mapping[int, bytes] = field(default_factory=dict)
    signal: int = 0
    output: bytes = b""

    def __repr__(self) -> str:
        return hex_repr(self)


# What the control registers are in each mode, at the least (Intel SDM volume 3A, section 2.2).
_CONTROL: Final = {
    CpuMode.REAL16: {"cr0": 0x10, "efer": 0},
    CpuMode.PROTECTED16: {"cr0": 0x11, "efer": 0},
    CpuMode.PROTECTED32: {"cr0": 0x11, "efer": 0},
    CpuMode.COMPAT32: {"cr0": 0x80000011, "efer": 0x500},
    CpuMode.LONG64: {"cr0": 0x80000011, "efer": 0x500},
}


class Cpu:
    """A thread of the machine: its registers, by the names of x86-64, and its mode.

    Args:
        registers: their values; what is not named is 0.
        mode: the mode; the control registers follow it.
        name: what qThreadExtraInfo says.
    """

    def __init__(
        self,
        registers: Mapping[str, int] | None = None,
        *,
        mode: CpuMode = CpuMode.LONG64,
        name: str = "",
    ) -> None:
        self.registers: dict[str, int] = {}
        self.name = name
        self.switch(mode)
        self.registers.update(registers or {})

    def switch(self, mode: CpuMode) -> None:
        """Change the mode."""
        self.mode = mode
        self.registers.update(_CONTROL.get(mode, {}))

    @property
    def pc(self) -> int:
        """The linear address of the next instruction."""
        return linear_pc(self.registers.get("rip", 0), self.mode, cs=self.registers.get("cs"))
