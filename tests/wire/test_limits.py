"""What must not be sent to a stub is refused by its limits, whoever asks for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import LocalProtocolError
from rsp.wire import commands
from rsp.wire.connection import Connection
from rsp.wire.limits import Limits


def test_what_is_assumed_of_a_stub_that_says_nothing() -> None:
    """gdb assumes 400 with the NUL (remote.c), and m answers with two characters a byte."""
    limits = Limits()
    assert (limits.packet_size, limits.largest_read, limits.window) == (399, 199, 1)
    assert not limits.write_all_registers
    assert not limits.optimistic_ack


@pytest.mark.parametrize(
    ("limits", "largest"),
    [
        (Limits(packet_size=0x1000), 2048),
        (Limits(packet_size=1000, most_read=504), 500),
        (Limits(packet_size=4000, most_read=504), 504),
        (Limits(packet_size=4000, most_read=255), 255),
        (Limits(packet_size=20), 10),
    ],
)
def test_the_largest_read(limits: Limits, largest: int) -> None:
    assert limits.largest_read == largest
    assert limits.refusal(commands.ReadMemory(address=0, length=largest)) is None
    assert limits.refusal(commands.ReadMemory(address=0, length=largest + 1))


@given(st.integers(40, 1 << 17), st.integers(0, 2**64 - 1))
def test_the_largest_write_fits_the_packet_at_any_address(size: int, address: int) -> None:
    limits = Limits(packet_size=size)
    length = limits.largest_write
    assert length >= 1
    command = commands.WriteMemory(address=address, data=bytes(length))
    assert len(command.encode()) <= size


HARMFUL = [
    (commands.ReverseStep(), Limits(reverse_step=True)),
    (commands.ReverseContinue(), Limits(reverse_continue=True)),
    (commands.WriteRegisters(data=bytes(608)), Limits(write_all_registers=True)),
    (commands.ReadMemory(address=0, length=200), Limits(packet_size=400)),
]


@pytest.mark.parametrize(("command", "allowing"), HARMFUL)
@pytest.mark.parametrize("raw", [False, True])
def test_harmful_packets_are_not_sent(
    command: commands.Command, allowing: Limits, raw: bool
) -> None:
    sent = commands.Unknown(payload=command.encode()) if raw else command
    connection = Connection(Limits())
    with pytest.raises(LocalProtocolError, match="harm"):
        connection.send(sent, 0.0)
    assert connection.data_to_send() == b""
    assert connection.unanswered == 0
    assert allowing.refusal(sent) is None


def test_harmless_packets_are_sent() -> None:
    for payload in (b"bogus", b"qTStatus", b"G", b"mzz", b"bx"):
        assert Limits().refusal(commands.Unknown(payload=payload)) is None or payload == b"G"
