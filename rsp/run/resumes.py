"""How a stub is told to let a target run.

Contents: the choice between ``vCont`` and ``c``, ``s`` and ``Hc`` (gdb manual, "Packets"). What is
to run, and what its stop then means, is the business of ``execution``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rsp.errors import StubError
from rsp.wire import commands, replies
from rsp.wire.commands import Action, ActionKind
from rsp.wire.signals import to_linux
from rsp.wire.threads import ALL

if TYPE_CHECKING:
    from rsp.session.session import Session
    from rsp.wire.threads import ThreadId


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """What is to run, and how.

    Attributes:
        kind: what the thread does.
        thread: whom it is about; None for all.
        others: whether the others run meanwhile.
        within: the range to step in, for RANGE_STEP.
    """

    kind: ActionKind
    thread: ThreadId | None = None
    others: bool = True
    within: tuple[int, int] | None = None


class Resumes:
    """Sends resumes.

    Args:
        session: of the target.

    Attributes:
        selected: the thread that ``c`` and ``s`` are about.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.selected: ThreadId = ALL

    @cached_property
    def _actions(self) -> frozenset[str]:
        """What the stub's ``vCont`` knows; nothing where it has none."""
        reply = self._session.ask(commands.QueryVCont())
        return frozenset(reply.actions if isinstance(reply, replies.ResumeActions) else ())

    @property
    def can_step_ranges(self) -> bool:
        """Whether the stub goes on stepping in a range of addresses by itself."""
        return ActionKind.RANGE_STEP.value in self._actions

    def send(self, resume: Resume, *, signal: int | None, stopped: ThreadId | None) -> None:
        """Let the target run.

        Args:
            resume: what, and how.
            signal: is delivered with it.
            stopped: the thread that the last stop was of.

        Raises:
            StubError: the stub cannot resume that thread.
        """
        if signal is not None and self._session.connection.limits.dialect.native_signals:
            signal = to_linux(signal)
        kind, known = resume.kind, self._actions
        if kind.value in known and (signal is None or kind.value.upper() in known):
            self._session.tell(self._with_vcont(resume, signal, stopped))
        else:
            self._session.tell(self._without_vcont(resume, signal, stopped))

    def _with_vcont(
        self, resume: Resume, signal: int | None, stopped: ThreadId | None
    ) -> commands.Command:
        kind, thread = resume.kind, resume.thread
        start, end = resume.within or (None, None)
        if signal is not None and thread is None:
            # The signal is for the thread that it stopped, and no other.
            first = Action(kind=kind, signal=signal, thread=stopped)
            return commands.VCont(actions=(first, Action(kind=kind)))
        action = Action(kind=kind, signal=signal, thread=thread, start=start, end=end)
        if thread is not None and resume.others and ActionKind.CONTINUE.value in self._actions:
            return commands.VCont(actions=(action, Action(kind=ActionKind.CONTINUE)))
        return commands.VCont(actions=(action,))

    def _without_vcont(
        self, resume: Resume, signal: int | None, stopped: ThreadId | None
    ) -> commands.Command:
        thread = resume.thread
        # It holds for every resume that follows, also when the stub then refuses this one.
        about = ALL if thread is None or thread == stopped else thread
        if about != self.selected:
            reply = self._session.ask(commands.SelectThread(operation="c", thread=about))
            if about != ALL and not isinstance(reply, replies.Ok):
                raise StubError(
                    f"this stub resumes no thread but the one that stopped; {thread} did not"
                )
            self.selected = about
        if resume.kind is ActionKind.STEP:
            return commands.Step() if signal is None else commands.StepWithSignal(signal=signal)
        return commands.Continue() if signal is None else commands.ContinueWithSignal(signal=signal)
