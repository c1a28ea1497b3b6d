"""Running to a stop and printing it: what ``rsp break`` and ``rsp watch`` share.

Not here: the breakpoint, the watchpoint, and the options of one command only.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from rsp.cli.arguments import parse_number
from rsp.cli.frames import backtrace_text, frame_in_json
from rsp.cli.json import stop_in_json
from rsp.cli.progress import Progress
from rsp.cli.text import place, printable
from rsp.errors import LocalProtocolError, RspError, RspTimeout

if TYPE_CHECKING:
    import argparse

    from rsp.remote.target import Target
    from rsp.run.points import Point
    from rsp.run.stop import Stop
    from rsp.symbols.table import SymbolTable


def add_count(parser: argparse.ArgumentParser) -> None:
    """Add ``--count``."""
    parser.add_argument(
        "--count",
        metavar="N",
        type=parse_number,
        default=1,
        help="stop at the Nth hit (default: 1)",
    )


def check_count(count: int) -> None:
    """Raise LocalProtocolError where there is nothing to run to."""
    if count < 1:
        raise LocalProtocolError("--count 0: a breakpoint is hit once at least")


class Missed(RspError):
    """The program ended before it came where it was awaited."""


def run_to(target: Target, point: Point, arguments: argparse.Namespace, verb: str) -> Stop:
    """Run to the hit of a point that ``--count`` says, or to another stop before it.

    Args:
        target: what runs, at most for ``--timeout``.
        point: the breakpoint or watchpoint.
        arguments: the options.
        verb: what a hit is, for the error of a timeout: ``reached``.

    Raises:
        RspTimeout: there were fewer hits.
    """
    timeout: float = arguments.timeout
    deadline = monotonic() + timeout
    with Progress(f"waiting until it is {verb}", limit=timeout):
        while True:
            try:
                stop = target.resume(timeout=max(0.0, deadline - monotonic()))
            except RspTimeout:
                raise RspTimeout(
                    f"{missed(point, arguments.count, verb)} within {timeout:g} s; "
                    "--timeout S waits longer",
                    timeout=timeout,
                ) from None
            assert stop is not None
            if (stop.breakpoint or stop.watchpoint) is not point or point.hits >= arguments.count:
                return stop


def missed(point: Point, count: int, verb: str) -> str:
    """Say that there were fewer hits than were asked for."""
    times = f"{verb} {point.hits} times of {count}" if point.hits else f"not {verb}"
    return f"{point.what} was {times}"


def stop_text(target: Target, stop: Stop, symbols: SymbolTable | None, *more: str) -> str:
    """Return a stop for people, with more lines behind the first: source line and frames."""
    if stop.ended:
        return printable(str(stop))
    where = place(symbols, target.registers.pc)
    lines = [f"{stop} at {where}", *more, target.current_line().expandtabs()]
    return "\n".join([*map(printable, lines), backtrace_text(target.backtrace())])


def stop_facts(target: Target, stop: Stop, point: Point, **more: str | None) -> dict[str, object]:
    """Return a stop as JSON has it, with more about the point, and its frames."""
    line = stop.line
    told = {
        **stop_in_json(stop),
        "pc": None if stop.ended else f"{target.registers.pc:#x}",
        "function": stop.function,
        "file": line.file if line is not None else None,
        "line": line.line if line is not None else None,
        "hits": point.hits,
        **more,
    }
    frames = [] if stop.ended else [frame_in_json(frame) for frame in target.backtrace()]
    return {"stop": told, "frames": frames}
