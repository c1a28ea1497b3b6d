"""``rsp break``: run to a location and show the stop."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_spec, add_target, connect, parse_number, symbols_of
from rsp.cli.frames import backtrace_text, frame_in_json
from rsp.cli.json import print_answer, stop_in_json
from rsp.cli.progress import Progress
from rsp.cli.text import place, printable
from rsp.errors import LocalProtocolError, RspError, RspTimeout
from rsp.target.points import BreakpointKind

if TYPE_CHECKING:
    import argparse

    from rsp.target.points import Breakpoint
    from rsp.target.stop import Stop
    from rsp.target.target import Target

USAGE: Final = "TARGET SPEC [--hw] [--count N] [OPTION ...]"
EXAMPLES: Final = (
    "rsp break :1234 vfs_read --symbols vmlinux",
    "rsp break :1234 0x7c00 --hw --timeout 60",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)
    add_spec(parser)
    parser.add_argument("--hw", action="store_true", help="use a hardware breakpoint")
    parser.add_argument(
        "--count",
        metavar="N",
        type=parse_number,
        default=1,
        help="stop at the Nth hit (default: 1)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run to the place, at most for the timeout, and print the stop and the frames.

    A program that has ended before is an error, behind what is printed of its end.
    """
    if arguments.count < 1:
        raise LocalProtocolError("--count 0: a breakpoint is hit once at least")
    kind = BreakpointKind.HARDWARE if arguments.hw else BreakpointKind.AUTO
    # What is inserted is taken out again when the connection ends, however that comes.
    with connect(arguments) as target:
        point = target.breakpoint(arguments.spec, kind=kind)
        with Progress("waiting until it is reached", limit=arguments.timeout):
            stop = _run(target, point, arguments.count, arguments.timeout)
        answer = (
            _in_json(target, stop, point)
            if arguments.json
            else _text(arguments, target, stop, point)
        )
    print_answer(answer)
    if stop.ended:
        raise RspError(f"{_reached(point, arguments.count)} before the program ended: {stop}")
    return 0


def _run(target: Target, point: Breakpoint, count: int, timeout: float) -> Stop:
    """Run to the breakpoint's last hit that is asked for, or to another stop before that."""
    deadline = monotonic() + timeout
    while True:
        try:
            stop = target.resume(timeout=max(0.0, deadline - monotonic()))
        except RspTimeout:
            raise RspTimeout(
                f"{_reached(point, count)} within {timeout:g} s; --timeout S waits longer",
                timeout=timeout,
            ) from None
        assert stop is not None
        if stop.breakpoint is not point or point.hits >= count:
            return stop


def _reached(point: Breakpoint, count: int) -> str:
    times = f"reached {point.hits} times of {count}" if point.hits else "not reached"
    return f"{point.what} was {times}"


def _text(arguments: argparse.Namespace, target: Target, stop: Stop, point: Breakpoint) -> str:
    lines = [point.reason] if point.reason else []
    if stop.ended:
        return "\n".join(map(printable, [*lines, str(stop)]))
    where = place(symbols_of(arguments, target), target.registers.pc)
    lines += [f"{stop} at {where}", target.current_line().expandtabs()]
    return "\n".join([*map(printable, lines), backtrace_text(target.backtrace())])


def _in_json(target: Target, stop: Stop, point: Breakpoint) -> dict[str, object]:
    line = stop.line
    told = {
        **stop_in_json(stop),
        "pc": None if stop.ended else f"{target.registers.pc:#x}",
        "function": stop.function,
        "file": line.file if line is not None else None,
        "line": line.line if line is not None else None,
        "hits": point.hits,
        "kind": point.kind.value,
        "why": point.reason or None,
    }
    frames = [] if stop.ended else [frame_in_json(frame) for frame in target.backtrace()]
    return {"stop": told, "frames": frames}
