"""A progress bar on a terminal."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import Self, TextIO

_WIDTH: Final = 30
_BETWEEN: Final = 0.1  # seconds
_MIB: Final = 1 << 20


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads the stream; one that was closed when we started is None."""
    return stream is not None and stream.isatty()


class Progress:
    """Shows on stderr how much of something long is done; a context manager.

    Nothing is shown where stderr is no terminal, or where all comes in one piece.

    Args:
        total: the bytes to come, as far as that is known.
        shown: False to show nothing.
        what: what is being done, in a few words.
    """

    def __init__(self, total: int = 0, *, shown: bool = True, what: str = "") -> None:
        self._what = f"{what} " if what else ""
        self._total = total
        self._shown = shown and is_terminal(sys.stderr)
        self._started = monotonic()
        self._drawn = 0.0
        self._length = 0

    def update(self, done: int, total: int | None = None) -> None:
        """Say how many bytes are done, and of how many where that was not known before."""
        self._total = self._total if total is None else total
        now = monotonic()
        if done >= self._total:
            self.erase()
        if not self._shown or done >= self._total or now < self._drawn + _BETWEEN:
            return
        self._drawn = now
        rate = done / max(now - self._started, _BETWEEN) / _MIB
        bar = "#" * (_WIDTH * done // self._total)
        line = (
            f"{self._what}[{bar:<{_WIDTH}}] {100 * done // self._total:3} %  "
            f"{done / _MIB:.1f} of {self._total / _MIB:.1f} MiB, {rate:.1f} MiB/s"
        )
        self._draw(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.erase()

    def erase(self) -> None:
        """Wipe the bar off the terminal, if there is one."""
        if self._length:
            self._draw("")
            print("\r", end="", file=sys.stderr, flush=True)
            self._length = 0

    def _draw(self, line: str) -> None:
        self._length = max(self._length, len(line))  # first, as Ctrl-C may come at any moment
        print(f"\r{line:<{self._length}}", end="", file=sys.stderr, flush=True)
