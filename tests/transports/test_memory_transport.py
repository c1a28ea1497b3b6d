from __future__ import annotations

import threading

import pytest

from rsp.errors import ConnectionLost, RspTimeout, TransportError, UnsupportedCommand
from rsp.transports.memory import MemoryTransport


def test_bytes_go_both_ways() -> None:
    left, right = MemoryTransport.pair()
    assert left.reliable
    assert left.address != right.address
    left.write(b"$g#67")
    right.write(b"+")
    assert right.read(3, None) == b"$g#"
    assert right.read(100, 0) == b"67"
    assert left.read(100, 5) == b"+"


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_timeouts(timeout: float) -> None:
    left, _ = MemoryTransport.pair()
    with pytest.raises(RspTimeout, match="nothing came from memory:left") as caught:
        left.read(1, timeout)
    assert caught.value.timeout == timeout


def test_what_was_written_before_the_end_is_read() -> None:
    left, right = MemoryTransport.pair()
    right.write(b"+$OK#9a")
    right.close()
    assert left.read(100, 0) == b"+$OK#9a"
    assert left.read(100, 0) == b""
    assert left.read(100, None) == b""
    with pytest.raises(ConnectionLost, match="is closed"):
        left.write(b"+")


def test_use_after_close() -> None:
    left, _ = MemoryTransport.pair()
    with left:
        pass
    left.close()
    with pytest.raises(TransportError, match="has been closed here"):
        left.read(1, None)
    with pytest.raises(TransportError, match="has been closed here"):
        left.write(b"+")


def test_no_break() -> None:
    with pytest.raises(UnsupportedCommand, match="cannot carry a BREAK"):
        MemoryTransport.pair()[0].send_break()


def test_two_threads() -> None:
    client, stub = MemoryTransport.pair()

    def echo() -> None:
        while data := stub.read(7, None):
            stub.write(data)

    thread = threading.Thread(target=echo)
    thread.start()
    data = bytes(range(256)) * 20
    received = b""
    for at in range(0, len(data), 11):
        client.write(data[at : at + 11])
        received += client.read(5, 10)
    while len(received) < len(data):
        received += client.read(100, 10)
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    assert received == data


def test_closing_wakes_a_reader() -> None:
    client, stub = MemoryTransport.pair()
    closer = threading.Timer(0.02, stub.close)
    closer.start()
    assert client.read(1, None) == b""
    closer.join()
