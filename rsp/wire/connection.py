r"""The protocol's state, without I/O: commands and bytes in, events and bytes out.

Contents: acknowledgement, retransmission, pipelining and deadlines. There is no socket, no clock
and no thread: the time is an argument, in seconds of any steady clock. What the commands and
replies mean is in ``commands`` and ``replies``; what the stub can take is asked of ``limits``.

With one request under way on a line with acks, an exchange is::

    client  $m1000,4#8e            +
    stub                + $…#xx

and with several (``limits.window``) the replies come in the order of the requests. A reply that
came to harm is asked for again with ``-`` in the first case only: ``-`` repeats a stub's last
reply, so in the second all that is under way is sent again, one by one, once the line is quiet.

On a line that a console shares (``limits.shared_line``) the console speaks while the target runs:
what only looks like a packet there is told in ``shared_line``. Once a request has been answered,
the target is known to stand still, and its console to be silent.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NoReturn, ParamSpec, TypeVar

from rsp import arguments
from rsp.errors import LocalProtocolError, ProtocolError, RemoteProtocolError, RspTimeout
from rsp.wire import codec
from rsp.wire.commands import Command, Detach, StartNoAckMode
from rsp.wire.events import NEED_DATA, Closed, Console, Notification, Output, Reply, Unsolicited
from rsp.wire.exchange import Exchange
from rsp.wire.framing import Deframer, FrameKind
from rsp.wire.limits import InterruptWay, Limits
from rsp.wire.replies import BinaryData, ErrorReply, Ok, Raw, Unsupported
from rsp.wire.shared_line import SharedLine, may_answer, needs_proof, needs_silence
from rsp.wire.states import TRANSITIONS, State, Trigger
from rsp.wire.stops import Output as OutputReply
from rsp.wire.stops import Stopped, looks_like_stop, parse_output, parse_stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.wire.events import Event, NeedData
    from rsp.wire.framing import Frame

P = ParamSpec("P")
T = TypeVar("T")

logger: Final = logging.getLogger("rsp.wire")

_MOST_SHOWN: Final = 80  # characters of a packet in the log; a recording has all of it

# How long nothing may come, at least, before a line that lost count of its replies is taken for
# quiet. A machine under load is silent for longer, and what comes then is taken for another's
# answer: so it is as long as the last answer let wait, or until all that is owed has come.
_QUIET: Final = 0.25

# So many answers without a fault, and a line that had some counts as good again.
_CLEAN: Final = 64

# What a stop reply begins with: most replies are told apart without reading further.
_STOP_LETTERS: Final = frozenset({b"S", b"T", b"W", b"X", b"N"})

# What takes a character back that was typed into a console: its terminal's VERASE.
_ERASE: Final = b"\x7f"

_UNSUPPORTED: Final = Unsupported()

# The most that one monitor command may print: what has no end is no answer.
_MOST_OUTPUT: Final = 1 << 26


class Connection:
    """One side of a remote protocol session, driven by the caller's own loop.

    >>> from rsp.wire import commands
    >>> connection = Connection()
    >>> connection.send(commands.ReadMemory(address=0x1000, length=2), now=0.0)
    >>> connection.data_to_send()
    b'$m1000,2#8c'
    >>> connection.receive_data(b"+$cafe#8f", now=0.1)
    >>> connection.next_event().value.data.hex()
    'cafe'

    Args:
        limits: what the stub can take; replace it by assigning ``limits`` once more is known.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = _checked(limits or Limits())
        self._line = SharedLine(shared=self._limits.shared_line)
        self._deframer = Deframer(self._limits.max_reply, shared=self._line.shared)
        self._state = State.STOPPED
        self._error: ProtocolError | RspTimeout | None = None
        self._queue: deque[Exchange] = deque()
        self._flight: deque[Exchange] = deque()
        self._out = bytearray()
        self._acks = True
        self._acks_ahead = 0  # replies whose `+` has been sent already
        self._window = self._limits.window
        self._now = 0.0
        self._since = 0.0  # when the oldest request last made progress
        self._retry_at = 0.0
        self._heard = 0.0  # when the line last said something, or was asked
        self._silence = 0.0  # the longest since the oldest request was sent
        self._pace = 0.0  # the longest before the last answer
        self._quiet_at: float | None = None  # while it is awaited: when the line counts as quiet
        self._owed = 0  # answers that are still to come, and nobody waits for
        self._recoveries = 0
        self._at_end = False
        self._next: Frame | None = None  # what is looked at again
        self._given_up = 0  # requests whose answers nobody waits for, and that may still come
        self._met = False  # whether a request has been answered yet
        self._dirty = 0  # so many answers until the line counts as good again

    # --- what the caller asks ---

    @property
    def state(self) -> State:
        """The condition of the connection."""
        return self._state

    @property
    def unanswered(self) -> int:
        """How many requests still wait for their answers, those not yet sent included."""
        return len(self._flight) + len(self._queue)

    @property
    def resume_acknowledged(self) -> bool:
        """Whether the stub has acknowledged the resume that is under way: it runs for certain."""
        return bool(self._flight) and self._flight[0].acked

    @property
    def limits(self) -> Limits:
        """What the stub can take."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = _checked(limits)
        self._window = limits.window
        self._deframer.max_packet = limits.max_reply
        self._share(limits.shared_line and (self._line.shared or self._state is State.RUNNING))

    # --- from the caller to the stub ---

    def send(self, command: Command, now: float, *, timeout: float | None = None) -> None:
        """Queue a request; it goes out as soon as the window has room.

        Args:
            command: the request.
            now: the time, in seconds.
            timeout: seconds without progress after which it has failed; the limits' by default.
                The stop reply of a resume has no deadline.

        Raises:
            LocalProtocolError: the target runs, the connection is closed, or the packet would
                harm the stub or is too long for it; nothing is sent.
            ArgumentError: it is no command, or a field of it cannot be written.
        """
        if not isinstance(command, Command):
            raise arguments.refused("command", command, "an object of rsp.commands")
        now = arguments.time(now)
        if self._state is not State.STOPPED:
            self._check()
            raise LocalProtocolError(
                f"{type(command).__name__} cannot be sent: the connection is {self._state.value}"
            )
        if self._queue and self._queue[-1].command.resumes:
            raise LocalProtocolError("nothing may follow a resume before its stop reply")
        packet = codec.frame(command.encode())
        refusal = self._limits.refusal(command)
        if refusal is not None:
            raise LocalProtocolError(f"not sent, for it would do harm: {refusal}")
        room = self._limits.room_for(command)
        if len(packet) - 4 > room:
            raise LocalProtocolError(
                f"{type(command).__name__} needs a packet of {len(packet) - 4} characters, and "
                f"this stub takes {room}: split it"
            )
        self._now = now
        wait = self._limits.timeout if timeout is None else arguments.seconds(timeout, "timeout")
        exchange = Exchange(command, packet, wait)
        if not self._flight and not self._queue:
            self._since = now
            if self._quiet_at is not None and now >= self._quiet_at:
                self._end_quiet()
            if self._quiet_at is None:
                if self._limits.any_byte_stops and self._out[-1:] != b"+":
                    self._out += b"+"
                self._transmit(exchange)
                return
        self._queue.append(exchange)
        self._fill_window()

    def acknowledge(self) -> None:
        """Acknowledge what the stub may have said before we came, as gdb does.

        A stub that has reported its stop and waits for the ``+`` reads no request before that. To
        any other stub that stands still it says nothing; a console takes it for typing.
        """
        self._out += b"+"

    def interrupt(self, now: float) -> None:
        """Ask the running target to stop; the stop reply of the resume answers.

        Raises:
            LocalProtocolError: the target does not run, or a byte does not stop this one.
        """
        now = arguments.time(now)
        self._check()
        if self._state is not State.RUNNING:
            raise LocalProtocolError(f"nothing to interrupt: the target is {self._state.value}")
        if self._limits.interrupt is not InterruptWay.CTRL_C:
            raise LocalProtocolError(
                f"this target is stopped by {self._limits.interrupt.value}, not by a packet"
            )
        self._now = now
        logger.debug("sent: Ctrl-C")
        self._out.append(0x03)

    def abandon(self, now: float) -> None:
        """Forget all requests and what answers them: whoever asked has gone (Ctrl-C).

        Wherever that has cut in, what is known of the line is of no use now; nothing is sent
        before what they are owed has come, and the line has been quiet. Until then go on as
        ``next_deadline`` says.
        """
        now = arguments.time(now)
        self._check()
        self._now = now
        if self._state is State.STOPPED:
            self._await_quiet(self._forget())

    def recover(self, now: float, timeout: float) -> None:
        """Go on after a timeout, a fault or Ctrl-C, for the last requests of a session.

        Requests that were not sent yet are forgotten. What was sent may still be answered; after a
        fault, which has lost the order of the answers, nobody waits for that, and nothing is sent
        before the line has been quiet. A closed connection stays so.

        Args:
            now: the time, in seconds.
            timeout: seconds that the answers still under way may take.
        """
        now = arguments.time(now)
        timeout = arguments.seconds(timeout, "timeout")
        if self._state is State.CLOSED:
            return
        self._queue.clear()
        self._now = self._since = now
        self._await_answer()
        for exchange in self._flight:
            exchange.timeout, exchange.tries = timeout, 0
        error, self._error = self._error, None
        if error is not None:
            runs = bool(self._flight) and self._flight[0].command.resumes
            self._state = State.RUNNING if runs else State.STOPPED
            if not isinstance(error, RspTimeout):
                self.give_up(now)

    def give_up(self, now: float) -> None:
        """Do as ``abandon``, and wait no longer for an answer than until the line is quiet.

        What comes late may be taken for the answer to another request. Where it makes no sense as
        one, it is dropped.
        """
        now = arguments.time(now)
        self._check()
        self._now = now
        if self._state is State.STOPPED:
            self._given_up += self._forget()
            self._await_quiet()

    def _forget(self) -> int:
        """Forget all requests, and return how many answers are owed."""
        owed = len(self._flight)
        self._queue.clear()
        self._flight.clear()
        self._out.clear()
        self._acks_ahead = 0
        self._next = None
        self._deframer.reset()
        return owed

    def data_to_send(self) -> bytes:
        """Return the bytes that are to be written now, and forget them."""
        if not self._out:
            return b""
        data = bytes(self._out)
        self._out.clear()
        return data

    # --- from the stub to the caller ---

    def receive_data(self, data: bytes, now: float) -> None:
        """Buffer what was received; ``b""`` means that the stream has ended."""
        data = arguments.data(data, "data")
        now = arguments.time(now)
        self._now = now
        if data:
            self._silence = max(self._silence, now - self._heard)
            self._heard = now
            # A slow line has a long reply under way for longer than it takes to repeat one.
            self._await_answer()
            self._deframer.receive_data(data)
            self._line.go_on(now, self._limits.retransmit_after)
        else:
            self._at_end = True
            self._line.decide(is_packet=False)

    def next_event(self) -> Event | NeedData:
        """Return the next event, NEED_DATA when none is whole.

        Raises:
            RemoteProtocolError: the stub broke the protocol. The connection is in ERROR from now
                on, and every call raises the same.
        """
        self._check()
        line, next_frame = self._line, self._deframer.next_frame
        event: Event | None
        if line.held is not None and (released := line.release()) is not None:
            (kind, data), is_packet = released
            event = self._as_packet(kind, data) if is_packet else self._as_text(kind, data)
            if event is not None:
                return event
        while (frame := self._next or next_frame()) is not None:
            kind, data = frame
            self._next = None
            if kind is FrameKind.PACKET and logger.isEnabledFor(logging.DEBUG):
                _log("received", data)
            if line.asked:
                event = self._on_proof(frame)
            elif self._quiet_at is not None:
                event = self._while_quieting(kind, data)
            elif line.shared and needs_silence(frame, self._flight[0] if self._flight else None):
                event = self._hold(frame)
            elif kind is FrameKind.PACKET:
                event = self._on_packet(data)
            elif kind is FrameKind.ACK:
                if self._flight and not (line.shared and self._flight[0].acked):
                    self._flight[0].acked = True
                    continue
                # On a console's line a lone + is text, unless one is awaited.
                event = line.said(b"+") if line.shared else None
            else:
                event = self._on_other(kind, data)
            if event is not None:
                return event
        if not self._at_end:
            return NEED_DATA
        self._move(Trigger.CLOSE)
        return Closed(self.unanswered)

    def next_deadline(self) -> float | None:
        """Return when ``handle_timeout`` must be called, None when nothing is awaited."""
        if self._state in (State.CLOSED, State.ERROR):
            return None
        if self._line.waits:
            return self._line.silent_at
        head = self._head()
        if head is None:
            return self._quiet_at
        fails = None if head.command.resumes else self._since + head.timeout
        if self._quiet_at is not None:
            retry = self._quiet_at
        elif self._may_retry(head):
            retry = self._retry_at
        else:
            return fails
        return retry if fails is None else min(retry, fails)

    def handle_timeout(self, now: float) -> None:
        """Do what is due at ``now``: send again, or give up.

        Receive first what has come already: a caller that is late itself takes an answer that waits
        for it for silence.

        Raises:
            RspTimeout: the oldest request has had no answer in its time. The connection is in
                ERROR from now on, for a late answer would be taken for another's.
        """
        now = arguments.time(now)
        self._check()
        self._now = now
        if self._line.waits:
            self._on_silence(now)
            return
        if self._quiet_at is not None and now >= self._quiet_at:
            self._end_quiet()
        head = self._head()
        if head is None:
            return
        if not head.command.resumes and now >= self._since + head.timeout:
            self._fail(
                RspTimeout(
                    f"no answer to {type(head.command).__name__} in {head.timeout:g} s",
                    timeout=head.timeout,
                )
            )
        if self._quiet_at is None and self._may_retry(head) and now >= self._retry_at:
            if head.command.resumes and now >= self._since + head.timeout:
                self._fail(
                    RemoteProtocolError(
                        f"{type(head.command).__name__} was not acknowledged in "
                        f"{head.timeout:g} s: the line is bad, or this is no gdb stub"
                    )
                )
            # For a lost reply `-` is enough, where the stub knows it. Else the request is repeated,
            # but not one that was received and must not be carried out twice. Whether it was lost
            # or is late nobody knows: only the time bounds how often.
            lost_reply = head.acked and (head.repeats % 2 == 0 or not head.command.idempotent)
            head.repeats += 1
            head.doubled = True
            if lost_reply:
                self._send_again(b"-")
            else:
                head.acked = False
                self._send_again(head.packet)

    # --- sending ---

    def _fill_window(self) -> None:
        queue, flight = self._queue, self._flight
        while queue and len(flight) < self._window and self._quiet_at is None:
            if flight and (queue[0].command.resumes or not self._may_follow(flight[-1])):
                return
            self._transmit(queue.popleft())

    def _transmit(self, exchange: Exchange) -> None:
        command = exchange.command
        if command.answered:
            if not self._flight:
                self._since = self._heard = self._now
                self._silence = 0.0
            self._flight.append(exchange)  # first: Ctrl-C may come in between
        self._out += exchange.packet
        if logger.isEnabledFor(logging.DEBUG):
            _log("sent", exchange.packet)
        if not command.answered:
            return
        self._await_answer()
        if command.resumes:
            self._share(self._limits.shared_line)
            self._move(Trigger.RESUME)
        elif self._acks and self._limits.optimistic_ack and command.idempotent:
            self._out += b"+"
            self._acks_ahead += 1

    def _may_follow(self, last: Exchange) -> bool:
        # Where acks go ahead of the replies, each must be for the reply that is next.
        return last.command.idempotent or not (self._acks and self._limits.optimistic_ack)

    def _may_retry(self, head: Exchange) -> bool:
        if not self._acks:
            return False
        if self._limits.reliable:
            # What loses nothing may lead to what does (a serial port), and a stub that waits for
            # the `+` of its stop takes the first request for a bad one (i386-stub.c).
            return not self._met and not head.acked and head.command.idempotent
        # A resume that was acknowledged has arrived; on a console's line even an unacknowledged
        # one may have, and a second copy would be typed into the console.
        return not head.command.resumes or not (head.acked or self._line.shared)

    def _try_again(self, exchange: Exchange, data: bytes) -> None:
        exchange.tries += 1
        if exchange.tries > self._limits.retries:
            self._fail(
                RemoteProtocolError(
                    f"{type(exchange.command).__name__} was sent {exchange.tries} times, and no "
                    "answer came whole: the line is bad, or this is no gdb stub"
                )
            )
        self._send_again(data)

    def _send_again(self, data: bytes) -> None:
        _log("sent again", data)
        if not self._line.shared:
            self._note_fault()
        self._out += data
        self._await_answer()

    def _await_answer(self) -> None:
        """Set the time to ask again: later where answers have been slow, and each time later."""
        patience, slow = self._limits.retransmit_after, 2 * self._pace
        if slow > patience:
            patience = slow
        if self._flight and (repeats := self._flight[0].repeats):
            patience *= 2**repeats
        self._retry_at = self._now + patience

    def _note_fault(self) -> None:
        if not self._limits.reliable:
            self._dirty = _CLEAN
            self._limits = replace(self._limits, noisy=True)

    # --- receiving ---

    def _on_other(self, kind: FrameKind, data: bytes) -> Event | None:
        match kind:
            case FrameKind.NAK:
                return self._on_nak()
            case FrameKind.NOTIFICATION:
                name, _, rest = self._decode(data).partition(b":")
                return Notification(name.decode("latin-1"), rest)
            case FrameKind.CORRUPT:
                return self._on_corrupt(data)
            case FrameKind.OVERLONG if not self._line.shared:
                self._fail(
                    RemoteProtocolError(
                        f"a packet of more than {self._limits.max_reply} bytes: this is no gdb "
                        "stub, or a broken one",
                        data=data,
                    )
                )
            case FrameKind.TEXT if data[:1] == b"+" and self._flight:
                # Of a console, whose text came right behind the ack of a resume.
                if not self._flight[0].acked:
                    self._flight[0].acked = True
                    data = data[1:]
        return self._line.said(data)

    # --- beside a console ---

    def _share(self, shared: bool) -> None:
        self._line.share(shared)
        self._deframer.shared = shared

    def _hold(self, frame: Frame) -> Event | None:
        if self._deframer.buffered or self._at_end:
            return self._as_text(*frame)
        self._line.hold(frame, self._now)
        return None

    def _on_silence(self, now: float) -> None:
        """Take what is held for a packet, or have it proved; `next_event` gives it out."""
        line = self._line
        if line.held is None or now < line.silent_at:
            return
        if needs_proof(line.held):
            self._out += b"-"
            line.ask(now, self._limits.retransmit_after)
        else:
            line.decide(is_packet=True)

    def _on_proof(self, frame: Frame) -> Event | None:
        """Take what has come behind the `-`: the same, or text, and then what is held was text."""
        line = self._line
        if frame.kind is FrameKind.CORRUPT:
            return None  # it is asked for again
        is_packet = frame == line.held
        if not is_packet:
            self._next = frame
            self._out += _ERASE * line.asked
        line.decide(is_packet)
        released = line.release()
        assert released is not None
        kind, data = released[0]
        return self._as_packet(kind, data) if is_packet else self._as_text(kind, data)

    def _as_packet(self, kind: FrameKind, data: bytes) -> Event | None:
        if kind is FrameKind.PACKET:
            return self._on_packet(data, sure=True)
        return self._on_other(kind, data)

    def _as_text(self, kind: FrameKind, data: bytes) -> Event:
        """Give out as text what has looked like a packet."""
        return self._line.said(data) if kind is FrameKind.CORRUPT else self._shown(data)

    def _on_packet(self, raw: bytes, *, sure: bool = False) -> Event | None:
        payload = raw
        if b"*" in raw or self._limits.escape in raw:
            try:
                payload = codec.decode(raw, self._limits.max_reply, self._limits.escape)
            except RemoteProtocolError as error:
                return self._on_nonsense(raw, error)
        head = self._flight[0] if self._flight else None
        is_stop = payload[:1] in _STOP_LETTERS and looks_like_stop(payload)
        if head is None or (is_stop and not self._may_get_stop(head)):
            return self._on_unasked(raw, payload, is_stop=is_stop)
        if not is_stop and self._acks:
            if self._line.shared and not sure and not may_answer(payload, head, self._limits):
                return self._shown(raw)
            if not head.acked:
                # As gdb has it, no packet that comes instead of an ack is an answer: it is one to
                # an earlier request, repeated because our `+` was lost.
                self._acknowledge()
                return self._shown(raw) if self._limits.reliable else None
        if payload[:1] == b"O" and payload != b"OK" and OutputReply in head.command.replies:
            return self._on_output(head, payload)
        return self._on_reply(head, payload)

    def _on_output(self, head: Exchange, payload: bytes) -> Event:
        self._acknowledge()
        self._since = self._now
        if not head.command.resumes:
            head.output += len(payload)
            if head.output > _MOST_OUTPUT:
                self._fail(
                    RemoteProtocolError(
                        f"{type(head.command).__name__} has printed more than {_MOST_OUTPUT} "
                        "characters, and goes on"
                    )
                )
        return Output(self._trusted(parse_output, payload))

    def _on_reply(self, head: Exchange, payload: bytes) -> Event | None:
        command = head.command
        try:
            value = command.parse_reply(payload, self._limits.dialect)
        except RemoteProtocolError as error:
            if not self._is_meant(head, payload):
                return self._on_nonsense(payload, error)
            logger.info("done without an answer to %s: %s", type(command).__name__, error)
            value = _UNSUPPORTED
        self._acknowledge()
        self._flight.popleft()
        self._since = self._now
        self._recoveries = 0
        self._pace, self._silence = self._silence, 0.0
        self._met = True
        if head.doubled and self._acks:
            # What was asked for twice may be answered twice, and nothing tells such an answer from
            # that to the next request.
            self._await_quiet()
        if self._dirty:
            self._dirty -= 1
            if not self._dirty:
                self._limits = replace(self._limits, noisy=False)
        if self._line.shared and not command.resumes:
            self._share(False)
        if command.resumes:
            refused = isinstance(value, ErrorReply | Unsupported)
            self._move(Trigger.REFUSAL if refused else Trigger.STOP)
        elif isinstance(value, Ok) and isinstance(command, StartNoAckMode):
            self._acks = False
        if self._flight:
            self._await_answer()
        if self._queue:
            self._fill_window()
        return Reply(command, value)

    def _is_meant(self, head: Exchange, payload: bytes) -> bool:
        """Whether an odd answer is all that a stub has to say, and one can do without it."""
        if not head.command.informational or self._given_up:
            return False
        again, head.odd = head.odd == payload, payload
        if again:
            self._dirty = min(self._dirty, 1)  # it was no fault of the line
        return again or self._limits.reliable or not self._acks

    def _on_nonsense(self, data: bytes, error: RemoteProtocolError) -> Event | None:
        """Take a packet whose checksum is right and whose content makes no sense.

        On a line that alters bytes, two faults may hide each other from the sum: ask again. On any
        other the order of requests and replies is lost.
        """
        if self._given_up:
            self._given_up -= 1
            self._acknowledge()
            _log("dropped a late answer", data)
            return None
        if self._limits.reliable or not self._acks or not self._flight:
            self._fail(error)
        return self._on_corrupt(b"$" + data)

    def _on_unasked(self, raw: bytes, payload: bytes, *, is_stop: bool) -> Event | None:
        if is_stop:
            leaves = bool(self._flight) and isinstance(self._flight[0].command, Detach)
            # Behind its answer to D this ack would stop again what anybody's byte stops.
            if not (leaves and self._limits.any_byte_stops):
                self._acknowledge()
            if self._state is State.STOPPED:
                self._move(Trigger.STOP)
            return Unsolicited(self._trusted(parse_stop, payload, self._limits.dialect))
        if self._line.shared:
            # kgdb's banner holds a `$3#33`, and a shell may print whatever it likes.
            return self._shown(raw)
        self._acknowledge()
        if payload[:1] == b"O" and payload != b"OK":
            return Output(self._trusted(parse_output, payload))
        _log("dropped a packet that answers nothing", raw)
        return None

    def _on_nak(self) -> Event | None:
        if self._line.shared and self._line.spoken:
            return self._line.said(b"-")  # an echo of ours perhaps: the clock repeats what is lost
        if self._acks and len(self._flight) > 1:
            self._recover()
        elif self._acks and self._flight and not self._flight[0].acked:
            self._try_again(self._flight[0], self._flight[0].packet)
        elif self._line.shared:
            return self._line.said(b"-")
        return None

    def _on_corrupt(self, data: bytes) -> Event | None:
        head = self._flight[0] if self._flight else None
        if head is None or data[:1] == b"%":
            return self._line.said(data)  # a notification is not repeated
        if self._acks and not head.acked and (head.command.resumes or self._limits.reliable):
            # It was on its way before the request was received: what `-` would bring is something
            # else, and to a running target it is no byte to send.
            return self._line.said(data)
        if self._line.shared and head.command.resumes and data[1:2] not in (b"T", b"S", b"O"):
            return self._line.said(data)
        _log("a corrupt packet", data)
        if not self._acks or self._acks_ahead or len(self._flight) > 1:
            self._recover()
        else:
            self._try_again(head, b"-")
        return None

    def _recover(self) -> None:
        """Lose count of the replies under way: wait until the line is quiet, then ask again."""
        self._recoveries += 1
        self._note_fault()
        lost = [exchange.command for exchange in self._flight if not exchange.command.idempotent]
        if lost or self._recoveries > self._limits.retries:
            self._fail(
                RemoteProtocolError(
                    "a reply came with a wrong checksum and cannot be asked for again"
                    if lost
                    else "replies keep coming with wrong checksums: the line is bad, or this is "
                    "no gdb stub"
                )
            )
        for exchange in self._flight:
            exchange.acked = False
        # But what has come to harm; more may be lost on a line that loses bytes.
        owed = len(self._flight) - 1 if self._limits.reliable else 0
        self._queue.extendleft(reversed(self._flight))
        self._flight.clear()
        self._acks_ahead = max(0, self._acks_ahead - 1)
        self._window = 1
        self._limits = replace(self._limits, window=1, optimistic_ack=False)
        self._await_quiet(owed)

    def _await_quiet(self, owed: int = 0) -> None:
        """Send nothing until the line is quiet, and has given what it owes."""
        limits = self._limits
        self._owed = owed
        shortest = max(min(_QUIET, limits.retransmit_after), self._pace)
        self._quiet_at = self._now + (max(shortest, limits.timeout) if self._owed else shortest)

    def _while_quieting(self, kind: FrameKind, data: bytes) -> Event | None:
        if self._line.shared and kind is FrameKind.TEXT:
            return self._line.said(data)
        owed = self._owed
        if kind is FrameKind.ACK and owed:
            return None  # its answer is still to come
        if kind is FrameKind.PACKET:
            self._given_up = max(0, self._given_up - 1)
            self._acknowledge()
        # An answer may have many packets of output; its beginning may have come before.
        is_rest = kind is not FrameKind.PACKET and not self._limits.reliable
        is_whole = kind is FrameKind.PACKET and (data == b"OK" or not data.startswith(b"O"))
        if owed and (is_rest or is_whole):
            owed -= 1
            self._since = self._now
        self._await_quiet(owed)
        return None

    def _end_quiet(self) -> None:
        self._quiet_at = None
        self._acks_ahead = 0
        if not self._line.shared:
            self._deframer.reset()
        self._fill_window()

    # --- small parts ---

    def _head(self) -> Exchange | None:
        if self._flight:
            return self._flight[0]
        return self._queue[0] if self._queue else None

    def _may_get_stop(self, exchange: Exchange) -> bool:
        if self._acks and not exchange.acked:
            # It was on its way already, unless the ack was lost, or lost in a console's text.
            return exchange.command.resumes and (self._line.shared or not self._limits.reliable)
        answers = exchange.command.replies
        return Stopped in answers or BinaryData in answers or Raw in answers

    def _acknowledge(self) -> None:
        if self._acks_ahead:
            self._acks_ahead -= 1
        elif self._acks:
            self._out += b"+"

    def _shown(self, raw: bytes) -> Console:
        return self._line.said(b"$%b#%02x" % (raw, codec.checksum(raw)))

    def _decode(self, raw: bytes) -> bytes:
        limits = self._limits
        return self._trusted(codec.decode, raw, limits.max_reply, limits.escape)

    def _trusted(self, parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Parse what a checksum has vouched for: when it makes no sense, the order is lost."""
        try:
            return parse(*args, **kwargs)
        except RemoteProtocolError as error:
            self._fail(error)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _move(self, trigger: Trigger) -> None:
        self._state = TRANSITIONS[self._state].get(trigger, self._state)

    def _fail(self, error: ProtocolError | RspTimeout) -> NoReturn:
        self._move(Trigger.FAULT)
        self._error = error
        raise error


def _log(what: str, packet: bytes) -> None:
    """Log the beginning of a packet, with what is not printable as escapes."""
    text = packet[:_MOST_SHOWN].decode("latin-1").encode("unicode_escape").decode("ascii")
    more = f"… ({len(packet)} bytes)" if len(packet) > _MOST_SHOWN else ""
    logger.debug("%s: %s%s", what, text, more)


def _checked(limits: object) -> Limits:
    if not isinstance(limits, Limits):
        raise arguments.refused("limits", limits, "an object of rsp.Limits")
    return limits
