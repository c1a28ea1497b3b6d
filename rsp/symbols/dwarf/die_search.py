"""Entries by their names, found without an index: by a search of .debug_info for the name's offset.

Contents: that search, and its bounds. Not here: what is made of an entry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.leb import uleb_bytes
from rsp.symbols.dwarf.walk import Walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.units import Unit, Units
    from rsp.symbols.elf.section_data import SectionData

_MAX_STRINGS = 1 << 13
"""How many strings that end in a name are compared."""
_MAX_UNITS = 512
"""How many units that may have a name are looked into, some 0.5 ms each."""


def entries_named(
    units: Units, name: str, tags: frozenset[int], *, declared: bool = False
) -> Iterator[Die]:
    """Yield the entries of a name in the order of the file, as far as the effort allows.

    Args:
        units: where to search.
        name: as DW_AT_name has it.
        tags: the tags that are wanted.
        declared: whether declarations are wanted, instead of definitions.

    Raises:
        BadImage: the units that have the name cannot be read.
    """
    for needle in _needles(units, name):
        for die in _written(units, needle, tags, declared=declared):
            if die.name == name and bool(die.get(dw.DW_AT_declaration)) == declared:
                yield die


def _needles(units: Units, name: str) -> Iterator[bytes]:
    """Yield the bytes that stand in .debug_info for a name."""
    try:
        text = name.encode(errors="surrogateescape") + b"\0"
    except UnicodeEncodeError:
        return
    if len(text) == 1 or b"\0" in text[:-1]:
        return
    at = _string(units.sections.str, text)
    if at is not None:
        yield at.to_bytes(4, "little")
    yield text  # in place, as compilers write short names


def _string(strings: SectionData, text: bytes) -> int | None:
    """Return where a linker has left a string, which may be the end of another one."""
    if strings[: len(text)] == text:
        return 0
    whole = strings.find(b"\0" + text)
    if whole >= 0:
        return whole + 1
    # Linkers sort strings from their ends, and so a string comes to lie in the first of the
    # longer ones (bfd/merge.c, merge_strings).
    longer: list[tuple[bytes, int]] = []
    at = strings.find(text)
    while at >= 0 and len(longer) < _MAX_STRINGS:
        before = strings[max(at - 256, 0) : at]
        longer.append((before[before.rfind(b"\0") + 1 :][::-1], at))
        at = strings.find(text, at + 1)
    return min(longer)[1] if longer else None


def _written(units: Units, needle: bytes, tags: frozenset[int], *, declared: bool) -> Iterator[Die]:
    """Yield the entries whose name is written as the bytes, and some that look like it."""
    info = units.sections.info
    at = info.find(needle)
    for _ in range(_MAX_UNITS):
        if at < 0:
            return
        unit = units.at(at)
        heads = _heads(unit, tags, declared=declared)
        places = []
        while 0 <= at < unit.end:
            # What stands before it is looked at first: a small number is found everywhere.
            for gap, codes in heads.items():
                head = info[at - gap - _LONGEST_CODE : at - gap]
                if head.endswith(codes):
                    places.append(at)
            at = info.find(needle, at + 1)
        if places:
            for _, die in Walk(unit).entries_at(places):
                if die.tag in tags:
                    yield die


_LONGEST_CODE = 3  # 2 ** 21 abbreviations are more than a unit has


def _heads(unit: Unit, tags: frozenset[int], *, declared: bool) -> dict[int, tuple[bytes, ...]]:
    """Return the codes of such entries, by how many bytes lie between them and the name."""
    heads: dict[int, tuple[bytes, ...]] = {}
    for code, abbrev in unit.abbrevs.items():
        if abbrev.tag not in tags:
            continue
        if declared != any(which == dw.DW_AT_declaration for which, _, _ in abbrev.attributes):
            continue
        gap: int | None = 0
        found = None
        for attribute, form, _ in abbrev.attributes:
            if attribute == dw.DW_AT_name:
                found = gap
            size = unit.fixed_sizes.get(form)
            gap = None if gap is None or size is None else gap + size
        if found is not None:
            heads[found] = (*heads.get(found, ()), uleb_bytes(code))
    return heads
