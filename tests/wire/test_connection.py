"""The connection by its events and bytes; time is an argument, so no test waits for anything."""

from __future__ import annotations

import logging
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import LocalProtocolError, RemoteProtocolError, RspTimeout
from rsp.testing import strategies as rsp_strategies
from rsp.wire import codec, commands, replies, stops
from rsp.wire.codec import frame
from rsp.wire.connection import Connection
from rsp.wire.events import (
    NEED_DATA,
    Closed,
    Console,
    Event,
    Notification,
    Output,
    Reply,
    Unsolicited,
)
from rsp.wire.limits import InterruptWay, Limits
from rsp.wire.states import State
from rsp.wire.threads import ANY

if TYPE_CHECKING:
    from collections.abc import Callable

G = commands.ReadRegisters()
QC = commands.QueryCurrentThread()
PIPELINE = Limits(window=8)
SERIAL = Limits(reliable=False, retransmit_after=1.0, timeout=30.0)
CONSOLE_LINE = Limits(shared_line=True, reliable=False, interrupt=InterruptWay.BREAK_G)


def read(address: int, length: int = 2) -> commands.ReadMemory:
    return commands.ReadMemory(address=address, length=length)


def drain(connection: Connection) -> list[Event]:
    """Return the events that are there, neighbouring console text joined."""
    events: list[Event] = []
    while (event := connection.next_event()) is not NEED_DATA:
        match event, events[-1:]:
            case Console(data=more), [Console(data=text)]:
                events[-1] = Console(text + more)
            case _:
                events.append(event)
        if isinstance(event, Closed):
            break
    return events


def receive(connection: Connection, data: bytes, now: float = 0.0) -> list[Event]:
    connection.receive_data(data, now)
    return drain(connection)


def started(
    *sent: commands.Command, limits: Limits | None = None, no_ack: bool = False
) -> Connection:
    """Return a connection with some requests sent, and their bytes taken."""
    connection = Connection(limits)
    if no_ack:
        connection.send(commands.StartNoAckMode(), 0.0)
        receive(connection, b"+$OK#9a")
    for command in sent:
        connection.send(command, 0.0)
    connection.data_to_send()
    return connection


def joined(events: list[Event]) -> bytes:
    assert {type(event) for event in events} <= {Console}
    return b"".join(event.data for event in events if isinstance(event, Console))


def silence(connection: Connection) -> list[Event]:
    """Let the time pass that makes a packet of what looks like one on a console's line."""
    connection.handle_timeout(due(connection))
    return drain(connection)


def proved(connection: Connection, stop: bytes) -> list[Event]:
    """Let that time pass behind a stop, and repeat it when that is asked for, as a stub does."""
    assert silence(connection) == []
    assert connection.data_to_send() == b"-"
    return receive(connection, stop)


def due(connection: Connection) -> float:
    deadline = connection.next_deadline()
    assert deadline is not None
    return deadline


def repeat(times: int, action: Callable[[], object]) -> None:
    for _ in range(times):
        action()


def state_of(connection: Connection) -> State:
    """Return the state; a call, for mypy takes a property that was compared for settled."""
    return connection.state


def answered(event: Event) -> bytes:
    assert isinstance(event, Reply)
    assert isinstance(event.value, replies.MemoryData | replies.RegisterBlock)
    return event.value.data


# --- one request ---


def test_a_request_and_its_reply() -> None:
    connection = Connection()
    command = read(0x1000)
    connection.send(command, 0.0)
    assert connection.data_to_send() == b"$m1000,2#8c"
    assert connection.data_to_send() == b""
    assert receive(connection, b"+") == []
    (event,) = receive(connection, b"$cafe#8f")
    assert event == Reply(command, replies.MemoryData(data=b"\xca\xfe"))
    assert isinstance(event, Reply)
    assert event.command is command
    assert connection.data_to_send() == b"+"
    assert connection.next_event() is NEED_DATA
    assert connection.unanswered == 0


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_the_reply_in_pieces(size: int) -> None:
    connection = started(read(0x1000))
    data = b"+$cafe#8f"
    events = []
    for start in range(0, len(data), size):
        events += receive(connection, data[start : start + size])
    assert [answered(event) for event in events] == [b"\xca\xfe"]
    assert connection.data_to_send() == b"+"


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"", replies.Unsupported()),
        (b"E01", replies.ErrorReply(code=1)),
        (b"E.no memory there", replies.ErrorReply(text="no memory there")),
        (b"E012", replies.MemoryData(data=b"\xe0\x12")),
        (b"ee01", replies.MemoryData(data=b"\xee\x01")),
    ],
)
def test_what_is_an_error_and_what_is_data(payload: bytes, value: replies.Reply) -> None:
    """Several clients take all that begins with E for an error; here it is data, too."""
    connection = started(read(0, 8))
    (event,) = receive(connection, b"+" + frame(payload))
    assert isinstance(event, Reply)
    assert event.value == value


def test_replies_with_runs_and_escapes() -> None:
    connection = started(commands.XferRead(object="features", annex="a", offset=0, length=99))
    (event,) = receive(connection, b"+$%b#%02x" % (p := b"lab}\x03* }]", codec.checksum(p)))
    assert isinstance(event, Reply)
    assert event.value == replies.XferData(data=b"ab#\x03\x03\x03}", last=True)


def test_upper_case_replies() -> None:
    (event,) = receive(started(read(0)), b"+$CAFE#0F")
    assert answered(event) == b"\xca\xfe"


def test_without_acks_none_are_sent() -> None:
    connection = started(no_ack=True)
    assert connection.data_to_send() == b""
    connection.send(read(0), 0.0)
    assert connection.data_to_send() == frame(read(0).encode())
    assert [answered(e) for e in receive(connection, frame(b"cafe"))] == [b"\xca\xfe"]
    assert connection.data_to_send() == b""


def test_the_answer_to_the_switch_is_the_last_that_is_acked() -> None:
    connection = started(commands.StartNoAckMode())
    receive(connection, b"+$OK#9a")
    assert connection.data_to_send() == b"+"


