"""Where a thread of the target is in the program.

Contents: whose pc it is, and what counts as entered there. Not here: what the symbols say of a pc
(`rsp.symbols.at_pc`), stacks (`rsp.unwind`), and letting anything run (`stepping`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.errors import MemoryFault, UnsupportedCommand
from rsp.symbols.at_pc.source_position import Position
from rsp.target.points import Breakpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.target.points import Point
    from rsp.target.target import Target
    from rsp.wire.threads import ThreadId


def stopped_at(
    target: Target, thread: ThreadId | None, hit: Sequence[Point], *, copies: bool
) -> Position | None:
    """Return where a thread has just stopped, None without symbols.

    Args:
        target: whose.
        thread: which one.
        hit: what it has stopped at: what a breakpoint was set on counts as entered.
        copies: whether inlined copies count as entered where they begin.
    """
    if not target.has_symbols:
        return None
    pc = target.processor.registers(thread).pc
    entered = frozenset(
        place.function
        for point in hit
        if isinstance(point, Breakpoint) and not point.internal
        for place in point.places
        if place.address == pc and place.function is not None
    )
    return Position(target.symbols, pc, entered=entered, hidden=0 if copies else None)


def position_of(target: Target, thread: ThreadId | None) -> Position:
    """Return where a thread is in the program.

    Raises:
        SymbolError: there are no symbols.
    """
    stopped, pc = target.stop.thread, target.registers_of(thread).pc
    if stopped is None or stopped.thread_id == thread:
        position = target.stop.position
        if position is not None and position.pc == pc:  # the pc may have been written since
            return position
    return Position(target.symbols, pc, hidden=0)


def current_line(target: Target, thread: ThreadId | None) -> str:
    """Return what a thread is about to execute; see ``Target.current_line``."""
    from rsp.target.disassembly import disassemble, name_of

    pc = target.registers_of(thread).pc
    symbols = target.symbols if target.has_symbols else None
    line = position_of(target, thread).line if symbols is not None else None
    text = symbols.text_of(line) if symbols is not None and line is not None else None
    if line is not None and text is not None:
        return f"{line.line}\t{text}"
    try:
        return f"=> {disassemble(target, pc, 1)[0]}"
    except (MemoryFault, UnsupportedCommand):
        name = name_of(pc, symbols)
        return f"=> {pc:#x}" + (f" <{name}>" if name is not None else "")
