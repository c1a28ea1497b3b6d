"""``rsp break``: run to a location and show the stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_spec, add_target, connect, symbols_of
from rsp.cli.json import print_answer
from rsp.cli.stops import Missed, add_count, check_count, missed, run_to, stop_facts, stop_text
from rsp.cli.text import printable
from rsp.run.points import BreakpointKind

if TYPE_CHECKING:
    import argparse

    from rsp.remote.target import Target
    from rsp.run.points import Breakpoint
    from rsp.run.stop import Stop

USAGE: Final = "TARGET SPEC [--hw] [--count N] [OPTION ...]"
EXAMPLES: Final = (
    "rsp break :1234 vfs_read --symbols vmlinux",
    "rsp break :1234 0x7c00 --hw --timeout 60",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser, runs=True)
    add_spec(parser)
    parser.add_argument("--hw", action="store_true", help="use a hardware breakpoint")
    add_count(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run to the location, at most for the timeout, and print the stop and the frames.

    A program that has ended before is an error, behind what is printed of its end.
    """
    check_count(arguments.count)
    kind = BreakpointKind.HARDWARE if arguments.hw else BreakpointKind.AUTO
    # What is inserted is taken out again when the connection ends, however that comes.
    with connect(arguments) as target:
        point = target.breakpoint(arguments.spec, kind=kind)
        stop = run_to(target, point, arguments, "reached")
        answer = (
            stop_facts(target, stop, point, kind=point.kind.value, why=point.reason or None)
            if arguments.json
            else _text(arguments, target, stop, point)
        )
    print_answer(answer)
    if stop.ended:
        raise Missed(
            f"{missed(point, arguments.count, 'reached')} before the program ended: {stop}"
        )
    return 0


def _text(arguments: argparse.Namespace, target: Target, stop: Stop, point: Breakpoint) -> str:
    lines = [printable(point.reason)] if point.reason else []
    return "\n".join([*lines, stop_text(target, stop, symbols_of(arguments, target))])
