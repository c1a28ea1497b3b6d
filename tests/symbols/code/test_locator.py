"""Texts that stand for places, on the boot sector; against gdb: test_locations_live.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import SymbolNotFound
from rsp.symbols.table import SymbolTable
from rsp.testing.boot import ELF

TABLE = SymbolTable(ELF, cache=False)


@pytest.mark.parametrize("text", ["tick", " tick ", "*{address:#x}", "{address:#X}", "{address}"])
def test_a_place_in_every_spelling(text: str) -> None:
    address = TABLE["tick"].address
    (place,) = TABLE.locations(text.format(address=address))
    assert place.address == address
    assert place.function == "tick"
    assert not place.inlined
    assert (place.file or "").endswith("boot.S")
    line = TABLE.line(address)
    assert line is not None
    assert place.line == line.line


def test_a_line_and_the_next_one_with_code() -> None:
    address = TABLE["long_start"].address
    line = TABLE.line(address)
    assert line is not None
    (exact,) = TABLE.locations(f"boot.S:{line.line}")
    assert exact.address == address
    before = [TABLE.locations(f"boot.S:{number}")[0] for number in range(1, line.line + 1)]
    assert before[0].line > 1
    assert all(place.line >= number for number, place in enumerate(before, 1))
    assert before[-1] == exact


def test_an_offset_counts_from_the_symbol() -> None:
    tick = TABLE["tick"].address
    assert [place.address for place in TABLE.locations("tick+0x2")] == [tick + 2]
    assert [place.address for place in TABLE.locations("tick + 2")] == [tick + 2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tikc", "nearest: tick"),
        ("tikc+1", "nearest: tick"),
        ("boot.S:100000", "no code"),
        ("boot.c:1", "no source file 'boot.c'"),
        ("ot.S:1", "no source file"),
        ("other.S:tick", "no function"),
        ("", "a location is NAME"),
        ("boot.S:", "a location is NAME"),
    ],
)
def test_what_is_not_there_is_named(text: str, says: str) -> None:
    with pytest.raises(SymbolNotFound, match=says):
        TABLE.locations(text)


@given(st.text(st.sampled_from("tick0x1+*:. boot.S\0é"), max_size=12))
def test_any_text_has_places_or_none(text: str) -> None:
    try:
        places = TABLE.locations(text)
    except SymbolNotFound:
        return
    assert places
