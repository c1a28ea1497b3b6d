"""A line that comes to harm, and a slow one: both wrap any transport.

Contents: FaultyTransport, which corrupts, drops, doubles, delays and splits what passes, and
SlowTransport, which has the speed of a serial line. What a stub gets wrong by itself is in
``stub``.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from rsp.errors import RspTimeout
from rsp.transports.base import read_timeout
from rsp.transports.wrapper import TransportWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rsp.transports.base import Transport


class Fault(Enum):
    """What may happen to a byte."""

    CORRUPT = "corrupt"
    """Some of its bits change."""
    DROP = "drop"
    """It does not arrive."""
    DOUBLE = "double"
    """It arrives twice."""
    DELAY = "delay"
    """It, and what follows it, arrives later."""
    CUT = "cut"
    """Nothing arrives from it on; the one who reads sees the end of the stream."""


HARM = (Fault.CORRUPT, Fault.DROP, Fault.DOUBLE)
"""The faults of a bad serial line."""


class FaultyTransport(TransportWrapper):
    """Does harm to what passes, by chance or at given places; both directions are counted apart.

    >>> from rsp.transports.memory import MemoryTransport
    >>> client, stub = MemoryTransport.pair()
    >>> line = FaultyTransport(client, received={2: Fault.DROP})
    >>> stub.write(b"$OK#9a")
    >>> line.read(100, 0)
    b'$O#9a'

    Args:
        inner: the transport that is wrapped, and closed together with this one.
        rate: how many of the bytes come to harm, from 0 to 1.
        gap: at least so many bytes pass unharmed between two of them.
        kinds: what happens to them.
        seed: of the random numbers.
        received: faults by their place in the stream that is received.
        sent: faults by their place in the stream that is sent.
        most: the most bytes that one ``read`` returns: 1 makes every byte come alone.
        delay: seconds that a DELAY takes.
        reliable: what the transport says of itself.

    Attributes:
        done: the faults that have happened, in order: ``("received", place, fault)``.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        rate: float = 0.0,
        gap: int = 0,
        kinds: Sequence[Fault] = HARM,
        seed: int = 0,
        received: Mapping[int, Fault] | None = None,
        sent: Mapping[int, Fault] | None = None,
        most: int | None = None,
        delay: float = 0.01,
        reliable: bool = False,
    ) -> None:
        super().__init__(inner)
        self.reliable = reliable
        self.done: list[tuple[str, int, Fault]] = []
        self._most = most
        self._delay = delay
        self._received = _Direction("received", (rate, gap), kinds, seed, received or {}, self.done)
        self._sent = _Direction("sent", (rate, gap), kinds, seed + 1, sent or {}, self.done)
        self._held = bytearray()  # received and not delayed, but more than was asked for
        self._late = b""  # received behind a DELAY

    def harm_received(self, place: int, fault: Fault) -> None:
        """Let a fault happen to the byte that is received ``place`` bytes from now."""
        self._received.plan(place, fault)

    def harm_sent(self, place: int, fault: Fault) -> None:
        """Let a fault happen to the byte that is sent ``place`` bytes from now."""
        self._sent.plan(place, fault)

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        most = min(max_bytes, self._most or max_bytes)
        while not self._held:
            if self._received.over:
                return b""
            data = self._take_late()
            if not data:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                data = super().read(max_bytes, left)
            if not data:
                return b""
            passed, self._late = self._received.pass_through(data)
            self._held += passed
        data = bytes(self._held[:most])
        del self._held[:most]
        return data

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """See `Transport.write`."""
        rest = data
        while rest:
            passed, rest = self._sent.pass_through(rest)
            if passed:
                super().write(passed, timeout)
            if rest:
                time.sleep(self._delay)

    def _take_late(self) -> bytes:
        if self._late:
            time.sleep(self._delay)
        late, self._late = self._late, b""
        return late