@pytest.mark.parametrize("refusal", [b"", b"E01"])
def test_a_refused_switch_keeps_the_acks(refusal: bytes) -> None:
    connection = started(commands.StartNoAckMode())
    receive(connection, b"+" + frame(refusal))
    connection.data_to_send()
    connection.send(G, 0.0)
    connection.data_to_send()
    receive(connection, b"+$00#60")
    assert connection.data_to_send() == b"+"


# --- what comes between ---


def test_a_stop_reply_before_the_first_answer_is_told_apart() -> None:
    """QEMU says `T02` as soon as somebody connects to a running machine."""
    connection = started(commands.QuerySupported())
    first, second = receive(connection, b"$T02thread:01;#04+$PacketSize=1000#f1")
    assert isinstance(first, Unsolicited)
    assert isinstance(first.value, stops.Stopped)
    assert first.value.signal == 2
    assert isinstance(second, Reply)
    assert second.command == commands.QuerySupported()
    assert connection.data_to_send() == b"++"


def test_an_unsolicited_stop_while_nothing_is_asked_is_acked() -> None:
    """kgdb's `T05` of a later break-in waits for its `+`: what is sent before that is lost."""
    connection = Connection(CONSOLE_LINE)
    said = b"sysrq: DEBUG\r\n$T05thread:fffffffe;#d5"
    assert receive(connection, said) == [Console(b"sysrq: DEBUG\r\n")]
    (stop,) = proved(connection, b"$T05thread:fffffffe;#d5")
    assert isinstance(stop, Unsolicited)
    assert connection.data_to_send() == b"+"
    assert connection.state is State.STOPPED


@pytest.mark.parametrize("stop", [b"T05thread:01;", b"S05", b"W00", b"X09", b"N", b"T02"])
@pytest.mark.parametrize("command", [G, QC, commands.QueryFirstThreads(), read(0)])
def test_no_stop_is_taken_for_an_answer(command: commands.Command, stop: bytes) -> None:
    connection = started(command)
    (event,) = receive(connection, b"+" + frame(stop))
    assert isinstance(event, Unsolicited)
    assert connection.unanswered == 1


def test_notifications_come_between_and_are_not_acked() -> None:
    connection = started(read(0))
    note, reply = receive(connection, b"+%Stop:T05#99$cafe#8f")
    assert note == Notification("Stop", b"T05")
    assert answered(reply) == b"\xca\xfe"
    assert connection.data_to_send() == b"+"


def test_a_corrupt_notification_is_not_asked_for_again() -> None:
    connection = started(read(0))
    assert receive(connection, b"+%Stop:T05#00") == [Console(b"%Stop:T05#00")]
    assert connection.data_to_send() == b""


def test_output_comes_before_the_answer_to_a_monitor_command() -> None:
    connection = started(commands.Monitor(command="info"))
    one, two, three, done = receive(connection, b"+$O6869#2c$O0a#e0$O#4f$OK#9a")
    assert [one, two, three] == [Output(b"hi"), Output(b"\n"), Output(b"")]
    assert isinstance(done, Reply)
    assert done.value == replies.Ok()
    assert connection.data_to_send() == b"++++"


def test_output_does_not_end_a_resume() -> None:
    connection = started(commands.Continue())
    assert receive(connection, b"+$O6869#2c") == [Output(b"hi")]
    assert state_of(connection) is State.RUNNING
    receive(connection, b"$S05#b8")
    assert state_of(connection) is State.STOPPED


def test_output_without_end_is_an_error() -> None:
    connection = started(commands.Monitor(command="x"), limits=Limits(max_reply=1 << 20))
    receive(connection, b"+")
    piece = frame(b"O" + b"61" * ((1 << 19) - 1))
    with pytest.raises(RemoteProtocolError, match="goes on"):
        repeat(100, lambda: receive(connection, piece))


def test_a_duplicate_reply_is_dropped() -> None:
    connection = started(read(0))
    receive(connection, b"+$cafe#8f")
    assert receive(connection, b"$cafe#8f") == []
    connection.send(read(2), 0.0)
    (event,) = receive(connection, b"+$0102#c3")
    assert answered(event) == b"\1\2"


def test_text_is_console() -> None:
    connection = started(read(0))
    text, reply = receive(connection, b"+hello\r\n$cafe#8f")
    assert text == Console(b"hello\r\n")
    assert answered(reply) == b"\xca\xfe"


# --- states ---


def test_nothing_but_an_interrupt_while_it_runs() -> None:
    connection = started(commands.Continue())
    assert connection.state is State.RUNNING
    for command in (G, commands.Continue(), commands.Kill(), commands.QueryStop()):
        with pytest.raises(LocalProtocolError, match="running"):
            connection.send(command, 0.0)
    assert connection.data_to_send() == b""
    connection.interrupt(0.0)
    assert connection.data_to_send() == b"\x03"
    (event,) = receive(connection, b"+$T02thread:01;#04")
    assert isinstance(event, Reply)
    assert event.command == commands.Continue()
    with pytest.raises(LocalProtocolError, match="stopped"):
        connection.interrupt(0.0)


def test_all_is_acknowledged_before_a_resume() -> None:
    connection = started(read(0))
    connection.send(commands.Continue(), 0.0)
    assert connection.data_to_send() == b""
    receive(connection, b"+$cafe#8f")
    assert connection.data_to_send() == b"+$c#63"
    assert connection.state is State.RUNNING


def test_nothing_is_queued_behind_a_resume() -> None:
    connection = started(read(0))
    connection.send(commands.Continue(), 0.0)
    with pytest.raises(LocalProtocolError, match="resume"):
        connection.send(G, 0.0)


@pytest.mark.parametrize("refusal", [b"E22", b""])
def test_a_refused_resume(refusal: bytes) -> None:
    connection = started(commands.Step())
    (event,) = receive(connection, b"+" + frame(refusal))
    assert isinstance(event, Reply)
    assert connection.state is State.STOPPED
    connection.send(G, 0.0)


