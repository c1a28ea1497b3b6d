"""A socket that one client may connect to.

Contents: the spelling of a listening address, and the socket. Not here: what is said to the client
(see `rsp.cli.relay` and `rsp.cli.playback`).
"""

from __future__ import annotations

import errno
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from rsp.errors import TargetAddressError, TransportError

if TYPE_CHECKING:
    from typing import Self

FORMS = ":1234, host:1234, [::1]:1234, unix:/path"
"""What LISTEN may be, for the help of a command; port 0 is any free one."""

_LOOPBACK = "127.0.0.1"
_TCP = re.compile(r"(?P<host>[\w.-]*|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})", re.ASCII)


class Listener:
    """Listens from the start; a context manager.

    A port alone is reachable from this machine only: whoever reaches a stub owns its target.

    >>> with Listener(":0") as listener:
    ...     listener.address.startswith("127.0.0.1:")
    True

    Args:
        text: one of `FORMS`.

    Attributes:
        address: where it listens, in a spelling that ``rsp.connect`` takes.

    Raises:
        TargetAddressError: the text has none of the forms.
        TransportError: one cannot listen there.
    """

    def __init__(self, text: str) -> None:
        self._path: Path | None = None
        try:
            if text.startswith("unix:") and len(text) > len("unix:"):
                self._socket = socket.socket(socket.AF_UNIX)
                path = text.removeprefix("unix:")
                self._bind(path)
                self._path = Path(path)
                self.address: str = text
            elif (found := _TCP.fullmatch(text)) and int(found["port"]) <= 0xFFFF:
                host = found["host"].strip("[]") or _LOOPBACK
                family, _, _, _, where = socket.getaddrinfo(
                    host, int(found["port"]), type=socket.SOCK_STREAM
                )[0]
                self._socket = socket.socket(family)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._bind(where)
                host, port = self._socket.getsockname()[:2]
                self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            else:
                raise TargetAddressError(
                    f"{text!r} is no address to listen at; the forms are: {FORMS}", address=text
                )
        except (OSError, UnicodeError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                # A unix socket outlives a listener that was killed.
                reason += "; remove the file" if text.startswith("unix:") else "; take another port"
            raise TransportError(f"cannot listen at {text}: {reason}", address=text) from error

    def accept(self) -> socket.socket:
        """Wait for a client, for ever; after it nobody is let in.

        Raises:
            TransportError: no client can be taken.
        """
        try:
            client, _ = self._socket.accept()
        except OSError as error:
            raise TransportError(
                f"{self.address}: {error.strerror}", address=self.address
            ) from error
        self.close()
        if client.family != socket.AF_UNIX:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def close(self) -> None:
        """Stop listening. May be called twice."""
        self._socket.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bind(self, where: object) -> None:
        try:
            self._socket.bind(where)  # type: ignore[arg-type]
            self._socket.listen(1)
        except BaseException:
            self._socket.close()
            raise
