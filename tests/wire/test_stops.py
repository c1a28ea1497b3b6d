"""Stop replies: what live stubs sent, every key of the manual, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import LocalProtocolError, RemoteProtocolError
from rsp.testing.strategies import payloads, stop_replies
from rsp.wire.codec import decode
from rsp.wire.replies import Dialect
from rsp.wire.signals import Signal, signal_name
from rsp.wire.stops import (
    Exited,
    FileRequest,
    NoResumed,
    Output,
    Stopped,
    StopReason,
    StopReply,
    Terminated,
    looks_like_stop,
    parse_output,
    parse_stop,
)
from rsp.wire.threads import ThreadId

DIALECT = Dialect()


def parse(payload: bytes) -> StopReply:
    return parse_stop(payload, DIALECT)


def stopped(payload: bytes) -> Stopped:
    stop = parse(payload)
    assert isinstance(stop, Stopped)
    return stop


# --- as live stubs sent them ---


def test_qemu() -> None:
    # QEMU 7.2.22, unasked, to a client that connects to a running machine.
    stop = stopped(b"T02thread:01;")
    assert (stop.signal, stop.signal_name) == (Signal.SIGINT, "SIGINT")
    assert stop.thread == ThreadId(thread=1)
    assert str(stop.thread) == "01"
    assert stop.reason is StopReason.SIGNAL
    assert stopped(b"T05thread:p01.01;").thread == ThreadId(process=1, thread=1)


def test_kgdb() -> None:
    # kgdb of Linux 6.1: from kdb, and at a later break-in.
    assert parse(b"S05") == Stopped(signal=5)
    assert stopped(b"T05thread:fffffffe;").thread == ThreadId(thread=0xFFFFFFFE)


def test_gdbserver_with_registers() -> None:
    # gdbserver 13.1, after vRun; as it stood on the wire.
    raw = b'T0506:0*,;07:70e5f*"7f0* ;10:704bfef7ff7f0* ;thread:p21e0.21e0;core:1;'
    stop = stopped(decode(raw, 1000))
    assert stop.signal == 5
    assert stop.core == 1
    assert [number for number, _ in stop.registers] == [6, 7, 16]
    assert dict(stop.registers)[16] == (0x7FFFF7FE4B70).to_bytes(8, "little")
    assert stop.other == ()


def test_gdbserver_watchpoint() -> None:
    raw = (
        b'T05watch:0*&404034;06:60e4f*"7f0* ;07:40e4f*"7f0* ;10:9f1140*\';thread:p22fe.22fe;core:1;'
    )
    stop = stopped(decode(raw, 1000))
    assert (stop.reason, stop.address) == (StopReason.WATCH, 0x404034)
    assert len(stop.registers) == 3


def test_gdbserver_breakpoint() -> None:
    raw = b"T05swbreak:;06:0*,;07:d8fedcf7ff7f0* ;10:561140*';thread:p22fe.2300;core:0;"
    assert stopped(decode(raw, 1000)).reason is StopReason.SWBREAK


def test_gdbserver_and_valgrind_exit() -> None:
    assert parse(b"W3;process:21e0") == Exited(status=3, process=0x21E0)
    assert parse(b"W03") == Exited(status=3)
    assert parse(b"W00") == Exited(status=0)


# --- the manual's keys ---


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (b"swbreak:;", Stopped(signal=5, reason=StopReason.SWBREAK)),
        (b"hwbreak:", Stopped(signal=5, reason=StopReason.HWBREAK)),
        (b"watch:7c00;", Stopped(signal=5, reason=StopReason.WATCH, address=0x7C00)),
        (b"rwatch:7C00;", Stopped(signal=5, reason=StopReason.RWATCH, address=0x7C00)),
        (b"awatch:0;", Stopped(signal=5, reason=StopReason.AWATCH, address=0)),
        (b"library:anything;", Stopped(signal=5, reason=StopReason.LIBRARY)),
        (b"replaylog:end;", Stopped(signal=5, reason=StopReason.REPLAYLOG, position="end")),
        (
            b"fork:p2.2;",
            Stopped(signal=5, reason=StopReason.FORK, child=ThreadId(process=2, thread=2)),
        ),
        (b"vfork:3;", Stopped(signal=5, reason=StopReason.VFORK, child=ThreadId(thread=3))),
        (b"clone:3;", Stopped(signal=5, reason=StopReason.CLONE, child=ThreadId(thread=3))),
        (b"vforkdone:;", Stopped(signal=5, reason=StopReason.VFORKDONE)),
        (b"exec:2f62696e;", Stopped(signal=5, reason=StopReason.EXEC, path="/bin")),
        (b"create:;", Stopped(signal=5, reason=StopReason.CREATE)),
        (b"syscall_entry:3b;", Stopped(signal=5, reason=StopReason.SYSCALL_ENTRY, syscall=59)),
        (b"syscall_return:0;", Stopped(signal=5, reason=StopReason.SYSCALL_RETURN, syscall=0)),
        (b"core:a;", Stopped(signal=5, core=10)),
        (b"10:xxxx;", Stopped(signal=5, registers=((16, None),))),
        (b"a:0102;", Stopped(signal=5, registers=((10, b"\x01\x02"),))),
        (
            b"reason:trace;name:a:b;",
            Stopped(signal=5, other=(("reason", "trace"), ("name", "a:b"))),
        ),
    ],
)
def test_keys(pair: bytes, expected: Stopped) -> None:
    assert parse(b"T05" + pair) == expected
    assert parse(expected.encode(DIALECT)) == expected


def test_of_a_repeated_key_the_first_counts() -> None:
    stop = stopped(b"T05thread:1;thread:2;swbreak:;hwbreak:;")
    assert stop.thread == ThreadId(thread=1)
    assert stop.reason is StopReason.SWBREAK
    assert stop.other == (("thread", "2"), ("hwbreak", ""))


def test_other_forms() -> None:
    assert parse(b"X0b;process:1a") == Terminated(signal=11, process=26)
    assert parse(b"N") == NoResumed()
    assert parse(b"O68690a") == Output(data=b"hi\n")
    assert parse(b"Fwrite,1,7ffe,3") == FileRequest(request="write,1,7ffe,3")
    assert parse_output(b"O68690A") == b"hi\n"


# --- what is none ---


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"S",
        b"S5",
        b"S05thread:1;",
        b"T",
        b"T5",
        b"T0x",
        b"T05foo;",
        b"T05thread:;",
        b"T05thread:x;",
        b"T05watch:;",
        b"T05watch:xyz;",
        b"T05core:-1;",
        b"T05exec:2f6;",
        b"T0510:123;",
        b"T0510:12xx;",
        b"T05fork:;",
        b"W",
        b"Wxx",
        b"W00;process:",
        b"W00;proc:1",
        b"X",
        b"N0",
        b"O1",
        b"Oxx",
        b"OK",
        b"E01",
        b"l",
    ],
)
def test_malformed(payload: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse(payload)
    assert caught.value.data in payload


@pytest.mark.parametrize("payload", [b"", b"O", b"OK", b"O1", b"Ozz", b"T05"])
def test_what_is_no_output(payload: bytes) -> None:
    if payload == b"O":
        assert parse_output(payload) == b""
    else:
        with pytest.raises(RemoteProtocolError):
            parse_output(payload)


def test_what_cannot_be_sent() -> None:
    for stop in (Stopped(signal=256), Stopped(signal=5, other=(("a;", ""),)), Exited(status=-1)):
        with pytest.raises(LocalProtocolError):
            stop.encode(DIALECT)


# --- telling a stop reply from an answer ---


@pytest.mark.parametrize(
    "payload", [b"S05", b"T05", b"T02thread:01;", b"W00", b"W3;process:21e0", b"X09", b"N"]
)
def test_looks_like_a_stop(payload: bytes) -> None:
    assert looks_like_stop(payload)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"OK",
        b"E01",
        b"O4f4b",
        b"F0",
        b"Text=0;Data=0;Bss=0",
        b"TextSeg=400000",
        b"T0",  # qTStatus: no trace is running
        b"T0;tnotrun:0;tframes:0",
        b"PacketSize=1000;swbreak+",
        b"S05+",
        b"T05x",
        b"W",
        b"NonStop+",
        b"X0b+",
        b"Wxyz",
    ],
)
def test_does_not_look_like_a_stop(payload: bytes) -> None:
    assert not looks_like_stop(payload)


@given(st.binary(max_size=300))
def test_hex_never_looks_like_a_stop(data: bytes) -> None:
    assert not looks_like_stop(data.hex().encode())
    assert not looks_like_stop(data.hex().upper().encode())


def test_an_endless_near_miss_is_decided_quickly() -> None:
    assert not looks_like_stop(b"T05" + b"a:b;" * 100_000 + b"x")
    assert not looks_like_stop(b"T05" + b":" * 300_000 + b";x")


# --- properties ---


@given(stop_replies())
def test_round_trip(stop: StopReply) -> None:
    payload = stop.encode(DIALECT)
    assert parse(payload) == stop
    assert looks_like_stop(payload) is not isinstance(stop, Output | FileRequest)


@given(st.one_of(st.binary(), payloads(), st.binary().map(lambda tail: b"T05" + tail)))
def test_any_bytes_are_a_stop_reply_or_an_error(payload: bytes) -> None:
    try:
        stop = parse(payload)
    except RemoteProtocolError:
        return
    assert parse(stop.encode(DIALECT)) == stop


@given(st.integers(0, 300))
def test_every_number_has_a_name(number: int) -> None:
    assert signal_name(number)


def test_signal_names_are_gdbs_own() -> None:
    assert [signal_name(n) for n in (0, 5, 10, 30, 33, 45, 75, 77, 78, 141, 145, 151)] == [
        "0",
        "SIGTRAP",
        "SIGBUS",
        "SIGUSR1",
        "SIGPOLL",
        "SIG33",
        "SIG63",
        "SIG32",
        "SIG64",
        "SIG127",
        "EXC_BAD_ACCESS",
        "SIG?151",
    ]
