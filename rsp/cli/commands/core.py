"""``rsp core``: write an ELF core of a stop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_target, connect
from rsp.cli.json import print_json
from rsp.cli.progress import Progress
from rsp.coredump import write_core

if TYPE_CHECKING:
    import argparse

USAGE: Final = "TARGET -o FILE [OPTION ...]"
EXAMPLES: Final = ("rsp core :1234 -o machine.core",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        required=True,
        help="the core; one that is there is replaced once the new one is complete",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the core, or leave what is there as it is."""
    output: Path = arguments.output
    with connect(arguments) as target:
        if arguments.symbols is not None and target.has_symbols:
            _ = target.symbols  # finds the kernel, and says where it cannot
        bar = Progress("writing the core")
        try:
            with bar:
                write_core(target, output, bar.update)
        except BaseException as error:
            error.add_note(f"{output} is as it was")
            raise
    size = output.stat().st_size
    if arguments.json:
        print_json({"file": str(output), "size": size})
    else:
        print(f"{output}: a core of {size} bytes", file=sys.stderr)
    return 0
