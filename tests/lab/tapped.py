"""A line to a stub that tells how far a client on it has got.

    with TappedLine(machine.address) as line:
        client = start("info", line.address)
        line.wait_for(12)                   # until twelve pieces have passed, in either direction
        os.kill(client, signal.SIGINT)
        line.wait_until_over()              # the stub's end is closed as well

A piece is what one side has sent at once. Not here: anything of the protocol.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from lab.relay import POLL, SIZE, Relay


class TappedLine(Relay):
    """A line to a stub for one client after the other.

    Args:
        target: where the stub is: ``unix:/path``, ``host:port`` or ``telnet://host:port``.

    Attributes:
        address: where clients connect, of the same kind.
        pieces: that the last client has sent or got.
        clients: that have come.
    """

    def __init__(self, target: str) -> None:
        scheme, slashes, self._target = target.rpartition("//")
        super().__init__(scheme + slashes)
        self._changed = threading.Condition()
        self._open = False
        self.pieces = 0
        self.clients = 0

    def expect(self) -> None:
        """Begin to count anew, for the next client."""
        with self._changed:
            self.pieces = self.clients = 0

    def wait_for(self, pieces: int, timeout: float) -> bool:
        """Wait until a client has come and so many pieces have passed; False when it has gone."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.clients and (self.pieces >= pieces or not self._open), timeout
            )
            return self._open

    def wait_until_over(self) -> None:
        """Wait until no client is there."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._open, 60)

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, self._connect() as stub:
            self._note(is_open=True)
            with contextlib.suppress(OSError):
                self._pass_on(client, stub)
        self._note(is_open=False)

    def _connect(self) -> socket.socket:
        if self._target.startswith("unix:"):
            stub = socket.socket(socket.AF_UNIX)
            stub.connect(self._target.removeprefix("unix:"))
            return stub
        host, _, port = self._target.rpartition(":")
        stub = socket.create_connection((host, int(port)))
        stub.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stub

    def _pass_on(self, client: socket.socket, stub: socket.socket) -> None:
        while not self._over.is_set():
            for ready in select.select([client, stub], [], [], POLL)[0]:
                data = ready.recv(SIZE)
                if not data:
                    return
                if ready is stub and stub.family == socket.AF_INET:
                    # QEMU keeps the rest of an answer back until what came first is acknowledged,
                    # which takes 40 ms unless told otherwise, and it is to be told each time.
                    stub.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                (stub if ready is client else client).sendall(data)
                with self._changed:
                    self.pieces += 1
                    self._changed.notify_all()

    def _note(self, *, is_open: bool) -> None:
        with self._changed:
            self._open = is_open
            self.clients += is_open
            self._changed.notify_all()