def test_kill_waits_for_no_answer() -> None:
    connection = Connection()
    connection.send(commands.Kill(), 0.0)
    assert connection.data_to_send() == b"$k#6b"
    assert connection.unanswered == 0
    assert connection.next_deadline() is None


def test_an_interrupt_that_the_line_cannot_carry() -> None:
    connection = started(commands.Continue(), limits=CONSOLE_LINE)
    with pytest.raises(LocalProtocolError, match="BREAK"):
        connection.interrupt(0.0)
    assert connection.data_to_send() == b""


def test_the_end_of_the_stream() -> None:
    connection = started(read(0), read(2), limits=PIPELINE)
    events = receive(connection, b"+$cafe#8f$01")
    events += receive(connection, b"")
    assert answered(events[0]) == b"\xca\xfe"
    assert events[1:] == [Closed(1)]
    assert connection.state is State.CLOSED
    assert connection.next_deadline() is None
    assert connection.next_event() == Closed(1)
    with pytest.raises(LocalProtocolError, match="closed"):
        connection.send(G, 0.0)


def test_an_error_stays() -> None:
    connection = started(read(0, 1))
    with pytest.raises(RemoteProtocolError) as first:
        receive(connection, b"+$cafe#8f")
    assert connection.state is State.ERROR
    assert connection.next_deadline() is None
    for attempt in (
        connection.next_event,
        lambda: connection.send(G, 0.0),
        lambda: connection.interrupt(0.0),
        lambda: connection.handle_timeout(9.0),
    ):
        with pytest.raises(RemoteProtocolError) as again:
            attempt()
        assert again.value is first.value


# --- several under way ---


def test_the_window_bounds_what_is_under_way() -> None:
    connection = Connection(Limits(window=2))
    for address in (0, 2, 4):
        connection.send(read(address), 0.0)
    assert connection.data_to_send() == frame(b"m0,2") + frame(b"m2,2")
    (event,) = receive(connection, b"+$0000#c0")
    assert isinstance(event, Reply)
    assert event.command == read(0)
    assert connection.data_to_send() == b"+" + frame(b"m4,2")
    events = receive(connection, b"+$0202#c4+$0404#c8")
    assert [answered(event) for event in events] == [b"\2\2", b"\4\4"]


def test_each_reply_gets_its_ack_though_it_went_ahead() -> None:
    connection = Connection(Limits(window=2, optimistic_ack=True))
    for address in (0, 2, 4):
        connection.send(read(address), 0.0)
    assert connection.data_to_send() == frame(b"m0,2") + b"+" + frame(b"m2,2") + b"+"
    receive(connection, b"+$0000#c0")
    assert connection.data_to_send() == frame(b"m4,2") + b"+"
    receive(connection, b"+$0202#c4+$0404#c8")
    assert connection.data_to_send() == b""


def test_an_ack_ahead_is_for_the_reply_that_is_next() -> None:
    """gdbserver repeats a reply for every byte that is not its `+`."""
    connection = Connection(Limits(window=4, optimistic_ack=True))
    connection.send(read(0), 0.0)
    connection.send(commands.Monitor(command="a"), 0.0)
    connection.send(read(2), 0.0)
    sent = connection.data_to_send()
    assert sent == frame(b"m0,2") + b"+" + frame(b"qRcmd,61")
    receive(connection, b"+$0000#c0")
    assert connection.data_to_send() == b""
    receive(connection, b"+$OK#9a")
    assert connection.data_to_send() == b"+" + frame(b"m2,2") + b"+"


def test_a_resume_waits_until_all_is_answered() -> None:
    connection = started(read(0), read(2), limits=PIPELINE)
    connection.send(commands.Step(), 0.0)
    receive(connection, b"+$0000#c0")
    assert b"$s" not in connection.data_to_send()
    assert connection.state is State.STOPPED
    receive(connection, b"+$0202#c4")
    assert connection.data_to_send() == b"+$s#73"


def test_replies_come_in_the_order_of_the_requests() -> None:
    requests = [read(2 * i) for i in range(30)]
    connection = started(*requests, limits=PIPELINE)
    events = []
    for i in range(30):
        events += receive(connection, b"+" + frame(b"%02x%02x" % (i, i)))
    assert [event.command for event in events if isinstance(event, Reply)] == requests
    assert [answered(event) for event in events] == [bytes([i, i]) for i in range(30)]


# --- refusals of our own ---


def test_a_packet_longer_than_the_stub_takes() -> None:
    connection = Connection(Limits(packet_size=30))
    with pytest.raises(LocalProtocolError, match="split it"):
        connection.send(commands.WriteMemory(address=0x1000, data=bytes(20)), 0.0)
    assert connection.data_to_send() == b""
    assert connection.unanswered == 0
    connection.send(commands.WriteMemory(address=0x1000, data=bytes(5)), 0.0)


# --- acks that fail ---


def test_a_nak_sends_again() -> None:
    connection = started(read(0))
    assert receive(connection, b"-") == []
    assert connection.data_to_send() == frame(b"m0,2")
    (event,) = receive(connection, b"+$cafe#8f")
    assert answered(event) == b"\xca\xfe"


def test_naks_without_end_are_an_error() -> None:
    connection = started(read(0), limits=Limits(retries=3))
    for _ in range(3):
        receive(connection, b"-")
        assert connection.data_to_send() == frame(b"m0,2")
    with pytest.raises(RemoteProtocolError, match="4 times"):
        receive(connection, b"-")
    assert connection.data_to_send() == b""


def test_a_nak_of_what_was_acked_is_none() -> None:
    connection = started(read(0))
    receive(connection, b"+-")
    assert connection.data_to_send() == b""


def test_a_nak_while_nothing_is_asked() -> None:
    connection = Connection()
    assert receive(connection, b"--+-") == []
    assert connection.data_to_send() == b""


def test_a_corrupt_reply_is_asked_for_again() -> None:
    connection = started(read(0))
    assert receive(connection, b"+$caff#8f") == []
    assert connection.data_to_send() == b"-"
    (event,) = receive(connection, b"$cafe#8f")
    assert answered(event) == b"\xca\xfe"
    assert connection.data_to_send() == b"+"


