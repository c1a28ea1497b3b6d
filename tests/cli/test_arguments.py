"""The spelling of addresses, lengths and bytes on a command line."""

from __future__ import annotations

import argparse
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.cli.arguments import parse_bytes, parse_length, parse_number, parse_place
from rsp.errors import SymbolError, SymbolNotFound
from rsp.symbols.table import SymbolTable
from rsp.testing.boot import ELF


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_in_both_spellings(number: int) -> None:
    assert parse_number(f"{number:#x}") == parse_number(str(number)) == number
    assert parse_place(f"{number:#x}").address(None) == number


@given(st.text(max_size=30))
def test_no_text_is_more_than_an_error_of_the_command_line(text: str) -> None:
    for parse in (parse_number, parse_place, parse_length, parse_bytes):
        with contextlib.suppress(argparse.ArgumentTypeError):
            parse(text)


@pytest.mark.parametrize(
    ("text", "length"), [("1", 1), ("0x20", 32), ("64K", 65536), ("4M", 4 << 20), ("0x1G", 1 << 30)]
)
def test_lengths(text: str, length: int) -> None:
    assert parse_length(text) == length


@given(st.binary(min_size=1))
def test_bytes(data: bytes) -> None:
    assert parse_bytes(data.hex()) == parse_bytes(data.hex(" ").upper()) == data


def test_places_by_name() -> None:
    table = SymbolTable(ELF)
    assert parse_place("tick").address(table) == 0x7D12
    assert parse_place("tick+0x10").address(table) == 0x7D22
    assert parse_place("tick+8").address(table) == 0x7D1A
    with pytest.raises(SymbolNotFound, match="nearest: tick"):
        parse_place("tock").address(table)
    with pytest.raises(SymbolError, match="--symbols"):
        parse_place("tick").address(None)
