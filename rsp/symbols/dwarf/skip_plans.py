"""How to get past the entries of .debug_info without decoding them, by their abbreviations.

Contents: what an abbreviation says of all entries that have it, worked out once for each distinct
one; a kernel has 8,484 of them, declared 315,132 times. Not here: what is done with the entries
(`rsp.symbols.dwarf.scan`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from contextlib import suppress
from enum import IntEnum
from operator import eq, itemgetter
from typing import TYPE_CHECKING, NamedTuple

from rsp.errors import BadImage
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abbrev import Abbrev, FormSizes, read_abbrevs, split_declarations
from rsp.symbols.dwarf.units import Unit
from rsp.symbols.elf.section_data import SectionData

if TYPE_CHECKING:
    from rsp.symbols.dwarf.units import Units


class Kind(IntEnum):
    """What an entry defines."""

    FUNCTION = 0
    """Code of its own. An out-of-line copy or a clone answers to the name of its origin."""
    INLINE = 1
    """The abstract instance of a function, which its copies refer to; it has no address."""
    VARIABLE = 2
    STRUCTURE = 3
    CLASS = 4
    UNION = 5
    ENUMERATION = 6
    TYPEDEF = 7
    BASE = 8
    ENUMERATOR = 9
    """A constant; the entry is the enumeration that has it among its children."""


_KINDS = {
    dw.DW_TAG_subprogram: Kind.FUNCTION,
    dw.DW_TAG_variable: Kind.VARIABLE,
    dw.DW_TAG_structure_type: Kind.STRUCTURE,
    dw.DW_TAG_class_type: Kind.CLASS,
    dw.DW_TAG_union_type: Kind.UNION,
    dw.DW_TAG_enumeration_type: Kind.ENUMERATION,
    dw.DW_TAG_typedef: Kind.TYPEDEF,
    dw.DW_TAG_base_type: Kind.BASE,
}
_ENTERED = frozenset((dw.DW_TAG_namespace, dw.DW_TAG_module))
_SUBJECTS = (dw.DW_AT_name, dw.DW_AT_specification, dw.DW_AT_abstract_origin)
_CODE = frozenset((dw.DW_AT_low_pc, dw.DW_AT_ranges))

# Forms whose size is in the entry; a plan copes with one of them.
STRING, BLOCK, BLOCK1, LEB = 1, 2, 3, 4
_TAILS = {
    dw.DW_FORM_string: STRING,
    dw.DW_FORM_exprloc: BLOCK,
    dw.DW_FORM_block: BLOCK,
    dw.DW_FORM_block1: BLOCK1,
    dw.DW_FORM_udata: LEB,
    dw.DW_FORM_sdata: LEB,
    dw.DW_FORM_ref_udata: LEB,
    dw.DW_FORM_loclistx: LEB,
    dw.DW_FORM_rnglistx: LEB,
}
INDICES = frozenset((dw.DW_FORM_strx1, dw.DW_FORM_strx2, dw.DW_FORM_strx3, dw.DW_FORM_strx4))
"""Forms of a name that are an index into .debug_str_offsets, another one in each unit."""

_STRINGS = frozenset((dw.DW_FORM_strp, dw.DW_FORM_string))
_NUMBERS = frozenset(
    (
        dw.DW_FORM_addr,
        dw.DW_FORM_data1,
        dw.DW_FORM_data2,
        dw.DW_FORM_data4,
        dw.DW_FORM_data8,
        dw.DW_FORM_implicit_const,
    )
)


class Place(NamedTuple):
    """Where an attribute is: from the code's last byte, or from the end of the tail."""

    behind_tail: bool
    offset: int
    size: int
    form: int
    constant: int


_ABSENT = Place(False, 1, 0, dw.DW_FORM_implicit_const, 0)


