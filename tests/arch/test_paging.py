"""The page walk on tables that are made here, entry by entry, from the SDM's figures 4-4 to 4-11.

What a real CPU makes of tables is asked in tests/target/test_page_walk.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.arch.paging import (
    NO_PAGING,
    PAGING_4,
    PAGING_5,
    PAGING_32,
    PAGING_PAE,
    NotMapped,
    Paging,
    Translation,
    paging_of,
    walk,
)
from rsp.errors import LocalProtocolError

P, RW, US, PS, NX = 1, 2, 4, 0x80, 1 << 63
ALL = P | RW | US

PG_PE, PSE, PAE, LA57, LMA, NXE = 0x80000001, 0x10, 0x20, 0x1000, 0x500, 0x800
MODES = [PAGING_32, PAGING_PAE, PAGING_4, PAGING_5]


@dataclass
class Ram:
    """Physical memory of single entries; what is not there reads as zeros."""

    entries: dict[int, int] = field(default_factory=dict)
    reads: list[int] = field(default_factory=list)

    def read(self, at: int, size: int) -> bytes:
        self.reads.append(at)
        return self.entries.get(at, 0).to_bytes(size, "little")


def go(address: int, paging: Paging, entries: dict[int, int], root: int = 0x1000) -> Translation:
    found = walk(address, root, paging, Ram(entries).read)
    assert isinstance(found, Translation), str(found)
    return found


def missing(address: int, paging: Paging, entries: dict[int, int], root: int = 0x1000) -> NotMapped:
    found = walk(address, root, paging, Ram(entries).read)
    assert isinstance(found, NotMapped)
    return found


@pytest.mark.parametrize(
    ("registers", "name", "no_execute"),
    [
        ((0x60000010, PAE, 0), "no paging", False),
        ((0x11, PSE | PAE, LMA), "no paging", False),
        ((PG_PE, 0, 0), "32-bit paging", False),
        ((PG_PE, PSE, NXE), "32-bit paging", False),
        ((PG_PE, PAE, 0), "PAE paging", False),
        ((PG_PE, PAE | LA57, NXE), "PAE paging", True),
        ((PG_PE, PAE, 0x100), "PAE paging", False),
        ((PG_PE, PAE, LMA), "4-level paging", False),
        ((PG_PE, PAE | LA57, LMA | NXE), "5-level paging", True),
    ],
)
def test_the_mode_follows_from_control_registers(
    registers: tuple[int, int, int], name: str, no_execute: bool
) -> None:
    cr0, cr4, efer = registers
    paging = paging_of(cr0=cr0, cr4=cr4, efer=efer)
    assert (paging.name, paging.no_execute) == (name, no_execute)


def test_32_bit_paging() -> None:
    # 0xC0401678: directory entry 0x301, table entry 1.
    entries = {0x1C04: 0x5000 | ALL, 0x5004: 0xABC000 | P | US}
    found = go(0xC0401678, PAGING_32, entries, root=0x1018)
    assert (found.physical, found.page_size) == (0xABC678, 4096)
    assert (found.writable, found.user, found.executable) == (False, True, True)
    assert [entry.address for entry in found.entries] == [0x5000, 0xABC000]
    assert missing(0xC0402678, PAGING_32, entries).entry == 0x5008
    assert missing(0xC0800000, PAGING_32, entries).level == 2


def test_a_4_mb_page_and_its_high_bits() -> None:
    # PSE-36: bits 13 to 20 are the bits 32 to 39 of the address; bit 12 is PAT.
    entries = {0x1C04: 0x00C00000 | 1 << 13 | 1 << 12 | PS | P | RW}
    found = go(0xC05ABCDE, PAGING_32, entries)
    assert (found.physical, found.page_size) == (1 << 32 | 0xDABCDE, 1 << 22)
    assert (found.writable, found.user) == (True, False)


def test_without_pse_bit_7_of_a_directory_entry_is_ignored() -> None:
    plain = paging_of(cr0=PG_PE, cr4=0, efer=0)
    entries = {0x1000: 0x5000 | PS | ALL, 0x5000: 0x7000 | PS | ALL}
    assert go(0x123, plain, entries).physical == 0x7123


def test_pae() -> None:
    # 0xC0201678: pointer 3, directory entry 1, table entry 1. The first table has 4 entries of 8
    # bytes, is aligned to 32 and has no rights: its bits 1, 2 and 7 are reserved.
    entries = {0x1038: 0x2000 | P | PS, 0x2008: 0x3000 | ALL, 0x3008: 0x8_1234_5000 | ALL | NX}
    found = go(0xC0201678, PAGING_PAE, entries, root=0x103F)
    assert (found.physical, found.page_size) == (0x8_1234_5678, 4096)
    assert (found.writable, found.user, found.executable) == (True, True, True)
    with_nx = paging_of(cr0=PG_PE, cr4=PAE, efer=NXE)
    assert not go(0xC0201678, with_nx, entries, root=0x1020).executable
    entries[0x2008] = 0xA0_0000 | PS | ALL
    found = go(0xC03F1678, PAGING_PAE, entries, root=0x1020)
    assert (found.physical, found.page_size) == (0xBF_1678, 1 << 21)
    assert missing(0x80000000, PAGING_PAE, entries).level == 3


KERNEL = 0xFFFFFFFF81234567  # of the PML5 table 511, then 511, 510, 9, 52
LARGE = {0x1FF8: 0x2000 | ALL, 0x2FF0: 0x3000 | ALL}


def test_4_levels_and_pages_of_each_size() -> None:
    small = LARGE | {0x3048: 0x4000 | P | RW, 0x41A0: 0xF_FFFF_FFFF_F000 | ALL | NX}
    found = go(KERNEL, PAGING_4, small)
    assert (found.physical, found.page_size) == (0xF_FFFF_FFFF_F567, 4096)
    assert (found.writable, found.user, found.executable) == (True, False, True)
    assert len(found.entries) == 4
    middle = LARGE | {0x3048: 0x4020_0000 | PS | ALL}
    assert go(KERNEL, PAGING_4, middle).physical == 0x4023_4567
    huge = {0x1FF8: 0x2000 | ALL, 0x2FF0: 0x8_C000_1000 | PS | P}
    found = go(KERNEL, PAGING_4, huge)
    assert (found.physical, found.page_size) == (0x8_C123_4567, 1 << 30)
    # Bit 7 is reserved in the PML4 table, and no page comes of it.
    assert go(KERNEL, PAGING_4, middle | {0x1FF8: 0x2000 | PS | ALL}).page_size == 1 << 21


def test_5_levels() -> None:
    entries = {0x9FF8: 0x1000 | ALL, **LARGE, 0x3048: 0x4020_0000 | PS | ALL}
    found = go(KERNEL, PAGING_5, entries, root=0x9000)
    assert (found.physical, len(found.entries)) == (0x4023_4567, 4)
    below = 0xFF11_0000_0000_0000  # has a PML5 entry of its own: 273
    gone = missing(below, PAGING_5, entries, root=0x9000)
    assert (gone.level, gone.entry) == (5, 0x9888)


def test_the_low_and_high_bits_of_cr3_are_no_address() -> None:
    entries = LARGE | {0x3048: 0x4020_0000 | PS | ALL}
    assert go(KERNEL, PAGING_4, entries, root=1 << 63 | 0x1FFF).physical == 0x4023_4567


def test_without_paging_addresses_are_physical() -> None:
    found = go(0xFFFFFFF0, NO_PAGING, {})
    assert (found.physical, found.page_size, found.entries) == (0xFFFFFFF0, 1 << 32, ())
    assert missing(1 << 32, NO_PAGING, {}).level is None


@pytest.mark.parametrize(
    ("paging", "addresses"),
    [
        (PAGING_32, (-1, 1 << 32)),
        (PAGING_PAE, (-1, 1 << 32)),
        (PAGING_4, (-1, 1 << 47, 0xFFFF_7FFF_FFFF_FFFF, 1 << 64)),
        (PAGING_5, (-1, 1 << 56, 0xFEFF_FFFF_FFFF_FFFF, 1 << 64)),
    ],
)
def test_an_address_that_the_mode_does_not_have(paging: Paging, addresses: tuple[int, ...]) -> None:
    for address in addresses:
        ram = Ram()
        found = walk(address, 0x1000, paging, ram.read)
        assert isinstance(found, NotMapped)
        assert (found.level, found.entry, ram.reads) == (None, None, [])
        assert str(found) == f"{address:#x} is no address of {paging.name}"


def test_what_is_said_of_an_address_that_is_not_mapped() -> None:
    assert str(missing(KERNEL, PAGING_4, LARGE)) == (
        "0xffffffff81234567 is not mapped: in the page directory the entry at 0x3048 (physical) is "
        "not present"
    )


def addresses_of(paging: Paging) -> st.SearchStrategy[int]:
    low = st.integers(0, (1 << paging.width - (paging.width > 32)) - 1)
    return low.map(lambda a: (1 << 64) - 1 - a) | low if paging.width > 32 else low


@given(st.data(), st.sampled_from(MODES))
def test_what_was_mapped_is_found(data: st.DataObject, paging: Paging) -> None:
    """Map one address by a path of tables, with rights drawn for each; the walk finds the same."""
    address = data.draw(addresses_of(paging))
    leaf = data.draw(st.sampled_from(sorted(paging.pages)))
    path = list(range(len(paging.index_bits), leaf - 1, -1))
    frames = st.integers(1, (1 << (20 if paging.width == 32 else 40)) - 1)
    drawn = st.lists(frames, min_size=len(path) + 1, max_size=len(path) + 1, unique=True)
    tables = [frame << 12 for frame in data.draw(drawn)]
    rights = data.draw(st.lists(st.integers(0, 3), min_size=len(path), max_size=len(path)))

    size = 1 << 12 + sum(paging.index_bits[len(path) :])
    tables[-1] -= tables[-1] % size  # the page
    entries = {}
    for n, level in enumerate(path):
        below = 12 + sum(paging.index_bits[n + 1 :])
        index = address >> below & (1 << paging.index_bits[n]) - 1
        value = tables[n + 1] | rights[n] << 1 | P | (PS if leaf == level > 1 else 0)
        entries[tables[n] + index * paging.entry_size] = value

    ram = Ram(entries)
    found = walk(address, tables[0], paging, ram.read)
    assert ram.reads == list(entries)
    assert isinstance(found, Translation)
    assert (found.physical, found.page_size) == (tables[-1] + address % size, size)
    counted = [each for each, level in zip(rights, path, strict=True) if level in paging.rights]
    assert found.writable == all(each & 1 for each in counted)
    assert found.user == all(each & 2 for each in counted)


@given(st.data(), st.sampled_from(MODES), st.integers(0, (1 << 64) - 1))
def test_any_memory_is_walked_to_an_end(data: st.DataObject, paging: Paging, root: int) -> None:
    address = data.draw(addresses_of(paging))
    reads: list[int] = []

    def read(at: int, size: int) -> bytes:
        reads.append(at)
        return data.draw(st.binary(min_size=size, max_size=size))

    found = walk(address, root, paging, read)
    assert 1 <= len(reads) <= len(paging.index_bits)
    if isinstance(found, Translation):
        assert found.physical % found.page_size == address % found.page_size
        assert found.physical < 1 << 52
    else:
        assert found.entry == reads[-1]


def test_memory_that_comes_short() -> None:
    with pytest.raises(LocalProtocolError, match="does not have 7 bytes"):
        walk(0, 0, PAGING_4, lambda at, size: bytes(size - 1))
