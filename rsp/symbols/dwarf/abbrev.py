"""The abbreviations of .debug_abbrev (DWARF 5, section 7.5.3), and the sizes of forms (7.5.6)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.leb import sleb, uleb

if TYPE_CHECKING:
    from rsp.symbols.elf.section_data import SectionData

MAX_ATTRIBUTES = 256
"""How many attributes an entry is believed to have; DWARF knows fewer."""


class Abbrev(NamedTuple):
    """What the entries of one code have: a tag, maybe children, and attributes in their forms.

    Each attribute is its number, its form, and the value of DW_FORM_implicit_const (else 0).
    """

    code: int
    tag: int
    has_children: bool
    attributes: tuple[tuple[int, int, int], ...]


class FormSizes(NamedTuple):
    """What the sizes of forms depend on, in bytes.

    Attributes:
        word_size: of an address.
        offset_size: of an offset into a section: 4, or 8 in the 64-bit DWARF format.
        version: of the unit; in version 2 DW_FORM_ref_addr has the size of an address.
    """

    word_size: int
    offset_size: int
    version: int

    def fixed(self) -> dict[int, int]:
        """Return the size of every form that always has the same; the others are not in it."""
        word, offset = self.word_size, self.offset_size
        return {
            **_FIXED,
            dw.DW_FORM_addr: word,
            dw.DW_FORM_ref_addr: word if self.version <= 2 else offset,
            **dict.fromkeys(_OFFSETS, offset),
        }


_FIXED = {
    dw.DW_FORM_data1: 1,
    dw.DW_FORM_data2: 2,
    dw.DW_FORM_data4: 4,
    dw.DW_FORM_data8: 8,
    dw.DW_FORM_data16: 16,
    dw.DW_FORM_flag: 1,
    dw.DW_FORM_flag_present: 0,
    dw.DW_FORM_implicit_const: 0,
    dw.DW_FORM_ref1: 1,
    dw.DW_FORM_ref2: 2,
    dw.DW_FORM_ref4: 4,
    dw.DW_FORM_ref8: 8,
    dw.DW_FORM_ref_sig8: 8,
    dw.DW_FORM_ref_sup4: 4,
    dw.DW_FORM_ref_sup8: 8,
    dw.DW_FORM_strx1: 1,
    dw.DW_FORM_strx2: 2,
    dw.DW_FORM_strx3: 3,
    dw.DW_FORM_strx4: 4,
    dw.DW_FORM_addrx1: 1,
    dw.DW_FORM_addrx2: 2,
    dw.DW_FORM_addrx3: 3,
    dw.DW_FORM_addrx4: 4,
}
_OFFSETS = (
    dw.DW_FORM_strp,
    dw.DW_FORM_line_strp,
    dw.DW_FORM_sec_offset,
    dw.DW_FORM_strp_sup,
    dw.DW_FORM_GNU_ref_alt,
    dw.DW_FORM_GNU_strp_alt,
)


# A declaration: its code, and all the rest; or what is behind the last one, in one piece.
_NUMBER = rb"[\x80-\xff]*+[\x01-\x7f]"
_FORM = rb"(?:[\x01-\x20\x22-\x7f]|[\x80-\xff]++[\x01-\x7f]|\x21[\x80-\xff]*+[\x00-\x7f])"
_DECLARATION = re.compile(
    rb"(%s)(%s[\0\1](?:%s%s)*+\0\0)|(.).*" % (_NUMBER, _NUMBER, _NUMBER, _FORM), re.DOTALL
)


def split_declarations(data: bytes) -> list[tuple[bytes, bytes]] | None:
    """Return the code and the rest of each declaration of the table that data begin with.

    None where that needs a closer look: the table does not end there, or has a number that is
    longer than it need be.
    """
    found = _DECLARATION.findall(data)
    if not found or found.pop()[2] != b"\0":
        return None
    return [(code, rest) for code, rest, _ in found]


def read_abbrevs(contents: SectionData, offset: int) -> dict[int, Abbrev]:
    """Return the table of abbreviations at an offset, by code.

    Raises:
        BadImage: it ends before its end, or an abbreviation is not believable.
    """
    # In pieces: a table has some kilobytes, and all tables together some megabytes.
    size = 1 << 14
    data = contents[offset : offset + size] if offset <= len(contents) else b""
    try:
        declarations = split_declarations(data)
        if declarations is not None:
            table: dict[int, Abbrev] = {}
            for encoded, rest in declarations:
                code = encoded[0] if len(encoded) == 1 else uleb(encoded, 0)[0]
                table.setdefault(code, Abbrev(code, *_declared(rest)))
            return table
        while True:
            try:
                return _read_table(data)
            except IndexError:
                if offset + size >= len(contents):
                    contents.fail(offset, "a table of abbreviations without an end")
                size *= 4
                data = contents[offset : offset + size]
    except ValueError as error:
        contents.fail(offset, str(error))


@lru_cache(maxsize=1 << 14)
def _declared(rest: bytes) -> tuple[int, bool, tuple[tuple[int, int, int], ...]]:
    """Decode what is behind a code: a kernel has 315,000 declarations, 8,500 different ones."""
    abbrev, _ = _read(b"\x01" + rest, 0)
    assert abbrev is not None
    return abbrev[1:]


def _read_table(data: bytes) -> dict[int, Abbrev]:
    table: dict[int, Abbrev] = {}
    position = 0
    while True:
        abbrev, position = _read(data, position)
        if abbrev is None:
            return table
        table.setdefault(abbrev.code, abbrev)


def _read(data: bytes, position: int) -> tuple[Abbrev | None, int]:
    code, position = uleb(data, position)
    if code == 0:
        return None, position
    tag, position = uleb(data, position)
    has_children = data[position] != 0
    position += 1
    attributes: list[tuple[int, int, int]] = []
    while True:
        attribute, position = uleb(data, position)
        form, position = uleb(data, position)
        constant = 0
        if form == dw.DW_FORM_implicit_const:
            constant, position = sleb(data, position)
        if attribute == form == 0:
            return Abbrev(code, tag, has_children, tuple(attributes)), position
        attributes.append((attribute, form, constant))
        if len(attributes) > MAX_ATTRIBUTES:
            raise ValueError(f"abbreviation {code} has more than {MAX_ATTRIBUTES} attributes")
