"""The names that a function declares, in itself and in the blocks within it.

Contents: which of them a name means when nothing tells where in the function one is, as behind
``function::`` (gdb manual, "Variables"). Not here: names at a pc (`scopes`), and values.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import origins
from rsp.symbols.dwarf.ranges import pc_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rsp.symbols.at_pc.definitions import Definition
    from rsp.symbols.dwarf.die import Die

_BLOCKS = frozenset((dw.DW_TAG_lexical_block,))
_DEEPEST = 64
"""How many blocks within each other are looked into."""


class FunctionNames:
    """The names of a function.

    Raises:
        BadImage: from every method, for entries that make no sense.
    """

    def __init__(self, function: Definition) -> None:
        self._function = function

    def __iter__(self) -> Iterator[str]:
        """Iterate over them, those of blocks within each other several times."""
        for scopes in self._levels():
            for scope in scopes:
                yield from self._function.binary.names_in(scope)

    def find(self, name: str) -> tuple[Definition, ...]:
        """Return what the function declares by a name, else what the blocks within it do."""
        for scopes in self._levels():
            dies = self._declared(scopes, name)
            if dies:
                return tuple(replace(self._function, die=die, name=name) for die in dies)
        return ()

    def covers(self, pc: int) -> bool:
        """Return whether a pc is in the function, or behind its last instruction."""
        place = pc - self._function.slide
        return any(begin <= place <= end for begin, end in pc_ranges(self._function.die))

    def _declared(self, scopes: Sequence[Die], name: str) -> tuple[Die, ...]:
        dies: dict[int, Die] = {}
        for scope in scopes:
            if (die := self._function.binary.declared_in(scope, name)) is not None:
                # A copy and what it is a copy of are the same.
                dies.setdefault([each.offset for each in origins(die)][-1], die)
        return tuple(dies.values())

    def _levels(self) -> Iterator[list[Die]]:
        """Yield the function, its blocks, the blocks within those, each before its origins."""
        functions = self._function.binary.functions
        level = [self._function.die]
        for _ in range(_DEEPEST):
            scopes = {each.offset: each for die in level for each in origins(die)}
            if not scopes:
                return
            yield list(scopes.values())
            level = [
                child
                for block in scopes.values()
                for child in functions.walk(block.unit).children(block, _BLOCKS)
            ]
