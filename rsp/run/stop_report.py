"""What a stop reply means.

Contents: the signs by which a breakpoint, a watchpoint, the end of a step and an interrupt are told
from each other and from all else. What follows from a stop is the business of ``execution``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rsp.arch.layout import Role
from rsp.errors import LocalProtocolError, MemoryFault, StubError
from rsp.inferior.int3 import INT3
from rsp.run.points import Breakpoint, Watch, Watchpoint
from rsp.run.stop import NOT_DELIVERED, Stop, StopReason
from rsp.wire import stops
from rsp.wire.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.inferior.live import LiveInferior
    from rsp.run.breakpoints import Breakpoints
    from rsp.run.points import Point
    from rsp.run.stop import Thread
    from rsp.symbols.types.types import Type
    from rsp.values.value import Value
    from rsp.wire.replies import Reply

# What a watchpoint's report is about.
_WATCHES: Final = {
    stops.StopReason.WATCH: (Watch.WRITE, Watch.ACCESS),
    stops.StopReason.RWATCH: (Watch.READ, Watch.ACCESS),
    stops.StopReason.AWATCH: tuple(Watch),
}
_PLAIN: Final = (stops.StopReason.SIGNAL, stops.StopReason.SWBREAK, stops.StopReason.HWBREAK)
_INTEGERS: Final = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """What the target was let run for.

    Attributes:
        stepping: a step was asked for.
        passing: a step over one's own breakpoint is under way.
        interrupting: it was asked to stop.
    """

    stepping: bool
    passing: bool
    interrupting: bool


def describe(
    inferior: LiveInferior,
    points: Breakpoints,
    reply: Reply,
    doing: Doing | None,
    thread: Thread | None,
) -> tuple[Stop, Sequence[Point]]:
    """Return what a reply says, and the points that were hit.

    Args:
        inferior: whose.
        points: its breakpoints.
        reply: to a resume, or to ``?``.
        doing: what came before; None where the target was found standing.
        thread: the one that the reply names.

    Raises:
        StubError: the stub gives no registers.
    """
    match reply:
        case stops.Exited() if doing is None:
            return Stop(reason=StopReason.NO_PROGRAM), ()
        case stops.Exited(status=status):
            return Stop(reason=StopReason.EXITED, status=status), ()
        case stops.Terminated(signal=signal):
            return Stop(reason=StopReason.TERMINATED, signal=signal), ()
        case stops.Stopped():
            stop = Stop(reason=StopReason.ATTACHED, signal=reply.signal, thread=thread)
            if doing is None:
                return stop, ()
            stop, hit = _describe_stopped(inferior, points, reply, doing, stop)
            for point in hit:
                if isinstance(point, Watchpoint):
                    inferior.thread_list.focus(reply.thread)
                    point.after = point.read(inferior.pages.read_exactly)
            return (stop_at(inferior, hit[0], stop) if hit else stop), hit
    # A stub that answers `?` with anything else stands still all the same.
    return Stop(reason=StopReason.ATTACHED if doing is None else StopReason.EVENT), ()


def stop_at(inferior: LiveInferior, point: Point, stop: Stop) -> Stop:
    """Return the stop as one at a point."""
    match point:
        case Breakpoint(internal=True, event=event) if event:
            return replace(stop, reason=StopReason.EVENT, event=event, breakpoint=None)
        case Breakpoint(internal=True):
            return replace(stop, reason=StopReason.STEP, breakpoint=None)
        case Breakpoint():
            return replace(stop, breakpoint=point)
        case Watchpoint():
            old, new = _values(inferior, point)
            return replace(stop, watchpoint=point, old=old, new=new)
    return stop


def _describe_stopped(
    inferior: LiveInferior, points: Breakpoints, reply: stops.Stopped, doing: Doing, stop: Stop
) -> tuple[Stop, Sequence[Point]]:
    hit: Sequence[Point] = ()
    if reply.reason in _WATCHES:
        if reply.address is not None:
            # valgrind calls every access `watch`.
            hit = points.watching(reply.address, _WATCHES[reply.reason]) or points.watching(
                reply.address, tuple(Watch)
            )
        return replace(stop, reason=StopReason.WATCHPOINT, address=reply.address), hit
    if reply.reason not in _PLAIN:
        return replace(stop, reason=StopReason.EVENT, event=reply.reason.value), ()
    trapped = reply.signal == Signal.SIGTRAP
    if trapped and points.any:
        hit = _breakpoints_hit(inferior, points, reply, doing)
    if hit:
        return replace(stop, reason=StopReason.BREAKPOINT), hit
    # lldb-server stops a process with SIGSTOP, others with SIGINT.
    if doing.interrupting and reply.signal in (*NOT_DELIVERED, Signal.SIGSTOP):
        return replace(stop, reason=StopReason.INTERRUPT), ()
    if trapped and (doing.stepping or doing.passing):
        return replace(stop, reason=StopReason.STEP), ()
    if not trapped:
        return replace(stop, reason=StopReason.SIGNAL), ()
    int3 = _foreign_int3(inferior, reply)
    watchpoints = [point for point in points if isinstance(point, Watchpoint)]
    if int3 is not None or not watchpoints or not inferior.stub.bare_watchpoints:
        return replace(stop, reason=StopReason.SIGNAL, int3=int3), ()
    # Nothing else is left; which one of several it was is not told.
    stop = replace(stop, reason=StopReason.WATCHPOINT)
    if len(watchpoints) > 1:
        return stop, ()
    return replace(stop, address=watchpoints[0].locations[0]), watchpoints


def _breakpoints_hit(
    inferior: LiveInferior, points: Breakpoints, reply: stops.Stopped, doing: Doing
) -> Sequence[Point]:
    processor = inferior.processor
    behind = inferior.stub.pc_after_breakpoint
    if points.in_memory and reply.reason is not stops.StopReason.SWBREAK:
        behind = len(INT3)  # the CPU has executed it; who says "swbreak" has moved the pc back
    in_g = inferior.stub.pc_behind_in_g
    # A step ends behind a breakpoint, too, that it has begun at.
    resumed = not doing.stepping and not doing.passing
    if in_g and resumed:
        hit = points.at(processor.registers(reply.thread).pc - in_g)
        if hit:
            processor.is_behind(reply.thread)
            return hit
    for pc in processor.places(reply.thread):
        if behind and resumed:
            before = points.at(pc - behind, software=True)
            if before:
                # The stub reports where the int3 ended; the instruction there is yet to run.
                layout = processor.registers(reply.thread).layout
                value = processor.registers(reply.thread).role(Role.PC) - behind
                processor.write(reply.thread, layout.role(Role.PC).name, value)
                processor.found_at(reply.thread, pc - behind)
                return before
        if hit := points.at(pc):
            processor.found_at(reply.thread, pc)
            return hit
    return ()


def _foreign_int3(inferior: LiveInferior, reply: stops.Stopped) -> int | None:
    """Return where the int3 is that a SIGTRAP comes of which nothing of ours explains."""
    # Who says "swbreak" has moved the pc back to the instruction (gdb manual, "Stop Reply
    # Packets"); the CPU leaves it behind.
    behind = 0 if reply.reason is stops.StopReason.SWBREAK else len(INT3)
    try:
        address = inferior.processor.registers(reply.thread).pc - behind
        inferior.thread_list.focus(reply.thread)
        code = inferior.pages.read_exactly(address, len(INT3))
        return address if code == INT3 else None
    except (StubError, LocalProtocolError):
        return None


def _values(inferior: LiveInferior, point: Watchpoint) -> tuple[Value | None, Value | None]:
    """Return what was there before the last hit of a watchpoint, and what is there now."""
    from rsp.values.c import C
    from rsp.values.value import Space, Value

    generation = inferior.processor.generation
    symbols = inferior.image_symbols if inferior.has_symbols else None

    def read(address: int, length: int) -> bytes:
        """Read what the values point to, at the same stop."""
        if generation != inferior.processor.generation:
            raise MemoryFault(
                f"memory at {address:#x} was not read at the stop that this value is of",
                address=address,
            )
        return inferior.read_memory(address, length)

    word_size = symbols.word_size if symbols is not None else 8
    space = Space(
        read=read,
        symbols=symbols,
        word_size=word_size,
        language=C,
        silence=lambda: inferior.silence,
    )
    ctype = point.ctype or _plain(point.length)
    old, new = (
        Value(space, ctype, address=point.locations[0], data=data) if data is not None else None
        for data in (point.before, point.after)
    )
    return old, new


def _plain(length: int) -> Type:
    """Return the type of bytes of which nothing else is known."""
    from rsp.symbols.types.types import Array, Integer

    if length in _INTEGERS:
        return Integer(_INTEGERS[length], length, signed=False)
    return Array(Integer(_INTEGERS[1], 1, signed=False), length)
