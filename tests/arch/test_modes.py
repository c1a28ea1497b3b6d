"""CPU modes, from registers alone and from what QEMU 7.2 printed (tests/arch/data)."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.arch.modes import CpuMode, Segment, infer_mode, linear_pc, parse_info_registers
from rsp.errors import RemoteProtocolError

INFO = Path(__file__).parent / "data" / "info-registers"
LONG = (INFO / "x86_64-long.txt").read_text()


@pytest.mark.parametrize(
    ("file", "mode"),
    [
        ("x86_64-reset", CpuMode.REAL16),
        ("x86_64-pe", CpuMode.PROTECTED16),
        ("x86_64-p16", CpuMode.PROTECTED16),
        ("x86_64-p32", CpuMode.PROTECTED32),
        ("x86_64-vm86", CpuMode.REAL16),
        ("x86_64-compat", CpuMode.COMPAT32),
        ("x86_64-compat16", CpuMode.COMPAT32),
        ("x86_64-long", CpuMode.LONG64),
        ("i386-reset", CpuMode.REAL16),
        ("i386-pe", CpuMode.PROTECTED16),
        ("i386-p16", CpuMode.PROTECTED16),
        ("i386-p32", CpuMode.PROTECTED32),
        ("i386-vm86", CpuMode.REAL16),
    ],
)
def test_info_registers_gives_the_mode(file: str, mode: CpuMode) -> None:
    text = (INFO / f"{file}.txt").read_text()
    assert parse_info_registers(text).mode is mode
    # Versions that print no EFER: the width of the tables tells long mode.
    assert parse_info_registers(re.sub(r"EFER=.*\n", "", text)).mode is mode
    assert parse_info_registers(text.replace("\n", "\r\n")).mode is mode


def test_info_registers_gives_what_g_lacks() -> None:
    state = parse_info_registers(LONG)
    assert state.segments["cs"] == Segment(
        selector=8, base=0, limit=0xFFFFFFFF, attributes=0xAF9B00
    )
    assert sorted(state.segments) == ["cs", "ds", "es", "fs", "gs", "ss"]
    assert (state.pc, state.eflags, state.cpl, state.halted) == (0x8000, 2, 0, False)
    assert (state.cr0, state.cr3, state.cr4, state.efer) == (0x80000011, 0x1000, 0x20, 0xD00)
    assert (state.gdt.limit, state.idt.base) == (0xFFFF, 0)
    reset = parse_info_registers((INFO / "x86_64-reset.txt").read_text())
    assert linear_pc(reset.pc, reset.mode, cs_base=reset.segments["cs"].base) == 0xFFFFFFF0


def test_of_several_cpus_the_first_is_read() -> None:
    real = (INFO / "x86_64-reset.txt").read_text()
    assert parse_info_registers(LONG + real.replace("CPU#0", "CPU#1")).mode is CpuMode.LONG64
    assert parse_info_registers(real + LONG.replace("CPU#0", "CPU#1")).mode is CpuMode.REAL16


@pytest.mark.parametrize("without", ["CS =", "CR0=", "RFL=", "GDT=", "CPL=", "TR ="])
def test_what_is_not_info_registers(without: str) -> None:
    with pytest.raises(RemoteProtocolError, match="info registers"):
        parse_info_registers(LONG.replace(without, "XX?"))
    with pytest.raises(RemoteProtocolError):
        parse_info_registers("unknown command: 'info registers'\r\n")


@given(st.integers(0, len(LONG)), st.integers(0, 200), st.text(max_size=20))
def test_damaged_text_is_read_or_refused(at: int, length: int, put: str) -> None:
    with suppress(RemoteProtocolError):
        parse_info_registers(LONG[:at] + put + LONG[at + length :])


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        ({}, CpuMode.UNKNOWN),
        ({"rip": 0xFFFFFFFF81000000}, CpuMode.LONG64),
        ({"rip": 0x401000, "rsp": 0x7FFFFFFFE570}, CpuMode.UNKNOWN),
        ({"cr0": 0x60000010, "eflags": 2}, CpuMode.REAL16),
        ({"cr0": 0x11, "eflags": 2, "efer": 0}, CpuMode.UNKNOWN),
        ({"cr0": 0x11, "eflags": 0x20002, "efer": 0}, CpuMode.REAL16),
        ({"eflags": 0x20002}, CpuMode.REAL16),
        ({"cr0": 0x80000011, "eflags": 2, "efer": 0x500, "rip": 0x8000}, CpuMode.UNKNOWN),
        ({"cr0": 0x80000011, "efer": 0x500, "rip": 0x8000, "rsp": 1 << 32}, CpuMode.LONG64),
        ({"cr0": 0x80000011, "efer": 0x500, "rip": 0x8000, "r15": 1}, CpuMode.LONG64),
        ({"cr0": None, "eflags": None, "efer": None, "rip": None}, CpuMode.UNKNOWN),
        ({"eip": 0xC0100000, "cr0": 0x80000011, "eflags": 2, "efer": None}, CpuMode.UNKNOWN),
    ],
)
def test_registers_alone(values: dict[str, int | None], mode: CpuMode) -> None:
    assert infer_mode(values) is mode


@pytest.mark.parametrize(
    ("pc", "mode", "cs", "base", "linear"),
    [
        (0xFFF0, CpuMode.REAL16, 0xF000, None, 0xFFFFFFF0),
        (0xFFF0, CpuMode.REAL16, 0xF000, 0xF0000, 0xFFFF0),
        (0xFFF0, CpuMode.REAL16, 0xFFFF, None, 0x10FFE0),
        (0xE05B, CpuMode.REAL16, 0xF000, None, 0xFE05B),
        (0x7C00, CpuMode.REAL16, 0, None, 0x7C00),
        (0x7C00, CpuMode.REAL16, None, None, 0x7C00),
        (0x10, CpuMode.PROTECTED32, 8, 0xFFFFFFFF, 0xF),
        (0xC0100000, CpuMode.PROTECTED32, 0x10, None, 0xC0100000),
        (0xFFFFFFFF81000000, CpuMode.LONG64, 0x10, 0, 0xFFFFFFFF81000000),
        (0x8000, CpuMode.UNKNOWN, 0x10, None, 0x8000),
    ],
)
def test_linear_pc(pc: int, mode: CpuMode, cs: int | None, base: int | None, linear: int) -> None:
    assert linear_pc(pc, mode, cs=cs, cs_base=base) == linear
