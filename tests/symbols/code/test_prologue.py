"""Prologues by their bytes, as gas assembles them; by DWARF they are in test_locations_live.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.symbols.code.prologue import WINDOW, after_prologue

ENTRY = 0x401000

PROLOGUES_64 = {
    "none": ("", "31c0c3"),
    "push and mov": ("554889e5", "b801000000"),
    "the other mov": ("55488bec", "c3"),
    "endbr64": ("f30f1efa554889e5", "c3"),
    "endbr64 alone": ("", "f30f1efa31c0c3"),
    "push alone": ("", "5531c05dc3"),
    "the stack aligned by r10": ("4c8d5424084883e4f041ff72f8554889e5", "c3"),
    "the stack aligned by r10 behind endbr64": (
        "f30f1efa4c8d5424084883e4f041ff72f8554889e5",
        "c3",
    ),
    "the stack aligned by r13": ("41554c8d6c24104883e4e041ff75f8554889e5", "c3"),
}
PROLOGUES_32 = {
    "none": ("", "31c0c3"),
    "push and mov": ("5589e5", "31c0"),
    "a frame": ("5589e583ec18", "c3"),
    "a large frame and registers": ("5589e581ec00020000575653", "c3"),
    "endbr32": ("f30f1efb5589e5", "c3"),
    "push alone": ("", "5531c05dc3"),
    "main": ("8d4c240483e4f0ff71fc5589e55183ec14", "c3"),
    "what gcc moves between": ("5531c0b90500000089e5", "c3"),
    "enter": ("c8100000", "c3"),
    "hot patching": ("8bff5589e5", "c3"),
}


@pytest.mark.parametrize(("skipped", "rest"), PROLOGUES_64.values(), ids=PROLOGUES_64)
def test_the_frame_of_a_64_bit_function_is_skipped(skipped: str, rest: str) -> None:
    assert behind(bytes.fromhex(skipped + rest), 8) == len(skipped) // 2


@pytest.mark.parametrize(("skipped", "rest"), PROLOGUES_32.values(), ids=PROLOGUES_32)
def test_the_frame_of_a_32_bit_function_is_skipped(skipped: str, rest: str) -> None:
    skips = len(skipped) // 2
    # The pushes before the frame's size, which gdb takes with the frame, end where none follows.
    assert behind(bytes.fromhex(skipped + rest), 4) == (skips if "51" not in skipped[-10:] else 14)


@given(st.binary(max_size=2 * WINDOW), st.sampled_from([4, 8]))
def test_no_bytes_lead_out_of_the_window(code: bytes, word_size: int) -> None:
    assert 0 <= behind(code[:WINDOW], word_size) <= WINDOW


def behind(code: bytes, word_size: int) -> int:
    end = ENTRY + len(code)
    address = after_prologue(code, ENTRY, end, word_size=word_size, is_inlined=lambda _: False)
    return address - ENTRY
