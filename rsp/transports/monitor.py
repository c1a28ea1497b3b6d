"""A BREAK on a virtual serial port, by QEMU's monitor: for a line that carries none itself.

Contents: one function, which says `chardev-send-break` to a monitor for people (QEMU manual, "QEMU
Monitor": `-monitor unix:/path,server=on,wait=off`). It finds out by itself which chardev the line
is.
"""

from __future__ import annotations

import re
from time import monotonic
from typing import TYPE_CHECKING

from rsp.errors import TransportError
from rsp.transports import open_transport
from rsp.transports.address import SerialAddress, TelnetAddress, UnixAddress, parse_address

if TYPE_CHECKING:
    from rsp.transports.base import Transport

_PROMPT = b"(qemu) "
_TIMEOUT = 5.0
_CHARDEV = re.compile(r"^(\S+): filename=(.*?)\r?$", re.MULTILINE)


def send_break(monitor: str, line: str) -> None:
    """Send a BREAK on the serial port that a line leads to.

    Args:
        monitor: the address of QEMU's monitor.
        line: the address of the line: a socket or a pseudo-terminal of the same QEMU.

    Raises:
        TargetAddressError: one of them is no address.
        TransportError: nobody listens at the monitor, or QEMU has no chardev there.
        RspTimeout: nobody answers: a monitor serves one client.
    """
    with open_transport(monitor, timeout=_TIMEOUT) as transport:
        _read_answer(transport)
        ports = _CHARDEV.findall(_ask(transport, "info chardev"))
        here = _place(line)
        name = next((name for name, place in ports if re.search(here, place)), None)
        if name is None:
            raise TransportError(
                f"the QEMU of the monitor {monitor} has no serial port at {line}; it has "
                + (", ".join(f"{name} ({place})" for name, place in ports) or "none"),
                address=monitor,
            )
        said = _ask(transport, f"chardev-send-break {name}").strip()
        if said:
            raise TransportError(f"QEMU sent no BREAK on {name}: {said}", address=monitor)


def _place(line: str) -> str:
    """Return a pattern for what QEMU says of the chardev at an address."""
    match parse_address(line):
        case UnixAddress(path=path):
            return rf"unix:{re.escape(path)}(?:,|\s|$)"
        case SerialAddress(device=device):
            return rf"pty:{re.escape(device)}$"
        case TelnetAddress(port=port):
            return rf":{port}\b"
        case address:
            return rf":{getattr(address, 'port', 'none')}\b"


def _ask(transport: Transport, command: str) -> str:
    transport.write(f"{command}\n".encode(), _TIMEOUT)
    # The echo of a terminal's line editing comes first.
    return _read_answer(transport).partition("\n")[2]


def _read_answer(transport: Transport) -> str:
    said = b""
    end = monotonic() + _TIMEOUT
    while not said.endswith(_PROMPT):
        piece = transport.read(4096, max(0.0, end - monotonic()))
        said += piece
        if not piece or len(said) > 1 << 20:
            raise TransportError(
                f"{transport.address} is no monitor of QEMU: it shows no (qemu) prompt",
                address=transport.address,
            )
    return said.removesuffix(_PROMPT).decode("utf-8", "replace")
