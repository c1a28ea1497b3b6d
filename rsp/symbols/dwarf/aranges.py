"""Which unit has the code at an address: .debug_aranges (DWARF 5, section 6.1.2), else the units.

gcc and the assembler write .debug_aranges; clang does not, and then the units' own ranges tell.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING

from rsp.errors import BadImage
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.ranges import pc_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rsp.symbols.dwarf.units import Unit, Units

_PAIRS = {4: struct.Struct("<II"), 8: struct.Struct("<QQ")}


_Table = tuple[list[int], list[int], list[int]]
"""The begins of ranges in their order, their ends, and the offsets of their units."""


class AddressIndex:
    """Finds the unit of an address.

    >>> from rsp.symbols.dwarf.sections import DwarfSections
    >>> from rsp.symbols.dwarf.units import Units
    >>> from rsp.symbols.elf.image import Image
    >>> from rsp.testing.boot import ELF
    >>> AddressIndex(Units(DwarfSections(Image(ELF)))).unit_at(0x7c00).name
    'boot.S'
    """

    def __init__(self, units: Units) -> None:
        self._units = units

    def unit_at(self, address: int) -> Unit | None:
        """Return the unit that made the code at a link address, None where none says so.

        Raises:
            BadImage: the unit that is named is not there.
        """
        owner = _owner(self._from_aranges, address)
        if owner is None and not self._complete:
            owner = _owner(self._from_units, address)
        return None if owner is None else self._units.starting_at(owner)

    @cached_property
    def _complete(self) -> bool:
        """Whether every unit with code has its ranges in .debug_aranges."""
        return len(set(self._from_aranges[2])) >= len(self._units)

    @cached_property
    def _from_aranges(self) -> _Table:
        return _sorted(self._aranges())

    @cached_property
    def _from_units(self) -> _Table:
        return _sorted(self._unit_ranges())

    def _unit_ranges(self) -> Iterator[tuple[int, int, int]]:
        named = set(self._from_aranges[2])
        for unit in self._units:
            if unit.offset not in named:
                try:
                    for begin, end in pc_ranges(Die.root_of(unit)):
                        yield begin, end, unit.offset
                except BadImage:
                    continue

    def _aranges(self) -> Iterator[tuple[int, int, int]]:
        """Yield begin, end and unit; what comes after damage is left out."""
        section = self._units.sections.aranges
        offset = 0
        try:
            while offset < len(section):
                wide = section.unsigned(offset, 4) == 0xFFFFFFFF
                begin = offset + (12 if wide else 4)
                size = 8 if wide else 4
                end = begin + section.unsigned(begin - size, size)
                unit = section.unsigned(begin + 2, size)
                word, segment = section[begin + 2 + size : begin + 4 + size]
                if word not in _PAIRS or segment or not begin < end <= len(section):
                    section.fail(offset, "a set of address ranges that makes no sense")
                # The pairs are aligned to their own size, counted from the begin of the set.
                pair = _PAIRS[word]
                first = offset + -(-(begin + 4 + size - offset) // pair.size) * pair.size
                whole = (end - first) // pair.size * pair.size
                for low, length in pair.iter_unpack(section.view[first : first + max(whole, 0)]):
                    if length:
                        yield low, low + length, unit
                offset = end
        except (BadImage, ValueError):
            return


def _owner(table: _Table, address: int) -> int | None:
    begins, ends, owners = table
    index = bisect_right(begins, address) - 1
    return owners[index] if index >= 0 and address < ends[index] else None


def _sorted(ranges: Iterable[tuple[int, int, int]]) -> _Table:
    table = sorted(ranges)
    return [row[0] for row in table], [row[1] for row in table], [row[2] for row in table]
