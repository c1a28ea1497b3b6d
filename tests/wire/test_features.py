"""Features: what live stubs offer, and the forms of an item."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import LocalProtocolError, RemoteProtocolError
from rsp.testing.strategies import features
from rsp.wire.features import OFFERED, Features

# Sent by QEMU 7.2.22, valgrind 3.19 and (shortened) gdbserver 13.1.
QEMU = b"PacketSize=1000;qXfer:features:read+;vContSupported+;multiprocess+"
VGDB = (
    b"PacketSize=3fff;QStartNoAckMode+;QPassSignals+;QCatchSyscalls+;qXfer:auxv:read+;"
    b"qXfer:features:read+;qXfer:exec-file:read+;qXfer:siginfo:read+"
)
GDBSERVER = (
    b"PacketSize=47ff;QPassSignals+;QProgramSignals+;QStartupWithShell+;"
    b"augmented-libraries-svr4-read+;qXfer:auxv:read+;QNonStop+"
)


@pytest.mark.parametrize(
    ("payload", "size", "no_ack"),
    [(QEMU, 0x1000, False), (VGDB, 0x3FFF, True), (GDBSERVER, 0x47FF, False)],
)
def test_live_stubs(payload: bytes, size: int, no_ack: bool) -> None:
    parsed = Features.parse(payload)
    assert parsed.packet_size == size
    assert parsed.supports("QStartNoAckMode") is no_ack
    assert parsed.supports("PacketSize")
    assert not parsed.supports("ReverseStep")
    assert parsed.encode() == payload


def test_forms() -> None:
    parsed = Features.parse(b"a+;b-;c?;d=x=y;e=;augmented-libraries-svr4-read+")
    assert dict(parsed) == {
        "a": True,
        "b": False,
        "c": None,
        "d": "x=y",
        "e": "",
        "augmented-libraries-svr4-read": True,
    }
    assert [parsed.supports(name) for name in "abcdf"] == [True, False, False, True, False]


def test_items_of_no_form_are_passed_over_as_gdb_does() -> None:
    assert dict(Features.parse(b";;noise;+;=5;a+;")) == {"a": True}


def test_what_is_offered_is_what_gdb_offers() -> None:
    assert OFFERED.encode() == (
        b"multiprocess+;swbreak+;hwbreak+;qRelocInsn+;fork-events+;vfork-events+;exec-events+;"
        b"vContSupported+;QThreadEvents+;no-resumed+;memory-tagging+;xmlRegisters=i386"
    )


def test_upper_case_packet_size() -> None:
    assert Features.parse(b"PacketSize=3FFF").packet_size == 0x3FFF


@pytest.mark.parametrize("size", [b"", b"zz", b"0x1000", b"-1", b"1_0", b" 1", b"1" * 17])
def test_packet_size_that_is_no_number(size: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="PacketSize"):
        Features.parse(b"PacketSize=" + size)


def test_packet_size_without_a_value() -> None:
    assert Features.parse(b"PacketSize+").packet_size is None


@pytest.mark.parametrize(
    "bad", [{"": True}, {"a;b": True}, {"a": "x;y"}, {"a=": True}, {"a-": None}]
)
def test_what_cannot_be_sent(bad: dict[str, str | bool | None]) -> None:
    with pytest.raises(LocalProtocolError):
        Features(bad).encode()


def test_it_is_a_value() -> None:
    assert Features.parse(b"a+;b-") == Features({"a": True, "b": False})
    assert hash(Features.parse(b"a+;b=1")) == hash(Features.parse(b"b=1;a+"))
    with pytest.raises(TypeError):
        Features({})["a"] = True  # type: ignore[index]


@given(features())
def test_round_trip(value: Features) -> None:
    assert Features.parse(value.encode()) == value


@given(st.binary())
def test_any_bytes(payload: bytes) -> None:
    try:
        parsed = Features.parse(payload)
    except RemoteProtocolError:
        return
    assert parsed.packet_size is None or parsed.packet_size >= 0
    assert Features.parse(parsed.encode()) == parsed
