"""The threads, and which of them the next request is about.

Contents: the list, the names and the focus (``Hg``). What a thread's registers are is the business
of ``processor``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from rsp.errors import RemoteProtocolError, StubError
from rsp.wire import commands, replies
from rsp.wire.threads import ThreadId

if TYPE_CHECKING:
    from rsp.session.session import Session
    from rsp.session.stub import Stub

logger: Final = logging.getLogger("rsp.inferior")

# Of a process with more threads than this, or of a stub whose list has no end, these are shown.
_MOST_THREADS: Final = 1 << 16


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
