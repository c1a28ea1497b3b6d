"""A Connection driven over a transport: requests that block until they are answered.

Here lives the only loop that reads and writes the stream, and the only clock. It knows nothing of
registers, memory or breakpoints.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import replace
from itertools import islice
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final, TypeVar, cast

from rsp.errors import (
    ConnectionLost,
    LocalProtocolError,
    RemoteProtocolError,
    RspError,
    RspTimeout,
    TransportError,
    UnsupportedCommand,
)
from rsp.target.console import ConsoleText
from rsp.target.ctrl_c import held
from rsp.wire import commands, replies
from rsp.wire.connection import Connection
from rsp.wire.events import NEED_DATA, Closed, Console, Output, Reply, Unsolicited
from rsp.wire.limits import InterruptWay, Limits
from rsp.wire.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rsp.transports.base import Transport
    from rsp.wire.commands import AnsweredBy, Command
    from rsp.wire.events import Event
    from rsp.wire.replies import ErrorReply, Unsupported
    from rsp.wire.replies import Reply as ReplyValue

logger: Final = logging.getLogger("rsp.target")

_READ_SIZE: Final = 1 << 16

# The most of an object of qXfer that is taken, and of the packets that it may come in: QEMU's
# largest description has some 20 kB, a list of threads 100 bytes for each.
_MOST_XFER: Final = 1 << 20
_MOST_PIECES: Final = 1 << 13
# A look at what a console says, every so often.
_GLANCE: Final = 0.02
# How long a line is kept open behind the ack that lets a kernel go on.
_LINGER: Final = 0.15
# How long a line that is shared with a console may be left alone while its target runs.
_DRAIN_EVERY: Final = 0.02
# Of a stub that reports stops without end, the last are kept.
_MOST_STOPS: Final = 256

_GIVEN_ON: Final = (Reply, Unsolicited)

R = TypeVar("R", bound="ReplyValue")


class Session:
    """Blocking requests over one connection; used from one thread at a time.

    Args:
        transport: the open stream, owned from now on.
        limits: what is known of the stub so far.

    Attributes:
        resumed: called when the target runs; ``line`` sets it.
        break_in: stops a target that no packet stops, as far as its line can; ``line`` sets it.
        prints: whether the target sends its console's text in packets (``kgdbcon``), and so waits
            for somebody to acknowledge them.
    """

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self.transport = transport
        self.connection: Connection = Connection(limits)
        self.console: ConsoleText = ConsoleText(self.type_in)
        self.resumed: Callable[[], None] | None = None
        self.break_in: Callable[[], None] | None = None
        self.prints: bool = False
        self.output: bytearray = bytearray()
        """What the stub's monitor printed since it was last taken."""
        self.stops: deque[ReplyValue] = deque(maxlen=_MOST_STOPS)
        """What ended a resume, or came unasked, that nobody has taken yet, the oldest first."""
        self._lost: TransportError | RspTimeout | None = None  # what broke the stream
        self._late: float | None = None  # a deadline that had passed before we looked
        # Held by whoever reads or writes the line while the target runs.
        self._lock = threading.RLock()
        self._drainer: _Drainer | None = None

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
        return self._assured(command, self._ask_once(command, timeout))

    def _assured(
        self, command: AnsweredBy[R], answer: R | ErrorReply | Unsupported
    ) -> R | ErrorReply | Unsupported:
        """Return an answer that has come twice, where the line is so bad that one may be wrong."""
        limits = self.connection.limits
        if not (limits.noisy and command.idempotent):
            return answer
        if limits.refusal(command) is not None:
            return answer  # too long since the line is bad: whoever asked sees that, too
        for _ in range(limits.retries):
            before, answer = answer, self._ask_once(command, None)
            if answer == before:
                return answer
        raise RemoteProtocolError(
            f"{type(command).__name__} was asked {limits.retries} times, and no two answers in a "
            "row are the same: the line is bad"
        )

    def _ask_once(
        self, command: AnsweredBy[R], timeout: float | None
    ) -> R | ErrorReply | Unsupported:
        self._send(command, timeout)
        if self.connection.unanswered == 1:
            self._receive(None)  # what has come already is no answer
        while True:
            event = self.next_event(None)
            if isinstance(event, Reply) and event.command is command:
                try:
                    self._flush()
                except ConnectionLost:
                    # A target that ends when it is let go does not wait for its answer's ack.
                    logger.debug("the stub has gone with its answer")
                return cast("R | ErrorReply | Unsupported", event.value)

    def ask_unless(
        self,
        command: AnsweredBy[R],
        patience: float,
        given_up: Callable[[], bool],
        is_echo: Callable[[R | ErrorReply | Unsupported], bool],
    ) -> R | ErrorReply | Unsupported | None:
        """Ask what perhaps nobody hears; None where that has become clear.

        Where text comes it is asked again and again, as on a line that loses bytes.

        Args:
            command: the request.
            patience: seconds that it has in any case.
            given_up: tells from what came on the console.
            is_echo: whether an answer is the request, sent back by a terminal.

        Raises:
            The same as ``ask``, where it is not given up.
        """
        limits = self.connection.limits
        started, again = monotonic(), False
        try:
            self._send(command, None)
            while True:
                event = self.next_event(monotonic() + _GLANCE)
                if isinstance(event, Reply) and event.command is command:
                    value = cast("R | ErrorReply | Unsupported", event.value)
                    if is_echo(value):
                        break
                    self._flush()
                    if again:  # and may be answered again
                        self.connection.limits = limits
                        self.connection.abandon(monotonic())
                    return value
                if self.console.recent and limits.reliable and not again:
                    # A shell that starts forgets what was typed before, whatever carries it here.
                    again = True
                    self._expect_a_console(replace(limits, reliable=False))
                    self._send(command, None)
                if event is None and monotonic() - started > patience and given_up():
                    break
        except (RspTimeout, RemoteProtocolError):
            if not given_up():
                raise
        self._expect_a_console(limits)
        return None

    def _expect_a_console(self, limits: Limits) -> None:
        """Begin anew on a line that a console shares; what was asked may be answered late."""
        self.connection = Connection(replace(limits, shared_line=True))
        self.connection.abandon(monotonic())

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
                value = cast("R | ErrorReply | Unsupported", event.value)
                if connection.limits.noisy:
                    value = self._assured(cast("AnsweredBy[R]", event.command), value)
                yield value
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
        with self._lock:
            if command.resumes:
                self.console.forget_recent()  # what was said before says nothing of what runs
            self._send(command, None)
            self._flush()
            # A resume is sent when nothing else is under way: of an ``ask_all`` closed early.
            while command.resumes and not self.running and self.connection.unanswered:
                self.next_event(self.connection.next_deadline())
            if command.resumes and self.resumed is not None:
                self.resumed()
        if command.resumes and self.connection.limits.shared_line:
            self._drainer = self._drainer or _Drainer(self)
            self._drainer.begin()

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
        with self._lock:
            while not self.stops:
                if self.next_event(deadline) is None:
                    return None
            self._flush()
            return self.stops.popleft()

    def interrupt(self) -> None:
        """Ask the running target to stop; ``wait_for_stop`` tells when it has.

        Raises:
            UnsupportedCommand: the line cannot carry the BREAK that this target needs, or nothing
                stops it.
            RspTimeout: nothing that could be tried has stopped it.
        """
        way = self.connection.limits.interrupt
        if way is InterruptWay.NONE:
            raise UnsupportedCommand(
                "this stub does not listen while its target runs: a breakpoint stops it, or a "
                "signal from outside",
                command="interrupt",
            )
        with self._lock:
            if way is InterruptWay.CTRL_C:
                self.connection.interrupt(monotonic())
                self._flush()
            elif self.break_in is not None:
                self.break_in()

    def type_in(self, data: bytes) -> None:
        """Send bytes to the console of the running target; see ``ConsoleText.write``."""
        with self._lock:
            self._check_open()
            if not self.running:
                raise LocalProtocolError(
                    "the target stands still, and nobody reads its console: resume(wait=False) "
                    "first"
                )
            self.transport.write(data, timeout=self.connection.limits.timeout)

    def drain(self) -> None:
        """Take in what has come, without waiting."""
        with self._lock:
            now = monotonic()
            while self.running and self.next_event(now) is not None:
                pass
            self._flush()

    def linger(self) -> None:
        """Give the last ack time to arrive: QEMU drops what a client that has gone sent last."""
        try:
            self.next_event(monotonic() + _LINGER)
        except (TransportError, RemoteProtocolError) as error:
            logger.debug("the line has gone: %s", error)

    def close(self) -> None:
        """Close the stream; nothing is sent."""
        if self._drainer is not None:
            self._drainer.end()
        with self._lock:
            self.transport.close()

    def _abandon(self) -> None:
        """Take in what is still to come for the requests that Ctrl-C has cut off, and forget it."""
        if not self.usable:
            return
        with held():
            self.connection.abandon(monotonic())
            most = monotonic() + self.connection.limits.timeout
            while monotonic() < most and (quiet := self.connection.next_deadline()) is not None:
                self.next_event(quiet)

    def next_event(self, deadline: float | None) -> Event | None:
        """Return the next answer or stop; what else there is is kept. None after the deadline."""
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
        late = due is not None and now >= due
        if late and due == self._late:
            connection.handle_timeout(now)
            return True
        # Where it is us who are late, and not the stub, what it has said is there: once it is taken
        # in, for a line may never rest.
        self._late = due if late else None
        until = due if deadline is None else deadline if due is None else min(due, deadline)
        timeout = None if until is None else max(0.0, until - now)
        try:
            data = self.transport.read(_READ_SIZE, timeout)
            if data == b"+" and connection.limits.reliable:
                # QEMU sends it ahead of the reply, and alone it says nothing here.
                connection.receive_data(data, now)
                data = self.transport.read(_READ_SIZE, timeout)
        except RspTimeout:
            return late or deadline is None or monotonic() < deadline
        except TransportError as error:
            self._lost = error
            raise
        connection.receive_data(data, monotonic())
        return late or deadline is None or now < deadline

    def _keep(self, event: Event) -> None:
        match event:
            case Reply(command=command, value=value):
                if command.resumes:
                    self.stops.append(value)
            case Unsolicited(value=value):
                # kgdb repeats its stop at every byte but +, a BREAK that came too late too.
                if self.connection.limits.interrupt is not InterruptWay.BREAK_G:
                    self.stops.append(value)
            case Output(data=data):
                if self.running:
                    self.prints = True
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


class _Drainer:
    """Takes in what a console prints while the target runs and nobody waits for it.

    Without, whoever carries the bytes would fill up, and the console with it: a Linux terminal then
    stands still (a unix socket takes some 250 bytes that come one by one).
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._due = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="rsp-console", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        self._due.set()

    def end(self) -> None:
        self._over = True
        self._due.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)

    def _work(self) -> None:
        session = self._session
        while not self._over:
            sleep(_DRAIN_EVERY)
            try:
                session.drain()
            except RspError as error:
                # Whoever uses the session next is told.
                logger.debug("draining has ended: %s", error)
                return
            except Exception:
                logger.exception("the console's callback failed")
            self._due.clear()
            if not session.running:
                self._due.wait()