class Plan:
    """How to get past the entries of an abbreviation, and what of them is taken along.

    ```
    code | attributes of fixed size | tail: a string, a block … | attributes of fixed size | next
       ^ position                                               ^ anchor (no tail: position)
    ```

    Attributes:
        abbrev: the abbreviation, whatever its code.
        step: where nothing is taken along: how far the next entry is from the position, or,
            negative, how far the reference to the sibling; 0 where there is more to do.
        kind: what it defines; None where nothing is taken along.
        declaration: it only declares that.
        slow: it has to be read as a Die.
        tail: which kind of tail there is, 0 for none.
        tail_at: where that is, from the position.
        size: how far its end is from the anchor.
        sibling: how far the reference to the sibling is from the anchor; -1 where it has none.
        nested: children follow it.
        constants: it is an enumeration with constants.
        subject: where its name is, or the reference to the entry with the name.
        wanted: where the numbers are that are taken along with the name.
        absolute: the second number is an address.
        seen: what was taken along, where one of those that agree is enough.
        begin, stop: where the bytes are that have to agree for that, from the position, up to a
            place that is counted from the anchor.
        line, line_end: where the other such bytes are, from the anchor.
    """

    __slots__ = (
        "abbrev", "absolute", "begin", "constants", "declaration", "kind", "line", "line_end",
        "nested", "places", "seen", "sibling", "size", "slow", "step", "stop", "subject", "tail",
        "tail_at", "wanted",
    )  # fmt: skip

    def __init__(self, abbrev: Abbrev, fixed: dict[int, int]) -> None:
        self.abbrev: Abbrev = abbrev
        self.slow: bool = not self._lay_out(fixed)
        self.nested: bool = abbrev.has_children and abbrev.tag not in _ENTERED
        self.constants: bool = self.nested and abbrev.tag == dw.DW_TAG_enumeration_type
        sibling = self.places.get(dw.DW_AT_sibling, _ABSENT)
        known = sibling.form == dw.DW_FORM_ref4 and sibling.behind_tail == (self.tail > 0)
        self.sibling: int = sibling.offset if self.nested and known else -1
        self._choose()
        self.step: int = 0
        if not (self.slow or self.tail or self.constants or self.kind is not None):
            if self.sibling >= 0:
                self.step = -self.sibling
            elif not self.nested:
                self.step = self.size

    def _lay_out(self, fixed: dict[int, int]) -> bool:
        """Find the places of the attributes; return whether all have one."""
        self.places: dict[int, Place] = {}
        self.tail: int = 0
        self.tail_at: int = 0
        self.size: int = 1
        for attribute, form, constant in self.abbrev.attributes:
            size = fixed.get(form)
            if size is None and (self.tail or form not in _TAILS):
                return False
            place = Place(self.tail > 0, self.size, size or 0, form, constant)
            self.places.setdefault(attribute, place)
            if size is None:
                self.tail, self.tail_at, self.size = _TAILS[form], self.size, 0
            else:
                self.size += size
        return True

    def _choose(self) -> None:
        """Choose what is taken along."""
        has = {attribute for attribute, _, _ in self.abbrev.attributes}
        subject = next((attribute for attribute in _SUBJECTS if attribute in has), None)
        kind = _KINDS.get(self.abbrev.tag) if subject is not None else None
        self.declaration: bool = dw.DW_AT_declaration in has
        if kind is Kind.FUNCTION and not self.declaration and has.isdisjoint(_CODE):
            kind = Kind.INLINE
        self.kind = kind
        self.subject: Place | None = None
        self.wanted: tuple[Place, Place] | None = None
        self.seen: set[bytes] | None = None
        self.begin: int = 0
        self.stop: int = 0
        self.line: int = 0
        self.line_end: int = 0
        self.absolute: bool = False
        if subject is None or self.slow:
            return
        self.subject = place = self.places[subject]
        if kind is None:
            return
        if not self.declaration:
            if kind is Kind.FUNCTION:
                self.wanted = self._pair(dw.DW_AT_low_pc, dw.DW_AT_high_pc)
            elif kind > Kind.VARIABLE:
                self.wanted = self._pair(dw.DW_AT_byte_size, dw.DW_AT_decl_line)
        if subject == dw.DW_AT_name:
            self.slow = place.form not in _STRINGS | INDICES
        else:
            self.slow = place.form != dw.DW_FORM_ref4
        if self.wanted:
            self.slow |= any(each.form not in _NUMBERS for each in self.wanted)
            self.absolute = self.wanted[1].form == dw.DW_FORM_addr
        self.slow |= dw.DW_AT_ranges in has
        if place.form in _STRINGS and (self.declaration or kind > Kind.VARIABLE):
            self.seen = set()
            self._cut(place)

    def _pair(self, first: int, second: int) -> tuple[Place, Place]:
        return self.places.get(first, _ABSENT), self.places.get(second, _ABSENT)

    def _cut(self, name: Place) -> None:
        """Choose the bytes that tell entries from each other: name and size, and the line.

        The file between them has another number in each unit.
        """
        size, line = self.wanted or (_ABSENT, _ABSENT)
        behind = self.tail > 0
        together = [each for each in (name, size) if each is not _ABSENT]
        if line.behind_tail == behind:
            self.line, self.line_end = line.offset, line.offset + line.size
        else:
            together.append(line)
        self.begin = min((each.offset for each in together if not each.behind_tail), default=1)
        ends = [each.offset + each.size for each in together if each.behind_tail == behind]
        self.stop = max(ends, default=0)


