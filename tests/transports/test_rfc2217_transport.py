"""RFC 2217, against the server side that pyserial has, on a pseudo-terminal."""

from __future__ import annotations

import os
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import serial
from serial import rfc2217

from lab.ptys import assert_both_ways
from rsp.errors import ConnectionLost, TransportError
from rsp.transports import open_transport

if TYPE_CHECKING:
    from collections.abc import Iterator


class PtyPort(serial.Serial):
    """A pseudo-terminal as a port: it has no modem lines, and remembers what is done to BREAK."""

    cts = dsr = ri = cd = False

    def __init__(self, device: str) -> None:
        self.breaks: list[bool] = []
        super().__init__(device, timeout=0.02)

    def _update_dtr_state(self) -> None: ...

    def _update_rts_state(self) -> None: ...

    def _update_break_state(self) -> None:
        self.breaks.append(self.break_condition)


class Server:
    """Joins one client to a pseudo-terminal, whose master the test holds."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        self.port = PtyPort(os.ttyname(slave))
        os.close(slave)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"rfc2217://127.0.0.1:{self.listener.getsockname()[1]}"
        self.client: socket.socket | None = None
        self.threads = [threading.Thread(target=self.from_client)]
        self.threads[0].start()

    def write(self, data: bytes) -> None:
        assert self.client
        self.client.sendall(data)

    def from_client(self) -> None:
        try:
            self.client = self.listener.accept()[0]
        except OSError:
            return
        port: Any = self.port  # for pyserial's types, which want the client here
        connection: Any = self
        manager = rfc2217.PortManager(port, connection)
        self.threads.append(threading.Thread(target=self.from_port, args=[manager]))
        self.threads[1].start()
        try:
            while data := self.client.recv(1024):
                self.port.write(b"".join(manager.filter(data)))
        except OSError:
            pass
        finally:
            self.client.close()

    def from_port(self, manager: rfc2217.PortManager) -> None:
        assert self.client
        try:
            while self.client.fileno() >= 0:
                if data := self.port.read(self.port.in_waiting or 1):
                    self.client.sendall(b"".join(manager.escape(data)))
        except OSError:
            pass

    def close(self) -> None:
        for opened in (self.listener, self.client):
            if opened:
                with suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)
                opened.close()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        self.port.close()
        os.close(self.master)


@contextmanager
def server() -> Iterator[Server]:
    made = Server()
    try:
        yield made
    finally:
        made.close()


def test_a_session() -> None:
    with server() as far, open_transport(f"{far.address}?baud=57600", timeout=5) as transport:
        assert not transport.reliable
        assert transport.address == f"{far.address}?baud=57600"
        assert far.port.baudrate == 57600
        assert_both_ways(transport, far.master)
        far.port.breaks.clear()
        transport.send_break()
        assert far.port.breaks == [True, False]


def test_the_default_speed() -> None:
    with server() as far, open_transport(far.address, timeout=5):
        assert far.port.baudrate == 115200


@pytest.mark.parametrize("timeout", [5, None])
def test_the_server_goes_away(timeout: float | None) -> None:
    with server() as far, open_transport(far.address, timeout=5) as transport:
        os.write(far.master, b"+$")
        received = b""
        while len(received) < 2:
            received += transport.read(100, 5)
        assert far.client
        far.client.shutdown(socket.SHUT_RDWR)
        assert transport.read(100, timeout) == b""
        with pytest.raises(ConnectionLost):  # noqa: PT012 - TCP hears of it after the first write
            for _ in range(1000):
                transport.write(b"$g#67")


def test_use_after_close() -> None:
    with server() as far:
        transport = open_transport(far.address, timeout=5)
        transport.close()
        transport.close()
        with pytest.raises(TransportError, match="has been closed here"):
            transport.read(1, 0)
        with pytest.raises(TransportError, match="has been closed here"):
            transport.write(b"+")
        with pytest.raises(TransportError, match="has been closed here"):
            transport.send_break()


def test_closing_while_the_server_sends_more_than_is_read() -> None:
    with server() as far:
        transport = open_transport(far.address, timeout=5)
        assert far.client
        far.client.settimeout(0.5)
        with pytest.raises(TimeoutError):  # noqa: PT012 - it takes some to fill the buffers
            while True:
                far.client.sendall(bytes(1 << 16))
        transport.close()


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TransportError, match="Connection refused"):
        open_transport(f"rfc2217://127.0.0.1:{port}", timeout=5)


def test_a_server_that_speaks_something_else() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(TransportError, match="does not seem to support RFC2217"),
    ):
        open_transport(f"rfc2217://127.0.0.1:{listener.getsockname()[1]}", timeout=0.2)