def test_a_wrong_checksum_for_ever() -> None:
    connection = started(read(0), limits=Limits(retries=5))
    for _ in range(5):
        receive(connection, b"+$cafe#00")
        assert connection.data_to_send() == b"-"
    with pytest.raises(RemoteProtocolError, match="no answer came whole"):
        receive(connection, b"$cafe#00")


def test_a_corrupt_reply_without_acks() -> None:
    """Nothing can be asked for again with `-`: the request itself is, once the line is quiet."""
    connection = started(read(0), no_ack=True)
    receive(connection, b"$cafe#00", 1.0)
    assert connection.data_to_send() == b""
    connection.handle_timeout(quiet := due(connection))
    assert connection.data_to_send() == frame(b"m0,2")
    (event,) = receive(connection, b"$cafe#8f", quiet)
    assert answered(event) == b"\xca\xfe"


def test_a_corrupt_reply_among_several() -> None:
    connection = started(*[read(2 * i) for i in range(4)], limits=PIPELINE)
    (event,) = receive(connection, b"+$0000#c0+$0202#00+$0404#c8+$06", 1.0)
    assert answered(event) == b"\0\0"
    connection.data_to_send()
    # What else was under way must not be taken for the answer to what is sent next.
    assert receive(connection, b"06#cc", 1.1) == []
    quiet = due(connection)
    assert quiet > 1.1
    connection.handle_timeout(quiet)
    for address in (2, 4, 6):
        assert frame(b"m%x,2" % address) in connection.data_to_send()
        (event,) = receive(connection, b"+" + frame(b"%02x%02x" % (address, address)), quiet)
        assert answered(event) == bytes([address, address])
    assert connection.unanswered == 0


def test_what_must_not_be_done_twice_is_not_asked_again_without_acks() -> None:
    connection = started(commands.Monitor(command="reset"), no_ack=True)
    with pytest.raises(RemoteProtocolError, match="cannot be asked for again"):
        receive(connection, b"$OK#00")


def test_corrupt_replies_without_end_and_without_acks() -> None:
    connection = started(read(0), no_ack=True)
    now = 0.0

    def spoil() -> None:
        nonlocal now
        receive(connection, b"$cafe#00", now)
        connection.handle_timeout(now := due(connection))

    with pytest.raises(RemoteProtocolError, match="keep coming"):
        repeat(20, spoil)


def test_recoveries_are_counted_for_each_request_anew() -> None:
    connection = started(no_ack=True)
    now = 0.0
    for _ in range(20):
        connection.send(read(0), now)
        receive(connection, b"$cafe#00", now)
        now = due(connection)
        connection.handle_timeout(now)
        assert len(receive(connection, b"$cafe#8f", now)) == 1


# --- a line that loses bytes ---


def test_only_the_first_request_is_repeated_by_the_clock_on_a_reliable_line() -> None:
    connection = started(read(0), limits=Limits(timeout=5.0))
    assert connection.next_deadline() == 1.0
    connection.handle_timeout(1.0)
    assert connection.data_to_send() == frame(b"m0,2")
    (event,) = receive(connection, b"+$cafe#8f", 1.1)
    assert answered(event) == b"\xca\xfe"
    assert connection.data_to_send() == b"+"
    # The stub may have heard both.
    connection.send(read(2), 1.2)
    assert receive(connection, b"+$cafe#8f", 1.3) == []
    assert connection.data_to_send() == b"+"
    now = due(connection)
    connection.handle_timeout(now)
    assert connection.data_to_send() == frame(b"m2,2")
    connection.handle_timeout(now + 2)
    assert connection.data_to_send() == b""


def test_a_first_request_that_was_received_is_not_repeated() -> None:
    connection = started(read(0), limits=Limits(timeout=5.0))
    assert receive(connection, b"+", 0.5) == []
    connection.handle_timeout(4.9)
    assert connection.data_to_send() == b""


def test_a_resume_that_is_the_first_request_is_not_repeated() -> None:
    connection = started(commands.Continue(), limits=Limits(timeout=5.0))
    assert connection.next_deadline() is None


def test_an_unacked_request_is_sent_again() -> None:
    connection = started(read(0), limits=SERIAL)
    assert connection.next_deadline() == 1.0
    connection.handle_timeout(0.9)
    assert connection.data_to_send() == b""
    connection.handle_timeout(1.0)
    assert connection.data_to_send() == frame(b"m0,2")
    assert connection.next_deadline() == 3.0


def test_what_nobody_answers_is_repeated_ever_later_until_its_time_is_over() -> None:
    """A machine under load is no bad line: the time that the caller gives counts, no number."""
    connection = started(read(0), limits=replace(SERIAL, timeout=60.0, retries=3))
    times: list[float] = []

    def wait() -> None:
        times.append(due(connection))
        connection.handle_timeout(times[-1])

    with pytest.raises(RspTimeout, match="ReadMemory in 60 s"):
        repeat(9, wait)
    assert times == [1.0, 3.0, 7.0, 15.0, 31.0, 60.0]


def test_an_answer_that_comes_after_many_repeats_is_taken() -> None:
    connection = started(read(0), limits=replace(SERIAL, retries=1))
    for _ in range(4):
        connection.handle_timeout(due(connection))
    (event,) = receive(connection, b"+$cafe#8f", 29.0)
    assert answered(event) == b"\xca\xfe"


def test_a_lost_reply_is_asked_for_with_a_nak_and_taken() -> None:
    connection = started(read(0), limits=SERIAL)
    receive(connection, b"+", 0.1)
    connection.handle_timeout(1.1)
    assert connection.data_to_send() == b"-"
    # The stub repeats its last reply, without another `+`.
    (event,) = receive(connection, b"$cafe#8f", 1.2)
    assert answered(event) == b"\xca\xfe"


