"""Unix domain sockets: QEMU's ``-gdb unix:/path,server=on,wait=off``, virtual serial ports.

Contents: connecting. Reading and writing are in `rsp.transports.descriptor`.
"""

from __future__ import annotations

import errno
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from rsp.errors import RspTimeout
from rsp.transports.base import open_error
from rsp.transports.descriptor import DescriptorTransport

if TYPE_CHECKING:
    from rsp.transports.address import UnixAddress
    from rsp.transports.base import Transport


def connect(address: UnixAddress, *, timeout: float) -> Transport:
    """Connect to a Unix domain socket.

    Raises:
        TransportError: there is no such socket, nothing listens on it, or it may not be used.
        RspTimeout: the listener does not answer.
    """
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(timeout)
        opened.connect(address.path)
    except TimeoutError as error:
        opened.close()
        raise RspTimeout(
            f"{address} did not answer within {timeout:g} s", timeout=timeout
        ) from error
    except (OSError, ValueError) as error:
        opened.close()
        raise open_error(error, str(address), _advice(address.path)) from error
    except BaseException:
        opened.close()
        raise
    return DescriptorTransport(opened, address=str(address), reliable=True)


def _advice(path: str) -> dict[int, str]:
    listen = f"is QEMU started with -gdb unix:{path},server=on,wait=off?"
    return {
        errno.ENOENT: f"there is no such socket; {listen}",
        errno.ECONNREFUSED: (
            f"nothing listens on it, so the program that made it has ended; {listen}"
            if _is_socket(path)
            else "it is a file, but not a socket"
        ),
        errno.EAGAIN: "it has more clients waiting than it takes; is another one attached?",
        errno.EACCES: "you may not use it; its mode must let you write (ls -l), and so must the "
        "directories above it let you pass",
        errno.EPROTOTYPE: "it is a datagram socket, and a stream is needed",
    }


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False
