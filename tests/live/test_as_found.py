"""However a command or a script ends, the machine is left as it was found, seen from outside.

The commands are ended by signals at moments drawn over the life of their connection: RSP_MOMENTS of
them for each command, 3 without. How many came within it, and how many too late, each test prints.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS, wait_until_it_counts
from lab.command import run
from lab.forked import Forked
from lab.guest import GuestError
from lab.tapped import TappedLine
from rsp.testing.boot import ELF, IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.guest import BootKernel, KernelName
    from lab.servers import BootQemu, StartServer
    from rsp.testing.qemu import QemuMachine

MOMENTS = int(os.environ.get("RSP_MOMENTS", "3"))
MORE_MOMENTS = 60  # drawn at most where none of the few came within the connection
PATIENCE = 120.0
SYMBOLS = ("--symbols", str(ELF))

LOOKING = {
    "info": ("info", "TARGET"),
    "regs": ("regs", "TARGET"),
    "read": ("read", "TARGET", "0", "256K"),
    "write": ("write", "TARGET", "0x9000", "90f4"),
    "bt": ("bt", "TARGET", "--all", *SYMBOLS),
    "print": ("print", "TARGET", "(char)greeting", *SYMBOLS),
    "disas": ("disas", "TARGET", f"{LABELS['long_start']:#x}"),
    "monitor": ("monitor", "TARGET", "info", "registers"),
}
RUNNING = {
    "break": ("break", "TARGET", "tick", "--count", "5", *SYMBOLS),
    "watch": ("watch", "TARGET", "counter:8", "--count", "5", *SYMBOLS),
}


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    with Forked() as server:
        yield server


@dataclass
class Tally:
    """What has become of the moments."""

    within: int = 0
    late: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.within} within the connection, {self.late} behind it, wrong: {self.wrong}"


def cut_off(
    forked: Forked,
    line: TappedLine,
    command: tuple[str, ...],
    check: Callable[[], str],
    *,
    prepare: Callable[[], object] = lambda: None,
    number: signal.Signals = signal.SIGINT,
) -> Tally:
    """End a command by a signal at each of the moments; see what is wrong then.

    Args:
        forked: starts it.
        line: what it connects to.
        command: its words, TARGET for the address.
        check: returns what is wrong with the target, an empty text for nothing.
        prepare: puts the target in the state in which it is to be found.
        number: the signal.
    """
    words = [line.address if word == "TARGET" else word for word in command]
    tally = Tally()
    # The life of a run that nobody cuts off, in pieces and in seconds.
    prepare()
    line.expect()
    forked.start(*words)
    assert line.wait_for(0, PATIENCE), "it did not connect"
    began = time.monotonic()
    assert forked.finish() == 0, command
    line.wait_until_over()
    pieces, life = line.pieces, time.monotonic() - began
    assert not check(), "it is not even right when nobody cuts it off"
    chance = random.Random(" ".join(command))
    for moment in range(MOMENTS + MORE_MOMENTS):
        if moment >= MOMENTS and tally.within:
            break
        # By what has passed, however loaded the machine is, and by time: it may compute for long.
        part = (moment % MOMENTS + chance.random()) / MOMENTS
        at, delay = (pieces * part, life / pieces) if moment % 2 else (0, life * part)
        prepare()
        line.expect()
        process = forked.start(*words)
        there = line.wait_for(round(at), PATIENCE)
        time.sleep(chance.uniform(0, delay) if moment % 2 else delay)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
        status = forked.finish()
        line.wait_until_over()
        tally.within += there and status == 128 + number
        tally.late += not there or status != 128 + number
        if wrong := check():
            tally.wrong.append(f"{wrong}: {part:.3f} of its life, status {status}")
    print(f"{' '.join(command)}, {number.name}: {tally}")
    return tally


# --- QEMU ---


def left_running(machine: QemuMachine, ran: bool) -> bool:
    """Return whether a machine that somebody has let run, or paused, runs when we have left.

    QEMU from 8.0 on does not tell a paused one from one that it has stopped for its client.
    """
    return ran or int(machine.monitor("info version").partition(".")[0]) >= 8


def stands(machine: QemuMachine) -> bool:
    return "paused" in machine.monitor("info status")


@pytest.fixture(scope="module")
def counting() -> Iterator[QemuMachine]:
    """A machine that counts in 64-bit mode."""
    from rsp.testing.qemu import QemuMachine

    with QemuMachine(IMAGE, stopped=False) as machine:
        wait_until_it_counts(machine)
        yield machine


@pytest.mark.live("qemu-system-x86_64")
@pytest.mark.parametrize("name", LOOKING)
@pytest.mark.parametrize("running", [True, False])
def test_a_command_that_looks_is_cut_off(
    counting: QemuMachine, forked: Forked, name: str, running: bool
) -> None:
    runs = left_running(counting, running)
    with TappedLine(counting.address) as line:
        tally = cut_off(
            forked,
            line,
            LOOKING[name],
            lambda: "" if stands(counting) != runs else "it stands" if runs else "it runs",
            prepare=lambda: counting.monitor("cont" if running else "stop"),
        )
    assert not tally.wrong
    assert tally.within


@pytest.mark.live("qemu-system-x86_64")
@pytest.mark.parametrize("name", RUNNING)
def test_a_command_that_runs_the_target_is_cut_off(
    counting: QemuMachine, forked: Forked, name: str
) -> None:
    """A breakpoint that were left would stop it again."""

    def check() -> str:
        if stands(counting):
            return "it stands"
        wait_until_it_counts(counting)
        return "it stands after a while" if stands(counting) else ""

    counting.monitor("cont")
    with TappedLine(counting.address) as line:
        tally = cut_off(
            forked, line, RUNNING[name], check, prepare=lambda: counting.monitor("cont")
        )
    assert not tally.wrong
    assert tally.within


@pytest.mark.live("qemu-system-x86_64")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_is_ended(counting: QemuMachine, forked: Forked, number: signal.Signals) -> None:
    with TappedLine(counting.address) as line:
        tally = cut_off(
            forked,
            line,
            LOOKING["bt"],
            lambda: "it stands" if stands(counting) else "",
            prepare=lambda: counting.monitor("cont"),
            number=number,
        )
    assert not tally.wrong
    assert tally.within


@pytest.mark.live("qemu-system-x86_64")
@pytest.mark.parametrize("running", [True, False])
def test_a_very_short_timeout(counting: QemuMachine, running: bool) -> None:
    counting.monitor("cont" if running else "stop")
    for seconds in ("0.000001", "0.001", "0.01"):
        done = run("info", counting.address, "--timeout", seconds)
        assert done.status in (0, 1)
        assert stands(counting) != left_running(counting, running), (seconds, done)


@pytest.mark.live("qemu-system-x86_64")
@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout": -1},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"on_exit": "foo"},
        {"slide": "x"},
        {"interrupt": "nonsense"},
        {"symbols": "/nope"},
        {"modules": "/nope"},
        {"record": "/nope/log"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_a_bad_argument(counting: QemuMachine, arguments: dict[str, object]) -> None:
    """QEMU would stop for a connection, even if it were closed at once."""
    counting.monitor("cont")
    with TappedLine(counting.address) as line:
        line.expect()
        with pytest.raises(rsp.RspError):
            rsp.connect(line.address, **arguments)  # type: ignore[arg-type]  # they are bad
        assert line.clients == 0
    assert not stands(counting)


@pytest.mark.live("qemu-system-x86_64")
def test_who_waited_behind_another_client(counting: QemuMachine) -> None:
    """QEMU takes the next one up when the first has gone, though it has hung up long since."""
    counting.monitor("cont")
    with rsp.connect(counting.address) as target:
        with pytest.raises(rsp.RspTimeout, match="another client may be attached"):
            rsp.connect(counting.address, timeout=0.5)
        assert target.registers
    with rsp.connect(counting.address) as target:  # whose turn comes behind the one that waited
        assert target.found_running is not False  # None from QEMU 8.0 on
    assert not stands(counting)


# --- scripts ---

SCRIPTS = {
    "just ends": "target = connect()",
    "ends by an error": "target = connect(); raise SystemExit(3)",
    "lets it be collected": "connect(); import gc; gc.collect(); print('collected'); input()",
    "ends within a function": "def f():\n    target = connect()\n    target.registers\nf()",
    "has a breakpoint": "target = connect(); target.breakpoint(TICK); target.resume(timeout=60)",
}


def forget(address: str, script: str, on_exit: str = "detach", *, status: int = 0) -> str:
    """Run a script that connects and does not detach; return what it printed."""
    names = f"""
        import rsp
        TICK = {LABELS["tick"]:#x}
        def connect():
            return rsp.connect({address!r}, on_exit={on_exit!r}, timeout=60)
        """
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", textwrap.dedent(names) + script],
        input="\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "ResourceWarning" in done.stderr
    assert "detach()" in done.stderr
    return done.stdout


@pytest.mark.live("qemu-system-x86_64")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_forgets(counting: QemuMachine, name: str) -> None:
    counting.monitor("cont")
    forget(counting.address, SCRIPTS[name], status=3 if "SystemExit" in SCRIPTS[name] else 0)
    assert not stands(counting)
    wait_until_it_counts(counting)


@pytest.mark.live("qemu-system-x86_64")
@pytest.mark.parametrize("on_exit", ["leave stopped", "as found"])
def test_a_script_that_forgets_ends_as_it_has_said(counting: QemuMachine, on_exit: str) -> None:
    counting.monitor("cont")
    forget(counting.address, SCRIPTS["just ends"], on_exit)
    assert stands(counting) == (on_exit == "leave stopped")


def test_a_child_of_the_process_leaves_nothing(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    program = textwrap.dedent(
        f"""
        import os, rsp, sys
        target = rsp.connect({machine.address!r}, timeout=60)
        if os.fork() == 0:
            sys.exit()
        os.wait()
        print(target.monitor("info status"))
        target.detach()
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "paused" in done.stdout


# --- gdbserver ---


def test_a_program_under_gdbserver_stands_as_before(gdbserver: StartServer) -> None:
    address = gdbserver()
    seen = {run("regs", address, "--json").json["registers"]["rip"] for _ in range(3)}
    assert len(seen) == 1
    with rsp.connect(address, on_exit="as found") as target:
        assert target.found_running is False
        target.step()


@pytest.mark.parametrize("on_exit", ["detach", "leave stopped"])
def test_a_script_that_forgets_a_program(gdbserver: StartServer, on_exit: str) -> None:
    address = gdbserver("spin")
    said = forget(
        address, "target = connect(); print(target.threads[0].thread_id.process)", on_exit
    )
    status = Path(f"/proc/{int(said)}/status").read_text()
    try:
        assert ("(tracing stop)" in status) == (on_exit == "leave stopped")
        assert ("TracerPid:\t0\n" in status) == (on_exit == "detach")
    finally:
        os.kill(int(said), signal.SIGKILL)


# --- kgdb ---


KERNEL = {
    "info": ("info", "TARGET"),
    "regs": ("regs", "TARGET"),
    "read": ("read", "TARGET", "linux_banner", "4K", "--symbols", "VMLINUX"),
    "bt": ("bt", "TARGET", "--symbols", "VMLINUX"),
    "tasks": ("tasks", "TARGET", "--symbols", "VMLINUX"),
}


@pytest.mark.parametrize(
    ("kernel", "name"), [*(("x86_64", name) for name in KERNEL), ("i386", "info")]
)
def test_a_command_on_kgdb_is_cut_off(
    shared_kernel: BootKernel, forked: Forked, kernel: KernelName, name: str
) -> None:
    guest = shared_kernel(kernel, append="kgdboc=ttyS0", ports=("telnet", "shell"))
    command = tuple(str(guest.symbols) if each == "VMLINUX" else each for each in KERNEL[name])

    def check() -> str:
        try:
            return "" if guest.run("echo alive") == "alive\n" else "it says nonsense"
        except GuestError:
            with rsp.connect(guest.ports[0]):  # for the moments to come
                pass
            return "it stands"

    with TappedLine(guest.ports[0]) as line:
        tally = cut_off(forked, line, command, check)
    assert not tally.wrong
    assert tally.within
