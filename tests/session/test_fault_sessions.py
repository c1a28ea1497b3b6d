"""Sessions over a line that corrupts, drops and doubles bytes: slow perhaps, never wrong.

The protocol's checksum is a sum of 8 bits, so a packet with one fault is always found out, and two
faults may hide each other: a digit that is lost here and the same digit doubled there. No client
can tell that; hence the faults here keep a packet's distance from each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import rsp
from rsp.errors import RspError
from rsp.remote.target import Target
from rsp.session.handshake import shake_hands
from rsp.session.session import Session
from rsp.testing.cpu import Cpu, State
from rsp.testing.faults import HARM, Fault, FaultyTransport
from rsp.testing.personalities import GDBSERVER, KGDB, PLAIN, QEMU, Personality
from rsp.testing.serve import StubTransport
from rsp.testing.stub import Stub
from rsp.wire.commands import WriteMemory
from rsp.wire.limits import Limits
from rsp.wire.replies import Ok

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.wire.commands import Command
    from rsp.wire.replies import Reply

CONTENT = bytes(i * 31 + (i >> 8) * 7 & 0xFF for i in range(0x2000))
# Times are short, for the stub answers at once.
LINE = Limits(reliable=False, retransmit_after=0.004, retries=12, timeout=5.0)


def stub_of(personality: Personality) -> Stub:
    return Stub(
        personality,
        registers={"rip": 0x1000, "rax": 0x1122334455667788},
        memory={0x1000: CONTENT},
        program=[State(registers={"rip": 0x1001 + i, "rbx": i}) for i in range(64)],
        threads={"fffffffd": Cpu()} if personality is KGDB else {},
        thread="fffffffe" if personality is KGDB else "01",
    )


def connect(line: FaultyTransport) -> Target:
    """Connect with short times, which `rsp.connect` has no reason to offer."""
    session = Session(line, LINE)
    return Target(session, shake_hands(session))


# The distance is that of the longest packet: of 256 bytes of memory, or of all registers.
LINES = [
    pytest.param(KGDB, 0.002, 530, id="kgdb"),  # one byte in a thousand
    pytest.param(PLAIN, 0.0005, 1100, id="plain"),
    pytest.param(QEMU, 0.0004, 1230, id="qemu"),
    pytest.param(GDBSERVER, 0.0004, 1150, id="gdbserver"),
]


@pytest.mark.parametrize(("personality", "rate", "gap"), LINES)
@pytest.mark.parametrize("seed", range(5))
def test_no_value_is_wrong(personality: Personality, rate: float, gap: int, seed: int) -> None:
    stub = stub_of(personality)
    line = FaultyTransport(StubTransport(stub), rate=rate, gap=gap, seed=seed)
    target = connect(line)
    for _ in range(4):
        target.invalidate()
        assert target.registers["rax"] == 0x1122334455667788
        assert target.read_memory(0x1000, len(CONTENT)) == CONTENT
        target.write_memory(0x2000, CONTENT[0x1000:0x1200])
        target.write_register("rcx", 0x5566)
        assert target.registers["rcx"] == 0x5566
        target.write_register("rcx", 0x7788)
        assert stub.cpu.registers["rcx"] == 0x7788
    assert len(line.done) > 20


@pytest.mark.parametrize("seed", range(5))
def test_one_byte_in_a_thousand_with_no_distance(seed: int) -> None:
    """What is read is right, or it has as many digits lost as doubled: the sum cannot tell."""
    stub = stub_of(KGDB)
    line = FaultyTransport(StubTransport(stub), rate=0.001, seed=seed)
    target = connect(line)
    for start in range(0, len(CONTENT), 256):
        data = target.read_memory(0x1000 + start, 256)
        expected = CONTENT[start : start + 256]
        assert sum(data.hex().encode()) % 256 == sum(expected.hex().encode()) % 256
    assert len(line.done) > 5


@pytest.mark.parametrize("fault", HARM)
def test_every_byte_of_an_exchange_may_come_to_harm(fault: Fault) -> None:
    """Each byte that the stub sends in answer to one read, and each of the request, in turn."""
    for received, place in _places():
        stub = stub_of(PLAIN)
        line = FaultyTransport(StubTransport(stub))
        target = connect(line)
        (line.harm_received if received else line.harm_sent)(place, fault)
        assert target.read_memory(0x1000, 16) == CONTENT[:16], (received, place)
        assert target.read_memory(0x1010, 16) == CONTENT[16:32], (received, place)
        assert target.registers["rax"] == 0x1122334455667788, (received, place)
        assert line.done


def _places() -> Iterator[tuple[bool, int]]:
    # `+$` 32 digits `#xx`, and `$m1000,10#xx`, `+` in the other direction.
    yield from ((True, place) for place in range(37))
    yield from ((False, place) for place in range(13))


@pytest.mark.parametrize("times", [1, 3, 1000])
def test_what_is_written_on_a_bad_line_is_read_back(times: int) -> None:
    """Some requests have come to harm, and their sum has not."""
    stub = stub_of(PLAIN)
    line = FaultyTransport(StubTransport(stub))
    target = connect(line)
    left = [times]

    def harmed(stub: Stub, command: Command) -> Reply | None:
        if not isinstance(command, WriteMemory) or not left[0]:
            return None
        left[0] -= 1
        stub.memory.write(command.address, bytes(len(command.data)))
        return Ok()

    target.write_memory(0x1000, b"clean")
    stub.hooks.append(harmed)
    line.harm_received(3, Fault.CORRUPT)
    assert target.read_memory(0x1000, 5) == b"clean"
    assert line.done
    if times > 100:
        with pytest.raises(rsp.RemoteProtocolError, match="and others are there"):
            target.write_memory(0x1000, b"dirty")
        return
    target.write_memory(0x1000, b"dirty")
    assert stub.memory.read(0x1000, 5) == b"dirty"
    assert left == [0]


@pytest.mark.parametrize("rate", [0.05, 0.3, 1.0])
def test_a_line_that_is_too_bad_is_an_error(rate: float) -> None:
    line = FaultyTransport(StubTransport(stub_of(PLAIN)), rate=rate)
    with pytest.raises(RspError) as caught:
        connect(line).read_memory(0x1000, len(CONTENT))
    assert isinstance(caught.value, rsp.RemoteProtocolError | rsp.RspTimeout)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
@pytest.mark.parametrize("personality", [QEMU, GDBSERVER, KGDB], ids=lambda who: who.name)
def test_bytes_that_come_one_by_one(personality: Personality, most: int) -> None:
    stub = stub_of(personality)
    line = FaultyTransport(StubTransport(stub), most=most, reliable=True)
    with rsp.connect(line) as target:
        assert target.registers["rax"] == 0x1122334455667788
        assert target.read_memory(0x1000, 1000) == CONTENT[:1000]
    assert stub.violations == []


def test_bytes_that_come_late() -> None:
    stub = stub_of(QEMU)
    delays = dict.fromkeys(range(0, 4000, 97), Fault.DELAY)
    line = FaultyTransport(StubTransport(stub), received=delays, delay=0.001, reliable=True)
    with rsp.connect(line) as target:
        assert target.read_memory(0x1000, 1000) == CONTENT[:1000]
        assert len(line.done) > 10
