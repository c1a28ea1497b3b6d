"""A serial port of another machine behind RFC 2217 (ser2net, terminal servers), through pyserial.

Contents: making pyserial's client (3.5) keep the rules of a Transport. It reads the socket in a
thread of its own into a queue of single bytes, which is bounded here; its own waits are bounded by
its five seconds for the socket and by our timeout for each step of the negotiation. Each change of
its settings, the timeout of its reads among them, negotiates with the server anew: so that one is
set when it is opened, and never again.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import time
import warnings
from typing import TYPE_CHECKING

from rsp.ctrl_c import waiting
from rsp.errors import ConnectionLost, RspTimeout
from rsp.transports.base import Transport, closed_error, open_error, read_timeout, stream_error

if TYPE_CHECKING:
    from serial.rfc2217 import Serial

    from rsp.errors import TransportError
    from rsp.transports.address import Rfc2217Address

# Bytes received and not yet read, from which on the server has to wait.
_QUEUE_MAX = 1 << 20
# Seconds that one read of pyserial waits; after it we look at the clock, and pyserial whether its
# thread has ended. A read with a timeout may last this much longer.
_SLICE = 0.05
# Seconds that pyserial lets its socket wait.
_PYSERIAL_TIMEOUT = 5.0
# Seconds that the line is held in BREAK.
_BREAK_SECONDS = 0.25


def connect(address: Rfc2217Address, *, timeout: float) -> Transport:
    """Connect to an RFC 2217 server, and set the port to 8 data bits, no parity, 1 stop bit.

    Args:
        address: the server, and the speed that the port is set to.
        timeout: seconds for each step of the negotiation.

    Raises:
        TransportError: the host is not known, nothing listens there, or it does not speak RFC 2217.
        RspTimeout: the host does not answer.
    """
    from serial.rfc2217 import Serial

    url = f"{str(address).partition('?')[0]}?timeout={timeout}"
    try:
        with warnings.catch_warnings():
            # pyserial 3.5 uses Thread.setDaemon, which Python 3.10 deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            port = Serial(url, baudrate=address.baud, timeout=_SLICE)
    except (OSError, ValueError) as error:
        cause = error.__context__
        if isinstance(cause, TimeoutError):
            raise RspTimeout(f"{address} did not answer", timeout=timeout) from error
        told = cause if isinstance(cause, OSError) else error
        raise open_error(told, str(address)) from error
    return Rfc2217Transport(port, address=str(address))


class Rfc2217Transport(Transport):
    """A port that pyserial has opened over RFC 2217."""

    reliable = False

    def __init__(self, port: Serial, *, address: str) -> None:
        self.address = address
        self._port = port
        inside = vars(port)
        assert isinstance(inside["_read_buffer"], queue.Queue)
        assert isinstance(inside["_socket"], socket.socket)
        self._queue = inside["_read_buffer"]
        self._queue.maxsize = _QUEUE_MAX
        self._socket = inside["_socket"]

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with waiting():
                pass
            try:
                # What is waiting is there without waiting; an empty read after all is the mark
                # that pyserial puts at the end, and the next one raises.
                ready = self._port.in_waiting
                if data := self._port.read(min(max_bytes, ready)):
                    return data
                if deadline is not None and time.monotonic() >= deadline and not ready:
                    break
                if data := self._port.read(1):
                    return data
            except OSError as error:
                if not self._port.is_open:
                    raise closed_error(self.address) from error
                return b""
        assert timeout is not None
        raise read_timeout(self.address, timeout)

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """See `Transport.write`; the timeout is pyserial's own, five seconds."""
        del timeout
        try:
            self._port.write(data)
        except OSError as error:
            raise self._translate(error) from error

    def send_break(self) -> None:
        """See `Transport.send_break`. Lasts a quarter of a second."""
        try:
            self._port.send_break(_BREAK_SECONDS)
        except (OSError, ValueError) as error:
            raise self._translate(error) from error

    def close(self) -> None:
        """See `Transport.close`. Takes a moment: pyserial waits for its thread."""
        if not self._port.is_open:
            return
        # Its thread, for which close waits, may be waiting for room in the queue: a read wakes it.
        self._queue.maxsize = sys.maxsize
        with contextlib.suppress(OSError):
            self._port.read(min(1, self._port.in_waiting))
        self._port.close()
        self._socket.close()  # which pyserial forgets if the server has closed its end

    def _translate(self, error: Exception) -> TransportError | RspTimeout:
        if not self._port.is_open:
            return closed_error(self.address)
        # pyserial lets some errors of its socket through, and wraps others.
        cause = error.__context__ or error
        if isinstance(cause, TimeoutError):
            return RspTimeout(f"{self.address} takes no more bytes", timeout=_PYSERIAL_TIMEOUT)
        if isinstance(cause, OSError) and cause.errno:
            return stream_error(cause, self.address)
        return ConnectionLost(f"{self.address}: {error}", address=self.address)
