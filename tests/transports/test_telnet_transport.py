"""Telnet: the filter by property, the transport on a real QEMU chardev."""

from __future__ import annotations

import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import RspTimeout, TransportError
from rsp.transports import open_transport
from rsp.transports.memory import MemoryTransport
from rsp.transports.telnet import TelnetFilter, TelnetTransport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rsp.transports.base import Transport

IAC, DONT, DO, WONT, WILL, SB, BRK, NOP, SE = 255, 254, 253, 252, 251, 250, 243, 241, 240
BINARY, ECHO, SGA, TTYPE, NAWS = 0, 1, 3, 24, 31

commands = st.one_of(
    st.just(bytes([IAC, NOP])),
    st.builds(
        lambda command, option: bytes([IAC, command, option]),
        st.sampled_from([DO, DONT, WILL, WONT]),
        st.integers(0, 255),
    ),
    st.binary(max_size=8).map(
        lambda body: bytes([IAC, SB, TTYPE]) + body.replace(b"\xff", b"\xff\xff") + bytes([IAC, SE])
    ),
)
streams = st.lists(st.tuples(st.binary(max_size=8), commands), max_size=8)


def negotiated() -> TelnetFilter:
    telnet = TelnetFilter()
    telnet.data_to_send()
    assert telnet.receive(bytes([IAC, WILL, BINARY, IAC, DO, BINARY])) == b""
    assert telnet.data_to_send() == b""
    return telnet


@given(streams, st.lists(st.integers(1, 5), min_size=1))
def test_commands_are_taken_out_however_the_stream_is_cut(
    stream: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    wire = b"".join(data.replace(b"\xff", b"\xff\xff") + command for data, command in stream)
    # Binary is a matter of the moment: leave out what would switch it.
    wire = wire.replace(bytes([IAC, WONT, BINARY]), b"").replace(bytes([IAC, DONT, BINARY]), b"")
    whole, pieces = negotiated(), negotiated()
    plain = whole.receive(wire)
    received, at, turn = b"", 0, 0
    while at < len(wire):
        size = cuts[turn % len(cuts)]
        received += pieces.receive(wire[at : at + size])
        at, turn = at + size, turn + 1
    assert received == plain
    assert pieces.data_to_send() == whole.data_to_send()


@given(streams)
def test_the_data_between_commands_is_kept(stream: list[tuple[bytes, bytes]]) -> None:
    stream = [(data, command) for data, command in stream if command[2:] != bytes([BINARY])]
    wire = b"".join(data.replace(b"\xff", b"\xff\xff") + command for data, command in stream)
    assert negotiated().receive(wire) == b"".join(data for data, _ in stream)


@given(st.binary())
def test_what_is_escaped_is_received(data: bytes) -> None:
    telnet = negotiated()
    assert telnet.receive(telnet.escape(data)) == data


@given(st.binary(max_size=2000))
def test_answers_are_bounded(data: bytes) -> None:
    telnet = negotiated()
    telnet.receive(data)
    assert len(telnet.data_to_send()) <= len(data) + 2


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        ([WILL, ECHO], [DO, ECHO]),
        ([WILL, SGA], [DO, SGA]),
        ([DO, SGA], [WILL, SGA]),
        ([DO, ECHO], [WONT, ECHO]),
        ([DO, TTYPE], [WONT, TTYPE]),
        ([WILL, NAWS], [DONT, NAWS]),
        ([WONT, NAWS], None),
        ([DONT, TTYPE], None),
        ([WILL, BINARY], None),  # the answer to what the filter asked for
        ([DO, BINARY], None),
        ([DONT, BINARY], None),
    ],
)
def test_negotiation(received: list[int], answer: list[int] | None) -> None:
    telnet = TelnetFilter()
    assert telnet.data_to_send() == bytes([IAC, WILL, BINARY, IAC, DO, BINARY])
    for _ in range(2):  # the second time nothing changes, so there is nothing to answer
        assert telnet.receive(bytes([IAC, *received])) == b""
        assert telnet.data_to_send() == (bytes([IAC, *answer]) if answer else b"")
        answer = None


