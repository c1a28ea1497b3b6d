"""QEMU up to 2.8, and a CPU that boots under it: 16, 32 and 64 bit in one session.

Contents: QemuOld, which no machine of today runs: its ``g`` changes between 308 and 536 bytes with
the CPU's mode, and no target description says so. What is told of it here is from its
target-i386/gdbstub.c, helper.c (``info registers``) and gdbstub.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.arch.modes import CpuMode
from rsp.testing.cpu import State
from rsp.testing.personalities import QEMU_OLD, Personality
from rsp.testing.stub import Stub

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The attributes of a code segment, by mode, as in the upper half of its descriptor: of DB, L and G
# (Intel SDM volume 3A, section 3.4.5), one bit each is what tells the modes apart.
_CODE_SEGMENTS: Final = {
    CpuMode.REAL16: 0x00009B00,
    CpuMode.PROTECTED16: 0x008F9B00,
    CpuMode.PROTECTED32: 0x00CF9B00,
    CpuMode.COMPAT32: 0x00CF9B00,
    CpuMode.LONG64: 0x00AF9B00,
}

BOOT: Final[Sequence[State]] = (
    State(registers={"rip": 0x7C00, "cs": 0, "rax": 0xAA55}),
    State(registers={"rip": 0x7C05}),
    State(registers={"rip": 0x7C20, "cs": 8}, mode=CpuMode.PROTECTED16),
    State(registers={"rip": 0x7C30, "cs": 0x10, "rax": 0x80000011}, mode=CpuMode.PROTECTED32),
    State(registers={"rip": 0x7C40}, mode=CpuMode.COMPAT32),
    State(registers={"rip": 0x7C50, "cs": 0x18}, mode=CpuMode.LONG64),
    State(registers={"rip": 0x7C58, "rax": 0x1122334455667788, "r15": 0xF00D}),
    State(registers={"rip": 0x7C60}, writes={0x4000: b"\1"}),
)
"""From the first instruction of a boot sector to 64-bit mode, and round in a loop there."""


class QemuOld(Stub):
    """A ``qemu-system-x86_64`` up to 2.8, at the reset vector, with a boot sector ahead.

    Args:
        shows_registers: whether the monitor has ``info registers``, the one thing that tells its
            modes apart outside 64-bit mode.
        memory: what lies where, beside a page at 0x4000 and the boot sector's at 0x7000.
        program: what the CPU does.
        loop: the index in the program that follows its end.
        personality: what it answers.
    """

    def __init__(
        self,
        *,
        shows_registers: bool = True,
        memory: Mapping[int, bytes] | None = None,
        program: Sequence[State] = BOOT,
        loop: int | None = 6,
        personality: Personality = QEMU_OLD,
    ) -> None:
        super().__init__(
            personality,
            registers={"rip": 0xFFF0, "cs": 0xF000, "rdx": 0x663, "eflags": 2},
            mode=CpuMode.REAL16,
            memory={0x4000: bytes(4096), 0x7000: bytes(4096), **(memory or {})},
            program=program,
            loop=loop,
        )
        self.shows_registers = shows_registers

    def monitor(self, command: str) -> str:
        """Answer ``info registers`` as QEMU does."""
        if command.startswith("info registers") and self.shows_registers:
            return self._info_registers()
        return super().monitor(command)

    def _info_registers(self) -> str:
        registers, mode = self.cpu.registers, self.cpu.mode
        long_mode = mode is CpuMode.LONG64
        wide = 16 if mode in (CpuMode.LONG64, CpuMode.COMPAT32) else 8
        names = ("RIP", "RFL") if long_mode else ("EIP", "EFL")
        digits = 16 if long_mode else 8
        cs = registers.get("cs", 0)
        base = self.cpu.pc - registers["rip"] if mode is CpuMode.REAL16 else 0
        lines = [
            f"{names[0]}={registers['rip']:0{digits}x} {names[1]}={registers['eflags']:08x} [--]",
            "CPL=0 II=0 A20=1 SMM=0 HLT=0",
        ]
        for name in ("ES", "CS", "SS", "DS", "FS", "GS"):
            code = name == "CS"
            selector, at = (cs, base) if code else (0, 0)
            attributes = _CODE_SEGMENTS[mode] if code else 0x00CF9300
            lines.append(f"{name} ={selector:04x} {at:0{digits}x} 0000ffff {attributes:08x} DPL=0")
        lines += [
            f"LDT=0000 {0:0{digits}x} 0000ffff 00008200 DPL=0 LDT",
            f"TR =0000 {0:0{digits}x} 0000ffff 00008b00 DPL=0 TSS32-busy",
            f"GDT=     {0x7D00:0{wide}x} 00000020",
            f"IDT=     {0:0{wide}x} 000003ff",
            f"CR0={registers['cr0']:08x} CR2={0:0{wide}x} CR3={0x1000:0{wide}x} CR4=00000000",
            f"EFER={registers['efer']:016x}",
        ]
        return "\n".join(lines) + "\n"
