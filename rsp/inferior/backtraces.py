"""The backtraces of a target: of a thread that a CPU executes, and of what sleeps.

Contents: where each begins, and which inlined copies count as not entered. Not here: the frames
(`rsp.frames`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.arch.layout import Role
from rsp.errors import RspError, SymbolError
from rsp.frames.backtrace import Backtrace, walk
from rsp.inferior.frame_zero import executing, resuming
from rsp.inferior.position import position_of

if TYPE_CHECKING:
    from rsp.inferior.inferior import Inferior
    from rsp.unwind.resumption import Resumption
    from rsp.wire.threads import ThreadId


def backtrace(
    inferior: Inferior,
    thread: ThreadId | None,
    *,
    limit: int | None = None,
    outermost: int | None = None,
) -> Backtrace:
    """Return the backtrace of a thread; the arguments are those of ``Target.backtrace``.

    Raises:
        StubError: the stub does not give its registers.
        LocalProtocolError: the target runs.
    """
    registers = inferior.registers_of(thread)
    if registers[registers.layout.role(Role.PC).name] is None:
        return _of_sleeping(inferior, thread, limit, outermost)
    innermost = executing(inferior, thread, registers)
    return walk(
        innermost,
        inferior.find_entry_code(),
        lambda: _not_entered(inferior, thread),
        limit=limit,
        outermost=outermost,
    )


def backtrace_from(
    inferior: Inferior,
    resumption: Resumption,
    *,
    limit: int | None = None,
    outermost: int | None = None,
) -> Backtrace:
    """Return the backtrace of code that no CPU executes now.

    Args:
        inferior: in whose memory its stack is.
        resumption: what it will go on with.
        limit: as of ``Target.backtrace``.
        outermost: as of ``Target.backtrace``.
    """
    innermost = resuming(inferior, resumption)
    return walk(innermost, inferior.find_entry_code(), limit=limit, outermost=outermost)


def _not_entered(inferior: Inferior, thread: ThreadId | None) -> int:
    """Return how many inlined copies begin at the pc, and count as not entered yet.

    As in gdb: those that a stop is just in front of, but for one that a breakpoint was set on.
    """
    try:
        return position_of(inferior, thread).hidden
    except SymbolError:
        return 0


def _of_sleeping(
    inferior: Inferior, thread: ThreadId | None, limit: int | None, outermost: int | None
) -> Backtrace:
    """Return the backtrace of a thread that the stub gives no pc of."""
    reason = "the stub gives no pc of it, and nothing is known of where it goes on"
    registers = inferior.registers_of(thread)
    for unwinder in inferior.thread_unwinders if thread is not None else ():
        try:
            resumption = unwinder(registers)
        except RspError as error:
            if not inferior.usable:
                raise
            reason = str(error)
            continue
        if resumption is not None:
            return backtrace_from(inferior, resumption, limit=limit, outermost=outermost)
    return Backtrace((), reason, complete=False)
