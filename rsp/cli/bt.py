"""``rsp bt``: who called whom in a thread.

Here live: the command, and a frame in JSON. Here must not live: what a frame is, and how it is
written, which are the library's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.cli.arguments import add_target, connect
from rsp.cli.print import bare_value
from rsp.cli.text import backtrace_text, print_json, printable
from rsp.errors import MemoryFault, SymbolError
from rsp.target.frame import SIGNAL_HANDLER_CALLED, FrameKind

if TYPE_CHECKING:
    import argparse

    from rsp.target.frame import Frame, Variable
    from rsp.target.target import Target
    from rsp.target.threads import Thread


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command line has."""
    add_target(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--thread", metavar="ID", help="a thread as rsp info spells it, instead of the current one"
    )
    which.add_argument("--all", action="store_true", help="all threads; of a machine, its CPUs")


def run(arguments: argparse.Namespace) -> int:
    """Print the frames, the innermost first."""
    with connect(arguments) as target:
        # All questions come before the first line: an error is not to follow half an answer.
        threads = target.threads if arguments.all else (_thread(target, arguments.thread),)
        found = [_Stack(target, thread) for thread in threads]
        if arguments.json:
            print_json({"threads": [each.in_json() for each in found]})
            return 0
        texts = [each.text(heading=arguments.all) for each in found]
    print("\n\n".join(texts))
    return 0


def _thread(target: Target, name: str | None) -> Thread | None:
    return target.thread if name is None else target.select(name)


class _Stack:
    """A thread, None with a stub that has none, and its backtrace."""

    def __init__(self, target: Target, thread: Thread | None) -> None:
        self.id = thread.id if thread is not None else None
        self.name = thread.name if thread is not None else ""
        self.frames = thread.backtrace() if thread is not None else target.backtrace()

    def in_json(self) -> dict[str, object]:
        frames = [frame_in_json(frame) for frame in self.frames]
        return {"id": self.id, "name": self.name, "frames": frames}

    def text(self, *, heading: bool) -> str:
        name = f" ({printable(self.name)})" if self.name else ""
        return (f"Thread {self.id}{name}:\n" if heading else "") + backtrace_text(self.frames)


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
