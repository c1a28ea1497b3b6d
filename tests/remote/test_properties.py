"""A property may ask the stub; it never resumes, writes, inserts, or runs a user's code."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

import rsp
from rsp.errors import LocalProtocolError
from rsp.testing.cpu import State
from rsp.testing.personalities import GDBSERVER, QEMU
from rsp.testing.serve import connected
from rsp.testing.stub import Stub

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.remote.target import Target
    from rsp.testing.personalities import Personality

START = 0x1000
WALK = [State(registers={"rip": START + i}) for i in range(1, 32)]
ACTS = (b"Z", b"z", b"vCont;", b"c", b"s", b"M", b"X", b"P", b"G", b"C", b"S", b"D", b"k")

LOOKS: dict[str, Callable[[Target], Any]] = {
    "running": lambda target: target.running,
    "registers": lambda target: target.registers.pc,
    "mode": lambda target: target.mode,
    "cpu_state": lambda target: target.cpu_state,
    "threads": lambda target: target.threads,
    "thread": lambda target: target.thread,
    "stop": lambda target: target.stop.position,
    "arch": lambda target: target.arch,
    "symbols": lambda target: target.symbols,
    "found_running": lambda target: target.found_running,
}


def stub_of(personality: Personality = QEMU, program: list[State] = WALK) -> Stub:
    return Stub(
        personality,
        registers={"rip": START},
        memory={START: bytes(4096), 0x4000: bytes(4096)},
        program=program,
        thread="01",
    )


def look(target: Target, what: str) -> object:
    """Return what a property says; an error of ours, too."""
    try:
        return LOOKS[what](target)
    except rsp.RspError as error:
        return error


def acts(stub: Stub, since: int) -> list[bytes]:
    return [payload for payload in stub.received[since:] if payload.startswith(ACTS)]


def stopped_behind(target: Target, stub: Stub) -> int:
    """Let it run to its breakpoint behind our back; return how many requests there were by then."""
    target.resume(wait=False)
    deadline = time.monotonic() + 60
    while stub.running and time.monotonic() < deadline:
        time.sleep(0.001)
    return len(stub.received)


@pytest.mark.parametrize("personality", [QEMU, GDBSERVER], ids=lambda who: who.name)
@pytest.mark.parametrize("what", LOOKS)
def test_a_condition_is_no_propertys_business(what: str, personality: Personality) -> None:
    asked: list[int] = []

    def even(target: Target) -> bool:
        asked.append(target.registers.pc)
        return len(asked) == 2

    stub = stub_of(personality)
    with connected(stub) as target:
        target.breakpoint(START + 5, condition=even)
        target.breakpoint(START + 7, condition=even)
        before = stopped_behind(target, stub)
        for _ in range(3):
            look(target, what)
        assert asked == []
        assert acts(stub, before) == []
        assert target.running
        assert target.wait(timeout=60).reason is rsp.StopReason.BREAKPOINT
        assert asked == [START + 5, START + 7]
        assert not target.running


@pytest.mark.parametrize("what", LOOKS)
def test_a_breakpoint_that_is_taken_out_by_its_hit(what: str) -> None:
    stub = stub_of()
    with connected(stub) as target:
        target.breakpoint(START + 5, temporary=True)
        before = stopped_behind(target, stub)
        look(target, what)
        assert acts(stub, before) == []
        assert target.wait(timeout=60).reason is rsp.StopReason.BREAKPOINT
        assert stub.breakpoints == {}


@pytest.mark.parametrize("watched", [False, True])
def test_a_plain_stop_is_seen_by_who_polls(watched: bool) -> None:
    written = State(registers={"rip": START + 6}, writes={0x4000: b"\1"})
    stub = stub_of(program=[*WALK[:5], written, *WALK[6:]])
    with connected(stub) as target:
        if watched:
            target.watchpoint(0x4000, 4)
        else:
            target.breakpoint(START + 5)
        before = stopped_behind(target, stub)
        assert not target.running
        assert acts(stub, before) == []
        assert target.registers.pc in (START + 5, START + 6)
        assert target.wait().reason in (rsp.StopReason.BREAKPOINT, rsp.StopReason.WATCHPOINT)


def test_what_is_to_be_judged_is_judged_by_a_method() -> None:
    stub = stub_of()
    with connected(stub) as target:
        target.breakpoint(START + 5, condition=lambda _: True)
        stopped_behind(target, stub)
        with pytest.raises(LocalProtocolError, match="wait"):
            _ = target.registers
        assert target.read_memory(START, 2) == bytes(2)
        assert target.registers.pc == START + 5
