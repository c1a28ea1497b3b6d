"""Serial devices: pseudo-terminals, with pyserial on the slave's end."""

from __future__ import annotations

import grp
import os
import socket
import termios
from typing import TYPE_CHECKING

import pytest

from lab.nobody import as_nobody
from lab.ptys import assert_both_ways
from rsp.errors import ConnectionLost, TransportError, UnsupportedCommand
from rsp.transports import open_transport
from rsp.transports.serial import SerialTransport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Pty:
    """The master of a pseudo-terminal, and the name of its slave."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        self.device = os.ttyname(slave)
        os.close(slave)
        self.open = True

    def hang_up(self) -> None:
        if self.open:
            self.open = False
            os.close(self.master)


@pytest.fixture
def pty() -> Iterator[Pty]:
    made = Pty()
    yield made
    made.hang_up()


def test_bytes_go_through_unaltered(pty: Pty) -> None:
    with open_transport(f"{pty.device},115200", timeout=5) as transport:
        assert not transport.reliable
        assert transport.address == f"{pty.device},115200"
        assert_both_ways(transport, pty.master)


@pytest.mark.parametrize(
    ("address", "speed"),
    [("{}", termios.B115200), ("serial://{}?baud=9600", termios.B9600), ("{},57600", 0o10001)],
)
def test_the_speed_is_set(pty: Pty, address: str, speed: int) -> None:
    with open_transport(address.format(pty.device), timeout=5):
        assert termios.tcgetattr(pty.master)[4:6] == [speed, speed]


def test_nobody_else_can_have_it(pty: Pty) -> None:
    with (
        open_transport(pty.device, timeout=5),
        pytest.raises(TransportError, match=f"another program has it open; fuser -v {pty.device}"),
    ):
        open_transport(pty.device, timeout=5)
    open_transport(pty.device, timeout=5).close()


def test_a_line_that_is_hung_up(pty: Pty) -> None:
    with open_transport(pty.device, timeout=5) as transport:
        pty.hang_up()
        assert transport.read(1, 5) == b""
        with pytest.raises(ConnectionLost, match="connect again"):
            transport.write(b"+")


def test_use_after_close(pty: Pty) -> None:
    transport = open_transport(pty.device, timeout=5)
    transport.close()
    transport.close()
    with pytest.raises(TransportError, match="has been closed here"):
        transport.read(1, 0)
    with pytest.raises(TransportError, match="has been closed here"):
        transport.send_break()


def test_a_pseudo_terminal_drops_a_break(pty: Pty) -> None:
    with (
        open_transport(pty.device, timeout=5) as transport,
        pytest.raises(UnsupportedCommand, match="is a pseudo-terminal, which drops a BREAK"),
    ):
        transport.send_break()


@pytest.mark.parametrize("broken", [False, True])
def test_a_break_is_pyserials(broken: bool) -> None:
    # A fake, for want of a port with a wire: it has what a transport may use of pyserial's port.
    class Port(socket.socket):
        breaks = 0

        def send_break(self) -> None:
            if broken:
                raise termios.error(5, "Input/output error")
            self.breaks += 1

    with Port() as port:
        transport = SerialTransport(port, address="/dev/ttyS9,115200")  # type: ignore[arg-type]
        # (a fake is no serial.Serial)
        if broken:
            with pytest.raises(ConnectionLost, match=r"ttyS9.*Input/output error"):
                transport.send_break()
        else:
            transport.send_break()
            assert port.breaks == 1


def test_no_such_device() -> None:
    with pytest.raises(TransportError, match="there is no such device; is the adapter plugged in"):
        open_transport("/dev/ttyNONE", timeout=5)


def test_what_is_no_serial_port(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TransportError, match="it is no serial port"):
        open_transport(f"{tmp_path}/file", timeout=5)
    with pytest.raises(TransportError, match="it is a directory"):
        open_transport(f"{tmp_path}", timeout=5)
    with pytest.raises(TransportError, match="it is no serial port"):
        open_transport("/dev/null", timeout=5)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/socket")
        with pytest.raises(TransportError, match=f"it is a socket; connect to unix:{tmp_path}"):
            open_transport(f"{tmp_path}/socket", timeout=5)


def test_the_group_to_join(pty: Pty) -> None:
    group = grp.getgrnam("dialout") if os.geteuid() == 0 else None
    if group is None:
        pytest.skip("run as root, to give a device to another group")
    os.chown(pty.device, 0, group.gr_gid)
    os.chmod(pty.device, 0o660)  # noqa: PTH101 - a device, not a path of ours
    with (
        as_nobody(),
        pytest.raises(TransportError, match=r"join its group 'dialout': sudo usermod -aG dialout"),
    ):
        open_transport(pty.device, timeout=5)
    os.chmod(pty.device, 0o600)  # noqa: PTH101 - a device, not a path of ours
    with as_nobody(), pytest.raises(TransportError, match="neither may its group 'dialout'"):
        open_transport(pty.device, timeout=5)
