"""A stop of the target, and a thread of it, as users hold them.

Contents: why and where it stopped; what a thread can be asked, all of which its target answers. Not
here: how a stop is made of a stop reply (see ``stop_report``), and the list of threads (see
``rsp.inferior.thread_list``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol, SupportsIndex

from rsp.errors import RspError
from rsp.wire.signals import Signal, signal_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.arch.registers import Registers
    from rsp.arch.siginfo import SigInfo
    from rsp.frames.backtrace import Backtrace
    from rsp.inferior.inferior import Inferior
    from rsp.run.points import Breakpoint, Watchpoint
    from rsp.symbols.at_pc.source_position import Position
    from rsp.symbols.table import SourceLine
    from rsp.values.value import Value
    from rsp.wire.threads import ThreadId


NOT_DELIVERED: Final = (0, Signal.SIGINT, Signal.SIGTRAP)
"""The signals that are about debugging, and not for the program."""
_LONGEST: Final = 200  # characters of a value within a line


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
    """A library, fork, exec or system call that the stub reports; or what `Stop.event` says."""
    EXITED = "exited"
    TERMINATED = "terminated"
    NO_PROGRAM = "no program"
    """The stub has none yet (``gdbserver --multi``)."""


class ThreadOwner(Protocol):
    """What a thread asks its target."""

    @property
    def inferior(self) -> Inferior:
        """What stands still there."""
        ...

    def thread_name(self, thread: ThreadId) -> str:
        """Return what the stub says of a thread."""
        ...

    def registers_of(self, thread: ThreadId | None) -> Registers:
        """Return a snapshot of a thread's registers."""
        ...

    def write_register_of(self, thread: ThreadId | None, name: str, value: SupportsIndex) -> None:
        """Write a register of a thread."""
        ...

    def backtrace_of(
        self,
        thread: ThreadId | None,
        *,
        limit: SupportsIndex | None = None,
        outermost: SupportsIndex | None = None,
    ) -> Backtrace:
        """Return the backtrace of a thread."""
        ...

    def step_thread(self, thread: ThreadId | None, *, timeout: float | None = None) -> Stop:
        """Execute one instruction of a thread."""
        ...


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

    def __init__(self, target: ThreadOwner, thread_id: ThreadId) -> None:
        self.target: ThreadOwner = target
        self.thread_id: ThreadId = thread_id

    @property
    def id(self) -> str:
        """The id, spelled as the stub does."""
        return str(self.thread_id)

    @property
    def cpu(self) -> int | None:
        """The number of the CPU that it stands for; None for a task, and in a process."""
        return self.target.inferior.stub.cpu_of(self.thread_id.thread)

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
        name = self.target.inferior.thread_list.known_name(self.thread_id)
        return f"Thread({self.id}, {name!r})" if name else f"Thread({self.id})"


