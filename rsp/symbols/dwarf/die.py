"""A debugging information entry: its tag, its attributes, its children (DWARF 5, section 7.5).

Here must not live: what the entries mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.leb import sleb, uleb
from rsp.symbols.elf.section_data import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from rsp.symbols.dwarf.units import Unit

Value = int | bool | str | bytes
"""An attribute: addresses, offsets, indices, constants and references (as offsets in .debug_info)
are numbers, expressions and blocks are bytes."""

_UNIT_REFERENCES = frozenset(
    (dw.DW_FORM_ref1, dw.DW_FORM_ref2, dw.DW_FORM_ref4, dw.DW_FORM_ref8, dw.DW_FORM_ref_udata)
)
REFERENCES = _UNIT_REFERENCES | {dw.DW_FORM_ref_addr}
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
_BLOCK_LENGTHS = {dw.DW_FORM_block1: 1, dw.DW_FORM_block2: 2, dw.DW_FORM_block4: 4}


class Die:
    """An entry; its attributes are read when one is first asked for.

    Attributes:
        unit: the unit that it is a part of.
        offset: where it begins in .debug_info.
        tag: DW_TAG_*.
        has_children: whether a list of children follows; that may be empty.

    Raises:
        Damaged: no entry can begin there; the end of a list of children is none.
    """

    __slots__ = ("_attributes", "_begin", "_end", "_raw", "has_children", "offset", "tag", "unit")

    def __init__(self, unit: Unit, offset: int) -> None:
        try:
            code, begin = uleb(unit.data, offset - unit.offset)
            abbrev = unit.abbrevs[code]
        except (IndexError, KeyError, ValueError):
            unit.sections.info.fail(offset, "no entry begins here")
        self.unit = unit
        self.offset = offset
        self.tag = abbrev.tag
        self.has_children = abbrev.has_children
        self._attributes = abbrev.attributes
        self._begin = begin
        self._end = 0
        self._raw: dict[int, tuple[int, int | bytes]] | None = None

    def __repr__(self) -> str:
        return f"Die({self.offset:#x}, tag={self.tag:#x})"

    def get(self, attribute: int) -> Value | None:
        """Return an attribute's value, None where the entry does not have it.

        Raises:
            Damaged: the value, or the string that it names, is not there.
        """
        raw = (self._raw or self._read()).get(attribute)
        if raw is None:
            return None
        form, value = raw
        if isinstance(value, bytes):
            return value.decode(errors="surrogateescape") if form == dw.DW_FORM_string else value
        if form in _UNIT_REFERENCES:
            return value + self.unit.offset
        if form == dw.DW_FORM_strp:
            return self.unit.sections.str.text(value)
        if form == dw.DW_FORM_line_strp:
            return self.unit.sections.line_str.text(value)
        if form in _STRING_INDICES:
            return self.unit.string(value)
        if form in _ADDRESS_INDICES:
            return self.unit.address(value)
        if form in (dw.DW_FORM_flag, dw.DW_FORM_flag_present):
            return bool(value)
        if form in (dw.DW_FORM_strp_sup, dw.DW_FORM_GNU_strp_alt):
            return None  # it is in another file, of which nothing is known
        return value

    def number(self, attribute: int) -> int | None:
        """Return an attribute that is a number; None where it is absent or something else."""
        value = self.get(attribute)
        return value if isinstance(value, int) else None

    def form(self, attribute: int) -> int | None:
        """Return the form that an attribute is in."""
        raw = (self._raw or self._read()).get(attribute)
        return None if raw is None else raw[0]

    @property
    def name(self) -> str | None:
        """DW_AT_name of this very entry."""
        name = self.get(dw.DW_AT_name)
        return name if isinstance(name, str) else None

    def reference(self, attribute: int) -> Die | None:
        """Return the entry that an attribute refers to.

        Raises:
            Damaged: there is none at that offset.
        """
        if self.form(attribute) not in REFERENCES:
            return None  # absent, or in a file or a type unit that is not looked into
        offset = self.number(attribute)
        assert offset is not None
        if self.unit.first_die <= offset < self.unit.end:
            return Die(self.unit, offset)
        return self.unit.units.die(offset)

    def children(self) -> Iterator[Die]:
        """Yield its direct children, in the order of the file."""
        if not self.has_children:
            return
        unit = self.unit
        offset = self.end
        while offset < unit.end:
            if unit.data[offset - unit.offset] == 0:
                return
            child = Die(unit, offset)
            yield child
            offset = child.next_offset

    @property
    def end(self) -> int:
        """Where its attributes end in .debug_info: there its children begin, or the next entry."""
        if self._raw is None:
            self._read()
        return self._end + self.unit.offset

    @property
    def next_offset(self) -> int:
        """Where the next entry of the same list begins, or the end of the list."""
        if not self.has_children:
            return self.end
        sibling = self.number(dw.DW_AT_sibling)
        if sibling is not None:
            if not self.end <= sibling <= self.unit.end:
                self._fail("its sibling is not behind it")
            return sibling
        offset, depth = self.end, 1
        unit = self.unit
        while depth and offset < unit.end:
            if unit.data[offset - unit.offset] == 0:
                depth -= 1
                offset += 1
                continue
            die = Die(unit, offset)
            sibling = die.number(dw.DW_AT_sibling) if die.has_children else None
            if sibling is not None and die.end <= sibling <= unit.end:
                offset = sibling
            else:
                depth += die.has_children
                offset = die.end
        return offset

    def _read(self) -> dict[int, tuple[int, int | bytes]]:
        unit = self.unit
        data, position, sizes = unit.data, self._begin, unit.fixed_sizes
        raw: dict[int, tuple[int, int | bytes]] = {}
        try:
            for attribute, form, constant in self._attributes:
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
                        self._fail(f"an attribute in form {form:#x}")
                    value = data[position : position + length]
                    position += length
                raw.setdefault(attribute, (form, value))
        except (IndexError, ValueError) as error:
            raise Damaged(".debug_info", self.offset, "an entry without an end") from error
        if position > len(data):
            self._fail("an entry that reaches beyond its unit")
        self._raw, self._end = raw, position
        return raw

    def _fail(self, what: str) -> NoReturn:
        raise Damaged(".debug_info", self.offset, what)
