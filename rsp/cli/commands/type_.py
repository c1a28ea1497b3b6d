"""``rsp type``: the layout of a type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_symbol_file, open_symbols
from rsp.cli.json import print_json
from rsp.cli.progress import Progress
from rsp.cli.text import printable

if TYPE_CHECKING:
    import argparse

USAGE: Final = "FILE NAME [OPTION ...]"
EXAMPLES: Final = ("rsp type vmlinux 'struct list_head'",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_symbol_file(parser)
    parser.add_argument(
        "name", metavar="NAME", help="'struct task_struct', 'union x', 'enum y', or a typedef"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the layout as gdb's ``ptype /o`` does."""
    with Progress("searching the symbols"):
        table = open_symbols(arguments)
        found = table.type(arguments.name)
    if not arguments.json:
        from rsp.symbols.types.text import definition

        for line in definition(found, offsets=True).splitlines():
            print(printable(line))
        return 0
    print_json(
        {
            "name": str(found),
            "size": found.size,
            "members": [
                {
                    "name": member.name,
                    "type": str(member.type),
                    "offset": member.offset,
                    "size": member.size,
                    "bit_offset": member.bit_offset,
                    "bit_size": member.bit_size,
                }
                for member in found.members
            ],
        }
    )
    return 0
