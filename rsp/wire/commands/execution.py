"""Commands that run, step, start and end the target.

Contents: ``? c C s S vCont vCont? vCtrlC vStopped bs bc`` and ``vRun vAttach vKill k R D`` (gdb
manual, "Packets"). What they may do to a stub is in ``limits``.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias

from rsp.errors import LocalProtocolError
from rsp.wire.commands.base import AnsweredBy
from rsp.wire.replies.base import Ok
from rsp.wire.replies.process import ResumeActions
from rsp.wire.stops import (
    Exited,
    FileRequest,
    NoResumed,
    Output,
    Stopped,
    Terminated,
)
from rsp.wire.syntax import KINDS, SIGNAL, THREAD, Kind, X, led
from rsp.wire.threads import ThreadId
from rsp.wire.value import Value

# In non-stop mode a resume is answered with OK at once, and the stop comes as a notification.
ResumeReply: TypeAlias = Stopped | Exited | Terminated | NoResumed | Ok | Output | FileRequest


class QueryStop(AnsweredBy[ResumeReply]):
    """Ask why the target stands still (``?``). QEMU and kgdb drop all breakpoints on it."""

    syntax = "?"
    idempotent = True
    informational = True


# --- resuming ---


class Continue(AnsweredBy[ResumeReply]):
    """Let the target run (``c``), from ``address`` if there is one."""

    address: int | None = None

    syntax = "c[{address:x}]"
    resumes = True


class ContinueWithSignal(AnsweredBy[ResumeReply]):
    """Deliver a signal, then run (``C``)."""

    signal: int
    address: int | None = None

    syntax = "C{signal:signal}[;{address:x}]"
    resumes = True


class Step(AnsweredBy[ResumeReply]):
    """Execute one instruction (``s``), at ``address`` if there is one."""

    address: int | None = None

    syntax = "s[{address:x}]"
    resumes = True


class StepWithSignal(AnsweredBy[ResumeReply]):
    """Deliver a signal, then execute one instruction (``S``)."""

    signal: int
    address: int | None = None

    syntax = "S{signal:signal}[;{address:x}]"
    resumes = True


class EnterKdb(AnsweredBy[ResumeReply]):
    """Leave the stub for the prompt of kdb (``3``, as ``$3#33``): kgdb with CONFIG_KGDB_KDB.

    The line is kdb's then. A packet typed at its prompt calls the stub back, which answers it.
    """

    syntax = "3"
    resumes = True


class ActionKind(Enum):
    """What ``vCont`` does to a thread; the values are its letters."""

    CONTINUE = "c"
    STEP = "s"
    STOP = "t"
    RANGE_STEP = "r"


class Action(Value):
    """One action of a ``vCont``.

    >>> Action(kind=ActionKind.STEP, thread=ThreadId(thread=1)).encode()
    b's:1'

    Attributes:
        kind: what is done.
        signal: a signal to deliver first (CONTINUE and STEP).
        start: the first address of the range (RANGE_STEP).
        end: the address behind it.
        thread: whom it is done to; None for all that no earlier action names.
    """

    kind: ActionKind
    signal: int | None = None
    start: int | None = None
    end: int | None = None
    thread: ThreadId | None = None

    def encode(self) -> bytes:
        """Return the action as it stands in the packet.

        Raises:
            LocalProtocolError: the fields do not fit the kind.
        """
        ranged = self.kind is ActionKind.RANGE_STEP
        signals = self.kind in (ActionKind.CONTINUE, ActionKind.STEP)
        if (self.signal is not None and not signals) or (
            ranged is (self.start is None) or ranged is (self.end is None)
        ):
            raise LocalProtocolError(f"fields that do not fit the kind: {self!r}")
        out = self.kind.value.encode()
        if self.signal is not None:
            out = out.upper() + SIGNAL.encode(self.signal)
        if self.start is not None and self.end is not None:
            out += X.encode(self.start) + b"," + X.encode(self.end)
        return out if self.thread is None else out + b":" + self.thread.encode()


def _parse_action(data: bytes) -> Action:
    verb, colon, thread = data.partition(b":")
    letter, argument = verb[:1], verb[1:]
    start, _, end = argument.partition(b",")
    return Action(
        kind=ActionKind(letter.lower().decode()),
        signal=int(argument, 16) if letter.isupper() else None,
        start=int(start, 16) if letter == b"r" else None,
        end=int(end, 16) if letter == b"r" else None,
        thread=ThreadId.parse(thread) if colon else None,
    )


_ACTION: Final = Kind(
    rb"(?:[cst]|[CS]%b|r%b,%b)(?::%b)?" % (SIGNAL.pattern, X.pattern, X.pattern, THREAD.pattern),
    _parse_action,
    Action.encode,
)
KINDS["actions"] = led(_ACTION, b";")


class VCont(AnsweredBy[ResumeReply]):
    """Resume, thread by thread (``vCont``); for each thread the first action that names it.

    >>> step = Action(kind=ActionKind.STEP, thread=ThreadId(thread=1))
    >>> VCont(actions=(step, Action(kind=ActionKind.CONTINUE))).encode()
    b'vCont;s:1;c'
    """

    actions: tuple[Action, ...]

    syntax = "vCont{actions:actions}"
    resumes = True


class QueryVCont(AnsweredBy[ResumeActions]):
    """Ask which actions ``vCont`` may have (``vCont?``)."""

    syntax = "vCont?"
    idempotent = True
    informational = True


class ReverseStep(AnsweredBy[ResumeReply]):
    """Step one instruction back (``bs``). QEMU 7.2 aborts on it unless it records."""

    syntax = "bs"
    resumes = True


class ReverseContinue(AnsweredBy[ResumeReply]):
    """Run backwards (``bc``). QEMU 7.2 aborts on it unless it records."""

    syntax = "bc"
    resumes = True


# --- non-stop mode ---


class Interrupt(AnsweredBy[Ok]):
    """Stop all threads (``vCtrlC``), in non-stop mode; elsewhere a byte 0x03 does it."""

    syntax = "vCtrlC"


class NextStop(AnsweredBy[ResumeReply]):
    """Acknowledge a ``Stop`` notification and ask for the next (``vStopped``); OK ends them."""

    syntax = "vStopped"


# --- beginning and end of a process ---


class Run(AnsweredBy[ResumeReply]):
    """Start a program on the stub's machine (``vRun``); an empty name means the one before."""

    filename: str = ""
    arguments: tuple[str, ...] = ()

    syntax = "vRun;{filename:hextext}{arguments:arguments}"
    resumes = True


class Attach(AnsweredBy[ResumeReply]):
    """Attach to a process (``vAttach``)."""

    process: int

    syntax = "vAttach;{process:x}"
    resumes = True


class Detach(AnsweredBy[Ok]):
    """Let the target go and run (``D``); ``process`` is needed with ``multiprocess+``."""

    process: int | None = None

    syntax = "D[;{process:x}]"


class KillProcess(AnsweredBy[Ok]):
    """End a process (``vKill``). QEMU ends itself."""

    process: int

    syntax = "vKill;{process:x}"


class Kill(AnsweredBy[Ok]):
    """End the target (``k``); there is no answer. QEMU ends itself."""

    syntax = "k"
    answered = False


class Restart(AnsweredBy[Ok]):
    """Restart the program, or reboot the machine (``R``); there is no answer.

    The number means nothing but must be there. kgdb has ``R0``.
    """

    number: int = 0

    syntax = "R{number:x}"
    answered = False
