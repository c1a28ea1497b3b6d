"""What a user writes for a location: the one grammar of it, and of the numbers in it.

Contents: gdb's location specifications (gdb manual, "Location Specifications"), as far as they are
understood here, taken apart. Not here: where a location is (see ``rsp.symbols.code.locator`` for
files, ``rsp.target.placement`` for a target).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rsp import arguments
from rsp.errors import ArgumentError
from rsp.reprs import hex_repr

FORMS: Final = "NAME, NAME+0x10, FILE:LINE, FILE:NAME or an address (0x7c00)"

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")
_NAME: Final = re.compile(r"(?:[^\W\d]|[.$])[\w.$@]*")
_LONGEST: Final = 40
"""Digits of a number; what has more is beyond every address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocationSpec:
    """A location as it was written (gdb: location specification).

    Attributes:
        text: all of it, without blanks around it.
        address: the number that it is.
        name: of a symbol or a function.
        offset: how many bytes behind the symbol; 0 for ``*NAME``, which is the very begin of a
            function. None means where a breakpoint on the function goes, behind its prologue.
        file: the source file, or the last components of its path.
        line: the line in that.
    """

    text: str
    address: int | None = None
    name: str | None = None
    offset: int | None = None
    file: str | None = None
    line: int | None = None

    def __repr__(self) -> str:
        return hex_repr(self)


def parse_number(text: str) -> int | None:
    """Return the number that a text is, hexadecimal behind 0x and else decimal; None for none.

    >>> parse_number("0x10"), parse_number("010"), parse_number("ten")
    (16, 10, None)
    """
    if len(text) > _LONGEST or _NUMBER.fullmatch(text) is None:
        return None
    return int(text, 16 if text[:2] in ("0x", "0X") else 10)


def parse_location(given: object) -> LocationSpec:
    """Take the text of a location apart.

    >>> parse_location("start_kernel+0x10").offset
    16
    >>> parse_location("tcp.c:414").file
    'tcp.c'

    Raises:
        ArgumentError: it is no location; the message says what is one.
    """
    text = arguments.text(given, "the location", FORMS).strip()
    exact = text.startswith("*")
    body = text.removeprefix("*").strip()
    address = parse_number(body)
    if address is not None:
        if address >= arguments.END:
            raise _no_location(text, "its address is not within 64 bits")
        return LocationSpec(text=text, address=address)
    head, colon, tail = body.rpartition(":")
    if colon and not exact:
        if not head or not tail:
            raise _no_location(text)
        line = parse_number(tail) if tail.isdecimal() else None
        if line is not None:
            return LocationSpec(text=text, file=head, line=line)
        return LocationSpec(text=text, file=head, name=tail)
    head, plus, tail = body.rpartition("+")
    name = head.strip() if plus else body
    if _NAME.fullmatch(name) is None:
        raise _no_location(text)
    offset = parse_number(tail.strip()) if plus else 0 if exact else None
    if plus and offset is None:
        raise _no_location(text, f"{tail.strip()!r} is no offset")
    return LocationSpec(text=text, name=name, offset=offset)


def _no_location(text: str, why: str = "") -> ArgumentError:
    reason = f": {why}" if why else ""
    return ArgumentError(f"{arguments.shown(text)} is no location{reason}; a location is {FORMS}")
