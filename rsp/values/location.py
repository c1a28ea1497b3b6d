"""Where a variable is, and the value there.

Contents: the location that an entry of the debug information gives (DWARF 5, section 2.6), and the
bytes at a location. Not here: what frames know of registers (see `rsp.target.frame_context`), the
operations of an expression (see `rsp.symbols.dwarf.expressions`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import origins
from rsp.symbols.dwarf.expressions import evaluate
from rsp.symbols.dwarf.location_description import (
    ImplicitPointer,
    InMemory,
    InRegister,
    OptimizedOut,
    Pieces,
    Unavailable,
)
from rsp.symbols.dwarf.location_description import Value as Computed
from rsp.symbols.dwarf.loclists import expression_at
from rsp.values.value import OPTIMIZED_OUT, UNAVAILABLE, Hole, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.expressions import Context
    from rsp.symbols.dwarf.location_description import Location, Piece
    from rsp.symbols.types.types import Type
    from rsp.values.value import Space

SYNTHETIC_POINTER = "<synthetic pointer>"


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
    described = located(die)
    if described is None:
        for origin in origins(die):
            constant = origin.get(dw.DW_AT_const_value)
            if constant is not None:
                return _constant(constant)
        return OptimizedOut()
    expression = expression_at(described, dw.DW_AT_location, pc, entry_pc=start)
    return evaluate(expression, context) if expression else OptimizedOut()


def located(die: Die) -> Die | None:
    """Return the entry that has the location: the variable's own, or that of its origin."""
    for origin in origins(die):
        if origin.form(dw.DW_AT_location) is not None:
            return origin
    return None


def _constant(value: int | bool | str | bytes) -> Computed:
    match value:
        case bytes():
            return Computed(value)
        case str():
            return Computed(value.encode(errors="surrogateescape") + b"\0")
    return Computed((value & (1 << 64) - 1).to_bytes(8, "little"))


def value_at(location: Location, ctype: Type, context: Context, space: Space) -> Value:
    """Return what is at a location as a value.

    Raises:
        BadImage: what the type says of its size cannot be read.
    """
    if isinstance(location, InMemory):
        return Value(space, ctype, address=location.address)
    if isinstance(location, Unavailable):
        return Value.absent_value_(space, ctype, f"<error reading variable: {location.reason}>")
    size = ctype.size or 0
    data, holes = _contents(location, size, context)
    return Value(space, ctype, data=data, holes=holes)


def _contents(location: Location, size: int, context: Context) -> tuple[bytes, tuple[Hole, ...]]:
    """Return as many bytes of what is at a location, and which of them are not known."""
    match location:
        case InMemory(address):
            data = context.read_memory(address, size)
            return _hole(size, UNAVAILABLE) if data is None else (data, ())
        case InRegister(register):
            value = context.register(register)
            if value is None:
                return _hole(size, OPTIMIZED_OUT)
            return _fit(value.to_bytes((value.bit_length() + 7) // 8, "little"), size), ()
        case Computed(data):
            return _fit(data, size), ()
        case ImplicitPointer():
            return _hole(size, SYNTHETIC_POINTER)
        case Pieces(pieces):
            return _joined(pieces, size, context)
    return _hole(size, OPTIMIZED_OUT)


def _hole(size: int, why: str) -> tuple[bytes, tuple[Hole, ...]]:
    return bytes(size), (Hole(0, 8 * size, why),)


def _joined(pieces: Sequence[Piece], size: int, context: Context) -> tuple[bytes, tuple[Hole, ...]]:
    bits = filled = 0
    holes: list[Hole] = []
    for piece in pieces:
        wanted = min(piece.bits, 8 * size - filled)
        data, missing = _contents(piece.location, (piece.offset + wanted + 7) // 8, context)
        holes += [Hole(filled, filled + wanted, hole.why) for hole in missing[:1]]
        value = int.from_bytes(data, "little") >> piece.offset & (1 << wanted) - 1
        bits |= value << filled
        filled += wanted
    if filled < 8 * size:
        holes.append(Hole(filled, 8 * size, OPTIMIZED_OUT))
    return bits.to_bytes(size, "little"), tuple(holes)


def _fit(data: bytes, size: int) -> bytes:
    return data[:size].ljust(size, b"\0")
