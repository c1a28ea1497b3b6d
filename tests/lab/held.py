"""A line to a stub that says nothing until the test lets it.

    with HeldLine(machine.address) as line:
        ...                     # a client at line.address waits for its first answer
        line.release()          # from now on all passes

Contents: the line. Not here: anything of the protocol.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from lab.relay import POLL, SIZE, Relay
from rsp.errors import RspError, RspTimeout
from rsp.transports import open_transport

if TYPE_CHECKING:
    import socket


class HeldLine(Relay):
    """A line to a stub for one client after the other, which holds back what the stub says.

    Attributes:
        address: where the clients connect.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = target
        self._released = threading.Event()

    def release(self) -> None:
        """Let everything pass."""
        self._released.set()

    def hold(self) -> None:
        """Hold back again what the stub says."""
        self._released.clear()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(RspError, OSError):
            self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        client.settimeout(POLL)
        with open_transport(self._target, timeout=10) as target:
            while not self._over.is_set():
                with contextlib.suppress(TimeoutError):
                    data = client.recv(SIZE)
                    if not data:
                        return
                    target.write(data, 10)
                if self._released.is_set():
                    with contextlib.suppress(RspTimeout):
                        while data := target.read(SIZE, 0.0):
                            client.sendall(data)