def _unknown() -> None:
    """Say nothing of a stop."""


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
        old: what the watchpoint's memory held when the target was let run: a `Value` of the type
            of what is watched, else an unsigned integer or an array of bytes. None for a
            watchpoint of reads, and where memory could not be read.
        new: what it holds now; None where it cannot be read.
        status: the exit status of a process that exited.
        event: the stub's word for an event: ``fork``, ``library``, …; or ``write protection``: a
            kernel under kgdb is about to write-protect its code (`rsp.linux.write_protection`).
        int3: where the int3 is that the CPU has just executed, if it is none of ours: the program's
            own, or another debugger's.
        return_value: what the function returned that ``finish`` ran to the end of; None where it
            returns nothing, or what is in no general register.
        late: whether ``run_until_mode`` found the CPU in the mode without having seen the switch,
            so that it is not at the first instruction in it.
    """

    reason: StopReason
    signal: int = 0
    thread: Thread | None = None
    breakpoint: Breakpoint | None = None
    watchpoint: Watchpoint | None = None
    address: int | None = None
    old: Value | None = field(default=None, compare=False)
    new: Value | None = field(default=None, compare=False)
    status: int | None = None
    event: str | None = None
    int3: int | None = None
    return_value: int | None = None
    late: bool = False
    _find: Callable[[], Position | None] = field(default=_unknown, repr=False, compare=False)
    _fetch: Callable[[], SigInfo | None] = field(default=_unknown, repr=False, compare=False)

    @property
    def position(self) -> Position | None:
        """Where it stopped in the program: pc, function, source line; None for a target that ended.

        It is found out when it is first asked for.

        Raises:
            LocalProtocolError: that is after the target has run on.
            BadImage: the symbols are damaged there.
        """
        return self._find()

    @property
    def siginfo(self) -> SigInfo | None:
        """What Linux says of the signal of a process: the address of a fault, who has sent it.

        It is asked for when it is first wanted (``$_siginfo`` in gdb). None where the stub does not
        tell; gdbserver, valgrind and QEMU's user mode from 9.0 do.

        Raises:
            LocalProtocolError: that is after the target has run on.
            RemoteProtocolError: what the stub sends is none.
        """
        return self._fetch()

    @property
    def line(self) -> SourceLine | None:
        """The source line, None where nothing says so; the errors of ``position``."""
        position = self.position
        return position.line if position is not None else None

    @property
    def function(self) -> str | None:
        """The function, None where nothing says so; the errors of ``position``."""
        position = self.position
        return position.function if position is not None else None

    @property
    def ended(self) -> bool:
        """Whether there is no target: it has exited, was terminated, or has not begun."""
        return self.reason in (StopReason.EXITED, StopReason.TERMINATED, StopReason.NO_PROGRAM)

    @property
    def absence(self) -> str:
        """Why there is no target, for messages; empty where there is one."""
        if self.reason is StopReason.NO_PROGRAM:
            return "the stub has no program yet: start one there"
        return f"the target has {self.reason.value}" if self.ended else ""

    @property
    def signal_name(self) -> str:
        """The signal's name in gdb, empty for none."""
        return signal_name(self.signal) if self.signal else ""

    @property
    def summary(self) -> str:
        """The stop in a line, without what the target would be asked for."""
        return self._line(self._change(_in_hex))

    def __str__(self) -> str:
        return self._line(self._change(_as_gdb), self._cause())

    def __repr__(self) -> str:
        return f"<Stop {self.summary}>"

    def _line(self, change: str, cause: str = "") -> str:
        parts = [self.reason.value]
        if self.breakpoint is not None:
            parts.append(f"{self.breakpoint.number} ({self.breakpoint.what})")
        if self.watchpoint is not None:
            what = self.watchpoint.what
            name = "" if what.startswith("*") else f" ({what})"
            parts.append(f"{self.watchpoint.number}{name} at {self.address or 0:#x}")
            parts.append(change)
        if self.status is not None:
            parts.append(f"with status {self.status}")
        if self.event is not None:
            parts.append(self.event)
        if self.signal:
            parts += [self.signal_name, cause]
        if self.int3 is not None:
            parts.append(f"by an int3 at {self.int3:#x} that is not ours")
        if self.thread is not None:
            parts.append(f"in thread {self.thread.id}")
        if self.late:
            parts.append("(later than the first instruction in the mode)")
        return " ".join(part for part in parts if part)

    def _cause(self) -> str:
        """Return why a process has got its signal, as far as that can be told now."""
        if self.signal in NOT_DELIVERED:
            return ""
        try:
            return str(self.siginfo or "")
        except RspError:
            return ""

    def _change(self, text: Callable[[Value], str]) -> str:
        """Return what an access has made of the memory that is watched."""
        typed = self.watchpoint is not None and self.watchpoint.ctype is not None
        old, new = (
            None if value is None else (text if typed else _in_hex)(value)
            for value in (self.old, self.new)
        )
        if new is None:
            return f"(old value {old}, and it cannot be read now)" if old is not None else ""
        if old is None or old == new:
            return f"(value {new})"
        return f"(old value {old}, new value {new})"


def _as_gdb(value: Value) -> str:
    try:
        return _cut(str(value))
    except RspError as error:
        return f"<error: {error}>"


def _in_hex(value: Value) -> str:
    data = value.bytes_()
    if len(data) in (1, 2, 4, 8):
        return f"{int.from_bytes(data, 'little'):#x}"
    return _cut(data.hex(" ", 1))


def _cut(text: str) -> str:
    """Return a text that fits into a line with others."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
