"""A line to a stub that says nothing until the test lets it.

    with HeldLine(machine.address) as line:
        ...                     # a client at line.address waits for its first answer
        line.release()          # from now on all passes

Contents: the line. Not here: anything of the protocol.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

from rsp.errors import RspError, RspTimeout
from rsp.transports import open_transport

_POLL = 0.05
_SIZE = 1 << 16


class HeldLine:
    """A line to a stub for one client after the other, which holds back what the stub says.

    Attributes:
        address: where the clients connect.
    """

    def __init__(self, target: str) -> None:
        self._target = target
        self._released = threading.Event()
        self._over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(_POLL)
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def release(self) -> None:
        """Let everything pass."""
        self._released.set()

    def hold(self) -> None:
        """Hold back again what the stub says."""
        self._released.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._released.set()
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._server.accept()
                with client, contextlib.suppress(RspError, OSError):
                    self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        client.settimeout(_POLL)
        with open_transport(self._target, timeout=10) as target:
            while not self._over.is_set():
                with contextlib.suppress(TimeoutError):
                    data = client.recv(_SIZE)
                    if not data:
                        return
                    target.write(data, 10)
                if self._released.is_set():
                    with contextlib.suppress(RspTimeout):
                        while data := target.read(_SIZE, 0.0):
                            client.sendall(data)
