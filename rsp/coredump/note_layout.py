"""The structures in the notes of a core, for the reader and the writer.

Contents: types of notes, the order of registers, the places in the areas of FXSAVE and XSAVE. Not
here: what is read from them (``core_notes``) and written into them (``write_notes``).

Source: Linux include/linux/elfcore.h, arch/x86/include/asm/user_{32,64}.h and uapi/linux/elf.h;
Intel SDM volume 1, table 10-2 (FXSAVE) and section 13.4 (XSAVE); QEMU target/i386/arch_dump.c.
"""

from __future__ import annotations

import struct
from typing import Final

NT_PRSTATUS, NT_FPREGSET, NT_PRPSINFO, NT_AUXV = 1, 2, 3, 6
NT_X86_XSTATE: Final = 0x202
NT_PRXFPREG: Final = 0x46E6_2B7F
NT_SIGINFO: Final = 0x5349_4749
NT_FILE: Final = 0x4649_4C45
CORE, LINUX, QEMU, VMCOREINFO = "CORE", "LINUX", "QEMU", "VMCOREINFO"

USER_REGISTERS: Final[dict[int, tuple[str, ...]]] = {
    8: (
        *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx"),
        *("rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss"),
        *("fs_base", "gs_base", "ds", "es", "fs", "gs"),
    ),
    4: (
        *("ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs"),
        *("orig_eax", "eip", "cs", "eflags", "esp", "ss"),
    ),
}
"""struct user_regs_struct, by the size of a register."""

QEMU_REGISTERS: Final = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
    *(f"r{number}" for number in range(8, 16)),
    "rip",
)
"""QEMUCPUState begins with them, behind its version and size; the flags and the segments follow."""
QEMU_SEGMENTS: Final = ("cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt")
QEMU_SEGMENT: Final = struct.Struct("<4IQ")
"""Selector, limit, attributes, nothing, base."""

FXSAVE: Final = struct.Struct("<HHBxHIHxxIHxxI")
"""fctrl, fstat, the abridged tags, fop, fioff, fiseg, fooff, foseg, mxcsr."""
FXSAVE_SIZE: Final = 512
ST_AT, XMM_AT = 32, 160
"""Of st0 and xmm0 in it; each has 16 bytes."""

XCR0_AT: Final = 464
"""Where Linux tells a debugger XCR0, in bytes of FXSAVE's area that the CPU does not use."""
XSTATE_BV_AT: Final = 512
YMM_AT: Final = 576
X87_BIT, SSE_BIT, AVX_BIT, PKRU_BIT = 1 << 0, 1 << 1, 1 << 2, 1 << 9
MASKS_BIT, UPPER_BIT, MORE_BIT = 1 << 5, 1 << 6, 1 << 7
"""AVX-512: k0 to k7, the upper halves of zmm0 to zmm15, all of zmm16 to zmm31."""
AVX512_BITS: Final = MASKS_BIT | UPPER_BIT | MORE_BIT
INTEL_PARTS: Final[tuple[int, ...]] = (1088, 1152, 1664, 2688)
"""Where masks, upper halves, zmm16 and PKRU are on Intel's CPUs."""
AMD_PARTS: Final[tuple[int, ...]] = (832, 896, 1408, 2432)
"""The same on AMD's, whose area is shorter (CPUID leaf 0xd; gdb tells them by the size, too)."""
