"""``rsp slide``: how far KASLR moved the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_target
from rsp.cli.json import print_json
from rsp.cli.kernel import connect_kernel

if TYPE_CHECKING:
    import argparse

USAGE: Final = "TARGET --symbols FILE [OPTION ...]"
EXAMPLES: Final = ("rsp slide :1234 --symbols vmlinux",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the slide."""
    with connect_kernel(arguments) as kernel:
        slide = kernel.slide
    if arguments.json:
        print_json({"slide": f"{slide:#x}"})
    else:
        print(f"{slide:#x}")
    return 0
