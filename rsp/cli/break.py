"""``rsp break``: run to a place, and say who has come there."""  # noqa: N999 - its command's name

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from rsp.cli.arguments import add_target, connect, parse_number, symbols_of
from rsp.cli.bt import frame_in_json
from rsp.cli.text import place, print_json, printable
from rsp.errors import LocalProtocolError, RspTimeout
from rsp.target.points import BreakpointKind

if TYPE_CHECKING:
    import argparse

    from rsp.target.points import Breakpoint
    from rsp.target.stop import Stop
    from rsp.target.target import Target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command line has."""
    add_target(parser)
    parser.add_argument(
        "spec",
        metavar="SPEC",
        help="0x7c00, and with --symbols a function with all its inlined copies, a line "
        "(tcp.c:414), or start_kernel+0x10",
    )
    parser.add_argument("--hw", action="store_true", help="by hardware, whatever is there")
    parser.add_argument(
        "--count",
        metavar="N",
        type=parse_number,
        default=1,
        help="run to the Nth time (default: 1)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run to the place, at most for the timeout, and print the stop and the frames."""
    if arguments.count < 1:
        raise LocalProtocolError("--count 0: a breakpoint is hit once at least")
    kind = BreakpointKind.HARDWARE if arguments.hw else BreakpointKind.AUTO
    # What is inserted is taken out again when the connection ends, however that comes.
    with connect(arguments) as target:
        point = target.breakpoint(arguments.spec, kind=kind)
        stop = _run(target, point, arguments.count, arguments.timeout)
        backtrace = None if stop.ended else target.backtrace()
        if arguments.json:
            frames = [frame_in_json(frame) for frame in backtrace or ()]
            print_json({"stop": _stop_in_json(target, stop, point), "frames": frames})
            return 0
        lines = [point.reason] if point.reason else []
        if backtrace is None:
            lines.append(str(stop))
        else:
            where = place(symbols_of(arguments, target), target.registers.pc)
            lines += [f"{stop} at {where}", target.current_line().expandtabs()]
            lines += str(backtrace).splitlines()
    print("\n".join(printable(line) for line in lines))
    return 0


def _run(target: Target, point: Breakpoint, count: int, timeout: float) -> Stop:
    """Run to the breakpoint's last hit that is asked for, or to another stop before that."""
    deadline = monotonic() + timeout
    while True:
        try:
            stop = target.resume(timeout=max(0.0, deadline - monotonic()))
        except RspTimeout:
            reached = f"reached {point.hits} times of {count}" if point.hits else "not reached"
            raise RspTimeout(
                f"{point.what} was {reached} within {timeout:g} s; --timeout S waits longer",
                timeout=timeout,
            ) from None
        assert stop is not None
        if stop.breakpoint is not point or point.hits >= count:
            return stop


def _stop_in_json(target: Target, stop: Stop, point: Breakpoint) -> dict[str, object]:
    line = stop.line
    return {
        "reason": stop.reason.value,
        "signal": stop.signal_name or None,
        "thread": stop.thread.id if stop.thread is not None else None,
        "pc": None if stop.ended else f"{target.registers.pc:#x}",
        "function": stop.function,
        "file": line.file if line is not None else None,
        "line": line.line if line is not None else None,
        "hits": point.hits,
        "kind": point.kind.value,
        "why": point.reason or None,
    }
