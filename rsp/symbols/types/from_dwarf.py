"""Types from DWARF's entries (DWARF 5, chapter 5).

Contents: an entry made into a type. Not here: what a type is (`types`), and which of several
entries of one name is meant.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import origins
from rsp.symbols.dwarf.die import REFERENCES, Die
from rsp.symbols.dwarf.die_search import entries_named
from rsp.symbols.dwarf.leb import uleb
from rsp.symbols.types.spelling import spellings, split_name
from rsp.symbols.types.types import (
    VOID,
    Array,
    Encoding,
    Enum,
    Float,
    Function,
    Integer,
    Member,
    Parameter,
    Pointer,
    Qualified,
    Qualifier,
    Struct,
    Tagged,
    Type,
    Typedef,
    Union,
    Void,
)

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable

    from rsp.symbols.dwarf.units import Units

_UNKNOWN = Void("<unknown type>")
"""What lies in another file, or is no type of C."""

# By DW_ATE_*: what an integer is for, and whether it has a sign.
_INTEGERS = {
    dw.DW_ATE_address: (Encoding.INT, False),
    dw.DW_ATE_boolean: (Encoding.BOOL, False),
    dw.DW_ATE_signed: (Encoding.INT, True),
    dw.DW_ATE_signed_char: (Encoding.CHAR, True),
    dw.DW_ATE_unsigned: (Encoding.INT, False),
    dw.DW_ATE_unsigned_char: (Encoding.CHAR, False),
    dw.DW_ATE_UTF: (Encoding.CHAR, False),
}
_QUALIFIERS = {
    dw.DW_TAG_const_type: Qualifier.CONST,
    dw.DW_TAG_volatile_type: Qualifier.VOLATILE,
    dw.DW_TAG_restrict_type: Qualifier.RESTRICT,
    dw.DW_TAG_atomic_type: Qualifier.ATOMIC,
}


class DwarfTypes:
    """The types of a file's DWARF: for one entry always the same object.

    Args:
        units: where the entries are.
        complete: looks for the definition of what a unit only declares, by keyword and tag
            (``"struct"``, ``"module"``).
    """

    def __init__(
        self,
        units: Units,
        complete: Callable[[str, str], Type | None] | None = None,
    ) -> None:
        self._units = units
        self._complete = complete
        self._known: dict[int, Type] = {}  # by the offset of the entry

    def type(self, die: Die) -> Type:
        """Return the type that an entry is; for a function's entry, its prototype.

        Raises:
            BadImage: it cannot be read; also later, by a type that is asked for its members, where
                these are damaged.
        """
        known = self._known.get(die.offset)
        if known is None:
            known = self._known[die.offset] = self._read(die)
        return known

    def type_of(self, die: Die) -> Type:
        """Return the type of a variable, parameter or member: what its DW_AT_type refers to.

        Raises:
            BadImage: as `type`.
        """
        for origin in origins(die):
            if origin.form(dw.DW_AT_type) is not None:
                return self._at(_target(origin))
        return VOID

    def _at(self, offset: int | None) -> Type:
        if offset is None:
            return _UNKNOWN
        known = self._known.get(offset)
        return self.type(Die.at(self._units, offset)) if known is None else known

    def _later_target(self, die: Die) -> Callable[[], Type] | Type:
        # The offset, and not the entry, which would keep the bytes of its unit.
        if die.form(dw.DW_AT_type) is None:
            return VOID
        return partial(self._at, _target(die))

    def _read(self, die: Die) -> Type:
        tag = die.tag
        if tag in _QUALIFIERS:
            return Qualified(self._later_target(die), _QUALIFIERS[tag])
        reader = _READERS.get(tag)
        return _UNKNOWN if reader is None else reader(self, die)

    def _base(self, die: Die) -> Type:
        name = die.name or ""
        size = _unsigned(die, dw.DW_AT_byte_size) or 0
        known = _INTEGERS.get(die.number(dw.DW_AT_encoding) or 0)
        if known is None:
            return Float(name, size)  # or complex, imaginary, decimal
        encoding, signed = known
        return Integer(name, size, signed=signed, encoding=encoding)

    def _unspecified(self, die: Die) -> Type:
        return Void(die.name or "void")

    def _pointer(self, die: Die) -> Type:
        size = _unsigned(die, dw.DW_AT_byte_size) or die.unit.word_size
        return Pointer(self._later_target(die), size)

    def _typedef(self, die: Die) -> Type:
        return Typedef(die.name or "", self._later_target(die))

    def _compound(self, die: Die) -> Type:
        kind = Union if die.tag == dw.DW_TAG_union_type else Struct
        tag = _name(die)
        if die.get(dw.DW_AT_declaration):
            return kind(tag, None, definition=partial(self._definition, kind, tag))
        size = _unsigned(die, dw.DW_AT_byte_size) or 0
        return kind(tag, size, partial(self._members, die.offset))

    def _definition(self, kind: builtins.type[Tagged], tag: str | None) -> Tagged | None:
        if self._complete is None or tag is None:
            return None
        found = self._complete(kind.keyword, tag)
        return found if isinstance(found, kind) else None

    def _members(self, offset: int) -> tuple[Member, ...]:
        return tuple(
            self._member(child)
            for child in Die.at(self._units, offset).children()
            # A static member of C++ is a variable.
            if child.tag == dw.DW_TAG_member and not child.get(dw.DW_AT_external)
        )

    def _member(self, die: Die) -> Member:
        member = self.type_of(die)
        bits = _unsigned(die, dw.DW_AT_bit_size)
        position = _unsigned(die, dw.DW_AT_data_bit_offset)
        if position is None:
            position = _location(die) * 8
            # Until DWARF 3 (section 5.5.6), from the highest bit of the storage unit downwards.
            downwards = die.number(dw.DW_AT_bit_offset)
            if bits is not None and downwards is not None:
                storage = _unsigned(die, dw.DW_AT_byte_size) or member.size or 0
                position += storage * 8 - downwards - bits
        return Member(
            name=die.name,
            type=member,
            offset=position >> 3,
            bit_offset=position & 7 if bits else None,
            bit_size=bits or None,
        )

    def _enum(self, die: Die) -> Type:
        tag = _name(die)
        if die.get(dw.DW_AT_declaration):
            return Enum(tag, None, definition=partial(self._definition, Enum, tag))
        return Enum(
            tag,
            _unsigned(die, dw.DW_AT_byte_size) or 0,
            partial(self._enumerators, die.offset),
            signed=partial(self._is_signed, die.offset),
        )

    def _enumerators(self, offset: int) -> dict[str, int]:
        return {
            child.name or "": child.number(dw.DW_AT_const_value) or 0
            for child in Die.at(self._units, offset).children()
            if child.tag == dw.DW_TAG_enumerator
        }

    def _is_signed(self, offset: int) -> bool:
        die = Die.at(self._units, offset)
        if die.form(dw.DW_AT_type) is not None:
            underlying = self._at(_target(die)).resolved
            if isinstance(underlying, Integer):
                return underlying.signed
        return any(value < 0 for value in self._enumerators(offset).values())

    def _array(self, die: Die) -> Type:
        vector = bool(die.get(dw.DW_AT_GNU_vector))
        counts = [
            _count(child) for child in die.children() if child.tag == dw.DW_TAG_subrange_type
        ] or [None]
        array = Array(self._later_target(die), counts.pop(), vector=vector)
        while counts:
            array = Array(array, counts.pop())
        return array

    def _function(self, die: Die) -> Type:
        # An instance may lack what was optimized out; the declaration has all.
        entries = tuple(origins(die))
        described = next((each for each in reversed(entries) if each.has_children), entries[-1])
        typed = next((each for each in entries if each.form(dw.DW_AT_type) is not None), die)
        return Function(
            self._later_target(typed),
            partial(self._parameters, described.offset),
            variadic=partial(self._is_variadic, described.offset),
            prototyped=any(bool(each.get(dw.DW_AT_prototyped)) for each in entries),
        )

    def _parameters(self, offset: int) -> tuple[Parameter, ...]:
        return tuple(
            Parameter(_name(child), self.type_of(child))
            for child in Die.at(self._units, offset).children()
            if child.tag == dw.DW_TAG_formal_parameter
        )

    def _is_variadic(self, offset: int) -> bool:
        children = Die.at(self._units, offset).children()
        return any(child.tag == dw.DW_TAG_unspecified_parameters for child in children)


_READERS: dict[int, Callable[[DwarfTypes, Die], Type]] = {
    dw.DW_TAG_base_type: DwarfTypes._base,
    dw.DW_TAG_unspecified_type: DwarfTypes._unspecified,
    dw.DW_TAG_pointer_type: DwarfTypes._pointer,
    dw.DW_TAG_reference_type: DwarfTypes._pointer,
    dw.DW_TAG_rvalue_reference_type: DwarfTypes._pointer,
    dw.DW_TAG_typedef: DwarfTypes._typedef,
    dw.DW_TAG_structure_type: DwarfTypes._compound,
    dw.DW_TAG_class_type: DwarfTypes._compound,
    dw.DW_TAG_union_type: DwarfTypes._compound,
    dw.DW_TAG_enumeration_type: DwarfTypes._enum,
    dw.DW_TAG_array_type: DwarfTypes._array,
    dw.DW_TAG_subroutine_type: DwarfTypes._function,
    dw.DW_TAG_subprogram: DwarfTypes._function,
}


def _target(die: Die) -> int | None:
    """Return where the type is that DW_AT_type refers to, None if not in .debug_info."""
    if die.form(dw.DW_AT_type) not in REFERENCES:
        return None
    return die.number(dw.DW_AT_type)


def _name(die: Die) -> str | None:
    return next((name for name in (origin.name for origin in origins(die)) if name), None)


def _unsigned(die: Die, attribute: int) -> int | None:
    """Return a size or an offset, None where there is none."""
    number = die.number(attribute)
    if number is not None and number < 0:
        die.unit.sections.info.fail(die.offset, f"a size or an offset of {number}")
    return number


def _location(die: Die) -> int:
    """Return the offset of a member in bytes; those of a union have none."""
    location = die.get(dw.DW_AT_data_member_location)
    if isinstance(location, int):
        return _unsigned(die, dw.DW_AT_data_member_location) or 0
    # DWARF 2 has an expression that adds to the address of the structure.
    if isinstance(location, bytes) and location[:1] == bytes([dw.DW_OP_plus_uconst]):
        try:
            return uleb(location, 1)[0]
        except (IndexError, ValueError):
            die.unit.sections.info.fail(die.offset, "a member's location without an end")
    return 0


def _count(subrange: Die) -> int | None:
    """Return how many elements a dimension has, None where that is not a constant."""
    for attribute, first in ((dw.DW_AT_count, 0), (dw.DW_AT_upper_bound, 1)):
        number = subrange.number(attribute)
        form = subrange.form(attribute)
        if number is None or form in REFERENCES or form == dw.DW_FORM_exprloc:
            continue
        # gcc writes the bound of an array without elements as -1 in some forms.
        unbounded = first and number in (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
        return 0 if unbounded else max(number + first, 0)
    return None


_TAGS = {
    "struct": frozenset((dw.DW_TAG_structure_type, dw.DW_TAG_class_type)),
    "union": frozenset((dw.DW_TAG_union_type,)),
    "enum": frozenset((dw.DW_TAG_enumeration_type,)),
}
_BARE_TAGS = frozenset((dw.DW_TAG_typedef, dw.DW_TAG_base_type))


def find_without_index(units: Units, name: str) -> Die | None:
    """Return the first definition of a type by a search for its name's offset, without an index.

    None means that there is none, or that an index would be needed to find it: the effort has a
    bound.

    Args:
        units: where to search.
        name: ``struct x``, ``union x``, ``enum x``; without a keyword, a typedef or an integer.

    Raises:
        BadImage: the units that have the name cannot be read.
    """
    keyword, bare = split_name(name)
    tags = _TAGS.get(keyword, _BARE_TAGS)
    for spelling in (bare,) if keyword else spellings(bare):
        for die in entries_named(units, spelling, tags):
            return die
    return None
