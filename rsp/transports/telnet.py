"""Telnet: a QEMU chardev with ``telnet=on``, ser2net; the simplest line that carries a BREAK.

Contents: the filter that takes the telnet commands out of the stream and answers them (RFC 854,
855), and the transport that puts it on a TCP connection.

QEMU 7.2 does not double the 0xff bytes that it sends (measured), so those of a guest are taken for
commands. The stub of a kernel sends none: its replies are hexadecimal text.
"""

from __future__ import annotations

import time
from enum import IntEnum
from typing import TYPE_CHECKING

from rsp.errors import RspTimeout
from rsp.transports.address import TcpAddress
from rsp.transports.base import Transport, read_timeout
from rsp.transports.tcp import connect as connect_tcp

if TYPE_CHECKING:
    from rsp.transports.address import TelnetAddress


class _Command(IntEnum):
    """RFC 854, "TELNET COMMAND STRUCTURE": those that this client sends or obeys."""

    SE = 0xF0
    BRK = 0xF3
    SB = 0xFA
    WILL = 0xFB
    WONT = 0xFC
    DO = 0xFD
    DONT = 0xFE
    IAC = 0xFF


class _Option(IntEnum):
    """RFC 856, 857, 858."""

    BINARY = 0
    ECHO = 1
    SUPPRESS_GO_AHEAD = 3


# What the other side may do, and what we may. Echo is a promise that our input comes back, which a
# QEMU chardev makes and does not keep; to accept it only keeps it from asking again.
_THEIRS = frozenset(_Option)
_OURS = frozenset({_Option.BINARY, _Option.SUPPRESS_GO_AHEAD})
_NEGOTIATION = frozenset({_Command.WILL, _Command.WONT, _Command.DO, _Command.DONT})
_IAC = bytes((_Command.IAC,))