def test_a_stub_without_nak_gets_the_request_again() -> None:
    """The Rust gdbstub does not know `-`."""
    connection = started(read(0), limits=SERIAL)
    receive(connection, b"+", 0.1)
    connection.handle_timeout(1.1)
    connection.handle_timeout(3.1)
    assert connection.data_to_send() == b"-" + frame(b"m0,2")


def test_what_was_received_and_must_not_be_done_twice_is_not_sent_again() -> None:
    connection = started(commands.Monitor(command="reset"), limits=SERIAL)
    receive(connection, b"+", 0.1)
    with pytest.raises(RspTimeout):
        repeat(9, lambda: connection.handle_timeout(due(connection)))
    assert set(connection.data_to_send()) == {ord("-")}


def test_a_slow_line_is_not_disturbed_in_the_middle_of_a_reply() -> None:
    """At 9600 baud a reply of 2 KB takes longer than it takes to repeat a request."""
    connection = started(read(0, 199), limits=SERIAL)
    packet = b"+" + frame(b"ab" * 199)
    now = 0.0
    events: list[Event] = []
    for start in range(0, len(packet), 40):
        now += 0.3
        assert now < due(connection)
        events += receive(connection, packet[start : start + 40], now)
    assert [answered(event) for event in events] == [b"\xab" * 199]


def test_an_answer_without_its_ack_is_that_of_an_earlier_request() -> None:
    """The stub repeats a reply whose `+` came to harm; the next request is not answered by it."""
    connection = started(read(0), limits=SERIAL)
    receive(connection, b"+$cafe#8f")
    connection.send(read(2), 0.0)
    assert receive(connection, b"$cafe#8f") == []
    assert connection.data_to_send().endswith(b"+")
    (event,) = receive(connection, b"+$0102#c3")
    assert answered(event) == b"\1\2"


def test_what_was_sent_twice_may_be_answered_twice() -> None:
    """The second answer, with an ack of its own, is not that of the next request."""
    connection = started(read(0), limits=SERIAL)
    connection.handle_timeout(1.0)
    receive(connection, b"+$cafe#8f", 1.1)
    connection.data_to_send()
    connection.send(read(2), 1.1)
    assert connection.data_to_send() == b""
    assert receive(connection, b"+$cafe#8f", 1.2) == []
    assert connection.data_to_send() == b"+"
    quiet = due(connection)
    assert quiet > 1.2
    connection.handle_timeout(quiet)
    assert connection.data_to_send() == frame(b"m2,2")
    (event,) = receive(connection, b"+$0102#c3", quiet)
    assert answered(event) == b"\1\2"


def test_an_answer_as_late_as_the_one_before_is_not_taken_for_the_next_one_s() -> None:
    """What answers 3 s after it was asked, twice, answers for the second time 3 s later."""
    connection = started(read(0), limits=SERIAL)
    connection.handle_timeout(1.0)
    receive(connection, b"+$cafe#8f", 3.0)
    connection.data_to_send()
    connection.send(read(2), 3.0)
    connection.handle_timeout(5.9)
    assert connection.data_to_send() == b""
    assert receive(connection, b"+$cafe#8f", 5.9) == []
    connection.data_to_send()
    connection.handle_timeout(due(connection))
    assert connection.data_to_send() == frame(b"m2,2")
    (event,) = receive(connection, b"+$0102#c3", 9.0)
    assert answered(event) == b"\1\2"


def test_where_answers_are_slow_requests_are_repeated_later() -> None:
    connection = started(read(0), limits=SERIAL)
    receive(connection, b"+$cafe#8f", 0.9)
    connection.send(read(2), 10.0)
    assert connection.next_deadline() == 11.8
    receive(connection, b"+$0102#c3", 10.1)
    connection.send(read(4), 20.0)
    assert connection.next_deadline() == 21.0


def test_a_resume_that_nobody_acknowledges() -> None:
    connection = started(commands.Continue(), limits=replace(SERIAL, timeout=5.0))
    with pytest.raises(RemoteProtocolError, match="Continue was not acknowledged in 5 s"):
        repeat(9, lambda: connection.handle_timeout(due(connection)))


def test_a_pause_after_the_quiet_is_no_timeout() -> None:
    connection = started(read(0), limits=SERIAL)
    connection.handle_timeout(1.0)
    receive(connection, b"+$cafe#8f", 1.1)
    connection.data_to_send()
    connection.send(read(2), 1000.0)
    assert connection.data_to_send() == frame(b"m2,2")
    assert due(connection) > 1001.0


def test_an_acked_resume_is_not_repeated() -> None:
    connection = started(commands.Continue(), limits=SERIAL)
    assert connection.next_deadline() == 1.0
    receive(connection, b"+")
    assert connection.next_deadline() is None
    connection.handle_timeout(100.0)
    assert connection.data_to_send() == b""


# --- requests that nobody waits for any more ---


def test_what_is_owed_for_abandoned_requests_is_waited_for() -> None:
    """However long a machine under load is silent before it answers."""
    connection = started(read(0), read(2), no_ack=True, limits=PIPELINE)
    connection.abandon(1.0)
    connection.send(read(4), 1.0)
    assert receive(connection, b"$0000#c0", 4.0) == []
    connection.handle_timeout(4.9)
    assert connection.data_to_send() == b""
    assert receive(connection, b"$0202#c4", 5.0) == []
    connection.handle_timeout(due(connection))
    assert connection.data_to_send() == frame(b"m4,2")
    (event,) = receive(connection, b"$0404#c8", 5.5)
    assert answered(event) == b"\4\4"


def test_what_is_owed_is_waited_for_where_bytes_may_be_lost() -> None:
    """A kernel drops what comes before its answer has been acknowledged."""
    connection = started(commands.SelectThread(operation="g", thread=ANY), limits=SERIAL)
    connection.abandon(1.0)
    connection.send(commands.Detach(), 1.0)
    connection.handle_timeout(3.0)
    assert connection.data_to_send() == b""
    assert receive(connection, b"+$OK#9a", 3.5) == []
    assert connection.data_to_send() == b"+"
    connection.handle_timeout(due(connection))
    assert connection.data_to_send() == frame(b"D")
    (event,) = receive(connection, b"+$OK#9a", 5.0)
    assert isinstance(event, Reply)
    assert isinstance(event.command, commands.Detach)


