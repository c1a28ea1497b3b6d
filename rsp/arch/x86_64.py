"""The registers of x86-64, as data.

Contents: names, widths, DWARF numbers, roles and sub-registers, in groups that the layouts are put
together from. Not here: offsets, ``p`` numbers, and who sends what (``layouts``).

Sources: gdb/features/i386/64bit-*.xml for names and order; System V ABI, AMD64 Architecture
Processor Supplement, figure "DWARF Register Number Mapping", which binutils' readelf confirms.
"""

from __future__ import annotations

from rsp.arch import x86
from rsp.arch.layout import Kind, Register, Role, sub_registers

ARCH = "x86-64"

_DWARF = (
    {"rax": 0, "rdx": 1, "rcx": 2, "rbx": 3, "rsi": 4, "rdi": 5}
    | {f"r{n}": n for n in range(8, 16)}
    | {"es": 50, "cs": 51, "ss": 52, "ds": 53, "fs": 54, "gs": 55}
    | {"fctrl": 65, "fstat": 66, "fs_base": 58, "gs_base": 59}
)

GENERAL = (
    Register(name="rax", bits=64, dwarf=0, role=Role.RETURN_VALUE),
    *x86.integers("rbx rcx rdx rsi rdi", 64, _DWARF),
    Register(name="rbp", bits=64, dwarf=6, role=Role.FP, kind=Kind.DATA_POINTER),
    Register(name="rsp", bits=64, dwarf=7, role=Role.SP, kind=Kind.DATA_POINTER),
    *x86.integers("r8 r9 r10 r11 r12 r13 r14 r15", 64, _DWARF),
)
# DWARF 16 is the return address column, which unwinders take for rip.
CORE = (
    *GENERAL,
    Register(name="rip", bits=64, dwarf=16, role=Role.PC, kind=Kind.CODE_POINTER),
    Register(name="eflags", bits=32, dwarf=49, role=Role.FLAGS, kind=Kind.FLAGS),
    *x86.segments(_DWARF),
)
X87 = x86.x87(33, _DWARF)
SSE = (*x86.vectors("xmm{}", range(16), 128, 17), x86.mxcsr(64))
SYSTEM = (*x86.bases("fs_base gs_base k_gs_base", 64, _DWARF), *x86.control(64))
SYSTEM_32_BIT = (*x86.bases("fs_base gs_base k_gs_base", 32, _DWARF), *x86.control(32))
LINUX = (Register(name="orig_rax", bits=64, group="system"),)
SEGMENT_BASES = x86.bases("fs_base gs_base", 64, _DWARF)
AVX = x86.vectors("ymm{}h", range(16), 128)
AVX512 = (
    *x86.vectors("xmm{}", range(16, 32), 128, 67),
    *x86.vectors("ymm{}h", range(16, 32), 128),
    *(Register(name=f"k{n}", bits=64, dwarf=118 + n, group="vector") for n in range(8)),
    *x86.vectors("zmm{}h", range(32), 256),
)
PKEYS = (x86.PKRU,)

# No "sp": gdb's $sp is the whole stack pointer, so the 16-bit name would mean something else here.
# The low bytes of r8 to r15 are r8b in Intel's SDM and r8l in gdb.
SUB_REGISTERS = sub_registers(
    [
        *(x86.low(f"e{n}x", f"r{n}x", 32) for n in "abcd"),
        *(x86.low(f"{n}x", f"r{n}x", 16) for n in "abcd"),
        *(x86.low(f"{n}l", f"r{n}x", 8) for n in "abcd"),
        *(x86.low(f"{n}h", f"r{n}x", 8, shift=8) for n in "abcd"),
        *(x86.low(f"e{n}", f"r{n}", 32) for n in ("bp", "sp", "si", "di", "ip")),
        *(x86.low(n, f"r{n}", 16) for n in ("bp", "si", "di", "ip")),
        x86.low("rflags", "eflags", 32),
        *(x86.low(f"{n}l", f"r{n}", 8) for n in ("bp", "sp", "si", "di")),
        *(x86.low(f"r{n}d", f"r{n}", 32) for n in range(8, 16)),
        *(x86.low(f"r{n}w", f"r{n}", 16) for n in range(8, 16)),
        *(x86.low(f"r{n}{byte}", f"r{n}", 8) for n in range(8, 16) for byte in "bl"),
        *x86.joined_vectors(32),
    ]
)
