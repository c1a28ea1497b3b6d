"""The value at a location.

Contents: the bytes at a location, and which of them are not known. Not here: which location a
variable has (see `rsp.symbols.at_pc`), what frames know of registers (see
`rsp.frames.frame_context`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.symbols.at_pc.variable_location import (
    ImplicitPointer,
    InMemory,
    InRegister,
    Pieces,
    Unavailable,
)
from rsp.symbols.at_pc.variable_location import Value as Computed
from rsp.values.value import OPTIMIZED_OUT, UNAVAILABLE, Hole, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.symbols.at_pc.variable_location import Context, Location, Piece
    from rsp.symbols.types.types import Type
    from rsp.values.value import Space

SYNTHETIC_POINTER = "<synthetic pointer>"


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
