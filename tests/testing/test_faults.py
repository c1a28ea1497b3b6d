"""The faulty line does the harm that was asked for, no more and no less."""

from __future__ import annotations

from itertools import pairwise

import pytest

from rsp.errors import RspTimeout
from rsp.testing.faults import Fault, FaultyTransport, SlowTransport
from rsp.transports.memory import MemoryTransport


def line(data: bytes, **options: object) -> FaultyTransport:
    client, stub = MemoryTransport.pair()
    stub.write(data)
    return FaultyTransport(client, **options)  # type: ignore[arg-type]  # as each test has them


def read_all(faulty: FaultyTransport) -> bytes:
    out = b""
    while True:
        try:
            data = faulty.read(7, 0.02)
        except RspTimeout:
            return out
        if not data:
            return out
        out += data


def test_no_fault() -> None:
    assert read_all(line(b"0123456789")) == b"0123456789"


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        (Fault.DROP, b"012456789"),
        (Fault.DOUBLE, b"01233456789"),
        (Fault.DELAY, b"0123456789"),
        (Fault.CUT, b"012"),
    ],
)
def test_one_fault(fault: Fault, result: bytes) -> None:
    faulty = line(b"0123456789", received={3: fault})
    assert read_all(faulty) == result
    assert faulty.done == [("received", 3, fault)]


def test_a_delay_parts_what_came_together() -> None:
    faulty = line(b"0123456789", received={3: Fault.DELAY})
    assert faulty.read(100, 1) == b"012"
    assert faulty.read(100, 1) == b"3456789"


def test_corruption_changes_one_byte() -> None:
    data = read_all(line(b"0123456789", received={3: Fault.CORRUPT}))
    assert len(data) == 10
    assert [a == b for a, b in zip(data, b"0123456789", strict=True)].count(False) == 1


def test_the_end_of_the_stream_stays() -> None:
    faulty = line(b"0123", received={0: Fault.CUT})
    assert [faulty.read(10, None) for _ in range(2)] == [b"", b""]


def test_faults_of_what_is_sent() -> None:
    client, stub = MemoryTransport.pair()
    faulty = FaultyTransport(client, sent={0: Fault.DROP, 3: Fault.DOUBLE, 5: Fault.DELAY})
    faulty.write(b"012")
    faulty.write(b"345678")
    assert stub.read(100, 0) == b"1233" + b"45678"


def test_faults_from_now_on() -> None:
    client, stub = MemoryTransport.pair()
    faulty = FaultyTransport(client)
    faulty.write(b"before")
    faulty.harm_sent(1, Fault.DROP)
    faulty.write(b"012")
    assert stub.read(100, 0) == b"before02"
    stub.write(b"012")
    faulty.harm_received(2, Fault.DOUBLE)
    assert faulty.read(100, 0) == b"0122"


@pytest.mark.parametrize("most", [1, 3])
def test_small_pieces(most: int) -> None:
    faulty = line(b"0123456789", most=most)
    pieces = [faulty.read(100, 0) for _ in range(-(-10 // most))]
    assert b"".join(pieces) == b"0123456789"
    assert max(map(len, pieces)) == most


def test_chance_follows_the_seed_and_the_rate() -> None:
    data = bytes(10_000)
    first, again, other = (line(data, rate=0.01, seed=seed) for seed in (1, 1, 2))
    assert read_all(first) == read_all(again)
    read_all(other)
    assert first.done == again.done != other.done
    assert 50 < len(first.done) < 200


def test_the_gap_is_kept() -> None:
    faulty = line(bytes(20_000), rate=0.1, gap=300)
    read_all(faulty)
    places = [place for _, place, _ in faulty.done]
    assert len(places) > 30
    assert min(b - a for a, b in pairwise(places)) > 300


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def slow_line() -> tuple[SlowTransport, MemoryTransport, Clock]:
    client, stub = MemoryTransport.pair()
    clock = Clock()
    return SlowTransport(client, baud=1000, clock=clock, sleep=clock.sleep), stub, clock


def test_a_byte_takes_ten_bits() -> None:
    line, stub, clock = slow_line()
    line.write(b"0123456789")
    assert clock.now == pytest.approx(100.1)
    assert stub.read(100, 0) == b"0123456789"
    stub.write(b"abcdefghij")
    received, arrived = b"", []
    while len(received) < 10:
        received += line.read(100, 1)
        arrived.append(round(clock.now - 100.1, 3))
    assert received == b"abcdefghij"
    assert arrived == [round(0.01 * n, 3) for n in range(1, 11)]
    assert (line.sent, line.received) == (10, 10)


def test_what_has_had_the_time_comes_at_once_and_an_idle_line_saves_nothing_up() -> None:
    line, stub, clock = slow_line()
    clock.now += 1000
    stub.write(b"abcdefghij")
    assert line.read(1, 1) == b"a"
    clock.now += 0.045
    assert line.read(100, 1) == b"bcde"
    clock.now += 1000
    assert line.read(100, 1) == b"fghij"


def test_a_slow_line_keeps_the_deadline_of_a_read() -> None:
    line, stub, clock = slow_line()
    stub.write(b"ab")
    with pytest.raises(RspTimeout):
        line.read(100, 0.005)
    assert clock.now == pytest.approx(100.005)
    assert line.read(100, 0.01) == b"a"


def test_the_end_of_a_slow_line() -> None:
    line, stub, _ = slow_line()
    stub.write(b"ab")
    stub.close()
    assert [line.read(1, 1) for _ in range(3)] == [b"a", b"b", b""]
