"""Which layout goes with which length, and what kgdb's and old QEMU's are like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.arch.layout import Register, RegisterLayout
from rsp.arch.layouts import LAYOUTS, layout_for_length
from rsp.errors import RegisterUnavailable


@pytest.mark.parametrize(
    ("length", "arch", "name"),
    [
        (64, "i386", "bochs-i386"),
        (148, "x86-64", "kgdb-2.6-x86-64"),
        (156, "x86-64", "kgdb-x86-64"),
        (164, "x86-64", "bochs-x86-64"),
        (176, "i386", "virtualbox-i386"),
        (276, "x86-64", "virtualbox-x86-64"),
        (308, "i386", "qemu-2-i386"),
        (312, "i386", "gdbserver-i386"),
        (344, "i386", "qemu-i386"),
        (536, "x86-64", "qemu-2-x86-64"),
        (544, "x86-64", "valgrind-x86-64"),
        (560, "x86-64", "gdbserver-x86-64"),
        (572, "x86-64", "qemu-4-x86-64-in-32-bit"),
        (608, "x86-64", "qemu-x86-64"),
        (800, "x86-64", "valgrind-x86-64-avx"),
        (816, "x86-64", "gdbserver-x86-64-avx"),
        (2416, "x86-64", "gdbserver-x86-64-avx512"),
        (2420, "x86-64", "gdbserver-x86-64-avx512-pkeys"),
    ],
)
def test_every_known_length(length: int, arch: str, name: str) -> None:
    layout = layout_for_length(length)
    assert (layout.size, layout.arch, layout.name) == (length, arch, name)


def test_the_stub_decides_between_layouts_of_one_length() -> None:
    assert layout_for_length(64, stub="kgdb").name == "kgdb-i386"
    assert layout_for_length(64, stub="bochs").name == "bochs-i386"
    assert layout_for_length(308, stub="qemu-2-x86-64").name == "qemu-2-x86-64-in-32-bit"
    assert layout_for_length(608, stub="kgdb").name == "qemu-x86-64"


@given(
    st.integers(-10, 5000),
    st.sampled_from(["i386", "x86-64", "arm", None]),
    st.sampled_from(["qemu", "kgdb", "gdbserver", "nonesuch", "", None]),
)
def test_any_length_gets_a_layout(length: int, arch: str | None, stub: str | None) -> None:
    layout = layout_for_length(length, arch=arch, stub=stub)
    if all(known.size != length for known in LAYOUTS) and arch in {"i386", "x86-64"}:
        assert layout.arch == arch
    layout.decode(bytes(max(length, 0)))


def test_an_unknown_length_decodes_what_it_can() -> None:
    layout = layout_for_length(700)
    values = layout.decode(bytes([1]) * 700)
    assert layout.arch == "x86-64"
    assert values["rip"] == 0x0101010101010101
    assert values["zmm31h"] is None
    assert layout_for_length(700, stub="qemu").name == "qemu-x86-64"
    assert layout_for_length(70).arch == "i386"


def test_kgdb_on_i386_masks_what_is_junk() -> None:
    layout = layout_for_length(64, stub="kgdb")
    data = bytearray(64)
    data[40:44] = (0x20000060).to_bytes(4, "little")
    data[56:64] = b"\xff\xff\0\0" * 2
    values = layout.decode(bytes(data))
    assert values["cs"] == 0x60
    assert values["fs"] is values["gs"] is None
    assert layout.from_bytes("cs", bytes(data[40:44])) == 0x60
    assert layout.from_bytes("fs", bytes(data[56:60])) is None


def test_kgdb_on_x86_64_has_segments_that_are_never_filled() -> None:
    layout = layout_for_length(156)
    values = layout.decode(b"\x11" * 156)
    assert values["ss"] == 0x11111111
    assert [values[name] for name in ("ds", "es", "fs", "gs")] == [None] * 4
    assert layout.by_number(22).name == "fs"
    assert layout.by_number(22).offset is None
    with pytest.raises(RegisterUnavailable, match="never sends ds"):
        layout.encode({"ds": 1})


def _number(layout: RegisterLayout, name: str) -> int | None:
    register = layout[name]
    assert isinstance(register, Register)
    return register.number


def test_old_qemu_numbers_registers_as_x86_64_in_every_mode() -> None:
    """CPU_NB_REGS is a constant of the binary, so 8 to 15 are missing outside 64-bit mode."""
    before = layout_for_length(308, stub="qemu-2-x86-64")
    after = layout_for_length(536)
    for name in ("eflags", "cs", "gs", "st0", "fop", "xmm0", "xmm7", "mxcsr"):
        assert _number(before, name) == _number(after, name)
    assert before.by_number(16).name == "eip"
    assert before.by_number(1).name == "ecx"
    assert after.by_number(1).name == "rbx"
    for number in (*range(8, 16), *range(48, 56)):
        with pytest.raises(RegisterUnavailable):
            before.by_number(number)
    assert [register.number for register in layout_for_length(308).registers] == [*range(41)]


def test_virtualbox_has_its_own_order() -> None:
    names = [register.name for register in layout_for_length(176).registers]
    assert names[:8] == ["eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp"]
    assert names[-5:] == ["fop", "fioff", "fiseg", "fooff", "foseg"]


def test_names_are_unique() -> None:
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)