def test_an_option_that_is_taken_back() -> None:
    telnet = negotiated()
    telnet.receive(bytes([IAC, WONT, BINARY, IAC, DONT, BINARY]))
    assert telnet.data_to_send() == bytes([IAC, DONT, BINARY, IAC, WONT, BINARY])
    assert telnet.escape(b"a\rb") == b"a\r\0b"
    assert telnet.receive(b"a\r\0b\r") + telnet.receive(b"\0c") == b"a\rb\rc"


def test_a_transport_waits_for_data_beyond_the_commands() -> None:
    inner, server = MemoryTransport.pair()
    with TelnetTransport(inner, address="telnet://x:1") as transport:
        server.write(bytes([IAC, DO, TTYPE]))
        with pytest.raises(RspTimeout, match="nothing came from telnet://x:1") as caught:
            transport.read(100, 0.02)
        assert caught.value.timeout == 0.02
        assert server.read(100, 0) == bytes([IAC, WILL, BINARY, IAC, DO, BINARY, IAC, WONT, TTYPE])
        server.write(b"\xff")
        with pytest.raises(RspTimeout):
            transport.read(100, 0)
        server.write(b"\xff")
        assert transport.read(100, None) == b"\xff"
        transport.send_break()
        assert server.read(100, 0) == bytes([IAC, BRK])
        server.close()
        assert transport.read(100, 5) == b""
        assert transport.reliable


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TransportError, match="nothing listens at"):
        open_transport(f"telnet://127.0.0.1:{port}", timeout=5)


# What answers at the other end of the chardev: a 64 KiB firmware that starts at the reset vector,
# sends back each byte that its 16550 receives, and "B" for a BREAK.
LOOP = bytes.fromhex(
    "bafd03"  # again: mov dx, 0x3fd    ; the line status register
    "ec"  #          in al, dx
    "88c4"  #        mov ah, al
    "f6c401"  #      test ah, 1         ; data ready
    "74f5"  #        jz again
    "baf803"  #      mov dx, 0x3f8
    "ec"  #          in al, dx
    "f6c410"  #      test ah, 0x10      ; break interrupt
    "7402"  #        jz send
    "b042"  #        mov al, 'B'
    "ee"  #    send: out dx, al
    "ebe7"  #        jmp again
)
RESET = bytes.fromhex("ea000000f0")  # ljmp 0xf000:0


@contextmanager
def echoing_machine(firmware: Path) -> Iterator[str]:
    image = bytearray(0x10000)
    image[: len(LOOP)] = LOOP
    image[0xFFF0 : 0xFFF0 + len(RESET)] = RESET
    firmware.write_bytes(image)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # QEMU gets the listening socket, so that there is neither a race for a port nor a wait.
        number = listener.fileno()
        chardev = f"socket,id=line,fd={number},server=on,wait=off,telnet=on"
        words = ["qemu-system-i386", "-nodefaults", "-display", "none", "-bios", str(firmware)]
        words += ["-chardev", chardev, "-serial", "chardev:line"]
        with subprocess.Popen(words, pass_fds=[number]) as qemu:
            try:
                yield f"telnet://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                qemu.kill()


def read_exactly(transport: Transport, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = transport.read(size - len(received), 20)
        assert piece
        received += piece
    return received


@pytest.mark.live("qemu-system-i386")
def test_a_qemu_serial_line(tmp_path: Path) -> None:
    with (
        echoing_machine(tmp_path / "firmware") as address,
        open_transport(address, timeout=5) as transport,
    ):
        transport.write(b"hello\r\n")
        assert read_exactly(transport, 7) == b"hello\r\n"
        transport.send_break()
        assert read_exactly(transport, 1) == b"B"
        transport.write(bytes(range(255)))
        assert read_exactly(transport, 255) == bytes(range(255))
        # 0xff arrives in the guest as one byte; QEMU 7.2 sends it back without doubling it, so
        # that it takes two for one to come through here.
        transport.write(b"<\xff\xff>")
        assert read_exactly(transport, 3) == b"<\xff>"
