"""``rsp read``: read memory as a hex dump or into a file."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from rsp.cli.arguments import add_address, add_target, look_at, parse_length
from rsp.cli.json import print_json
from rsp.cli.progress import Progress, is_terminal
from rsp.cli.text import hex_dump
from rsp.errors import MemoryFault, RspError
from rsp.inferior.locations import address_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rsp.remote.debuggee import Debuggee

_PAGE = 4096

USAGE: Final = "TARGET ADDR LENGTH [-o FILE] [--physical] [OPTION ...]"
EXAMPLES: Final = (
    "rsp read :1234 0xfffffff0 16",
    "rsp read :1234 linux_banner 64 --symbols vmlinux",
    "rsp read :1234 0 1M --physical -o memory.bin",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)
    add_address(parser)
    parser.add_argument(
        "length", metavar="LENGTH", type=parse_length, help="number of bytes: 512, 0x200, 64K, 4M"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="write the bytes to this file"
    )
    parser.add_argument(
        "--physical", action="store_true", help="ADDR is a physical address (QEMU only)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print or save what can be read, up to the first byte that cannot."""
    output: Path | None = arguments.output
    length: int = arguments.length
    fault: MemoryFault | None = None
    kept = bytearray()
    done = 0
    with look_at(arguments) as target, ExitStack() as stack:
        address = address_of(arguments.address, target.inferior)
        dumps = output is None and not arguments.json
        # A bar among the lines of a dump would be in nobody's interest.
        bar = stack.enter_context(
            Progress("reading", total=length, shown=not (dumps and is_terminal(sys.stdout)))
        )
        file: BinaryIO | None = None
        try:
            for piece in _pieces(target, address, length, physical=arguments.physical):
                if output is not None:
                    # Not before there is something to write: what is there may be of use.
                    file = file or stack.enter_context(output.open("wb"))
                    file.write(piece)
                    file.flush()  # a full disk is told here, and no more is claimed than is there
                if arguments.json:
                    kept += piece
                elif dumps:
                    print(*hex_dump(address + done, piece), sep="\n")
                done += len(piece)
                bar.update(done)
        except (RspError, OSError, KeyboardInterrupt) as error:
            if output is not None:
                error.add_note(_left(output, done, length) if file else f"{output} is as it was")
            if not isinstance(error, MemoryFault):
                raise
            fault = error
    if arguments.json:
        print_json({"address": f"{address:#x}", "data": kept.hex()})
    elif output is not None and fault is None:
        print(f"{done} bytes at {address:#x} are in {output}", file=sys.stderr)
    if fault is not None:
        raise fault
    return 0


def _left(output: Path, done: int, length: int) -> str:
    """Return what there is to say of a file that was to have more."""
    if output.is_file():
        done = output.stat().st_size  # also of a write that was cut off
    return f"{output} is partial: it has the first {done} of {length} bytes"


def _pieces(target: Debuggee, address: int, length: int, *, physical: bool) -> Iterator[bytes]:
    """Read in pieces, each about what the stub has under way at once, the last one up to a fault.

    Raises:
        MemoryFault: after everything before it has been given.
    """
    limits = target.stub.limits
    size = -(-2 * limits.window * limits.largest_read // _PAGE) * _PAGE
    end = address + length
    while address < end:
        try:
            piece = target.read_memory(address, min(size, end - address), physical=physical)
        except MemoryFault as fault:
            if fault.partial:
                yield fault.partial
            raise
        yield piece
        address += len(piece)
