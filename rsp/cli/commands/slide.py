"""``rsp slide``: how far KASLR has moved a running kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.cli.arguments import add_target
from rsp.cli.json import print_json
from rsp.cli.kernel import connect_kernel

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command line has."""
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
