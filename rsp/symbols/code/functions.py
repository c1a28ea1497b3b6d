"""Which function an address is in, and which inlined copies of others it is in there.

Contents: the concrete functions of a unit by address, the chain of inlined subroutines at an
address, and what their entries say of them (DWARF 5, sections 3.3.1 to 3.3.8). Not here: line
programs, names of the whole image, types.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rsp.errors import BadImage
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute, origins
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.ranges import entry_pc, pc_ranges
from rsp.symbols.dwarf.units import Unit
from rsp.symbols.dwarf.walk import Walk

if TYPE_CHECKING:
    from rsp.symbols.dwarf.ranges import Ranges

FileName = Callable[[Unit, int], str | None]
"""How a unit's line program calls a file, by its index."""

MAX_DEPTH = 128
"""How deep blocks are believed to nest."""

_KEPT = 64

_OUTER = frozenset((dw.DW_TAG_subprogram, dw.DW_TAG_namespace, dw.DW_TAG_module))
_BLOCKS = frozenset((dw.DW_TAG_inlined_subroutine, dw.DW_TAG_lexical_block))
_NESTED = _OUTER | _BLOCKS
_PARAMETERS = frozenset((dw.DW_TAG_formal_parameter, dw.DW_TAG_unspecified_parameters))
_LOCALS = frozenset((dw.DW_TAG_formal_parameter, dw.DW_TAG_variable))
# What makes a lexical block one of gdb's: something in it that has a name.
_NAMED = _LOCALS | frozenset(
    (
        dw.DW_TAG_label,
        dw.DW_TAG_typedef,
        dw.DW_TAG_structure_type,
        dw.DW_TAG_union_type,
        dw.DW_TAG_enumeration_type,
    )
)
_NAMED_OR_BLOCK = _NAMED | {dw.DW_TAG_lexical_block}


class CallSite(NamedTuple):
    """Where in the source the call is that was replaced by an inlined copy.

    Attributes:
        file: as the unit's line program has it, None where it does not say.
        line: 0 where it does not say.
        column: from 1; 0 where it does not say.
    """

    file: str | None
    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionFrame:
    """A function that an address is in, as itself or as a copy inlined into another.

    Attributes:
        name: of the function, empty where the file does not say.
        linkage_name: how the linker calls it, None where that is its name.
        file: where it is declared, None where the file does not say.
        line: of that file, 0 where the file does not say.
        call: where it was inlined to; None for what is not inlined.
        entry: the address where its code begins to run, None where it has none left.
        die: the subprogram or the inlined subroutine, with its parameters and variables.
    """

    name: str
    linkage_name: str | None
    file: str | None
    line: int
    call: CallSite | None
    entry: int | None
    die: Die

    @property
    def inlined(self) -> bool:
        """Whether it is a copy within another function."""
        return self.call is not None


class _Table(NamedTuple):
    """The ranges of code of a unit's functions, by address."""

    begins: list[int]
    ends: list[int]
    functions: list[int]


