"""The peer: a socket loop that speaks just enough of the protocol and checks nothing."""

from __future__ import annotations

import socket
from time import perf_counter


def _packet(payload: bytes) -> bytes:
    return b"$%b#%02x" % (payload, sum(payload) & 0xFF)


class BareClient:
    """Connected to QEMU's stub over TCP.

    Args:
        address: ``host:port``.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host or "127.0.0.1", int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for payload in (b"qSupported:multiprocess+", b"Hg0", b"?"):
            self.round_trip(_packet(payload))

    def round_trip(self, packet: bytes) -> float:
        """Send a packet, wait for its reply, acknowledge it; return the seconds."""
        start = perf_counter()
        self._socket.sendall(packet)
        reply = b""
        while reply[-3:-2] != b"#":
            reply += self._socket.recv(65536)
        self._socket.sendall(b"+")
        return perf_counter() - start

    def read_memory(
        self, address: int, length: int, *, size: int = 2048, window: int = 64
    ) -> float:
        """Read with ``window`` requests under way, and only count the bytes; return the seconds."""
        requests = [
            _packet(b"m%x,%x" % (at, size)) + b"+" for at in range(address, address + length, size)
        ]
        reply_size = len("+$#00") + 2 * size
        total = reply_size * len(requests)
        start = perf_counter()
        self._socket.sendall(b"".join(requests[:window]))
        sent, received = window, 0
        while received < total:
            received += len(self._socket.recv(65536))
            answered = received // reply_size
            if sent < len(requests) and sent - answered <= window // 2:
                until = min(len(requests), answered + window)
                self._socket.sendall(b"".join(requests[sent:until]))
                sent = until
        return perf_counter() - start

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
