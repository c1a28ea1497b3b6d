"""What a target's fork leaves behind: children without our breakpoints.

Contents: a child that the stub reports is let go without what is inserted in its parent, as gdb
does with "follow-fork-mode parent" and "detach-on-fork on". Otherwise it would die of the first
int3 that it meets. What the parent does next is the business of ``execution``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from rsp.errors import StubError
from rsp.wire import commands, replies
from rsp.wire.commands import BreakpointType
from rsp.wire.stops import StopReason

if TYPE_CHECKING:
    from rsp.inferior.live import LiveInferior
    from rsp.run.breakpoints import Breakpoints, Inserted
    from rsp.wire.stops import Stopped
    from rsp.wire.threads import ThreadId

logger: Final = logging.getLogger("rsp.run")

FORKS: Final = frozenset({StopReason.FORK, StopReason.VFORK, StopReason.VFORKDONE})
"""The stops of a parent that are about its children, and none of the user's."""


class Forks:
    """Lets children go.

    Args:
        inferior: their parent.
        points: its breakpoints.

    Attributes:
        borrower: the thread whose child runs in its memory, until that ends or executes a program.
            Nothing is inserted in that memory then, and the other threads stand still: they would
            run past the breakpoints.
    """

    def __init__(self, inferior: LiveInferior, points: Breakpoints) -> None:
        self.borrower: ThreadId | None = None
        self._inferior = inferior
        self._points = points
        self._lifted: list[Inserted] = []

    def take(self, event: Stopped, lifted: list[Inserted]) -> None:
        """Do what the event of a fork asks for; the parent is to be resumed then.

        Args:
            event: its reason is one of ``FORKS``.
            lifted: what is not in the memory at the moment.
        """
        if event.reason is StopReason.VFORKDONE:
            self.return_memory()
            return
        child = event.child
        if child is None or child.process is None:
            logger.warning("the stub does not say which process was forked: %s", child)
            return
        if event.reason is StopReason.VFORK:
            # An int3 that is taken out of the parent is gone in the child, whose memory it is, too.
            self._lifted = self._points.lift_all(but=lifted)
            self.borrower = event.thread
            shared = [key for key in self._lifted if key[0] is BreakpointType.SOFTWARE]
            lifted = [*lifted, *shared]
        self._clean(child, lifted)
        self._let_go(child)

    def return_memory(self) -> None:
        """Insert again what was taken out for a child that ran in the target's memory."""
        self.borrower = None
        lifted, self._lifted = self._lifted, []
        self._points.put_back(lifted)

    def forget(self) -> None:
        """Note that the target has ended."""
        self.borrower, self._lifted = None, []

    def _clean(self, child: ThreadId, lifted: list[Inserted]) -> None:
        """Take out of a child what it has inherited.

        Debug registers, too: Linux gives it none, but gdbserver (13.1) sets its parent's in it.
        """
        threads = self._inferior.thread_list
        try:
            threads.focus(child)
            left = self._points.remove_copies(but=lifted)
        except StubError as error:  # it may have been killed already
            logger.warning("the breakpoints stay in the child %s: %s", child, error)
            return
        if left:
            logger.warning(
                "the stub refuses to remove breakpoints from the child %s, which may die of them: "
                "%s",
                child,
                ", ".join(f"{address:#x}" for address in left),
            )

    def _let_go(self, child: ThreadId) -> None:
        session = self._inferior.session
        reply = session.ask(commands.Detach(process=child.process))
        if not isinstance(reply, replies.Ok):
            logger.warning("the stub refuses to let the child %s go: it may stand still", child)
