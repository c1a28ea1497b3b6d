"""The units of .debug_info: their headers (DWARF 5, section 7.5.1) and where each entry is.

Not here: what the entries mean.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from rsp.errors import BadImage
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abbrev import Abbrev, FormSizes, read_abbrevs
from rsp.symbols.dwarf.attributes import read_attributes
from rsp.symbols.dwarf.leb import uleb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rsp.symbols.dwarf.attributes import Raw
    from rsp.symbols.dwarf.sections import DwarfSections

Value = int | bool | str | bytes
"""An attribute: addresses, offsets, indices, constants and references (as offsets in .debug_info)
are numbers, expressions and blocks are bytes."""

UNIT_REFERENCES = frozenset(
    (dw.DW_FORM_ref1, dw.DW_FORM_ref2, dw.DW_FORM_ref4, dw.DW_FORM_ref8, dw.DW_FORM_ref_udata)
)
_STRING_INDICES = frozenset(
    (
        dw.DW_FORM_strx,
        dw.DW_FORM_strx1,
        dw.DW_FORM_strx2,
        dw.DW_FORM_strx3,
        dw.DW_FORM_strx4,
        dw.DW_FORM_GNU_str_index,
    )
)
_ADDRESS_INDICES = frozenset(
    (
        dw.DW_FORM_addrx,
        dw.DW_FORM_addrx1,
        dw.DW_FORM_addrx2,
        dw.DW_FORM_addrx3,
        dw.DW_FORM_addrx4,
        dw.DW_FORM_GNU_addr_index,
    )
)

_KEPT = 64
"""How many units are kept, so that their bytes and abbreviations are not read again at once."""


class Unit:
    """A compile unit, or a partial one; every offset is one of the section.

    Attributes:
        units: all of them.
        sections: the DWARF that it is a part of.
        offset: where its header begins.
        end: where the next unit begins.
        first_die: where the entry of the unit itself begins.
        version: of DWARF, 2 to 5.
        abbrevs_at: where its abbreviations are in .debug_abbrev.
        type: DW_UT_*; DW_UT_compile for versions that do not say.
        word_size: the size of an address.
        offset_size: 4, or 8 in the 64-bit format.

    Raises:
        BadImage: the header is not believable.
    """

    def __init__(self, units: Units, offset: int) -> None:
        sections: DwarfSections = units.sections
        info = sections.info
        self.units = units
        self.sections: DwarfSections = sections
        self.offset: int = offset
        self.offset_size: int
        self.end: int
        self.offset_size, begin, self.end = _extent(sections, offset)
        self.version: int = info.unsigned(begin, 2)
        if not 2 <= self.version <= 5:
            info.fail(offset, f"a unit of DWARF version {self.version}")
        if self.version >= 5:
            self.type: int = info.unsigned(begin + 2, 1)
            self.word_size: int = info.unsigned(begin + 3, 1)
            self.abbrevs_at: int = info.unsigned(begin + 4, self.offset_size)
            self.first_die: int = begin + 4 + self.offset_size
            if self.type in (dw.DW_UT_skeleton, dw.DW_UT_split_compile):
                self.first_die += 8
            elif self.type in (dw.DW_UT_type, dw.DW_UT_split_type):
                self.first_die += 8 + self.offset_size
        else:
            self.type = dw.DW_UT_compile
            self.abbrevs_at = info.unsigned(begin + 2, self.offset_size)
            self.word_size = info.unsigned(begin + 2 + self.offset_size, 1)
            self.first_die = begin + 3 + self.offset_size
        if self.word_size not in (4, 8):
            info.fail(offset, f"a unit with addresses of {self.word_size} bytes")

    def __repr__(self) -> str:
        return f"Unit({self.offset:#x})"

    @cached_property
    def data(self) -> bytes:
        """The bytes of the unit, its header included: a copy, as long as the unit is kept."""
        return self.sections.info[self.offset : self.end]

    @cached_property
    def abbrevs(self) -> dict[int, Abbrev]:
        """The abbreviations of its entries, by code."""
        return read_abbrevs(self.sections.abbrev, self.abbrevs_at)

    @cached_property
    def fixed_sizes(self) -> dict[int, int]:
        """The sizes of the forms that always have the same."""
        return FormSizes(self.word_size, self.offset_size, self.version).fixed()

    def get(self, attribute: int) -> Value | None:
        """Return an attribute of the entry of the unit itself, None where that does not have it.

        Raises:
            BadImage: the entry makes no sense.
        """
        raw = self._own.get(attribute)
        if raw is None:
            return None
        form, value = raw
        meaning = MEANINGS.get(form)
        return value if meaning is None else meaning(self, value)

    @cached_property
    def _own(self) -> Raw:
        try:
            code, begin = uleb(self.data, self.first_die - self.offset)
            abbrev = self.abbrevs[code]
        except (IndexError, KeyError, ValueError):
            self.sections.info.fail(self.first_die, "no entry begins here")
        return read_attributes(
            abbrev.attributes,
            self.data,
            begin,
            self.fixed_sizes,
            self.sections.info,
            self.first_die,
        )[0]

    @cached_property
    def name(self) -> str:
        """The source file, as it was given to the compiler."""
        return self._text(dw.DW_AT_name)

    @cached_property
    def comp_dir(self) -> str:
        """The directory that it was compiled in."""
        return self._text(dw.DW_AT_comp_dir)

    @cached_property
    def producer(self) -> str:
        """The compiler or assembler, and its options."""
        return self._text(dw.DW_AT_producer)

    @cached_property
    def language(self) -> int:
        """DW_LANG_*; 0 where it does not say."""
        return self._number(dw.DW_AT_language) or 0

    @cached_property
    def low_pc(self) -> int:
        """The base of its address ranges and location lists."""
        return self._number(dw.DW_AT_low_pc) or 0

    @cached_property
    def line_offset(self) -> int | None:
        """Where its line program begins in .debug_line."""
        return self._number(dw.DW_AT_stmt_list)

    def _text(self, attribute: int) -> str:
        value = self.get(attribute)
        return value if isinstance(value, str) else ""

    def _number(self, attribute: int) -> int | None:
        value = self.get(attribute)
        return value if isinstance(value, int) else None

    def base(self, attribute: int) -> int:
        """Return where its part of an indexed section begins (DW_AT_str_offsets_base, …)."""
        return self._number(attribute) or 0

    def address(self, index: int) -> int:
        """Return an address of .debug_addr."""
        base = self.base(dw.DW_AT_addr_base) or self.base(dw.DW_AT_GNU_addr_base)
        return self.sections.addr.unsigned(base + index * self.word_size, self.word_size)

    def string(self, index: int) -> str:
        """Return a string by its index in .debug_str_offsets."""
        base = self.base(dw.DW_AT_str_offsets_base)
        at = base + index * self.offset_size
        return self.sections.str.text(self.sections.str_offsets.unsigned(at, self.offset_size))


class Units:
    """All units of .debug_info, found by one pass over their headers.

    A header that is damaged ends the pass, as nothing says where the next one would be; `damage`
    has it then.

    >>> from rsp.symbols.dwarf.sections import DwarfSections
    >>> from rsp.symbols.elf.image import Image
    >>> from rsp.testing.boot import ELF
    >>> units = Units(DwarfSections(Image(ELF)))
    >>> len(units), units.at(0x20).name
    (1, 'boot.S')
    """

    def __init__(self, sections: DwarfSections) -> None:
        self.sections: DwarfSections = sections
        self.damage: BadImage | None = None
        self._units: WeakValueDictionary[int, Unit] = WeakValueDictionary()
        self._kept: deque[Unit] = deque(maxlen=_KEPT)

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[Unit]:
        """Iterate over the units whose header is believable."""
        for offset in self.offsets:
            try:
                unit = self.starting_at(offset)
            except BadImage as damage:
                self.damage = damage
            else:
                yield unit

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each unit begins."""
        offsets = []
        offset, size = 0, len(self.sections.info)
        try:
            while offset < size:
                offsets.append(offset)
                offset = _extent(self.sections, offset)[2]
        except BadImage as damage:
            self.damage = damage
        return tuple(offsets)

    def at(self, offset: int) -> Unit:
        """Return the unit that an offset of .debug_info lies in.

        Raises:
            BadImage: there is none.
        """
        # Most references stay within a unit, and to know all headers costs a kernel's pages.
        for recent in reversed(self._kept):
            if recent.offset <= offset < recent.end:
                return recent
        index = bisect_right(self.offsets, offset) - 1
        if index < 0:
            self.sections.info.fail(offset, "no unit is here")
        unit = self.starting_at(self.offsets[index])
        if not offset < unit.end:
            self.sections.info.fail(offset, "no unit is here")
        return unit

    def starting_at(self, offset: int) -> Unit:
        """Return the unit whose header begins at an offset, without a look at the others.

        Raises:
            BadImage: no header can be there.
        """
        unit = self._units.get(offset)
        if unit is None:
            unit = self._units[offset] = Unit(self, offset)
            self._kept.append(unit)
        return unit


