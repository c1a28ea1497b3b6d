"""The progress line: it says on a terminal what a command waits for and how far that has come.

Contents: the text of the line, how it fits the terminal, and when it is drawn and wiped. Not here:
output that stays.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self, TextIO

_PATIENCE: Final = 0.5  # seconds; what takes no longer needs no line, unless it is counted
_BETWEEN: Final = 0.1
_MIB: Final = 1 << 20
_WIDEST: Final = 30  # a bar
_NARROWEST: Final = 8
_SHORTEST: Final = 4  # a word
_COLUMNS: Final = 80  # of a terminal that does not say
# Columns that stay free: for what a terminal echoes of Ctrl-C, and the last one, behind which some
# begin a new line.
_FREE: Final = len("^C") + 1
_ERASE_REST: Final = "\x1b[K"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person reads the stream; one that was closed when we started is None."""
    return stream is not None and stream.isatty()


class Progress:
    """Says on stderr what takes long, while its block runs.

    Nothing is shown where stderr is no terminal. Bytes that are counted are shown at once, else the
    first half second is silent. Of blocks within each other the innermost is shown. In a block that
    is shown nothing may be printed.

    Args:
        what: what is being done, in a few words of ASCII.
        total: how many bytes are to come, where `update` says how many have.
        limit: how many seconds it may take, where it may not take for ever.
        shown: False to show nothing.
    """

    def __init__(
        self,
        what: str,
        *,
        total: int | None = None,
        limit: float | None = None,
        shown: bool = True,
    ) -> None:
        self._what = what
        self._total = total
        self._limit = limit
        self._shown = shown
        self._done = 0
        self._started = monotonic()

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def begin(self) -> None:
        """Begin the block."""
        self._started = monotonic()
        _LINE.begin(self)

    def end(self) -> None:
        """End the block."""
        _LINE.end(self)

    def update(self, done: int, total: int | None = None) -> None:
        """Say how many bytes are done, and of how many where that was not known before."""
        self._done = done
        self._total = total or self._total

    def now(self, width: int) -> str:
        """Return what there is to say now."""
        elapsed = monotonic() - self._started
        silent = not self._shown or (not self._total and elapsed < _PATIENCE)
        return "" if silent else self.text(width, elapsed)

    def text(self, width: int, elapsed: float) -> str:
        """Return what there is to say after so many seconds, in at most ``width`` characters.

        >>> reading = Progress("reading", total=4 << 20)
        >>> reading.update(1 << 20)
        >>> reading.text(60, elapsed=2.0)
        'reading [####             ]  25 %, 1.0 of 4.0 MiB, 0.5 MiB/s'
        """
        return next((each for each in self._forms(width, elapsed) if len(each) <= width), "")

    def _forms(self, width: int, elapsed: float) -> Iterator[str]:
        """Give ways to say it, the shorter the later."""
        seconds = f"{elapsed:.0f} s"
        if self._total:
            fraction = min(1.0, self._done / self._total)
            share = f"{100 * fraction:3.0f} %"
            amount = (
                f"{share}, {self._done / _MIB:.1f} of {self._total / _MIB:.1f} MiB, "
                f"{self._done / max(elapsed, _BETWEEN) / _MIB:.1f} MiB/s"
            )
            details = (amount, share)
        elif self._limit:
            fraction = min(1.0, elapsed / self._limit)
            details = (f"{seconds} of {self._limit:g} s", seconds)
        else:
            yield f"{self._what}, {seconds}"
            room = width - len(f"... {seconds}")
            if room >= _SHORTEST:
                yield f"{self._what[:room]}... {seconds}"
            yield seconds
            return
        for detail in details:
            yield from _bars(f"{self._what} [", fraction, f"] {detail}", width)
        yield from _bars("[", fraction, f"] {details[-1]}", width)
        yield details[-1]


def _bars(before: str, fraction: float, behind: str, width: int) -> Iterator[str]:
    room = min(_WIDEST, width - len(before) - len(behind))
    if room >= _NARROWEST:
        yield f"{before}{'#' * int(room * fraction):<{room}}{behind}"


def index_progress() -> Callable[[int, int], None]:
    """Return what a `SymbolTable` is to tell of the index that it makes, if it makes one."""
    bar: Progress | None = None

    def told(done: int, total: int) -> None:
        nonlocal bar
        if bar is None and done < total:
            bar = Progress("indexing the symbols")
            bar.begin()
        if bar is not None:
            bar.update(done, total)
            if done >= total:
                bar.end()
                bar = None

    return told


def wipe() -> None:
    """Leave nothing on the terminal, whatever has ended the blocks."""
    _LINE.end(None)


class _Line:
    """The line, which a thread of its own draws while there is something to say."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: list[Progress] = []
        self._over = threading.Event()
        self._drawn = ""  # what is on the terminal

    def begin(self, block: Progress) -> None:
        if not is_terminal(sys.stderr) or os.environ.get("TERM") == "dumb":
            return
        with self._lock:
            self._draw("")
            self._blocks.append(block)
            if len(self._blocks) == 1:
                self._over = threading.Event()
                draw = threading.Thread(target=self._keep_drawing, args=(self._over,), daemon=True)
                draw.start()

    def end(self, block: Progress | None) -> None:
        """End a block, and those within it that an error has left; None ends all."""
        with self._lock:
            if block is None:
                self._blocks.clear()
            elif block in self._blocks:
                del self._blocks[self._blocks.index(block) :]
            if not self._blocks:
                self._over.set()
            self._draw("")

    def _keep_drawing(self, over: threading.Event) -> None:
        while not over.wait(_BETWEEN):
            with self._lock:
                if not over.is_set():
                    self._draw(self._blocks[-1].now(_columns() - _FREE))

    def _draw(self, text: str) -> None:
        """Put a text in the place of the last one."""
        if text != self._drawn:
            with contextlib.suppress(OSError):  # a terminal that has gone
                print(f"\r{text}{_ERASE_REST}", end="", file=sys.stderr, flush=True)
            self._drawn = text


_LINE: Final = _Line()


def _columns() -> int:
    """Return the width of the terminal as it is now."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS
    except OSError:
        return _COLUMNS
