"""A Connection driven over a transport: requests that block until they are answered.

Here lives the only loop that reads and writes the stream, and the only clock. It knows nothing of
registers, memory or breakpoints.
"""

from __future__ import annotations

import logging
from collections import deque
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar, cast

from rsp.errors import ConnectionLost, RspTimeout, TransportError, UnsupportedCommand
from rsp.target.console import ConsoleText
from rsp.target.ctrl_c import held
from rsp.wire import commands, replies
from rsp.wire.connection import Connection
from rsp.wire.events import NEED_DATA, Closed, Console, Output, Reply, Unsolicited
from rsp.wire.limits import InterruptWay, Limits
from rsp.wire.states import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rsp.transports.base import Transport
    from rsp.wire.commands import AnsweredBy, Command
    from rsp.wire.events import Event
    from rsp.wire.replies import ErrorReply, Unsupported
    from rsp.wire.replies import Reply as ReplyValue

logger = logging.getLogger("rsp.target")

_READ_SIZE: Final = 1 << 16

# The most of an object of qXfer that is taken, and of the packets that it may come in: QEMU's
# largest description has some 20 kB, a list of threads 100 bytes for each.
_MOST_XFER: Final = 1 << 20
_MOST_PIECES: Final = 1 << 13
# Of a stub that reports stops without end, the last are kept.
_MOST_STOPS: Final = 256

_GIVEN_ON: Final = (Reply, Unsolicited)

R = TypeVar("R", bound="ReplyValue")


