"""``rsp proxy``: record what gdb and a stub say to each other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_timeout
from rsp.cli.listen import FORMS, Listener
from rsp.cli.relay import relay
from rsp.recording import Recorder
from rsp.transports import open_transport
from rsp.transports.address import parse_address
from rsp.transports.descriptor import DescriptorTransport

if TYPE_CHECKING:
    import argparse

    from rsp.transports.base import Transport

USAGE: Final = "LISTEN TARGET --record LOG [--timeout S]"
EXAMPLES: Final = ("rsp proxy :2345 :1234 --record session.rsplog",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "listen", metavar="LISTEN", help=f"where gdb connects: {FORMS}; port 0 takes a free one"
    )
    parser.add_argument("target", metavar="TARGET", help="the stub's address, as for rsp info")
    parser.add_argument(
        "--record",
        metavar="LOG",
        required=True,
        help="the new file for the recording, in the format of gdb's remotelogfile",
    )
    add_timeout(parser)


def run(arguments: argparse.Namespace) -> int:
    """Pass on what one client and the stub say, until either closes."""
    parse_address(arguments.target)  # its errors are better told now than when gdb comes
    with Listener(arguments.listen) as listener, Recorder(arguments.record) as recorder:
        try:
            print(f"listening at {listener.address}", file=sys.stderr, flush=True)
            client = DescriptorTransport(listener.accept(), address=listener.address, reliable=True)
            # Not before: it stops the machine of a QEMU, and starts the program of a pipe.
            target = _open(arguments, client)
        except BaseException:
            Path(arguments.record).unlink()  # there is nothing in it
            raise
        with client, target:
            relay(client, target, recorder)
    return 0


def _open(arguments: argparse.Namespace, client: Transport) -> Transport:
    try:
        return open_transport(arguments.target, timeout=arguments.timeout)
    except BaseException:
        client.close()
        raise
