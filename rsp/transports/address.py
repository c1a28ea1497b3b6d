"""The addresses that ``connect`` takes, in the spellings of gdb and QEMU.

Contents: one frozen type for each kind of address, and the parser. ``str()`` of an address is its
canonical spelling, which parses to an equal address. Nothing here looks at the machine: whether the
device or the host exists is found out by who opens it.
"""

from __future__ import annotations

import os
import re
import shlex
import urllib.parse
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NoReturn

from rsp.arguments import shown
from rsp.errors import TargetAddressError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

# What kernels and their kgdboc= lines mostly use; a serial line has no way to ask.
DEFAULT_BAUD = 115200
_MAX_BAUD = 100_000_000

_FORMS = (
    ":1234, host:1234, tcp:host:1234, tcp4:host:1234, tcp6:host:1234, [::1]:1234, unix:/path, "
    "/dev/ttyS0, /dev/ttyS0,115200, serial:///dev/ttyS0?baud=115200, telnet://host:port, "
    "rfc2217://host:port, udp:host:6443, '| command args', replay:boot.rsplog"
)


class IpVersion(Enum):
    """Which addresses of a host are tried; the value is gdb's prefix for it."""

    ANY = "tcp"
    V4 = "tcp4"
    V6 = "tcp6"


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAddress:
    """A TCP port, such as QEMU's ``-s``."""

    host: str
    port: int
    version: IpVersion = IpVersion.ANY

    def __str__(self) -> str:
        return f"{self.version.value}:{_host_port(self.host, self.port)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpAddress:
    """A UDP port, such as that of a kernel with kgdboe."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"udp:{_host_port(self.host, self.port)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAddress:
    """A Unix domain socket, such as QEMU's ``-gdb unix:/run/gdb,server=on``."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialAddress:
    """A serial device of this machine; baud is in bits per second."""

    device: str
    baud: int = DEFAULT_BAUD

    def __str__(self) -> str:
        return f"{self.device},{self.baud}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TelnetAddress:
    """A port that speaks telnet, such as a QEMU chardev with ``telnet=on``."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"telnet://{_host_port(self.host, self.port)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rfc2217Address:
    """A serial port of another machine behind RFC 2217, such as ser2net's."""

    host: str
    port: int
    baud: int = DEFAULT_BAUD

    def __str__(self) -> str:
        return f"rfc2217://{_host_port(self.host, self.port)}?baud={self.baud}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PipeAddress:
    """A program to start, which speaks on its standard input and output."""

    command: str

    def __str__(self) -> str:
        return f"| {self.command}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayAddress:
    """A recording to play."""

    path: str

    def __str__(self) -> str:
        return f"replay:{self.path}"


Address = (
    TcpAddress
    | UdpAddress
    | UnixAddress
    | SerialAddress
    | TelnetAddress
    | Rfc2217Address
    | PipeAddress
    | ReplayAddress
)


def parse_address(text: object) -> Address:
    """Return the address that the text means.

    >>> parse_address(":1234")
    TcpAddress(host='localhost', port=1234, version=<IpVersion.ANY: 'tcp'>)
    >>> str(parse_address("serial:///dev/ttyUSB0?baud=9600"))
    '/dev/ttyUSB0,9600'

    Raises:
        TargetAddressError: it is none of the forms; the message names them, and the likely slip.
    """
    if not isinstance(text, str):
        _refuse(text, "it is no text")
    _refuse_control_characters(text, text)
    try:
        os.fsencode(text)
    except UnicodeError:
        _refuse(text, "it contains a character that no file name can have")
    stripped = text.strip()
    if stripped.startswith("|"):
        return _pipe(text, stripped.removeprefix("|").strip())
    if stripped.startswith("/"):
        return _device(text, stripped)
    scheme, colon, rest = stripped.partition(":")
    if colon and (parser := _SCHEMES.get(scheme)):
        return parser(text, rest)
    if scheme == "core" and not rest.isdecimal():  # which is a host's name
        _refuse(text, "a core file does not run: rsp.open_core opens it, and commands that look")
    if "://" in stripped:
        _refuse(text, f"{scheme}:// is not spoken here{nearest(scheme, _SCHEMES)}")
    return _tcp(text, stripped, IpVersion.ANY)


def _pipe(text: str, command: str) -> PipeAddress:
    try:
        words = shlex.split(command)
    except ValueError as error:
        _refuse(text, f"the command cannot be split into words: {error}")
    if not words:
        _refuse(text, "there is no command after the bar")
    return PipeAddress(command=command)


def _device(text: str, rest: str) -> SerialAddress:
    device, comma, baud = rest.rpartition(",")
    if not comma:
        return SerialAddress(device=rest)
    return SerialAddress(device=device, baud=_baud(text, baud))


def _serial_url(text: str, rest: str) -> SerialAddress:
    path, query = _split_url(text, rest, "serial:///dev/ttyS0?baud=115200")
    path = urllib.parse.unquote(path)
    _refuse_control_characters(text, path)
    if not path.startswith("/"):
        _refuse(text, "a device is an absolute path: serial:///dev/ttyS0, with three slashes")
    return SerialAddress(device=path, baud=_query_baud(text, query))


