"""Descriptors and table entries: bytes made by hand from the SDM's figures, and round trips."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.arch import constructs
from rsp.arch.descriptors import (
    gate,
    gates,
    page_entry,
    pt_regs,
    segment_descriptor,
    segment_descriptors,
)
from rsp.errors import LocalProtocolError

CODE_64 = bytes.fromhex("ffff0000009baf00")
CODE_32 = bytes.fromhex("ffff0000009bcf00")
TSS_64 = bytes.fromhex("67400030008b0000") + bytes.fromhex("00feffff00000000")


def test_code_segments() -> None:
    wide, narrow = segment_descriptor(CODE_64), segment_descriptor(CODE_32)
    assert (wide.base, wide.limit, wide.type) == (0, 0xFFFFFFFF, 0xB)
    assert (wide.long, wide.default_big, wide.granularity) == (True, False, True)
    assert (narrow.long, narrow.default_big) == (False, True)
    assert (wide.present, wide.code, wide.available) == (True, True, False)


def test_a_base_in_pieces() -> None:
    user = segment_descriptor(bytes.fromhex("78 56 11 22 33 f2 40 44"))
    assert user.base == 0x44332211
    assert (user.limit, user.dpl, user.code) == (0x5678, 3, False)


def test_a_table_with_a_wide_tss() -> None:
    table = bytes(8) + CODE_64 + TSS_64 + CODE_32 + b"\1\2\3"
    found = dict(segment_descriptors(table, long_mode=True))
    assert list(found) == [8, 16, 32]
    assert found[16].base == 0xFFFFFE0000003000
    assert (found[16].limit, found[16].code_or_data, found[16].type) == (0x4067, False, 0xB)
    legacy = dict(segment_descriptors(table, long_mode=False))
    assert list(legacy) == [8, 16, 24, 32]
    assert legacy[16].base == 0x3000


def test_gates() -> None:
    wide = struct.pack("<HHBBHII", 0x0B50, 0x10, 2, 0x8E, 0x81A0, 0xFFFFFFFF, 0)
    assert gate(wide) == gates(wide + b"\0", long_mode=True)[0]
    assert (gate(wide).offset, gate(wide).selector) == (0xFFFFFFFF81A00B50, 0x10)
    assert (gate(wide).ist, gate(wide).type, gate(wide).dpl) == (2, 14, 0)
    narrow = struct.pack("<HHBBH", 0x5678, 0x60, 0, 0xEF, 0xC010)
    assert (gate(narrow).offset, gate(narrow).dpl, gate(narrow).type) == (0xC0105678, 3, 15)
    task = struct.pack("<HHBBH", 0xDEAD, 0xF8, 0, 0x85, 0xBEEF)
    assert (gate(task).offset, gate(task).selector) == (0, 0xF8)
    assert len(gates(narrow * 3, long_mode=False)) == 3


@pytest.mark.parametrize(
    ("entry", "length", "level", "address", "size"),
    [
        (0x0000000000003067, 8, 4, 0x3000, None),
        (0x0000000000003067, 8, 1, 0x3000, 1 << 12),
        (0x00000000000030E7, 8, 1, 0x3000, 1 << 12),
        (0x80000000402011E3, 8, 2, 0x40200000, 1 << 21),
        (0x80000000400001E3, 8, 3, 0x40000000, 1 << 30),
        (0x00000000000030E7, 8, 5, 0x3000, None),
        (0x00003067, 4, 2, 0x3000, None),
        (0x004000E3, 4, 2, 0x400000, 1 << 22),
        (0x004020E3, 4, 2, 0x1_0040_0000, 1 << 22),
        (0x00003063, 4, 1, 0x3000, 1 << 12),
    ],
)
def test_page_entries(entry: int, length: int, level: int, address: int, size: int | None) -> None:
    read = page_entry(entry.to_bytes(length, "little"), level=level)
    assert (read.address, read.size) == (address, size)
    assert (read.present, read.writable, read.user) == (True, True, bool(entry & 4))
    assert read.no_execute == bool(entry >> 63)


def test_page_entry_bits() -> None:
    pkey = page_entry((0b1010 << 59 | 0x1000 | 0x119).to_bytes(8, "little"), level=1)
    assert (pkey.protection_key, pkey.global_, pkey.present) == (10, True, True)
    assert (pkey.write_through, pkey.cache_disable, pkey.writable) == (True, True, False)


def test_pt_regs() -> None:
    names = list(constructs.PT_REGS_X86_64.parse(bytes(168)))
    wide = pt_regs(struct.pack("<21Q", *range(100, 121)))
    assert (wide["r15"], wide["rax"], wide["orig_rax"], wide["rip"]) == (100, 110, 115, 116)
    assert (wide["eflags"], wide["rsp"], wide["ss"]) == (118, 119, 120)
    assert [name for name in names if name != "_io"] == list(wide)
    narrow = pt_regs(struct.pack("<17I", *range(0x20000, 0x20011)))
    assert (narrow["ebx"], narrow["eip"], narrow["esp"]) == (0x20000, 0x2000C, 0x2000F)
    assert narrow["cs"] == 0xD


@pytest.mark.parametrize("length", [0, 3, 7, 9, 15, 17, 67, 167])
def test_wrong_lengths(length: int) -> None:
    for read in (segment_descriptor, gate, pt_regs):
        with pytest.raises(LocalProtocolError, match=f"{length} bytes"):
            read(bytes(length))
    with pytest.raises(LocalProtocolError):
        page_entry(bytes(length), level=1)


@pytest.mark.parametrize(
    ("form", "fixed"),
    [
        (constructs.SEGMENT_DESCRIPTOR, 0),
        (constructs.PAGE_ENTRY_32, 0),
        (constructs.PAGE_ENTRY_64, 0),
        # Bits that are reserved, or zero for a gate, are not kept.
        (constructs.LONG_SYSTEM_DESCRIPTOR, 0xFFFFFFFF << 96),
        (constructs.GATE_32, 0xFF << 32 | 1 << 44),
        (constructs.GATE_64, 0xFFFFFFFF << 96 | 0xF8 << 32 | 1 << 44),
        (constructs.PT_REGS_I386, 0),
        (constructs.PT_REGS_X86_64, 0),
    ],
)
@given(data=st.data())
def test_declarations_build_what_they_parse(form: Any, fixed: int, data: st.DataObject) -> None:
    size = form.sizeof()
    value = data.draw(st.integers(0, (1 << size * 8) - 1)) & ~fixed
    raw = value.to_bytes(size, "little")
    assert form.build(form.parse(raw)) == raw


@given(st.binary(max_size=200), st.booleans())
def test_any_table_is_read(table: bytes, long_mode: bool) -> None:
    for selector, _ in segment_descriptors(table, long_mode=long_mode):
        assert 0 <= selector < len(table)
    assert len(gates(table, long_mode=long_mode)) == len(table) // (16 if long_mode else 8)
