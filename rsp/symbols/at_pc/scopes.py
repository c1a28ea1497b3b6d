"""What the source declares around a place in the code: the blocks there, and the file.

Here lives: which declaration a name means as the compiler sees it (C17, section 6.2.1), as far as
the file goes. Here must not live: values (`definitions`), and names of other files (`scope`).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Final

from rsp.errors import BadImage
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute, origins
from rsp.symbols.dwarf.die import Die

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rsp.symbols.binary import Binary
    from rsp.symbols.dwarf.units import Unit
    from rsp.symbols.table import SymbolTable
    from rsp.symbols.types.types import Type

log: Final = logging.getLogger("rsp.target")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """A place in the code as the source has it; what is damaged declares nothing.

    Attributes:
        binary: the file that it is in.
        slide: what is added to the addresses of that.
        unit: the source file that was compiled; None where nothing says which.
        blocks: the blocks that it is in, the innermost first, up to the function or to a copy of
            one that was inlined there: what calls that cannot be seen.
    """

    binary: Binary
    slide: int
    unit: Unit | None
    blocks: Sequence[Die] = ()

    def local(self, name: str) -> Die | None:
        """Return what the blocks declare by a name, the innermost one first."""
        return self._first(name, self._scopes())

    def in_file(self, name: str) -> Die | None:
        """Return what the file defines outside its functions by a name."""
        return self._first(name, self._files())

    def type(self, name: str) -> Type | None:
        """Return the type that a name means here, None where the file does not define one."""
        try:
            scopes = chain(self._scopes(), self._files())
            found = (self.binary.type_in(scope, name) for scope in scopes)
            return next((each for each in found if each is not None), None)
        except BadImage as damage:
            log.debug("%s", damage)
            return None

    def local_names(self) -> frozenset[str]:
        """Return the names that `local` knows."""
        return self._names(self._scopes())

    def file_names(self) -> frozenset[str]:
        """Return the names that `in_file` knows."""
        return self._names(self._files())

    @property
    def file(self) -> str:
        """The source file, as it was given to the compiler; empty where nothing says which."""
        try:
            return self.unit.name if self.unit is not None else ""
        except BadImage as damage:
            log.debug("%s", damage)
            return ""

    def copy_of(self, function: str) -> Die | None:
        """Return the innermost block that is a function of that name, or a copy of it."""
        try:
            for block in self.blocks:
                if block.tag != dw.DW_TAG_lexical_block and _name(block) == function:
                    return block
        except BadImage as damage:
            log.debug("%s", damage)
        return None

    def _scopes(self) -> Iterator[Die]:
        """Yield the blocks, each before what it is a copy of: a copy may lack what is not used."""
        for block in self.blocks:
            yield from origins(block)

    def _files(self) -> Iterator[Die]:
        if self.unit is not None:
            yield Die.root_of(self.unit)

    def _names(self, scopes: Iterator[Die]) -> frozenset[str]:
        try:
            return frozenset(name for scope in scopes for name in self.binary.names_in(scope))
        except BadImage as damage:
            log.debug("%s", damage)
            return frozenset()

    def _first(self, name: str, scopes: Iterator[Die]) -> Die | None:
        try:
            found = (self.binary.declared_in(scope, name) for scope in scopes)
            return next((each for each in found if each is not None), None)
        except BadImage as damage:
            log.debug("%s", damage)
            return None


def _name(die: Die) -> str | None:
    name = attribute(die, dw.DW_AT_name)
    return name if isinstance(name, str) else None


def surroundings_at(symbols: SymbolTable, pc: int, *, hidden: int = 0) -> Surroundings | None:
    """Return what is around an address, None where no file has it.

    Args:
        symbols: where to look.
        pc: a linear address.
        hidden: so many of the innermost inlined copies do not count: they begin there.
    """
    found = symbols.binary_at(pc)
    if found is None:
        return None
    binary, slide = found
    try:
        unit = binary.unit_at(pc - slide)
        blocks = binary.functions.blocks(unit, pc - slide) if unit is not None else ()
    except BadImage as damage:
        log.debug("%s", damage)
        return Surroundings(binary=binary, slide=slide, unit=None)
    return Surroundings(
        binary=binary, slide=slide, unit=unit, blocks=innermost(blocks, hidden=hidden)
    )


def innermost(blocks: Sequence[Die], *, hidden: int = 0) -> tuple[Die, ...]:
    """Return the blocks of the innermost function or copy that counts, the innermost first.

    Args:
        blocks: all at an address, the function first.
        hidden: how many copies do not count.
    """
    found: list[Die] = []
    for block in reversed(blocks):
        found.append(block)
        if block.tag != dw.DW_TAG_lexical_block:
            if not hidden:
                break
            found, hidden = [], hidden - 1
    return tuple(found)
