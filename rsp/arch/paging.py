"""From linear addresses to physical ones, by the page tables of an x86 CPU.

Contents: the paging modes as data, and the walk through the tables as a pure function of what is in
physical memory. Not here: reading that memory, and the layout of an entry (``descriptors``).

Source: Intel SDM volume 3A, sections 4.1.1 (modes), 4.3 (32-bit), 4.4 (PAE), 4.5 (4- and 5-level
paging) and 4.6.1 (access rights).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rsp.arch.descriptors import PageEntry, page_entry
from rsp.arch.flags import Cr0, Cr4, Efer
from rsp.arch.modes import CpuMode
from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rsp.arch.modes import CpuState

TABLES = {
    1: "page table",
    2: "page directory",
    3: "page-directory-pointer table",
    4: "PML4 table",
    5: "PML5 table",
}
"""The paging structures by their level, as the SDM calls them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """A paging mode.

    Attributes:
        name: as the SDM has it.
        entry_size: in bytes.
        root: the bits of CR3 that are the physical address of the first table.
        index_bits: of each level from the first table on, how many bits of the address choose the
            entry; the last is the page table's.
        pages: the levels whose entries may map a page: by bit 7, but those of level 1 always do.
        rights: the levels whose entries have access rights.
        no_execute: whether bit 63 of an entry forbids execution.
    """

    name: str
    entry_size: int = 8
    root: int = 0x000F_FFFF_FFFF_F000
    index_bits: tuple[int, ...]
    pages: frozenset[int] = frozenset({1, 2, 3})
    rights: frozenset[int] = frozenset(TABLES)
    no_execute: bool = False

    @property
    def width(self) -> int:
        """The bits of a linear address; above 32, the highest is extended to 64."""
        return 12 + sum(self.index_bits) if self.index_bits else 32


