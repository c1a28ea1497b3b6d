"""``rsp write``: write memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_address, add_target, connect, parse_bytes, symbols_of
from rsp.cli.json import print_answer
from rsp.cli.text import place
from rsp.inferior.locations import address_of

if TYPE_CHECKING:
    import argparse

USAGE: Final = "TARGET ADDR HEX [OPTION ...]"
EXAMPLES: Final = ("rsp write :1234 0x7c00 90f4",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)
    add_address(parser)
    parser.add_argument(
        "data",
        metavar="HEX",
        type=parse_bytes,
        help="the bytes in the order of memory, two digits each: 90f4",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write all of it, or fail."""
    data: bytes = arguments.data
    with connect(arguments) as target:
        symbols = symbols_of(arguments, target)
        address = address_of(arguments.address, target.inferior)
        target.write_memory(address, data)
        text = f"{len(data)} bytes written at {place(symbols, address)}"
    print_answer({"address": f"{address:#x}", "written": len(data)} if arguments.json else text)
    return 0
