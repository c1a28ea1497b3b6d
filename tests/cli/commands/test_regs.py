"""``rsp regs TARGET NAME=VALUE``: what is written, what is told, and what gdb reads then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.command import run
from rsp.testing.boot import ELF
from rsp.testing.personalities import GDBSERVER, PLAIN
from rsp.testing.serve import listening
from rsp.testing.stub import Stub

if TYPE_CHECKING:
    from lab.gdb import Gdb
    from lab.servers import BootQemu
    from rsp.testing.qemu import QemuMachine

STAY = "--leave-stopped"


@pytest.fixture
def machine(boot_qemu: BootQemu) -> QemuMachine:
    """Return one that stands at ``tick``, in 64-bit mode."""
    machine = boot_qemu()
    with rsp.connect(machine.address, symbols=ELF, on_exit="leave stopped") as target:
        target.until("tick", timeout=30)
    return machine


def test_what_is_written_is_shown_and_there(machine: QemuMachine, gdb: type[Gdb]) -> None:
    whole = run("regs", machine.address, "--json", STAY).json["registers"]
    theirs = gdb(address=machine.address).registers()
    before = {name: theirs[name] for name in whole}
    options = ("--symbols", str(ELF), STAY)
    writes = ("rax=0x1122334455667788", "al=-1", "rbx=10", "r9=-2", "rip=long_start+4")
    shown = run("regs", machine.address, *writes, *options)
    start = rsp.SymbolTable(ELF)["long_start"].address
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.splitlines() == [
        "rax            0x11223344556677ff  1234605616436508671",
        "al             0xff",
        "rbx            0xa                 10",
        "r9             0xfffffffffffffffe  -2",
        f"rip            {start + 4:#x}              linear {start + 4:#x} <long_start+4>",
    ]
    after = gdb(address=machine.address).registers()
    changed = {"rax": 0x11223344556677FF, "rbx": 10, "r9": (1 << 64) - 2, "rip": start + 4}
    assert {name: after[name] for name in whole} == before | changed


def test_json(machine: QemuMachine) -> None:
    plain = run("regs", machine.address, "--json", STAY).json
    shown = run("regs", machine.address, "--json", "rdx=0xff", "ax=1", STAY).json
    assert shown.keys() == {*plain, "written"}
    assert shown["written"] == {"rdx": "0xff", "ax": "0x1"}
    rax = int(plain["registers"]["rax"], 16) & ~0xFFFF | 1
    assert shown["registers"] == plain["registers"] | {"rdx": "0xff", "rax": f"{rax:#x}"}


@pytest.mark.parametrize(
    ("write", "said"),
    [
        ("raxx=1", "raxx"),
        ("al=256", "0x100 does not fit al"),
        ("al=-129", "does not fit al"),
        ("rax=tick", "there are no symbols to find it in"),
    ],
)
def test_nothing_is_written_where_something_is_wrong(
    machine: QemuMachine, write: str, said: str
) -> None:
    before = run("regs", machine.address, "--json", STAY).json
    run("regs", machine.address, "rbx=0x123", write, STAY).fails(said)
    assert run("regs", machine.address, "--json", STAY).json == before


@pytest.mark.parametrize("write", ["rax", "=1", "rax=", "rax=ten!", "rax=0b11", "rax=--1"])
def test_what_is_no_assignment(write: str) -> None:
    shown = run("regs", ":1", write)
    assert (shown.status, shown.out) == (2, "")
    assert "usage: rsp regs TARGET [NAME=VALUE ...]" in shown.err


def test_a_stub_that_does_not_write() -> None:
    keeps = replace(PLAIN, unwritable=frozenset({"rsp"}))
    with listening(Stub(keeps, registers={"rsp": 5})) as address:
        run("regs", address, "rsp=1", STAY).fails("rsp did not take 0x1: it is 0x5 now")
    with listening(Stub(replace(GDBSERVER, commands=frozenset("X")))) as address:
        run("regs", address, "rax=1", STAY).fails("does not let rax be written")
