"""The order of a file's entries by address, kept for the next process.

Contents: a column of numbers in the cache, each of which says where an entry is. Not here: what
entries are, and their addresses: these are read from the file, whatever is kept.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.symbols.cache.cache import Cache

_FEW = 1 << 12
"""So many entries are sorted in less time than it takes to open a file."""
_WIDTH = 4


def load_order(cache: Cache, key: str | None, kind: str, *, limit: int) -> Sequence[int] | None:
    """Return the numbers that are in the cache, None without any.

    Args:
        cache: where they may be.
        key: of the file that they are of (`Image.address_key`); without one nothing is kept.
        kind: what they count.
        limit: all of them are below that.
    """
    if key is None or (data := cache.load(key, kind)) is None or len(data) % _WIDTH:
        return None
    order = data.cast("I")
    return order if max(order, default=limit) < limit else None


def store_order(cache: Cache, key: str | None, kind: str, order: Sequence[int]) -> None:
    """Keep numbers, unless they are few."""
    if key is not None and len(order) >= _FEW:
        try:
            cache.store(key, kind, array("I", order).tobytes())
        except OverflowError:
            return  # entries of a section of 4 GB
