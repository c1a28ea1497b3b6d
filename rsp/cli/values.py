"""Values of C as JSON has them.

Contents: the bare form of a value. Not here: its text as gdb prints it (see `rsp.values`).
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Final

from rsp.errors import ExpressionError, SymbolError
from rsp.symbols.types.types import (
    VOID,
    Array,
    Compound,
    Encoding,
    Float,
    Function,
    Integer,
    Pointer,
)

if TYPE_CHECKING:
    from rsp.symbols.types.types import Type
    from rsp.values.value import Value

_EXACT: Final = 1 << 53
_LARGEST: Final = 1 << 20
_DEEPEST: Final = 64


def bare_value(value: Value) -> object:
    """Return a value as JSON has it.

    A structure is an object, in which the members of an anonymous one are its own; an array is a
    list, one of ``char`` a string up to its first NUL. Pointers and functions are addresses in hex;
    an enumeration is its number, for the text beside it has the name; what JSON has no number for
    is a string. What is not known is null.

    Raises:
        MemoryFault: it cannot be read.
        ExpressionError: it has more than 1 MiB.
    """
    if (value.type_.size or 0) > _LARGEST:
        raise ExpressionError(f"{value.type_} has {value.type_.size} bytes: ask for a part of it")
    return _bare(value, 0)


def _bare(value: Value, depth: int) -> object:
    bare = value.type_.resolved
    if depth > _DEEPEST:
        raise ExpressionError(f"{value.type_}: more than {_DEEPEST} structures within each other")
    if value.all_absent_:
        return None
    if isinstance(bare, Compound):
        if not bare.complete:
            return None
        return _members(value if value.absent_ else value.loaded_(), bare, depth)
    if isinstance(bare, Array):
        if _is_char(bare.element) and not value.absent_:
            return value.string_(_LARGEST).decode(errors="backslashreplace") if bare.count else ""
        if not bare.count or not bare.element.size:
            return []
        return [_bare(each, depth + 1) for each in value]
    if value.absent_ or bare is VOID:
        return None
    if isinstance(bare, Function):
        return f"{value.address_ or 0:#x}"
    return _number(value, bare)


def _members(value: Value, compound: Compound, depth: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for member in compound.members:
        part = _bare(value.member_(member), depth + 1)
        if member.name is not None:
            found[member.name] = part
        elif isinstance(part, dict):
            found.update(part)
    return found


def _number(value: Value, bare: Type) -> object:
    if isinstance(bare, Float):
        try:
            number = float(value)
        except SymbolError:  # a complex one, or in a format of another machine
            return str(value)
        return number if isfinite(number) else str(value)
    integer = int(value)
    if isinstance(bare, Pointer):
        return f"{integer:#x}"
    if isinstance(bare, Integer) and bare.encoding is Encoding.BOOL and integer < 2:
        return bool(integer)
    return integer if abs(integer) <= _EXACT else str(integer)


def _is_char(ctype: Type) -> bool:
    bare = ctype.resolved
    return isinstance(bare, Integer) and bare.name == "char"
