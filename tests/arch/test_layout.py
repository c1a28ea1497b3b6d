"""Decoding and encoding of every known layout, and names for parts of registers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.arch.layout import Kind, Register, RegisterLayout, Role, SubRegister, place
from rsp.arch.layouts import LAYOUTS, layout_for_length
from rsp.arch.registers import Registers
from rsp.errors import LocalProtocolError, RegisterUnavailable

if TYPE_CHECKING:
    from random import Random

DATA = Path(__file__).parent / "data"

layouts = st.sampled_from(LAYOUTS)


@st.composite
def replies(draw: st.DrawFn) -> tuple[RegisterLayout, bytes, bytes | None]:
    """A layout, a ``g`` of any length near its own, and which bytes of it came as ``xx``."""
    layout = draw(layouts)
    length = draw(st.sampled_from([layout.size, layout.size, 0, layout.size + 5])) or draw(
        st.integers(0, layout.size)
    )
    data = draw(st.randoms(use_true_random=False)).randbytes(length)
    spans = draw(st.lists(st.tuples(st.integers(0, length), st.integers(1, 20)), max_size=3))
    mask = bytearray(length)
    for start, count in spans:
        mask[start : start + count] = b"\x01" * len(mask[start : start + count])
    return layout, data, draw(st.sampled_from([bytes(mask), None]))


@given(replies())
def test_decode_inverts_encode(reply: tuple[RegisterLayout, bytes, bytes | None]) -> None:
    layout, data, unavailable = reply
    values = layout.decode(data, unavailable)
    assert set(values) == {register.name for register in layout.registers}
    assert layout.decode(*layout.encode(values)) == values


@given(replies())
def test_a_register_is_the_bytes_at_its_place(
    reply: tuple[RegisterLayout, bytes, bytes | None],
) -> None:
    layout, data, unavailable = reply
    values = layout.decode(data, unavailable)
    for register in layout.registers:
        expected = None
        if register.offset is not None:
            end = register.offset + register.size
            marks = (unavailable or b"")[register.offset : end]
            if end <= len(data) and not any(marks):
                expected = layout.from_bytes(register.name, data[register.offset : end])
        assert values[register.name] == expected


@given(layouts, st.randoms(use_true_random=False))
def test_encode_inverts_decode_where_the_stub_fills_everything(
    layout: RegisterLayout, random: Random
) -> None:
    data = random.randbytes(layout.size)
    if all(register.valid is None for register in layout.registers):
        assert layout.encode(layout.decode(data)) == (data, None)


@given(layouts, st.binary(max_size=3000), st.none() | st.binary(max_size=3000))
def test_any_bytes_decode(layout: RegisterLayout, data: bytes, unavailable: bytes | None) -> None:
    values = layout.decode(data, unavailable)
    for register in layout.registers:
        value = values[register.name]
        assert value is None or 0 <= value < 1 << register.bits


@given(layouts, st.randoms(use_true_random=False))
def test_construct_parses_the_same(layout: RegisterLayout, random: Random) -> None:
    data = random.randbytes(layout.size)
    form = layout.as_construct()
    parsed = {name: value for name, value in form.parse(data).items() if name != "_io"}
    assert form.sizeof() == layout.size
    assert parsed == {
        name: value for name, value in layout.decode(data).items() if value is not None
    }
    assert layout.decode(form.build(parsed)) == layout.decode(data)


def test_a_g_from_the_field() -> None:
    """536 bytes of a QEMU guest halted in the kernel, which gdb refused as too long."""
    data = bytes.fromhex((DATA / "g-x86-64-536.hex").read_text())
    layout = layout_for_length(len(data))
    values = layout.decode(data)
    assert (layout.name, layout.arch) == ("qemu-2-x86-64", "x86-64")
    assert values["rip"] == 0xFFFFFFFF81045716
    assert values["rsp"] == 0xFFFFFFFF81A01EC8
    assert (values["eflags"], values["cs"]) == (0x246, 0x10)
    assert (values["fctrl"], values["mxcsr"]) == (0x37F, 0x1F80)
    assert layout.read(values, "eip") == 0x81045716


def test_a_short_reply_has_what_is_wholly_in_it() -> None:
    layout = layout_for_length(608)
    values = layout.decode(bytes(range(1, 21)))
    assert values["rax"] == 0x0807060504030201
    assert values["rbx"] == 0x100F0E0D0C0B0A09
    assert [name for name, value in values.items() if value is not None] == ["rax", "rbx"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rax", 0x1122334455667788),
        ("eax", 0x55667788),
        ("ax", 0x7788),
        ("al", 0x88),
        ("ah", 0x77),
        ("r8d", 0xFFFFFFFF),
        ("r8w", 0xFFFF),
        ("r8b", 0xFF),
        ("r8l", 0xFF),
        ("sil", 0x34),
        ("ymm1", 0xAAAA << 128 | 0xBBBB),
        ("zmm1", 0xCCCC << 256 | 0xAAAA << 128 | 0xBBBB),
        ("ymm2", None),
    ],
)
def test_read_names_of_parts(name: str, value: int | None) -> None:
    layout = layout_for_length(2420)
    values: dict[str, int | None] = {
        "rax": 0x1122334455667788,
        "r8": (1 << 64) - 1,
        "rsi": 0x1234,
        "xmm1": 0xBBBB,
        "ymm1h": 0xAAAA,
        "zmm1h": 0xCCCC,
        "xmm2": 1,
        "ymm2h": None,
    }
    assert layout.read(values, name) == value


def test_the_layout_decides_which_names_there_are() -> None:
    assert "ymm0" in layout_for_length(816)
    assert "zmm0" not in layout_for_length(816)
    assert "ymm0" not in layout_for_length(608)
    assert "r8d" not in layout_for_length(312)
    assert isinstance(layout_for_length(312)["ax"], SubRegister)
    assert isinstance(layout_for_length(312)["eax"], Register)


def test_writing_a_part_keeps_the_rest() -> None:
    layout = layout_for_length(816)
    values = {"rax": 0x1122334455667788, "xmm0": 5, "ymm0h": 6}
    assert layout.write(values, "eax", 0x99) == {"rax": 0x1122334400000099}
    assert layout.write(values, "ah", 0x12) == {"rax": 0x1122334455661288}
    assert layout.write(values, "rax", 1) == {"rax": 1}
    assert layout.write(values, "ymm0", 7 << 128 | 8) == {"xmm0": 8, "ymm0h": 7}
    with pytest.raises(RegisterUnavailable, match="write rbx as a whole"):
        layout.write(values, "bl", 1)


@given(st.sampled_from([lay for lay in LAYOUTS if lay.sub_registers]), st.data())
def test_what_is_written_is_read(layout: RegisterLayout, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(layout.sub_registers)))
    value = data.draw(st.integers(0, (1 << layout[name].bits) - 1))
    values: dict[str, int | None] = {
        r.name: data.draw(st.integers(0, (1 << r.bits) - 1)) for r in layout.registers
    }
    assert layout.read(values | layout.write(values, name, value), name) == value


def test_unknown_names_say_the_nearest() -> None:
    layout = layout_for_length(608)
    with pytest.raises(RegisterUnavailable, match="nearest: rax") as caught:
        layout["raxx"]
    assert caught.value.register == "raxx"
    with pytest.raises(RegisterUnavailable, match="number 999"):
        layout.by_number(999)
    with pytest.raises(RegisterUnavailable, match="DWARF number 999"):
        layout.by_dwarf(999)
    with pytest.raises(RegisterUnavailable):
        layout.encode({"nonesuch": 1})
    with pytest.raises(RegisterUnavailable, match="made of rax"):
        layout.encode({"eax": 1})


@pytest.mark.parametrize("value", [-1, 1 << 32, 1 << 64])
def test_values_that_do_not_fit(value: int) -> None:
    layout = layout_for_length(608)
    with pytest.raises(LocalProtocolError, match="eflags"):
        layout.encode({"eflags": value})
    with pytest.raises(LocalProtocolError, match="eax"):
        layout.write({"rax": 0}, "eax", value)
    with pytest.raises(LocalProtocolError, match="cs"):
        layout.to_bytes("cs", value)


def test_roles_do_not_depend_on_names() -> None:
    names = {
        arch: [layout_for_length(length).role(role).name for role in Role]
        for arch, length in (("x86-64", 608), ("i386", 344))
    }
    assert names == {
        "x86-64": ["rip", "rsp", "rbp", "eflags", "cs", "ss", "rax"],
        "i386": ["eip", "esp", "ebp", "eflags", "cs", "ss", "eax"],
    }
    with pytest.raises(RegisterUnavailable):
        RegisterLayout(name="none", arch="i386", registers=()).role(Role.PC)


def test_a_layout_without_sense_is_refused() -> None:
    one = Register(name="a", bits=32, kind=Kind.INTEGER)
    with pytest.raises(ValueError, match="same name"):
        RegisterLayout(name="bad", arch="i386", registers=place([one, one]))
    other = Register(name="b", bits=32, offset=2)
    with pytest.raises(ValueError, match="b lies on the one before it"):
        RegisterLayout(name="bad", arch="i386", registers=(*place([one]), other))


def test_a_register_that_is_not_there_has_the_default() -> None:
    registers = Registers(layout_for_length(164), [0] * len(layout_for_length(164).registers))
    assert (registers.get("rax"), registers.get("al"), registers.get("rax", 5)) == (0, 0, 0)
    assert (registers.get("cr9"), registers.get("cr9", 5), registers.get("cr9", default="no")) == (
        None,
        5,
        "no",
    )