class Functions:
    """The functions that have code of their own, and what is inlined into them.

    Args:
        file_name: gives the name of a file by its index in the line program of a unit.

    Raises:
        BadImage: from every method, for entries that make no sense.
    """

    def __init__(self, file_name: FileName) -> None:
        self._file_name = file_name
        self._tables: dict[tuple[int, bool], _Table] = {}
        self._walks: dict[int, Walk] = {}

    def walk(self, unit: Unit) -> Walk:
        """Return the walk over a unit; the last ones are kept."""
        walk = self._walks.get(unit.offset)
        if walk is None:
            if len(self._walks) >= _KEPT:
                del self._walks[next(iter(self._walks))]
            walk = self._walks[unit.offset] = Walk(unit)
        return walk

    def frames(self, unit: Unit, address: int) -> tuple[FunctionFrame, ...]:
        """Return what an address is in: the innermost inlined copy first, the function last.

        A backtrace shows them in this order, the first at the line of the address itself, and each
        other at the call of the one before it.
        """
        blocks = self.blocks(unit, address)
        return tuple(
            self.describe(die) for die in reversed(blocks) if die.tag != dw.DW_TAG_lexical_block
        )

    def blocks(self, unit: Unit, address: int) -> tuple[Die, ...]:
        """Return the function, the inlined copies and the blocks at an address, innermost last."""
        function = self.at(unit, address)
        if function is None:
            return ()
        path = [function]
        walk = self.walk(unit)
        while len(path) < MAX_DEPTH:
            inner = self._inner(walk, path[-1], address, MAX_DEPTH)
            if inner is None:
                break
            path.append(inner)
        return tuple(path)

    def at(self, unit: Unit, address: int) -> Die | None:
        """Return the function whose code an address is, its cold parts too."""
        for nested in (False, True):
            table = self._tables.get((unit.offset, nested))
            if table is None:
                table = self._tables[unit.offset, nested] = self._table(unit, nested=nested)
            index = bisect_right(table.begins, address) - 1
            if index >= 0 and address < table.ends[index]:
                return Die.within(unit, table.functions[index])
        return None

    def describe(self, die: Die) -> FunctionFrame:
        """Return what the entry of a function or of an inlined copy, and its origins, say of it."""
        name, linkage = attribute(die, dw.DW_AT_name), attribute(die, dw.DW_AT_linkage_name)
        if linkage is None:
            linkage = attribute(die, dw.DW_AT_MIPS_linkage_name)
        call = None
        if die.tag == dw.DW_TAG_inlined_subroutine:
            file, line, column = (
                die.number(which) or 0
                for which in (dw.DW_AT_call_file, dw.DW_AT_call_line, dw.DW_AT_call_column)
            )
            has_file = die.form(dw.DW_AT_call_file) is not None
            call = CallSite(self._file_name(die.unit, file) if has_file else None, line, column)
        file_name, declared = self.declared(die)
        return FunctionFrame(
            name=name if isinstance(name, str) else "",
            linkage_name=linkage if isinstance(linkage, str) else None,
            file=file_name,
            line=declared,
            call=call,
            entry=entry_pc(die),
            die=die,
        )

    def declared(self, die: Die) -> tuple[str | None, int]:
        """Return the file and the line where the source has what an entry stands for."""
        line = attribute(die, dw.DW_AT_decl_line)
        for origin in origins(die):
            index = origin.number(dw.DW_AT_decl_file)
            if index is not None:
                name = self._file_name(origin.unit, index)
                return name, line if isinstance(line, int) else 0
        return None, line if isinstance(line, int) else 0

    def parameters(self, die: Die) -> tuple[Die, ...]:
        """Return the parameters of a function; DW_TAG_unspecified_parameters stands for `...`."""
        return tuple(self.walk(die.unit).children(die, _PARAMETERS))

    def variables(self, die: Die) -> tuple[Die, ...]:
        """Return the parameters and variables of a function, a copy or a block itself."""
        return tuple(self.walk(die.unit).children(die, _LOCALS))

    def is_block(self, die: Die) -> bool:
        """Return whether gdb makes a block of it: a lexical block must have names of its own."""
        return die.tag != dw.DW_TAG_lexical_block or self._has_names(die, MAX_DEPTH, set())

    def _has_names(self, die: Die, depth: int, seen: set[int]) -> bool:
        """Return whether a block has names, be it that only its origin has them.

        A block within it that has no addresses is no block of its own: its names are the outer's.
        """
        for origin in origins(die):
            for child in self.walk(origin.unit).children(origin, _NAMED_OR_BLOCK):
                if child.offset in seen:
                    continue
                # An origin's child that a copy stands for is where that copy is.
                seen.update(each.offset for each in origins(child))
                if child.tag in _NAMED:
                    return True
                if depth and not _has_addresses(child) and self._has_names(child, depth - 1, seen):
                    return True
        return False

    def _table(self, unit: Unit, *, nested: bool) -> _Table:
        """Return the functions of a unit; those nested in others cost a walk over everything."""
        rows = []
        walk = self.walk(unit)
        tags = _NESTED if nested else _OUTER
        pending = [Die.root_of(unit)]
        while pending:
            for die in walk.children(pending.pop(), tags, with_code=not nested):
                if die.tag == dw.DW_TAG_subprogram:
                    rows += [(begin, end, die.offset) for begin, end in _ranges(die)]
                if nested or die.tag != dw.DW_TAG_subprogram:
                    pending.append(die)
        rows.sort()
        return _Table([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])

    def _inner(self, walk: Walk, die: Die, address: int, depth: int) -> Die | None:
        for child in walk.children(die, _BLOCKS):
            if any(begin <= address < end for begin, end in _ranges(child)):
                return child
            # A block without addresses says nothing of where its children are.
            if child.tag == dw.DW_TAG_lexical_block and depth and not _has_addresses(child):
                inner = self._inner(walk, child, address, depth - 1)
                if inner is not None:
                    return inner
        return None


def _ranges(die: Die) -> Ranges:
    """Return the ranges of an entry; of one whose list is damaged none."""
    try:
        return pc_ranges(die)
    except BadImage:
        return ()


def _has_addresses(die: Die) -> bool:
    return any(die.form(which) is not None for which in (dw.DW_AT_low_pc, dw.DW_AT_ranges))
