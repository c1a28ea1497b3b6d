"""What .debug_info defines: one pass over the outermost entries of all units.

Contents: which entries answer to a name or to an address, and the pass itself. Not here: what an
abbreviation says of the entries that have it (`skip_plans`), and how the result is kept
(`name_index`).

A kernel has 14 million entries, 3.6 million of them outermost. Most have nothing to be taken along:
their plan says how far the next one is, or where the reference to the sibling is. An entry with a
name has bytes that tell it from others, so that a type which a thousand units repeat costs a slice
and a look-up. What no plan copes with is read as a `Die`, which takes some twenty times as long.
"""

from __future__ import annotations

import gc
import struct
from collections import defaultdict
from contextlib import contextmanager
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from rsp.errors import BadImage
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.leb import uleb
from rsp.symbols.dwarf.ranges import pc_ranges
from rsp.symbols.dwarf.skip_plans import BLOCK, BLOCK1, INDICES, STRING, Kind, Tables
from rsp.symbols.dwarf.units import Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rsp.symbols.dwarf.skip_plans import Place, Plan, Table
    from rsp.symbols.dwarf.units import Units
    from rsp.symbols.elf.section_data import SectionData

    Progress = Callable[[int, int], None]

_REPORTS = 100
"""How often the progress is told."""

_MAX_DAMAGED = 100
"""How many places of damage are named."""

_MAX_REFERENCES = 8
"""How many references are followed to an entry with a name; compilers need two."""

_MAX_END = 1 << 64

_u32 = struct.Struct("<I").unpack_from

Definition = tuple[Kind, bool, int]
"""An entry that answers to a name: what it is, whether it only declares that, and its offset in
.debug_info. They sort by kind, definitions first."""


class Scan(NamedTuple):
    """What the units define.

    Attributes:
        names: what answers to each name, sorted.
        code: begin, end (exclusive) and entry of each piece of a function's code, at link
            addresses, sorted.
        damaged: what could not be read; of such a unit, only the entries before it are known.
    """

    names: dict[bytes, list[Definition]]
    code: list[tuple[int, int, int]]
    damaged: tuple[BadImage, ...]


