"""UDP: kernels with kgdboe, and iPXE's stub.

Contents: datagrams as a stream of bytes. What they lose is asked for again by who reads the stream
(`Limits.reliable` is False): one request at a time, sent again after silence.
"""

from __future__ import annotations

import errno
import socket
import time
from typing import TYPE_CHECKING

from rsp.errors import ConnectionLost, TransportError
from rsp.transports.base import Transport, open_error, read_timeout
from rsp.transports.descriptor import DescriptorTransport

if TYPE_CHECKING:
    from rsp.transports.address import UdpAddress

_LARGEST = 1 << 16  # no datagram has more


def connect(address: UdpAddress, *, timeout: float) -> Transport:
    """Make a socket for a UDP port; nothing is sent yet, and nobody need be there.

    Raises:
        TransportError: the host is not known.
    """
    del timeout  # it waits for nobody
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise TransportError(
            f"cannot open {address}: the host {address.host!r} is not known", address=str(address)
        ) from error
    family, kind, protocol, _, where = found[0]
    opened = socket.socket(family, kind, protocol)
    try:
        opened.connect(where)
    except OSError as error:
        opened.close()
        raise open_error(error, str(address)) from error
    return UdpTransport(opened, address=str(address))


class UdpTransport(DescriptorTransport):
    """Datagrams to and from one port."""

    def __init__(self, opened: socket.socket, *, address: str) -> None:
        super().__init__(opened, address=address, reliable=False)
        self._rest = b""

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`; there is no end of the stream.

        Raises:
            ConnectionLost: nobody listens there.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._rest:  # a datagram may be empty
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                self._rest = super().read(_LARGEST, left)
            except TransportError as error:
                raise self._nobody(error) from error
            if not self._rest and left == 0:
                raise read_timeout(self.address, timeout or 0.0)
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """See `Transport.write`; it is one datagram."""
        try:
            super().write(data, timeout)
        except TransportError as error:
            raise self._nobody(error) from error

    def _nobody(self, error: TransportError) -> TransportError:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.ECONNREFUSED:
            return ConnectionLost(f"nobody listens at {self.address}", address=self.address)
        return error
