"""TCP and Unix sockets, against real listening ones."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from lab.nobody import as_nobody
from rsp.errors import ConnectionLost, RspTimeout, TransportError, UnsupportedCommand
from rsp.transports import open_transport
from rsp.transports.address import TcpAddress
from rsp.transports.tcp import open_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType

    from rsp.transports.base import Transport


class Line:
    """A transport under test and the socket at the other end."""

    def __init__(self, transport: Transport, peer: socket.socket) -> None:
        self.transport = transport
        self.peer = peer


@contextmanager
def tcp_line() -> Iterator[Line]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with open_transport(f"127.0.0.1:{port}", timeout=5) as transport:
            assert transport.address == f"tcp:127.0.0.1:{port}"
            with listener.accept()[0] as peer:
                yield Line(transport, peer)


@contextmanager
def unix_line(path: Path) -> Iterator[Line]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with open_transport(f"unix:{path}", timeout=5) as transport:
            assert transport.address == f"unix:{path}"
            with listener.accept()[0] as peer:
                yield Line(transport, peer)


@pytest.fixture(params=["tcp", "unix"])
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    made = tcp_line() if request.param == "tcp" else unix_line(tmp_path / "gdb.sock")
    with made as line:
        yield line


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_bytes_go_both_ways(line: Line) -> None:
    assert line.transport.reliable
    line.transport.write(b"")
    line.transport.write(bytes(range(256)))
    assert line.peer.recv(1000) == bytes(range(256))
    line.peer.sendall(b"+$OK#9a")
    assert line.transport.read(4, 5) == b"+$OK"
    assert line.transport.read(65536, None) == b"#9a"
    echo = threading.Timer(0.02, line.peer.sendall, [b"-"])
    echo.start()
    assert line.transport.read(1, float("inf")) == b"-"
    echo.join()


def test_a_read_waits_for_its_time(line: Line) -> None:
    for timeout in (0, 0.02, -1):
        with pytest.raises(RspTimeout, match="nothing came from") as caught:
            line.transport.read(100, timeout)
        assert caught.value.timeout == timeout
    line.peer.sendall(b"+")
    assert line.transport.read(100, 5) == b"+"


def test_the_end_of_file(line: Line) -> None:
    line.peer.sendall(b"$X")
    line.peer.shutdown(socket.SHUT_WR)
    assert line.transport.read(100, 5) == b"$X"
    assert line.transport.read(100, 5) == b""
    assert line.transport.read(100, None) == b""


def test_a_large_write_arrives_whole(line: Line) -> None:
    data = os.urandom(3_000_000)
    reader = os.fork()
    if reader == 0:
        received = bytearray()
        while len(received) < len(data):
            received += line.peer.recv(65536)
        os._exit(0 if received == data else 1)
    line.transport.write(data, 60)
    assert os.waitpid(reader, 0)[1] == 0


def test_a_write_that_nobody_takes(line: Line) -> None:
    with pytest.raises(RspTimeout, match=r"took \d+ of 30000000 bytes"):
        line.transport.write(bytes(30_000_000), 0.05)


def test_a_peer_that_goes_away(line: Line) -> None:
    line.peer.close()
    assert line.transport.read(100, 5) == b""
    with pytest.raises(ConnectionLost, match="connect again") as caught:  # noqa: PT012 - see below
        # TCP hears of it only from the answer to the first write.
        for _ in range(1000):
            line.transport.write(b"$g#67")
    assert caught.value.address == line.transport.address


def test_a_reset() -> None:
    with tcp_line() as line:
        line.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.peer.close()
        with pytest.raises(ConnectionLost, match="Connection reset by peer"):
            line.transport.read(100, 5)


def test_a_line_without_break(line: Line) -> None:
    with pytest.raises(UnsupportedCommand, match=r"telnet=on.*rfc2217") as caught:
        line.transport.send_break()
    assert caught.value.command == "BREAK"


def test_use_after_close(line: Line) -> None:
    line.transport.close()
    line.transport.close()
    assert line.peer.recv(1) == b""
    with pytest.raises(TransportError, match="has been closed here"):
        line.transport.read(1, 0)
    with pytest.raises(TransportError, match="has been closed here"):
        line.transport.write(b"+")


def test_ctrl_c_ends_a_read_for_ever(line: Line) -> None:
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            line.transport.read(1, None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    line.peer.sendall(b"+")
    assert line.transport.read(1, 5) == b"+"


def test_no_delay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = TcpAddress(host="127.0.0.1", port=listener.getsockname()[1])
        with open_socket(address, timeout=5) as opened:
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("form", ["tcp4:localhost:{}", "localhost:{}", ":{}", "tcp://127.0.0.1:{}"])
def test_every_address_of_a_host_is_tried(form: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_transport(form.format(listener.getsockname()[1]), timeout=5).close()


def test_ip_version_6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]
        with open_transport(f"[::1]:{port}", timeout=5) as transport:
            assert transport.address == f"tcp:[::1]:{port}"
        open_transport(f"tcp6:[::1]:{port}", timeout=5).close()
        with pytest.raises(TransportError, match="not known"):
            open_transport(f"tcp4:[::1]:{port}", timeout=5)


def test_nobody_listens_on_tcp() -> None:
    port = free_port()
    with pytest.raises(TransportError, match=f"nothing listens at localhost:{port}; is QEMU.* -s"):
        open_transport(f":{port}", timeout=5)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 80, "a..b"])
def test_an_unknown_host(host: str) -> None:
    with pytest.raises(TransportError, match="is not known") as caught:
        open_transport(f"{host}:1234", timeout=5)
    assert caught.value.address == f"tcp:{host}:1234"


def test_a_host_that_does_not_answer() -> None:
    # Linux drops further connections where a listener has as many as it takes.
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        with pytest.raises(RspTimeout, match=r"did not answer within 0\.1 s"):
            open_transport(f"127.0.0.1:{listener.getsockname()[1]}", timeout=0.1)


def test_no_such_socket(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"no such socket; is QEMU started with -gdb unix:"):
        open_transport(f"unix:{tmp_path}/x", timeout=5)


def test_a_socket_left_behind(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "x"))
    with pytest.raises(TransportError, match="program that made it has ended"):
        open_transport(f"unix:{tmp_path}/x", timeout=5)


def test_a_file_is_no_socket(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(TransportError, match="a file, but not a socket"):
        open_transport(f"unix:{tmp_path}/x", timeout=5)


def test_a_socket_that_may_not_be_used(tmp_path: Path) -> None:
    with unix_line(tmp_path / "x"):
        (tmp_path / "x").chmod(0)
        with as_nobody(), pytest.raises(TransportError, match="you may not use it"):
            open_transport(f"unix:{tmp_path}/x", timeout=5)


def test_a_socket_with_a_full_queue(tmp_path: Path) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "x"))
        listener.listen(0)
        stack.enter_context(open_transport(f"unix:{tmp_path}/x", timeout=5))
        with pytest.raises((TransportError, RspTimeout), match=r"another one attached|not answer"):
            open_transport(f"unix:{tmp_path}/x", timeout=0.05)


def test_a_path_too_long_for_a_socket() -> None:
    with pytest.raises(TransportError, match="too long"):
        open_transport("unix:/" + "x" * 200, timeout=5)


def test_nothing_third_party_is_loaded() -> None:
    program = (
        "import sys, rsp.recording; from rsp.transports import open_transport\n"
        "try: open_transport('unix:/nonexistent/x', timeout=1)\n"
        "except OSError: pass\n"
        "print(sorted({'serial', 'construct', 'elftools'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"
