"""The target's threads, and which of them the next request is about.

Contents: the list, the names and the focus (``Hg``). What a thread's registers are is the business
of ``processor``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, SupportsIndex, TypeAlias

from rsp.errors import RemoteProtocolError, StubError
from rsp.wire import commands, replies
from rsp.wire.threads import ThreadId

if TYPE_CHECKING:
    from rsp.arch.registers import Registers
    from rsp.frames.backtrace import Backtrace
    from rsp.session.session import Session
    from rsp.session.stub import Stub
    from rsp.target.stop import Stop
    from rsp.target.target import Target
    from rsp.unwind.resumption import Resumption

logger: Final = logging.getLogger("rsp.target")

# Of a process with more threads than this, or of a stub whose list has no end, these are shown.
_MOST_THREADS: Final = 1 << 16


class Thread:
    """A thread of the target; of a machine, a CPU; of kgdb, a CPU or a task.

    >>> thread = target.thread  # doctest: +SKIP
    >>> thread.id, thread.name, hex(thread.registers.pc)  # doctest: +SKIP
    ('p01.01', 'CPU#0 [running]', '0xfffffff0')

    Attributes:
        target: whose it is.
        thread_id: its id on the wire.
    """

    __slots__ = ("target", "thread_id")

    def __init__(self, target: Target, thread_id: ThreadId) -> None:
        self.target: Target = target
        self.thread_id: ThreadId = thread_id

    @property
    def id(self) -> str:
        """The id, spelled as the stub does."""
        return str(self.thread_id)

    @property
    def cpu(self) -> int | None:
        """The number of the CPU that it stands for; None for a task, and in a process."""
        return self.target.stub.cpu_of(self.thread_id.thread)

    @property
    def name(self) -> str:
        """What the stub says of it (qThreadExtraInfo); empty where it says nothing."""
        return self.target.thread_name(self.thread_id)

    @property
    def registers(self) -> Registers:
        """A snapshot of its registers; the same errors as ``Target.registers``."""
        return self.target.registers_of(self.thread_id)

    def backtrace(
        self, *, limit: SupportsIndex | None = None, outermost: SupportsIndex | None = None
    ) -> Backtrace:
        """Return who called whom in it; the same arguments and errors as ``Target.backtrace``."""
        return self.target.backtrace_of(self.thread_id, limit=limit, outermost=outermost)

    def write_register(self, name: str, value: SupportsIndex) -> None:
        """Write a register; the same errors as ``Target.write_register``."""
        self.target.write_register_of(self.thread_id, name, value)

    def step(self, *, timeout: float | None = None) -> Stop:
        """Execute one instruction of this thread, the others standing still."""
        return self.target.step_thread(self.thread_id, timeout=timeout)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Thread):
            return NotImplemented
        return self.thread_id == other.thread_id and self.target is other.target

    def __hash__(self) -> int:
        return hash(self.thread_id)

    def __repr__(self) -> str:
        name = self.target.thread_list.known_name(self.thread_id)
        return f"Thread({self.id}, {name!r})" if name else f"Thread({self.id})"


ThreadUnwinder: TypeAlias = Callable[[Thread], "Resumption | None"]
"""Tells where a thread goes on that the stub gives no pc of; None for one that it does not know."""


class ThreadList:
    """Asks for threads, and keeps the stub's focus.

    Args:
        session: where to.
        stub: what it can do.
    """

    def __init__(self, session: Session, stub: Stub) -> None:
        self._session = session
        self._named_in_list = "qXfer:threads:read" in stub.features
        self._focus: ThreadId | None = None
        self._names: dict[ThreadId, str] = {}
        self._listed: tuple[ThreadId, ...] = ()

    def stopped_in(self, thread: ThreadId | None) -> None:
        """Note where the target stopped: the stub's focus is there now, as gdb assumes too."""
        self._focus = thread
        self._names.clear()
        self._listed = ()

    def focus(self, thread: ThreadId | None) -> None:
        """Let the next request for registers or memory be about a thread.

        Raises:
            StubError: the stub does not know it.
        """
        if thread is None or thread == self._focus:
            return
        self._focus = None  # unknown, should Ctrl-C come before the answer
        reply = self._session.ask(commands.SelectThread(operation="g", thread=thread))
        # A stub that has no threads does not know the packet, and needs none.
        if isinstance(reply, replies.ErrorReply):
            raise _no_thread(thread, reply.code)
        self._focus = thread

    def list(self) -> tuple[ThreadId, ...]:
        """Return the ids, none where the stub has no list."""
        found: list[ThreadId] = []
        reply = self._session.ask(commands.QueryFirstThreads())
        while isinstance(reply, replies.ThreadList) and len(found) < _MOST_THREADS:
            found += reply.threads
            if reply.last or not reply.threads:
                break
            reply = self._session.ask(commands.QueryNextThreads())
        self._listed = tuple(dict.fromkeys(found))
        return self._listed

    def name(self, thread: ThreadId) -> str:
        """Return what the stub says of a thread, an empty text where it says nothing.

        Raises:
            StubError: the stub has no such thread: QEMU 7.2 would never answer.
        """
        if self._named_in_list and not self._names:
            self._names = self._listed_names()
        if thread not in self._names:
            if thread != self._focus and thread not in (self._listed or self.list() or (thread,)):
                raise _no_thread(thread)
            reply = self._session.ask(commands.QueryThreadExtraInfo(thread=thread))
            self._names[thread] = (
                reply.text.rstrip("\0") if isinstance(reply, replies.ThreadExtraInfo) else ""
            )
        return self._names[thread]

    def known_name(self, thread: ThreadId) -> str:
        """Return the name that was asked for at this stop, an empty text without."""
        return self._names.get(thread, "")

    def _listed_names(self) -> dict[ThreadId, str]:
        """Return the names in the stub's list (gdb manual, "Thread List Format"): gdbserver's."""
        from rsp.arch.description import read_elements

        try:
            found = read_elements(self._session.transfer("threads") or b"<threads/>", "thread")
            return {
                ThreadId.parse(thread["id"]): thread["name"]
                for thread in found
                if "id" in thread and thread.get("name")
            }
        except RemoteProtocolError as error:
            if not self._session.usable:
                raise
            logger.debug("no names of threads: %s", error)
            return {}


def _no_thread(thread: ThreadId, code: int | None = None) -> StubError:
    return StubError(f"the stub has no thread {thread}; target.threads lists them", code=code)
