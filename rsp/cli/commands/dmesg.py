"""``rsp dmesg``: the kernel log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_target
from rsp.cli.json import print_json
from rsp.cli.kernel import connect_kernel
from rsp.cli.text import printable_lines

if TYPE_CHECKING:
    import argparse

USAGE: Final = "TARGET --symbols FILE [OPTION ...]"
EXAMPLES: Final = ("rsp dmesg :1234 --symbols vmlinux",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the messages, the oldest first."""
    with connect_kernel(arguments) as kernel:
        records = kernel.log()
    if arguments.json:
        print_json(
            {
                "records": [
                    {
                        "time": record.time,
                        "level": record.level,
                        "text": record.text,
                        "facility": record.facility,
                        "sequence": record.sequence,
                        "caller": record.caller,
                    }
                    for record in records
                ]
            }
        )
        return 0
    for record in records:
        print(printable_lines(str(record)))
    return 0
