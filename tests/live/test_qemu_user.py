"""QEMU's user-mode emulator, whose stub has rules of its own about acks, and hears no interrupt."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

import rsp
from lab.compare import registers_of
from lab.gdb import GdbError
from lab.programs import build, symbols
from rsp import OnExit, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.gdb import Gdb

pytestmark = pytest.mark.live("qemu-x86_64", "gcc", "nm")


GENERAL = frozenset(
    {*(f"r{n}x" for n in "abcd"), "rsi", "rdi", "rbp", "rsp", *(f"r{n}" for n in range(8, 16))}
    | {"fs_base", "eflags"}
)


@pytest.fixture(scope="module")
def names() -> dict[str, int]:
    return symbols("subject.c")


@pytest.fixture
def started() -> list[subprocess.Popen[bytes]]:
    """Return the emulators of a test, which `emulate` puts here."""
    return []


@pytest.fixture
def emulate(tmp_path: Path, started: list[subprocess.Popen[bytes]]) -> Iterator[Callable[..., str]]:
    """Start the program under the emulator, stopped at its first instruction."""
    numbers = itertools.count()
    with contextlib.ExitStack() as running:

        def start(*args: str) -> str:
            socket = tmp_path / f"gdb{next(numbers)}"
            process = running.enter_context(
                subprocess.Popen(
                    ["qemu-x86_64", "-g", socket, build("subject.c"), *args],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            )
            running.callback(process.kill)
            started.append(process)
            return f"unix:{socket}"

        yield start


def connect(address: str, **options: Any) -> rsp.Target:
    """Connect as soon as it listens; a connection made only to see that would be its first."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return rsp.connect(address, **options)
        except rsp.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_registers_are_those_of_gdb(
    emulate: Callable[..., str], gdb: type[Gdb], names: dict[str, int]
) -> None:
    """The emulator serves one client in its life, so gdb gets a run of its own."""
    with connect(emulate()) as target:
        assert target.stub.name == "qemu-user"
        assert target.arch.name == "x86-64"
        target.until(names["vectors_filled"], timeout=240)
        registers = target.registers
        ours = dict(registers)  # while it is there: some registers are asked for one by one
        assert registers.pc == names["vectors_filled"]
        assert ours["xmm3"] == int.from_bytes(bytes(range(24, 40)), "little")
    program = build("subject.c")
    address = emulate()
    deadline = time.monotonic() + 120
    while not (found := serve_gdb(gdb(address=address, symbols=program), names)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # The kernel chooses anew where stack and libraries are, and how the threads come to run, so
    # that the general registers differ; all others are alike.
    assert set(ours) <= set(found)
    alike = [name for name in ours if name not in GENERAL]
    assert len(alike) > 40
    assert {name: ours[name] for name in alike} == {name: found[name] for name in alike}


def serve_gdb(oracle: Gdb, names: dict[str, int]) -> dict[str, int | None]:
    """Return gdb's registers at `vectors_filled`, none while the emulator does not listen yet."""
    try:
        before = (f"break *{names['vectors_filled']:#x}", "continue")
        return registers_of(oracle, before=before)
    except GdbError:
        return {}


def test_a_session_to_the_exit(emulate: Callable[..., str], names: dict[str, int]) -> None:
    with connect(emulate("signal")) as target:
        # Measured on 7.2: it drops what comes in one piece with a request, a `+` too.
        limits = target.session.connection.limits
        assert (limits.window, limits.optimistic_ack) == (1, False)
        with target.breakpoint(names["visit"]) as point:
            for hits in range(1, 6):
                stop = target.resume(timeout=240)
                assert stop is not None
                assert (stop.breakpoint, target.registers["rdi"]) == (point, hits)
            assert point.hits == 5
        threads = target.threads
        assert len(threads) == 3
        assert len({thread.registers["fs_base"] for thread in threads}) == 3
        data = target.read_memory(names["vectors"], 2048)
        assert data == bytes((8 * row + i) % 256 for row in range(32) for i in range(64))
        target.write_register("rbx", 0x1122334455667788)
        assert target.registers["rbx"] == 0x1122334455667788
        with pytest.raises(rsp.MemoryFault):
            target.read_memory(0, 8)
        with pytest.raises(rsp.NoHardwareBreakpoint):
            target.watchpoint(names["watched"], 8)
        with pytest.raises(rsp.UnsupportedCommand, match="monitor"):
            target.monitor("info registers")
        with pytest.raises(rsp.UnsupportedCommand, match="physical"):
            target.read_memory(0, 8, physical=True)
        assert target.step(timeout=20).reason is StopReason.STEP
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.signal_name) == (StopReason.SIGNAL, "SIGUSR1")
        assert target.read_u32(names["handled"]) == 0
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.status) == (StopReason.EXITED, 7)


def test_it_cannot_be_interrupted(
    emulate: Callable[..., str], started: list[subprocess.Popen[bytes]], names: dict[str, int]
) -> None:
    with connect(emulate("spin")) as target:
        target.until(names["visit"], timeout=240)
        point = target.breakpoint(names["fill_vectors"])  # behind us
        stops_it = r"a signal from outside \(SIGTRAP\) stops it"
        with pytest.raises(rsp.RspTimeout, match=stops_it) as caught, point:
            target.resume(timeout=0.2)
        (note,) = caught.value.__notes__
        assert "until its next stop" in note
        with pytest.raises(rsp.UnsupportedCommand, match="does not listen"):
            target.interrupt()
        assert target.running
        assert list(target.breakpoints) == [point]
        started[0].send_signal(signal.SIGTRAP)
        stop = target.wait(timeout=240)
        assert (stop.reason, stop.signal_name) == (StopReason.SIGNAL, "SIGTRAP")
        assert len(target.breakpoints) == 0


def test_left_stopped(emulate: Callable[..., str], names: dict[str, int]) -> None:
    with connect(emulate(), on_exit=OnExit.LEAVE_STOPPED) as target:
        target.until(names["visit"], timeout=240)
