"""Entries that complete others: instances of functions, definitions of what was declared.

Contents: the way from an entry to those that say the rest of it (DWARF 5, sections 2.13.2 and
3.3.8). Not here: what any attribute means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.units import Value

MAX_ORIGINS = 8
"""How many references lead from an entry to the one with its name; three are known to occur."""


def origins(die: Die) -> Iterator[Die]:
    """Yield an entry, the one that it is an instance of, the one that this specifies, and so on.

    Raises:
        BadImage: a reference leads nowhere, or the references have no end.
    """
    current: Die | None = die
    for _ in range(MAX_ORIGINS):
        if current is None:
            return
        yield current
        current = current.reference(dw.DW_AT_abstract_origin) or current.reference(
            dw.DW_AT_specification
        )
    if current is not None:
        die.unit.sections.info.fail(die.offset, "an entry whose origins have no end")


def attribute(die: Die, which: int) -> Value | None:
    """Return an attribute of an entry, or of the first of its origins that has it.

    Raises:
        BadImage: as `origins`.
    """
    for origin in origins(die):
        value = origin.get(which)
        if value is not None:
            return value
    return None
