"""Where a variable is: what a DWARF expression comes to (DWARF 5, section 2.6).

Contents: the kinds of locations. Not here: how one is found (`expressions`), and what is there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InMemory:
    """It is at an address."""

    address: int


@dataclass(frozen=True, slots=True)
class InRegister:
    """It is in a register, by its DWARF number; less than all of it in the low bytes."""

    register: int


@dataclass(frozen=True, slots=True)
class Value:
    """It is nowhere, but its value is known.

    Attributes:
        data: little-endian, in the size of the type that it was computed in; where that has more
            bytes than the variable, the low ones count.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class ImplicitPointer:
    """A pointer to something that is nowhere, but may be known: the variable that an entry is of.

    Attributes:
        die: where that entry is in .debug_info.
        offset: how many bytes into the variable it points.
    """

    die: int
    offset: int


@dataclass(frozen=True, slots=True)
class OptimizedOut:
    """It has no location here, or none that could be told without the caller's caller."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """It cannot be told where it is, for a reason that is no fault of the program."""

    reason: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bits of a variable, from bit ``offset`` of a location on."""

    location: Simple
    bits: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Pieces:
    """Its parts are at different places, the least significant first."""

    pieces: tuple[Piece, ...]


Simple = InMemory | InRegister | Value | ImplicitPointer | OptimizedOut
Location = Simple | Pieces | Unavailable
