"""A program started here, which speaks on its standard input and output: ``| gdbserver - ./prog``.

Contents: starting it, and ending it again. Reading and writing are in `rsp.transports.descriptor`:
as in gdb (gdb/ser-pipe.c), a shell reads the command, and gets one end of a pair of sockets.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from rsp.errors import ConnectionLost, TransportError
from rsp.transports.base import open_error
from rsp.transports.descriptor import DescriptorTransport

if TYPE_CHECKING:
    from rsp.transports.address import PipeAddress
    from rsp.transports.base import Transport

# Seconds that a program has to end by itself once its input has ended, and then after SIGTERM.
_GRACE = 1.0
_GLANCE = 0.01

_SHELL = "/bin/sh"
# What no shell reads as anything but a part of a word.
_PLAIN = re.compile(r"[\w./+@%:, -]+")
# A shell says with 128 and more by which signal its program was ended.
_BY_SIGNAL = 128


def connect(address: PipeAddress, *, timeout: float) -> Transport:
    """Start the program. Its error output is passed on to ours.

    Args:
        address: the command, for a shell.
        timeout: not needed here; starting a program does not wait for it.

    Raises:
        TransportError: it cannot be started.
    """
    del timeout
    if (failure := _missing(address.command)) is not None:
        raise failure
    return PipeTransport(address.command, address=str(address))


def _missing(command: str) -> TransportError | None:
    """Return the error for a program that is not there; None where only the shell can tell."""
    word, *rest = shlex.split(command)
    if word == "exec" and rest:
        word = rest[0]
    if not _PLAIN.fullmatch(word) or word.startswith("-") or shutil.which(word):
        return None
    number = errno.ENOENT
    if "/" in word:
        number = errno.EACCES if os.path.exists(word) else number  # noqa: PTH110 - as the shell
    elif not subprocess.run(  # noqa: S603 - a word of the shell's own, such as cd
        [_SHELL, "-c", 'command -v -- "$0"', word], check=False, stdout=subprocess.DEVNULL
    ).returncode:
        return None
    advice = {
        errno.ENOENT: f"there is no program {word!r} in PATH; is it installed?",
        errno.EACCES: f"{word!r} may not be executed",
    }
    return open_error(OSError(number, os.strerror(number)), f"| {command}", advice)


class PipeTransport(DescriptorTransport):
    """The standard input and output of a program, or of what else a shell makes of the command.

    It is in a session of its own, so that Ctrl-C on our terminal does not reach it. `close` ends
    its input, and after a second its life.

    Args:
        command: for a shell.
        address: how to name it in messages.
    """

    def __init__(self, command: str, *, address: str) -> None:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                    [_SHELL, "-c", command],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    start_new_session=True,
                )
        except (OSError, ValueError) as error:
            ours.close()
            raise open_error(error, address) from error
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
                    raise ConnectionLost(
                        f"{self.address} {_how(status)}; its error output says why",
                        address=self.address,
                    )
        return data

    def close(self) -> None:
        """See `Transport.close`. Waits until the program has ended."""
        super().close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
            return
        # All of the session: a shell ends at once, and what it has started may want to tidy up.
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal(number)
            end = time.monotonic() + _GRACE
            while time.monotonic() < end:
                if self._process.poll() is not None and not self._signal(0):
                    return
                time.sleep(_GLANCE)

    def _signal(self, number: int) -> bool:
        """Send a signal to the program and its children; return whether any is there."""
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return False
        except PermissionError:  # sudo's
            pass
        return True


def _how(status: int) -> str:
    """Say how a program has ended."""
    number = -status if status < 0 else status - _BY_SIGNAL
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(number).name}"
    return f"ended with exit status {status}"
