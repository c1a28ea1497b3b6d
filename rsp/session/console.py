"""Text that comes between packets: a console that shares the line.

Contents: the bounded buffer behind ``target.console``. Where the bytes come from and go to is the
business of ``session``, breaking in that of ``line``.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, BinaryIO, Final

from rsp import arguments
from rsp.errors import LocalProtocolError
from rsp.wire.syntax import encode_text

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT: Final = 1 << 20


class ConsoleText:
    """What the console printed, the newest mebibyte of it; and the way to type on it.

    >>> console = ConsoleText()
    >>> console.feed(b"login: ")
    >>> console.read()
    'login: '

    Args:
        type_in: sends bytes to the console.

    Attributes:
        callback: called with each piece of text as it comes; None for no one. While the target runs
            and nothing waits for it, that is from a thread of its own.
        log: a binary file that gets each piece of text as it came; None for none.
    """

    def __init__(self, type_in: Callable[[bytes], None] | None = None) -> None:
        self.callback: Callable[[str], None] | None = None
        self.log: BinaryIO | None = None
        self._type_in = type_in
        self._kept = bytearray()
        self._recent = bytearray()
        # A character may come in two pieces.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes) -> None:
        """Take in bytes from the line."""
        for kept in (self._kept, self._recent):
            kept += data
            if len(kept) > _KEPT:
                del kept[: len(kept) - _KEPT]
        if self.log is not None:
            self.log.write(data)
        if self.callback is not None and (text := self._decoder.decode(data)):
            self.callback(text)

    def read(self) -> str:
        """Return the text that came since the last call, and forget it."""
        text = self._kept.decode("utf-8", "replace")
        self._kept.clear()
        return text

    def write(self, text: str | bytes) -> None:
        r"""Type on the console: ``write("dmesg\r")``. Only while the target runs.

        Raises:
            LocalProtocolError: the target stands still, so nobody reads its console.
            ConnectionLost: the other side has gone.
            ArgumentError: it is neither text nor bytes.
        """
        data = encode_text(text) if isinstance(text, str) else arguments.data(text, "text")
        if self._type_in is None:
            raise LocalProtocolError("this console has no line to type on")
        self._type_in(data)

    def forget_recent(self) -> None:
        """Let ``recent`` begin anew."""
        self._recent.clear()

    @property
    def recent(self) -> bytes:
        """What came since ``forget_recent``, read or not."""
        return bytes(self._recent)
