"""Running the target: resume, step, wait, interrupt.

Contents: stepping over one's own breakpoints, the order of resumes and stops, and conditions. What
a stop reply means is in ``stop_report``, how a stub is told to resume in ``resumes``; inserting
breakpoints is the business of ``breakpoints``.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from time import monotonic
from typing import TYPE_CHECKING, Final

from rsp.arch.flags import Cr0
from rsp.arch.modes import possible_modes
from rsp.ctrl_c import held
from rsp.errors import (
    LocalProtocolError,
    RegisterUnavailable,
    RspError,
    RspTimeout,
    StubError,
    UnsupportedCommand,
)
from rsp.run.arming import rearm
from rsp.run.forks import FORKS, Forks
from rsp.run.points import Breakpoint, Point, Watch
from rsp.run.resumes import Resume, Resumes
from rsp.run.stop import NOT_DELIVERED, Stop, StopReason, Thread
from rsp.run.stop_report import Doing, describe, stop_at
from rsp.wire import commands, replies, stops
from rsp.wire.commands import ActionKind
from rsp.wire.limits import InterruptWay
from rsp.wire.signals import Signal
from rsp.wire.threads import ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rsp.arch.registers import Registers
    from rsp.arch.siginfo import SigInfo
    from rsp.inferior.live import LiveInferior
    from rsp.run.breakpoints import Breakpoints, Inserted
    from rsp.run.stop import ThreadOwner
    from rsp.symbols.at_pc.source_position import Position
    from rsp.wire.replies import Reply
    from rsp.wire.threads import ThreadId


logger: Final = logging.getLogger("rsp.run")


_NO_CHILDREN: Final = "No unwaited-for children left"


class Execution:
    """Runs a target, and tells what its stops are.

    Args:
        inferior: whose.
        points: its breakpoints and watchpoints.
        owner: whose threads the stops are of; what conditions are called with.
        stop: the answer to ``?``.
    """

    def __init__(
        self, inferior: LiveInferior, points: Breakpoints, owner: ThreadOwner, stop: Reply
    ) -> None:
        self.points = points
        self._inferior = inferior
        self._owner = owner
        self._session = inferior.session
        self._resumes = Resumes(inferior.session)
        self._forks = Forks(inferior, points)
        self._lifted: list[Inserted] = []
        self._passing = False  # a step over one's own breakpoint is under way
        self._stepping = False
        self._by_instruction = False  # and what was stepped was an instruction, not a line
        self._interrupting = False
        self._under_way = False  # a resume was sent, and its stop has not been taken
        self._echo_due = False  # QEMU will report the last watchpoint once more
        self._hit: Sequence[Point] = ()  # the points that the last stop is at
        self._before: Registers | None = None  # where a step that may be such an echo began
        self._goal = Resume(kind=ActionKind.CONTINUE)  # once all threads are past theirs
        self._sent = self._goal  # the last resume
        self._to_pass: list[ThreadId | None] = []  # who has yet to step over a breakpoint for it
        self._standing: dict[ThreadId, int] = {}  # who has reported a breakpoint, and where
        self._judging = False  # a condition is asked
        self._pausing = False  # it is stopped only to run on
        self._stops = 0
        self._modes: dict[ThreadId | None, object] = {}
        inferior.is_running = lambda: self.running
        inferior.take_in = self.take_in
        inferior.arrival = lambda: self.stop.position
        self.stop = self._describe(stop, attached=True)

    @property
    def stop(self) -> Stop:
        """The last stop."""
        return self._stop

    @stop.setter
    def stop(self, stop: Stop) -> None:
        self._stop = stop
        self._inferior.stopped = stop.thread.thread_id if stop.thread is not None else None
        self._inferior.stepped = stop.reason is StopReason.STEP
        self._inferior.absence = stop.absence or None

    @property
    def has_run(self) -> bool:
        """Whether the target has run, or is about to, since we came."""
        return self._stops > 0 or self._session.running

    @property
    def steps(self) -> bool:
        """Whether the last resume was a step, which ends in a stop by itself."""
        return self._sent.kind is not ActionKind.CONTINUE

    @property
    def running(self) -> bool:
        """Whether the target runs; see ``Target.running``."""
        return self._take_all(acts=False)

    def take_in(self) -> bool:
        """Take in what has come meanwhile, and do what it asks for; return whether it runs."""
        return self._take_all(acts=True)

    def _take_all(self, *, acts: bool) -> bool:
        session = self._session
        if session.running:
            session.drain()
        elif not session.stops:
            return False
        while session.stops and not session.running:
            if not acts and not self._is_final(session.stops[0]):
                return True
            self._take()
        return session.running

    def _is_final(self, reply: Reply) -> bool:
        """Whether a stop that has come can be taken in without a word to the target but questions.

        Else it is for who lets the target run, or waits for it, to say what follows: a condition is
        asked, a step goes on, a breakpoint is put back or taken out.
        """
        if not self._under_way or isinstance(reply, stops.Exited | stops.Terminated):
            return True
        if self._passing or self._lifted or self._echo_due or self._before is not None:
            return False
        if not isinstance(reply, stops.Stopped) or reply.reason in FORKS:
            return False
        if not self.points.any:
            return True
        moved = self.points.in_memory or self._inferior.stub.pc_after_breakpoint
        if moved or not self.points.are_plain:
            return False
        if reply.address is not None and not self.points.watching(reply.address, tuple(Watch)):
            return False
        self._inferior.thread_list.stopped_in(reply.thread)
        return self._modes.get(reply.thread) in (None, self._mode_of(reply.thread))

    def resume(self) -> None:
        """Let the target run."""
        self._begin()
        with self._stopping_on_ctrl_c():
            self._run_on()
            self._pass()

    def enter_kdb(self) -> None:
        """Let kdb have the line, which takes all breakpoints out; the next stop puts ours back."""
        self._begin()
        with held():
            self._lifted = self.points.lift_all()
            self._session.tell(commands.EnterKdb())
            self._under_way = True
            self._inferior.forget()

    def _pass(self) -> None:
        # The step over one's own breakpoint must not be left to `wait`, which may never be called;
        # but an instruction that waits (hlt) is.
        deadline = monotonic() + self._session.connection.limits.timeout
        while self._passing and (left := deadline - monotonic()) > 0:
            if not self._session.wait_for_stop(left) or self._take():
                return

    def step(
        self,
        thread: ThreadId | None,
        *,
        others: bool = False,
        within: tuple[int, int] | None = None,
    ) -> None:
        """Let one thread execute one instruction.

        Args:
            thread: which one.
            others: whether the other threads run meanwhile; they stand still where the step is over
                a breakpoint, or they would miss it.
            within: go on stepping in this range of addresses, if the stub can do it by itself.
        """
        self._begin()
        self._stepping = True
        self._by_instruction = not others
        here = self._pc(thread) if self.points.any or within else None
        standing = bool(self._breakpoints_at(here))
        if within is not None and (here is None or not within[0] <= here < within[1] or standing):
            within = None
        if within is not None and (
            self._signal_to_deliver() is not None or not self._resumes.can_step_ranges
        ):
            within = None
        self._goal = Resume(
            kind=ActionKind.STEP if within is None else ActionKind.RANGE_STEP,
            thread=thread,
            others=others and not standing,
            within=within,
        )
        self._to_pass = self._others_standing(thread) if self._goal.others else []
        self._go_on()

    def settle(self) -> None:
        """Take the echo of a watchpoint, or it would stop the target when we are gone.

        Raises:
            The same as ``wait``.
        """
        if not self._echo_due:
            return
        self._echo_due = False
        self.step(self._inferior.stopped)
        try:
            self.wait(self._session.connection.limits.timeout)
        except RspTimeout:  # it was no echo, and the instruction waits (hlt)
            self.interrupt()

    def wait(self, seconds: float | None, *, timeout: float | None = None) -> Stop:
        """Wait until the target stops for good.

        Args:
            seconds: how long; None for ever.
            timeout: what the user gave, of which these are the rest.

        Raises:
            RspTimeout: it still runs.
            StubError: the stub refused to let it run.
        """
        deadline = None if seconds is None else monotonic() + seconds
        with self._stopping_on_ctrl_c():
            while self.take_in():
                left = None if deadline is None else max(0.0, deadline - monotonic())
                if not self._session.wait_for_stop(left):
                    timeout = timeout or seconds or 0.0
                    way = self._session.connection.limits.interrupt
                    raise RspTimeout(
                        f"the target still runs after {timeout:.3g} s; wait() goes on waiting, "
                        + (
                            "interrupt() stops it"
                            if way is not InterruptWay.NONE
                            else "and only a breakpoint or a signal from outside (SIGTRAP) stops "
                            "it: this stub does not listen while its target runs"
                        ),
                        timeout=timeout,
                    )
                self._take()
        return self.stop

    def end_step(self, stop: Stop) -> Stop:
        """Make what is known now of the last stop that stop."""
        self.stop = stop
        return stop

    def interrupt(self) -> Stop:
        """Stop the running target.

        Raises:
            RspTimeout: it does not stop.
            UnsupportedCommand: the line cannot carry what would stop it.
        """
        limits = self._session.connection.limits
        left = limits.timeout
        if self.take_in():
            self._interrupting = True
            try:
                self._session.interrupt()
            except UnsupportedCommand:
                self._interrupting = False
                raise
            # valgrind loses a 0x03 that comes in one piece with the resume: once more, then.
            if limits.interrupt is InterruptWay.CTRL_C and left > limits.retransmit_after:
                with suppress(RspTimeout):
                    return self.wait(limits.retransmit_after)
                left -= limits.retransmit_after
                self._session.interrupt()
        return self.wait(left)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have the target stand still in the block, and then go on with what it was doing.

        Where it stops by itself meanwhile, it stands there: ``wait`` returns that stop.

        Raises:
            RspTimeout, UnsupportedCommand: it cannot be stopped.
        """
        if not self.take_in():
            yield
            return
        goal, stepping, by_instruction = self._goal, self._stepping, self._by_instruction
        self._pausing = True
        try:
            self.interrupt()
        finally:
            self._pausing = False
        try:
            yield
        finally:
            if self.stop.reason is not StopReason.INTERRUPT:
                self.points.remove_internal()
            elif stepping:
                self._begin()
                self._goal, self._stepping, self._by_instruction = goal, True, by_instruction
                self._to_pass = []
                self._go_on()
            else:
                self.resume()

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
        if self.take_in():
            ways = self._inferior.ways_to_stop
            raise LocalProtocolError(f"the target runs already: {ways} first")
        if self.stop.ended:
            raise LocalProtocolError(f"{self.stop.absence}, and connect anew")
        if self._judging:
            raise LocalProtocolError(
                "a breakpoint's condition must not let the target run: it says whether to stop"
            )
        self._inferior.prepare()
        self._stepping = self._by_instruction = False
        self._passing = self._interrupting = False

    def _run_on(self) -> None:
        thread = self._inferior.stopped
        self._goal = Resume(kind=ActionKind.CONTINUE)
        # The echo comes at once, and is taken with a step.
        standing = self._echo_due or (self.points.any and self._breakpoints_at(self._pc(thread)))
        self._to_pass = [thread] if standing else []
        self._to_pass += self._others_standing(thread)
        self._go_on()

    def _others_standing(self, thread: ThreadId | None) -> list[ThreadId | None]:
        """Return who else stands on a breakpoint that it has reported, and would report again."""
        if self._signal_to_deliver() is not None:  # which goes out with the first resume
            return []
        return [
            other
            for other, pc in self._standing.items()
            if other != thread and self.points.at(pc) and self._pc(other) == pc
        ]

    def _breakpoints_at(self, pc: int | None) -> Sequence[Point]:
        return () if pc is None else self.points.at(pc)

    def _pc(self, thread: ThreadId | None) -> int | None:
        """Return where a thread is; None where the stub gives no pc of it, or it has ended."""
        try:
            return self._inferior.processor.registers(thread).pc
        except (StubError, RegisterUnavailable):
            return None

    def _go_on(self) -> None:
        """Let the next thread step over its breakpoint, or do at last what all this is for."""
        goal, points = self._goal, self.points
        with held():
            self._passing = bool(self._to_pass)
            if self._to_pass:
                thread = self._to_pass.pop(0)
                self._lift(thread)
                self._send(Resume(kind=ActionKind.STEP, thread=thread, others=False))
                return
            if goal.kind is ActionKind.STEP and not goal.others and points.any:
                self._lift(goal.thread)
            self._send(goal)

    def _lift(self, thread: ThreadId | None) -> None:
        points = self.points
        if points.any and (pc := self._pc(thread)) is not None:
            self._lifted = points.lift(pc)

    def _send(self, goal: Resume) -> None:
        try:
            self._note_watched()
            self._send_resume(goal)
        except (RspError, KeyboardInterrupt):
            if self._session.usable and not self._session.running:
                self._put_back()
            raise
        self._under_way, self._sent = True, goal
        if goal.others or goal.thread is None:
            self._standing.clear()
        else:
            self._standing.pop(goal.thread, None)
        self._inferior.forget()

    def _note_watched(self) -> None:
        """Note what is watched; what was read at this stop is still known, and costs nothing."""
        inferior, thread = self._inferior, self._inferior.stopped

        def peek(address: int, length: int) -> bytes:
            inferior.thread_list.focus(thread)
            return inferior.pages.read_exactly(address, length)

        self.points.note_watched(peek)

    def _send_resume(self, goal: Resume) -> None:
        stopped = self._inferior.stopped
        self._before = None
        if self._echo_due:
            self._before = self._inferior.processor.registers(stopped)
        elif self._lifted and self._inferior.stub.echoes_watchpoints:
            self._before = self._inferior.processor.registers(goal.thread)
        self._echo_due = False
        self._resumes.send(goal, signal=self._signal_to_deliver(), stopped=stopped)

    def _signal_to_deliver(self) -> int | None:
        """Return the signal that a process was about to get when it stopped: gdb's default."""
        if not self._inferior.stub.delivers_signals or self.stop.reason is not StopReason.SIGNAL:
            return None
        return None if self.stop.signal in NOT_DELIVERED else self.stop.signal

    # --- stops ---

    def thread_of(self, thread: ThreadId | None) -> Thread | None:
        """Return the Thread of an id."""
        return None if thread is None else Thread(self._owner, thread)

    def _take(self) -> bool:
        """Make the reply that waits the current stop; False when the target runs on instead."""
        with held():
            taken = self._arrive(self._session.stops.popleft())
        if taken is None:
            taken = self._decide()
        if taken and not self._pausing:
            self.points.remove_internal()
        return taken

    def _decide(self) -> bool:
        """Ask the conditions of what was hit whether to stop; False when the target runs on."""
        hit, self._hit = self._hit, ()
        true = self._judge(hit)
        if true and isinstance(true[0], Breakpoint) and true[0].lasting:
            # It was to see that the program is in place, and others are here only since then.
            pc = self._inferior.processor.registers(self._inferior.stopped).pc
            true = self._judge([each for each in self.points.at(pc) if not each.internal])
            self.stop = replace(self.stop, reason=StopReason.BREAKPOINT)
        if true:
            self.stop = stop_at(self._inferior, true[0], self.stop)
            return True
        if self._stepping or self._interrupting:
            reason = StopReason.STEP if self._stepping else StopReason.INTERRUPT
            self.stop = replace(
                self.stop, reason=reason, breakpoint=None, watchpoint=None, old=None, new=None
            )
            return True
        self._run_on()
        return False

    def _judge(self, hit: Sequence[Point]) -> list[Point]:
        """Return the points that the target is to stop at, and count them.

        As in gdb, a stop where the condition is false is no hit, and one where it fails is.
        """
        true: list[Point] = []
        failure: Exception | None = None
        for point in hit:
            self._judging = True
            try:
                holds = not point.retired and (
                    point.condition is None or point.condition(self._owner)
                )
            except Exception as error:  # noqa: BLE001 - it is raised once all are asked
                if failure is None:
                    error.add_note(
                        f"in the condition of breakpoint {point.number} ({point.what}), where the "
                        "target stands still now"
                    )
                    failure = error
                holds = True
            finally:
                self._judging = False
            if holds:
                point.hits += 1
                true.append(point)
        for point in true:
            if isinstance(point, Breakpoint) and point.temporary:
                self.points.remove(point)
        if failure is not None:
            self.stop = stop_at(self._inferior, true[0], self.stop)
            raise failure
        return true

    def _arrive(self, reply: Reply) -> bool | None:
        """Do what a stop asks for at once; None where it is for conditions to say what follows."""
        inferior = self._inferior
        inferior.forget()
        under_way, self._under_way = self._under_way, False
        if under_way and isinstance(reply, stops.Stopped) and reply.reason in FORKS:
            self._run_on_from_fork(reply)
            return False
        if under_way and self._was_killed_alone(reply):
            self._forks.forget()
            self._under_way, self._sent = True, Resume(kind=ActionKind.CONTINUE)
            self._resumes.send(self._sent, signal=None, stopped=None)
            return False
        if isinstance(reply, replies.ErrorReply | replies.Unsupported | stops.NoResumed):
            self._put_back()
            code = reply.code if isinstance(reply, replies.ErrorReply) else None
            why = "the stub refuses to let the target run"
            if inferior.stub.only_stopped_thread and self._resumes.selected != ALL:
                why = (
                    "this stub executes instructions of no thread but the one that stopped, and "
                    f"not of {self._resumes.selected}: to step there, let the target run to a "
                    "breakpoint in it"
                )
            raise StubError(why, code=code)
        if isinstance(reply, stops.Stopped):
            inferior.thread_list.stopped_in(reply.thread)
            if self._is_echo(reply):
                self._send(Resume(kind=ActionKind.STEP, thread=reply.thread, others=False))
                self._before = None  # once: an instruction may change nothing (a jump to itself)
                return False
        self._stops += 1
        stop = self._describe(reply)
        if not under_way:
            # A report that nobody asked for: no hit is counted twice, and nothing is resumed.
            self.stop = stop
            if stop.ended:
                self.points.forget_all()
            return True
        passing, self._passing = self._passing, False
        self.stop = stop
        self._echo_due = (
            stop.reason is StopReason.WATCHPOINT
            and (passing or self._stepping)
            and inferior.stub.echoes_watchpoints
        )
        executes = isinstance(reply, stops.Stopped) and reply.reason is stops.StopReason.EXEC
        if stop.ended or executes:
            # What was in the memory has gone with it.
            if executes and len(self.points):
                logger.warning("another program is executed now, and no breakpoint is in it")
            self._lifted = []
            self._forks.forget()
            self.points.forget_all()
            return True
        self._forks.return_memory()
        self._put_back()
        self.points.remove_retired()
        if self.points.any and self.note_mode():
            rearm(inferior, self.points)
        if passing and stop.reason is StopReason.STEP:
            self._go_on()
            return False
        # A watchpoint that is none of ours is passed, as by gdb: QEMU keeps a hit of another CPU
        # until that runs, and reports what it then finds where the watchpoint was (7.2; an address
        # of its own heap).
        foreign = stop.reason is StopReason.WATCHPOINT and stop.address is not None
        return None if self._hit or foreign else True

    def _run_on_from_fork(self, event: stops.Stopped) -> None:
        """Let the children go, and the target do what it was doing."""
        self._inferior.thread_list.stopped_in(event.thread)
        self._forks.take(event, self._lifted)
        borrower = self._forks.borrower
        goal = self._sent
        if borrower is not None:
            goal = Resume(kind=ActionKind.CONTINUE, thread=borrower, others=False)
        # A signal has been delivered before, and a step ends behind the system call.
        self._resumes.send(goal, signal=None, stopped=self._inferior.stopped)
        self._under_way = True
        self._inferior.forget()

    def _was_killed_alone(self, reply: Reply) -> bool:
        """Return whether the process has ended by a signal while one thread of it ran alone.

        That was stepped with the signal, or waits for its vfork. gdbserver (13.1) waits for that
        thread only, and finds it gone. How the process ended it tells as soon as it waits for the
        others too, which end with it.
        """
        alone = not self._sent.others and self._sent.thread is not None
        nobody_left = isinstance(reply, stops.NoResumed) or (
            isinstance(reply, replies.ErrorReply) and reply.text.startswith(_NO_CHILDREN)
        )
        if self._forks.borrower is not None:
            return nobody_left
        return alone and nobody_left and self._signal_to_deliver() is not None

    def note_mode(self) -> bool:
        """Note in which mode the stopped thread's CPU is; return whether it was in another one.

        Whether it pages counts, and 16 or 32 bits, which no stub tells, do not.
        """
        thread = self._inferior.stopped
        mode = self._mode_of(thread)
        before, self._modes[thread] = self._modes.get(thread, mode), mode
        return before != mode

    def _mode_of(self, thread: ThreadId | None) -> object:
        registers = self._inferior.processor.registers(thread)
        return possible_modes(registers), (registers.get("cr0") or 0) & Cr0.PG

    def _put_back(self) -> None:
        lifted, self._lifted = self._lifted, []
        self.points.put_back(lifted)

    def _describe(self, reply: Reply, *, attached: bool = False) -> Stop:
        doing = Doing(
            stepping=self._stepping, passing=self._passing, interrupting=self._interrupting
        )
        thread = self.thread_of(reply.thread) if isinstance(reply, stops.Stopped) else None
        stop, self._hit = describe(
            self._inferior, self.points, reply, None if attached else doing, thread
        )
        if not isinstance(reply, stops.Stopped):
            return stop
        if reply.thread is not None and any(isinstance(each, Breakpoint) for each in self._hit):
            self._standing[reply.thread] = self._inferior.processor.registers(reply.thread).pc
        return replace(
            stop,
            _find=self._finder(reply.thread, self._hit),
            _fetch=cache(partial(self._siginfo, self._stops, reply.thread)),
        )

    def _finder(
        self, thread: ThreadId | None, hit: Sequence[Point]
    ) -> Callable[[], Position | None]:
        """Return what finds out where the stop of a thread is, as long as it is the last one."""
        copies = self._by_instruction or self._stops == 0
        return cache(partial(self._position, self._stops, thread, hit, copies))

    def _position(
        self, stops: int, thread: ThreadId | None, hit: Sequence[Point], copies: bool
    ) -> Position | None:
        from rsp.run.entered import stopped_at

        if stops != self._stops or self.running:
            raise LocalProtocolError(
                "where an earlier stop was in the program was not asked for then: take .position, "
                ".line or .function before the target runs on"
            )
        return stopped_at(self._inferior, thread, hit, copies=copies)

    def _siginfo(self, stops: int, thread: ThreadId | None) -> SigInfo | None:
        inferior = self._inferior
        if inferior.stub.features.get("qXfer:siginfo:read") is not True:
            return None
        if stops != self._stops or self.running:
            raise LocalProtocolError(
                "the siginfo of an earlier stop was not asked for then: take .siginfo before the "
                "target runs on"
            )
        from rsp.arch.siginfo import SigInfo

        inferior.thread_list.focus(thread)
        data = self._session.transfer("siginfo")
        if data is None:
            return None
        arch = inferior.processor.registers(thread).layout.arch
        return SigInfo.parse(data, word_size=4 if arch == "i386" else 8)

    def _is_echo(self, reply: stops.Stopped) -> bool:
        """Whether a step ended before it began.

        QEMU's TCG leaves its debug interrupt pending when a step meets a watchpoint, and the next
        resume stops before it has begun; and a step ends at once when another CPU or the APIC has
        something for this one (7.2; gdb shows a SIGTRAP there, and counts a breakpoint twice).
        """
        before, self._before = self._before, None
        return (
            before is not None
            and not self._interrupting
            and (reply.signal, reply.reason) == (Signal.SIGTRAP, stops.StopReason.SIGNAL)
            and self._inferior.processor.registers(reply.thread) == before
        )