def test_the_rest_of_an_answer_that_was_cut_in_two() -> None:
    """It was not acknowledged, so that a kernel takes the next request for a bad ack."""
    connection = started(read(0), limits=replace(SERIAL, timeout=5.0))
    assert receive(connection, b"+$ca", 0.5) == []
    connection.abandon(1.0)
    connection.send(commands.Detach(), 1.0)
    assert receive(connection, b"fe#8f", 5.9) == []
    connection.handle_timeout(due(connection))
    assert connection.data_to_send() == frame(b"D")
    assert receive(connection, b"-", 6.5) == []
    assert connection.data_to_send() == frame(b"D")


def test_what_an_abandoned_command_prints_is_not_its_answer() -> None:
    connection = started(commands.Monitor(command="slow"), no_ack=True)
    connection.abandon(1.0)
    receive(connection, b"$O41#b4$O42#b5", 2.0)
    connection.send(read(4), 2.0)
    connection.handle_timeout(3.0)
    assert connection.data_to_send() == b""
    receive(connection, b"$OK#9a", 4.0)
    connection.handle_timeout(due(connection))
    assert connection.data_to_send() == frame(b"m4,2")


# --- deadlines ---


def test_no_answer_in_time() -> None:
    connection = started(read(0), limits=Limits(timeout=5.0))
    with pytest.raises(RspTimeout, match="ReadMemory in 5 s") as caught:
        connection.handle_timeout(5.0)
    assert caught.value.timeout == 5.0
    assert connection.state is State.ERROR


def test_a_timeout_of_its_own() -> None:
    connection = Connection(Limits(timeout=5.0))
    connection.send(commands.Monitor(command="slow"), 1.0, timeout=60.0)
    assert connection.next_deadline() == 61.0


def test_each_answer_gives_the_next_its_time() -> None:
    connection = started(read(0), read(2), limits=Limits(window=2, timeout=5.0))
    receive(connection, b"+$0000#c0", 4.0)
    assert connection.next_deadline() == 9.0


def test_a_resume_has_no_deadline() -> None:
    connection = started(commands.Continue())
    assert connection.next_deadline() is None
    connection.handle_timeout(1e9)
    assert connection.state is State.RUNNING


def test_nothing_is_awaited_while_nothing_is_asked() -> None:
    connection = Connection()
    assert connection.next_deadline() is None
    connection.handle_timeout(1e9)
    assert connection.state is State.STOPPED


def test_bytes_that_are_no_answer_do_not_put_the_deadline_off() -> None:
    connection = started(read(0), limits=Limits(timeout=5.0))
    for tenth in range(49):
        receive(connection, b"noise", tenth / 10)
    with pytest.raises(RspTimeout):
        connection.handle_timeout(5.0)


def test_a_line_that_never_rests_does_not_put_the_deadline_off_either() -> None:
    connection = started(read(0), no_ack=True, limits=Limits(timeout=5.0))
    for tenth in range(49):
        receive(connection, b"$cafe#00" if tenth == 0 else b"noise", tenth / 10)
    with pytest.raises(RspTimeout):
        connection.handle_timeout(5.0)


# --- a line that a console shares ---

KDB = (
    b"sysrq: DEBUG\r\n\r\nEntering kdb (current=0xffff888003a6a800, pid 1) on processor 0 due to "
    b"NonMaskable Interrupt @ 0xffffffff81167cd4\r\n[0]kdb> "
)


def test_kdb_is_left_with_the_first_request() -> None:
    connection = started(commands.QueryStop(), limits=CONSOLE_LINE)
    text, stop = receive(connection, KDB + b"$?#3f\r\n+$S05#b8")
    assert text == Console(KDB + b"$?#3f\r\n")
    assert isinstance(stop, Reply)
    assert connection.data_to_send() == b"+"


@pytest.mark.parametrize("sent", [None, QC, read(0), commands.QuerySupported()])
def test_the_packet_in_kgdbs_banner_is_no_answer(sent: commands.Command | None) -> None:
    """`$3#33` is checksum-valid; PyGdbRemoteClient and others answer it."""
    banner = b"Please attach debugger or use $3#33 to switch to kdb\r\n"
    connection = started(*([sent] if sent else []), limits=CONSOLE_LINE)
    assert receive(connection, banner) == [Console(banner)]
    assert connection.data_to_send() == b""
    assert connection.unanswered == (sent is not None)


@pytest.mark.parametrize(
    "text",
    [
        b"user@host:~$ ",
        b"# echo '$OK#9a'\r\n$OK#9a\r\n",
        b"a + b - c++ --d\r\n",
        b"1+\r\n-1-",
        b"$ + - $ + -",
        b"100%\r\n%Stop:T05#99\r\n",
        b"$m0,4#00 $#00",
    ],
)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_a_console_is_neither_read_nor_answered(text: bytes, whole: bool, running: bool) -> None:
    """What a shell prints while the kernel runs; a byte sent to it would be typed into it."""
    connection = Connection(CONSOLE_LINE)
    if running:
        connection.send(commands.Continue(), 0.0)
        connection.data_to_send()
        assert receive(connection, b"+") == []
    pieces = [text] if whole else [text[i : i + 1] for i in range(len(text))]
    events: list[Event] = []
    for piece in pieces:
        events += receive(connection, piece)
    events += receive(connection, b" ")
    shown = b"".join(event.data for event in events if isinstance(event, Console))
    assert {type(event) for event in events} <= {Console}
    assert shown == text + b" "
    assert connection.data_to_send() == b""
    assert connection.state is (State.RUNNING if running else State.STOPPED)


