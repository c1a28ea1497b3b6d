"""Core files that are made here: what is no core, what is damaged, what is hostile."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.programs import build
from rsp.coredump.write_elf import note
from rsp.coredump.write_notes import process_note, prstatus

if TYPE_CHECKING:
    from pathlib import Path

BASE = 0x7F0000001000
PC = 0x401136
NAMES = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
    *("rsi", "rdi", "orig_rax", "rip"),
)


def core(memory: bytes = bytes(range(256)) * 16, *, kind: int = 4, machine: int = 62) -> bytes:
    """Return the core of a process with two threads and a page of memory."""
    registers = dict(zip(NAMES, (*range(16), PC), strict=True))
    registers |= {"cs": 0x33, "eflags": 0x246, "rsp": BASE + 64, "ss": 0x2B, "fs_base": 0xF5}
    notes = prstatus(registers, 8, thread=71, signal=11)
    notes += process_note(8, ids=[70], name=b"prog", arguments=b"")
    notes += prstatus(registers, 8, thread=70, signal=11)
    notes += note("CORE", 0x53494749, struct.pack("<iiiiQ", 11, 0, 1, 0, 0x10).ljust(128, b"\0"))
    begin = 64 + 2 * 56
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    table = struct.pack("<IIQQQQQQ", 4, 0, begin, 0, 0, len(notes), len(notes), 0)
    at = begin + len(notes)
    table += struct.pack("<IIQQQQQQ", 1, 6, at, BASE, 0, len(memory), 2 * len(memory), 4096)
    return header + table + notes + memory


def test_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(core())
    with rsp.open_core(path) as opened:
        assert [each.id for each in opened.threads] == ["p46.47", "p46.46"]
        assert [each.name for each in opened.threads] == ["", "prog"]
        assert opened.stop.reason is rsp.StopReason.SIGNAL
        assert opened.stop.thread == opened.thread == opened.threads[0]
        assert opened.select("p46.46").backtrace()[0].pc == PC
        assert str(opened.stop) == "signal SIGSEGV in thread p46.47"
        assert {name: opened.registers[name] for name in NAMES[:16]} == dict(
            zip(NAMES, range(16), strict=False)
        )
        assert opened.read_u32(BASE + 4) == 0x07060504
        assert opened.read_memory(BASE, 4096) == bytes(range(256)) * 16
        with pytest.raises(rsp.MemoryFault) as caught:
            opened.read_memory(BASE + 4094, 4)
        assert (caught.value.address, caught.value.partial) == (BASE + 4096, b"\xfe\xff")
        assert repr(opened) == f"<Core {path}, signal SIGSEGV in thread p46.47>"
    assert repr(opened) == f"<Core {path}, the core was closed>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no ELF file"),
        (b"MZ" + bytes(100), "no ELF file"),
        (b"\x7fELF\x02\x02".ljust(64, b"\0"), "no little-endian ELF file"),
        (core()[:60], "it ends within its header"),
        (core()[:100], "it ends within its program headers"),
        (core()[:400], "it ends within a note"),
        (core(kind=2), "an ELF file, and no core: give a program as symbols="),
        (core(machine=183), r"another architecture \(e_machine 183\)"),
        (b"KDUMP   ".ljust(64, b"\0"), "makedumpfile -E writes an ELF core"),
        (b"\x1f\x8b".ljust(64, b"\0"), "compressed by gzip: unpack it first"),
    ],
)
def test_what_is_no_core(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(content)
    with pytest.raises(rsp.BadImage, match=message) as caught:
        rsp.open_core(path)
    assert str(path) in str(caught.value)


@pytest.mark.live("gcc")
def test_what_cannot_be_meant(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(core())
    with pytest.raises(rsp.BadImage, match="cannot be read: No such file"):
        rsp.open_core(tmp_path / "none")
    with pytest.raises(rsp.BadImage, match="cannot be read: Is a directory"):
        rsp.open_core(tmp_path)
    with pytest.raises(rsp.ArgumentError, match="slide is 'x'"):
        rsp.open_core(path, slide="x")  # type: ignore[arg-type]
    with pytest.raises(rsp.ArgumentError, match="path is 5: give a path"):
        rsp.open_core(5)  # type: ignore[arg-type]
    with pytest.raises(rsp.ArgumentError, match="modules: /nope does not exist"):
        rsp.open_core(path, modules="/nope")
    with pytest.raises(rsp.TargetAddressError, match="a core file does not run"):
        rsp.connect(f"core:{path}")
    with rsp.open_core(path, symbols=build("subject.c")) as opened:
        assert opened.symbols["main"].address


def test_a_core_that_was_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "core"
    path.write_bytes(core()[:-1000])
    with rsp.open_core(path) as opened:
        assert "ends before its memory does" in caplog.text
        assert opened.read_memory(BASE, 3096) == (bytes(range(256)) * 16)[:3096]
        with pytest.raises(rsp.MemoryFault):
            opened.read_memory(BASE, 4096)


def test_no_damage_does_more_than_raise(tmp_path: Path) -> None:
    """Each byte of the headers and the notes, changed in one of three ways."""
    whole, path = core(), tmp_path / "core"
    kinds = set()
    for at in range(len(whole) - 4096):
        damaged = bytearray(whole)
        damaged[at] ^= (0x01, 0x80, 0xFF)[at % 3]
        path.write_bytes(damaged)
        try:
            with rsp.open_core(path) as opened:
                kinds.add("opened")
                for each in opened.threads:
                    assert str(each.backtrace())
                _ = str(opened.stop), opened.mode
                _ = opened.read_memory(BASE, 16)
        except rsp.RspError as error:
            kinds.add(type(error).__name__)
    assert {"opened", "BadImage", "MemoryFault"} <= kinds
