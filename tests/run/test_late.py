"""A client that the machine lets run late: what has come meanwhile counts, not when it looks."""

from __future__ import annotations

import time

import rsp
from rsp.testing.cpu import Cpu
from rsp.testing.personalities import KGDB, PLAIN, Personality
from rsp.testing.serve import StubTransport
from rsp.testing.stub import Stub, assert_harmless


class Late(StubTransport):
    """A line whose client is not scheduled for a while behind each thing that it writes."""

    late = 0.0

    def write(self, data: bytes, timeout: float | None = None) -> None:
        super().write(data, timeout)
        time.sleep(self.late)


def stub_of(personality: Personality = PLAIN) -> Stub:
    return Stub(
        personality,
        registers={"rip": 0x1000},
        memory={0x1000: bytes(range(256))},
        threads={"fffffffd": Cpu(name="shadowCPU1")},
        thread="fffffffe",
    )


def test_an_answer_that_was_there_in_time_is_no_timeout() -> None:
    line = Late(stub_of())
    with rsp.connect(line, timeout=0.2) as target:
        line.late = 0.3
        assert target.read_memory(0x1000, 4) == b"\0\1\2\3"
        line.late = 0.0


def test_an_answer_that_was_there_is_not_asked_for_again() -> None:
    kernel = stub_of(KGDB)
    line = Late(kernel)
    with rsp.connect(line, timeout=60) as target:
        line.late = 0.1 + target.session.connection.limits.retransmit_after
        kernel.received.clear()
        assert target.read_memory(0x1000, 4) == b"\0\1\2\3"
        assert kernel.received == [b"Hgfffffffe", b"m1000,4"]
        line.late = 0.0
    assert_harmless(kernel)
