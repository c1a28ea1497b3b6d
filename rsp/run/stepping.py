"""Stepping by source lines: into calls, over them, and to the end of a function.

Contents: the rules by which a step ends, which are gdb's (infrun.c, process_event_stop_test of gdb
13.1), so that a step of ours stops where one of gdb's does. Where a pc is in the program is the
business of ``position``, whom a frame was called by that of `rsp.unwind`, and letting the target
run that of ``execution``.

A step executes one instruction after another, or lets the stub do so within the line's range of
addresses, and a called function runs to its return address.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Final

from rsp.errors import BadImage, SymbolError
from rsp.inferior.frame_zero import executing
from rsp.inferior.locations import Where
from rsp.inferior.position import position_of
from rsp.run.points import BreakpointKind
from rsp.run.stop import Stop, StopReason
from rsp.symbols.at_pc.source_position import Position
from rsp.symbols.types import types
from rsp.unwind.activation import Activation, EndOfStack
from rsp.unwind.caller import caller_of
from rsp.wire import commands, replies

if TYPE_CHECKING:
    from rsp.arch.registers import Registers
    from rsp.inferior.live import LiveInferior
    from rsp.run.execution import Execution
    from rsp.symbols.at_pc.source_position import LineKey
    from rsp.wire.threads import ThreadId

logger: Final = logging.getLogger("rsp.run")

# What compilers call and jump through instead of an indirect branch or a return (gdb: i386-tdep.c,
# x86_in_indirect_branch_thunk): a step goes on through it.
_THUNK: Final = re.compile(
    r"__x86_(?:return_thunk|indirect_thunk(?:_(?:array|r(?:[a-d]x|[sd]i|[sb]p|[89]|1\d)))?)"
)

_MOST_ARGUMENTS: Final = 4096
"""Bytes; the stacks of two tasks are farther apart, also in a kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _FrameId:
    """Which activation of which function it is; inlined copies are frames within it.

    Attributes:
        stack: what the stack pointer is when it has returned; None for the outermost.
        function: where that function begins.
        copies: the inlined copies that the pc is in, the outermost first.
    """

    stack: int | None
    function: int
    copies: tuple[int, ...] = ()

    @property
    def real(self) -> _FrameId:
        """The function itself."""
        return replace(self, copies=())


class _View:
    """What there is to know of a stopped thread: its position, its frame and its caller's.

    Args:
        inferior: whose.
        thread: the thread.
        position: where it is, if that is known.
    """

    def __init__(
        self, inferior: LiveInferior, thread: ThreadId | None, position: Position | None = None
    ) -> None:
        self._inferior = inferior
        self._thread = thread
        registers = inferior.registers_of(thread)
        self.pc = registers.pc
        self.sp = registers.sp
        self.position = position or Position(inferior.symbols, self.pc)

    @cached_property
    def activation(self) -> Activation:
        """The function with its registers."""
        registers = self._inferior.registers_of(self._thread)
        return executing(self._inferior, self._thread, registers)

    @cached_property
    def caller(self) -> Activation | None:
        """The caller, None where there is none, or none that can be told."""
        return self._caller_of(self.activation)

    @cached_property
    def frame(self) -> _FrameId:
        """The innermost frame that has been entered."""
        caller = self.caller
        return replace(_identity(caller, self.position), copies=self.position.copies)

    @property
    def caller_frame(self) -> _FrameId | None:
        """The function that called this one."""
        caller = self.caller
        if caller is None:
            return None
        return _identity(
            self._caller_of(caller), Position(self._inferior.symbols, caller.lookup_pc)
        )

    @property
    def is_in_thunk(self) -> bool:
        """Whether the pc is in what stands for an indirect branch."""
        symbol = self._inferior.symbols.lookup(self.pc)
        return symbol is not None and _THUNK.fullmatch(symbol.name) is not None

    def _caller_of(self, activation: Activation) -> Activation | None:
        try:
            return caller_of(activation, self._inferior.find_entry_code())
        except (EndOfStack, BadImage):
            return None


def _identity(caller: Activation | None, position: Position) -> _FrameId:
    bounds = position.bounds
    stack = caller.registers.get(caller.machine.sp) if caller is not None else None
    return _FrameId(stack=stack, function=bounds.entry if bounds is not None else position.pc)


