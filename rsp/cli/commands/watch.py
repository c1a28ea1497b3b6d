"""``rsp watch``: run until a variable changes and show the stop."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_target, connect, parse_length, parse_place, symbols_of
from rsp.cli.json import print_answer
from rsp.cli.stops import Missed, add_count, check_count, missed, run_to, stop_facts, stop_text
from rsp.cli.values import bare_value
from rsp.errors import ExpressionError, NoHardwareBreakpoint
from rsp.run.points import Watch

if TYPE_CHECKING:
    import argparse

    from rsp.remote.target import Target
    from rsp.run.points import Watchpoint
    from rsp.run.stop import Stop
    from rsp.values.value import Value

USAGE: Final = "TARGET EXPR [--read | --access] [--count N] [OPTION ...]"
EXAMPLES: Final = (
    "rsp watch :1234 jiffies_64 --symbols vmlinux",
    "rsp watch :1234 0x7dfe:2 --access --timeout 60",
)

_VERBS: Final = {Watch.WRITE: "changed", Watch.READ: "read", Watch.ACCESS: "accessed"}
_ADDRESS: Final = re.compile(r"(?P<place>[\w.$@+]+):(?P<length>\w+)|(?P<number>[0-9]\w*)")
_WORDS: Final = {"i386": 4, "x86-64": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """What is to be watched.

    Attributes:
        text: how the user says it.
        place: its address; None for an expression of C, which has an address and a size.
        length: its size; None for a word.
    """

    text: str
    place: str | None = None
    length: int | None = None


def _parse(text: str) -> _Watched:
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return _Watched(text=text)
    place = parse_place(found["place"] or found["number"])
    return _Watched(
        text=text, place=place, length=parse_length(found["length"]) if found["length"] else None
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser, runs=True)
    parser.add_argument(
        "watched",
        metavar="EXPR",
        type=_parse,
        help="a variable in memory: jiffies_64, init_task.comm; or ADDR[:LENGTH]: 0x7c00:2, "
        "counter:8 (by default a word is watched)",
    )
    accesses = parser.add_mutually_exclusive_group()
    accesses.add_argument(
        "--read",
        dest="watch",
        action="store_const",
        const=Watch.READ,
        help="stop when it is read (QEMU only: x86 CPUs cannot watch reads alone)",
    )
    accesses.add_argument(
        "--access",
        dest="watch",
        action="store_const",
        const=Watch.ACCESS,
        help="stop when it is read or written",
    )
    parser.set_defaults(watch=Watch.WRITE)
    add_count(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run until it is accessed, at most for the timeout; print the stop, the values, the frames.

    A program that has ended before is an error, behind what is printed of its end.
    """
    check_count(arguments.count)
    verb = _VERBS[arguments.watch]
    with connect(arguments) as target:
        point = _insert(target, arguments)
        stop = run_to(target, point, arguments, verb)
        answer = (
            stop_facts(target, stop, point, kind=point.watch.value)
            | {"old": _bare(stop.old), "new": _bare(stop.new)}
            if arguments.json
            else _text(arguments, target, stop)
        )
    print_answer(answer)
    if stop.ended:
        raise Missed(f"{missed(point, arguments.count, verb)} before the program ended: {stop}")
    return 0


def _insert(target: Target, arguments: argparse.Namespace) -> Watchpoint:
    watched: _Watched = arguments.watched
    where: Value | str
    if watched.place is None:
        where = _variable(target, watched.text)
        length = where.type_.size or 0
    else:
        where, length = watched.place, watched.length or _WORDS[target.arch.name]
    try:
        point = target.watchpoint(where, length, arguments.watch)
    except NoHardwareBreakpoint as error:
        if length > max(_WORDS.values()):
            error.add_note(f"{watched.text} has {length} bytes, and a debug register watches 8")
        if arguments.watch is Watch.READ:
            error.add_note("an x86 CPU cannot watch reads alone: take --access")
        raise
    point.what = watched.text
    if point.watch is Watch.WRITE:
        # As gdb's ``watch``, not at a write of what was there before.
        point.condition = lambda _: point.before is None or point.before != point.after
    return point


def _variable(target: Target, expression: str) -> Value:
    value = target.value(expression)
    if value.address_ is None:
        raise ExpressionError(
            f"{expression} has no address: it is in a register, a bit-field or computed, and only "
            "memory can be watched"
        )
    if not value.type_.size:
        raise ExpressionError(
            f"nothing says how many bytes {expression} has; say it: {expression}:8"
        )
    return value


def _bare(value: Value | None) -> object:
    return None if value is None else bare_value(value)


def _text(arguments: argparse.Namespace, target: Target, stop: Stop) -> str:
    old, new = (_shown(value, stop) for value in (stop.old, stop.new))
    if old is None or old == new:
        values = [f"value = {new}"] if new is not None else []
    else:
        values = [f"old value = {old}", f"new value = {new or '<unavailable>'}"]
    alone = replace(stop, old=None, new=None)  # they have lines of their own
    return stop_text(target, alone, symbols_of(arguments, target), *values)


def _shown(value: Value | None, stop: Stop) -> str | None:
    """Return a value as gdb prints it, or in hex where nothing says what it is."""
    if value is None or stop.watchpoint is None:
        return None
    if stop.watchpoint.ctype is not None:
        return str(value)
    data = value.bytes_()
    return (
        f"{int.from_bytes(data, 'little'):#x}"
        if len(data) <= max(_WORDS.values())
        else data.hex(" ")
    )
