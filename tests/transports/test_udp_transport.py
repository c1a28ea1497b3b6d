"""UDP: a stub whose datagrams get lost, and a port where nobody is."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

import rsp
from rsp.testing.personalities import PLAIN
from rsp.testing.stub import Stub, assert_harmless
from rsp.transports import open_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def listening(stub: Stub, is_lost: Callable[[int], bool]) -> Iterator[str]:
    """Serve a stub on a UDP port that loses some datagrams, by their count in both directions."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.05)
        over = threading.Event()

        def work() -> None:
            count = 0
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    data, client = server.recvfrom(1 << 16)
                    count += 1
                    answer = b"" if is_lost(count) else stub.receive(data)
                    if answer:
                        count += 1
                        if not is_lost(count):
                            server.sendto(b"", client)  # which is no end
                            server.sendto(answer, client)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield "udp:127.0.0.1:{1}".format(*server.getsockname())
        finally:
            over.set()
            thread.join()


def plain() -> Stub:
    return Stub(PLAIN, registers={"rip": 0x1000}, memory={0x1000: bytes(range(256))})


def test_a_session_over_udp() -> None:
    stub = plain()
    with listening(stub, lambda _: False) as address:
        with rsp.connect(address) as target:
            assert target.session.transport.address == address
            assert target.session.connection.limits.window == 1
            assert target.read_memory(0x1000, 256) == bytes(range(256))
            assert target.registers.pc == 0x1000
        assert_harmless(stub)
        assert stub.detached


def test_datagrams_that_are_lost_are_sent_again() -> None:
    stub = plain()
    with (
        listening(stub, lambda count: count in {1, 6}) as address,
        rsp.connect(address, timeout=60) as target,
    ):
        assert target.read_memory(0x1000, 256) == bytes(range(256))
        assert target.registers.pc == 0x1000
    assert_harmless(stub)


def test_a_port_where_nobody_listens() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        address = "udp:127.0.0.1:{1}".format(*free.getsockname())
    with pytest.raises(rsp.ConnectionLost):
        rsp.connect(address, timeout=5)


def test_a_datagram_is_read_in_pieces() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        address = "udp:127.0.0.1:{1}".format(*server.getsockname())
        with open_transport(address, timeout=5) as transport:
            transport.write(b"$g#67")
            data, client = server.recvfrom(100)
            assert data == b"$g#67"
            with pytest.raises(rsp.RspTimeout):
                transport.read(10, 0.01)
            server.sendto(b"+$OK#9a", client)
            assert [transport.read(3, 5) for _ in range(3)] == [b"+$O", b"K#9", b"a"]
