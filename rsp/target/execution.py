"""Running the target: resume, step, wait, interrupt.

Here live what a stop is, stepping over one's own breakpoints, and conditions. Inserting
breakpoints is the business of ``breakpoints``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Final

from rsp.arch.layout import Role
from rsp.errors import LocalProtocolError, ModeNotReached, RspTimeout, StubError
from rsp.wire import commands, replies, stops
from rsp.wire.commands import Action, ActionKind
from rsp.wire.signals import Signal

if TYPE_CHECKING:
    from rsp.arch.modes import CpuMode
    from rsp.target.breakpoints import Breakpoint, Watchpoint
    from rsp.target.target import Target
    from rsp.target.threads import Thread
    from rsp.wire.commands import BreakpointType
    from rsp.wire.replies import Reply
    from rsp.wire.threads import ThreadId


class StopReason(Enum):
    """Why the target stands still."""

    ATTACHED = "attached"
    """It stood, or was stopped, when we connected."""
    BREAKPOINT = "breakpoint"
    WATCHPOINT = "watchpoint"
    STEP = "step"
    INTERRUPT = "interrupt"
    SIGNAL = "signal"
    EVENT = "event"
    """A library, fork, exec or system call that the stub reports."""
    EXITED = "exited"
    TERMINATED = "terminated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A stop of the target.

    Attributes:
        reason: why.
        signal: gdb's number of the signal, 0 for none.
        thread: the thread that stopped, None where the stub has none.
        breakpoint: the breakpoint that was hit.
        watchpoint: the watchpoint that was hit.
        address: the address whose access the watchpoint caught.
        status: the exit status of a process that exited.
        event: the stub's word for an event: ``fork``, ``library``, …
    """

    reason: StopReason
    signal: int = 0
    thread: Thread | None = None
    breakpoint: Breakpoint | None = None
    watchpoint: Watchpoint | None = None
    address: int | None = None
    status: int | None = None
    event: str | None = None

    @property
    def signal_name(self) -> str:
        """The signal's name in gdb, empty for none."""
        if not self.signal:
            return ""
        try:
            return Signal(self.signal).name
        except ValueError:
            return f"SIG{self.signal}"

    def __str__(self) -> str:
        parts = [self.reason.value]
        if self.breakpoint is not None:
            parts.append(f"{self.breakpoint.number} ({self.breakpoint.what})")
        if self.watchpoint is not None:
            parts.append(f"{self.watchpoint.number} at {self.address or 0:#x}")
        if self.status is not None:
            parts.append(f"with status {self.status}")
        if self.event is not None:
            parts.append(self.event)
        if self.signal:
            parts.append(self.signal_name)
        if self.thread is not None:
            parts.append(f"in thread {self.thread.id}")
        return " ".join(parts)


_WATCHES: Final = (stops.StopReason.WATCH, stops.StopReason.RWATCH, stops.StopReason.AWATCH)
_PLAIN: Final = (stops.StopReason.SIGNAL, stops.StopReason.SWBREAK, stops.StopReason.HWBREAK)
_GONE: Final = (StopReason.EXITED, StopReason.TERMINATED)
_NOT_DELIVERED: Final = (0, Signal.SIGINT, Signal.SIGTRAP)


