"""Ranges of addresses, and arithmetic on those that are in order.

Contents: unions, parts and differences. Not here: what page tables map (see
`rsp.arch.mapped_ranges`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Range(NamedTuple):
    """Addresses from ``begin`` up to ``end``, which is not one of them."""

    begin: int
    end: int

    def __repr__(self) -> str:
        return hex_repr(self)


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
