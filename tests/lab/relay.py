"""A server between clients and a stub, for one client after the other.

Contents: the server and its thread. Not here: what passes, which a subclass says.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from typing import Self

POLL = 0.05
SIZE = 1 << 16


class Relay(ABC):
    """Takes clients at an address, one after the other; a context manager.

    Args:
        scheme: what the address begins with.

    Attributes:
        address: where they connect.
    """

    def __init__(self, scheme: str = "") -> None:
        self._over = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(POLL)
        self.address = f"{scheme}127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve_all)

    @abstractmethod
    def _serve(self, client: socket.socket) -> None:
        """Do what there is to do for a client, until ``_over`` is set at the latest."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._server.close()

    def _serve_all(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._server.accept()
                with client:
                    self._serve(client)
