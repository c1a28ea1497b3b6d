"""The registers of i386, as data.

Contents: names, widths, DWARF numbers, roles and sub-registers, in groups that the layouts are put
together from. Not here: offsets, ``p`` numbers, and who sends what (``layouts``).

Sources: gdb/features/i386/32bit-*.xml for names and order; System V ABI, Intel386 Architecture
Processor Supplement, for DWARF numbers, which binutils' readelf confirms (k0 to k7 are gcc's).
"""

from __future__ import annotations

from rsp.arch import x86
from rsp.arch.layout import Kind, Register, Role, sub_registers

ARCH = "i386"

_DWARF = (
    {"eax": 0, "ecx": 1, "edx": 2, "ebx": 3, "esp": 4, "ebp": 5, "esi": 6, "edi": 7}
    | {"es": 40, "cs": 41, "ss": 42, "ds": 43, "fs": 44, "gs": 45}
    | {"fctrl": 37, "fstat": 38}
)

GENERAL = (
    Register(name="eax", bits=32, dwarf=0, role=Role.RETURN_VALUE),
    *x86.integers("ecx edx ebx", 32, _DWARF),
    Register(name="esp", bits=32, dwarf=4, role=Role.SP, kind=Kind.DATA_POINTER),
    Register(name="ebp", bits=32, dwarf=5, role=Role.FP, kind=Kind.DATA_POINTER),
    *x86.integers("esi edi", 32, _DWARF),
)
CORE = (
    *GENERAL,
    Register(name="eip", bits=32, dwarf=8, role=Role.PC, kind=Kind.CODE_POINTER),
    Register(name="eflags", bits=32, dwarf=9, role=Role.FLAGS, kind=Kind.FLAGS),
    *x86.segments(_DWARF),
)
X87 = x86.x87(11, _DWARF)
SSE = (*x86.vectors("xmm{}", range(8), 128, 21), x86.mxcsr(39))
SYSTEM = (*x86.bases("fs_base gs_base k_gs_base", 32, _DWARF), *x86.control(32))
LINUX = (Register(name="orig_eax", bits=32, group="system"),)
AVX = x86.vectors("ymm{}h", range(8), 128)
AVX512 = (
    *(Register(name=f"k{n}", bits=64, dwarf=93 + n, group="vector") for n in range(8)),
    *x86.vectors("zmm{}h", range(8), 256),
)
PKEYS = (x86.PKRU,)
# Of gdbserver 18: the three descriptors that a thread has for its local storage (struct user_desc).
TLS_GDT = tuple(
    Register(name=f"i386_tls_gdt_{n}", bits=128, group="system", kind=Kind.VECTOR) for n in range(3)
)

# No "sp": gdb's $sp is the whole stack pointer, so the 16-bit name would mean something else here.
SUB_REGISTERS = sub_registers(
    [
        *(x86.low(f"{n}x", f"e{n}x", 16) for n in "abcd"),
        *(x86.low(f"{n}l", f"e{n}x", 8) for n in "abcd"),
        *(x86.low(f"{n}h", f"e{n}x", 8, shift=8) for n in "abcd"),
        *(x86.low(n, f"e{n}", 16) for n in ("bp", "si", "di", "ip")),
        *x86.joined_vectors(8),
    ]
)
