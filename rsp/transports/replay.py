"""A transport that plays a recording to the client that made it, or to one that does the same.

Contents: the strict order of what is sent, and of what is received; nothing is received before what
was sent ahead of it. The format is in `rsp.recording`. There is no pacing: what was received is
there at once. Only a recorded timeout takes its time, since a client that goes by a clock must find
that it has passed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NoReturn

from rsp import arguments
from rsp.errors import ConnectionLost, ReplayMismatch
from rsp.recording import Entry, EntryKind, read_log
from rsp.transports.base import Transport, closed_error, read_timeout
from rsp.transports.record import UNRELIABLE_MARK

if TYPE_CHECKING:
    import os

    from rsp.transports.address import ReplayAddress

# How many bytes of a packet an error message shows.
_SHOWN = 60


def connect(address: ReplayAddress, *, timeout: float) -> Transport:
    """Open a recording.

    Raises:
        TransportError: it cannot be read, or is no recording.
    """
    del timeout
    return ReplayTransport(address.path)


class ReplayTransport(Transport):
    r"""Answers reads from a log, and compares writes with it byte for byte.

    What was received is given only after everything that was sent before it has been sent again.
    Reads and writes may be cut into other pieces than when they were recorded. A recorded timeout
    answers one read; a client that writes instead skips it. Of a log that gdb made, only gdb's
    own bytes can be replayed.

    Args:
        path: the log, in any of the three bases.

    Raises:
        TransportError: it cannot be read, or is no recording; from any read or write also where
            the log is damaged.
        ReplayMismatch: from a read or write: the client does not do what was recorded.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.address: str = f"replay:{arguments.path(path, 'path')}"
        self.reliable: bool = True
        self._entries = read_log(path)
        self._entry: Entry | None = None
        self._at = 0  # how much of the entry's data has been sent or received
        self._unread = b""  # what came before the entry, and was not read when it was sent
        self._line = 0
        self._closed = False
        self._advance()

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`.

        Raises:
            ReplayMismatch: the recording has nothing before the client has sent something.
        """
        self._check_open()
        if self._unread:
            data, self._unread = self._unread[:max_bytes], self._unread[max_bytes:]
            return data
        while (entry := self._entry) is not None:
            match entry.kind:
                case EntryKind.RECEIVED:
                    data = entry.data[self._at : self._at + max_bytes]
                    self._consume(len(data))
                    return data
                case EntryKind.TIMEOUT:
                    # A read that only looks was not recorded when it found nothing, so it uses up
                    # no timeout; and one that waits for ever cannot have had one.
                    if timeout is None:
                        self._advance()
                        continue
                    if timeout > 0:
                        time.sleep(timeout)
                        self._advance()
                    raise read_timeout(self.address, timeout)
                case EntryKind.EOF:
                    return b""
                case EntryKind.ERROR:
                    raise ConnectionLost(
                        f"{self.address}: the connection was lost here "
                        f"({entry.data.decode('latin-1')})",
                        address=self.address,
                    )
                case _:
                    if timeout == 0:
                        raise read_timeout(self.address, timeout)
                    self._mismatch("it reads")
        return b""

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """See `Transport.write`. Never waits.

        Raises:
            ReplayMismatch: the recording has other bytes here, or none.
        """
        del timeout  # a write never waits
        self._check_open()
        at = 0
        while at < len(data):
            self._pass_unread()
            entry = self._entry
            if entry is not None and entry.kind in (EntryKind.EOF, EntryKind.ERROR):
                raise ConnectionLost(
                    f"{self.address}: the stub had gone when this was recorded",
                    address=self.address,
                )
            expected = b""
            if entry is not None and entry.kind is EntryKind.SENT:
                expected = entry.data[self._at : self._at + len(data) - at]
            if data[at : at + 2] == b"+$" and expected[:1] == b"$":
                at += 1  # it acknowledges nothing, and older clients did not send it
                continue
            if not expected or data[at : at + len(expected)] != expected:
                self._mismatch(f"it sends {shown(data[at:])}", data[at:])
            at += len(expected)
            self._consume(len(expected))

    @property
    def can_break(self) -> bool:
        """See `Transport.can_break`: whether what comes next in the recording is one."""
        self._skip_timeouts()
        return self._entry is not None and self._entry.kind is EntryKind.BREAK

    def send_break(self) -> None:
        """See `Transport.send_break`.

        Raises:
            ReplayMismatch: no BREAK was sent here when this was recorded.
        """
        self._check_open()
        self._skip_timeouts()
        if self._entry is None or self._entry.kind is not EntryKind.BREAK:
            self._mismatch("it sends a BREAK")
        self._advance()

    def close(self) -> None:
        """See `Transport.close`."""
        self._closed = True
        self._entries.close()

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self.address)

    def _advance(self) -> None:
        """Go to the next entry that is no comment."""
        self._at = 0
        while (entry := next(self._entries, None)) is not None:
            self._line = entry.line
            if entry.kind is not EntryKind.COMMENT:
                break
            if entry.data.startswith(UNRELIABLE_MARK.encode()):
                self.reliable = False
        self._entry = entry

    def _consume(self, count: int) -> None:
        assert self._entry is not None
        self._at += count
        if self._at == len(self._entry.data):
            self._advance()

    def _pass_unread(self) -> None:
        """Go to the next entry that is not received: replies come in other pieces than then.

        A client with several requests under way may have more in hand, or less, when it sends the
        next ones.
        """
        self._skip_timeouts()
        while self._entry is not None and self._entry.kind is EntryKind.RECEIVED:
            self._unread += self._entry.data[self._at :]
            self._advance()
            self._skip_timeouts()

    def _skip_timeouts(self) -> None:
        while self._entry is not None and self._entry.kind is EntryKind.TIMEOUT:
            self._advance()

    def _mismatch(self, does: str, actual: bytes = b"") -> NoReturn:
        expected = b""
        match self._entry:
            case None:
                wants = "the recording ends here"
            case Entry(kind=EntryKind.SENT, data=data):
                expected = data[self._at :]
                wants = f"the recording waits for the client to send {shown(expected)}"
            case Entry(kind=EntryKind.BREAK):
                wants = "the recording waits for the client to send a BREAK"
            case Entry(data=data):
                wants = f"the recording waits for the client to read {shown(data[self._at :])}"
        raise ReplayMismatch(
            f"{self.address}, line {self._line}: {wants}, but {does}",
            line=self._line,
            expected=expected,
            actual=actual,
        )


def shown(data: bytes) -> str:
    """Return bytes as messages have them, the begin of many."""
    return repr(data) if len(data) <= _SHOWN else f"{data[:_SHOWN]!r}… ({len(data)} bytes)"
