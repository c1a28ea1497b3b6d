"""TCP: QEMU's ``-s``, gdbserver, valgrind, and the sockets under telnet.

Contents: resolving, connecting and the options of the socket. Reading and writing are in
`rsp.transports.descriptor`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Any

from rsp.ctrl_c import waiting
from rsp.errors import RspTimeout, TransportError
from rsp.transports.address import IpVersion, TcpAddress
from rsp.transports.base import open_error
from rsp.transports.descriptor import DescriptorTransport

if TYPE_CHECKING:
    from rsp.transports.base import Transport

_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux
_SMALL = 512  # less than any segment that is full
_GLANCE = 20  # milliseconds between two looks at Ctrl-C

_FAMILIES = {
    IpVersion.ANY: socket.AF_UNSPEC,
    IpVersion.V4: socket.AF_INET,
    IpVersion.V6: socket.AF_INET6,
}


def connect(address: TcpAddress, *, timeout: float) -> Transport:
    """Connect to a TCP port.

    Raises:
        TransportError: the host is not known, or nothing listens there.
        RspTimeout: the host does not answer.
    """
    opened = open_socket(address, timeout=timeout)
    return TcpTransport(opened, address=str(address))


class TcpTransport(DescriptorTransport):
    """A TCP connection that does not let a slow line wait."""

    def __init__(self, opened: socket.socket, *, address: str) -> None:
        super().__init__(opened, address=address, reliable=True)
        self._socket = opened

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`."""
        data = super().read(max_bytes, timeout)
        if len(data) < _SMALL and _QUICK_ACK is not None:
            # Who sends few bytes, such as a QEMU chardev or socat in front of a serial line, and
            # keeps Nagle's algorithm on, waits with the next for our acknowledgement, which Linux
            # delays by 40 ms unless told otherwise; and it is to be told each time.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        return data


def open_socket(address: TcpAddress, *, timeout: float) -> socket.socket:
    """Return a connected socket without Nagle's delay, trying each address that the host has.

    The timeout is shared out among them. Looking up a name is bounded by the resolver only.
    """
    try:
        found = socket.getaddrinfo(
            address.host, address.port, family=_FAMILIES[address.version], type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is too long or malformed"
        raise TransportError(
            f"cannot open {address}: the host {address.host!r} is not known ({reason})",
            address=str(address),
        ) from error
    deadline = time.monotonic() + timeout
    failure: OSError | None = None
    for position, (family, kind, protocol, _, where) in enumerate(found):
        share = (deadline - time.monotonic()) / (len(found) - position)
        attempt = socket.socket(family, kind, protocol)
        try:
            _connect(attempt, where, share)
            attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            attempt.close()
            failure = error
        except BaseException:
            attempt.close()
            raise
        else:
            return attempt
    assert failure is not None  # getaddrinfo gives an address or raises
    if isinstance(failure, TimeoutError):
        raise RspTimeout(
            f"{address} did not answer within {timeout:g} s; is the host up, and does a firewall "
            "let the port through?",
            timeout=timeout,
        ) from failure
    raise open_error(failure, str(address), _advice(address)) from failure


def _connect(attempt: socket.socket, where: Any, timeout: float) -> None:
    """Connect as ``socket.connect`` does; where Ctrl-C is held, it cuts off no connection made.

    A stub may stop its target for each connection, also for one that is closed already.
    """
    attempt.setblocking(False)
    status = attempt.connect_ex(where)
    if status == errno.EINPROGRESS:
        made = select.poll()
        made.register(attempt, select.POLLOUT)
        deadline = time.monotonic() + timeout
        while not made.poll(_GLANCE):
            with waiting():
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        status = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if status:
        raise OSError(status, os.strerror(status))


def _advice(address: TcpAddress) -> dict[int, str]:
    return {
        errno.ECONNREFUSED: (
            f"nothing listens at {address.host}:{address.port}; is QEMU started with -s or -gdb "
            f"tcp::{address.port}, or gdbserver with :{address.port}?"
        ),
        errno.EHOSTUNREACH: "there is no way to that host; is the machine up?",
        errno.ENETUNREACH: "there is no way to that network",
    }
