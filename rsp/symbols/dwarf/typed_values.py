"""Numbers of the base types that DWARF expressions compute with (DWARF 5, sections 2.5.1 and 5.1).

Contents: the bits of a number in a type, and division as C has it. Not here: operations and the
stack (`rsp.symbols.dwarf.expressions`).
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from rsp.symbols.dwarf import constants as dw


class Unknown(Exception):
    """It cannot be told; without a reason, it is optimized out."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class BaseType(NamedTuple):
    """A base type; the generic one, of the size of an address, is None instead."""

    encoding: int
    size: int

    @property
    def is_float(self) -> bool:
        """Whether its numbers are floating-point ones."""
        return self.encoding == dw.DW_ATE_float

    @property
    def is_signed(self) -> bool:
        """Whether its numbers have a sign."""
        return self.encoding in (dw.DW_ATE_signed, dw.DW_ATE_signed_char)


class Typed(NamedTuple):
    """A value on the stack that is not of the generic type; its bits, as an unsigned number."""

    bits: int
    type: BaseType


_FLOATS = {4: struct.Struct("<f"), 8: struct.Struct("<d")}


def decoded(bits: int, kind: BaseType) -> int | float:
    """Return the number that some bits are in a type.

    Raises:
        Unknown: the type is a floating-point one that Python has not.
    """
    if kind.is_float:
        return _float(kind).unpack(bits.to_bytes(kind.size, "little"))[0]  # type: ignore[no-any-return]  # struct's
    if kind.is_signed and bits >> (8 * kind.size - 1):
        return bits - (1 << 8 * kind.size)
    return bits


def encoded(value: float, kind: BaseType) -> int:
    """Return the bits of a number in a type; what does not fit is cut off, as C does it.

    Raises:
        Unknown: the type has no such number.
    """
    if kind.is_float:
        try:
            return int.from_bytes(_float(kind).pack(value), "little")
        except OverflowError:
            raise Unknown("a floating-point number that is too large") from None
    try:
        return int(value) & (1 << 8 * kind.size) - 1
    except (OverflowError, ValueError):
        raise Unknown("a floating-point number that is no integer") from None


def _float(kind: BaseType) -> struct.Struct:
    if kind.size not in _FLOATS:
        raise Unknown(f"floating-point numbers of {kind.size} bytes are not computed with")
    return _FLOATS[kind.size]


def quotient(left: Any, right: Any) -> Any:
    """Divide as C does.

    Raises:
        Unknown: by zero.
    """
    if right == 0:
        raise Unknown("a division by zero")
    if isinstance(left, float):
        return left / right
    size = abs(left) // abs(right)
    return -size if (left < 0) != (right < 0) else size  # towards zero, as C does it
