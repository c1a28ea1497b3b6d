"""The tables that an x86 CPU and its kernel keep in memory, as typed values.

Contents: segment descriptors, gates, page-table entries and ``pt_regs``, read from bytes. Not here:
the declarations (``constructs``), and reading memory.

Source: Intel SDM volume 3A, sections 3.4.5 and 3.5 (segments), 6.11 and 6.14 (gates), 4.3 to 4.5
(paging entries).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rsp.errors import LocalProtocolError
from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Iterator

# Types of system descriptors that are 16 bytes long in long mode: LDT, TSS, busy TSS, call gate.
_LONG_SYSTEM_TYPES = frozenset({0x2, 0x9, 0xB, 0xC})
_GATE_TYPE_TASK = 0x5


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDescriptor:
    """One segment of the GDT or of an LDT.

    Attributes:
        base: its linear address.
        limit: the last offset in it, in bytes (the granularity is applied).
        type: the four type bits: for code and data as in table 3-1, for the rest as in table 3-2.
        code_or_data: the S bit: True for code and data, False for a system segment or a gate.
        dpl: the privilege level.
        present: whether it may be used.
        long: the L bit: 64-bit code.
        default_big: the D/B bit: 32-bit code, or a 32-bit stack.
        granularity: whether the limit was given in pages.
        available: the bit left to software.
    """

    base: int
    limit: int
    type: int
    code_or_data: bool
    dpl: int
    present: bool
    long: bool
    default_big: bool
    granularity: bool
    available: bool

    @property
    def code(self) -> bool:
        """Whether it is a code segment."""
        return self.code_or_data and bool(self.type & 8)

    def __repr__(self) -> str:
        return hex_repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One entry of the IDT.

    Attributes:
        offset: the address of the handler; 0 for a task gate.
        selector: its code segment, or the TSS of a task gate.
        type: 5 task, 6 and 7 interrupt and trap (16-bit), 14 and 15 interrupt and trap.
        dpl: the privilege level that may use it with INT n.
        present: whether it may be used.
        ist: the interrupt stack of long mode, 0 for none.
    """

    offset: int
    selector: int
    type: int
    dpl: int
    present: bool
    ist: int

    def __repr__(self) -> str:
        return hex_repr(self, "offset")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageEntry:
    """One entry of a paging structure, of any level and any of the paging modes.

    Attributes:
        address: the physical address of the next table or of the page.
        size: the bytes that it maps when it maps a page, None when it refers to a table.
        present, writable, user, write_through, cache_disable, accessed, dirty, global_,
            no_execute: the bits. Dirty and global mean something for a page only.
        protection_key: of user pages, 0 where there is none.
    """

    address: int
    size: int | None
    present: bool
    writable: bool
    user: bool
    write_through: bool
    cache_disable: bool
    accessed: bool
    dirty: bool
    global_: bool
    no_execute: bool
    protection_key: int

    def __repr__(self) -> str:
        return hex_repr(self)


def segment_descriptor(data: bytes) -> SegmentDescriptor:
    """Read a segment descriptor from 8 bytes, or from the 16 of a system segment in long mode.

    Raises:
        LocalProtocolError: the data has another length.

    >>> flat = segment_descriptor(bytes.fromhex("ffff0000009baf00"))
    >>> hex(flat.limit), flat.code, flat.long, flat.dpl
    ('0xffffffff', True, True, 0)
    """
    from rsp.arch import constructs

    form = constructs.LONG_SYSTEM_DESCRIPTOR if len(data) == 16 else constructs.SEGMENT_DESCRIPTOR
    raw = _parse(form, data, "a segment descriptor")
    limit = raw.limit_high << 16 | raw.limit_low
    return SegmentDescriptor(
        base=raw.get("base_upper", 0) << 32 | raw.base_high << 24 | raw.base_low,
        limit=limit << 12 | 0xFFF if raw.granularity else limit,
        type=raw.type,
        code_or_data=raw.code_or_data,
        dpl=raw.dpl,
        present=raw.present,
        long=raw.long,
        default_big=raw.default_big,
        granularity=raw.granularity,
        available=raw.available,
    )


def segment_descriptors(
    table: bytes, *, long_mode: bool
) -> Iterator[tuple[int, SegmentDescriptor]]:
    """Read a whole GDT or LDT.

    Args:
        table: its bytes, from the base to the limit; an incomplete entry at the end is left out.
        long_mode: whether EFER.LMA is set; system segments then take two entries.

    Yields:
        The selector (with privilege 0) and the segment, of each entry that is not all zero.
    """
    offset = 0
    while offset + 8 <= len(table):
        entry = table[offset : offset + 8]
        if not any(entry):
            offset += 8
            continue
        wide = long_mode and not entry[5] & 0x10 and entry[5] & 0xF in _LONG_SYSTEM_TYPES
        size = 16 if wide else 8
        if offset + size > len(table):
            return
        yield offset, segment_descriptor(table[offset : offset + size])
        offset += size


