"""``rsp monitor``: send a command to the stub's monitor and print the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_target, connect
from rsp.cli.json import print_json
from rsp.cli.text import printable_lines

if TYPE_CHECKING:
    import argparse

USAGE: Final = "TARGET TEXT... [OPTION ...]"
EXAMPLES: Final = (
    "rsp monitor :1234 info registers",
    "rsp monitor :1234 'x /4xb 0xfffffff0'",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)
    parser.add_argument(
        "text",
        metavar="TEXT",
        nargs="+",
        help="the command, in the words of the stub: info registers (QEMU), lsmod (kgdb), help",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what the monitor prints."""
    command = " ".join(arguments.text)
    with connect(arguments) as target:
        output = target.monitor(command).replace("\r\n", "\n")  # QEMU's lines end in both
    if arguments.json:
        print_json({"command": command, "output": output})
    elif output:
        print(printable_lines(output))
    return 0
