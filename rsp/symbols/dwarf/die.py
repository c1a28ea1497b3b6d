"""A debugging information entry: its tag, its attributes, its children (DWARF 5, section 7.5).

Not here: what the entries mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.attributes import read_attributes
from rsp.symbols.dwarf.leb import uleb
from rsp.symbols.dwarf.units import MEANINGS, UNIT_REFERENCES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from rsp.symbols.dwarf.attributes import Raw
    from rsp.symbols.dwarf.units import Unit, Units, Value

REFERENCES = UNIT_REFERENCES | {dw.DW_FORM_ref_addr}


class Die:
    """An entry; its attributes are read when one is first asked for.

    Attributes:
        unit: the unit that it is a part of.
        offset: where it begins in .debug_info.
        tag: DW_TAG_*.
        has_children: whether a list of children follows; that may be empty.

    Raises:
        BadImage: no entry can begin there; the end of a list of children is none.
    """

    __slots__ = ("_attributes", "_begin", "_end", "_raw", "has_children", "offset", "tag", "unit")

    def __init__(self, unit: Unit, offset: int) -> None:
        try:
            code, begin = uleb(unit.data, offset - unit.offset)
            abbrev = unit.abbrevs[code]
        except (IndexError, KeyError, ValueError):
            unit.sections.info.fail(offset, "no entry begins here")
        self.unit: Unit = unit
        self.offset: int = offset
        self.tag: int = abbrev.tag
        self.has_children: bool = abbrev.has_children
        self._attributes = abbrev.attributes
        self._begin = begin
        self._end = 0
        self._raw: Raw | None = None

    @classmethod
    def root_of(cls, unit: Unit) -> Die:
        """Return the entry of a unit itself."""
        return cls(unit, unit.first_die)

    @classmethod
    def within(cls, unit: Unit, offset: int) -> Die:
        """Return the entry that begins at an offset of the section.

        Raises:
            BadImage: the offset is not in the unit, or none can begin there.
        """
        if not unit.first_die <= offset < unit.end:
            unit.sections.info.fail(offset, f"no entry of the unit at {unit.offset:#x}")
        return cls(unit, offset)

    @classmethod
    def at(cls, units: Units, offset: int) -> Die:
        """Return the entry at an offset of .debug_info, whichever unit it is in.

        Raises:
            BadImage: there is none.
        """
        return cls.within(units.at(offset), offset)

    def __repr__(self) -> str:
        return f"Die({self.offset:#x}, tag={self.tag:#x})"

    def get(self, attribute: int) -> Value | None:
        """Return an attribute's value, None where the entry does not have it.

        Raises:
            BadImage: the value, or the string that it names, is not there.
        """
        raw = (self._raw or self._read()).get(attribute)
        if raw is None:
            return None
        form, value = raw
        meaning = MEANINGS.get(form)
        return value if meaning is None else meaning(self.unit, value)

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
            BadImage: there is none at that offset.
        """
        if self.form(attribute) not in REFERENCES:
            return None  # absent, or in a file or a type unit that is not looked into
        offset = self.number(attribute)
        assert offset is not None
        if self.unit.first_die <= offset < self.unit.end:
            return Die(self.unit, offset)
        return Die.at(self.unit.units, offset)

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

    def _read(self) -> Raw:
        unit = self.unit
        self._raw, self._end = read_attributes(
            self._attributes,
            unit.data,
            self._begin,
            unit.fixed_sizes,
            unit.sections.info,
            self.offset,
        )
        return self._raw

    def _fail(self, what: str) -> NoReturn:
        self.unit.sections.info.fail(self.offset, what)
