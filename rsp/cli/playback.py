"""The stub's side of a recording, without I/O.

Contents: the order. An answer of the recorded stub is given when the client has sent what the
recorded client had sent before it. Not here: sockets, and the client's side (see
`rsp.transports.replay`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

from rsp.errors import ReplayMismatch
from rsp.recording import EntryKind, read_log
from rsp.transports.replay import shown

if TYPE_CHECKING:
    from typing import Self, TextIO

    from rsp.recording import Entry


class Playback:
    r"""Answers a client as the recorded stub did, and compares what the client sends.

    The bytes of either side may be cut into other pieces than when they were recorded. Timeouts
    are passed over, for the clock is the client's, and so are BREAKs, which no socket carries.

    >>> import io
    >>> playback = Playback(io.StringIO("w $?#3f\nr +$S05#b8\nw +\n"))
    >>> playback.receive_data(b"$?#")
    >>> playback.data_to_send()
    b''
    >>> playback.receive_data(b"3f")
    >>> playback.data_to_send(), playback.ended
    (b'+$S05#b8', False)

    Args:
        log: the path of the recording, in any form of gdb's remotelog, or a text stream.

    Attributes:
        ended: whether the stub says nothing more, and closes.

    Raises:
        TransportError: it cannot be read, or is no recording; also from `receive_data`, where it
            is damaged further on.
    """

    def __init__(self, log: str | os.PathLike[str] | TextIO) -> None:
        name = log if isinstance(log, str | os.PathLike) else getattr(log, "name", "<stream>")
        self._name = os.fspath(name)
        self._entries = read_log(log)
        self._output = bytearray()
        self._line = 0
        self._wanted: Entry | None = None  # what the client has to send next
        self._came = 0  # how much of it has come
        self.ended: bool = False
        self._play()

    def close(self) -> None:
        """Close the recording. May be called twice."""
        self._entries.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def data_to_send(self) -> bytes:
        """Return what the stub says before it waits for the client, and forget it."""
        data = bytes(self._output)
        self._output.clear()
        return data

    def receive_data(self, data: bytes) -> None:
        """Take what the client sends.

        Raises:
            ReplayMismatch: the recording has other bytes there, or none.
        """
        while data:
            if self._wanted is None:
                self._differ(b"", f"it sends {shown(data)}", data)
            wanted = self._wanted.data
            count = min(len(data), len(wanted) - self._came)
            if not data.startswith(wanted[self._came : self._came + count]):
                actual = wanted[: self._came] + data
                self._differ(wanted, f"it sends {shown(actual)}", actual)
            self._came += count
            data = data[count:]
            if self._came == len(wanted):
                self._play()

    def receive_eof(self) -> None:
        """Take the end of what the client sends.

        Raises:
            ReplayMismatch: it had more to send.
        """
        if self._wanted is not None:
            self._differ(
                self._wanted.data, "it has closed the connection",
                self._wanted.data[: self._came],
            )  # fmt: skip

    def _play(self) -> None:
        """Go on to what the client has to send next."""
        self._wanted, self._came = None, 0
        for entry in self._entries:
            self._line = entry.line
            match entry.kind:
                case EntryKind.RECEIVED:
                    self._output += entry.data
                case EntryKind.SENT:
                    self._wanted = entry
                    return
                case EntryKind.EOF | EntryKind.ERROR:
                    break
        self.ended = True

    def _differ(self, expected: bytes, does: str, actual: bytes) -> NoReturn:
        wants = (
            f"the recording waits for the client to send {shown(expected)}"
            if expected
            else "the client has nothing more to send"
        )
        raise ReplayMismatch(
            f"{self._name}, line {self._line}: {wants}, but {does}",
            line=self._line,
            expected=expected,
            actual=actual,
        )
