"""Where a thread is in the program.

Contents: the position of a thread, and what it is about to execute. Not here: what the symbols say
of a pc (`rsp.symbols.at_pc`), and what counts as entered at a breakpoint (`rsp.run`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.errors import MemoryFault, UnsupportedCommand
from rsp.symbols.at_pc.source_position import Position
from rsp.symbols.at_pc.symbolize import symbolic

if TYPE_CHECKING:
    from rsp.inferior.inferior import Inferior
    from rsp.wire.threads import ThreadId


def position_of(inferior: Inferior, thread: ThreadId | None) -> Position:
    """Return where a thread is in the program.

    Raises:
        SymbolError: there are no symbols.
    """
    pc = inferior.registers_of(thread).pc
    if inferior.stopped in (None, thread):
        position = inferior.arrival()
        if position is not None and position.pc == pc:  # the pc may have been written since
            return position
    return Position(inferior.symbols, pc, hidden=0)


def current_line(inferior: Inferior, thread: ThreadId | None) -> str:
    """Return what a thread is about to execute; see ``Target.current_line``."""
    from rsp.inferior.disassembly import disassemble

    pc = inferior.registers_of(thread).pc
    symbols = inferior.symbols if inferior.has_symbols else None
    line = position_of(inferior, thread).line if symbols is not None else None
    text = symbols.text_of(line) if symbols is not None and line is not None else None
    if line is not None and text is not None:
        return f"{line.line}\t{text}"
    try:
        return f"=> {disassemble(inferior, pc, 1)[0]}"
    except (MemoryFault, UnsupportedCommand):
        return f"=> {pc:#x} {symbolic(symbols, pc)}".rstrip()
