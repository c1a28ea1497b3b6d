"""A walk over the entries of a unit that steps over what is not asked for.

Contents: how long an entry is, found out without decoding it, so that one of a kernel's units (some
7,000 entries) is searched in a fraction of a millisecond. Not here: what the entries mean.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from enum import IntEnum
from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.leb import uleb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import NoReturn

    from rsp.symbols.dwarf.abbrev import Abbrev
    from rsp.symbols.dwarf.units import Unit
    from rsp.symbols.elf.section_data import SectionData

_Chosen = tuple[set[int], dict[int, int]]

_U32 = struct.Struct("<I").unpack_from


class Walk:
    """Steps over the entries of a unit, some 0.1 to 0.2 microseconds each.

    Raises:
        BadImage: from every method, for entries that make no sense.
    """

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._shapes: dict[int, tuple[Abbrev, _Shape]] = {}
        self._ends: dict[int, int] = {}
        self._choices: dict[tuple[frozenset[int], bool], _Chosen] = {}
        sizes = unit.fixed_sizes
        # By encoded abbreviation code: the size of entries that always have the same and no
        # children; or, negative, how far into an entry the place of its sibling is.
        self._steps = {0: 1}  # the end of a list
        for code, abbrev in unit.abbrevs.items():
            if step := _step(abbrev, sizes):
                self._steps[_encoded(code)] = step

    def children(self, die: Die, tags: frozenset[int], *, with_code: bool = False) -> Iterator[Die]:
        """Yield the direct children of an entry that have one of the tags.

        Args:
            die: an entry of this unit.
            tags: DW_TAG_*.
            with_code: leave functions out that have no address: declarations, and those that only
                inlined copies refer to.
        """
        if not die.has_children:
            return
        unit, data = self._unit, self._unit.data
        wanted, steps = self._chosen(tags, with_code)
        # No further than the sibling: lists may not overlap, or few bytes could make many entries.
        _, position, end = self._pass(die.offset - unit.offset)
        end = end or len(data)
        while (position := self._advance(position, end, steps)) < end and data[position]:
            abbrev, after, sibling = self._pass(position)
            if abbrev.code in wanted:
                yield Die(unit, unit.offset + position)
            if abbrev.has_children and not sibling:
                sibling = self._behind(position)
            position = sibling or after

    def entries_at(
        self, offsets: Iterable[int], starts: Sequence[int] = ()
    ) -> Iterator[tuple[int, Die]]:
        """Yield each offset of the section with the entry whose attributes it lies in, if any.

        Args:
            offsets: of this unit.
            starts: where entries of the section begin, ascending: the walk goes on from there.
        """
        unit, data = self._unit, self._unit.data
        position, end = unit.first_die - unit.offset, len(data)
        for offset in sorted(offsets):
            target = offset - unit.offset
            if nearer := bisect_right(starts, offset):
                position = max(position, starts[nearer - 1] - unit.offset)
            while (position := self._advance(position, target, self._steps)) <= target < end:
                if data[position] == 0:
                    break  # the end of a list is part of no entry
                _, after, sibling = self._pass(position)
                if target < after:
                    yield offset, Die(unit, unit.offset + position)
                    break
                position = sibling if 0 < sibling <= target else after

    def _chosen(self, tags: frozenset[int], with_code: bool) -> _Chosen:
        """Return the codes of the abbreviations that are asked for, and the steps over others."""
        chosen = self._choices.get((tags, with_code))
        if chosen is None:
            wanted = {
                code
                for code, abbrev in self._unit.abbrevs.items()
                if abbrev.tag in tags and not (with_code and _is_without_code(abbrev))
            }
            looked_at = {0, *map(_encoded, wanted)}
            steps = {code: step for code, step in self._steps.items() if code not in looked_at}
            chosen = self._choices[tags, with_code] = wanted, steps
        return chosen

    def _advance(self, position: int, target: int, steps: dict[int, int]) -> int:
        """Step over the entries that end at the target or before, up to one to be looked at."""
        data = self._unit.data
        try:
            while position < target:
                code = data[position]
                if code > 0x7F:
                    code |= data[position + 1] << 8
                step = steps.get(code)
                if step is None:
                    break
                after = position + step if step > 0 else _U32(data, position - step)[0]
                if after > target:
                    break
                if after <= position:
                    self._fail(position, "its sibling is not behind it")
                position = after
        except (IndexError, struct.error):
            self._fail(position, "an entry without an end")
        return position

    def _behind(self, position: int) -> int:
        """Return where an entry and all below it end; what has no sibling is told by its end."""
        whole = position
        if whole not in self._ends:
            data = self._unit.data
            begins = [whole]
            position = self._pass(whole)[1]
            while begins and position < len(data):
                if data[position] == 0:
                    position += 1
                    self._ends[begins.pop()] = position
                    continue
                abbrev, after, sibling = self._pass(position)
                if abbrev.has_children and not sibling:
                    begins.append(position)
                position = sibling or after
            for begin in begins:
                self._ends[begin] = len(data)
        return self._ends[whole]

    def _pass(self, position: int) -> tuple[Abbrev, int, int]:
        """Return what an entry is, where its attributes end, and its sibling where that is told."""
        data, begin, sibling = self._unit.data, position, 0
        try:
            code, position = uleb(data, position)
            if code not in self._shapes:
                abbrev = self._unit.abbrevs[code]
                self._shapes[code] = abbrev, _shape(abbrev, self._unit.fixed_sizes)
            abbrev, shape = self._shapes[code]
            for size, kind in shape:
                position += size
                match kind:
                    case _Kind.END:
                        pass
                    case _Kind.SIBLING:
                        sibling = _U32(data, position)[0]
                        position += 4
                    case _Kind.STRING:
                        position = data.index(0, position) + 1
                    case _Kind.BLOCK:
                        length, position = uleb(data, position)
                        position += length
                    case _Kind.NUMBER:
                        _, position = uleb(data, position)
                    case _:
                        die = Die(self._unit, self._unit.offset + begin)
                        return abbrev, die.end - self._unit.offset, 0
        except (KeyError, IndexError, ValueError, struct.error):
            self._fail(begin, "no entry begins here, or it has no end")
        if position > len(data) or 0 < sibling < position:
            self._fail(begin, "an entry that reaches beyond its unit or its sibling")
        return abbrev, position, sibling

    def _fail(self, position: int, what: str) -> NoReturn:
        self._unit.sections.info.fail(self._unit.offset + position, what)


def occurrences(
    contents: SectionData, needle: bytes, begin: int = 0, end: int | None = None
) -> Iterator[int]:
    """Yield where the bytes are; an occurrence may overlap the one before it."""
    while (begin := contents.find(needle, begin, end)) >= 0:
        yield begin
        begin += 1


class _Kind(IntEnum):
    """What comes after a number of bytes that is always the same."""

    END = 0
    SIBLING = 1
    STRING = 2
    BLOCK = 3
    NUMBER = 4
    OTHER = 5
    """For `Die` to decode."""


_Shape = tuple[tuple[int, _Kind], ...]

_KINDS = {
    dw.DW_FORM_string: _Kind.STRING,
    dw.DW_FORM_exprloc: _Kind.BLOCK,
    dw.DW_FORM_block: _Kind.BLOCK,
    dw.DW_FORM_udata: _Kind.NUMBER,
    dw.DW_FORM_sdata: _Kind.NUMBER,
    dw.DW_FORM_ref_udata: _Kind.NUMBER,
    dw.DW_FORM_strx: _Kind.NUMBER,
    dw.DW_FORM_addrx: _Kind.NUMBER,
    dw.DW_FORM_loclistx: _Kind.NUMBER,
    dw.DW_FORM_rnglistx: _Kind.NUMBER,
}


def _is_without_code(abbrev: Abbrev) -> bool:
    return abbrev.tag == dw.DW_TAG_subprogram and not any(
        attribute in (dw.DW_AT_low_pc, dw.DW_AT_ranges) for attribute, _, _ in abbrev.attributes
    )


def _shape(abbrev: Abbrev, sizes: dict[int, int]) -> _Shape:
    shape: list[tuple[int, _Kind]] = []
    total = 0
    for attribute, form, _ in abbrev.attributes:
        size = sizes.get(form)
        if attribute == dw.DW_AT_sibling and form == dw.DW_FORM_ref4:
            kind = _Kind.SIBLING
        elif size is not None:
            total += size
            continue
        else:
            kind = _KINDS.get(form, _Kind.OTHER)
        shape.append((total, kind))
        total = 0
    return (*shape, (total, _Kind.END))


def _step(abbrev: Abbrev, sizes: dict[int, int]) -> int:
    if abbrev.code >= 1 << 14:
        return 0
    total = 1 if abbrev.code < 0x80 else 2
    for attribute, form, _ in abbrev.attributes:
        if attribute == dw.DW_AT_sibling and form == dw.DW_FORM_ref4:
            return -total
        size = sizes.get(form)
        if size is None:
            return 0
        total += size
    return 0 if abbrev.has_children else total


def _encoded(code: int) -> int:
    """Return the bytes of an abbreviation code below 2 ** 14, as a number."""
    return code if code < 0x80 else code & 0x7F | 0x80 | code >> 7 << 8
