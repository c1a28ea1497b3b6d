"""The commands about a running kernel, as processes, against what the guest says of itself."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from lab.command import run
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.guest import BootKernel, Guest


def said(*arguments: object) -> str:
    done = run(*map(str, arguments))
    assert (done.status, done.err) == (0, "")
    return done.out


@pytest.fixture
def guest(shared_kernel: BootKernel) -> Iterator[Guest]:
    found = shared_kernel("debian", kaslr=True)
    found.run("dmesg -n 1")
    yield found
    found.unload("dummy")


def as_json(guest: Guest, command: str, *more: object) -> Any:
    return json.loads(said(command, guest.address, "--symbols", guest.symbols, "--json", *more))


def test_slide(guest: Guest) -> None:
    running = int(guest.run("grep -E ' _text$' /proc/kallsyms").split()[0], 16)
    expected = f"{running - 0xFFFFFFFF81000000:#x}"
    assert said("slide", guest.address, "--symbols", guest.symbols) == f"{expected}\n"
    assert as_json(guest, "slide") == {"slide": expected}
    # All others find it too, as --slide auto is the default.
    shown = as_json(guest, "print", "init_task.comm")
    assert shown["value"] == "swapper/0"


def test_modules(guest: Guest) -> None:
    guest.run("insmod /dummy.ko")
    directory = guest.modules["dummy"].parent
    found = as_json(guest, "modules", "--modules", directory)["modules"]
    people = said("modules", guest.address, "--symbols", guest.symbols)
    name, size, _, _, state, address = guest.run("cat /proc/modules").split()
    assert [(each["name"], each["size"], each["address"]) for each in found] == [
        (name, int(size), address)
    ]
    assert found[0]["symbols"] == str(guest.modules["dummy"])
    assert found[0]["state"] == state.lower()
    text = guest.run("cat /sys/module/dummy/sections/.text")
    assert int(found[0]["sections"][".text"], 16) == int(text, 16)
    assert found[0]["parameters"] == {"numdummies": "1"}
    assert people.split() == [address, size, "live", "dummy"]
    guest.run("rmmod dummy")


def test_tasks(guest: Guest) -> None:
    # Those that stay: a process of its own for each command of the load's comes and goes.
    listed = guest.run("cd /proc; grep '' 1/comm 2/comm 3/comm").splitlines()
    expected = {int(line.split("/")[0]): line.partition(":")[2] for line in listed}
    found = {each["pid"]: each for each in as_json(guest, "tasks")["tasks"]}
    assert {pid: found[pid]["comm"] for pid in expected} == expected
    assert all(re.fullmatch(r"0xffff[0-9a-f]{12}", each["address"]) for each in found.values())
    assert {each["cpu"] for each in found.values()} == {0, 1}
    assert (found[1]["kernel"], found[2]["kernel"]) == (False, True)
    head, *lines = said("tasks", guest.address, "--symbols", guest.symbols).splitlines()
    assert head.split() == ["PID", "TGID", "CPU", "S", "TASK", "COMM"]
    assert lines[0].split()[::5] == ["1", "init"]
    assert lines[1].split()[::5] == ["2", "[kthreadd]"]


def test_dmesg(guest: Guest) -> None:
    guest.run(r"printf '<4>from the test \033[31m\n' > /dev/kmsg")
    expected = guest.run("dmesg -s 4000000")
    shown = said("dmesg", guest.address, "--symbols", guest.symbols)
    records = as_json(guest, "dmesg")["records"]
    # A terminal is shown no control characters; JSON has the text as it is.
    before = expected.splitlines()[:-1]  # the kernel may have said more since
    assert shown.splitlines()[: len(before)] == before
    assert "\x1b" not in shown
    [mine] = [each for each in records if each["text"] == "from the test \x1b[31m"]
    assert (mine["level"], mine["facility"]) == (4, 1)
    assert [each["sequence"] for each in records] == list(
        range(records[0]["sequence"], records[-1]["sequence"] + 1)
    )
    assert float(expected[1:].partition("]")[0]) == pytest.approx(records[0]["time"], abs=1e-6)


@pytest.mark.parametrize("command", ["slide", "modules", "tasks", "dmesg"])
def test_errors(guest: Guest, command: str) -> None:
    run(command, guest.address).fails("a kernel is known by its symbols: give --symbols vmlinux")
    if command == "slide":
        done = run(command, guest.address, "--symbols", str(ELF))
        done.fails("is not the vmlinux of a Linux kernel")
    assert guest.running
