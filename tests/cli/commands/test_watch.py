"""``rsp watch`` on live stubs, with gdb's watchpoints as the oracle, and on scripted ones."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS, wait_until_it_counts
from lab.command import run
from rsp.testing.boot import ELF
from rsp.testing.cpu import State
from rsp.testing.personalities import GDBSERVER, PLAIN
from rsp.testing.serve import listening
from rsp.testing.stub import Stub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.gdb import Gdb
    from lab.servers import BootQemu, StartServer
    from rsp.testing.qemu import QemuMachine

STAY = "--leave-stopped"
SYMBOLS = ("--symbols", str(ELF))


@pytest.fixture
def program(build_program: Callable[[str], Path]) -> Path:
    return build_program("subject.c")


@pytest.fixture
def machine(boot_qemu: BootQemu) -> QemuMachine:
    """Return one that counts."""
    machine = boot_qemu()
    with rsp.connect(machine.address, symbols=ELF, on_exit="leave stopped") as target:
        target.until("tick", timeout=30)
    return machine


def test_a_variable(gdbserver: StartServer, program: Path, gdb: type[Gdb]) -> None:
    oracle = gdb(address=gdbserver(), symbols=program)
    told = "\n".join(oracle.run("watch watched", *["continue"] * 3, "p/x $pc", "kill")).split("\n")
    old, new = (
        [int(line.split(" = ")[1]) for line in told if line.startswith(f"{which} value")][-1]
        for which in ("Old", "New")
    )
    pc = next(line for line in told if line.startswith("$1 = ")).removeprefix("$1 = ")
    options = ("--symbols", str(program), "--count", "3")
    answer = run("watch", gdbserver(), "watched", *options, "--json").json
    assert answer.keys() == {"stop", "frames", "old", "new"}
    assert (answer["old"], answer["new"]) == (old, new) == (0x1003, 0x1006)
    stop = answer["stop"]
    assert (stop["reason"], stop["signal"], stop["hits"]) == ("watchpoint", "SIGTRAP", 3)
    assert (stop["kind"], stop["function"], stop["pc"]) == ("write", "visit", pc)
    assert [frame["function"] for frame in answer["frames"]] == ["visit", "main"]
    shown = run("watch", gdbserver(), "watched", *options).out.splitlines()
    assert re.match(r"watchpoint 1 \(watched\) at 0x[0-9a-f]+ SIGTRAP in thread ", shown[0])
    assert shown[0].endswith(f"at {pc} <visit+{int(pc, 16) - symbol(program, 'visit')}>")
    assert shown[1:3] == [f"old value = {old}", f"new value = {new}"]
    assert shown[4].startswith("#0  visit (amount=3)")


def symbol(program: Path, name: str) -> int:
    return rsp.SymbolTable(program)[name].address


@pytest.mark.parametrize("spelled", ["counter:8", "counter+0:8", "{:#x}:8", "{:#x}", "{}"])
def test_an_address(machine: QemuMachine, spelled: str) -> None:
    where = spelled.format(LABELS["counter"])
    shown = run("watch", machine.address, where, *SYMBOLS)
    stop, old, new, _, innermost = shown.out.splitlines()[:5]
    assert stop.startswith(f"watchpoint 1 ({where}) at 0x4000" if "counter" in where else "watch")
    assert stop.endswith("at 0x7d1a <tick+8>")
    before, after = (int(line.rpartition(" = ")[2], 16) for line in (old, new))
    assert (old, new) == (f"old value = {before:#x}", f"new value = {before + 1:#x}")
    assert after == before + 1
    assert innermost.startswith("#0  tick () at ")
    # It was taken out again, and the machine runs on.
    wait_until_it_counts(machine)


def test_accesses(machine: QemuMachine) -> None:
    read = run("watch", machine.address, "counter:8", *SYMBOLS, "--read", "--json", STAY).json
    assert (read["stop"]["kind"], read["old"]) == ("read", None)
    value = read["new"]
    accessed = ("watch", machine.address, "counter:8", *SYMBOLS, "--access", STAY)
    answer = run(*accessed, "--count", "2", "--json").json
    assert answer["stop"]["kind"] == "access"
    assert answer["stop"]["hits"] == 2
    assert answer["new"] >= value
    assert re.search(r"^(new )?value = 0x[0-9a-f]+$", run(*accessed).out, re.MULTILINE)


def test_what_is_written_but_not_changed_is_no_change() -> None:
    written = [b"\0", b"\0", b"\7", b"\7", b"\7", b"\7", b"\x09", b"\7"]
    states = [
        State(registers={"rip": 0x1001 + at}, writes={0x4000: data})
        for at, data in enumerate(written)
    ]

    def watch(*options: str) -> tuple[object, ...]:
        stub = Stub(
            GDBSERVER,
            registers={"rip": 0x1000},
            memory={0x1000: bytes(64), 0x4000: bytes(64)},
            program=states,
        )
        with listening(stub) as address:
            answer = run("watch", address, "0x4000:1", "--json", *options).json
            assert stub.breakpoints == {}
        return answer["stop"]["pc"], answer["stop"]["hits"], answer["old"], answer["new"]

    assert watch() == ("0x1003", 1, 0, 7)
    assert watch("--count", "2") == ("0x1007", 2, 7, 9)
    assert watch("--access", "--count", "2") == ("0x1002", 2, 0, 0)


def test_a_program_that_ends_before(gdbserver: StartServer, program: Path) -> None:
    options = ("--symbols", str(program), "--count", "6")
    shown = run("watch", gdbserver(), "watched", *options)
    shown.fails("watched was changed 5 times of 6 before the program ended: exited with status 7")
    assert shown.out == "exited with status 7\n"
    told = run("watch", gdbserver(), "watched", *options, "--json")
    told.fails("before the program ended")
    answer = json.loads(told.out)
    assert (answer["frames"], answer["old"], answer["new"]) == ([], None, None)
    assert (answer["stop"]["reason"], answer["stop"]["hits"]) == ("exited", 5)


def test_nobody_writes(machine: QemuMachine) -> None:
    failed = run("watch", machine.address, "0x600:4", "--timeout", "2", *SYMBOLS)
    failed.fails("0x600:4 was not changed within 2 s")
    wait_until_it_counts(machine)


def test_what_cannot_be_watched(
    gdbserver: StartServer, program: Path, machine: QemuMachine
) -> None:
    options = ("--symbols", str(program), STAY)
    address = gdbserver()
    run("watch", address, "$pc", *options).fails("$pc has no address")
    run("watch", address, "watched + 1", *options).fails("watched + 1 has no address")
    run("watch", address, "no_such_variable", *options).fails("no_such_variable")
    run("watch", address, "vectors", *options).fails("vectors has 2048 bytes, and a debug register")
    run("watch", address, "0x10:8", "--count", "0", *options).fails("--count")
    # x86 has no watchpoint on reads alone.
    run("watch", address, "watched", "--read", *options).fails("take --access")
    run("watch", machine.address, "counter", *SYMBOLS, STAY).fails("say it: counter:8")
    run("watch", machine.address, "counter:8", STAY).fails("--symbols")
    with listening(Stub(replace(PLAIN, commands=frozenset("GpP")))) as plain:
        run("watch", plain, "0x10:8", STAY).fails("watchpoint")


@pytest.mark.parametrize("wrong", ["0x10:0", "0x10:many", "0xzz", "1x"])
def test_what_is_no_address(wrong: str) -> None:
    shown = run("watch", ":1", wrong)
    assert (shown.status, shown.out) == (2, "")
    assert "usage: rsp watch" in shown.err
