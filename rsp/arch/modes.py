"""The mode an x86 CPU is in, and what follows from it.

Contents: the modes, their inference from registers, the reading of QEMU's ``info registers``, which
has what the registers lack, and linear addresses of code. Not here: asking a stub for any of it.

Sources: Intel SDM volume 3A, sections 2.2 (modes), 3.4.5 (the L and D bits), 9.1.4 (the first
instruction) and 20 (8086 emulation); QEMU target/i386/cpu-dump.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from rsp.arch.flags import Cr0, Efer, EFlags
from rsp.errors import RemoteProtocolError
from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Mapping

_GENERAL_64 = (*(f"r{n}x" for n in "abcd"), "rsi", "rdi", "rbp", "rsp")
_GENERAL_64_ONLY = tuple(f"r{n}" for n in range(8, 16))

# Bits of the attributes of a segment, as in the upper half of its descriptor.
_LONG = 1 << 21
_DEFAULT_BIG = 1 << 22


class CpuMode(Enum):
    """How the CPU executes code now.

    Virtual-8086 mode is reported as REAL16: its code is 16-bit, and its segments are those of
    real mode. COMPAT32 is all of compatibility mode, 16-bit segments included.
    """

    REAL16 = "16-bit real mode"
    PROTECTED16 = "16-bit protected mode"
    PROTECTED32 = "32-bit protected mode"
    COMPAT32 = "compatibility mode"
    LONG64 = "64-bit mode"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment register with what the CPU has cached of its descriptor.

    Attributes:
        selector: 16 bits.
        base: its linear address.
        limit: the last offset in it, in bytes.
        attributes: the upper 32 bits of the descriptor without base and limit: type from bit 8,
            S 12, DPL from 13, P 15, L 21, D/B 22, G 23.
    """

    selector: int
    base: int
    limit: int
    attributes: int

    def __repr__(self) -> str:
        return hex_repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescriptorTable:
    """Where the GDT or the IDT is: its linear base, and the last offset in it."""

    base: int
    limit: int

    def __repr__(self) -> str:
        return hex_repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuState:
    """What ``info registers`` of QEMU's monitor says beyond the registers of ``g``.

    Attributes:
        mode: exact.
        pc: eip or rip: an offset in the code segment.
        eflags: the flags.
        cpl: the privilege level.
        halted: whether the CPU waits in HLT.
        segments: "cs", "ss", "ds", "es", "fs" and "gs".
        ldt, tr: the system segments.
        gdt, idt: the tables.
        cr0, cr2, cr3, cr4: the control registers.
        efer: None where QEMU does not print it.
    """

    mode: CpuMode
    pc: int
    eflags: int
    cpl: int
    halted: bool
    segments: Mapping[str, Segment]
    ldt: Segment
    tr: Segment
    gdt: DescriptorTable
    idt: DescriptorTable
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    efer: int | None

    def __repr__(self) -> str:
        return hex_repr(self)


def infer_mode(values: Mapping[str, int | None]) -> CpuMode:
    """The mode, as far as the registers of ``g`` alone tell it for certain.

    They have neither CS.L nor CS.D, so the answer is UNKNOWN where only those decide: 16- or
    32-bit protected mode, and in long mode 64-bit or compatibility mode, unless

    - rip is 2^32 or above, or
    - efer is there, so that this is QEMU, and another general register is 2^32 or above or one
      of r8 to r15 is not 0: outside 64-bit mode QEMU masks those to 32 bits and these to 0.

    Args:
        values: registers by name; what is absent or None is not known.

    >>> infer_mode({"cr0": 0x60000010, "eflags": 2, "rip": 0xFFF0}).name
    'REAL16'
    >>> infer_mode({"cr0": 0x80000011, "eflags": 2, "rip": 0x8000, "efer": 0x500}).name
    'UNKNOWN'
    """
    if (values.get("rip") or 0) >> 32:
        return CpuMode.LONG64
    cr0 = values.get("cr0")
    efer = values.get("efer")
    if efer is not None and efer & Efer.LMA:
        above = any((values.get(name) or 0) >> 32 for name in _GENERAL_64)
        extended = any(values.get(name) for name in _GENERAL_64_ONLY)
        return CpuMode.LONG64 if above or extended else CpuMode.UNKNOWN
    if (values.get("eflags") or 0) & EFlags.VM:
        return CpuMode.REAL16
    if cr0 is not None and not cr0 & Cr0.PE:
        return CpuMode.REAL16
    return CpuMode.UNKNOWN


def possible_modes(values: Mapping[str, int | None]) -> frozenset[CpuMode]:
    """The modes that the registers of ``g`` leave open, where `infer_mode` says UNKNOWN.

    >>> sorted(mode.name for mode in possible_modes({"cr0": 0x80000011, "efer": 0x500}))
    ['COMPAT32', 'LONG64']
    """
    cr0 = values.get("cr0")
    efer = values.get("efer")
    if efer is not None and efer & Efer.LMA:
        return frozenset({CpuMode.COMPAT32, CpuMode.LONG64})
    protected = {CpuMode.PROTECTED16, CpuMode.PROTECTED32}
    if efer is not None and cr0 is not None:
        return frozenset(protected if cr0 & Cr0.PE else {CpuMode.REAL16})
    return frozenset(CpuMode) - {CpuMode.UNKNOWN}