class Stepping:
    """Steps one thread of a target by source lines.

    Args:
        inferior: whose.
        execution: what lets it run.
    """

    def __init__(self, inferior: LiveInferior, execution: Execution) -> None:
        self._inferior = inferior
        self._execution = execution
        self._step_flags: int | None = None  # QEMU's, as they were; None where they are untouched

    def step_line(self, *, over: bool, timeout: float | None) -> Stop:
        """Run the current thread to the begin of another source line.

        Args:
            over: whether functions that are called run to their end.
            timeout: seconds for the whole of it.

        Raises:
            RspTimeout: it did not come there in time; the target still runs.
            SymbolError: nothing says what the line, or even the function, is.
        """
        deadline = _Deadline(timeout)
        thread = self._inferior.current
        position = position_of(self._inferior, thread)
        if not over and position.hidden:
            # The copy begins right here: only what is shown changes.
            return self._ended(position.revealed())
        self._set_flags()
        return _Walk(self._inferior, self._execution, thread, position, over, deadline).run()

    def finish(self, *, timeout: float | None) -> Stop:
        """Run to the end of the function that the current thread is in, or of the inlined copy.

        Raises:
            RspTimeout: it still runs.
            SymbolError: nothing says who has called it.
        """
        deadline = _Deadline(timeout)
        thread = self._inferior.current
        view = _View(self._inferior, thread, position_of(self._inferior, thread))
        if view.position.copies:
            self._set_flags()
            walk = _Walk(self._inferior, self._execution, thread, view.position, True, deadline)
            return walk.run_out_of_copy()
        caller = view.caller
        if caller is None:
            raise SymbolError(
                f"nothing says who has called {view.position.function or hex(view.pc)}, so that "
                "there is no end of it to run to: it is the outermost frame, or the stack cannot "
                "be read; set a breakpoint instead"
            )
        stop = _run_to(self._inferior, self._execution, thread, caller.pc, caller.sp, deadline)
        if stop.reason is not StopReason.STEP:
            return stop
        return self._execution.end_step(
            replace(stop, return_value=_returned(self._inferior.registers_of(thread), view))
        )

    def restore(self) -> None:
        """Give QEMU its own step flags back.

        Raises:
            The same as ``Session.ask``.
        """
        flags, self._step_flags = self._step_flags, None
        if flags is not None:
            self._inferior.session.ask(commands.SetStepFlags(flags=flags))

    def _ended(self, position: Position) -> Stop:
        """Make a step's end of the last stop, of which nothing else is true any more."""
        return self._execution.end_step(
            Stop(
                reason=StopReason.STEP,
                signal=self._execution.stop.signal,
                thread=self._execution.thread_of(self._inferior.current),
                _find=lambda: position,
            )
        )

    def _set_flags(self) -> None:
        """Keep interrupts and timers out of single steps, where the stub can (QEMU)."""
        inferior = self._inferior
        if self._step_flags is not None or not inferior.stub.step_flags:
            return
        bits = inferior.session.ask(commands.QueryStepBits())
        flags = inferior.session.ask(commands.QueryStepFlags())
        if not isinstance(bits, replies.StepBits) or not isinstance(flags, replies.StepFlags):
            return
        wanted = bits.enable | (bits.no_irq or 0) | (bits.no_timer or 0)
        if flags.flags != wanted:
            inferior.session.ask(commands.SetStepFlags(flags=wanted))
        self._step_flags = flags.flags


def _returned(registers: Registers, view: _View) -> int | None:
    """Return what is in the register for integers, as the type of the function has it."""
    word = view.activation.machine.word_size
    raw = registers["rax" if word == 8 else "eax"]
    try:
        declared = view.position.function_type
        if raw is None or declared is None:
            return raw
        returns = declared.returns.resolved
        size = returns.size
        signed = isinstance(returns, types.Integer | types.Enum) and returns.signed
    except BadImage:
        return raw
    if not isinstance(returns, types.Integer | types.Enum | types.Pointer):
        return None
    if size is None or not 0 < size <= word:
        return None
    raw &= (1 << 8 * size) - 1
    return raw - (raw >> 8 * size - 1 << 8 * size) if signed else raw


