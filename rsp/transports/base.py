"""What a byte stream to a stub is, and how the operating system's errors become the library's.

Contents: the `Transport` interface and the one translation of OSError. What opens streams is in a
module for each kind; nothing here knows packets, and nothing here opens anything.
"""

from __future__ import annotations

import abc
import errno
import os
from typing import TYPE_CHECKING, Self

from rsp.errors import ConnectionLost, RspTimeout, TransportError, UnsupportedCommand

if TYPE_CHECKING:
    from collections.abc import Mapping

# The other side has gone: a closed or reset connection, an unplugged device.
_LOST = frozenset(
    {
        errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN, errno.ESHUTDOWN,
        errno.ENETRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN,
        errno.EIO, errno.ENXIO, errno.ENODEV,
    }
)  # fmt: skip

# Said where a way of opening has no advice of its own.
_ADVICE = {
    errno.EACCES: "you may not open it; look at its owner and mode with ls -l",
    errno.EPERM: "you may not open it; look at its owner and mode with ls -l",
    errno.EMFILE: "this process has too many files open; close some, or raise ulimit -n",
    errno.ENOENT: "there is no such file",
    errno.EISDIR: "it is a directory",
    errno.ENOTDIR: "a part of the path is not a directory",
}


class Transport(abc.ABC):
    """A stream of bytes to a stub.

    One thread may read while another writes; beyond that it is used from one at a time. Every
    method raises ConnectionLost when the other side has gone, and TransportError for any other
    trouble of the stream, or when it has been closed here.

    Attributes:
        address: where it leads, in the spelling that `rsp.transports.address.parse_address` takes.
        reliable: whether bytes arrive unaltered and in order (TCP, a pipe); not so on a serial
            line, where a reply may have to be asked for again.
    """

    address: str
    reliable: bool

    @abc.abstractmethod
    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """Return what is there, as soon as anything is there.

        Args:
            max_bytes: the most that is returned, at least 1.
            timeout: seconds to wait for the first byte; 0 only looks, None waits for ever (Ctrl-C
                still ends it).

        Returns:
            1 to max_bytes bytes; ``b""`` means that the other side closed the stream, and nothing
            else does.

        Raises:
            RspTimeout: nothing came in that time.
        """

    @abc.abstractmethod
    def write(self, data: bytes, timeout: float | None = None) -> None:
        """Send all of the data.

        Args:
            data: the bytes.
            timeout: seconds for all of it; None waits for ever.

        Raises:
            RspTimeout: the other side did not take it all in that time; how much of it is on its
                way is then not known, so the stream is of no more use.
        """

    @property
    def can_break(self) -> bool:
        """Whether the line can carry a BREAK: then there is a serial port behind it, or is one."""
        return type(self).send_break is not Transport.send_break

    def send_break(self) -> None:
        """Send a BREAK, the signal that gets the attention of a kernel on a console line.

        Raises:
            UnsupportedCommand: the line cannot carry one.
        """
        raise UnsupportedCommand(
            f"{self.address} cannot carry a BREAK; these can: a serial port (/dev/ttyS0), "
            "telnet://host:port (a QEMU chardev with telnet=on, ser2net), rfc2217://host:port "
            "(ser2net). In QEMU's monitor, chardev-send-break does it too",
            command="BREAK",
        )

    @abc.abstractmethod
    def close(self) -> None:
        """Close the stream. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_timeout(address: str, timeout: float) -> RspTimeout:
    """Return the error for a read that nothing came for."""
    return RspTimeout(f"nothing came from {address} in {timeout:g} s", timeout=timeout)


def closed_error(address: str) -> TransportError:
    """Return the error for the use of a transport after its `close`."""
    return TransportError(f"the connection to {address} has been closed here", address=address)


def stream_error(error: OSError, address: str) -> TransportError:
    """Translate an error of a stream that was open."""
    if error.errno == errno.EBADF:
        return closed_error(address)
    reason = _reason(error)
    if error.errno in _LOST:
        return ConnectionLost(
            f"the connection to {address} is lost ({reason}); connect again", address=address
        )
    return TransportError(f"{address}: {reason}", address=address)


def open_error(
    error: Exception, address: str, advice: Mapping[int, str] | None = None
) -> TransportError:
    """Translate an error of an attempt to open a stream.

    Args:
        error: what was raised; not only an OSError, since Python refuses some paths itself.
        address: where the stream was to lead.
        advice: what to say to the user, by error number.
    """
    number = error.errno if isinstance(error, OSError) else None
    told = (advice or {}).get(number or 0) or _ADVICE.get(number or 0)
    reason = _reason(error)
    return TransportError(
        f"cannot open {address}: {told} ({reason})" if told else f"cannot open {address}: {reason}",
        address=address,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        # Not error.strerror, which libraries fill with sentences of their own.
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