_SEGMENT_LINE = re.compile(
    r"^(ES|CS|SS|DS|FS|GS|LDT|TR) *=([0-9a-f]{4}) ([0-9a-f]{8,16}) ([0-9a-f]{8}) ([0-9a-f]{8})",
    re.MULTILINE,
)
_TABLE_LINE = re.compile(r"^(GDT|IDT)= +([0-9a-f]{8,16}) ([0-9a-f]{8})", re.MULTILINE)
_VALUE = re.compile(r"\b(CR[0234]|EFER|EFL|RFL|EIP|RIP|CPL|HLT)=([0-9a-f]{1,16})\b")
_NEXT_CPU = re.compile(r"(?<!\A)^CPU#\d+", re.MULTILINE)


def parse_info_registers(text: str) -> CpuState:
    """Read what QEMU's monitor prints for ``info registers``, of x86 in any mode.

    QEMU prints 8 or 16 digits according to the mode (segment bases by CS.L, tables and control
    registers by EFER.LMA), and EFER only since it has it; all of these are taken. Of several
    CPUs (``info registers -a``) the first is read.

    Raises:
        RemoteProtocolError: the text is not that.
    """
    first = text.lstrip()
    if following := _NEXT_CPU.search(first):
        first = first[: following.start()]
    segments = {
        name.lower(): Segment(
            selector=int(selector, 16),
            base=int(base, 16),
            limit=int(limit, 16),
            attributes=int(attributes, 16),
        )
        for name, selector, base, limit, attributes in _SEGMENT_LINE.findall(first)
    }
    digits = {name: len(base) for name, base, _ in _TABLE_LINE.findall(first)}
    tables = {
        name: DescriptorTable(base=int(base, 16), limit=int(limit, 16))
        for name, base, limit in _TABLE_LINE.findall(first)
    }
    found = {name: int(value, 16) for name, value in _VALUE.findall(first)}
    efer = found.get("EFER")
    try:
        ldt, tr = segments.pop("ldt"), segments.pop("tr")
        cr0 = found["CR0"]
        eflags = found["RFL"] if "RFL" in found else found["EFL"]
        # Where EFER is not printed, the tables are printed with 16 digits when it has LMA.
        long_mode = digits["GDT"] == 16 if efer is None else bool(efer & Efer.LMA)
        return CpuState(
            mode=exact_mode(cr0, eflags, long_mode, segments["cs"].attributes),
            pc=found["RIP"] if "RIP" in found else found["EIP"],
            eflags=eflags,
            cpl=found["CPL"],
            halted=bool(found["HLT"]),
            segments=segments,
            ldt=ldt,
            tr=tr,
            gdt=tables["GDT"],
            idt=tables["IDT"],
            cr0=cr0,
            cr2=found["CR2"],
            cr3=found["CR3"],
            cr4=found["CR4"],
            efer=efer,
        )
    except KeyError as missing:
        raise RemoteProtocolError(
            f"this is not what QEMU prints for `info registers` of an x86 CPU: "
            f"it has no {str(missing).strip(chr(39)).upper()}",
            data=text[:200].encode(errors="replace"),
        ) from None


def exact_mode(cr0: int, eflags: int, long_mode: bool, cs_attributes: int) -> CpuMode:
    """The mode, by what decides it.

    Args:
        cr0: the control register.
        eflags: the flags.
        long_mode: EFER.LMA.
        cs_attributes: those of the code segment, as `Segment` has them.
    """
    if not cr0 & Cr0.PE:
        return CpuMode.REAL16
    if long_mode:
        return CpuMode.LONG64 if cs_attributes & _LONG else CpuMode.COMPAT32
    if eflags & EFlags.VM:
        return CpuMode.REAL16
    return CpuMode.PROTECTED32 if cs_attributes & _DEFAULT_BIG else CpuMode.PROTECTED16


def linear_pc(pc: int, mode: CpuMode, *, cs: int | None = None, cs_base: int | None = None) -> int:
    """The linear address of the next instruction: what memory and breakpoints are addressed by.

    In 64-bit mode it is rip. Else it is the base of CS plus eip, in 32 bits. Where the base is
    not known, it is 16 times the selector in real mode, except at the reset vector, which the
    CPU fetches from 0xfffffff0; in the other modes the segment is taken to be flat.

    Args:
        pc: rip or eip, an offset in the code segment.
        mode: the CPU's mode.
        cs: the selector, where known.
        cs_base: the base that the CPU has for it, where known (`CpuState`).

    >>> hex(linear_pc(0xFFF0, CpuMode.REAL16, cs=0xF000))
    '0xfffffff0'
    >>> hex(linear_pc(0xE05B, CpuMode.REAL16, cs=0xF000))
    '0xfe05b'
    """
    if mode is CpuMode.LONG64:
        return pc
    if cs_base is None and mode is CpuMode.REAL16 and cs is not None:
        cs_base = 0xFFFF0000 if (cs, pc) == (0xF000, 0xFFF0) else (cs & 0xFFFF) << 4
    if cs_base is None:
        return pc
    return cs_base + pc & 0xFFFFFFFF
