"""Text that comes between packets: a console that shares the line.

Here lives the bounded buffer behind ``target.console``. Breaking in and sending to the console is
the business of ``line``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT: Final = 1 << 20


class ConsoleText:
    """What the console printed, the newest mebibyte of it.

    >>> console = ConsoleText()
    >>> console.feed(b"login: ")
    >>> console.read()
    'login: '

    Attributes:
        callback: called with each piece of text as it comes; None for no one.
    """

    def __init__(self) -> None:
        self.callback: Callable[[str], None] | None = None
        self._kept = bytearray()

    def feed(self, data: bytes) -> None:
        """Take in bytes from the line."""
        self._kept += data
        if len(self._kept) > _KEPT:
            del self._kept[: len(self._kept) - _KEPT]
        if self.callback is not None:
            self.callback(data.decode("utf-8", "replace"))

    def read(self) -> str:
        """Return the text that came since the last call, and forget it."""
        text = self._kept.decode("utf-8", "replace")
        self._kept.clear()
        return text
