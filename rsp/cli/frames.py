"""Frames as commands print them: in JSON, and for people with their source lines.

Not here: what a frame is and its line in a backtrace (see `rsp.frames.frame`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.cli.text import printable
from rsp.cli.values import bare_value
from rsp.errors import MemoryFault, SymbolError
from rsp.frames.frame import SIGNAL_HANDLER_CALLED, FrameKind

if TYPE_CHECKING:
    from rsp.frames.backtrace import Backtrace
    from rsp.frames.frame import Frame, Variable


def backtrace_text(backtrace: Backtrace) -> str:
    """Return the frames as gdb's ``bt`` shows them, with the source line of each below it."""
    sources = {str(frame.level): frame.source for frame in backtrace}
    lines = []
    for line in str(backtrace).splitlines():
        lines.append(printable(line))
        source = sources.get(line[1:].partition(" ")[0]) if line.startswith("#") else None
        if source is not None:
            lines.append(f"        {printable(source.strip())}")
    return "\n".join(lines)


def frame_in_json(frame: Frame) -> dict[str, object]:
    """Return a frame as JSON has it; ``function`` is null where nothing names the code."""
    signal = frame.kind is FrameKind.SIGNAL
    return {
        "level": frame.level,
        "pc": f"{frame.pc:#x}",
        "function": SIGNAL_HANDLER_CALLED if signal else frame.function,
        "offset": frame.offset,
        "file": frame.file,
        "line": frame.line,
        "inlined": frame.inlined,
        "arguments": [_argument(each) for each in frame.arguments],
        "source": frame.source,
    }


def _argument(argument: Variable) -> dict[str, object]:
    try:
        value = bare_value(argument.value)
    except (MemoryFault, SymbolError):
        value = None
    return {"name": argument.name, "value": value, "text": argument.text}
