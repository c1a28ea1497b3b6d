"""What the registers of i386 and x86-64 have in common.

Contents: the registers with the same names on both (segments, x87, control registers), and the
helpers that the two tables are written with. Not here: what differs (``i386``, ``x86_64``), and who
sends what (``layouts``).

Names and order are those of gdb's target descriptions (gdb/features/i386/*.xml), which its own
default layouts follow.
"""

from __future__ import annotations

from rsp.arch.layout import Kind, Part, Register, Role, SubRegister

SELECTOR_MASK = 0xFFFF

X87_CONTROL = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
"""The x87 control registers in gdb's order, each in a 4-byte slot."""

CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer")
"""The control registers in QEMU's order."""

_FLAGS = frozenset({"cr0", "cr4", "efer"})


def integers(names: str, bits: int, dwarf: dict[str, int]) -> tuple[Register, ...]:
    """General registers of one width, from names separated by spaces."""
    return tuple(Register(name=name, bits=bits, dwarf=dwarf.get(name)) for name in names.split())


def segments(dwarf: dict[str, int]) -> tuple[Register, ...]:
    """The six segment selectors, each in a 4-byte slot."""
    roles = {"cs": Role.CODE_SEGMENT, "ss": Role.STACK_SEGMENT}
    return tuple(
        Register(name=name, bits=32, dwarf=dwarf[name], role=roles.get(name), kind=Kind.SELECTOR)
        for name in ("cs", "ss", "ds", "es", "fs", "gs")
    )


def x87(dwarf_st0: int, dwarf: dict[str, int]) -> tuple[Register, ...]:
    """st0 to st7 (80 bits, relative to the top of the stack) and the control registers."""
    stack = tuple(
        Register(name=f"st{i}", bits=80, dwarf=dwarf_st0 + i, kind=Kind.X87, group="float")
        for i in range(8)
    )
    control = tuple(
        Register(name=name, bits=32, dwarf=dwarf.get(name), group="float") for name in X87_CONTROL
    )
    return stack + control


def vectors(
    pattern: str, numbers: range, bits: int, dwarf: int | None = None
) -> tuple[Register, ...]:
    """Vector registers such as xmm0 to xmm15; their DWARF numbers count up from ``dwarf``."""
    return tuple(
        Register(
            name=pattern.format(n),
            bits=bits,
            dwarf=None if dwarf is None else dwarf + n - numbers.start,
            kind=Kind.VECTOR,
            group="vector",
        )
        for n in numbers
    )


def mxcsr(dwarf: int) -> Register:
    """The control and status register of SSE."""
    return Register(name="mxcsr", bits=32, dwarf=dwarf, kind=Kind.FLAGS, group="vector")


def bases(names: str, bits: int, dwarf: dict[str, int]) -> tuple[Register, ...]:
    """Segment bases; gdb and QEMU send fs_base and gs_base, QEMU also k_gs_base."""
    return tuple(
        Register(
            name=name, bits=bits, dwarf=dwarf.get(name), kind=Kind.DATA_POINTER, group="system"
        )
        for name in names.split()
    )


def control(bits: int) -> tuple[Register, ...]:
    """The control registers and EFER, as QEMU sends them."""
    return tuple(
        Register(
            name=name,
            bits=bits,
            kind=Kind.FLAGS if name in _FLAGS else Kind.INTEGER,
            group="system",
        )
        for name in CONTROL
    )


PKRU = Register(name="pkru", bits=32, group="system")
"""The protection keys of user pages."""


def low(name: str, whole: str, bits: int, shift: int = 0) -> SubRegister:
    """A name for some bits of one register."""
    return SubRegister(name=name, parts=(Part(register=whole, shift=shift, bits=bits),))


def joined_vectors(count: int) -> tuple[SubRegister, ...]:
    """The ymm and zmm registers, of which stubs send the upper halves alone: ymm0h, zmm0h."""
    subs = []
    for n in range(count):
        xmm = Part(register=f"xmm{n}", shift=0, bits=128)
        ymmh = Part(register=f"ymm{n}h", shift=0, bits=128)
        zmmh = Part(register=f"zmm{n}h", shift=0, bits=256)
        subs.append(SubRegister(name=f"ymm{n}", parts=(xmm, ymmh)))
        subs.append(SubRegister(name=f"zmm{n}", parts=(xmm, ymmh, zmmh)))
    return tuple(subs)
