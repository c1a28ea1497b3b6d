"""Location lists: which expression locates a variable at which pc.

They are in .debug_loclists (DWARF 5, section 7.7.3) or .debug_loc (DWARF 4, section 2.6.2). Not
here: what an expression says (`rsp.symbols.dwarf.expressions`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.leb import uleb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.units import Unit
    from rsp.symbols.elf.section_data import SectionData


class LocationEntry(NamedTuple):
    """An expression, and the link addresses that it is for; of the default one these are all."""

    begin: int
    end: int
    expression: bytes
    default: bool = False


def expression_at(
    die: Die, attribute: int, pc: int, *, entry_pc: int | None = None
) -> bytes | None:
    """Return the expression of an attribute that is valid at a pc.

    Args:
        die: a variable, parameter or function.
        attribute: DW_AT_location, DW_AT_frame_base, …
        pc: a link address.
        entry_pc: where the function that it is a part of begins: there, gcc gives parameters that
            are changed at once a location for no bytes at all, which is that on entry.

    Returns:
        None where there is none: it is optimized out here, or has no such attribute.

    Raises:
        BadImage: the list is not there, or makes no sense.
    """
    value = die.get(attribute)
    if isinstance(value, bytes):
        return value
    offset = _offset(die, attribute)
    if offset is None:
        return None
    default = None
    for begin, end, expression, is_default in entries(die.unit, offset):
        if is_default:
            default = expression
        elif begin <= pc < end or begin == end == pc == entry_pc:
            return expression
    return default


def location_list(die: Die, attribute: int) -> tuple[LocationEntry, ...] | None:
    """Return all entries of an attribute's location list; None where it is no list.

    Raises:
        BadImage: the list is not there, or makes no sense.
    """
    offset = _offset(die, attribute)
    return None if offset is None else tuple(entries(die.unit, offset))


def _offset(die: Die, attribute: int) -> int | None:
    """Return where the list of an attribute begins."""
    value, form, unit = die.number(attribute), die.form(attribute), die.unit
    if value is None:
        return None
    if form == dw.DW_FORM_loclistx:
        base = unit.base(dw.DW_AT_loclists_base)
        at = base + value * unit.offset_size
        return base + unit.sections.loclists.unsigned(at, unit.offset_size)
    # Before DWARF 4 there was no form of its own for offsets.
    numbers = (dw.DW_FORM_data4, dw.DW_FORM_data8) if unit.version < 4 else ()
    return value if form == dw.DW_FORM_sec_offset or form in numbers else None


def entries(unit: Unit, offset: int) -> Iterator[LocationEntry]:
    """Yield the entries of the list at an offset of .debug_loclists, or .debug_loc before DWARF 5.

    Entries of no bytes are among them.

    Raises:
        BadImage: the list is not there, or makes no sense.
    """
    if unit.version < 5:
        yield from _loc(unit, offset)
        return
    section = unit.sections.loclists
    try:
        yield from _loclist(unit, section, offset)
    except IndexError:
        section.fail(offset, "a location list without an end")
    except ValueError as error:
        section.fail(offset, str(error))


def _loc(unit: Unit, offset: int) -> Iterator[LocationEntry]:
    section, size = unit.sections.loc, unit.word_size
    base, largest = unit.low_pc, (1 << 8 * size) - 1
    while True:
        begin, end = section.unsigned(offset, size), section.unsigned(offset + size, size)
        offset += 2 * size
        if begin == largest:
            base = end
        elif begin == end == 0:
            return
        else:
            length = section.unsigned(offset, 2)
            expression = section[offset + 2 : offset + 2 + length]
            if len(expression) < length:
                section.fail(offset, "an expression that reaches beyond the section")
            yield LocationEntry(base + begin & largest, base + end & largest, expression)
            offset += 2 + length


def _loclist(unit: Unit, section: SectionData, offset: int) -> Iterator[LocationEntry]:
    data = cast("bytes", section.view)  # of which single bytes are taken only
    position, size, base = offset, unit.word_size, unit.low_pc
    largest = (1 << 8 * size) - 1

    def address() -> int:
        nonlocal position
        position += size
        return section.unsigned(position - size, size)

    def number() -> int:
        nonlocal position
        value, position = uleb(data, position)
        return value

    while True:
        kind = data[position]
        position += 1
        begin, end = 0, largest
        match kind:
            case dw.DW_LLE_end_of_list:
                return
            case dw.DW_LLE_base_addressx:
                base = unit.address(number())
                continue
            case dw.DW_LLE_base_address:
                base = address()
                continue
            case dw.DW_LLE_offset_pair:
                begin, end = base + number(), base + number()
            case dw.DW_LLE_default_location:
                pass
            case dw.DW_LLE_startx_endx:
                begin, end = unit.address(number()), unit.address(number())
            case dw.DW_LLE_startx_length:
                begin = unit.address(number())
                end = begin + number()
            case dw.DW_LLE_start_end:
                begin, end = address(), address()
            case dw.DW_LLE_start_length:
                begin = address()
                end = begin + number()
            case 0x09:  # DW_LLE_GNU_view_pair, of -gvariable-location-views=incompat5
                number()
                number()
                continue
            case _:
                raise ValueError(f"a location list entry of kind {kind:#x}")
        length = number()
        expression = section[position : position + length]
        position += length
        if len(expression) < length:
            raise IndexError
        default = kind == dw.DW_LLE_default_location
        yield LocationEntry(begin & largest, end & largest, expression, default)
