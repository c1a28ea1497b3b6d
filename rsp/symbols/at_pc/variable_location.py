"""Where a variable is at a pc.

Contents: the choice of what tells it, a location for the pc or a constant (DWARF 5, sections 2.6
and 4.1), and the door to what that comes to. Not here: how an expression is evaluated
(`rsp.symbols.dwarf.expressions`), and what is at the location.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import origins
from rsp.symbols.dwarf.expressions import Context, evaluate
from rsp.symbols.dwarf.location_description import (
    ImplicitPointer,
    InMemory,
    InRegister,
    Location,
    OptimizedOut,
    Piece,
    Pieces,
    Unavailable,
    Value,
)
from rsp.symbols.dwarf.loclists import expression_at

if TYPE_CHECKING:
    from rsp.symbols.dwarf.die import Die

__all__ = [
    "Context",
    "ImplicitPointer",
    "InMemory",
    "InRegister",
    "Location",
    "OptimizedOut",
    "Piece",
    "Pieces",
    "Unavailable",
    "Value",
    "location_of",
    "location_on_entry",
]


def location_of(die: Die, context: Context, pc: int = 0, start: int | None = None) -> Location:
    """Return where a variable is.

    Args:
        die: its entry.
        context: the frame that it is looked at from.
        pc: where that is, in the file.
        start: where the function begins there.

    Raises:
        BadImage: the entry makes no sense.
    """
    described = _located(die)
    if described is None:
        for origin in origins(die):
            constant = origin.get(dw.DW_AT_const_value)
            if constant is not None:
                return _constant(constant)
        return OptimizedOut()
    expression = expression_at(described, dw.DW_AT_location, pc, entry_pc=start)
    return evaluate(expression, context, unit=described.unit) if expression else OptimizedOut()


def location_on_entry(die: Die, start: int) -> bytes | None:
    """Return the expression of a parameter where its function begins, None without one.

    Raises:
        BadImage: the entry makes no sense.
    """
    described = _located(die)
    if described is None:
        return None
    return expression_at(described, dw.DW_AT_location, start, entry_pc=start)


def _located(die: Die) -> Die | None:
    """Return the entry that has the location: the variable's own, or that of its origin."""
    for origin in origins(die):
        if origin.form(dw.DW_AT_location) is not None:
            return origin
    return None


def _constant(value: int | bool | str | bytes) -> Value:
    match value:
        case bytes():
            return Value(value)
        case str():
            return Value(value.encode(errors="surrogateescape") + b"\0")
    return Value((value & (1 << 64) - 1).to_bytes(8, "little"))
