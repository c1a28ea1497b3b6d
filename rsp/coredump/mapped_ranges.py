"""All that page tables map, as ranges.

Contents: the walk through whole tables, and arithmetic on ranges that are in order. Not here: the
walk for one address (see ``rsp.arch.paging``).

Source: Intel SDM volume 3A, chapter 4.
"""

from __future__ import annotations

import struct
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from rsp.arch.descriptors import page_entry
from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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


class Range(NamedTuple):
    """Addresses from ``begin`` up to ``end``, which is not one of them."""

    begin: int
    end: int

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


def union(ranges: Iterable[Range]) -> list[Range]:
    """Return ranges in order, those that touch as one.

    >>> union([Range(8, 9), Range(0, 4), Range(2, 6), Range(6, 7)])
    [Range(begin=0x0, end=0x7), Range(begin=0x8, end=0x9)]
    """
    out: list[Range] = []
    for begin, end in sorted(ranges):
        if out and begin <= out[-1].end:
            out[-1] = Range(out[-1].begin, max(end, out[-1].end))
        elif begin < end:
            out.append(Range(begin, end))
    return out


def parts_within(wanted: Range, ranges: Sequence[Range]) -> Iterator[tuple[Range, Range]]:
    """Yield what of a range is in some others, which are in order, each with that other."""
    for each in ranges:
        begin, end = max(wanted.begin, each.begin), min(wanted.end, each.end)
        if begin < end:
            yield Range(begin, end), each


def without(ranges: Iterable[Range], taken: Sequence[Range]) -> Iterator[Range]:
    """Yield what of some ranges, in order, is in none of those taken, a `union`.

    >>> list(without([Range(0, 10), Range(20, 30)], [Range(2, 4), Range(8, 22)]))
    [Range(begin=0x0, end=0x2), Range(begin=0x4, end=0x8), Range(begin=0x16, end=0x1e)]
    """
    first = 0
    for begin, end in ranges:
        while first < len(taken) and taken[first].end <= begin:
            first += 1
        at = first
        while begin < end and at < len(taken) and taken[at].begin < end:
            if taken[at].begin > begin:
                yield Range(begin, taken[at].begin)
            begin = max(begin, taken[at].end)
            at += 1
        if begin < end:
            yield Range(begin, end)
