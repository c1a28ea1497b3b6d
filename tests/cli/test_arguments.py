"""The spelling of addresses, lengths and bytes on a command line."""

from __future__ import annotations

import argparse
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.cli.arguments import parse_bytes, parse_length, parse_number, parse_place
from rsp.location_spec import parse_location


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_in_both_spellings(number: int) -> None:
    assert parse_number(f"{number:#x}") == parse_number(str(number)) == number
    for text in (f"{number:#x}", str(number), f"0{number}"):
        assert parse_location(parse_place(text)).address == number


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


@pytest.mark.parametrize("text", ["tick", "tick+0x10", "*tick", ".text", "tick.part.0", "é"])
def test_names_are_for_the_target_to_find(text: str) -> None:
    assert parse_place(text) == text


@pytest.mark.parametrize(
    "text", ["", "boot.S:178", "boot.S:tick", "12abc", "tick+", "tick+ten", "0x1" + 16 * "0", "-1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"0x7c00"):
        parse_place(text)
