"""``rsp bt``: the backtrace of a thread, or of all threads.

Not here: what a frame is and its line in a backtrace (see `rsp.frames.frame`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_target, look_at
from rsp.cli.frames import backtrace_text, frame_in_json
from rsp.cli.json import print_answer
from rsp.cli.text import printable

if TYPE_CHECKING:
    import argparse

    from rsp.remote.debuggee import Debuggee
    from rsp.run.stop import Thread

USAGE: Final = "TARGET [--thread ID | --all] [--outermost N] [OPTION ...]"
EXAMPLES: Final = (
    "rsp bt :1234 --symbols vmlinux",
    "rsp bt :1234 --symbols vmlinux --all",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--thread", metavar="ID", help="another thread, as rsp info shows it: p01.02"
    )
    which.add_argument(
        "--all", action="store_true", help="all threads; the threads of a machine are its CPUs"
    )
    parser.add_argument(
        "--outermost", metavar="N", type=int, help="only the last N frames, as gdb's bt -N"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the frames, the innermost first."""
    with look_at(arguments) as target:
        threads = target.threads if arguments.all else (_thread(target, arguments.thread),)
        found = [_Stack(target, thread, arguments.outermost) for thread in threads]
        answer = (
            {"threads": [each.in_json() for each in found]}
            if arguments.json
            else "\n\n".join(each.text(heading=arguments.all) for each in found)
        )
    print_answer(answer)
    return 0


def _thread(target: Debuggee, name: str | None) -> Thread | None:
    return target.thread if name is None else target.select(name)


class _Stack:
    """A thread, None with a stub that has none, and its backtrace."""

    def __init__(self, target: Debuggee, thread: Thread | None, outermost: int | None) -> None:
        self.id = thread.id if thread is not None else None
        self.name = thread.name if thread is not None else ""
        stack = thread if thread is not None else target
        self.frames = stack.backtrace(outermost=outermost)

    def in_json(self) -> dict[str, object]:
        frames = [frame_in_json(frame) for frame in self.frames]
        return {"id": self.id, "name": self.name, "frames": frames}

    def text(self, *, heading: bool) -> str:
        name = f" ({printable(self.name)})" if self.name else ""
        return (f"Thread {self.id}{name}:\n" if heading else "") + backtrace_text(self.frames)
