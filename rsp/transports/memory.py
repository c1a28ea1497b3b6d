"""A transport in memory: two ends joined in one process, for tests.

Contents: the pair. What a stub in a test does with its end is the test's business.
"""

from __future__ import annotations

import threading
from typing import Self

from rsp.ctrl_c import waiting
from rsp.errors import ConnectionLost
from rsp.transports.base import Transport, closed_error, read_timeout


class MemoryTransport(Transport):
    """One end of a pair; made by `pair`.

    The two ends may be used from two threads. There is no bound on what is written and not yet
    read, so a write never waits.

    >>> client, stub = MemoryTransport.pair()
    >>> client.write(b"$?#3f")
    >>> stub.read(100, timeout=0)
    b'$?#3f'
    >>> stub.close()
    >>> client.read(100, timeout=None)
    b''
    """

    reliable = True

    def __init__(self, *, address: str, condition: threading.Condition) -> None:
        self.address = address
        self._condition = condition  # shared by both ends
        self._received = bytearray()
        self._closed = False
        self._peer = self

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return two ends: what is written to one is read from the other."""
        condition = threading.Condition()
        left = cls(address="memory:left", condition=condition)
        right = cls(address="memory:right", condition=condition)
        left._peer, right._peer = right, left
        return left, right

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`."""
        with self._condition:
            with waiting():
                self._condition.wait_for(self._readable, timeout)
            if self._closed:
                raise closed_error(self.address)
            data = bytes(self._received[:max_bytes])
            del self._received[:max_bytes]
            if not data and not self._peer._closed:
                assert timeout is not None
                raise read_timeout(self.address, timeout)
            return data

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """See `Transport.write`."""
        del timeout  # a write never waits
        with self._condition:
            if self._closed:
                raise closed_error(self.address)
            if self._peer._closed:
                raise ConnectionLost(
                    f"the other end of {self.address} is closed", address=self.address
                )
            self._peer._received += data
            self._condition.notify_all()

    def close(self) -> None:
        """See `Transport.close`."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _readable(self) -> bool:
        return bool(self._received) or self._closed or self._peer._closed
