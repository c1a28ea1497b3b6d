"""What a user writes for a location: the one grammar of it, and of the numbers in it.

Contents: gdb's location specifications (gdb manual, "Location Specifications"), as far as they are
understood here, and the places that Linux prints (``vfs_read+0x10/0x2f0 [module]``), taken apart.
Not here: where a location is (see ``rsp.symbols.code.locator`` for
files, ``rsp.inferior.locations`` for a target).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from rsp import arguments
from rsp.errors import ArgumentError
from rsp.reprs import hex_repr

FORMS: Final = (
    "NAME, NAME+0x10, NAME+0x10/0x2f0 [MODULE], FILE:LINE, FILE:NAME or an address (0x7c00)"
)

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")
_NAME: Final = re.compile(r"(?:[^\W\d]|[.$])[\w.$@]*")
_MODULE: Final = re.compile(r"(.*\S)\s+\[([\w-]+)(?: [0-9a-f]{2,})?\]")
"""As Linux's %pS writes it behind a place, with CONFIG_STACKTRACE_BUILD_ID its build-id, too."""
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
        size: of the symbol, in bytes, as the kernel counts it: it chooses among several of a name.
        module: the name of the kernel module that the symbol is of; None where none was written.
        file: the source file, or the last components of its path.
        line: the line in that.
    """

    text: str
    address: int | None = None
    name: str | None = None
    offset: int | None = None
    size: int | None = None
    module: str | None = None
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
    >>> parse_location("xfs_read+0x10/0x2f0 [xfs]").module
    'xfs'

    Raises:
        ArgumentError: it is no location; the message says what is one.
    """
    text = arguments.text(given, "the location", FORMS).strip()
    module = None
    body = text
    if (marked := _MODULE.fullmatch(body)) is not None:
        body, module = marked[1], marked[2].replace("-", "_")
    exact = body.startswith("*")
    body = body.removeprefix("*").strip()
    address = parse_number(body)
    if address is not None and module is None:
        if address >= arguments.END:
            raise _no_location(text, "its address is not within 64 bits")
        return LocationSpec(text=text, address=address)
    head, colon, tail = body.rpartition(":")
    if colon and not exact and module is None:
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
    if not plus:
        return LocationSpec(text=text, name=name, offset=0 if exact else None, module=module)
    distance, slash, extent = tail.partition("/")
    offset = parse_number(distance.strip())
    if offset is None:
        raise _no_location(text, f"{distance.strip()!r} is no offset")
    size = parse_number(extent.strip()) if slash else None
    if slash and (size is None or offset > size):
        raise _no_location(text, f"{extent.strip()!r} is no size that {distance.strip()} is within")
    return LocationSpec(text=text, name=name, offset=offset, size=size, module=module)


def _no_location(text: str, why: str = "") -> ArgumentError:
    reason = f": {why}" if why else ""
    return ArgumentError(f"{arguments.shown(text)} is no location{reason}; a location is {FORMS}")
