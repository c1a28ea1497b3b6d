"""Hex dumps, names of addresses, flags, and text that a stub chose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rsp.arch.flags import flags_text
from rsp.cli.text import hex_dump, place, printable
from rsp.symbols.at_pc.symbolize import name_at
from rsp.symbols.table import SymbolTable
from rsp.testing.boot import ELF


@given(st.binary(max_size=100), st.integers(0, 1 << 63))
def test_a_dump_has_every_byte_at_its_address(data: bytes, address: int) -> None:
    found = bytearray()
    for line in hex_dump(address, data):
        where, rest = line.split(" ", 1)
        assert int(where, 16) == address + len(found)
        digits, text, end = rest.split("|", 1)[0], *rest.split("|", 1)[1].rsplit("|", 1)
        row = bytes.fromhex(digits)
        assert (len(text), end) == (len(row), "")
        assert text == "".join(chr(b) if 32 <= b < 127 else "." for b in row)
        found += row
    assert found == data


def test_a_dump_is_that_of_hexdump() -> None:
    # `hexdump -C` of util-linux 2.38 on these bytes, without its last line.
    assert list(hex_dump(0, bytes(range(0x1A, 0x30)))) == [
        "00000000  1a 1b 1c 1d 1e 1f 20 21  22 23 24 25 26 27 28 29  |...... !\"#$%&'()|",
        "00000010  2a 2b 2c 2d 2e 2f                                 |*+,-./|",
    ]


@given(st.text())
def test_no_text_moves_the_cursor(text: str) -> None:
    assert printable(text).isprintable()


def test_names_of_places() -> None:
    table = SymbolTable(ELF)
    assert name_at(table, 0x7D12) == "tick"
    assert place(table, 0x7D15) == "0x7d15 <tick+3>"
    assert (name_at(table, 5), place(table, 5)) == (None, "0x5")
    assert (name_at(None, 0x7D12), place(None, 0x7D12)) == (None, "0x7d12")


def test_flags() -> None:
    assert flags_text("eflags", 0x246) == "[ IF ZF PF ]"
    assert flags_text("cr0", 0x80000011) == "[ PG ET PE ]"
    assert flags_text("rax", 0x246) is None
