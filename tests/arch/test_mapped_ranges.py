"""All that page tables map, as ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rsp.arch.mapped_ranges import Mapped, mapped_ranges
from rsp.arch.paging import PAGING_4, PAGING_32, PAGING_PAE

if TYPE_CHECKING:
    from rsp.arch.paging import Paging


@pytest.mark.parametrize(
    ("paging", "entries", "expected"),
    [
        (
            PAGING_4,
            {
                # 4 KiB pages that touch, one that does not, 2 MiB, 1 GiB, the upper half.
                0x1000: 0x2003,
                0x2000: 0x3003,
                0x3000: 0x4003,
                0x4000 + 8: 0x9003,
                0x4000 + 16: 0xA003,
                0x4000 + 32: 0xC003,
                0x3000 + 8: 0x40_0083,
                0x2000 + 8: 0x4000_0083,
                0x1000 + 8 * 511: 0x2003,
            },
            [
                *((0x1000, 0x9000, 0x2000), (0x4000, 0xC000, 0x1000)),
                *((0x20_0000, 0x40_0000, 0x20_0000), (0x4000_0000, 0x4000_0000, 0x4000_0000)),
                (0xFFFF_FF80_0000_1000, 0x9000, 0x2000),
                (0xFFFF_FF80_0000_4000, 0xC000, 0x1000),
                (0xFFFF_FF80_0020_0000, 0x40_0000, 0x20_0000),
                (0xFFFF_FF80_4000_0000, 0x4000_0000, 0x4000_0000),
            ],
        ),
        (
            PAGING_32,
            {0x1000: 0x2003, 0x2000: 0x5003, 0x1000 + 4 * 1023: 0x80_0083},
            [(0, 0x5000, 0x1000), (0xFFC0_0000, 0x80_0000, 0x40_0000)],
        ),
        (
            PAGING_PAE,
            {0x1000 + 24: 0x2001, 0x2000: 0x3003, 0x3000: 1 << 63 | 0x1_0000_0003},
            [(0xC000_0000, 0x1_0000_0000, 0x1000)],
        ),
    ],
)
def test_all_that_page_tables_map(
    paging: Paging, entries: dict[int, int], expected: list[tuple[int, int, int]]
) -> None:
    size = paging.entry_size

    def read(at: int, length: int) -> bytes:
        return b"".join(
            entries.get(each, 0).to_bytes(size, "little") for each in range(at, at + length, size)
        )

    assert list(mapped_ranges(0x1000, paging, read)) == [Mapped(*each) for each in expected]


def test_tables_that_have_themselves_in_them_end() -> None:
    """As an operating system that maps its tables by an entry for the first one."""

    def read(at: int, length: int) -> bytes:
        return (0x1003).to_bytes(8, "little") * (length // 8)

    assert len(list(mapped_ranges(0x1000, PAGING_4, read))) < 100_000
