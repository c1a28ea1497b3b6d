"""A Connection driven over a transport: requests that block until they are answered.

Contents: the only loop that reads and writes the stream, and the only clock. It knows nothing of
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

from rsp.ctrl_c import held, is_held
from rsp.errors import (
    ConnectionLost,
    LocalProtocolError,
    RemoteProtocolError,
    RspError,
    RspTimeout,
    StubError,
    TransportError,
    UnsupportedCommand,
)
from rsp.session.console import ConsoleText
from rsp.wire import commands, replies
from rsp.wire.connection import Connection
from rsp.wire.events import NEED_DATA, Closed, Console, Output, Reply, Unsolicited
from rsp.wire.limits import InterruptWay, Limits
from rsp.wire.signals import Signal
from rsp.wire.states import State
from rsp.wire.stops import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rsp.transports.base import Transport
    from rsp.wire.commands import AnsweredBy, Command
    from rsp.wire.events import Event
    from rsp.wire.replies import ErrorReply, Unsupported
    from rsp.wire.replies import Reply as ReplyValue

logger: Final = logging.getLogger("rsp.session")

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
# How long the last requests of a session may take each, and a stub to be heard from at all: as long
# as by default every request may.
_PATIENCE: Final = 5.0
# How long late answers are waited for once a stub has been heard from that takes the next request
# even so; see `Session._late_answers_within`.
_LATE: Final = 0.25
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
        heard: whether anything has come from the other side.
        answered: whether that was an answer to a request.
        found_running: whether the target ran when we came; None where nothing has told that.
    """

    def __init__(self, transport: Transport, limits: Limits) -> None:
        self.transport = transport
        self.connection: Connection = Connection(limits)
        self.console: ConsoleText = ConsoleText(self.type_in)
        self.resumed: Callable[[], None] | None = None
        self.break_in: Callable[[], None] | None = None
        self.prints: bool = False
        self.heard: bool = False
        self.answered: bool = False
        self.found_running: bool | None = None
        self.output: bytearray = bytearray()
        """What the stub's monitor printed since it was last taken."""
        self.stops: deque[ReplyValue] = deque(maxlen=_MOST_STOPS)
        """What ended a resume, or came unasked, that nobody has taken yet, the oldest first."""
        self._lost: TransportError | RspTimeout | None = None  # what broke the stream
        self._late: float | None = None  # a deadline that had passed before we looked
        self._closed = False
        self._opened = monotonic()
        self._cut_off = False  # Ctrl-C has left answers on their way,
        self._torn = False  # and perhaps half of one here
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
        return self.open and self.connection.state in (State.STOPPED, State.RUNNING)

    @property
    def open(self) -> bool:
        """Whether the other side may still hear us."""
        return not self._closed and self._lost is None and self.connection.state is not State.CLOSED

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
            self._cut(torn=not is_held())
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
            self._cut(torn=not is_held())
            raise

    def _ask_all(self, requests: Iterable[AnsweredBy[R]]) -> Iterator[R | ErrorReply | Unsupported]:
        connection = self.connection
        self._begin()
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

    def monitor(self, command: str) -> str:
        """Run a command of the stub's monitor (``qRcmd``) and return what it printed.

        Raises:
            UnsupportedCommand: the stub has none.
            StubError: it refused the command.
        """
        self.output.clear()
        reply = self.ask(commands.Monitor(command=command))
        text = bytes(self.output)
        self.output.clear()
        match reply:
            case replies.Unsupported():
                raise UnsupportedCommand("this stub has no monitor (qRcmd)", command="qRcmd")
            case replies.ErrorReply():
                said = text.decode("utf-8", "replace").strip() or reply.text
                raise StubError(
                    f"the stub's monitor refused {command!r}" + (f": {said}" if said else ""),
                    code=reply.code,
                )
            case replies.MonitorText(data=data):
                text += data
        return text.decode("utf-8", "replace")

    def tell(self, command: Command) -> None:
        """Send what has no answer, or a resume, whose answer ``wait_for_stop`` brings.

        Raises:
            The same as ``ask``.
        """
        with self._lock, held(but_in_waits=True):
            if command.resumes:
                self.console.forget_recent()  # what was said before says nothing of what runs
            self._send(command, None)
            self._flush()
            # A resume is sent when nothing else is under way: of an ``ask_all`` closed early.
            while command.resumes and not self.running and self.connection.unanswered:
                try:
                    self.next_event(self.connection.next_deadline())
                except KeyboardInterrupt:
                    self._cut(torn=False)
                    raise
            if command.resumes and self.resumed is not None:
                self.resumed()
        if command.resumes and self.connection.limits.shared_line:
            self._drainer = self._drainer or _Drainer(self)
            self._drainer.begin()

    def wait_for_stop(self, timeout: float | None) -> bool:
        """Wait until the target stops.

        Args:
            timeout: seconds; None for ever.

        Returns:
            Whether it has: then the stop reply is in ``stops``, or ErrorReply or Unsupported where
            the stub refused the resume.

        Raises:
            RemoteProtocolError, ConnectionLost.
        """
        deadline = None if timeout is None else monotonic() + timeout
        with self._lock, held(but_in_waits=True):
            while not self.stops:
                if self.next_event(deadline) is None:
                    return False
            self._flush()
            return True

    def let_go(self, process: int | None) -> None:
        """Detach: the target runs on, and nothing is asked any more.

        Args:
            process: which one, of a stub that knows several.

        Raises:
            StubError: the stub refuses; and the same as ``ask``.
        """
        reply = self.ask(commands.Detach(process=process))
        if isinstance(reply, replies.Unsupported):
            # A stub without D: what is left is to let it run and hang up.
            self.tell(commands.Continue())
        elif isinstance(reply, replies.ErrorReply):
            raise StubError(
                "the stub refuses to detach: the target is left standing, without our breakpoints",
                code=reply.code,
            )
        elif not self.connection.limits.reliable:
            self._linger()  # without the ack that is on its way, a kernel waits for ever

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
                "signal from outside (SIGTRAP)",
                command="interrupt",
            )
        with self._lock, held(but_in_waits=True):
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
        with self._lock, held(but_in_waits=True):
            now = monotonic()
            while self.running and self.next_event(now) is not None:
                pass
            self._flush()

    def _linger(self) -> None:
        """Give the last ack time to arrive: QEMU drops what a client that has gone sent last."""
        try:
            self.next_event(monotonic() + _LINGER)
        except (TransportError, RemoteProtocolError) as error:
            logger.debug("the line has gone: %s", error)

    def close(self) -> None:
        """Close the stream; nothing is sent."""
        self._closed = True
        if self._drainer is not None:
            self._drainer.end()
        with self._lock:
            self.transport.close()

    def _cut(self, *, torn: bool) -> None:
        self._cut_off = True
        self._torn = self._torn or torn

    def recover(self) -> bool:
        """Make the last requests possible, whatever has cut off or spoilt those before them.

        Returns:
            Whether there is a way to make them.
        """
        limits = self.connection.limits
        self.connection.limits = replace(limits, timeout=max(limits.timeout, _PATIENCE))
        for _ in range(2):  # a late answer may make no sense either
            if self.open and (not self.usable or (self.connection.unanswered and not self.running)):
                try:
                    self._settle(last=True)
                except RspError as error:
                    logger.debug("what was under way has no answer: %s", error)
        return self.usable

    def _settle(self, *, last: bool = False) -> None:
        """Take in what is still to come for requests that were cut off, and forget it.

        Args:
            last: whether nothing will be asked afterwards whose answer must be the right one.
        """
        with held():
            self._cut_off = False
            connection = self.connection
            # They are given up below, before that time is over.
            connection.recover(monotonic(), 2 * max(connection.limits.timeout, _PATIENCE))
            forget = connection.give_up if last else connection.abandon
            if self._torn:
                self._torn = False
                reliable = connection.limits.reliable
                (forget if reliable else connection.abandon)(monotonic())
            seen, until = None, 0.0
            while not self.running and (left := connection.unanswered):
                if seen != (self.heard, left):
                    seen = (self.heard, left)
                    patience = self._late_answers_within
                    until = monotonic() + patience if self.heard else self._opened + _PATIENCE
                if self.next_event(until) is None or monotonic() > until:
                    forget(monotonic())

    @property
    def _late_answers_within(self) -> float:
        """Seconds until an answer counts as lost.

        A kernel reads a request that comes before its answer was acknowledged as a bad ack, and
        drops it: then the late answer, an OK perhaps, is taken for that to D, and it stands still.
        """
        limits = self.connection.limits
        is_console = not self.answered and self.console.recent.strip()
        return _LATE if limits.reliable or is_console else max(limits.timeout, _PATIENCE)

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
            self.heard = self.heard or bool(data)
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
                self.answered = True
                if command.resumes:
                    self.stops.append(value)
            case Unsolicited(value=value):
                if isinstance(value, Stopped) and value.signal == Signal.SIGINT:
                    # Our coming has stopped it (QEMU up to 8.0); what waits says SIGTRAP (kgdb).
                    self.found_running = self.found_running is None or self.found_running
                # kgdb repeats its stop at every byte but +, a BREAK that came too late too.
                if self.connection.limits.interrupt is not InterruptWay.BREAK_G:
                    self.stops.append(value)
            case Output(data=data):
                if self.connection.state is State.RUNNING:
                    self.prints = True
                    self.console.feed(data)
                else:
                    self.output += data
            case Console(data=data):
                self.console.feed(data)
            case Closed():
                self._check_open()

    def _begin(self) -> None:
        if self._cut_off:
            self._settle()
        self._check_open()

    def _send(self, command: Command, timeout: float | None) -> None:
        self._begin()
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