class SlowTransport(TransportWrapper):
    """Carries bytes no faster than a serial line does, each way for itself.

    What is written goes out at once to the other side's clock: a byte counts as received once all
    before it and itself have been on the wire, and a reader waits until then. A wire that has been
    idle has nothing saved up.

    >>> from rsp.transports.memory import MemoryTransport
    >>> client, stub = MemoryTransport.pair()
    >>> line = SlowTransport(client, baud=115200)
    >>> stub.write(b"$OK#9a")
    >>> line.read(100, 1)[:1]
    b'$'

    Args:
        inner: the transport that is wrapped, and closed together with this one.
        baud: bits a second; a byte is ten of them, with its start and stop bit.
        reliable: what the transport says of itself.
        clock: the time in seconds.
        sleep: lets it pass.

    Attributes:
        sent, received: the bytes so far.
    """

    def __init__(
        self,
        inner: Transport,
        *,
        baud: int = 115200,
        reliable: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(inner)
        self.reliable = reliable
        self.sent: int = 0
        self.received: int = 0
        self._byte = 10 / baud
        self._clock = clock
        self._sleep = sleep
        self._free_at = {"in": 0.0, "out": 0.0}  # when each wire has carried all that it was given
        self._arriving: deque[tuple[float, bytes]] = deque()  # when its last byte is there

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`; what comes in one piece comes byte by byte."""
        deadline = None if timeout is None else self._clock() + timeout
        if not self._arriving:
            data = super().read(1 << 16, timeout)
            if not data:
                return b""
            self._arriving.append((self._carry("in", len(data), self._clock()), data))
        ends, data = self._arriving.popleft()
        # As many as are there, and at least the first.
        first = ends - (len(data) - 1) * self._byte
        if deadline is not None and first > deadline:
            self._arriving.appendleft((ends, data))
            self._sleep(max(0.0, deadline - self._clock()))
            raise read_timeout(self.address, timeout or 0.0)
        self._sleep(max(0.0, first - self._clock()))
        self._take_more(first)
        there = 1 + int(max(0.0, self._clock() - first) / self._byte)
        count = min(max_bytes, len(data), there)
        if data[count:]:
            self._arriving.appendleft((ends, data[count:]))
        self.received += count
        return data[:count]

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """See `Transport.write`; returns when the last byte has been sent."""
        self.sent += len(data)
        self._sleep(max(0.0, self._carry("out", len(data), self._clock()) - self._clock()))
        super().write(data, timeout)

    def _take_more(self, since: float) -> None:
        """Put on the wire what the other side has sent since; our coming late costs it nothing."""
        with contextlib.suppress(RspTimeout):
            if data := super().read(1 << 16, 0):
                self._arriving.append((self._carry("in", len(data), since), data))

    def _carry(self, way: str, count: int, since: float) -> float:
        """Return when so many more bytes have been on a wire."""
        self._free_at[way] = max(self._free_at[way], since) + count * self._byte
        return self._free_at[way]


class _Direction:
    """One of the two streams: how far it has come, and what happens to it."""

    def __init__(
        self,
        name: str,
        rate: tuple[float, int],
        kinds: Sequence[Fault],
        seed: int,
        planned: Mapping[int, Fault],
        done: list[tuple[str, int, Fault]],
    ) -> None:
        self.over: bool = False
        self._name = name
        self._rate, self._gap = rate
        self._last = -1  # where chance did harm before
        self._kinds = kinds
        self._random = random.Random(seed)  # noqa: S311 - nothing here is secret
        self._planned = dict(planned)
        self._done = done
        self._place = 0
        self._delayed = -1

    def plan(self, place: int, fault: Fault) -> None:
        self._planned[self._place + place] = fault

    def pass_through(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what arrives now, and what comes later, to be passed through then."""
        out = bytearray()
        for index, byte in enumerate(data):
            fault = None if self.over else self._fault()
            if fault is Fault.DELAY and self._place != self._delayed:
                self._delayed = self._place
                self._note(fault)
                return bytes(out), data[index:]
            if fault is Fault.CUT:
                self._note(fault)
                self.over = True
            if self.over:
                break
            if fault is Fault.CORRUPT:
                out.append(byte ^ self._random.randrange(1, 256))
            elif fault is Fault.DOUBLE:
                out += bytes((byte, byte))
            elif fault is not Fault.DROP:
                out.append(byte)
            if fault not in (None, Fault.DELAY):
                self._note(fault)
            self._place += 1
        return bytes(out), b""

    def _fault(self) -> Fault | None:
        planned = self._planned.get(self._place)
        if planned is not None:
            return planned
        if self._place - self._last <= self._gap and self._last >= 0:
            return None
        if self._rate and self._random.random() < self._rate:
            self._last = self._place
            return self._random.choice(self._kinds)
        return None

    def _note(self, fault: Fault) -> None:
        self._done.append((self._name, self._place, fault))
