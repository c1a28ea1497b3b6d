"""Running the target: resume, step, wait, interrupt.

Here live what a stop is, stepping over one's own breakpoints, and conditions. Inserting
breakpoints is the business of ``breakpoints``.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Final

from rsp.arch.layout import Role
from rsp.errors import LocalProtocolError, ModeNotReached, RspError, RspTimeout, StubError
from rsp.target.breakpoints import Breakpoint, Point, Watch, Watchpoint
from rsp.target.ctrl_c import held
from rsp.wire import commands, replies, stops
from rsp.wire.commands import Action, ActionKind
from rsp.wire.limits import InterruptWay
from rsp.wire.signals import Signal, signal_name
from rsp.wire.threads import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rsp.arch.modes import CpuMode
    from rsp.target.registers import Registers
    from rsp.target.target import Target
    from rsp.target.threads import Thread
    from rsp.wire.commands import BreakpointType
    from rsp.wire.replies import Reply
    from rsp.wire.threads import ThreadId


logger = logging.getLogger("rsp.target")


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
        return signal_name(self.signal) if self.signal else ""

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


# What a watchpoint's report is about.
_WATCHES: Final = {
    stops.StopReason.WATCH: (Watch.WRITE, Watch.ACCESS),
    stops.StopReason.RWATCH: (Watch.READ, Watch.ACCESS),
    stops.StopReason.AWATCH: tuple(Watch),
}
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
        self._under_way = False  # a resume was sent, and its stop has not been taken
        self._continues: ThreadId = ALL  # what `c` and `s` are about
        self._echo_due = False  # QEMU will report the last watchpoint once more
        self._hit: Sequence[Point] = ()  # the points that the last stop is at
        self._before: Registers | None = None  # where a step that may be such an echo began
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
        with self._stopping_on_ctrl_c():
            self._run_on()
            self._pass()

    def _pass(self) -> None:
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
        with held():
            if self._target.points:
                self._lifted = self._target.points.lift(self._target.processor.registers(thread).pc)
            self._stepping = True
            self._send(ActionKind.STEP, thread)

    def settle(self) -> None:
        """Take the echo of a watchpoint, or it would stop the target when we are gone.

        Raises:
            The same as ``wait``.
        """
        if not self._echo_due:
            return
        self._echo_due = False
        self.step(self._stopped_thread())
        try:
            self.wait(self._session.connection.limits.timeout)
        except RspTimeout:  # it was no echo, and the instruction waits (hlt)
            self.interrupt()

    def wait(self, timeout: float | None) -> Stop:
        """Wait until the target stops for good.

        Raises:
            RspTimeout: it still runs.
            StubError: the stub refused to let it run.
        """
        deadline = None if timeout is None else monotonic() + timeout
        with self._stopping_on_ctrl_c():
            while self.running:
                left = None if deadline is None else max(0.0, deadline - monotonic())
                reply = self._session.wait_for_stop(left)
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
        limits = self._session.connection.limits
        left = limits.timeout
        if self.running:
            self._interrupting = True
            self._session.interrupt()
            # valgrind loses a 0x03 that comes in one piece with the resume: once more, then.
            if limits.interrupt is InterruptWay.CTRL_C and left > limits.retransmit_after:
                with suppress(RspTimeout):
                    return self.wait(limits.retransmit_after)
                left -= limits.retransmit_after
                self._session.interrupt()
        return self.wait(left)

    def run_until_mode(self, mode: CpuMode, max_steps: int) -> Stop:
        """Step the current thread until its CPU is in a mode.

        Raises:
            ModeNotReached: it is not, after that many steps; the error has the mode it is in.
        """
        processor, current = self._target.processor, self._target.thread
        thread = current.thread_id if current is not None else None
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

    @contextmanager
    def _stopping_on_ctrl_c(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            try:
                self.interrupt()
            except RspError as failure:
                logger.warning("the target could not be stopped: %s", failure)
            raise

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
        with held():
            if points:
                self._lifted = points.lift(self._target.processor.registers(thread).pc)
            # The echo comes at once, and is taken with a step.
            self._passing = bool(self._lifted) or self._echo_due
            if self._passing:
                self._send(ActionKind.STEP, thread)
            else:
                self._send(ActionKind.CONTINUE, None)

    def _send(self, kind: ActionKind, thread: ThreadId | None) -> None:
        try:
            self._send_resume(kind, thread)
        except (RspError, KeyboardInterrupt):
            if self._session.usable and not self._session.running:
                self._put_back()
            raise
        self._under_way = True
        self._target.forget()

    def _send_resume(self, kind: ActionKind, thread: ThreadId | None) -> None:
        signal = self._signal_to_deliver()
        stopped = self._stopped_thread()
        self._before = self._target.processor.registers(stopped) if self._echo_due else None
        self._echo_due = False
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

    def _without_vcont(
        self, kind: ActionKind, signal: int | None, thread: ThreadId | None
    ) -> commands.Command:
        # It holds for every resume that follows, also when the stub then refuses this one.
        about = ALL if thread is None or thread == self._stopped_thread() else thread
        if about != self._continues:
            reply = self._session.ask(commands.SelectThread(operation="c", thread=about))
            if about != ALL and not isinstance(reply, replies.Ok):
                raise StubError(
                    f"this stub resumes no thread but the one that stopped; {thread} did not"
                )
            self._continues = about
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
        with held():
            taken = self._arrive(reply)
        if taken is not None:
            return taken
        hit, self._hit = self._hit, ()
        # As in gdb, a stop where the condition is false is no hit.
        true = [point for point in hit if point.condition is None or point.condition(self._target)]
        for point in true:
            point.hits += 1
        if true:
            self.stop = _stop_at(true[0], self.stop)
            return True
        if self._stepping or self._interrupting:
            reason = StopReason.STEP if self._stepping else StopReason.INTERRUPT
            self.stop = replace(self.stop, reason=reason, breakpoint=None, watchpoint=None)
            return True
        self._run_on()
        return False

    def _arrive(self, reply: Reply) -> bool | None:
        """Do what a stop asks for at once; None where it is for conditions to say what follows."""
        target = self._target
        target.forget()
        under_way, self._under_way = self._under_way, False
        if isinstance(reply, replies.ErrorReply | replies.Unsupported):
            self._put_back()
            code = reply.code if isinstance(reply, replies.ErrorReply) else None
            raise StubError("the stub refuses to let the target run", code=code)
        if isinstance(reply, stops.Stopped):
            target.thread_list.stopped_in(reply.thread)
            if self._is_echo(reply):
                self._send(ActionKind.STEP, reply.thread)
                return False
        stop = self._describe(reply)
        if not under_way:
            # A report that nobody asked for: no hit is counted twice, and nothing is resumed.
            self.stop = stop
            if stop.reason in _GONE:
                target.points.forget_all()
            return True
        passing, self._passing = self._passing, False
        self.stop = stop
        self._echo_due = (
            stop.reason is StopReason.WATCHPOINT
            and (passing or self._stepping)
            and target.stub.echoes_watchpoints
        )
        if stop.reason in _GONE:
            self._lifted = []
            target.points.forget_all()
            return True
        self._put_back()
        if passing and stop.reason is StopReason.STEP:
            self._send(ActionKind.CONTINUE, None)
            return False
        return None if self._hit else True

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
        self._hit = ()
        if reply.reason in _WATCHES:
            if reply.address is not None:
                # valgrind calls every access `watch`.
                self._hit = points.watching(
                    reply.address, _WATCHES[reply.reason]
                ) or points.watching(reply.address, tuple(Watch))
            stop = Stop(
                reason=StopReason.WATCHPOINT,
                signal=reply.signal,
                thread=thread,
                address=reply.address,
            )
            return _stop_at(self._hit[0], stop) if self._hit else stop
        if reply.reason not in _PLAIN:
            return Stop(
                reason=StopReason.EVENT,
                signal=reply.signal,
                thread=thread,
                event=reply.reason.value,
            )
        reason = StopReason.SIGNAL
        if reply.signal == Signal.SIGTRAP and points:
            self._hit = self._breakpoints_hit(reply)
        if self._hit:
            reason = StopReason.BREAKPOINT
        elif self._interrupting and reply.signal in _NOT_DELIVERED:
            reason = StopReason.INTERRUPT
        elif reply.signal == Signal.SIGTRAP and (self._stepping or self._passing):
            reason = StopReason.STEP
        stop = Stop(reason=reason, signal=reply.signal, thread=thread)
        return _stop_at(self._hit[0], stop) if self._hit else stop

    def _is_echo(self, reply: stops.Stopped) -> bool:
        """Whether a step ended where it began, with a watchpoint's second report.

        QEMU's TCG leaves its debug interrupt pending when a step meets a watchpoint, and the next
        resume stops before it has begun (7.2; gdb shows a SIGTRAP there).
        """
        before, self._before = self._before, None
        return (
            before is not None
            and not self._interrupting
            and (reply.signal, reply.reason) == (Signal.SIGTRAP, stops.StopReason.SIGNAL)
            and self._target.processor.registers(reply.thread) == before
        )

    def _breakpoints_hit(self, reply: stops.Stopped) -> Sequence[Point]:
        target = self._target
        pc = target.processor.registers(reply.thread).pc
        behind = target.stub.pc_after_breakpoint
        if behind and not self._stepping and not self._passing:
            before = target.points.at(pc - behind, software=True)
            if before:
                # The stub reports where the int3 ended; the instruction there is yet to run.
                name = target.processor.registers(reply.thread).layout.role(Role.PC).name
                target.processor.write(reply.thread, name, pc - behind)
                return before
        return target.points.at(pc)


def _stop_at(point: Point, stop: Stop) -> Stop:
    match point:
        case Breakpoint():
            return replace(stop, breakpoint=point)
        case Watchpoint():
            return replace(stop, watchpoint=point)
    return stop
