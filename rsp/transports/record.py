"""A transport that records what goes over another one.

Contents: the wrapper. The format of the log is in `rsp.recording`, playing it in
`rsp.transports.replay`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.errors import ConnectionLost, RspTimeout
from rsp.transports.wrapper import TransportWrapper

if TYPE_CHECKING:
    from rsp.recording import Recorder
    from rsp.transports.base import Transport

# How the first line of a recording says what kind of line was recorded: a replay has to be as
# (un)reliable as that was, or the client would speak otherwise. The address follows.
RELIABLE_MARK = "transport reliable "
UNRELIABLE_MARK = "transport unreliable "


def mark_of(line: Transport) -> str:
    """Return the first comment of a recording of a line."""
    return (RELIABLE_MARK if line.reliable else UNRELIABLE_MARK) + line.address


class RecordingTransport(TransportWrapper):
    """Passes everything through and records it.

    A read with timeout 0 that finds nothing is not recorded; a timeout that was waited for is.

    >>> import io
    >>> from rsp.recording import Recorder
    >>> from rsp.transports.memory import MemoryTransport
    >>> log = io.StringIO()
    >>> ours, stub = MemoryTransport.pair()
    >>> with RecordingTransport(ours, Recorder(log)) as transport:
    ...     transport.write(b"$?#3f")
    >>> print(log.getvalue())
    <BLANKLINE>
    c transport reliable memory:left
    w $?#3f
    End of log
    <BLANKLINE>

    Args:
        inner: the transport that does the work; closed together with this one.
        recorder: where to; closed together with this one.

    Raises:
        TransportError: from any method, also when the recording cannot be written.
    """

    def __init__(self, inner: Transport, recorder: Recorder) -> None:
        super().__init__(inner)
        self._recorder = recorder
        self._ended = False
        recorder.comment(mark_of(inner))

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`."""
        try:
            data = super().read(max_bytes, timeout)
        except RspTimeout as error:
            if error.timeout > 0:
                self._recorder.timeout(error.timeout)
            raise
        except ConnectionLost as error:
            self._end(str(error))
            raise
        if data:
            self._recorder.received(data)
        else:
            self._end(None)
        return data

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """See `Transport.write`. Recorded before it is sent, as gdb does."""
        self._recorder.sent(data)
        super().write(data, timeout)

    def send_break(self) -> None:
        """See `Transport.send_break`."""
        super().send_break()
        self._recorder.break_sent()

    def close(self) -> None:
        """See `Transport.close`."""
        try:
            super().close()
        finally:
            self._recorder.close()

    def _end(self, reason: str | None) -> None:
        """Record the end of the stream, once, however often it is read."""
        if self._ended:
            return
        self._ended = True
        if reason is None:
            self._recorder.eof()
        else:
            self._recorder.error(reason)
