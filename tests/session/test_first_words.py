"""The first words with a stub: what it may have said before, what it loses, and odd answers."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

import rsp
from rsp.testing.cpu import State
from rsp.testing.personalities import BOCHS, GDBSERVER, PLAIN, QEMU, Personality, UntilAck
from rsp.testing.serve import StubTransport
from rsp.testing.stub import Stub, assert_harmless
from rsp.wire import codec

# Of the family of gdb's i386-stub.c, GRUB's module for one: what has reported a stop waits for the
# `+`, and whatever else comes makes it report the stop once more.
I386_STUB = replace(PLAIN, until_ack=UntilAck.RESENDS, commands=frozenset("GP"))


class Waiting(Stub):
    """A stub that has reported its stop before anybody was there."""

    def connected(self) -> bytes:
        super().connected()
        self._last_sent = codec.frame(b"T05thread:01;")
        self._unacked = True
        return b""


class Deaf(StubTransport):
    """A line that loses the beginning of what is written; nobody says that it does."""

    def __init__(self, stub: Stub, loses: int) -> None:
        super().__init__(stub)
        self.loses = loses

    def write(self, data: bytes, timeout: float | None = None) -> None:
        if self.loses:
            self.loses -= 1
            return
        super().write(data, timeout)


class Slow(StubTransport):
    """A line on which the first answer takes its time."""

    def __init__(self, stub: Stub, seconds: float) -> None:
        super().__init__(stub)
        self._begin = time.monotonic() + seconds

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        if (left := self._begin - time.monotonic()) > 0:
            if timeout is not None and timeout < left:
                time.sleep(timeout)
                raise rsp.RspTimeout("nothing yet", timeout=timeout)
            time.sleep(left)
        return super().read(max_bytes, timeout)


def stub_of(personality: Personality, kind: type[Stub] = Stub) -> Stub:
    return kind(
        personality,
        registers={"rip": 0x1000},
        memory={0x1000: bytes(range(256))},
        program=[State(registers={"rip": 0x1001})],
    )


def test_a_stub_that_waits_for_the_ack_of_an_earlier_stop() -> None:
    stub = stub_of(I386_STUB, Waiting)
    with rsp.connect(StubTransport(stub), timeout=60) as target:
        assert target.read_memory(0x1000, 4) == b"\0\1\2\3"
    assert_harmless(stub)


def test_nothing_is_acknowledged_on_a_console_s_line() -> None:
    """Whoever reads it there is a shell."""

    class Console(StubTransport):
        reliable = False
        sent = b""

        def write(self, data: bytes, timeout: float | None = None) -> None:
            self.sent += data
            super().write(data, timeout)

    line = Console(stub_of(PLAIN))
    with rsp.connect(line, timeout=60):
        assert line.sent.startswith(b"$qSupported")


def test_a_first_request_that_is_lost_is_sent_again() -> None:
    stub = stub_of(PLAIN)
    with rsp.connect(Deaf(stub, 1), timeout=60) as target:
        assert target.read_memory(0x1000, 4) == b"\0\1\2\3"
    assert_harmless(stub)


@pytest.mark.parametrize("personality", [PLAIN, QEMU, GDBSERVER], ids=lambda who: who.name)
def test_a_first_request_that_is_answered_twice(personality: Personality) -> None:
    stub = stub_of(personality)
    with rsp.connect(Slow(stub, 1.3), timeout=60) as target:
        repeated = [packet for packet in stub.received if packet.startswith(b"qSupported")]
        # gdbserver repeats its answer instead, for each byte that comes where its ack should.
        assert len(repeated) == (1 if stub.violations else 2)
        assert target.stub.name == personality.name
        assert target.read_memory(0x1000, 4) == b"\0\1\2\3"
        assert target.registers.pc == 0x1000
    assert all("before the + of the last reply" in each for each in stub.violations)


def test_the_length_of_the_first_packet_is_one_that_winedbg_reads() -> None:
    """It reads into 128 bytes, and goes on reading what leaves less free than it has filled."""
    stub = stub_of(PLAIN)
    with rsp.connect(StubTransport(stub)):
        length = len(codec.frame(stub.received[0])) + len(b"+")
    assert 128 < length < 192


# --- odd answers to what one can do without ---

ODD = {
    b"vMustReplyEmpty": b"what?",
    b"qC": b"0000000000000001",
    b"qfThreadInfo": b"m 1",
    b"qsThreadInfo": b"m 2",
    b"qqemu.sstepbits": b"none",
    b"?": b"T05thread:;",
    b"vCont?": b"what?",
}


@pytest.mark.parametrize("question", [*ODD, b"qThreadExtraInfo,01", b"qXfer:features:read"])
@pytest.mark.parametrize("personality", [PLAIN, QEMU, GDBSERVER, BOCHS], ids=lambda who: who.name)
@pytest.mark.parametrize("reliable", [True, False])
def test_one_odd_answer_ends_no_session(
    question: bytes,
    personality: Personality,
    reliable: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    stub = stub_of(personality)
    stub.hooks.append(
        lambda stub, _: (
            ODD.get(question, b"#odd") if stub.received[-1].startswith(question) else None
        )
    )
    line = StubTransport(stub)
    line.reliable = reliable
    with rsp.connect(line, timeout=60) as target:
        _ = [thread.name for thread in target.threads]
        assert target.registers["rip"] == 0x1000
        assert target.read_memory(0x1000, 4) == b"\0\1\2\3"
        target.step(timeout=10)
    asked = any(packet.startswith(question) for packet in stub.received)
    told = any("done without" in record.getMessage() for record in caplog.records)
    # To tell Bochs, qC is asked once without expecting anything.
    assert told or not asked or question == b"qC"
    assert_harmless(stub)