def _tcp_url(text: str, rest: str, version: IpVersion) -> TcpAddress:
    if rest.startswith("//"):
        rest = rest.removeprefix("//").removesuffix("/")
    return _tcp(text, rest, version)


def _tcp(text: str, rest: str, version: IpVersion) -> TcpAddress:
    host, port = _split_host_port(text, rest)
    return TcpAddress(host=host or "localhost", port=port, version=version)


def _udp(text: str, rest: str) -> UdpAddress:
    if rest.startswith("//"):
        rest = rest.removeprefix("//").removesuffix("/")
    host, port = _split_host_port(text, rest)
    return UdpAddress(host=host or "localhost", port=port)


def _unix(text: str, path: str) -> UnixAddress:
    if not path:
        _refuse(text, "there is no path after unix:")
    _refuse_qemu_options(text, path)
    return UnixAddress(path=path)


def _telnet(text: str, rest: str) -> TelnetAddress:
    hostport, query = _split_url(text, rest, "telnet://host:port")
    if query:
        _refuse(text, "telnet:// takes no options")
    host, port = _split_host_port(text, hostport.removesuffix("/"))
    return TelnetAddress(host=host or "localhost", port=port)


def _rfc2217(text: str, rest: str) -> Rfc2217Address:
    hostport, query = _split_url(text, rest, "rfc2217://host:port")
    host, port = _split_host_port(text, hostport.removesuffix("/"))
    return Rfc2217Address(host=host or "localhost", port=port, baud=_query_baud(text, query))


def _replay(text: str, path: str) -> ReplayAddress:
    if not path:
        _refuse(text, "there is no file name after replay:")
    return ReplayAddress(path=path)


_SCHEMES: dict[str, Callable[[str, str], Address]] = {
    "tcp": lambda text, rest: _tcp_url(text, rest, IpVersion.ANY),
    "tcp4": lambda text, rest: _tcp_url(text, rest, IpVersion.V4),
    "tcp6": lambda text, rest: _tcp_url(text, rest, IpVersion.V6),
    "unix": _unix,
    "serial": _serial_url,
    "telnet": _telnet,
    "rfc2217": _rfc2217,
    "replay": _replay,
    "udp": _udp,
}


def _split_url(text: str, rest: str, form: str) -> tuple[str, str]:
    if not rest.startswith("//"):
        _refuse(text, f"write it as {form}")
    before, _, query = rest.removeprefix("//").partition("?")
    return before, query


def _split_host_port(text: str, rest: str) -> tuple[str, int]:
    _refuse_qemu_options(text, rest)
    host, colon, port = rest.rpartition(":")
    if not colon:
        if re.fullmatch(r"[0-9]+", rest):
            _refuse(text, f"a port alone needs a colon before it: :{rest}")
        if re.fullmatch(r"[\w.-]+", rest):
            _refuse(text, f"a host needs a port: {rest}:1234")
        _refuse(text, "there is no port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not re.fullmatch(r"[0-9A-Fa-f:.]+(?:%[\w.-]+)?", host) or ":" not in host:
            _refuse(text, "there is no IPv6 address in the brackets")
    elif ":" in host:
        _refuse(text, f"an IPv6 address is written in brackets: [{host}]:{port}")
    elif host and not re.fullmatch(r"[\w.-]+", host):
        _refuse(text, f"{host!r} cannot be the name of a host")
    if not re.fullmatch(r"[0-9]+", port, re.ASCII):
        _refuse(text, f"the port is a number, not {port!r}")
    if len(port) > 5 or not 1 <= int(port) <= 65535:
        _refuse(text, f"the port {port} is not between 1 and 65535")
    return host, int(port)


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _query_baud(text: str, query: str) -> int:
    if not query:
        return DEFAULT_BAUD
    name, _, value = query.partition("=")
    if name != "baud":
        _refuse(text, f"the only option is ?baud=115200, not {query!r}")
    return _baud(text, value)


def _baud(text: str, baud: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", baud, re.ASCII) or not 1 <= int(baud) <= _MAX_BAUD:
        _refuse(text, f"{baud!r} is no baud rate such as 115200")
    return int(baud)


def _refuse_control_characters(text: str, rest: str) -> None:
    if any(char < " " or char == "\x7f" for char in rest):
        _refuse(text, "it contains a control character")


def _refuse_qemu_options(text: str, rest: str) -> None:
    if match := re.search(r",(?:server|nowait|wait|telnet|nodelay)\b", rest):
        _refuse(
            text, f"what QEMU takes from the comma on is not part of it: {rest[: match.start()]}"
        )


def _refuse(text: object, slip: str) -> NoReturn:
    raise TargetAddressError(
        f"{shown(text)} is no address to connect to: {slip}. The forms are: {_FORMS}",
        address=text if isinstance(text, str) else shown(text),
    )
