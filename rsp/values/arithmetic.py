"""The operators of C on values: promotions, conversions, and arithmetic on pointers.

Contents: what an operator computes and the type that it has (C17, sections 6.3.1 and 6.5), as gdb
does it where it differs. Not here: their precedence (`c_expression`).
"""

from __future__ import annotations

import operator
from functools import cache
from typing import TYPE_CHECKING, Final

from rsp.errors import ExpressionError
from rsp.symbols.types.types import (
    VOID,
    Encoding,
    Enum,
    Float,
    Integer,
    Pointer,
    Type,
)
from rsp.values.numbers import decode, is_scalar, is_signed
from rsp.values.value import Value, element_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rsp.values.value import Space

_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPUTATIONS: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_BITWISE: Final[Mapping[str, Callable[[int, int], int]]] = {
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
}


_INT: Final = 4


@cache
def base_types(word_size: int) -> Mapping[str, Type]:
    """Return C's own types by their shortest names, as x86 has them.

    >>> base_types(4)["unsigned long"].size
    4
    """
    sizes = {"short": 2, "int": 4, "long": word_size, "long long": 8}
    types: dict[str, Type] = {"void": VOID}
    for name, size in sizes.items():
        types[name] = Integer(name, size, signed=True)
        unsigned = f"unsigned {name}"
        types[unsigned] = Integer(unsigned, size, signed=False)
    for name in ("char", "signed char", "unsigned char"):
        signed = name != "unsigned char"
        types[name] = Integer(name, 1, signed=signed, encoding=Encoding.CHAR)
    types["_Bool"] = Integer("_Bool", 1, signed=False, encoding=Encoding.BOOL)
    if word_size == 8:
        types["__int128"] = Integer("__int128", 16, signed=True)
        types["unsigned __int128"] = Integer("unsigned __int128", 16, signed=False)
    types["float"], types["double"] = Float("float", 4), Float("double", 8)
    types["long double"] = Float("long double", 16 if word_size == 8 else 12)
    types["unsigned"] = types["unsigned int"]
    return types


def integer(space: Space, number: int, name: str = "int") -> Value:
    """Return a number of one of C's own types."""
    return Value.number_(space, base_types(space.word_size)[name], number)


def unary(symbol: str, value: Value) -> Value:
    """Return what ``* & + - ~ !`` makes of a value.

    Raises:
        ExpressionError: C has no such operation.
        MemoryFault: the operand cannot be read.
    """
    if symbol == "*":
        bare = value.type_.resolved
        # As gdb has it, a number may be taken for the address of a long.
        if isinstance(bare, Integer):
            long = base_types(value.space_.word_size)["long"]
            value = value.cast_(Pointer(long, value.space_.word_size))
        return value.deref_()
    if symbol == "&":
        return value.address_of_()
    if symbol == "!":
        return integer(value.space_, int(not value.decayed_()))
    promoted = _promoted(value)
    number = decode(promoted.type_, promoted.bytes_())
    if symbol == "~":
        if not isinstance(number, int):
            raise ExpressionError(f"~ of a {value.type_}")
        number = ~number
    elif symbol == "-":
        number = -number
    return Value.number_(value.space_, promoted.type_, number)


def binary(symbol: str, left: Value, right: Value, *, dry: bool = False) -> Value:
    """Return what an operator between two values computes, all but ``&&`` and ``||``.

    Args:
        symbol: as it is written.
        left: the operand before it.
        right: the operand behind it.
        dry: only the type matters: nothing is divided.

    Raises:
        ExpressionError: C has no such operation, or it divides by zero.
        MemoryFault: an operand cannot be read.
    """
    left, right = left.decayed_(), right.decayed_()
    for value in (left, right):
        if not is_scalar(value.type_.resolved):
            raise ExpressionError(f"{symbol} needs numbers or pointers, not {value.type_}")
    pointers = [isinstance(each.type_.resolved, Pointer) for each in (left, right)]
    if any(pointers) and (symbol in _COMPARISONS or symbol in "+-"):
        return _on_pointers(symbol, left, right, pointers)
    if any(pointers):
        # gdb computes with addresses as with numbers, which masks and alignments need.
        left, right = (_address(each) for each in (left, right))
    if symbol in ("<<", ">>"):
        return _shifted(symbol, _promoted(left), right)
    kind = _common_type(left, right)
    one, other = (decode(kind, each.cast_(kind).bytes_()) for each in (left, right))
    if symbol in _COMPARISONS:
        return integer(left.space_, int(_COMPARISONS[symbol](one, other)))
    return Value.number_(left.space_, kind, _computed(symbol, one, other, kind, dry=dry))


