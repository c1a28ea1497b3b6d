"""The order of a file's entries by address, kept for the next process.

Here lives: a column of numbers in the cache, each of which says where an entry is. Here must not
live: what entries are, and their addresses: these are read from the file, whatever is kept.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from rsp.symbols.cache import image_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.symbols.cache import Cache
    from rsp.symbols.image import Image

_FEW = 1 << 12
"""So many entries are sorted in less time than it takes to open a file."""
_WIDTH = 4


def load_order(image: Image, cache: Cache, kind: str, *, limit: int) -> Sequence[int] | None:
    """Return the numbers that are in the cache, None without any.

    Args:
        image: the file that they are of.
        cache: where they may be.
        kind: what they count.
        limit: all of them are below that.
    """
    key = image_key(image)
    if image.relocatable or key is None or (data := cache.load(key, kind)) is None:
        return None
    if len(data) % _WIDTH:
        return None
    order = data.cast("I")
    return order if max(order, default=limit) < limit else None


def store_order(image: Image, cache: Cache, kind: str, order: Sequence[int]) -> None:
    """Keep numbers, unless they are few; those of a module depend on where it is placed."""
    key = image_key(image)
    if key is not None and not image.relocatable and len(order) >= _FEW:
        try:
            cache.store(key, kind, array("I", order).tobytes())
        except OverflowError:
            return  # entries of a section of 4 GB
