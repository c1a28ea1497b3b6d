"""rsp break and rsp disas on live stubs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS, wait_until_it_counts
from lab.command import run
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.servers import BootQemu, StartServer

STAY = "--leave-stopped"
SYMBOLS = ("--symbols", str(ELF))


def test_break_in_json(gdbserver: StartServer, build_program: Callable[[str], Path]) -> None:
    program = str(build_program("subject.c"))
    address = gdbserver()
    found = run("break", address, "visit", "--symbols", program, "--count", "3", "--json").json
    stop, frames = found["stop"], found["frames"]
    assert found.keys() == {"stop", "frames"}
    assert stop["reason"] == "breakpoint"
    assert (stop["signal"], stop["hits"], stop["kind"]) == ("SIGTRAP", 3, "software")
    assert (stop["function"], stop["pc"]) == ("visit", frames[0]["pc"])
    assert [frame["function"] for frame in frames] == ["visit", "main"]
    assert frames[0]["arguments"] == [{"name": "amount", "value": 3, "text": "3"}]
    assert stop["file"].endswith("subject.c")
    assert stop["line"] == frames[0]["line"]


@pytest.mark.parametrize("hardware", [False, True])
def test_break_for_people(boot_qemu: BootQemu, hardware: bool) -> None:
    machine = boot_qemu()
    options = ["--hw"] if hardware else []
    shown = run("break", machine.address, "tick", *SYMBOLS, *options)
    lines = shown.out.splitlines()
    # Before the boot sector is loaded there is nothing to break on by software.
    because = [line for line in lines if line.startswith("0x7d12: hw breakpoint, because")]
    assert len(because) == (not hardware)
    at = lines.index("breakpoint 1 (tick) SIGTRAP in thread p01.01 at 0x7d12 <tick>")
    assert lines[at + 1] == "=> 0x7d12 <tick>:       incq 0x4000"
    assert lines[at + 2].startswith("#0  tick () at ")
    assert lines[at + 3].startswith("#1  0x0000000000007d10 in long_start () at ")
    # It was taken out again, and the machine runs on.
    wait_until_it_counts(machine)


def test_break_shows_the_source_where_it_is_found(boot_qemu: BootQemu) -> None:
    repository = ELF.parents[3]
    mapped = ("--source-map", f"/=/{repository}")
    shown = run("break", boot_qemu().address, "tick", *SYMBOLS, *mapped).out.splitlines()
    line = int(next(each for each in shown if each.startswith("#0 ")).rpartition(":")[2])
    text = ELF.with_name("boot.S").read_text().splitlines()[line - 1]
    assert f"{line}\t{text}".expandtabs() in shown


def test_break_leaves_the_target_there(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    found = run("break", machine.address, f"{LABELS['tick']:#x}", "--json", STAY).json
    assert found["stop"]["pc"] == f"{LABELS['tick']:#x}"
    assert found["stop"]["function"] is None  # nothing says where that is in a program
    with rsp.connect(machine.address) as target:
        assert target.registers.pc == LABELS["tick"]
        assert not target.breakpoints


def test_break_where_nobody_comes(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    failed = run("break", machine.address, "no_long_mode", *SYMBOLS, "--timeout", "2")
    failed.fails("no_long_mode was not reached within 2 s")
    wait_until_it_counts(machine)
    run("break", machine.address, "nobody", *SYMBOLS).fails("nobody")
    run("break", machine.address, "tick", *SYMBOLS, "--count", "0").fails("--count")
    assert run("break", machine.address).status == 2


@pytest.mark.parametrize(
    ("place", "count", "reached"),
    [("on_signal", "1", "not reached"), ("visit", "6", "reached 5 times of 6")],
)
def test_break_where_the_program_ends_before(
    gdbserver: StartServer,
    build_program: Callable[[str], Path],
    place: str,
    count: str,
    reached: str,
) -> None:
    """What there is to tell is told, and the exit status says that it is not what was asked for."""
    options = ("--symbols", str(build_program("subject.c")), "--count", count)
    shown = run("break", gdbserver(), place, *options)
    shown.fails(f"{place} was {reached} before the program ended: exited with status 7")
    assert shown.out == "exited with status 7\n"
    told = run("break", gdbserver(), place, *options, "--json")
    told.fails("before the program ended")
    answer = json.loads(told.out)
    assert answer["frames"] == []
    assert (answer["stop"]["reason"], answer["stop"]["pc"]) == ("exited", None)
    assert answer["stop"]["hits"] == int(count) - 1


def test_break_shows_the_frames_as_bt_does(
    gdbserver: StartServer, build_program: Callable[[str], Path]
) -> None:
    address = gdbserver()
    options = (address, "--symbols", str(build_program("subject.c")), STAY)
    stopped = run("break", *options, "visit").out.splitlines()
    frames = run("bt", *options).out.splitlines()
    assert frames[1] == "        watched += amount;"
    assert stopped[2:] == frames


def test_disas(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    run("break", machine.address, "long_start", *SYMBOLS, STAY)
    found = run("disas", machine.address, "long_start+68", *SYMBOLS, STAY, "--json", "--count", "2")
    assert found.json == {
        "instructions": [
            {
                "address": "0x7d0b",
                "bytes": "e802000000",
                "text": "callq 0x7d12 <tick>",
                "symbol": "long_start+68",
            },
            {
                "address": "0x7d10",
                "bytes": "ebf9",
                "text": "jmp 0x7d0b <long_start+68>",
                "symbol": "long_start+73",
            },
        ]
    }
    shown = run("disas", machine.address, "tick", *SYMBOLS, "--count", "1").out
    assert shown == "0x7d12 <tick>:\tincq 0x4000\n"
