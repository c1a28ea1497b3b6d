"""The address ranges of an entry: DW_AT_low_pc and _high_pc, or a range list.

Range lists are in .debug_rnglists (DWARF 5, section 2.17.3) or .debug_ranges (DWARF 4, same
section).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.leb import uleb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.units import Unit
    from rsp.symbols.elf.section_data import SectionData

Ranges = tuple[tuple[int, int], ...]

_PIECE = 512
"""How many bytes of a list are looked at first; most have some dozens."""


def pc_ranges(die: Die) -> Ranges:
    """Return the begin and the end of each range that an entry covers, without empty ones.

    Raises:
        BadImage: its range list is not there, or makes no sense.
    """
    low = die.number(dw.DW_AT_low_pc)
    high = die.number(dw.DW_AT_high_pc)
    if low is not None and high is not None:
        # As an address, or how far it is from the low one (DWARF 5, 2.17.2).
        end = high if die.form(dw.DW_AT_high_pc) == dw.DW_FORM_addr else low + high
        return ((low, end),) if low < end else ()
    offset = die.number(dw.DW_AT_ranges)
    if offset is None:
        return ()
    unit = die.unit
    if unit.version < 5:
        return tuple(_ranges(unit, offset))
    if die.form(dw.DW_AT_ranges) == dw.DW_FORM_rnglistx:
        base = unit.base(dw.DW_AT_rnglists_base)
        at = base + offset * unit.offset_size
        offset = base + unit.sections.rnglists.unsigned(at, unit.offset_size)
    return _rnglist(unit, offset)


def entry_pc(die: Die) -> int | None:
    """Return where the code of an entry begins to run (DWARF 5, section 2.18).

    Raises:
        BadImage: its range list is not there, or makes no sense.
    """
    entry = die.number(dw.DW_AT_entry_pc)
    low = die.number(dw.DW_AT_low_pc)
    if entry is not None:
        if die.form(dw.DW_AT_entry_pc) == dw.DW_FORM_addr or low is None:
            return entry
        return low + entry
    if low is not None:
        return low
    ranges = pc_ranges(die)
    return ranges[0][0] if ranges else None


def _ranges(unit: Unit, offset: int) -> Iterator[tuple[int, int]]:
    section, size = unit.sections.ranges, unit.word_size
    base, largest = unit.low_pc, (1 << 8 * size) - 1
    while True:
        begin, end = section.unsigned(offset, size), section.unsigned(offset + size, size)
        offset += 2 * size
        if begin == end == 0:
            return
        if begin == largest:
            base = end
        elif begin < end:
            yield base + begin & largest, base + end & largest


def _rnglist(unit: Unit, offset: int) -> Ranges:
    section = unit.sections.rnglists
    size = _PIECE
    while True:
        try:
            return tuple(_entries(unit, section, offset, section[offset : offset + size]))
        except IndexError:
            if offset + size >= len(section):
                section.fail(offset, "a range list without an end")
            size *= 16
        except ValueError as error:
            section.fail(offset, str(error))


def _entries(
    unit: Unit, section: SectionData, offset: int, data: bytes
) -> Iterator[tuple[int, int]]:
    base, position, size = unit.low_pc, 0, unit.word_size

    def address() -> int:
        nonlocal position
        position += size
        if position > len(data):
            raise IndexError
        return int.from_bytes(data[position - size : position], "little")

    def number() -> int:
        nonlocal position
        value, position = uleb(data, position)
        return value

    while True:
        kind = data[position]
        position += 1
        match kind:
            case dw.DW_RLE_end_of_list:
                return
            case dw.DW_RLE_base_addressx:
                base = unit.address(number())
                continue
            case dw.DW_RLE_base_address:
                base = address()
                continue
            case dw.DW_RLE_startx_endx:
                begin, end = unit.address(number()), unit.address(number())
            case dw.DW_RLE_startx_length:
                begin = unit.address(number())
                end = begin + number()
            case dw.DW_RLE_offset_pair:
                begin, end = base + number(), base + number()
            case dw.DW_RLE_start_end:
                begin, end = address(), address()
            case dw.DW_RLE_start_length:
                begin = address()
                end = begin + number()
            case _:
                section.fail(offset, f"a range list entry of kind {kind:#x}")
        if begin < end:
            yield begin, end
