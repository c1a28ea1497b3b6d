"""Wherever connecting or a session breaks off, the target is left as it was found.

The stubs here are scripted, so that they can fail at any step; the real ones are in
tests/live/test_as_found.py. What is counted is what let the target run.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

import rsp
from lab import moments
from rsp import OnExit
from rsp.testing.cpu import State
from rsp.testing.personalities import GDBSERVER, QEMU, QEMU_OLD
from rsp.testing.serve import StubTransport, listening
from rsp.testing.stub import Stub, assert_harmless
from rsp.transports.base import read_timeout
from rsp.transports.wrapper import TransportWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.testing.stub import Answer
    from rsp.wire import commands

AS_FOUND = OnExit.AS_FOUND
TIMEOUT = 0.05
SILENCE = 0.2  # longer than that
MOMENTS = 15


class NewQemu(Stub):
    """QEMU from 8.1: it does not report that it was stopped, and has a monitor.

    Args:
        status: what that says.
    """

    def __init__(self, status: str, **options: Any) -> None:
        super().__init__(replace(QEMU, greeting=False), **options)
        self.status = status

    def monitor(self, command: str) -> str:
        told = {"info status": f"VM status: {self.status}", "info version": "10.0.2Debian 1:10"}
        return told.get(command, "?") + "\r\n"


REGISTERS: dict[str, Any] = {
    "registers": {"rip": 0x1000},
    "memory": {0x1000: bytes(range(256))},
    "program": [State(registers={"rip": 0x1000 + i}) for i in range(9)],
}


def machine(stub: Stub, *, running: bool) -> Stub:
    stub.running = running
    return stub


def detached(stub: Stub) -> int:
    return sum(
        payload[:1] in (b"D", b"c") or payload.startswith(b"vCont;") for payload in stub.received
    )


def steps(make: Callable[[], Stub]) -> int:
    """Return how many requests connecting takes."""
    stub = make()
    target = rsp.connect(StubTransport(stub), on_exit=AS_FOUND)
    number = len(stub.received)
    target.leave_as_found()
    return number


class Broken(TransportWrapper):
    """Once a number of requests have been written, something happens in front of the next read.

    Args:
        stub: at the other end.
        step: that number.
        failure: what is raised; None where only nothing comes for longer than the client waits.
    """

    def __init__(self, stub: Stub, step: int, failure: type[BaseException] | None) -> None:
        super().__init__(StubTransport(stub))
        self._stub = stub
        self._step = step
        self._failure = failure
        self._silent_until = 0.0

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        if len(self._stub.received) >= self._step > 0:
            self._step = 0
            self._silent_until = time.monotonic() + SILENCE
            if self._failure is not None:
                raise self._failure
        if self._failure is None and (left := self._silent_until - time.monotonic()) > 0:
            assert timeout is not None
            time.sleep(min(left, timeout))
            raise read_timeout(self.address, timeout)
        return super().read(max_bytes, timeout)


def silent(stub: Stub, step: int) -> Stub:
    """Let the request of a step have no answer at all."""
    stub.hooks.append(lambda stub, _: [] if len(stub.received) == step else None)
    return stub


STUBS: dict[str, tuple[Callable[[], Stub], bool]] = {
    "a running QEMU": (lambda: machine(Stub(QEMU, **REGISTERS), running=True), True),
    "a standing QEMU": (lambda: Stub(QEMU, **REGISTERS), False),
    "an old running QEMU": (lambda: machine(Stub(QEMU_OLD, **REGISTERS), running=True), True),
    "a new running QEMU": (lambda: machine(NewQemu("paused", **REGISTERS), running=True), True),
    "a new QEMU at a breakpoint": (lambda: NewQemu("paused (debug)", **REGISTERS), False),
    "a gdbserver": (lambda: Stub(GDBSERVER, **REGISTERS), False),
}


StubAndState: TypeAlias = "tuple[Callable[[], Stub], bool]"


@pytest.fixture(params=STUBS, ids=lambda name: name.replace(" ", "-"))
def stub_and_state(request: pytest.FixtureRequest) -> StubAndState:
    """Return what makes a stub, and whether its target runs."""
    return STUBS[request.param]


def check(stub: Stub, *, ran: bool, what: object = "") -> None:
    assert (stub.running, detached(stub)) == (ran, int(ran)), what
    assert_harmless(stub)


@pytest.mark.parametrize("failure", [None, KeyboardInterrupt, OSError, RuntimeError])
def test_each_step_of_connecting_is_cut_off(
    stub_and_state: StubAndState, failure: type[BaseException] | None
) -> None:
    make, ran = stub_and_state
    for step in range(1, steps(make) + 1):
        stub = make()
        with pytest.raises(failure or rsp.RspTimeout):
            rsp.connect(Broken(stub, step, failure), timeout=TIMEOUT, on_exit=AS_FOUND)
        check(stub, ran=ran, what=f"step {step}")


def test_each_step_but_the_first_has_no_answer(stub_and_state: StubAndState) -> None:
    make, ran = stub_and_state
    for step in range(2, steps(make) + 1):
        stub = silent(make(), step)
        with pytest.raises(rsp.RspTimeout):
            rsp.connect(StubTransport(stub), timeout=TIMEOUT, on_exit=AS_FOUND)
        check(stub, ran=ran, what=f"step {step}")


def _die(step: int, stub: Stub, _: commands.Command) -> Answer | None:
    stub.dead = len(stub.received) == step
    return [] if stub.dead else None


def test_a_stub_that_dies(stub_and_state: StubAndState) -> None:
    make, _ = stub_and_state
    for step in range(1, steps(make) + 1):
        stub = make()
        stub.hooks.append(partial(_die, step))
        with pytest.raises(rsp.ConnectionLost):
            rsp.connect(StubTransport(stub), on_exit=AS_FOUND)
        assert detached(stub) == 0


# --- Ctrl-C, at any line of ours ---


def connect(address: str) -> None:
    with rsp.connect(address, on_exit=AS_FOUND):
        pass


def use(address: str) -> None:
    """Do what leaves something in a target, if it is cut off."""
    with rsp.connect(address, on_exit=AS_FOUND) as target:
        assert target.registers.pc == 0x1000
        target.read_memory(0x1000, 256)
        if target.stub.physical_memory:
            target.read_memory(0, 256, physical=True)
        with target.breakpoint(0x1003):
            target.resume(timeout=5)
            target.step()
        target.write_register("rax", 1)


@pytest.mark.parametrize("work", [connect, use])
def test_ctrl_c_at_any_moment(stub_and_state: StubAndState, work: Callable[[str], None]) -> None:
    make, ran = stub_and_state

    def at(moment: int | None) -> moments.Moments:
        stub = make()
        stub.physical_memory.map(0, bytes(4096))
        with listening(stub, "unix") as address:
            done = moments.interrupt(lambda: work(address), at=moment)
        assert (stub.running, stub.breakpoints, stub.physical) == (ran, {}, False), done.where
        assert stub.violations == [], done.where
        return done

    at(None)  # imports have moments of their own
    for moment in moments.draw(at(None).count, MOMENTS, seed=1):
        at(moment)