class TelnetFilter:
    r"""The telnet layer of one connection, without I/O.

    It asks for an 8-bit path both ways (BINARY), accepts suppress-go-ahead and echo, and refuses
    every other option, each once. Commands may be split over any number of reads.

    >>> telnet = TelnetFilter()
    >>> telnet.data_to_send()  # IAC WILL BINARY, IAC DO BINARY
    b'\xff\xfb\x00\xff\xfd\x00'
    >>> telnet.receive(b"+$OK#9a\xff\xf1")  # IAC NOP
    b'+$OK#9a'
    """

    def __init__(self) -> None:
        self._command = b""  # the start of a command whose end has not come
        self._subnegotiation = False
        self._after_return = False
        self._theirs: set[int] = set()
        self._ours: set[int] = set()
        self._refused: set[tuple[int, int]] = set()
        # Asked for unprompted; the answer to them must not be answered again (RFC 854).
        self._asked: set[tuple[int, int]] = set()
        self._binary_refused = False
        self._replies = bytearray()
        for command in (_Command.WILL, _Command.DO):
            self._asked.add((command, _Option.BINARY))
            self._replies += bytes((_Command.IAC, command, _Option.BINARY))

    def data_to_send(self) -> bytes:
        """Return the commands to send, and forget them."""
        replies = bytes(self._replies)
        self._replies.clear()
        return replies

    def escape(self, data: bytes) -> bytes:
        """Return the data as it goes over the line."""
        if self._binary_refused:
            data = data.replace(b"\r", b"\r\0")  # RFC 854, "THE NVT PRINTER AND KEYBOARD"
        return data.replace(_IAC, _IAC * 2)

    def receive(self, data: bytes) -> bytes:
        """Return the data with the commands taken out; empty if there was nothing else."""
        if self._command:
            data = self._command + data
            self._command = b""
        plain = bytearray()
        at = 0
        while (iac := data.find(_IAC, at)) >= 0:
            self._take(plain, data[at:iac])
            at = iac + self._length(data, iac)
            if at > len(data):
                self._command = data[iac:]
                return bytes(plain)
            if data[iac + 1] == _Command.IAC:
                self._take(plain, _IAC)
            else:
                self._obey(*data[iac + 1 : at])
        self._take(plain, data[at:])
        return bytes(plain)

    @staticmethod
    def _length(data: bytes, iac: int) -> int:
        return 3 if data[iac + 1 : iac + 2] and data[iac + 1] in _NEGOTIATION else 2

    def _take(self, plain: bytearray, data: bytes) -> None:
        if not data or self._subnegotiation:
            return
        if _Option.BINARY not in self._theirs:
            after_return, self._after_return = self._after_return, data.endswith(b"\r")
            if after_return and data.startswith(b"\0"):
                data = data[1:]
            data = data.replace(b"\r\0", b"\r")
        plain += data

    def _obey(self, command: int, option: int = -1) -> None:
        match command:
            case _Command.SB:  # an option's details, of which none that we accept has any
                self._subnegotiation = True
            case _Command.SE:
                self._subnegotiation = False
            case _Command.WILL | _Command.WONT:
                answers = (_Command.DO, _Command.DONT)
                wanted = command == _Command.WILL and option in _THEIRS
                self._negotiate(command == _Command.WILL, option, self._theirs, wanted, answers)
            case _Command.DO | _Command.DONT:
                answers = (_Command.WILL, _Command.WONT)
                wanted = command == _Command.DO and option in _OURS
                self._negotiate(command == _Command.DO, option, self._ours, wanted, answers)
                if option == _Option.BINARY:
                    self._binary_refused = not wanted
            case _:  # NOP, GA and the others mean nothing to a debugger
                pass

    def _negotiate(
        self,
        positive: bool,
        option: int,
        enabled: set[int],
        wanted: bool,
        answers: tuple[_Command, _Command],
    ) -> None:
        """Answer what changes something, and no more: then no two sides answer for ever."""
        yes, no = answers
        asked = (yes, option) in self._asked
        self._asked.discard((yes, option))
        if wanted and option not in enabled:
            enabled.add(option)
            if not asked:
                self._reply(yes, option)
        elif not positive and option in enabled:
            enabled.discard(option)
            self._reply(no, option)
        elif positive and not wanted and (no, option) not in self._refused:
            self._refused.add((no, option))
            self._reply(no, option)

    def _reply(self, command: _Command, option: int) -> None:
        self._replies += bytes((_Command.IAC, command, option))


class TelnetTransport(Transport):
    """A telnet connection over another transport."""

    def __init__(self, inner: Transport, *, address: str) -> None:
        self.address = address
        self.reliable: bool = inner.reliable
        self._inner = inner
        self._telnet = TelnetFilter()

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        remaining = timeout
        while True:
            try:
                data = self._inner.read(max_bytes, remaining)
            except RspTimeout as error:
                raise read_timeout(self.address, timeout or 0.0) from error
            if not data:
                return b""
            plain = self._telnet.receive(data)
            if deadline is not None:
                remaining = max(0.0, deadline - time.monotonic())
            self.negotiate(remaining)
            if plain:
                return plain

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """See `Transport.write`."""
        self._inner.write(self._telnet.escape(data), timeout)

    def send_break(self) -> None:
        """See `Transport.send_break`."""
        self._inner.write(bytes((_Command.IAC, _Command.BRK)), None)

    def close(self) -> None:
        """See `Transport.close`."""
        self._inner.close()

    def negotiate(self, timeout: float | None) -> None:
        """Send what the filter has to say: at the start, and in answer to what was read."""
        if replies := self._telnet.data_to_send():
            self._inner.write(replies, timeout)


def connect(address: TelnetAddress, *, timeout: float) -> Transport:
    """Connect to a port that speaks telnet.

    Raises:
        TransportError: the host is not known, or nothing listens there.
        RspTimeout: the host does not answer.
    """
    line = connect_tcp(TcpAddress(host=address.host, port=address.port), timeout=timeout)
    transport = TelnetTransport(line, address=str(address))
    try:
        transport.negotiate(timeout)
    except BaseException:
        line.close()
        raise
    return transport
