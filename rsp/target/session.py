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

from rsp.errors import ConnectionLost, RspTimeout
from rsp.target.console import ConsoleText
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
        """What the target printed through ``O`` packets since it was last taken."""
        self.stops: deque[ReplyValue] = deque()
        """What ended a resume, or came unasked, that nobody has taken yet, the oldest first."""

    @property
    def running(self) -> bool:
        """Whether the target was resumed and has not stopped yet."""
        return self.connection.state is State.RUNNING

    @property
    def usable(self) -> bool:
        """Whether requests can still be made."""
        return self.connection.state in (State.STOPPED, State.RUNNING)

    def ask(
        self, command: AnsweredBy[R], *, timeout: float | None = None
    ) -> R | ErrorReply | Unsupported:
        """Send a request and return its reply, errors and the empty reply included.

        Raises:
            RspTimeout, RemoteProtocolError, ConnectionLost: there is no answer, and there will be
                none: the connection is of no more use.
            LocalProtocolError: the request may not be sent now, or not to this stub.
        """
        self.connection.send(command, monotonic(), timeout=timeout)
        while True:
            event = self._next_event(None)
            if isinstance(event, Reply) and event.command is command:
                self._flush()
                return cast("R | ErrorReply | Unsupported", event.value)

    def ask_all(self, commands: Iterable[AnsweredBy[R]]) -> Iterator[R | ErrorReply | Unsupported]:
        """Send requests, as many at once as the stub takes, and give their replies in order.

        The iterator is to be exhausted, or closed; a reply that was not taken is dropped.

        Raises:
            The same as ``ask``.
        """
        connection = self.connection
        source = iter(commands)
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

    def tell(self, command: Command) -> None:
        """Send what has no answer, or a resume, whose answer ``wait_for_stop`` brings.

        Raises:
            The same as ``ask``.
        """
        self.connection.send(command, monotonic())
        self._flush()

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
            UnsupportedCommand: the line cannot carry the BREAK that this target needs.
        """
        if self.connection.limits.interrupt is InterruptWay.BREAK_G:
            self.transport.send_break()
            self.transport.write(b"g", timeout=self.connection.limits.timeout)
        else:
            self.connection.interrupt(monotonic())
            self._flush()

    def drain(self) -> None:
        """Take in what has come, without waiting."""
        while self.usable and self._next_event(monotonic()) is not None:
            pass
        self._flush()

    def close(self) -> None:
        """Close the stream; nothing is sent."""
        self.transport.close()

    def _next_event(self, deadline: float | None) -> Event | None:
        """Return the next event that is not kept aside; None once the deadline has passed."""
        while True:
            event = self.connection.next_event()
            if event is NEED_DATA:
                if not self._receive(deadline):
                    return None
                continue
            self._keep(event)
            if isinstance(event, Reply | Unsolicited):
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
        try:
            data = self.transport.read(_READ_SIZE, None if until is None else max(0.0, until - now))
        except RspTimeout:
            return deadline is None or monotonic() < deadline
        connection.receive_data(data, monotonic())
        return True

    def _keep(self, event: Event) -> None:
        match event:
            case Reply(command=command, value=value):
                if command.resumes:
                    self.stops.append(value)
            case Unsolicited(value=value):
                self.stops.append(value)
            case Output(data=data):
                self.output += data
            case Console(data=data):
                self.console.feed(data)
            case Closed(unanswered=unanswered):
                raise ConnectionLost(
                    f"{self.transport.address} was closed by the other side"
                    + (f", {unanswered} request(s) unanswered" if unanswered else "")
                    + "; connect again",
                    address=self.transport.address,
                )

    def _flush(self) -> None:
        data = self.connection.data_to_send()
        if data:
            self.transport.write(data, timeout=self.connection.limits.timeout)
