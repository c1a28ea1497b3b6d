"""Files of the machine that the stub runs on (gdb manual, "Host I/O Packets").

Contents: a whole file, read. It is how gdb reads ``/proc/PID/maps``, which no other packet tells.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from rsp.wire import commands, replies

if TYPE_CHECKING:
    from rsp.session.session import Session

logger: Final = logging.getLogger("rsp.session")

MOST: Final = 1 << 24
"""The most bytes of a file that are taken: a process of 65,530 mappings, Linux's limit, has 8 MB
of ``/proc/PID/maps``."""

_READ_ONLY: Final = 0  # FileIO_O_RDONLY
_STUB_S_OWN: Final = 0  # the file system that the stub itself sees
_MOST_PIECES: Final = 1 << 16
# What goes with the bytes of an answer: ``F``, their number and a semicolon.
_AROUND: Final = len("F0123456789abcdef;")


def read_file(session: Session, path: str, *, most: int = MOST) -> bytes | None:
    """Return what is in a file of the stub's machine.

    Args:
        session: the requests.
        path: absolute, as the stub sees it.
        most: the most bytes that are taken.

    Returns:
        The content, cut off behind ``most`` bytes; None where the stub does not know the packets,
        or cannot open or read the file.

    Raises:
        RspTimeout, RemoteProtocolError, ConnectionLost: as ``Session.ask``.
    """
    session.ask(commands.FileSetFilesystem(process=_STUB_S_OWN))  # not known to all that have vFile
    opened = session.ask(commands.FileOpen(path=path, flags=_READ_ONLY, mode=0))
    if not isinstance(opened, replies.FileResult) or opened.result < 0:
        logger.debug("cannot open %s there: %r", path, opened)
        return None
    try:
        return _content(session, opened.result, most)
    finally:
        if session.usable:
            session.ask(commands.FileClose(descriptor=opened.result))


def _content(session: Session, descriptor: int, most: int) -> bytes | None:
    data = bytearray()
    largest = max(1, session.connection.limits.largest_packet - _AROUND)
    for _ in range(_MOST_PIECES):
        count = min(largest, most - len(data))
        reply = session.ask(commands.FileRead(descriptor=descriptor, count=count, offset=len(data)))
        if not isinstance(reply, replies.FileResult) or reply.result < 0:
            return None
        piece = (reply.data or b"")[:count]
        data += piece
        if not piece or len(data) >= most:
            break
    return bytes(data)
