"""The attributes of an entry, by their forms (DWARF 5, section 7.5.5).

Contents: the bytes of attributes made into numbers and bytes. Not here: what these are in a unit,
where a number may stand for a string or an address (`units`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.leb import sleb, uleb

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rsp.symbols.elf.section_data import SectionData

Raw = dict[int, tuple[int, int | bytes]]
"""Attributes: for each its form, and its number or its bytes."""

_ULEBS = frozenset(
    (
        dw.DW_FORM_udata,
        dw.DW_FORM_ref_udata,
        dw.DW_FORM_strx,
        dw.DW_FORM_addrx,
        dw.DW_FORM_loclistx,
        dw.DW_FORM_rnglistx,
        dw.DW_FORM_GNU_addr_index,
        dw.DW_FORM_GNU_str_index,
    )
)
_BLOCK_LENGTHS = {dw.DW_FORM_block1: 1, dw.DW_FORM_block2: 2, dw.DW_FORM_block4: 4}


def read_attributes(
    declared: Iterable[tuple[int, int, int]],
    data: bytes,
    position: int,
    sizes: Mapping[int, int],
    info: SectionData,
    offset: int,
) -> tuple[Raw, int]:
    """Return the attributes of an entry, and where they end.

    Args:
        declared: what its abbreviation says of them.
        data: the bytes of its unit.
        position: where in these its attributes begin.
        sizes: of the forms that always have the same.
        info: .debug_info, for the error.
        offset: of the entry in it.

    Raises:
        BadImage: they have no end, or a form is not known.
    """
    raw: Raw = {}
    try:
        for attribute, form, constant in declared:
            while form == dw.DW_FORM_indirect:
                form, position = uleb(data, position)
            value: int | bytes
            size = sizes.get(form)
            if size:
                value = int.from_bytes(data[position : position + size], "little")
                position += size
            elif size == 0:
                value = constant if form == dw.DW_FORM_implicit_const else 1
            elif form in _ULEBS:
                value, position = uleb(data, position)
            elif form == dw.DW_FORM_sdata:
                value, position = sleb(data, position)
            elif form == dw.DW_FORM_string:
                end = data.index(b"\0", position)
                value, position = data[position:end], end + 1
            else:
                if form in (dw.DW_FORM_exprloc, dw.DW_FORM_block):
                    length, position = uleb(data, position)
                elif form in _BLOCK_LENGTHS:
                    width = _BLOCK_LENGTHS[form]
                    length = int.from_bytes(data[position : position + width], "little")
                    position += width
                else:
                    info.fail(offset, f"an attribute in form {form:#x}")
                value = data[position : position + length]
                position += length
            raw.setdefault(attribute, (form, value))
    except (IndexError, ValueError) as error:
        raise info.damage(offset, "an entry without an end") from error
    if position > len(data):
        info.fail(offset, "an entry that reaches beyond its unit")
    return raw, position
