"""What the source declares around a place in the code: the blocks there, and the file.

Contents: which declaration a name means as the compiler sees it (C17, section 6.2.1), as far as the
file goes. Not here: what a declaration says (`definitions`), and other files.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Final

from rsp.errors import BadImage
from rsp.symbols.at_pc.blocks import Block
from rsp.symbols.at_pc.definitions import Definition
from rsp.symbols.dwarf.abstract_origin import origins
from rsp.symbols.dwarf.die import Die

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rsp.symbols.binary import Binary
    from rsp.symbols.dwarf.units import Unit
    from rsp.symbols.table import SymbolTable
    from rsp.symbols.types.types import Type

logger: Final = logging.getLogger("rsp.symbols")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scopes:
    """A place in the code as the source has it; what is damaged declares nothing.

    Attributes:
        binary: the file that it is in.
        slide: what is added to the addresses of that.
        unit: the source file that was compiled; None where nothing says which.
        blocks: the blocks that it is in, the innermost last: from a function on, or from a copy of
            one that was inlined there: what calls that cannot be seen.
    """

    binary: Binary
    slide: int
    unit: Unit | None
    blocks: Sequence[Block] = ()

    def functions(self) -> Iterator[Scopes]:
        """Yield each function and copy that the blocks are of, innermost first, with its own."""
        end = len(self.blocks)
        for begin in reversed(range(end)):
            if not self.blocks[begin].is_lexical:
                yield replace(self, blocks=self.blocks[begin:end])
                end = begin

    def innermost(self, *, hidden: int = 0) -> Scopes:
        """Return what the innermost function or copy sees; so many copies do not count."""
        none = replace(self, blocks=())
        return next(islice(self.functions(), hidden, None), none)

    def local(self, name: str) -> Definition | None:
        """Return what the blocks declare by a name, the innermost one first."""
        return self._first(name, self._scopes())

    def in_file(self, name: str) -> Definition | None:
        """Return what the file defines outside its functions by a name."""
        return self._first(name, self._files())

    def type(self, name: str) -> Type | None:
        """Return the type that a name means here, None where the file does not define one."""
        try:
            scopes = chain(self._scopes(), self._files())
            found = (self.binary.type_in(scope, name) for scope in scopes)
            return next((each for each in found if each is not None), None)
        except BadImage as damage:
            logger.debug("%s", damage)
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
            logger.debug("%s", damage)
            return ""

    def copy_of(self, function: str) -> Definition | None:
        """Return the innermost block that is a function of that name, or a copy of it."""
        try:
            for block in reversed(self.blocks):
                if not block.is_lexical and block.name == function:
                    return self._definition(block.die, function)
        except BadImage as damage:
            logger.debug("%s", damage)
        return None

    def _definition(self, die: Die, name: str) -> Definition:
        return Definition(binary=self.binary, slide=self.slide, die=die, name=name)

    def _scopes(self) -> Iterator[Die]:
        """Yield the blocks, each before what it is a copy of: a copy may lack what is not used."""
        for block in reversed(self.blocks):
            yield from origins(block.die)

    def _files(self) -> Iterator[Die]:
        if self.unit is not None:
            yield Die.root_of(self.unit)

    def _names(self, scopes: Iterator[Die]) -> frozenset[str]:
        try:
            return frozenset(name for scope in scopes for name in self.binary.names_in(scope))
        except BadImage as damage:
            logger.debug("%s", damage)
            return frozenset()

    def _first(self, name: str, scopes: Iterator[Die]) -> Definition | None:
        try:
            found = (self.binary.declared_in(scope, name) for scope in scopes)
            die = next((each for each in found if each is not None), None)
        except BadImage as damage:
            logger.debug("%s", damage)
            return None
        return None if die is None else self._definition(die, name)


def scopes_at(symbols: SymbolTable, pc: int, *, hidden: int = 0) -> Scopes | None:
    """Return what is around an address, None where no file has it.

    Args:
        symbols: where to look.
        pc: a linear address.
        hidden: so many of the innermost inlined copies do not count: they begin there.
    """
    found = symbols.binary_at(pc)
    if found is None:
        return None
    return scopes_in(*found, pc).innermost(hidden=hidden)


def scopes_in(binary: Binary, slide: int, pc: int) -> Scopes:
    """Return what is around an address of a file, with the functions that copies are in."""
    try:
        unit, blocks = binary.blocks(pc - slide)
    except BadImage as damage:
        logger.debug("%s", damage)
        return Scopes(binary=binary, slide=slide, unit=None)
    around = tuple(Block(binary, die) for die in blocks)
    return Scopes(binary=binary, slide=slide, unit=unit, blocks=around)


def scopes_of(definition: Definition) -> Scopes:
    """Return what is around a definition, outside functions."""
    unit = definition.die.unit
    return Scopes(binary=definition.binary, slide=definition.slide, unit=unit)


def scopes_of_file(symbols: SymbolTable, name: str) -> tuple[Scopes, ...]:
    """Return the source files of a name, by the end of their paths, each as a place in it.

    Raises:
        BadImage: a file is damaged.
    """
    return tuple(
        Scopes(binary=binary, slide=slide, unit=unit)
        for binary, slide in symbols.binaries()
        for unit in binary.units_of(name)
    )