def _extent(sections: DwarfSections, offset: int) -> tuple[int, int, int]:
    """Return the size of offsets, where the version is, and where the unit ends."""
    info = sections.info
    offset_size, begin = 4, offset + 4
    length = info.unsigned(offset, 4)
    if length == 0xFFFFFFFF:
        offset_size, begin = 8, offset + 12
        length = info.unsigned(offset + 4, 8)
    # A header has seven bytes at least; what reaches beyond the section was cut off.
    if length < 7 or begin + length > len(info):
        info.fail(offset, f"a unit of {length} bytes")
    return offset_size, begin, begin + length


# What a number or bytes mean in a form, where that is not what they are.
MEANINGS: dict[int, Callable[[Unit, Any], Value | None]] = {
    dw.DW_FORM_string: lambda _, text: str(text, errors="surrogateescape"),
    dw.DW_FORM_strp: lambda unit, at: unit.sections.str.text(at),
    dw.DW_FORM_line_strp: lambda unit, at: unit.sections.line_str.text(at),
    dw.DW_FORM_flag: lambda _, number: bool(number),
    dw.DW_FORM_flag_present: lambda _, number: bool(number),
    # These are in another file, of which nothing is known.
    dw.DW_FORM_strp_sup: lambda *_: None,
    dw.DW_FORM_GNU_strp_alt: lambda *_: None,
    **dict.fromkeys(UNIT_REFERENCES, lambda unit, at: at + unit.offset),
    **dict.fromkeys(_STRING_INDICES, Unit.string),
    **dict.fromkeys(_ADDRESS_INDICES, Unit.address),
}
