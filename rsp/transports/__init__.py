"""Byte streams to stubs.

Contents: the choice of the module for an address. Each is imported when its kind of address is
opened, so that a library which only one of them needs is loaded by nobody else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from rsp.transports.address import (
    PipeAddress,
    ReplayAddress,
    Rfc2217Address,
    SerialAddress,
    TcpAddress,
    TelnetAddress,
    UdpAddress,
    UnixAddress,
    parse_address,
)

if TYPE_CHECKING:
    from rsp.transports.base import Transport

_BACKENDS = {
    TcpAddress: "rsp.transports.tcp",
    UdpAddress: "rsp.transports.udp",
    UnixAddress: "rsp.transports.unix",
    PipeAddress: "rsp.transports.pipe",
    SerialAddress: "rsp.transports.serial",
    TelnetAddress: "rsp.transports.telnet",
    Rfc2217Address: "rsp.transports.rfc2217",
    ReplayAddress: "rsp.transports.replay",
}


def open_transport(address: str, *, timeout: float) -> Transport:
    """Open the byte stream that an address leads to.

    Args:
        address: in any spelling that `rsp.transports.address.parse_address` takes.
        timeout: seconds that connecting may take.

    Raises:
        TargetAddressError: the text is no address.
        TransportError: the stream cannot be opened; the message says what to do.
        RspTimeout: the other side did not answer in that time.
    """
    parsed = parse_address(address)
    backend = importlib.import_module(_BACKENDS[type(parsed)])
    transport: Transport = backend.connect(parsed, timeout=timeout)
    return transport
