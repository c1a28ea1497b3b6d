"""``rsp locations``: the addresses of a breakpoint, inlined copies included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_spec, add_symbol_file, open_symbols
from rsp.cli.json import print_json
from rsp.cli.progress import Progress
from rsp.cli.text import printable

if TYPE_CHECKING:
    import argparse

USAGE: Final = "FILE SPEC [OPTION ...]"
EXAMPLES: Final = ("rsp locations vmlinux tcp_init_sock",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_symbol_file(parser)
    add_spec(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the places, by address."""
    with Progress("searching the symbols"):
        table = open_symbols(arguments)
        places = table.locations(arguments.spec)
    if arguments.json:
        print_json(
            {
                "locations": [
                    {
                        "address": f"{place.address:#x}",
                        "function": place.function,
                        "file": place.file,
                        "line": place.line,
                    }
                    for place in places
                ]
            }
        )
        return 0
    for place in places:
        where = f" at {place.file}:{place.line}" if place.file else ""
        print(f"{place.address:#018x} in {printable(place.function or '??')}{printable(where)}")
    return 0