class Execution:
    """Runs a target, and tells what its stops are.

    Args:
        target: whose.
        stop: the answer to ``?``.
    """

    def __init__(self, target: Target, stop: Reply) -> None:
        self._target = target
        self._session = target.session
        self._actions: frozenset[str] | None = None
        self._lifted: list[tuple[BreakpointType, int, int]] = []
        self._passing = False  # a step over one's own breakpoint is under way
        self._stepping = False
        self._interrupting = False
        self.stop = self._describe(stop, attached=True)

    @property
    def running(self) -> bool:
        """Whether the target runs; takes in what has come meanwhile."""
        session = self._session
        if session.running:
            session.drain()
        while session.stops and not session.running:
            self._take(session.stops.popleft())
        return session.running

    def resume(self) -> None:
        """Let the target run."""
        self._begin()
        self._run_on()
        # The step over one's own breakpoint must not be left to `wait`, which may never be called;
        # but an instruction that waits (hlt) is.
        deadline = monotonic() + self._session.connection.limits.timeout
        while self._passing and (left := deadline - monotonic()) > 0:
            reply = self._session.wait_for_stop(left)
            if reply is None or self._take(reply):
                return

    def step(self, thread: ThreadId | None) -> None:
        """Let one thread execute one instruction."""
        self._begin()
        if self._target.points:
            self._lifted = self._target.points.lift(self._target.processor.registers(thread).pc)
        self._stepping = True
        self._send(ActionKind.STEP, thread)

    def wait(self, timeout: float | None) -> Stop:
        """Wait until the target stops for good.

        Raises:
            RspTimeout: it still runs.
            StubError: the stub refused to let it run.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while self.running:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            try:
                reply = self._session.wait_for_stop(left)
            except KeyboardInterrupt:
                self.interrupt()
                raise
            if reply is None:
                assert timeout is not None
                raise RspTimeout(
                    f"the target still runs after {timeout:g} s; wait() goes on waiting, "
                    "interrupt() stops it",
                    timeout=timeout,
                )
            self._take(reply)
        return self.stop

    def interrupt(self) -> Stop:
        """Stop the running target.

        Raises:
            RspTimeout: it does not stop.
            UnsupportedCommand: the line cannot carry what would stop it.
        """
        if self.running:
            self._interrupting = True
            self._session.interrupt()
        return self.wait(self._session.connection.limits.timeout)

    def run_until_mode(self, mode: CpuMode, max_steps: int) -> Stop:
        """Step the current thread until its CPU is in a mode.

        Raises:
            ModeNotReached: it is not, after that many steps; the error has the mode it is in.
        """
        processor, thread = self._target.processor, self._stopped_thread()
        for _ in range(max_steps):
            if processor.is_in_mode(thread, mode):
                return self.stop
            self.step(thread)
            self.wait(None)
            if self.stop.reason in _GONE:
                break
        else:
            if processor.is_in_mode(thread, mode):
                return self.stop
        reached = None if self.stop.reason in _GONE else processor.mode(thread)
        raise ModeNotReached(
            f"{mode.name} was not reached in {max_steps} steps: the CPU is in "
            f"{reached.name if reached else 'no mode, for the target has ended'}; raise max_steps, "
            "or run to a breakpoint nearer to the switch first",
            mode=reached,
        )

    # --- sending ---

    def _begin(self) -> None:
        if self.running:
            raise LocalProtocolError("the target runs already: interrupt() or wait() first")
        if self.stop.reason in _GONE:
            raise LocalProtocolError(f"the target has {self.stop.reason.value}: connect anew")
        self._stepping = self._passing = self._interrupting = False

    def _run_on(self) -> None:
        thread = self._stopped_thread()
        points = self._target.points
        if points:
            self._lifted = points.lift(self._target.processor.registers(thread).pc)
        self._passing = bool(self._lifted)
        if self._passing:
            self._send(ActionKind.STEP, thread)
        else:
            self._send(ActionKind.CONTINUE, None)

    def _send(self, kind: ActionKind, thread: ThreadId | None) -> None:
        signal = self._signal_to_deliver()
        if self._actions is None:
            reply = self._session.ask(commands.QueryVCont())
            known = reply.actions if isinstance(reply, replies.ResumeActions) else ()
            self._actions = frozenset(known)
        if kind.value in self._actions and (signal is None or kind.value.upper() in self._actions):
            actions: tuple[Action, ...] = (Action(kind=kind, signal=signal, thread=thread),)
            if signal is not None and thread is None:
                # The signal is for the thread that it stopped, and no other.
                actions = (
                    Action(kind=kind, signal=signal, thread=self._stopped_thread()),
                    Action(kind=kind),
                )
            self._session.tell(commands.VCont(actions=actions))
        else:
            self._session.tell(self._without_vcont(kind, signal, thread))
        self._target.forget()

    def _without_vcont(
        self, kind: ActionKind, signal: int | None, thread: ThreadId | None
    ) -> commands.Command:
        if thread is not None and thread != self._stopped_thread():
            reply = self._session.ask(commands.SelectThread(operation="c", thread=thread))
            if not isinstance(reply, replies.Ok):
                raise StubError(
                    f"this stub resumes no thread but the one that stopped; {thread} did not"
                )
        if kind is ActionKind.STEP:
            return commands.Step() if signal is None else commands.StepWithSignal(signal=signal)
        return commands.Continue() if signal is None else commands.ContinueWithSignal(signal=signal)

    def _signal_to_deliver(self) -> int | None:
        """Return the signal that a process was about to get when it stopped: gdb's default."""
        if not self._target.stub.delivers_signals or self.stop.reason is not StopReason.SIGNAL:
            return None
        return None if self.stop.signal in _NOT_DELIVERED else self.stop.signal

    # --- stops ---

    def _stopped_thread(self) -> ThreadId | None:
        return self.stop.thread.thread_id if self.stop.thread is not None else None

    def _take(self, reply: Reply) -> bool:
        """Make a reply the current stop; False when the target runs on instead."""
        target = self._target
        target.forget()
        if isinstance(reply, replies.ErrorReply | replies.Unsupported):
            self._put_back()
            code = reply.code if isinstance(reply, replies.ErrorReply) else None
            raise StubError("the stub refuses to let the target run", code=code)
        if isinstance(reply, stops.Stopped):
            target.thread_list.stopped_in(reply.thread)
        stop = self._describe(reply)
        passing, self._passing = self._passing, False
        self.stop = stop
        if stop.reason in _GONE:
            self._lifted = []
            return True
        self._put_back()
        if passing and stop.reason is StopReason.STEP:
            self._send(ActionKind.CONTINUE, None)
            return False
        point = stop.breakpoint or stop.watchpoint
        if point is None:
            return True
        point.hits += 1
        if point.condition is None or point.condition(target) or self._interrupting:
            return True
        if self._stepping:
            self.stop = replace(stop, reason=StopReason.STEP, breakpoint=None, watchpoint=None)
            return True
        self._run_on()
        return False

    def _put_back(self) -> None:
        lifted, self._lifted = self._lifted, []
        self._target.points.put_back(lifted)

    def _describe(self, reply: Reply, *, attached: bool = False) -> Stop:
        match reply:
            case stops.Exited(status=status):
                return Stop(reason=StopReason.EXITED, status=status)
            case stops.Terminated(signal=signal):
                return Stop(reason=StopReason.TERMINATED, signal=signal)
            case stops.Stopped():
                thread = self._target.thread_of(reply.thread)
                if attached:
                    return Stop(reason=StopReason.ATTACHED, signal=reply.signal, thread=thread)
                return self._describe_stopped(reply, thread)
        # A stub that answers `?` with anything else stands still all the same.
        return Stop(reason=StopReason.ATTACHED if attached else StopReason.EVENT)

    def _describe_stopped(self, reply: stops.Stopped, thread: Thread | None) -> Stop:
        points = self._target.points
        if reply.reason in _WATCHES:
            return Stop(
                reason=StopReason.WATCHPOINT,
                signal=reply.signal,
                thread=thread,
                watchpoint=points.watching(reply.address) if reply.address is not None else None,
                address=reply.address,
            )
        if reply.reason not in _PLAIN:
            return Stop(
                reason=StopReason.EVENT,
                signal=reply.signal,
                thread=thread,
                event=reply.reason.value,
            )
        reason, hit = StopReason.SIGNAL, None
        if reply.signal == Signal.SIGTRAP and points:
            hit = self._breakpoint_hit(reply)
        if hit is not None:
            reason = StopReason.BREAKPOINT
        elif self._interrupting and reply.signal in _NOT_DELIVERED:
            reason = StopReason.INTERRUPT
        elif reply.signal == Signal.SIGTRAP and (self._stepping or self._passing):
            reason = StopReason.STEP
        return Stop(reason=reason, signal=reply.signal, thread=thread, breakpoint=hit)

    def _breakpoint_hit(self, reply: stops.Stopped) -> Breakpoint | None:
        target = self._target
        pc = target.processor.registers(reply.thread).pc
        behind = target.stub.pc_after_breakpoint
        if behind and not self._stepping and not self._passing:
            before = target.points.at(pc - behind, software=True)
            if before is not None:
                # The stub reports where the int3 ended; the instruction there is yet to run.
                name = target.processor.registers(reply.thread).layout.role(Role.PC).name
                target.processor.write(reply.thread, name, pc - behind)
                return before
        return target.points.at(pc)