NO_PAGING = Paging(name="no paging", index_bits=())
PAGING_32 = Paging(
    name="32-bit paging",
    entry_size=4,
    root=0xFFFF_F000,
    index_bits=(10, 10),
    pages=frozenset({1, 2}),
)
PAGING_PAE = Paging(
    name="PAE paging",
    root=0xFFFF_FFE0,
    index_bits=(2, 9, 9),
    pages=frozenset({1, 2}),
    rights=frozenset({1, 2}),
)
PAGING_4 = Paging(name="4-level paging", index_bits=(9, 9, 9, 9))
PAGING_5 = Paging(name="5-level paging", index_bits=(9, 9, 9, 9, 9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """Where a linear address is in physical memory, and what may be done there.

    The rights are those of all entries on the way together. What CR0.WP, SMEP, SMAP and protection
    keys make of them is left out.

    Attributes:
        physical: the address.
        page_size: of the page that it is in, in bytes; all of it is mapped likewise.
        writable, user, executable: the rights.
        entries: what was read, from the first table to the page.
    """

    physical: int
    page_size: int
    writable: bool
    user: bool
    executable: bool
    entries: tuple[PageEntry, ...]

    def __repr__(self) -> str:
        return hex_repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotMapped:
    """Why a linear address has no physical one; ``str()`` says it.

    Attributes:
        address: the linear address.
        level: of the table whose entry is not present, a key of `TABLES`; None where the paging
            mode has no such address: it is too large, or not canonical.
        entry: the physical address of that entry, None likewise.
        paging: the mode.
    """

    address: int
    level: int | None = None
    entry: int | None = None
    paging: Paging

    def __str__(self) -> str:
        if self.level is None:
            return f"{self.address:#x} is no address of {self.paging.name}"
        return (
            f"{self.address:#x} is not mapped: in the {TABLES[self.level]} the entry at "
            f"{self.entry:#x} (physical) is not present"
        )

    def __repr__(self) -> str:
        return hex_repr(self)


def paging_of(*, cr0: int, cr4: int, efer: int) -> Paging:
    """Return the paging mode that control registers stand for (SDM 4.1.1).

    >>> paging_of(cr0=0x80050033, cr4=0x6F0, efer=0xD01).name
    '4-level paging'
    >>> paging_of(cr0=0x60000010, cr4=0, efer=0).name
    'no paging'
    """
    if not cr0 & Cr0.PG:
        return NO_PAGING
    if not cr4 & Cr4.PAE:
        return PAGING_32 if cr4 & Cr4.PSE else replace(PAGING_32, pages=frozenset({1}))
    paging = PAGING_PAE
    if efer & Efer.LMA:
        paging = PAGING_5 if cr4 & Cr4.LA57 else PAGING_4
    return replace(paging, no_execute=bool(efer & Efer.NXE))


def paging_of_cpu(
    registers: Mapping[str, int | None], state: CpuState | None
) -> tuple[int, Paging] | None:
    """Return CR3 and the paging mode of a CPU.

    Args:
        registers: by name, as far as they are known.
        state: has what they lack; where it lacks EFER, its mode tells EFER.LMA.

    Returns:
        None where neither tells.

    >>> cr3, paging = paging_of_cpu({"cr0": 0x80000011, "cr3": 0x1000, "cr4": 0, "efer": 0}, None)
    >>> hex(cr3), paging.name
    ('0x1000', '32-bit paging')
    """
    found: dict[str, int | None] = {}
    for name in ("cr0", "cr3", "cr4", "efer"):
        value = registers.get(name)
        found[name] = getattr(state, name, None) if value is None else value
    cr0, cr3, cr4, efer = found.values()
    if efer is None and state is not None:
        efer = Efer.LMA if state.mode in (CpuMode.LONG64, CpuMode.COMPAT32) else 0
    if cr0 is None or cr3 is None or cr4 is None or efer is None:
        return None
    return cr3, paging_of(cr0=cr0, cr4=cr4, efer=efer)


def walk(
    address: int, root: int, paging: Paging, read: Callable[[int, int], bytes]
) -> Translation | NotMapped:
    """Follow the page tables from a linear address to the physical one.

    Reserved bits are not looked at, which take a CPU's width of physical addresses to know.

    Args:
        address: the linear address.
        root: CR3, or the physical address of another first table.
        paging: the mode.
        read: reads physical memory: address and length, in bytes; called once for a level.

    >>> tables = {0x1000: 0x2003, 0x2000: 0x3003, 0x3000: 0x20_0083}
    >>> found = walk(0x1234, 0x1000, PAGING_4, lambda at, size: tables[at].to_bytes(size, "little"))
    >>> hex(found.physical), found.page_size, found.writable, found.user
    ('0x201234', 2097152, True, False)
    """
    if not _has(paging, address):
        return NotMapped(address=address, paging=paging)
    table = root & paging.root
    shift = paging.width
    level = len(paging.index_bits)
    writable = user = executable = True
    entries: list[PageEntry] = []
    for bits in paging.index_bits:
        shift -= bits
        at = table + (address >> shift & (1 << bits) - 1) * paging.entry_size
        # Where bit 7 does not make a page, an entry is like one of the PML4 table, which never is.
        form = level if level in paging.pages else 4
        entry = page_entry(read(at, paging.entry_size), level=form)
        if not entry.present:
            return NotMapped(address=address, level=level, entry=at, paging=paging)
        entries.append(entry)
        if level in paging.rights:
            writable &= entry.writable
            user &= entry.user
            executable &= not (entry.no_execute and paging.no_execute)
        table = entry.address
        if entry.size is not None:
            break
        level -= 1
    size = 1 << shift
    return Translation(
        physical=table + address % size if entries else address,
        page_size=size,
        writable=writable,
        user=user,
        executable=executable,
        entries=tuple(entries),
    )


def _has(paging: Paging, address: int) -> bool:
    if paging.width == 32:
        return 0 <= address < 1 << 32
    half = 1 << paging.width - 1
    return 0 <= address < half or (1 << 64) - half <= address < 1 << 64
