"""info, regs, read and write on live stubs; what they say beside what gdb says."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS, MAPPED, STATIONS, wait_until_it_counts
from lab.command import run
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from pathlib import Path

    from lab.gdb import Gdb
    from lab.servers import BootQemu, StartServer
    from rsp.testing.qemu import QemuMachine

STAY = "--leave-stopped"
WAYS = [(binary, label) for binary, stations in STATIONS.items() for label in stations]


def run_to(machine: QemuMachine, label: str) -> None:
    """Leave the machine stopped at a label."""
    with rsp.connect(machine.address, on_exit="leave stopped") as target:
        target.until(LABELS[label], timeout=30)


@pytest.mark.parametrize(("binary", "label"), WAYS)
def test_registers_in_every_mode_are_those_of_gdb(
    boot_qemu: BootQemu, gdb: type[Gdb], binary: str, label: str
) -> None:
    machine = boot_qemu(binary=binary)
    run_to(machine, label)
    shown = run("regs", machine.address, "--json", STAY).json
    theirs = gdb(address=machine.address).registers()
    assert shown.keys() == {"mode", "layout", "registers"}
    assert shown["mode"] == STATIONS[binary][label].name
    ours = {name: int(value, 16) for name, value in shown["registers"].items()}
    assert ours == {name: theirs[name] for name in ours}
    assert len(ours) == (50 if binary.endswith("i386") else 66)
    # Whole registers only.
    assert not {"eax" if "rax" in ours else "ax", "al"} & ours.keys()


def test_registers_for_people(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    run_to(machine, "real_based")
    shown = run("regs", machine.address, "--symbols", str(ELF), STAY)
    lines = shown.out.splitlines()
    assert lines[0] == "REAL16 (16-bit real mode), pc 0x7c05 <real_based>"
    assert "rip            0x5                 linear 0x7c05 <real_based>" in lines
    assert "eflags         0x202               [ IF ]" in lines
    assert "cs             0x7c0               1984" in lines
    by_id = run("regs", machine.address, "--symbols", str(ELF), STAY, "--thread", "p01.01")
    assert by_id.out == shown.out


def test_negative_values_are_those_of_gdb(boot_qemu: BootQemu, gdb: type[Gdb]) -> None:
    machine = boot_qemu()
    run_to(machine, "tick")
    with rsp.connect(machine.address, on_exit="leave stopped") as target:
        target.write_register("rbx", (1 << 64) - 2)
    line = next(
        line
        for line in run("regs", machine.address, STAY).out.splitlines()
        if line.startswith("rbx")
    )
    assert line == gdb(address=machine.address).run("info registers rbx")[0]


def test_info(boot_qemu: BootQemu) -> None:
    machine = boot_qemu(args=["-smp", "2"])
    shown = run("info", machine.address, "--json", STAY).json
    assert shown.keys() == {"stub", "arch", "mode", "threads", "stop"}
    assert shown["stub"]["name"] == "qemu"
    with rsp.connect(machine.address, on_exit="leave stopped") as target:
        assert shown["stub"]["packet_size"] == target.stub.packet_size
        assert shown["arch"] == target.arch.name == "x86-64"
        assert shown["threads"] == [{"id": t.id, "name": t.name} for t in target.threads]
    assert "qXfer:features:read+" in shown["stub"]["features"]
    assert f"PacketSize={shown['stub']['packet_size']:x}" in shown["stub"]["features"]
    assert shown["mode"] == "REAL16"
    assert [each["id"] for each in shown["threads"]] == ["p01.01", "p01.02"]
    assert shown["stop"] == {"reason": "attached", "signal": "SIGTRAP", "thread": "p01.01"}

    people = run("info", machine.address, "--symbols", str(ELF), STAY).out
    assert "mode      REAL16 (16-bit real mode)\n" in people
    assert "pc 0xfffffff0\n" in people
    assert "thread    p01.02 CPU#1 [halted ]\n" in people


def test_a_thread_by_its_id(boot_qemu: BootQemu) -> None:
    machine = boot_qemu(args=["-smp", "2"])
    run_to(machine, "tick")
    arguments = ("regs", machine.address, "--json", STAY)
    first, second = (run(*arguments, "--thread", f"p01.0{n}").json for n in (1, 2))
    assert (first["mode"], first["registers"]["rip"]) == ("LONG64", "0x7d12")
    # The other CPU waits for the first to wake it up, where the BIOS has left it.
    assert (second["mode"], second["registers"]["rsi"]) != ("LONG64", "0x16161616")
    run(*arguments, "--thread", "p01.07").fails("no thread p01.07")
    run(*arguments, "--thread", "the first").fails("thread id")


def test_reading(boot_qemu: BootQemu, gdb: type[Gdb], tmp_path: Path) -> None:
    machine = boot_qemu()
    run_to(machine, "tick")
    theirs = gdb(address=machine.address).memory(0x7C00, 512)
    shown = run("read", machine.address, "0x7c00", "512", "--json", STAY).json
    assert shown == {"address": "0x7c00", "data": theirs.hex()}

    named = ("read", machine.address, "greeting", "24", "--symbols", str(ELF), STAY)
    assert run(*named).out == (
        "00007d1b  31 36 2c 20 33 32 2c 20  36 34 3a 20 68 65 72 65  |16, 32, 64: here|\n"
        "00007d2b  20 77 65 20 61 72 65 00                           | we are.|\n"
    )
    part = run("read", machine.address, "greeting+4", "2", "--symbols", str(ELF), STAY)
    assert part.out == f"{0x7D1F:08x}  33 32{'':43}  |32|\n"

    file = tmp_path / "memory"
    file.write_bytes(b"an older one")
    saved = run("read", machine.address, "31744", "512", "-o", str(file), STAY)
    assert (saved.status, saved.out, file.read_bytes()) == (0, "", theirs)

    high = run("read", machine.address, "0xffffffff80007c00", "16", STAY)
    assert high.out.startswith("ffffffff80007c00  ")


def test_a_dump_of_many_pieces_is_that_of_the_file(boot_qemu: BootQemu, tmp_path: Path) -> None:
    machine = boot_qemu()
    file = tmp_path / "memory"
    arguments = ("read", machine.address, "0xe0003", "0x11ff3")
    assert run(*arguments, "-o", str(file), STAY).status == 0
    data = file.read_bytes()
    assert len(data) == 0x11FF3
    assert len(set(data)) == 256
    assert run(*arguments, "--json", STAY).json["data"] == data.hex()
    dumped = run(*arguments, STAY).out.splitlines()
    assert bytes.fromhex("".join(line[10:58] for line in dumped)) == data
    assert [int(line[:8], 16) for line in dumped] == list(range(0xE0003, 0xE0003 + 0x11FF3, 16))


def test_physical_memory(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    run_to(machine, "tick")
    # Not mapped there: the first entry of the BIOS' image, seen from below 4 GiB.
    arguments = ("read", machine.address, "0xfffffff0", "16", "--json", STAY)
    assert run(*arguments).status == 1
    shown = run(*arguments, "--physical").json
    assert bytes.fromhex(shown["data"])[:1] == b"\xea"
    assert run(*arguments).status == 1  # the mode was put back


def test_what_can_be_read_is_shown_before_the_fault(boot_qemu: BootQemu, tmp_path: Path) -> None:
    machine = boot_qemu()
    run_to(machine, "tick")
    file = tmp_path / "memory"
    arguments = ("read", machine.address, f"{MAPPED - 0x18:#x}", "0x40", STAY)
    people = run(*arguments)
    people.fails(f"{MAPPED:#x}")
    assert people.out.splitlines()[1].startswith(f"{MAPPED - 8:08x}  00 00 00 00 00 00 00 00  ")
    as_json = run(*arguments, "--json")
    as_json.fails(f"{MAPPED:#x}")
    assert json.loads(as_json.out) == {"address": f"{MAPPED - 0x18:#x}", "data": "00" * 0x18}
    run(*arguments, "-o", str(file)).fails(f"{file} is partial: it has the first 24 of 64 bytes")
    assert file.read_bytes() == bytes(0x18)
    # Nothing at all: what is in the file stays.
    run("read", machine.address, f"{MAPPED:#x}", "8", STAY, "-o", str(file)).fails(
        f"{file} is as it was"
    )
    assert file.read_bytes() == bytes(0x18)
    run("read", machine.address, "0xffffffffffffffff", "2", STAY).fails("64 bits")
    run(*arguments, "-o", str(tmp_path)).fails(str(tmp_path), "directory")


def test_writing(boot_qemu: BootQemu, gdb: type[Gdb]) -> None:
    machine = boot_qemu()
    run_to(machine, "tick")
    arguments = ("write", machine.address, "counter+1", "c0ffee", "--symbols", str(ELF), STAY)
    assert run(*arguments, "--json").json == {"address": "0x4001", "written": 3}
    assert gdb(address=machine.address).memory(0x4000, 5) == bytes.fromhex("00c0ffee00")
    people = run("write", machine.address, "counter", "ff", "--symbols", str(ELF), STAY)
    assert people.out == "1 bytes written at 0x4000 <counter>\n"
    assert gdb(address=machine.address).memory(0x4000, 5) == bytes.fromhex("ffc0ffee00")
    run("write", machine.address, f"{MAPPED - 1:#x}", "aabb", STAY).fails(f"{MAPPED:#x}")


def test_a_target_is_left_as_it_was_found(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    for command in (("info",), ("regs",), ("read", "0", "16"), ("read", "0", "16", STAY)):
        assert run(command[0], machine.address, *command[1:]).status == 0
        assert "paused" in machine.monitor("info status")
    machine.monitor("cont")
    wait_until_it_counts(machine)
    # A stub that is connected to stops its machine; an error lets it run on as well.
    run("read", machine.address, f"{MAPPED:#x}", "1").fails()
    wait_until_it_counts(machine)
    assert run("info", machine.address).status == 0
    wait_until_it_counts(machine)
    assert run("info", machine.address, STAY).status == 0
    assert "paused" in machine.monitor("info status")


def test_a_second_client_is_told_of_the_first(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    with rsp.connect(machine.address):
        shown = run("info", machine.address, "--timeout", "1")
    shown.fails("another client")


def test_a_recording_of_a_command_can_be_read_instead_of_the_machine(
    boot_qemu: BootQemu, tmp_path: Path
) -> None:
    machine = boot_qemu()
    log = tmp_path / "log"
    live = run("regs", machine.address, "--json", STAY, "--record", str(log))
    again = run("regs", f"replay:{log}", "--json", STAY)
    assert again.json == live.json
    # Another question is no part of it.
    run("read", f"replay:{log}", "0", "16").fails("line ", "waits for the client to send")


def test_gdbserver(gdbserver: StartServer) -> None:
    address = gdbserver(pipe=True)
    shown = run("info", address, "--json").json
    assert (shown["stub"]["name"], shown["mode"]) == ("gdbserver", "LONG64")
    assert re.fullmatch(r"p[0-9a-f]+\.[0-9a-f]+", shown["stop"]["thread"])
    assert {"QStartNoAckMode+", "multiprocess+"} <= set(shown["stub"]["features"])
    registers = run("regs", address, "--json").json["registers"]
    code = run("read", address, registers["rip"], "4", "--json").json
    assert code == {"address": registers["rip"], "data": code["data"]}
    assert len(code["data"]) == 8
    # Over TCP, where stderr is ours alone.
    run("read", gdbserver(), "0", "4").fails("0x0")
    run("read", gdbserver(), "0", "4", "--physical").fails("physical")