class _Walk:
    """One step by a line, over as many stops as it takes.

    Args:
        inferior: whose.
        execution: what lets it run.
        thread: who steps.
        position: where it stands.
        over: whether functions that are called run to their end.
        deadline: when to give up.
    """

    def __init__(
        self,
        inferior: LiveInferior,
        execution: Execution,
        thread: ThreadId | None,
        position: Position,
        over: bool,
        deadline: _Deadline,
    ) -> None:
        self._inferior = inferior
        self._execution = execution
        self._thread = thread
        self._over = over
        self._deadline = deadline
        self._destination: tuple[int, int | None] | None = None  # an address, a stack pointer
        self._ends_there = False
        view = _View(inferior, thread, position)
        self._frame = view.frame
        self._line = position.key
        row, bounds = position.row, position.bounds
        if row is not None:
            # gcc leaves out rows behind inlined copies now and then (its PR 98780).
            end = row.end if position.call is None else min(row.end, position.call.end)
            self._range = (row.begin, end)
        elif bounds is not None:
            self._range = (bounds.begin, bounds.end)
        else:
            raise SymbolError(
                f"nothing says which line or function {view.pc:#x} is in: step() executes one "
                "instruction"
            )

    def run(self) -> Stop:
        """Go on until the step has ended."""
        while True:
            stop = self._resume()
            if stop.reason is not StopReason.STEP:
                return stop
            view = _View(self._inferior, self._thread)
            if self._ends_there:
                return self._end(stop, view.position)
            if self._range[0] <= view.pc < self._range[1]:
                continue
            position = self._judge(view)
            if position is not None:
                return self._end(stop, position)

    def _end(self, stop: Stop, position: Position) -> Stop:
        return self._execution.end_step(replace(stop, _find=lambda: position))

    def run_out_of_copy(self) -> Stop:
        """Go on until the inlined copy that the pc is in has been left."""
        self._frame = replace(self._frame, copies=self._frame.copies[:-1])
        self._line = None
        # An empty range: what is not the outer frame itself is a part of the copy.
        self._range = (0, 0)
        return self.run()

    def _judge(self, view: _View) -> Position | None:
        """Return where the step has ended; None where it goes on, maybe to a destination."""
        position = view.position
        if view.is_in_thunk:
            self._set_out_of_thunk(view)
            return None
        if view.frame.real != self._frame.real and view.caller_frame == self._frame.real:
            return self._called(view)
        row = position.row
        if row is None:
            if not self._over and position.function is None and view.caller is not None:
                return self._run_to_caller(view)
            return position
        if view.frame == self._frame and position.hidden:
            # The copy begins at the call's line, which may be the one that was left.
            same = position.key == self._line
            if self._over:
                return None if same else position
            return position.revealed() if same else position
        if position.copies and view.frame != self._frame and self._is_within(view.frame):
            return None if self._over else position
        line: LineKey | None = row.key
        refresh = True
        if view.pc == row.begin and row.key != self._line:
            if row.is_statement:
                return position
            if view.frame == self._frame:
                refresh = False  # a better place to stop will come
            else:
                line = None
        # In the middle of a statement: to its end, from this frame.
        self._range = (row.begin, row.end)
        if refresh:
            self._frame, self._line = view.frame, line
        return None

    def _is_within(self, frame: _FrameId) -> bool:
        """Whether a frame is a copy within the one that is stepped through."""
        copies = self._frame.copies
        return frame.real == self._frame.real and frame.copies[: len(copies)] == copies

    def _called(self, view: _View) -> Position | None:
        """Go over a function that was called, or to where its frame is set up."""
        position = view.position
        bounds = position.bounds
        if self._over or bounds is None or position.row_at(bounds.begin) is None:
            return self._run_to_caller(view)
        after = position.after_prologue()
        if after == view.pc:
            return position
        self._destination = (after, None)
        self._ends_there = True
        return None

    def _set_out_of_thunk(self, view: _View) -> None:
        """Go on to where a thunk jumps to; or over it and that, where it was called."""
        if not self._over:
            return
        word = view.activation.machine.word_size
        data = view.activation.read_memory(view.sp, word)
        back = int.from_bytes(data or b"", "little")
        bounds = Position(self._inferior.symbols, back).bounds
        # Tables say nothing of thunks, which begin with the return address on the stack.
        if bounds is not None and bounds.entry == self._frame.function:
            self._destination = (back, view.sp + word)

    def _run_to_caller(self, view: _View) -> Position | None:
        caller = view.caller
        if caller is None:
            return view.position
        self._destination = (caller.pc, caller.sp)
        return None

    def _resume(self) -> Stop:
        """Run to the destination, or step, at once through the range if the stub can do that."""
        execution, thread = self._execution, self._thread
        if self._destination is not None:
            (address, stack), self._destination = self._destination, None
            return _run_to(self._inferior, execution, thread, address, stack, self._deadline)
        while True:
            execution.step(thread, others=True, within=self._range)
            stop = self._deadline.wait(execution)
            other = stop.thread.thread_id if stop.thread is not None else None
            if stop.reason is not StopReason.STEP or other in (None, thread):
                return stop
            # It has met a breakpoint that is not for it, or whose condition is false there.
            execution.step(other)
            stop = self._deadline.wait(execution)
            if stop.reason is not StopReason.STEP:
                return stop


def _run_to(
    inferior: LiveInferior,
    execution: Execution,
    thread: ThreadId | None,
    address: int,
    stack: int | None,
    deadline: _Deadline,
) -> Stop:
    """Let all threads run until one is at an address, or to another stop before that.

    Args:
        inferior: whose.
        execution: what lets it run.
        thread: which one is meant.
        address: where to.
        stack: the stack pointer that it must have come back to, or it is a deeper call of the same
            function, or on another stack; None for any.
        deadline: when to give up.

    Returns:
        A stop of the reason STEP where it has come there.
    """

    def arrived(_: object) -> bool:
        if None not in (inferior.stopped, thread) and inferior.stopped != thread:
            return False
        # A function may take its arguments from the stack with it.
        return stack is None or 0 <= inferior.registers_of(thread).sp - stack < _MOST_ARGUMENTS

    execution.points.add(
        Where(f"*{address:#x}", (address,)), BreakpointKind.AUTO, arrived, internal=True
    )
    execution.resume()
    return deadline.wait(execution)


class _Deadline:
    """When to give up: the timeout of a step, which has several waits; None for never."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._began = monotonic()

    def wait(self, execution: Execution) -> Stop:
        """Wait for the next stop of a step."""
        timeout = self._timeout
        if timeout is None:
            return execution.wait(None)
        left = max(0.0, timeout - (monotonic() - self._began))
        return execution.wait(left, timeout=timeout)
