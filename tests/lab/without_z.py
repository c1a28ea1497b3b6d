"""A stub without breakpoints: gdbserver, of which a relay hides that it has any.

Contents: the relay, which answers ``Z`` and ``z`` by itself, as a stub that does not know them.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket

from lab.relay import POLL, SIZE, Relay

_PACKET = re.compile(rb"\$([^#]*)#..", re.DOTALL)


class WithoutZ(Relay):
    """Takes clients to a gdbserver.

    Args:
        target: its ``host:port``.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = target

    def _serve(self, client: socket.socket) -> None:
        host, _, port = self._target.rpartition(":")
        with socket.create_connection((host, int(port))) as stub, contextlib.suppress(OSError):
            for one in (client, stub):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pass_on(client, stub)

    def _pass_on(self, client: socket.socket, stub: socket.socket) -> None:
        waiting = b""  # a packet of the client's that has not come whole
        acks = True
        while not self._over.is_set():
            for ready in select.select([client, stub], [], [], POLL)[0]:
                data = ready.recv(SIZE)
                if not data:
                    return
                if ready is stub:
                    client.sendall(data)
                    continue
                waiting += data
                # One at a time: what is asked next is answered after what was asked before.
                while found := _PACKET.search(waiting):
                    before, waiting = waiting[: found.end()], waiting[found.end() :]
                    if found[1][:1] in (b"Z", b"z"):
                        stub.sendall(before[: found.start()])
                        client.sendall(b"+$#00" if acks else b"$#00")
                    else:
                        stub.sendall(before)
                        acks = acks and found[1] != b"QStartNoAckMode"
                if b"$" not in waiting:
                    stub.sendall(waiting)
                    waiting = b""