# --- Tables of abbreviations -------------------------------------------------------------------

# The codes that compilers give: 1, 2, 3 …
_CODES = tuple(
    bytes((code,)) if code < 0x80 else bytes((code & 0x7F | 0x80, code >> 7))
    for code in range(1, 1 << 11)
)


class _Plans(dict[bytes, Plan]):
    """The plans of all declarations met so far, by their bytes without the code."""

    def __init__(self, sizes: FormSizes) -> None:
        self._fixed = sizes.fixed()

    def __missing__(self, declaration: bytes) -> Plan:
        table = b"\x01" + declaration + b"\0"
        abbrev = read_abbrevs(SectionData(".debug_abbrev", table, 0, len(table)), 0)[1]
        plan = self[declaration] = self.plan(abbrev)
        return plan

    def plan(self, abbrev: Abbrev) -> Plan:
        """Return a plan that is not shared."""
        return Plan(abbrev, self._fixed)


class Table(NamedTuple):
    """A unit's plans by code, and the steps by the first byte of an entry, whatever that is."""

    plans: dict[int, Plan]
    steps: list[int]


class Tables:
    """The tables of abbreviations, as plans; each one ends where the next one begins."""

    def __init__(self, units: Units) -> None:
        self._section = units.sections.abbrev
        self._users: Counter[int] = Counter()
        for offset in units.offsets:
            with suppress(BadImage):
                self._users[Unit(units, offset).abbrevs_at] += 1
        self._starts = sorted(self._users)
        self._plans: dict[FormSizes, _Plans] = {}
        self._shared: dict[tuple[int, FormSizes], Table] = {}

    def of(self, unit: Unit) -> Table:
        """Return the table of a unit.

        Raises:
            BadImage: it is damaged.
        """
        start = unit.abbrevs_at
        sizes = FormSizes(unit.word_size, unit.offset_size, unit.version)
        table = self._shared.get((start, sizes))
        if table is None:
            table = self._read(start, self._plans.setdefault(sizes, _Plans(sizes)))
            if self._users[start] > 1:
                self._shared[start, sizes] = table
        return table

    def _read(self, start: int, known: _Plans) -> Table:
        behind = bisect_right(self._starts, start)
        end = self._starts[behind] if behind < len(self._starts) else len(self._section)
        data = self._section[start:end]
        found = split_declarations(data)
        if found is not None and _are_counted(found):
            plans = {code: known[body] for code, (_, body) in enumerate(found, 1)}
        else:
            table = read_abbrevs(
                SectionData(".debug_abbrev", data, 0, len(data), path=self._section.path), 0
            )
            plans = {code: known.plan(abbrev) for code, abbrev in table.items()}
        steps = [0] * 256
        for code, plan in plans.items():
            if code < 0x80:
                steps[code] = plan.step
        return Table(plans, steps)


def _are_counted(declarations: list[tuple[bytes, bytes]]) -> bool:
    """Return whether the codes are 1, 2, 3 …, as compilers give them."""
    return all(map(eq, map(itemgetter(0), declarations), _CODES)) and len(declarations) <= len(
        _CODES
    )
