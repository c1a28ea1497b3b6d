"""A pseudo-terminal at the far end of a transport."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from rsp.errors import RspTimeout

if TYPE_CHECKING:
    from rsp.transports.base import Transport


def assert_both_ways(transport: Transport, master: int) -> None:
    """Check that every byte goes through unaltered, and that a read of nothing ends in time."""
    data = bytes(range(256)) * 4
    transport.write(data, 5)
    received = b""
    while len(received) < len(data):
        received += os.read(master, 4096)
    assert received == data
    os.write(master, data)
    received = b""
    while len(received) < len(data):
        received += transport.read(100, 5)
    assert received == data
    for timeout in (0, 0.1):
        with pytest.raises(RspTimeout, match="nothing came") as caught:
            transport.read(100, timeout)
        assert caught.value.timeout == timeout
