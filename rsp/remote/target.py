"""A live target: what users hold.

Contents: the surface of the library: it hands each question to the part that answers it, and sees
to it that nothing of ours stays in the target. How things are done is in `rsp.inferior`, `rsp.run`
and `rsp.session`.
"""

from __future__ import annotations

import atexit
import logging
import os
import warnings
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, SupportsIndex, TypeAlias, overload
from weakref import WeakKeyDictionary

from rsp import arguments
from rsp.ctrl_c import held
from rsp.errors import (
    NoHardwareBreakpoint,
    RspError,
    UnsupportedCommand,
)
from rsp.inferior.live import LiveInferior
from rsp.inferior.locations import address_of, locate, watched_range
from rsp.remote.debuggee import Debuggee
from rsp.run.arming import insert
from rsp.run.breakpoints import Breakpoints
from rsp.run.execution import Execution
from rsp.run.points import Breakpoint, BreakpointKind, Watch, Watchpoint
from rsp.session.detach import qemu_ran
from rsp.wire.limits import InterruptWay

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from _typeshed import ReadableBuffer

    from rsp.arch.modes import CpuMode
    from rsp.run.stepping import Stepping
    from rsp.run.stop import Stop
    from rsp.session.console import ConsoleText
    from rsp.session.handshake import Greeting
    from rsp.session.session import Session
    from rsp.symbols.table import SymbolTable
    from rsp.wire.threads import ThreadId

logger: Final = logging.getLogger("rsp.remote")

ModeName: TypeAlias = Literal[
    "REAL16", "PROTECTED16", "PROTECTED32", "COMPAT32", "LONG64", "UNKNOWN"
]


class OnExit(Enum):
    """What becomes of the target at the end of the ``with`` block, our breakpoints removed."""

    DETACH = "detach"
    """It runs on."""
    LEAVE_STOPPED = "leave stopped"
    """It stands still."""
    AS_FOUND = "as found"
    """It runs on if it ran when we came, and stands still if it did then; where nothing tells
    (`Target.found_running`), it runs on."""


