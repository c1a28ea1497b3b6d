"""Entries that no compiler writes, made into types."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from rsp.errors import BadImage
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.units import Units
from rsp.symbols.elf.image import Image
from rsp.symbols.types.from_dwarf import DwarfTypes

if TYPE_CHECKING:
    from pathlib import Path

# An entry of a type with a size, and a member in it that has an attribute more.
SOURCE = """
        .section .debug_abbrev, "", @progbits
        .uleb128 1, 0x11; .byte 1; .uleb128 0, 0
        .uleb128 2, {tag}; .byte 1; .uleb128 0x0b, 0x0d, 0, 0           # DW_AT_byte_size
        .uleb128 3, 0x0d; .byte 0; .uleb128 {attribute}, 0x0d, 0x49, 0x13, 0, 0
        .byte 0
        .section .debug_info, "", @progbits
        .long 2f - 1f
1:      .short 4; .long 0; .byte 8
        .uleb128 1
3:      .uleb128 2; .sleb128 {size}
        .uleb128 3; .sleb128 {number}; .long 3b - 1b + 4
        .byte 0, 0
2:
"""
TAGS = {"enum": 0x04, "pointer": 0x0F, "struct": 0x13, "union": 0x17, "base": 0x24}
# DW_AT_bit_offset does have a sign: gcc counts from the end of a storage unit.
ATTRIBUTES = {"bit_size": 0x0D, "data_bit_offset": 0x6B, "location": 0x38}


def made(directory: Path, **numbers: int) -> tuple[DwarfTypes, Die]:
    numbers = {"tag": TAGS["struct"], "attribute": 0x0D, "size": 8, "number": 4, **numbers}
    (directory / "made.S").write_text(SOURCE.format(**numbers))
    subprocess.run(["gcc", "-c", "made.S"], cwd=directory, check=True)
    units = Units(DwarfSections(Image(directory / "made.o")))
    (entry,) = Die.root_of(next(iter(units))).children()
    return DwarfTypes(units), entry


@pytest.mark.live("gcc")
@pytest.mark.parametrize("tag", TAGS.values(), ids=TAGS)
def test_a_size_has_no_sign(tag: int, tmp_path: Path) -> None:
    types, entry = made(tmp_path, tag=tag)
    assert types.type(entry).size == 8
    types, entry = made(tmp_path, tag=tag, size=-8)
    with pytest.raises(BadImage, match="-8") as caught:
        types.type(entry)
    assert (caught.value.section, caught.value.offset) == (".debug_info", entry.offset)


@pytest.mark.live("gcc")
@pytest.mark.parametrize("attribute", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_a_member_has_its_place_and_its_bits_without_a_sign(attribute: int, tmp_path: Path) -> None:
    types, entry = made(tmp_path, attribute=attribute)
    (member,) = types.type(entry).members
    assert (member.offset, member.bit_size) in {(0, 4), (0, None), (4, None)}
    types, entry = made(tmp_path, attribute=attribute, number=-4)
    with pytest.raises(BadImage, match="-4"):
        _ = types.type(entry).members
