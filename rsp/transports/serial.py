"""Serial devices of this machine, through pyserial.

Contents: opening, the speed, BREAK, and advice on what keeps a device from being opened. Reading
and writing are in `rsp.transports.descriptor`.
"""

from __future__ import annotations

import errno
import os
import stat
import termios
from pathlib import Path
from typing import TYPE_CHECKING

from rsp.errors import UnsupportedCommand
from rsp.transports.base import open_error, stream_error
from rsp.transports.descriptor import DescriptorTransport

if TYPE_CHECKING:
    import serial

    from rsp.errors import TransportError
    from rsp.transports.address import SerialAddress
    from rsp.transports.base import Transport

# The major numbers of Unix98 pseudo-terminals (Linux, Documentation/admin-guide/devices.txt).
_PTY_MAJORS = range(136, 144)


def connect(address: SerialAddress, *, timeout: float) -> Transport:
    """Open a serial device: 8 data bits, no parity, 1 stop bit, raw, for us alone.

    Args:
        address: the device and its speed.
        timeout: not needed here; a device is opened without waiting for a carrier.

    Raises:
        TransportError: there is no such device, it is no serial port, someone else has it, or it
            may not be opened; then the message has the group to join.
    """
    del timeout
    import serial

    try:
        # An inter-byte timeout is how pyserial is told VMIN=1, under which a read without data
        # fails with EAGAIN, and so an empty one means that the line was hung up.
        port = serial.Serial(
            address.device, baudrate=address.baud, exclusive=True, inter_byte_timeout=0
        )
    except (OSError, ValueError, termios.error) as error:
        raise _translate(error, address) from error
    return SerialTransport(port, address=str(address))


class SerialTransport(DescriptorTransport):
    """A serial port that pyserial has opened."""

    def __init__(self, port: serial.Serial, *, address: str) -> None:
        super().__init__(port, address=address, reliable=False)
        self._port = port
        self._can_break = os.major(os.fstat(self._fd).st_rdev) not in _PTY_MAJORS

    @property
    def can_break(self) -> bool:
        """See `Transport.can_break`: a pseudo-terminal drops it."""
        return self._can_break

    def send_break(self) -> None:
        """See `Transport.send_break`. Lasts a quarter of a second at most.

        Raises:
            UnsupportedCommand: the device is a pseudo-terminal, which drops a BREAK.
        """
        try:
            os.fstat(self._fd)  # which fails once it is closed
            if not self.can_break:
                raise UnsupportedCommand(
                    f"{self.address} is a pseudo-terminal, which drops a BREAK; give QEMU a "
                    "chardev with telnet=on instead, or use chardev-send-break in its monitor",
                    command="BREAK",
                )
            self._port.send_break()
        except termios.error as error:
            raise stream_error(OSError(*error.args), self.address) from error
        except OSError as error:
            raise stream_error(error, self.address) from error


def _translate(error: Exception, address: SerialAddress) -> TransportError:
    # pyserial hides some error numbers in a sentence; the exception that it caught has them.
    cause = error.__context__ if isinstance(error.__context__, termios.error) else error
    number = cause.args[0] if len(cause.args) > 1 else None
    if isinstance(number, int):
        told = OSError(number, os.strerror(number))
        return open_error(told, str(address), _advice(address.device))
    return open_error(ValueError(str(error)), str(address))


def _advice(device: str) -> dict[int, str]:
    busy = f"another program has it open; fuser -v {device} names it"
    socket = f"it is a socket; connect to unix:{device}"
    return {
        errno.EACCES: _how_to_get_access(device),
        errno.ENOENT: "there is no such device; is the adapter plugged in (ls /dev/ttyUSB* "
        "/dev/ttyACM*), and the name right?",
        errno.EBUSY: busy,
        errno.EAGAIN: busy,  # from flock
        errno.ENOTTY: "it is no serial port",
        errno.EISDIR: "it is a directory, and no serial port",
        errno.ENXIO: socket if Path(device).is_socket() else "there is no hardware behind it",
        errno.EIO: "there is no hardware behind it; dmesg | grep tty shows the ports that exist",
    }


def _how_to_get_access(device: str) -> str:
    import grp

    try:
        status = Path(device).stat()
        group = grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        return "you may not open it"
    needed = stat.S_IRGRP | stat.S_IWGRP
    if status.st_mode & needed == needed and status.st_gid != 0:
        join = f"sudo usermod -aG {group} $USER"
        return f"you may not open it; join its group {group!r}: {join}, then log in again"
    return (
        f"you may not open it, and neither may its group {group!r}; run this as root, or change "
        "the mode of the device by a udev rule"
    )
