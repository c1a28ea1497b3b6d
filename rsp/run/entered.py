"""Where a stop is in the program.

Contents: what counts as entered at a breakpoint. Not here: what the symbols say of a pc
(`rsp.symbols.at_pc`), and where a thread is since (`rsp.inferior.position`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.run.points import Breakpoint
from rsp.symbols.at_pc.source_position import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.inferior.live import LiveInferior
    from rsp.run.points import Point
    from rsp.wire.threads import ThreadId


def stopped_at(
    inferior: LiveInferior, thread: ThreadId | None, hit: Sequence[Point], *, copies: bool
) -> Position | None:
    """Return where a thread has just stopped, None without symbols.

    Args:
        inferior: whose.
        thread: which one.
        hit: what it has stopped at: what a breakpoint was set on counts as entered.
        copies: whether inlined copies count as entered where they begin.
    """
    if not inferior.has_symbols:
        return None
    pc = inferior.processor.registers(thread).pc
    entered = frozenset(
        place.function
        for point in hit
        if isinstance(point, Breakpoint) and not point.internal
        for place in point.places
        if place.address == pc and place.function is not None
    )
    return Position(inferior.symbols, pc, entered=entered, hidden=0 if copies else None)
