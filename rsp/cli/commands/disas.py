"""``rsp disas``: disassemble code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_spec, add_target, look_at, parse_number
from rsp.cli.json import print_json
from rsp.cli.text import printable

if TYPE_CHECKING:
    import argparse

    from rsp.inferior.disassembly import Instruction

DEFAULT_COUNT = 16

USAGE: Final = "TARGET SPEC [--count N] [OPTION ...]"
EXAMPLES: Final = (
    "rsp disas :1234 0xfffffff0 --count 1",
    "rsp disas :1234 vfs_read --symbols vmlinux",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)
    add_spec(parser)
    parser.add_argument(
        "--count",
        metavar="N",
        type=parse_number,
        default=DEFAULT_COUNT,
        help="number of instructions (default: %(default)d)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the instructions."""
    with look_at(arguments) as target:
        found = target.disassemble(arguments.spec, arguments.count)
    if arguments.json:
        print_json({"instructions": [as_json(each) for each in found]})
        return 0
    for each in found:
        where, tab, text = str(each).partition("\t")
        print(printable(where) + tab + printable(text))
    return 0


def as_json(instruction: Instruction) -> dict[str, str | None]:
    """Return an instruction as JSON has it."""
    return {
        "address": f"{instruction.address:#x}",
        "bytes": instruction.bytes.hex(),
        "text": instruction.text,
        "symbol": instruction.symbol,
    }