class Target(Debuggee):
    """A target under a stub; made by ``rsp.connect``, used from one thread at a time.

    The examples of its methods are about the boot sector of `rsp.testing`, at the begin of its
    function ``tick``.
    """

    def __init__(
        self,
        session: Session,
        greeting: Greeting,
        *,
        symbols: SymbolTable | None = None,
        on_exit: OnExit = OnExit.DETACH,
    ) -> None:
        self._inferior = LiveInferior(session, greeting, symbols)
        self._points = Breakpoints(session, self._inferior.memory)
        self._on_exit = on_exit
        self._owner = 0  # the process that has to leave it
        self._warned = False
        self._execution = Execution(self.inferior, self.points, self, greeting.stop)
        self.points.paused = self._execution.paused
        self._stepping: Stepping | None = None
        if self.inferior.stopped is None and self.inferior.absence is None:
            self.inferior.select_first()
        if on_exit is OnExit.AS_FOUND:
            _ = self.found_running  # before it runs

    # --- what it is ---

    @property
    def inferior(self) -> LiveInferior:
        """What stands still at a stop; what other parts of the library read from."""
        return self._inferior

    @property
    def points(self) -> Breakpoints:
        """The breakpoints and watchpoints."""
        return self._points

    @property
    def session(self) -> Session:
        """The requests, for packets that this class has no method for."""
        return self.inferior.session

    @property
    def stop(self) -> Stop:
        """The last stop."""
        return self._execution.stop

    @property
    def running(self) -> bool:
        """Whether the target runs now."""
        return not self.inferior.closed and self._execution.running

    def __repr__(self) -> str:
        state = self.silence or f"stopped: {self.stop.summary}"
        return f"<Target {self.stub.name} at {self.session.transport.address}, {state}>"

    @property
    def found_running(self) -> bool | None:
        """Whether it ran when we came, so that it was we who stopped it; None where nothing tells.

        QEMU from 8.1 on does not tell who had paused a machine, it or its user: that is None.
        """
        session = self.session
        if session.found_running is None and self.stub.stops_for_client and session.usable:
            stands = not (self.inferior.closed or self._execution.has_run or self.inferior.absence)
            session.found_running = qemu_ran(session) if stands else None
        return session.found_running

    @property
    def console(self) -> ConsoleText:
        """The text that came between packets."""
        return self.session.console

    # --- threads ---

    # --- registers ---

    def write_register(self, name: str, value: SupportsIndex) -> None:
        """Write a register or sub-register of the current thread, and read it back.

        Raises:
            RegisterUnavailable: there is no such register.
            RegisterWriteError: it did not take the value.
            LocalProtocolError: the value does not fit, or the target runs.
            ArgumentError: it is no number.

        >>> target.write_register("al", 5)
        >>> hex(target.registers["rax"] & 0xFF)
        '0x5'
        """
        self.inferior.check()  # first: a stop that is taken in now may be another thread's
        self.write_register_of(self.inferior.current, name, value)

    def write_register_of(self, thread: ThreadId | None, name: str, value: SupportsIndex) -> None:
        """Write a register of a thread; see ``write_register``.

        >>> target.write_register_of(target.thread.thread_id, "rbx", 0x1234)
        >>> hex(target.registers["rbx"])
        '0x1234'
        """
        number = arguments.integer(value, "value", lowest=None, below=None)
        self.inferior.write_register(self._id_or_none(thread), name, number)

    # --- memory ---

    def write_memory(
        self, address: str | SupportsIndex, data: ReadableBuffer, *, physical: bool = False
    ) -> None:
        """Write memory; the same arguments and errors as ``read_memory``.

        >>> target.write_memory("greeting", b"64")
        >>> target.read_c_string("greeting")
        b'64, 32, 64: here we are'
        """
        self.inferior.write_memory(address_of(address, self.inferior), data, physical=physical)

    def monitor(self, command: str) -> str:
        """Run a command of the stub's own monitor (``qRcmd``) and return what it prints.

        Raises:
            UnsupportedCommand: the stub has no monitor.
            StubError: it refused the command.

        >>> target.monitor("info status").strip()
        'VM status: paused (debug)'
        """
        arguments.text(command, "command", "a command of the stub's monitor")
        self.inferior.check()
        text = self.session.monitor(command)
        self.invalidate()  # a monitor may change anything
        return text

    # --- the stack ---

    # --- breakpoints ---

    def breakpoint(
        self,
        where: str | SupportsIndex,
        *,
        kind: BreakpointKind | Literal["auto", "software", "hardware"] = BreakpointKind.AUTO,
        condition: Callable[[Any], bool] | None = None,
        temporary: bool = False,
    ) -> Breakpoint:
        """Insert a breakpoint; also a context manager, which removes it.

        Args:
            where: a linear address, or with symbols a function (``tcp_init_sock``), of which all
                inlined copies are meant, a line (``tcp.c:414``) or a distance from a symbol
                (``start_kernel+0x10``).
            kind: AUTO is by software, and by hardware where that would not survive: the code is not
                mapped yet, or what is there is not what the symbols' file has (a kernel that is not
                unpacked yet), or the stub refuses it; ``Breakpoint.reason`` says so. A member of
                `BreakpointKind`, or its name.
            condition: called with the Target at each hit; while it is false, the target runs on.
                What it raises stops the target, and comes out of ``resume`` or ``wait``.
            temporary: whether it is removed when the target stops at it.

        Raises:
            SymbolNotFound: no such name.
            MemoryFault, NoHardwareBreakpoint, UnsupportedCommand: the stub refuses it.
            LocalProtocolError: the target runs.
            ArgumentError: there can be no such place, kind or condition.

        >>> with target.breakpoint("tick") as point:
        ...     print(target.resume(timeout=60))
        ...
        breakpoint 2 (tick) SIGTRAP in thread p01.01
        >>> point.hits
        1
        """
        wanted = arguments.member(BreakpointKind, kind, "kind")
        arguments.function(condition, "condition")
        arguments.flag(temporary, "temporary")
        self.inferior.check()
        found = locate(where, self.inferior)
        self.inferior.prepare()
        self._execution.note_mode()
        point = insert(self.inferior, self.points, found, wanted, condition, temporary=temporary)
        if point.kind is BreakpointKind.HARDWARE:
            self._warn_of_debug_registers()
        if self.inferior.await_program is not None and isinstance(where, str):
            self.inferior.await_program()
        return point

    def watchpoint(
        self,
        address: str | SupportsIndex,
        length: SupportsIndex | None = None,
        watch: Watch | Literal["write", "read", "access"] = Watch.WRITE,
        *,
        condition: Callable[[Any], bool] | None = None,
    ) -> Watchpoint:
        """Insert a watchpoint; also a context manager, which removes it.

        Args:
            address: linear; with symbols also the name of a variable (``jiffies``), or a distance
                from one. A Value is watched where it lies, as by gdb's ``watch``.
            length: in bytes; without, that of the variable or of the Value. Where all of it is
                watched, ``Stop.old`` and ``Stop.new`` have its type.
            watch: which accesses stop the target: a member of `Watch`, or its name.
            condition: as for ``breakpoint``.

        Raises:
            NoHardwareBreakpoint: the stub has none left, or not for this range.
            SymbolNotFound, SymbolError: there is no such name, or there are no symbols.
            ArgumentError: there can be no such range, access or condition.

        >>> with target.watchpoint("counter", 4):
        ...     print(target.resume(timeout=60))
        ...
        watchpoint 2 (counter) at 0x4000 (old value 0x0, new value 0x1) SIGTRAP in thread p01.01
        """
        accesses = arguments.member(Watch, watch, "watch")
        arguments.function(condition, "condition")
        self.inferior.check()
        found = watched_range(address, length, self.inferior)
        if self.stub.bare_watchpoints and found.address % found.length:
            raise NoHardwareBreakpoint(
                f"no watchpoint on {found.length} bytes at {found.address:#x}: this stub takes "
                "ranges that begin at a multiple of their length, which is all that a debug "
                "register watches",
                address=found.address,
            )
        point = self.points.add_watch(found.address, found.length, accesses, condition, found.ctype)
        if found.name is not None:
            point.what = found.name
        self._warn_of_debug_registers()
        return point

    def _warn_of_debug_registers(self) -> None:
        """Say once what a user of kgdb would wait in vain for."""
        if self.stub.bare_watchpoints and not self._warned:
            self._warned = True
            logger.warning(
                "Linux 6.1.192 takes hardware breakpoints and watchpoints from kgdb and never "
                "reports a hit (perf_swevent_event drops what is not active), and so may this "
                "kernel: a software breakpoint does stop it"
            )

    @property
    def breakpoints(self) -> Breakpoints:
        """All breakpoints and watchpoints; ``str()`` is gdb's table."""
        return self.points

    # --- running ---

    @overload
    def resume(self, *, wait: Literal[True] = True, timeout: float | None = None) -> Stop: ...
    @overload
    def resume(self, *, wait: Literal[False], timeout: float | None = None) -> None: ...
    @overload
    def resume(self, *, wait: bool, timeout: float | None = None) -> Stop | None: ...
    def resume(self, *, wait: bool = True, timeout: float | None = None) -> Stop | None:
        """Let the target run.

        Args:
            wait: whether to wait until it stops; without, ``wait`` or ``interrupt`` come later.
            timeout: seconds to wait; None for ever.

        Returns:
            The stop, None without ``wait``.

        Raises:
            RspTimeout: it still runs.
            LocalProtocolError: it runs already, or has exited.

        >>> point = target.breakpoint("tick")
        >>> target.resume(timeout=60).function
        'tick'
        """
        limit = arguments.timeout(timeout)
        arguments.flag(wait, "wait")
        self.inferior.check_open()
        self._execution.resume()
        return self.wait(limit) if wait else None

    def wait(self, timeout: float | None = None) -> Stop:
        """Wait until the target stops; Ctrl-C stops it, and is raised.

        Raises:
            RspTimeout: it still runs.

        >>> point = target.breakpoint("tick")
        >>> target.resume(wait=False)
        >>> target.wait(timeout=60).reason.name
        'BREAKPOINT'
        """
        limit = arguments.timeout(timeout)
        self.inferior.check_open()
        return self._execution.wait(limit)

    def interrupt(self) -> Stop:
        """Stop the running target.

        Raises:
            RspTimeout: it does not stop.
            UnsupportedCommand: the line cannot carry what would stop it.

        >>> target.resume(wait=False)
        >>> target.interrupt().reason.name
        'INTERRUPT'
        """
        self.inferior.check_open()
        return self._execution.interrupt()

    def enter_kdb(self) -> None:
        """Hand the line over to kdb, the kernel's own debugger (``$3#33``); kgdb only.

        Its prompt is at ``console``, and what is written there is typed at it. The target counts as
        running: ``interrupt`` brings it back from the prompt, or stops it again after kdb's ``go``.
        A single command of kdb needs no change: ``monitor("summary")``.

        Raises:
            UnsupportedCommand: there is no kdb.
        """
        self.inferior.check()
        if self.stub.limits.interrupt is not InterruptWay.BREAK_G:
            raise UnsupportedCommand("this stub is not kgdb, and has no kdb", command="3")
        self.monitor("")  # a kgdb without kdb does not know qRcmd, and takes 3 for c
        self._execution.enter_kdb()

    def step(self, *, timeout: float | None = None) -> Stop:
        """Execute one instruction of the current thread, the others standing still.

        >>> target.step(timeout=60)
        <Stop step SIGTRAP in thread p01.01>
        >>> hex(target.registers.pc)
        '0x7d1a'
        """
        self.inferior.check()
        return self.step_thread(self.inferior.current, timeout=timeout)

    def step_thread(self, thread: ThreadId | None, *, timeout: float | None = None) -> Stop:
        """Execute one instruction of a thread, the others standing still.

        >>> target.step_thread(target.thread.thread_id, timeout=60).reason.name
        'STEP'
        """
        limit = arguments.timeout(timeout)
        thread_id = self._id_or_none(thread)
        self.inferior.check_open()
        self._execution.step(thread_id)
        return self._execution.wait(limit)

    def step_line(self, *, timeout: float | None = None) -> Stop:
        """Step to another source line, into functions that are called and have lines.

        The rules are those of gdb's ``step``: inlined copies count as functions, and other threads
        run meanwhile. In a function without lines it runs to the end of that.

        Raises:
            SymbolError: there are no symbols, or none there.
            RspTimeout: it still runs.

        >>> target.stop.line.line
        178
        >>> target.step_line(timeout=60).line.line
        179
        """
        return self._steps().step_line(over=False, timeout=arguments.timeout(timeout))

    def next_line(self, *, timeout: float | None = None) -> Stop:
        """Step to another source line, over functions that are called; see ``step_line``.

        >>> target.next_line(timeout=60).line.line
        179
        """
        return self._steps().step_line(over=True, timeout=arguments.timeout(timeout))

    def finish(self, *, timeout: float | None = None) -> Stop:
        """Run to the end of the function, or to another stop before it.

        Returns:
            The stop, at the instruction behind the call; ``return_value`` is what the function has
            returned. An inlined copy is left like a function, without a value.

        Raises:
            SymbolError: there are no symbols, or nothing says who has called it.
            RspTimeout: it still runs.

        >>> target.finish(timeout=60).function
        'long_start'
        """
        return self._steps().finish(timeout=arguments.timeout(timeout))

    def until(self, address: str | SupportsIndex, *, timeout: float | None = None) -> Stop:
        """Run to a place, as ``breakpoint`` takes it, or to another stop before it.

        >>> target.until("tick+8", timeout=60).function
        'tick'
        """
        limit = arguments.timeout(timeout)
        with self.breakpoint(address):
            return self.resume(timeout=limit)

    def run_until_mode(
        self,
        mode: CpuMode | ModeName,
        *,
        max_steps: SupportsIndex = 1_000_000,
        timeout: float | None = 60.0,
        progress: Callable[[CpuMode, float], None] | None = None,
    ) -> Stop:
        """Run until the current thread's CPU is in a mode, to the first instruction in it.

        On QEMU's translator it runs freely to the instructions that may switch the mode, which are
        looked for in the memory around the code that runs, and is stepped from there; other CPUs
        run, too. Elsewhere (KVM, other stubs) it is stepped all the way.

        Args:
            mode: a member of `CpuMode`, or its name; where the CPU is in it already, nothing runs.
            max_steps: how many instructions are stepped at the most.
            timeout: seconds for the whole of it; None for ever.
            progress: called now and then with the CPU's mode and the seconds that have passed.

        Returns:
            The stop. It is ``late`` where the CPU was found in the mode, and the switch was not
            seen: then it is not at the first instruction.

        Raises:
            ModeNotReached: it is not, after that many steps or that time, or it stopped for another
                reason before; the error has the mode it is in.
            ArgumentError: there is no such mode.

        >>> target.mode.name
        'REAL16'
        >>> stop = target.run_until_mode("LONG64")
        >>> hex(target.registers.pc), stop.late
        ('0x7cc7', False)
        """
        from rsp.arch.modes import CpuMode
        from rsp.run.mode_switch import ModeSwitch

        wanted = arguments.member(CpuMode, mode, "mode")
        steps = arguments.integer(max_steps, "max_steps", "a number of steps", below=None)
        limit = arguments.timeout(timeout)
        arguments.function(progress, "progress")
        self.inferior.check()
        return ModeSwitch(
            self.inferior,
            self._execution,
            wanted,
            max_steps=steps,
            timeout=limit,
            progress=progress,
        ).run()

    # --- the end ---

    def detach(self) -> None:
        """Remove our breakpoints, let the target run, and close the connection.

        >>> target.detach()
        >>> target
        <Target qemu at unix:..., the target was detached from>
        """
        self._leave(OnExit.DETACH)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._leave(self._on_exit)
        except RspError as failure:
            if error is None:
                raise
            # The first error is the one to be seen.
            logger.warning("could not leave the target as it should be: %s", failure)

    def leave_when_forgotten(self) -> None:
        """From now on, do what the end of a ``with`` block does also where a script has none.

        That is when the target is collected, or the process ends; a ResourceWarning says so.

        >>> target.leave_when_forgotten()
        """
        self._owner = os.getpid()
        _to_leave[self] = self.session

    def __del__(self) -> None:
        self.leave_forgotten()

    def leave_forgotten(self) -> None:
        """Leave the target if nobody has.

        >>> target.detach()
        >>> target.leave_forgotten()  # somebody has
        """
        if self.inferior.closed or self._owner != os.getpid() or not self.session.open:
            return
        try:
            self._leave(self._on_exit)
        except RspError as failure:
            logger.warning("could not leave the target as it should be: %s", failure)
        warnings.warn(
            f"{self.session.transport.address} was not detached from, which is done only now "
            f"(on_exit is {self._on_exit.value!r}): connect in a with statement, or detach()",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )

    def leave_as_found(self) -> None:
        """Leave the target in the state that it was in when we came; see `OnExit.AS_FOUND`.

        >>> target.leave_as_found()
        >>> target.silence
        'the target was detached from'
        """
        self._leave(OnExit.AS_FOUND)

    def _leave(self, on_exit: OnExit) -> None:
        if self.inferior.closed:
            return
        with held():
            try:
                if self.session.recover():
                    self._clean_up(on_exit)
            finally:
                self.inferior.closed = True
                self.session.close()

    def _clean_up(self, on_exit: OnExit) -> None:
        execution = self._execution
        runs_on = on_exit is OnExit.DETACH
        if on_exit is OnExit.AS_FOUND:
            runs_on = self.found_running is not False
        if execution.take_in():
            # A kernel that prints through us (kgdbcon) would wait for our acks for ever.
            untouched = not self.points.any and self._stepping is None and not self.session.prints
            if runs_on and untouched and self.stub.runs_on_close and not execution.steps:
                return
            execution.interrupt()
        if self.inferior.absence is not None:
            return
        try:
            self.inferior.memory.leave_physical()
            if self._stepping is not None:
                self._stepping.restore()
            self.points.remove_all()
        finally:
            if runs_on and self.session.usable:
                execution.settle()
                current = self.inferior.current
                process = current.process if current is not None else None
                self.session.let_go(process)

    # --- small parts ---

    def _steps(self) -> Stepping:
        from rsp.run.stepping import Stepping

        self.inferior.check()
        if self._stepping is None:
            self._stepping = Stepping(self.inferior, self._execution)
        return self._stepping


# The value outlives its key, which has something to say on it when it is collected.
_to_leave: Final[WeakKeyDictionary[Target, Session]] = WeakKeyDictionary()


@atexit.register
def _leave_all() -> None:
    for target in list(_to_leave):
        target.leave_forgotten()