class Session:
    """Blocking requests over one connection; used from one thread at a time.

    Args:
        transport: the open stream, owned from now on.
        limits: what is known of the stub so far.
    """

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self.transport = transport
        self.connection = Connection(limits)
        self.console = ConsoleText()
        self.output = bytearray()
        """What the stub's monitor printed since it was last taken."""
        self.stops: deque[ReplyValue] = deque(maxlen=_MOST_STOPS)
        """What ended a resume, or came unasked, that nobody has taken yet, the oldest first."""
        self._lost: TransportError | RspTimeout | None = None  # what broke the stream

    @property
    def running(self) -> bool:
        """Whether the target was resumed and has not stopped yet."""
        return self.connection.state is State.RUNNING

    @property
    def usable(self) -> bool:
        """Whether requests can still be made."""
        return self._lost is None and self.connection.state in (State.STOPPED, State.RUNNING)

    def ask(
        self, command: AnsweredBy[R], *, timeout: float | None = None
    ) -> R | ErrorReply | Unsupported:
        """Send a request and return its reply, errors and the empty reply included.

        Raises:
            RspTimeout, RemoteProtocolError, ConnectionLost: there is no answer, and there will be
                none: the connection is of no more use.
            LocalProtocolError: the request may not be sent now, or not to this stub.
        """
        try:
            return self._ask(command, timeout)
        except KeyboardInterrupt:
            self._abandon()
            raise

    def _ask(self, command: AnsweredBy[R], timeout: float | None) -> R | ErrorReply | Unsupported:
        self._send(command, timeout)
        if self.connection.unanswered == 1:
            self._receive(None)  # what has come already is no answer
        while True:
            event = self._next_event(None)
            if isinstance(event, Reply) and event.command is command:
                try:
                    self._flush()
                except ConnectionLost:
                    # A target that ends when it is let go does not wait for its answer's ack.
                    logger.debug("the stub has gone with its answer")
                return cast("R | ErrorReply | Unsupported", event.value)

    def ask_all(self, requests: Iterable[AnsweredBy[R]]) -> Iterator[R | ErrorReply | Unsupported]:
        """Send requests, as many at once as the stub takes, and give their replies in order.

        The iterator is to be exhausted, or closed; a reply that was not taken is dropped.

        Raises:
            The same as ``ask``.
        """
        try:
            yield from self._ask_all(requests)
        except KeyboardInterrupt:
            self._abandon()
            raise

    def _ask_all(self, requests: Iterable[AnsweredBy[R]]) -> Iterator[R | ErrorReply | Unsupported]:
        connection = self.connection
        self._check_open()
        source = iter(requests)
        waiting: deque[Command] = deque()
        while True:
            # The window is filled again once half of it is answered, so that both sides have work
            # and many requests share one write.
            if len(waiting) <= connection.limits.window // 2:
                now = monotonic()
                for command in islice(source, connection.limits.window - len(waiting)):
                    connection.send(command, now)
                    waiting.append(command)
            if not waiting:
                self._flush()
                return
            event = connection.next_event()
            if event is NEED_DATA:
                self._receive(None)
            elif type(event) is Reply and event.command is waiting[0]:
                waiting.popleft()
                yield cast("R | ErrorReply | Unsupported", event.value)
            else:
                self._keep(event)

    def transfer(self, name: str, annex: str = "") -> bytes | None:
        """Read a whole object of ``qXfer`` (``features``, ``threads``); None where there is none.

        Raises:
            The same as ``ask``.
        """
        data = bytearray()
        for _ in range(_MOST_PIECES):
            length = max(1, self.connection.limits.largest_packet - 4)
            reply = self.ask(
                commands.XferRead(object=name, annex=annex, offset=len(data), length=length)
            )
            if not isinstance(reply, replies.XferData):
                return None
            data += reply.data
            if reply.last or not reply.data or len(data) > _MOST_XFER:
                break
        return bytes(data)

    def tell(self, command: Command) -> None:
        """Send what has no answer, or a resume, whose answer ``wait_for_stop`` brings.

        Raises:
            The same as ``ask``.
        """
        self._send(command, None)
        self._flush()
        # A resume is sent when nothing else is under way: of an ``ask_all`` that was closed early.
        while command.resumes and not self.running and self.connection.unanswered:
            self._next_event(self.connection.next_deadline())

    def wait_for_stop(self, timeout: float | None) -> ReplyValue | None:
        """Wait until the target stops.

        Args:
            timeout: seconds; None for ever.

        Returns:
            The stop reply; ErrorReply or Unsupported where the stub refused the resume; None when
            the time is over and the target still runs.

        Raises:
            RemoteProtocolError, ConnectionLost.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while not self.stops:
            if self._next_event(deadline) is None:
                return None
        self._flush()
        return self.stops.popleft()

    def interrupt(self) -> None:
        """Ask the running target to stop; ``wait_for_stop`` tells when it has.

        Raises:
            UnsupportedCommand: the line cannot carry the BREAK that this target needs, or nothing
                stops it.
        """
        way = self.connection.limits.interrupt
        if way is InterruptWay.NONE:
            raise UnsupportedCommand(
                "this stub does not listen while its target runs: a breakpoint stops it, or a "
                "signal from outside",
                command="interrupt",
            )
        if way is InterruptWay.BREAK_G:
            self.transport.send_break()
            self.transport.write(b"g", timeout=self.connection.limits.timeout)
        else:
            self.connection.interrupt(monotonic())
            self._flush()

    def drain(self) -> None:
        """Take in what has come, without waiting."""
        now = monotonic()
        while self.running and self._next_event(now) is not None:
            pass
        self._flush()

    def close(self) -> None:
        """Close the stream; nothing is sent."""
        self.transport.close()

    def _abandon(self) -> None:
        """Take in what is still to come for the requests that Ctrl-C has cut off, and forget it."""
        if not self.usable:
            return
        with held():
            self.connection.abandon(monotonic())
            most = monotonic() + self.connection.limits.timeout
            while monotonic() < most and (quiet := self.connection.next_deadline()) is not None:
                self._next_event(quiet)

    def _next_event(self, deadline: float | None) -> Event | None:
        """Return the next event that is not kept aside; None once the deadline has passed."""
        more = True
        while True:
            event = self.connection.next_event()
            if event is NEED_DATA:
                if not more:
                    return None
                # What has come by the deadline is looked at, and no more: a line may never rest.
                more = self._receive(deadline)
                continue
            self._keep(event)
            if isinstance(event, _GIVEN_ON):
                return event

    def _receive(self, deadline: float | None) -> bool:
        """Write what is due and wait for more to come; False once the deadline has passed."""
        connection = self.connection
        self._flush()
        now = monotonic()
        due = connection.next_deadline()
        if due is not None and now >= due:
            connection.handle_timeout(now)
            return True
        until = due if deadline is None else deadline if due is None else min(due, deadline)
        timeout = None if until is None else max(0.0, until - now)
        try:
            data = self.transport.read(_READ_SIZE, timeout)
            if data == b"+" and connection.limits.reliable:
                # QEMU sends it ahead of the reply, and alone it says nothing here.
                connection.receive_data(data, now)
                data = self.transport.read(_READ_SIZE, timeout)
        except RspTimeout:
            return deadline is None or monotonic() < deadline
        except TransportError as error:
            self._lost = error
            raise
        connection.receive_data(data, monotonic())
        return deadline is None or now < deadline

    def _keep(self, event: Event) -> None:
        match event:
            case Reply(command=command, value=value):
                if command.resumes:
                    self.stops.append(value)
            case Unsolicited(value=value):
                self.stops.append(value)
            case Output(data=data):
                if self.running:
                    self.console.feed(data)
                else:
                    self.output += data
            case Console(data=data):
                self.console.feed(data)
            case Closed():
                self._check_open()

    def _send(self, command: Command, timeout: float | None) -> None:
        self._check_open()
        self.connection.send(command, monotonic(), timeout=timeout)

    def _check_open(self) -> None:
        if self._lost is not None:
            raise self._lost
        if self.connection.state is State.CLOSED:
            unanswered = self.connection.unanswered
            raise ConnectionLost(
                f"{self.transport.address} was closed by the other side"
                + (f", {unanswered} request(s) unanswered" if unanswered else "")
                + "; connect again",
                address=self.transport.address,
            )

    def _flush(self) -> None:
        data = self.connection.data_to_send()
        if not data:
            return
        try:
            self.transport.write(data, timeout=self.connection.limits.timeout)
        except (TransportError, RspTimeout) as error:  # how much of it went out is not known
            self._lost = error
            raise
