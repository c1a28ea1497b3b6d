"""What a stub shows of a machine or a process at a stop.

Contents: `LiveInferior`, which asks a session. Not here: what stands still in a file (see
`rsp.coredump`), breakpoints, stops and their reasons, and what lets it run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.errors import LocalProtocolError
from rsp.inferior.inferior import Inferior
from rsp.inferior.memory import Memory
from rsp.inferior.processor import Processor
from rsp.inferior.thread_list import ThreadList
from rsp.wire import commands, replies
from rsp.wire.limits import InterruptWay

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

    from rsp.session.handshake import Greeting
    from rsp.session.session import Session
    from rsp.symbols.table import SymbolTable
    from rsp.wire.limits import Limits
    from rsp.wire.threads import ThreadId


class LiveInferior(Inferior):
    """A machine or a process at a stop, as its stub shows it.

    Args:
        session: the requests.
        greeting: what the stub has said.
        symbols: of what runs there.

    Attributes:
        session: the requests, for packets that nothing here has a method for.
        is_running: returns whether it runs now, for what only looks: ``Target.running``.
        take_in: takes in what has come meanwhile, does what that asks for, and returns whether it
            runs then.
    """

    def __init__(
        self, session: Session, greeting: Greeting, symbols: SymbolTable | None = None
    ) -> None:
        super().__init__(greeting.stub, symbols, whole_pages=session.connection.limits.reliable)
        self.session: Session = session
        self._thread_list = ThreadList(session, self.stub)
        described = greeting.description.layout() if greeting.description is not None else None
        self._processor = Processor(session, self._thread_list, self.stub, described)
        self._memory = Memory(session, self.stub)
        self.is_running: Callable[[], bool] = lambda: session.running
        self.take_in: Callable[[], bool] = self.is_running

    # --- who brings the data ---

    @property
    def memory(self) -> Memory:
        """Reads and writes."""
        return self._memory

    @property
    def processor(self) -> Processor:
        """The registers of each thread."""
        return self._processor

    @property
    def thread_list(self) -> ThreadList:
        """The threads, and which of them requests are about."""
        return self._thread_list

    @property
    def limits(self) -> Limits:
        """What the stub can take, as bad as the line is now."""
        return self.session.connection.limits

    @property
    def usable(self) -> bool:
        """Whether the connection is there."""
        return self.session.usable

    @property
    def has_auxv(self) -> bool:
        """Whether the stub tells the auxiliary vector."""
        return self.stub.features.get("qXfer:auxv:read") is True

    def auxv(self) -> bytes | None:
        """Return the auxiliary vector of a process; None where the stub does not tell it."""
        return self.session.transfer("auxv") if self.has_auxv else None

    # --- whether it can be asked ---

    @property
    def silence(self) -> str | None:
        """Why nothing can be asked now: it runs, has ended, or was let go; None where it can.

        Unlike `check` it takes nothing in that has come meanwhile.
        """
        if self.closed:
            return "the target was detached from"
        if self.session.running:
            return "the target runs"
        if self.absence is not None:
            return self.absence
        return None if self.session.usable else "the connection is lost"

    def runs(self) -> bool:
        """Return whether it runs now; for what only looks."""
        return self.is_running()

    def check(self) -> None:
        """Take in what has come, and raise LocalProtocolError unless it stands still."""
        self.check_open()
        if self.take_in():
            raise LocalProtocolError(f"the target runs: {self.ways_to_stop} first")
        self._check_lives()

    def look(self) -> None:
        """Raise LocalProtocolError unless it stands still; for properties, which do nothing."""
        self.check_open()
        if self.is_running():
            raise LocalProtocolError(f"the target runs: {self.ways_to_stop} first")
        self._check_lives()

    def _check_lives(self) -> None:
        if self.absence is not None:
            raise LocalProtocolError(f"{self.absence}, and connect anew")

    @property
    def ways_to_stop(self) -> str:
        """What a user can do to have it stand still, for messages."""
        listens = self.limits.interrupt is not InterruptWay.NONE
        return "interrupt() or wait()" if listens else "wait()"

    def check_open(self) -> None:
        """Raise LocalProtocolError if it was let go."""
        if self.closed:
            raise LocalProtocolError("the target was detached from: connect again")

    # --- the cache ---

    def invalidate(self) -> None:
        """Forget what was cached for this stop."""
        self.follow_anew()
        self.processor.invalidate()
        self.pages.invalidate()

    def forget(self) -> None:
        """Forget what was cached, and what was selected: it runs."""
        self.selected = None
        self.follow_anew()
        self.processor.resumed()
        self.pages.invalidate()

    # --- what only a live one can do ---

    def select_first(self) -> None:
        """Make the thread current that the stub means, as its stop has named none."""
        reply = self.session.ask(commands.QueryCurrentThread())
        if isinstance(reply, replies.CurrentThread):
            self.thread_list.stopped_in(reply.thread)  # Hg0 was the last word on it
            self.selected = reply.thread
        else:
            self.selected = next(iter(self.thread_list.list()), None)

    def write_register(self, thread: ThreadId | None, name: str, value: int) -> None:
        """Write a register of a thread, and read it back."""
        self.check()
        self.processor.write(thread, name, value)
        self.pages.invalidate()  # it may have been cr3

    def write_memory(self, address: int, data: ReadableBuffer, *, physical: bool = False) -> None:
        """Write memory; the errors of `read_memory`."""
        self.focus()
        self.pages.invalidate()
        self.memory.write(address, data, physical=physical)
