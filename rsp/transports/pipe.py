"""A program started here, which speaks on its standard input and output: ``| gdbserver - ./prog``.

Contents: starting it, and ending it again. Reading and writing are in `rsp.transports.descriptor`:
as in gdb (gdb/ser-pipe.c), the program gets one end of a pair of sockets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

from rsp.errors import ConnectionLost
from rsp.transports.base import open_error
from rsp.transports.descriptor import DescriptorTransport

if TYPE_CHECKING:
    from rsp.transports.address import PipeAddress
    from rsp.transports.base import Transport

# Seconds that a program has to end by itself once its input has ended, and then after SIGTERM.
_GRACE = 1.0


def connect(address: PipeAddress, *, timeout: float) -> Transport:
    """Start the program. Its error output is passed on to ours.

    Args:
        address: the command, split into words as a shell does, but run without one.
        timeout: not needed here; starting a program does not wait for it.

    Raises:
        TransportError: it cannot be started.
    """
    del timeout
    return PipeTransport(shlex.split(address.command), address=str(address))


class PipeTransport(DescriptorTransport):
    """The standard input and output of a program.

    The program is in a session of its own, so that Ctrl-C on our terminal does not reach it.
    `close` ends its input, and after a second its life.

    Args:
        words: the program and its arguments.
        address: how to name it in messages.
    """

    def __init__(self, words: list[str], *, address: str) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - the user's own command, no shell
                    words,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            ours.close()
            advice = {
                errno.ENOENT: f"there is no program {words[0]!r} in PATH; is it installed?",
                errno.EACCES: f"{words[0]!r} may not be executed",
                errno.ENOEXEC: f"{words[0]!r} is no program that this machine can run",
            }
            raise open_error(error, address, advice) from error
        except BaseException:
            ours.close()
            raise
        super().__init__(ours, address=address, reliable=True)

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`.

        Raises:
            ConnectionLost: the program failed; what it had to say of it was passed on.
        """
        data = super().read(max_bytes, timeout)
        if not data:
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = self._process.wait(_GRACE)
                if status:
                    how = (
                        f"was ended by {signal.Signals(-status).name}"
                        if status < 0
                        else f"ended with exit status {status}"
                    )
                    raise ConnectionLost(
                        f"{self.address} {how}; its error output says why", address=self.address
                    )
        return data

    def close(self) -> None:
        """See `Transport.close`. Waits until the program has ended."""
        super().close()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is not None:
                return
            if number is not None:
                # The group, so that the children of a wrapper (sh, sudo) end with it. It exists
                # as long as its leader has not been waited for.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