def test_a_stop_ends_the_run_on_a_console_line() -> None:
    connection = started(commands.Continue(), limits=CONSOLE_LINE)
    said = b"+login: root\r\n$ $T05thread:01;#07"
    assert receive(connection, said) == [Console(b"login: root\r\n$ ")]
    assert (connection.data_to_send(), connection.state) == (b"", State.RUNNING)
    (stop,) = proved(connection, b"$T05thread:01;#07")
    assert isinstance(stop, Reply)
    assert connection.data_to_send() == b"+"


LIKE_STOPS = [
    b"$T05thread:01;#07",
    b"$S05#b8",
    b"$T05thread:01;#00",
    b"$O41#b4",
    b"$#00",
    b"$W00#b7",
]


@pytest.mark.parametrize("line", LIKE_STOPS)
@pytest.mark.parametrize("more", [b"\r\n", b" ", b"$"])
@pytest.mark.parametrize("apart", [True, False])
def test_a_stop_that_is_followed_by_anything_is_a_consoles(
    line: bytes, more: bytes, apart: bool
) -> None:
    """`echo '$T05thread:01;#07'` in a shell; a stub that has sent that waits for its ack."""
    connection = started(commands.Continue(), limits=CONSOLE_LINE)
    events = receive(connection, b"+$ " + line + (b"" if apart else more))
    if apart:
        assert due(connection) < 1.0
        events += receive(connection, more)
    events += receive(connection, b" .")
    assert joined(events) == b"$ " + line + more + b" ."
    assert connection.data_to_send() == b""
    assert connection.state is State.RUNNING
    # The one that silence follows, and one that comes right behind it.
    receive(connection, b"$T05thread:01;#07$T05thread:02;#08")
    (stop,) = proved(connection, b"$T05thread:02;#08")
    assert isinstance(stop, Reply)
    assert str(stop.value.thread) == "02"  # type: ignore[attr-defined]  # of a stop


@pytest.mark.parametrize("apart", [True, False])
def test_what_looks_like_a_stop_at_the_end_of_the_stream_is_a_consoles(apart: bool) -> None:
    connection = started(commands.Continue(), limits=CONSOLE_LINE)
    stop = b"$T05thread:01;#07"
    connection.receive_data(b"+" + stop, 0.0)
    events = drain(connection) if apart else []
    events += receive(connection, b"")
    assert events == [Console(stop), Closed(1)]


def test_a_stop_on_a_line_where_nobody_has_spoken_is_not_waited_for_long() -> None:
    quiet, spoken = (started(commands.Continue(), limits=CONSOLE_LINE) for _ in range(2))
    receive(quiet, b"+$T05thread:01;#07")
    receive(spoken, b"+hello\r\n$T05thread:01;#07")
    assert due(quiet) * 4 < due(spoken) < 0.5


def test_a_corrupt_stop_is_asked_for_again_once_nothing_follows() -> None:
    connection = started(commands.Continue(), limits=CONSOLE_LINE)
    assert receive(connection, b"+$T05thread:01;#08") == []
    assert silence(connection) == []
    assert connection.data_to_send() == b"-"
    receive(connection, b"$T05thread:01;#07")
    (stop,) = proved(connection, b"$T05thread:01;#07")
    assert isinstance(stop, Reply)


STOP = b"$T05thread:01;#07"


@pytest.mark.parametrize("more", [b"\r\n", b"-", b"-\r\n" + STOP, b"\r\n" + STOP + b"\r\n", b"+"])
def test_what_is_not_said_again_at_once_is_a_console_s(more: bytes) -> None:
    """A machine under load has stood still in the middle of a line, for as long as it likes."""
    connection = started(commands.Continue(), limits=CONSOLE_LINE)
    receive(connection, b"+# " + STOP)
    assert silence(connection) == []
    assert connection.data_to_send() == b"-"
    events = receive(connection, more, 100.0)
    assert connection.data_to_send() == b"\x7f"  # the - is taken back
    events += receive(connection, b" .", 100.0)
    assert joined(events) == STOP + more + b" ."
    assert connection.data_to_send() == b""
    assert connection.state is State.RUNNING
    receive(connection, STOP)
    (stop,) = proved(connection, STOP)
    assert isinstance(stop, Reply)


def test_a_stop_is_asked_for_once_more_until_it_is_said_again() -> None:
    """By a stub that is slow to hear, or on a line that alters what it says."""
    connection = started(commands.Continue(), limits=CONSOLE_LINE)
    receive(connection, b"+# " + STOP, 1.0)
    times = []
    for _ in range(4):
        times.append(due(connection))
        assert silence(connection) == []
        assert connection.data_to_send() == b"-"
    waits = [after - before for before, after in pairwise(times)]
    assert waits == [pytest.approx(waits[0] * 2**n) for n in range(3)]
    assert receive(connection, STOP[:-1] + b"8", times[-1]) == []  # a wrong checksum
    assert receive(connection, STOP[:5], times[-1]) == []
    (stop,) = receive(connection, STOP[5:], times[-1])
    assert isinstance(stop, Reply)
    assert connection.data_to_send() == b"+"
    # What else it was asked for is no answer to the next request.
    connection.send(read(0), 100.0)
    connection.data_to_send()
    *repeated, answer = receive(connection, STOP * 3 + b"+$cafe#8f", 100.0)
    assert {type(event) for event in repeated} == {Unsolicited}
    assert answered(answer) == b"\xca\xfe"


def test_a_stream_that_ends_before_a_stop_is_said_again() -> None:
    connection = started(commands.Continue(), limits=CONSOLE_LINE)
    receive(connection, b"+# " + STOP)
    silence(connection)
    assert receive(connection, b"") == [Console(STOP), Closed(1)]


def test_a_consoles_text_in_packets_is_acknowledged() -> None:
    """kgdbcon: the kernel goes on when its message has been acknowledged."""
    connection = started(commands.Continue(), limits=CONSOLE_LINE)
    receive(connection, b"+$O680a#09"[:-2] + b"%02x" % codec.checksum(b"O680a"))
    assert silence(connection) == [Output(b"h\n")]
    assert connection.data_to_send() == b"+"
    assert connection.state is State.RUNNING