def _computed(symbol: str, left: float, right: float, kind: Type, *, dry: bool) -> float:
    if symbol in _COMPUTATIONS:
        return _COMPUTATIONS[symbol](left, right)
    if symbol == "/" and isinstance(kind.resolved, Float):
        if right:
            return left / right
        return float("nan") if not left or left != left else left * float("inf")
    if not isinstance(left, int) or not isinstance(right, int):
        raise ExpressionError(f"{symbol} needs integers")
    if symbol in _BITWISE:
        return _BITWISE[symbol](left, right)
    if right == 0:
        if dry:
            return 0
        raise ExpressionError("division by zero")
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    return quotient if symbol == "/" else left - right * quotient


def _on_pointers(symbol: str, left: Value, right: Value, pointers: list[bool]) -> Value:
    space = left.space_
    if symbol in _COMPARISONS:
        return integer(space, int(_COMPARISONS[symbol](int(left), int(right))))
    if all(pointers):
        if symbol == "+":
            raise ExpressionError("two pointers cannot be added")
        one, other = (_target_size(each) for each in (left, right))
        if one != other:
            raise ExpressionError(f"{left.type_} and {right.type_} point to what differs in size")
        difference = int(left) - int(right)
        steps = abs(difference) // max(one, 1)
        return integer(space, -steps if difference < 0 else steps, "long")
    if not pointers[0]:
        if symbol == "-":
            raise ExpressionError(f"a pointer cannot be taken from {left.type_}")
        left, right = right, left
    if isinstance(right.type_.resolved, Float):
        raise ExpressionError(f"{right.type_} cannot be added to a pointer")
    distance = int(right) * _target_size(left)
    moved = int(left) + (distance if symbol == "+" else -distance)
    return Value.number_(space, left.type_, moved)


def _target_size(value: Value) -> int:
    bare = value.type_.resolved
    assert isinstance(bare, Pointer)
    return element_size(bare.target)


def _address(value: Value) -> Value:
    if isinstance(value.type_.resolved, Pointer):
        return value.cast_(base_types(value.space_.word_size)["long"])
    return value


def _shifted(symbol: str, left: Value, right: Value) -> Value:
    number, count = decode(left.type_, left.bytes_()), decode(right.type_, right.bytes_())
    if not isinstance(number, int) or not isinstance(count, int):
        raise ExpressionError(f"{symbol} needs integers")
    width = 8 * (left.type_.size or 0)
    if symbol == "<<":
        result = number << count if 0 <= count < width else 0
    else:
        result = number >> (count if 0 <= count < width else width)
    return Value.number_(left.space_, left.type_, result)


def _promoted(value: Value) -> Value:
    """Return a number as C computes with it: nothing smaller than int, no enumeration."""
    value = value.decayed_()
    bare = value.type_.resolved
    if isinstance(bare, Float) or (isinstance(bare, Integer) and bare.size >= _INT):
        return value
    if not isinstance(bare, Integer | Enum):
        raise ExpressionError(f"{value.type_} is no number")
    return value.cast_(_promoted_type(value.space_.word_size, bare))


def _promoted_type(word_size: int, bare: Integer | Enum) -> Type:
    size = bare.size or 0
    return _integer_type(word_size, size, signed=bare.signed or size < _INT)


def _integer_type(word_size: int, size: int, *, signed: bool) -> Type:
    """Return the type of a size; of two of one size gdb takes the shorter name."""
    if size <= _INT:
        name = "int"
    elif size <= word_size:
        name = "long"
    else:
        name = "long long" if size <= 8 or word_size < 8 else "__int128"
    return base_types(word_size)[name if signed else f"unsigned {name}"]


def _common_type(left: Value, right: Value) -> Type:
    """Return the type that two numbers are computed in."""
    bares = left.type_.resolved, right.type_.resolved
    word_size = left.space_.word_size
    floats = [each.size for each in bares if isinstance(each, Float)]
    if floats:
        names = {4: "float", 8: "double"}
        return base_types(word_size)[names.get(max(floats), "long double")]
    kinds = [_promoted_type(word_size, each) for each in bares if isinstance(each, Integer | Enum)]
    size = max(kind.size or 0 for kind in kinds)
    signed = all(is_signed(kind) for kind in kinds if kind.size == size)
    return _integer_type(word_size, size, signed=signed)
