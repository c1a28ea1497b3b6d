"""``rsp list``: the source lines around a location."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_spec, add_symbol_file, open_symbols
from rsp.cli.json import print_json
from rsp.cli.progress import Progress
from rsp.cli.text import printable

if TYPE_CHECKING:
    import argparse

USAGE: Final = "FILE SPEC [OPTION ...]"
EXAMPLES: Final = (
    "rsp list vmlinux start_kernel",
    "rsp list vmlinux init/main.c:900 --source-map /build/linux=/usr/src/linux",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_symbol_file(parser)
    add_spec(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the lines, and which they would be where the file is not found."""
    with Progress("searching the symbols"):
        table = open_symbols(arguments)
        lines = table.source(arguments.spec)
    if arguments.json:
        rows = [{"file": row.file, "line": row.line, "text": row.text} for row in lines]
        print_json({"lines": rows})
        return 0
    for row in lines:
        if row.text is None:
            print(
                f"{printable(row.file)}:{row.line}: the file is not here; "
                "say where with --source-map FROM=TO"
            )
        else:
            # printable() would join what a tab keeps apart.
            print(f"{row.line}\t{printable(row.text.expandtabs())}")
    return 0