def scan(units: Units, progress: Progress | None = None) -> Scan:
    """Read what all units define at their outermost level and in namespaces.

    Functions and variables are all there. Of types that agree in kind, name, size and line of
    their source there is the first; declarations are there, one of a kind, where nothing defines
    the name.

    Args:
        units: the units of the image.
        progress: called some hundred times with the bytes done and the bytes in all.
    """
    with _no_collections():
        found, tables = _Found(), Tables(units)
        total, told = len(units.sections.info), 0
        for offset in units.offsets:
            if progress and (offset - told) * _REPORTS >= total:
                told = offset
                progress(told, total)
            with found.recording():
                unit = Unit(units, offset)  # of this pass alone, so that it is let go
                _UnitScan(unit, tables.of(unit), found).run()
        if units.damage:
            found.record(units.damage)
        if progress:
            progress(total, total)
        return found.result(units.sections.str)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Make a million objects without a search for cycles among them: there are none."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Found:
    """What was found so far; a name is its offset in .debug_str, or its bytes."""

    def __init__(self) -> None:
        self.names: defaultdict[int | bytes, list[Definition]] = defaultdict(list)
        self.code: list[tuple[int, int, int]] = []
        self.damaged: list[BadImage] = []
        self.types: set[tuple[Kind, int | bytes, int, int]] = set()
        self.enumerations: set[tuple[int | bytes | None, int]] = set()

    def record(self, damage: BadImage) -> None:
        """Keep in mind what is damaged."""
        if len(self.damaged) < _MAX_DAMAGED:
            self.damaged.append(damage)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keep in mind what is damaged, and go on behind it."""
        try:
            yield
        except BadImage as damage:
            self.record(damage)

    def add_code(self, begin: int, end: int, offset: int) -> None:
        """Add a piece of code of a function, unless it is empty or beyond all addresses."""
        if begin < end <= _MAX_END:
            self.code.append((begin, end, offset))

    def is_new_type(self, kind: Kind, name: int | bytes, size: int, line: int) -> bool:
        """Return whether no such type has been added; it has then."""
        key = (kind, name, size, line)
        if key in self.types:
            return False
        self.types.add(key)
        return True

    def result(self, strings: SectionData) -> Scan:
        """Return all of it by the names themselves."""
        names: defaultdict[bytes, list[Definition]] = defaultdict(list)
        for name, definitions in self.names.items():
            try:
                text = name if isinstance(name, bytes) else strings.c_string(name)
            except BadImage as damage:
                self.record(damage)
            else:
                names[text] += definitions
        return Scan(
            {name: _sifted(definitions) for name, definitions in names.items() if name},
            sorted(self.code),
            tuple(self.damaged),
        )


_ALIKE = {Kind.INLINE: Kind.FUNCTION, Kind.CLASS: Kind.STRUCTURE}


def _sifted(definitions: list[Definition]) -> list[Definition]:
    """Sort them; a declaration is left out where a definition or another one says the same."""
    if len(definitions) == 1:
        return definitions
    sifted = []
    known = set()
    for definition in sorted(definitions, key=itemgetter(1, 0, 2)):
        kind = _ALIKE.get(definition[0], definition[0])
        if not (definition[1] and kind in known):
            sifted.append(definition)
        known.add(kind)
    sifted.sort()
    return sifted


class _UnitScan:
    """The pass over one unit; positions are counted from its begin."""

    def __init__(self, unit: Unit, table: Table, found: _Found) -> None:
        self._unit = unit
        self._data = unit.data
        self._plans = table.plans
        self._steps = table.steps
        self._found = found
        self._has_dies = False

    def run(self) -> None:
        """Read it.

        Raises:
            BadImage: it cannot be read to its end.
        """
        root = self._unit.first_die - self._unit.offset
        try:
            self._walk(self._past(root))
        except (IndexError, KeyError, ValueError, struct.error) as error:
            what = "a unit whose entries make no sense"
            raise self._unit.sections.info.damage(self._unit.offset, what) from error

    def _walk(self, position: int) -> None:
        data, plans, steps = self._data, self._plans, self._steps
        base, end = self._unit.offset, len(self._data)
        while position < end:
            code = data[position]
            step = steps[code]
            if step > 0:
                position += step
                continue
            start = position
            if step < 0:
                position = _u32(data, position - step)[0]
            elif code == 0:  # the end of a namespace or of the unit, or padding
                position += 1
            else:
                if code >= 0x80:
                    code, position = uleb(data, position)
                    position -= 1
                plan = plans[code]
                if plan.slow:
                    position = self._take_slowly(start, plan)
                else:
                    anchor = self._anchor(position, plan) if plan.tail else position
                    inside = anchor + plan.size
                    if inside > end:
                        break
                    if plan.seen is None:
                        if plan.kind is not None:
                            self._take(plan, position, anchor, base + start)
                    else:
                        key = data[position + plan.begin : anchor + plan.stop]
                        key += data[anchor + plan.line : anchor + plan.line_end]
                        if key not in plan.seen:
                            plan.seen.add(key)
                            self._take(plan, position, anchor, base + start)
                    position = self._behind(plan, anchor, inside) if plan.nested else inside
                    if plan.constants:
                        self._take_constants(inside, position, base + start)
            if position <= start:
                break
        if position != end:
            raise ValueError

    def _take(self, plan: Plan, position: int, anchor: int, offset: int) -> None:
        """Take an entry along."""
        found, kind, name = self._found, plan.kind, self._name(plan, position, anchor)
        assert kind is not None
        if name is None:
            return
        if plan.wanted:
            first = self._number(plan.wanted[0], position, anchor)
            second = self._number(plan.wanted[1], position, anchor)
            if kind is Kind.FUNCTION:
                found.add_code(first, second if plan.absolute else first + second, offset)
            elif not found.is_new_type(kind, name, first, second):
                return
        found.names[name].append((kind, plan.declaration, offset))

    def _take_slowly(self, position: int, plan: Plan) -> int:
        """Take an entry along that no plan copes with; return where the next one is."""
        die = self._die(position)
        if plan.kind is not None:
            with self._found.recording():
                self._take_die(die, plan.kind, plan.declaration)
        inside = die.end - self._unit.offset
        if not plan.nested:
            return inside
        sibling = die.number(dw.DW_AT_sibling)
        behind = self._skip(inside) if sibling is None else sibling - self._unit.offset
        if plan.constants:
            self._take_constants(inside, behind, die.offset)
        return behind if behind >= inside else 0

    def _take_die(self, die: Die, kind: Kind, declaration: bool) -> None:
        found, name = self._found, _name_of(die)
        if name is None:
            return
        if kind > Kind.VARIABLE and not declaration:
            size, line = die.number(dw.DW_AT_byte_size), die.number(dw.DW_AT_decl_line)
            if not found.is_new_type(kind, name, size or 0, line or 0):
                return
        found.names[name].append((kind, declaration, die.offset))
        if kind is Kind.FUNCTION:
            for begin, end in pc_ranges(die):
                found.add_code(begin, end, die.offset)

    def _take_constants(self, position: int, end: int, offset: int) -> None:
        """Take the constants of an enumeration along, unless those of its like have been."""
        data, found = self._data, self._found
        if position >= end:
            return
        # A thousand units have the same one: it is told from others by its first name and its size.
        first: int | bytes | None = data[position + 1 : position + 5]
        plan = self._plans.get(data[position])
        if plan and plan.subject and plan.subject.form in INDICES:
            first = self._read(position)[1]
        if (first, end - position) in found.enumerations:
            return
        found.enumerations.add((first, end - position))
        while position < end and data[position]:
            plan, name, position = self._read(position)
            if plan.abbrev.tag == dw.DW_TAG_enumerator and name is not None:
                found.names[name].append((Kind.ENUMERATOR, False, offset))

    def _read(self, position: int) -> tuple[Plan, int | bytes | None, int]:
        """Return the plan of an entry, its name, and where its attributes end."""
        plan, last = self._entry(position)
        if plan.slow:
            die = self._die(position)
            return plan, _name_of(die), die.end - self._unit.offset
        anchor = self._anchor(last, plan) if plan.tail else last
        return plan, self._name(plan, last, anchor), anchor + plan.size

    def _name(self, plan: Plan, position: int, anchor: int) -> int | bytes | None:
        """Return an entry's name, or its offset in .debug_str."""
        subject = plan.subject
        if subject is None:
            return None
        begin = (anchor if subject.behind_tail else position) + subject.offset
        if subject.form == dw.DW_FORM_string:
            # An empty one is none, and hashes as offset 0 does, with which it must not be compared.
            return self._data[begin : anchor - 1] or None
        number = int.from_bytes(self._data[begin : begin + subject.size], "little")
        if subject.form == dw.DW_FORM_strp:
            return number
        if subject.form in INDICES:
            unit = self._unit
            at = self._strings_base + number * unit.offset_size
            return unit.sections.str_offsets.unsigned(at, unit.offset_size)
        # A reference, mostly to an entry of this unit whose name is as simple to find.
        referred, last = self._entry(number)
        subject = referred.subject
        if subject and subject.form == dw.DW_FORM_strp and not subject.behind_tail:
            begin = last + subject.offset
            return int.from_bytes(self._data[begin : begin + subject.size], "little")
        return _name_of(self._die(number))

    def _number(self, place: Place, position: int, anchor: int) -> int:
        if not place.size:  # it is in the abbreviation, or absent
            return place.constant
        begin = (anchor if place.behind_tail else position) + place.offset
        return int.from_bytes(self._data[begin : begin + place.size], "little")

    def _entry(self, position: int) -> tuple[Plan, int]:
        """Return the plan of the entry at a position, and where its code's last byte is."""
        code, behind = uleb(self._data, position)
        return self._plans[code], behind - 1

    def _anchor(self, position: int, plan: Plan) -> int:
        """Return where the tail of an entry ends."""
        data, at = self._data, position + plan.tail_at
        if plan.tail == STRING:
            return data.index(0, at) + 1
        if plan.tail == BLOCK1:
            return at + 1 + data[at]
        number, at = uleb(data, at)
        return at + number if plan.tail == BLOCK else at

    def _behind(self, plan: Plan, anchor: int, inside: int) -> int:
        """Return where the children of an entry end."""
        if plan.sibling < 0:
            return self._skip(inside)
        sibling: int = _u32(self._data, anchor + plan.sibling)[0]
        return sibling if sibling >= inside else 0

    def _skip(self, position: int) -> int:
        """Return where a list of children ends, where nothing but the list itself says so."""
        data, steps, depth, end = self._data, self._steps, 1, len(self._data)
        while depth and position < end:
            code = data[position]
            step = steps[code]
            start = position
            if step > 0:
                position += step
            elif step < 0:
                position = _u32(data, position - step)[0]
            elif code == 0:
                depth -= 1
                position += 1
            else:
                depth += self._entry(position)[0].abbrev.has_children
                position = self._past(position)
            if position <= start:
                return 0
        return position

    def _past(self, position: int) -> int:
        """Return where the attributes of an entry end."""
        plan, last = self._entry(position)
        if plan.slow:
            return self._die(position).end - self._unit.offset
        return (self._anchor(last, plan) if plan.tail else last) + plan.size

    def _die(self, position: int) -> Die:
        if not self._has_dies:  # the unit is this pass's own, and its table has been read
            self._has_dies = True
            self._unit.abbrevs = {code: plan.abbrev for code, plan in self._plans.items()}
        return Die.within(self._unit, self._unit.offset + position)

    @cached_property
    def _strings_base(self) -> int:
        return self._unit.base(dw.DW_AT_str_offsets_base)


def _name_of(die: Die) -> bytes | None:
    """Return the name of an entry, or of the one that it points back to."""
    back: Die | None = die
    for _ in range(_MAX_REFERENCES):
        if back is None:
            break
        if (name := back.name) is not None:
            return name.encode(errors="surrogateescape") or None
        back = back.reference(dw.DW_AT_specification) or back.reference(dw.DW_AT_abstract_origin)
    return None
