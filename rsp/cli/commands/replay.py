"""``rsp replay``: serve a recording as a stub."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Final

from rsp.cli.listen import FORMS, Listener
from rsp.cli.playback import Playback

if TYPE_CHECKING:
    import argparse

_SIZE = 1 << 16

USAGE: Final = "LOG --listen LISTEN"
EXAMPLES: Final = ("rsp replay session.rsplog --listen :1234",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "log", metavar="LOG", help="a recording: from --record, rsp proxy or gdb's remotelogfile"
    )
    parser.add_argument(
        "--listen",
        metavar="LISTEN",
        required=True,
        help=f"where clients connect: {FORMS}; port 0 takes a free one",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve one client, which has to do what the recorded one did."""
    with Playback(arguments.log) as playback, Listener(arguments.listen) as listener:
        print(f"listening at {listener.address}", file=sys.stderr, flush=True)
        with listener.accept() as client:
            _serve(playback, client)
    return 0


def _serve(playback: Playback, client: socket.socket) -> None:
    while True:
        try:
            client.sendall(playback.data_to_send())
            if playback.ended:
                client.shutdown(socket.SHUT_WR)
            data = client.recv(_SIZE)
        except OSError:  # it has gone, and what it left unread is no matter
            data = b""
        if not data:
            playback.receive_eof()
            return
        playback.receive_data(data)
