"""A transport over one file descriptor: what sockets, pipes and serial devices have in common.

Contents: the waiting, the reading and the writing, once for all of them (POSIX: poll, and reads and
writes that do not block). Opening is the business of each kind.
"""

from __future__ import annotations

import os
import select
import time
from typing import Protocol

from rsp.ctrl_c import waiting
from rsp.errors import RspTimeout
from rsp.transports.base import Transport, read_timeout, stream_error

# The longest time, in milliseconds, that poll takes: 24 days.
_POLL_MAX = (1 << 31) - 1


class Descriptor(Protocol):
    """What owns the file descriptor, and gives it back: a socket, a serial port."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class DescriptorTransport(Transport):
    """Reads and writes a file descriptor, which is made non-blocking.

    Args:
        owner: closed together with the transport.
        address: where it leads.
        reliable: whether it neither loses nor alters bytes.
    """

    def __init__(self, owner: Descriptor, *, address: str, reliable: bool) -> None:
        self.address = address
        self.reliable = reliable
        self._owner = owner
        self._fd = owner.fileno()
        os.set_blocking(self._fd, False)
        self._readable = select.poll()
        self._readable.register(self._fd, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(self._fd, select.POLLOUT)

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`. What is already there costs one system call."""
        deadline = None
        while True:
            try:
                return os.read(self._fd, max_bytes)
            except BlockingIOError:
                pass
            except OSError as error:
                raise stream_error(error, self.address) from error
            # Set at the first wait only, so that the fast path asks for no time.
            if deadline is None and timeout is not None:
                deadline = time.monotonic() + timeout
            if not _wait(self._readable, deadline):
                assert timeout is not None
                raise read_timeout(self.address, timeout)

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """See `Transport.write`."""
        deadline = None
        rest = memoryview(data)
        while True:
            try:
                rest = rest[os.write(self._fd, rest) :]
                if not rest:
                    return
            except BlockingIOError:
                pass
            except OSError as error:
                raise stream_error(error, self.address) from error
            if deadline is None and timeout is not None:
                deadline = time.monotonic() + timeout
            if not _wait(self._writable, deadline):
                assert timeout is not None
                raise RspTimeout(
                    f"{self.address} took {len(data) - len(rest)} of {len(data)} bytes in "
                    f"{timeout:g} s; is it stuck, or is another client attached?",
                    timeout=timeout,
                )

    def close(self) -> None:
        """See `Transport.close`."""
        self._fd = -1
        try:
            self._owner.close()
        except OSError as error:
            raise stream_error(error, self.address) from error


def _wait(poller: select.poll, deadline: float | None) -> bool:
    with waiting():  # nothing has been read or written that Ctrl-C could lose
        if deadline is None:
            return bool(poller.poll())
        remaining = max(0.0, deadline - time.monotonic())
        return bool(poller.poll(min(remaining * 1000, _POLL_MAX)))