def test_a_console_is_silent_while_its_kernel_stands_still() -> None:
    """So a request that comes to harm is asked for again at once, and marks the line as bad."""
    connection = started(QC, limits=CONSOLE_LINE)
    receive(connection, b"+$QC01#f5")
    connection.send(read(0), 0.0)
    connection.data_to_send()
    before = connection.limits
    assert receive(connection, b"+$ca\x07e#8f") == []
    assert connection.data_to_send() == b"-"
    assert (before.noisy, connection.limits.noisy) == (False, True)
    (reply,) = receive(connection, b"$cafe#8f")
    assert answered(reply) == b"\xca\xfe"


def test_a_refused_resume_on_a_console_line() -> None:
    connection = started(commands.Step(), limits=CONSOLE_LINE)
    (event,) = receive(connection, b"+$E22#a9")
    assert isinstance(event, Reply)
    assert connection.state is State.STOPPED


def test_a_resume_is_not_repeated_on_a_console_line() -> None:
    """The first copy may have arrived: the second would be typed into the console."""
    connection = started(commands.Continue(), limits=CONSOLE_LINE)
    assert connection.next_deadline() is None
    connection.handle_timeout(60.0)
    assert connection.data_to_send() == b""


# --- any stream ---


def streams() -> st.SearchStrategy[bytes]:
    packet = rsp_strategies.packets()
    parts = st.one_of(
        packet,
        packet.map(lambda data: b"+" + data),
        packet.map(lambda data: b"%" + data[1:]),
        st.sampled_from([b"+", b"-", b"\x03", b"+$OK#9a", b"+$cafe#8f", b"$T05thread:01;#07"]),
        st.binary(max_size=12),
    )
    return st.lists(parts, max_size=8).map(b"".join)


LIMITS = st.sampled_from(
    [Limits(), PIPELINE, SERIAL, Limits(window=4, optimistic_ack=True), Limits(max_reply=32)]
)
REQUESTS = st.lists(
    rsp_strategies.commands().filter(lambda command: not command.resumes), max_size=4
)


def outcome(
    limits: Limits, requests: list[commands.Command], pieces: list[bytes]
) -> tuple[list[Any], bytes]:
    """Return all events, with the type of an error as the last, and all that was sent."""
    limits = replace(limits, write_all_registers=True, packet_size=4096)
    connection = Connection(replace(limits, reverse_step=True, reverse_continue=True))
    events: list[Any] = []
    for request in requests:
        try:
            connection.send(request, 0.0)
        except LocalProtocolError:
            continue  # too long, too large, or it cannot be written
    sent = connection.data_to_send()
    try:
        for piece in pieces:
            connection.receive_data(piece, 0.0)
            while (event := connection.next_event()) is not NEED_DATA:
                match event, events[-1:]:
                    case Console(data=more), [Console(data=text)]:
                        events[-1] = Console(text + more)
                    case _:
                        events.append(event)
            sent += connection.data_to_send()
    except RemoteProtocolError as error:
        events.append(str(error))
        assert connection.state is State.ERROR
        sent += connection.data_to_send()
    return events, sent


@given(LIMITS, REQUESTS, streams(), st.data())
def test_any_pieces_give_the_same_events(
    limits: Limits, requests: list[commands.Command], data: bytes, more: st.DataObject
) -> None:
    cuts = sorted(more.draw(st.lists(st.integers(0, len(data)), max_size=10)))
    pieces = [data[a:b] for a, b in pairwise([0, *cuts, len(data)]) if a < b]
    expected = outcome(limits, requests, [data] if data else [])
    assert outcome(limits, requests, pieces) == expected
    assert outcome(limits, requests, [bytes([byte]) for byte in data]) == expected


@given(rsp_strategies.commands(), st.data())
def test_any_mutation_of_an_answer_gives_events_or_a_protocol_error(
    command: commands.Command, more: st.DataObject
) -> None:
    connection = Connection(
        Limits(
            packet_size=1 << 17,
            write_all_registers=True,
            reverse_step=True,
            reverse_continue=True,
        )
    )
    try:
        connection.send(command, 0.0)
    except LocalProtocolError:
        return
    reply = more.draw(rsp_strategies.replies(command))
    data = bytearray(b"+" + frame(command.encode_reply(reply, replies.Dialect())))
    for _ in range(more.draw(st.integers(0, 3))):
        place = more.draw(st.integers(0, len(data) - 1))
        data[place : place + more.draw(st.integers(0, 2))] = more.draw(st.binary(max_size=2))
    try:
        receive(connection, bytes(data))
    except RemoteProtocolError:
        assert connection.state is State.ERROR


def test_a_packet_without_end_is_an_error_in_bounded_memory() -> None:
    connection = started(read(0), limits=Limits(max_reply=1 << 20))
    piece = b"0" * (1 << 16)
    tracemalloc.start()
    try:
        connection.receive_data(b"+$", 0.0)
        with pytest.raises(RemoteProtocolError, match="more than 1048576 bytes"):
            repeat(1024, lambda: receive(connection, piece))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20


def test_a_packet_that_expands_without_end_is_an_error() -> None:
    raw = b"m0" + b"*~" * 20_000
    connection = started(
        commands.XferRead(object="features", annex="", offset=0, length=1), limits=Limits()
    )
    with pytest.raises(RemoteProtocolError, match="expands"):
        receive(connection, b"+$%b#%02x" % (raw, codec.checksum(raw)))


def test_packets_are_in_the_log_by_their_beginning(caplog: pytest.LogCaptureFixture) -> None:
    connection = Connection(Limits())
    with caplog.at_level(logging.DEBUG, "rsp.wire"):
        connection.send(read(0x1000, 64), 0.0)
        connection.receive_data(b"+" + frame(b"00" * 64), 0.0)
        assert len(drain(connection)) == 1
        connection.send(commands.Continue(), 1.0)
        connection.interrupt(2.0)
    assert [record.getMessage() for record in caplog.records] == [
        "sent: $m1000,40#be",
        f"received: {'0' * 80}… (128 bytes)",
        "sent: $c#63",
        "sent: Ctrl-C",
    ]
