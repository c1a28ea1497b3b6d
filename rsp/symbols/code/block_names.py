"""What an entry of .debug_info declares itself, by name: a unit, a function or a block in one.

Contents: the names that a compiler knows in a scope, as one look through the entry's children tells
them. Not here: the order in which scopes are asked (`rsp.values.scope`), and names of the whole
image (`rsp.symbols.dwarf.name_index`).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute
from rsp.symbols.dwarf.die import Die
from rsp.symbols.types.spelling import split_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rsp.symbols.dwarf.walk import Walk

_OBJECTS = frozenset((dw.DW_TAG_variable, dw.DW_TAG_formal_parameter, dw.DW_TAG_subprogram))
_ENUMERATIONS = frozenset((dw.DW_TAG_enumeration_type,))
_ENUMERATORS = frozenset((dw.DW_TAG_enumerator,))
_KEYWORDS = {
    dw.DW_TAG_typedef: "",
    dw.DW_TAG_structure_type: "struct",
    dw.DW_TAG_class_type: "struct",
    dw.DW_TAG_union_type: "union",
    dw.DW_TAG_enumeration_type: "enum",
}
_TYPES = frozenset(_KEYWORDS)


class BlockNames:
    """The names of a scope. Declarations of what is defined elsewhere are none of them.

    Args:
        walk: over the unit of the entry.
        owner: a unit, a function, an inlined copy or a block.

    Raises:
        BadImage: from every method, for entries that make no sense.
    """

    def __init__(self, walk: Walk, owner: Die) -> None:
        self._walk = walk
        self._unit = owner.unit
        self._owner = owner.offset

    def find(self, name: str) -> Die | None:
        """Return a variable, a parameter, a function with code, or an enumerator's enumeration."""
        offset = self._objects.get(name)
        if offset is None:
            offset = self._enumerators.get(name)
        return Die.within(self._unit, offset) if offset is not None else None

    def type(self, name: str) -> Die | None:
        """Return a typedef, or a structure, union or enumeration by its keyword and tag."""
        offset = self._types.get(split_name(name))
        return Die.within(self._unit, offset) if offset is not None else None

    def names(self) -> Iterable[str]:
        """Return the names that `find` knows."""
        return self._objects.keys() | self._enumerators.keys()

    @cached_property
    def _objects(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for die in self._walk.children(
            Die.within(self._unit, self._owner), _OBJECTS, with_code=True
        ):
            name = attribute(die, dw.DW_AT_name)
            if isinstance(name, str) and not die.get(dw.DW_AT_declaration):
                found.setdefault(name, die.offset)
        return found

    @cached_property
    def _enumerators(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for die in self._walk.children(Die.within(self._unit, self._owner), _ENUMERATIONS):
            for child in self._walk.children(die, _ENUMERATORS):
                found.setdefault(child.name or "", die.offset)
        return found

    @cached_property
    def _types(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for die in self._walk.children(Die.within(self._unit, self._owner), _TYPES):
            if not die.get(dw.DW_AT_declaration):
                found.setdefault((_KEYWORDS[die.tag], die.name or ""), die.offset)
        return found
