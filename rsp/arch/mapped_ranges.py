"""All that page tables map, as ranges.

Contents: the walk through whole tables. Not here: the walk for one address (see ``paging``).

Source: Intel SDM volume 3A, chapter 4.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from rsp.arch.descriptors import page_entry
from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rsp.arch.paging import Paging

_PRESENT: Final = 1
_LARGE: Final = 1 << 7
_ADDRESS: Final = 0x000F_FFFF_FFFF_F000
# A table that is in many places maps the same memory everywhere: KASAN's shadow of what is not
# there, or a table that has an entry for itself.
_MOST_ALIASES: Final = 8
_MOST_TABLES: Final = 1 << 16


class Mapped(NamedTuple):
    """A range of linear addresses that is a range of physical ones.

    Attributes:
        address: the first linear address.
        physical: the physical address of that.
        size: in bytes.
    """

    address: int
    physical: int
    size: int

    def __repr__(self) -> str:
        return hex_repr(self)


def mapped_ranges(root: int, paging: Paging, read: Callable[[int, int], bytes]) -> Iterator[Mapped]:
    """Yield what page tables map, in the order of linear addresses, neighbours as one.

    Args:
        root: CR3, or the physical address of another first table.
        paging: the mode, which is not that of no paging.
        read: returns physical memory by address and length.
    """
    last: Mapped | None = None
    for each in _Walk(paging, read).table(root & paging.root, 0, 0):
        if (
            last is not None
            and last.address + last.size == each.address
            and last.physical + last.size == each.physical
        ):
            last = last._replace(size=last.size + each.size)
            continue
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last


class _Walk:
    def __init__(self, paging: Paging, read: Callable[[int, int], bytes]) -> None:
        self._paging = paging
        self._read = read
        self._seen: Counter[tuple[int, int]] = Counter()
        self._total = 0

    def table(self, at: int, depth: int, base: int) -> Iterator[Mapped]:
        """Yield what a table maps whose first entry is for an address."""
        paging = self._paging
        self._seen[at, depth] += 1
        self._total += 1
        if self._seen[at, depth] > _MOST_ALIASES or self._total > _MOST_TABLES:
            return
        count = 1 << paging.index_bits[depth]
        level = len(paging.index_bits) - depth
        shift = paging.width - sum(paging.index_bits[: depth + 1])
        size = 1 << shift
        sign = 0 if paging.width == 32 or depth else 1 << paging.width - 1
        may_be_large = level > 1 and level in paging.pages
        for index, entry in enumerate(self._entries(at, count)):
            if not entry & _PRESENT:
                continue
            address = base + (index << shift)
            if sign and address & sign:
                address += (1 << 64) - (sign << 1)
            if level == 1:
                yield Mapped(address, entry & _ADDRESS, size)
            elif may_be_large and entry & _LARGE:
                data = entry.to_bytes(paging.entry_size, "little")
                yield Mapped(address, page_entry(data, level=level).address, size)
            else:
                yield from self.table(entry & _ADDRESS, depth + 1, address)

    def _entries(self, at: int, count: int) -> Sequence[int]:
        size = self._paging.entry_size
        return struct.unpack(f"<{count}{'Q' if size == 8 else 'I'}", self._read(at, count * size))
