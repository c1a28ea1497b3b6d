"""Children of a process under gdbserver: nothing of ours is in them, and nobody notices them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.programs import build
from lab.without_z import WithoutZ
from rsp import BreakpointKind, StopReason, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.servers import StartServer
    from rsp.remote.target import Target
    from rsp.run.stop import Stop

PATIENCE = 100.0
SOURCE = "forks.c"

# How often the parent itself comes to work(), by the way in which it has its children.
WAYS = {
    "fork": 3,
    "again": 3,
    "vfork": 3,
    "vfork-exec": 3,
    "spawn": 3,
    "system": 3,
    "clone": 3,
    "threads": 14,
}


@contextlib.contextmanager
def connect(gdbserver: StartServer, way: str, *, z: bool = True) -> Iterator[Target]:
    """Connect to the program; without ``z``, to a stub without breakpoints."""
    with contextlib.ExitStack() as stack:
        address = gdbserver(way, source=SOURCE)
        if not z:
            address = stack.enter_context(WithoutZ(address)).address
        yield stack.enter_context(rsp.connect(address, symbols=build(SOURCE)))


def to_the_end(target: Target) -> tuple[int, Stop]:
    """Return how often it stopped at a breakpoint until its end, and that."""
    stop, hits = target.resume(timeout=PATIENCE), 0
    while stop.reason is StopReason.BREAKPOINT:
        hits += 1
        stop = target.resume(timeout=PATIENCE)
    return hits, stop


@pytest.mark.parametrize("z", [True, False], ids=["Z", "int3"])
@pytest.mark.parametrize("way", WAYS)
def test_children_live_and_only_the_parent_stops(gdbserver: StartServer, way: str, z: bool) -> None:
    with connect(gdbserver, way, z=z) as target, target.breakpoint("work"):
        assert target.points.in_memory is not z
        hits, stop = to_the_end(target)
        assert (hits, stop.reason, stop.status) == (WAYS[way], StopReason.EXITED, 0)


@pytest.mark.parametrize("way", ["fork", "vfork", "system", "threads"])
def test_a_false_condition_and_a_hardware_breakpoint(gdbserver: StartServer, way: str) -> None:
    """What is passed on the way is passed in all of them: each hit steps over the breakpoint."""
    with (
        connect(gdbserver, way) as target,
        target.breakpoint("work", condition=lambda _: False),
        target.breakpoint("failed", kind=BreakpointKind.HARDWARE, condition=lambda _: False),
        target.watchpoint("worked", watch=Watch.WRITE, condition=lambda _: False),
    ):
        hits, stop = to_the_end(target)
        assert (hits, stop.reason, stop.status) == (0, StopReason.EXITED, 0)


@pytest.mark.parametrize("way", ["by_fork", "by_vfork", "by_spawn", "by_system"])
def test_lines_are_stepped_across_a_fork(gdbserver: StartServer, way: str) -> None:
    with connect(gdbserver, way[3:]) as target:
        target.until(way, timeout=PATIENCE)
        parent = target.thread
        point = target.breakpoint("failed") if way != "by_system" else target.breakpoint("work")
        before = target.stop.line
        assert before is not None
        lines = [before.line]
        while target.stop.function == way:
            stop = target.next_line(timeout=PATIENCE)
            assert stop.thread == parent
            if stop.reason is StopReason.BREAKPOINT:
                break
            assert stop.reason is StopReason.STEP
            assert stop.line is not None
            lines.append(stop.line.line)
        assert stop.breakpoint is point
        assert lines == sorted(lines)
        assert len(lines) >= 3
        point.remove()
        stop = target.finish(timeout=PATIENCE)
        assert stop.function == way
        assert target.resume(timeout=PATIENCE).status == 0


def test_instructions_are_stepped_across_a_fork(gdbserver: StartServer) -> None:
    """The step ends behind the system call, in the parent, and not again at the fork's event."""
    with connect(gdbserver, "fork") as target, target.breakpoint("work"):
        target.resume(timeout=PATIENCE)
        target.until("by_fork", timeout=PATIENCE)
        parent, steps = target.thread, 0
        with target.breakpoint("failed") as arrived:
            stop = target.step(timeout=PATIENCE)
            while stop.reason is StopReason.STEP and steps < 5000:
                steps += 1
                assert stop.thread == parent
                stop = target.step(timeout=PATIENCE)
            # At work() it stops on the way, in the parent.
            while stop.breakpoint is not arrived:
                stop = target.resume(timeout=PATIENCE)
        assert steps > 10
        _, stop = to_the_end(target)
        assert (stop.reason, stop.status) == (StopReason.EXITED, 0)


def test_nothing_is_done_by_asking_whether_it_runs(gdbserver: StartServer) -> None:
    with connect(gdbserver, "fork") as target, target.breakpoint("failed"):
        target.resume(wait=False)
        while not target.session.stops:  # the fork's event
            assert target.running
        assert target.running
        assert target.wait(timeout=PATIENCE).reason is StopReason.BREAKPOINT


@pytest.mark.parametrize("z", [True, False], ids=["Z", "int3"])
def test_breakpoints_are_gone_with_the_program_that_they_were_in(
    gdbserver: StartServer, z: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(gdbserver, "exec", z=z) as target:
        point, away = target.breakpoint("work"), target.breakpoint("by_fork")
        assert target.resume(timeout=PATIENCE).breakpoint is point
        stop = target.resume(timeout=PATIENCE)
        assert (stop.reason, stop.event) == (StopReason.EVENT, "exec")
        assert not point.inserted
        assert not away.inserted
        assert "no breakpoint is in it" in caplog.text
        point = target.breakpoint("work")
        assert target.resume(timeout=PATIENCE).breakpoint is point
        point.remove()
        assert target.resume(timeout=PATIENCE).status == 7


@pytest.mark.parametrize("z", [True, False], ids=["Z", "int3"])
def test_a_program_is_left_whose_breakpoints_are_gone(gdbserver: StartServer, z: bool) -> None:
    with connect(gdbserver, "exec", z=z) as target, target.breakpoint("work"):
        target.resume(timeout=PATIENCE)
        assert target.resume(timeout=PATIENCE).event == "exec"