def gate(data: bytes) -> Gate:
    """Read an entry of the IDT: 8 bytes outside long mode, 16 in it.

    Raises:
        LocalProtocolError: the data has another length.

    >>> page_fault = gate(bytes.fromhex("500b1000008ea081ffffffff00000000"))
    >>> hex(page_fault.offset), page_fault.selector, page_fault.type
    ('0xffffffff81a00b50', 16, 14)
    """
    from rsp.arch import constructs

    form = constructs.GATE_64 if len(data) == 16 else constructs.GATE_32
    raw = _parse(form, data, "a gate")
    offset = raw.offset_high << 16 | raw.offset_low
    return Gate(
        offset=0 if raw.type == _GATE_TYPE_TASK else offset,
        selector=raw.selector,
        type=raw.type,
        dpl=raw.dpl,
        present=raw.present,
        ist=raw.get("ist", 0),
    )


def gates(table: bytes, *, long_mode: bool) -> tuple[Gate, ...]:
    """Read a whole IDT, by vector; an incomplete entry at the end is left out.

    Args:
        table: its bytes, from the base to the limit.
        long_mode: whether EFER.LMA is set; entries then have 16 bytes.
    """
    size = 16 if long_mode else 8
    return tuple(gate(table[at : at + size]) for at in range(0, len(table) - size + 1, size))


def page_entry(data: bytes, *, level: int) -> PageEntry:
    """Read an entry of a paging structure: 4 bytes of 32-bit paging, 8 of the other modes.

    Args:
        data: the entry.
        level: 1 for a page table, 2 for a page directory, 3 for a page-directory-pointer table,
            4 for a PML4 table, 5 for a PML5 table.

    Raises:
        LocalProtocolError: the data has another length.

    >>> entry = page_entry((0x8000_0000_0020_00E3).to_bytes(8, "little"), level=2)
    >>> hex(entry.address), entry.size, entry.writable, entry.no_execute
    ('0x200000', 2097152, True, True)
    """
    from rsp.arch import constructs

    narrow = len(data) == 4
    form = constructs.PAGE_ENTRY_32 if narrow else constructs.PAGE_ENTRY_64
    raw = _parse(form, data, "a page-table entry")
    size: int | None = None
    address = raw.frame << 12
    # In a page table bit 7 is PAT, and in tables of level 4 and 5 it is reserved.
    if level == 1:
        size = 1 << 12
    elif raw.page_size and level in (2, 3):
        size = 1 << 22 if narrow else 1 << 12 + 9 * (level - 1)
        # The bits below the page: bit 12 is PAT, and with PSE-36 bits 13 to 20 are the physical
        # bits 32 to 39.
        high = raw.frame >> 1 & 0xFF if narrow else 0
        address = address & ~(size - 1) | high << 32
    return PageEntry(
        address=address,
        size=size,
        present=raw.present,
        writable=raw.writable,
        user=raw.user,
        write_through=raw.write_through,
        cache_disable=raw.cache_disable,
        accessed=raw.accessed,
        dirty=raw.dirty,
        global_=raw.global_,
        no_execute=raw.get("no_execute", False),
        protection_key=raw.get("protection_key", 0),
    )


def pt_regs(data: bytes) -> dict[str, int]:
    """Read Linux's ``struct pt_regs``: 168 bytes on x86-64, 68 on i386.

    Returns:
        The values by the names of the registers ("rip", "orig_rax", …). Segment selectors are
        masked to 16 bits: what is above them is junk or, since Linux 6.9, belongs to FRED.

    Raises:
        LocalProtocolError: the data has another length.
    """
    from rsp.arch import constructs

    form = constructs.PT_REGS_I386 if len(data) == 68 else constructs.PT_REGS_X86_64
    raw = _parse(form, data, "struct pt_regs")
    return {
        name: value & 0xFFFF if name in {"cs", "ss", "ds", "es", "fs", "gs"} else value
        for name, value in raw.items()
        if not name.startswith("_")
    }


def _parse(form: Any, data: bytes, what: str) -> Any:
    if len(data) != form.sizeof():
        raise LocalProtocolError(f"{what} does not have {len(data)} bytes")
    return form.parse(data)
