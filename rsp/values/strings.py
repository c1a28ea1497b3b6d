"""Strings in memory, which end with a NUL.

Contents: how one is read, in pieces that do not go past the end of mapped memory. Not here: how a
string is shown (see `text`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.errors import MemoryFault

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECE: Final = 64
_SPACE: Final = 1 << 64


def read_string(read: Callable[[int, int], bytes], address: int, max_size: int) -> bytes:
    r"""Read bytes up to a NUL, which is not returned, or ``max_size`` of them.

    Args:
        read: returns memory by address and length, or raises MemoryFault.
        address: of the first byte.
        max_size: in bytes.

    Raises:
        MemoryFault: memory ends before the string does; ``partial`` has what there is.

    >>> read_string(lambda at, size: b"comm\0rest"[at : at + size], 0, 16)
    b'comm'
    """
    text = b""
    while len(text) < max_size:
        # Up to a boundary, so that a string at the end of mapped memory is not missed.
        at = (address + len(text)) % _SPACE
        size = min(_PIECE - at % _PIECE, max_size - len(text))
        try:
            piece = read(at, size)
        except MemoryFault as fault:
            piece = fault.partial
            if b"\0" not in piece:
                fault.partial = text + piece
                raise
        text += piece
        if b"\0" in piece:
            break
    return text.partition(b"\0")[0]
