"""Disassembly in each mode, beside gdb's."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS, MAPPED
from lab.gdb import batch
from rsp.errors import LocalProtocolError, MemoryFault, SymbolNotFound, UnsupportedCommand
from rsp.inferior import disassembly
from rsp.inferior.disassembly import decode
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.symtab import SymbolKind
from rsp.symbols.table import SymbolTable
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.gdb import Gdb
    from lab.kernels import DebianKernel
    from lab.servers import BootQemu, StartServer

SHOWN = re.compile(r"(?:=> )?\s*(0x[0-9a-f]+)(?: <([^>]+)>)?:\t(.*)")
CALL = 0x7D0B


def theirs(answer: str) -> list[tuple[int, str | None, str]]:
    found = [SHOWN.match(line) for line in answer.splitlines()]
    return [(int(each[1], 16), each[2], each[3]) for each in found if each]


def name_of(text: str) -> str:
    """The instruction's name without AT&T's suffix for the size, which capstone always writes."""
    name = text.split()[0]
    return name[:-1] if name[-1:] in "bwlq" and name not in ("call", "sub", "shl") else name


def test_a_program_beside_gdb(
    gdbserver: StartServer, gdb: type[Gdb], build_program: Callable[[str], Path]
) -> None:
    program = build_program("subject.c")
    answer = gdb(address=gdbserver(), symbols=program).run("x/200i main")[0]
    with rsp.connect(gdbserver(pipe=True), symbols=program) as target:
        ours = target.disassemble("main", 200)
    expected = theirs(answer)
    assert [(each.address, each.symbol) for each in ours] == [each[:2] for each in expected]
    names = [
        (name_of(each.text), name_of(other[2])) for each, other in zip(ours, expected, strict=True)
    ]
    assert sum(one == other for one, other in names) > 195
    # Branches name where they lead to, as gdb's do.
    destinations = [
        (each.text.rpartition(" <")[2], other[2].rpartition(" <")[2])
        for each, other in zip(ours, expected, strict=True)
        if each.text.startswith(("call", "j")) and "@plt" not in other[2]  # gdb makes those up
    ]
    assert len(destinations) > 20
    assert all(one == other for one, other in destinations)


@pytest.mark.live("objdump")
@pytest.mark.parametrize(
    ("label", "machine"),
    [("real_start", "i8086"), ("protected_start", "i386"), ("long_start", "i386:x86-64")],
)
def test_each_mode_beside_objdump(boot_qemu: BootQemu, label: str, machine: str) -> None:
    """gdb itself knows no mode of the CPU."""
    with rsp.connect(boot_qemu().address, symbols=ELF) as target:
        target.until(label, timeout=240)
        ours = target.disassemble(target.registers.pc, 12)
    begin = LABELS[label]
    assert ours[0].address == begin
    command = ["objdump", "-d", "-w", "-m", machine, f"--start-address={begin}", str(ELF)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    row = re.compile(r"^ +([0-9a-f]+):\t((?:[0-9a-f]{2} )+)", re.MULTILINE)
    theirs = [(int(at, 16), bytes.fromhex(code)) for at, code in row.findall(listed)]
    assert [(each.address, each.bytes) for each in ours] == theirs[:12]


@pytest.mark.live("gdb")
def test_a_kernel_beside_gdb(gdb: type[Gdb], debian_kernel: DebianKernel) -> None:
    """Lengths, branches and rip-relative addresses of some functions and of code in assembler."""
    vmlinux = debian_kernel.vmlinux
    table = SymbolTable(vmlinux)
    (binary, _) = next(table.binaries())
    functions = [each for each in binary.symtab if each.kind is SymbolKind.FUNCTION]
    sample = random.Random(2026).sample([each for each in functions if 40 < each.size < 900], 60)
    assembler = [table[name] for name in ("entry_SYSCALL_64", "asm_exc_page_fault", "memcpy")]
    chosen = [(each.address, each.size) for each in sample]
    chosen += [(each.address, each.size) for each in assembler]
    commands = [f"disassemble /r {begin:#x},+{size}" for begin, size in chosen]
    said = subprocess.run(
        [*batch(*commands), vmlinux],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    row = re.compile(r"^ +(0x[0-9a-f]+) <[^>]*>:\t((?:[0-9a-f]{2} *)+)\t(.*)$", re.MULTILINE)
    theirs = {int(at, 16): (bytes.fromhex(code), text) for at, code, text in row.findall(said)}
    compared, leading = 0, 0
    for begin, size in chosen:
        section = binary.image.section_at(begin)
        assert section is not None
        at = begin - section.address
        code = binary.image.contents(section)[at : at + size + 16]
        for ours in decode(code, begin, 64, table):
            if ours.address >= begin + size:
                break
            data, text = theirs[ours.address]
            assert ours.bytes == data
            compared += 1
            # gdb names functions as the source does, and not their clones (.cold, .isra.0).
            addresses = re.findall(r"0x(ffff[0-9a-f]{12})(?= <|$)", text.replace("$0x", ""))
            if text.startswith(("call", "j")) or "#" in text:
                assert re.findall(r"0x(ffff[0-9a-f]{12})", ours.text) == addresses, (ours, text)
                leading += len(addresses)
    assert compared > 2000
    assert leading > 500


def test_where_memory_ends(boot_qemu: BootQemu) -> None:
    with rsp.connect(boot_qemu().address, symbols=ELF) as target:
        target.until("long_start", timeout=240)
        target.write_memory(MAPPED - 3, b"\x90\x90\x90")
        found = target.disassemble(MAPPED - 3, 10)
        assert [each.text for each in found] == ["nop"] * 3
        with pytest.raises(MemoryFault):
            target.disassemble(MAPPED, 1)
        with pytest.raises(SymbolNotFound):
            target.disassemble("nowhere", 1)
        for count in (0, -1, disassembly.MOST + 1):
            with pytest.raises(LocalProtocolError, match="instructions"):
                target.disassemble("tick", count)
        for address in (-1, 1 << 64):
            with pytest.raises(LocalProtocolError, match="not within 64 bits"):
                target.disassemble(address, 1)


def test_the_boot_sector() -> None:
    image = Image(ELF)
    section = image.named(".text")
    assert section is not None
    at = CALL - section.address
    code = image.contents(section)[at : at + 7]
    found = list(decode(code, CALL, 64, SymbolTable(ELF)))
    assert [str(each) for each in found] == [
        "0x7d0b <long_start+68>:\tcallq 0x7d12 <tick>",
        "0x7d10 <long_start+73>:\tjmp 0x7d0b <long_start+68>",
    ]
    assert [each.bytes.hex() for each in found] == ["e802000000", "ebf9"]


def test_an_address_relative_to_the_next_instruction() -> None:
    code = bytes.fromhex("488b05f9ffffff" + "488d3d02000000" + "8b0d00000000")
    assert [each.text for each in decode(code, 0x1000, 64)] == [
        "movq -7(%rip), %rax  # 0x1000",
        "leaq 2(%rip), %rdi  # 0x1010",
        "movl (%rip), %ecx  # 0x1014",
    ]


def test_bytes_that_are_no_instruction() -> None:
    found = list(decode(b"\x06" + b"\x90" * 15, 0x1000, 64))
    assert [each.text for each in found] == ["(bad)"] + ["nop"] * 15
    assert found[0].bytes == b"\x06"
    # Cut off, it may have been one.
    assert list(decode(b"\x48\xb8\x01", 0x1000, 64)) == []


def test_without_capstone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    with pytest.raises(UnsupportedCommand, match=r"pip install 'gdb-rsp\[disasm\]'"):
        list(decode(b"\x90", 0, 64))
