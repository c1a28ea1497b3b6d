"""Ctrl-C held back while the target is between two states.

Contents: the block that holds it back, and the waits that let it through. Between the removal of a
breakpoint and the note of it, say, there is no good moment for a KeyboardInterrupt; a little later
there is. What else a program may turn into an exception (SIGTERM, SIGHUP, SIGALRM) is held, too.
"""

from __future__ import annotations

import signal
import sys
from threading import get_ident, main_thread
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

# Last SIGINT: it is still noted while the handlers of the others are put back.
_SIGNALS: Final = (signal.SIGALRM, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


def held(*, but_in_waits: bool = False) -> AbstractContextManager[None]:
    """Let Ctrl-C wait until the block has ended, which raises KeyboardInterrupt then.

    So it is for each signal that has a handler written in Python. Elsewhere than in the main thread
    there is nothing to do: the handlers are called in that one.

    Args:
        but_in_waits: whether it is raised earlier, in the next ``waiting`` block, where nothing can
            get lost. A block within another is as strict as the stricter of the two.
    """
    return _Held(in_waits=but_in_waits)


def waiting() -> AbstractContextManager[None]:
    """Let Ctrl-C through while nothing is done but to wait, where a `held` block allows it."""
    return _Waiting()


def is_held() -> bool:
    """Whether the main thread is in a `held` block."""
    return _Held.outermost is not None


class _Held:
    """See `held`."""

    outermost: _Held | None = None  # of those that the main thread is in

    def __init__(self, *, in_waits: bool) -> None:
        self.in_waits = in_waits
        self.waiting = False
        self._before: bool | None = None  # what held in the outermost block, within which this is
        self._handlers: dict[int, Callable[[int, Any], object]] = {}
        self._came: list[int] = []

    def __enter__(self) -> None:
        if not _in_main_thread():
            return
        outermost = _Held.outermost
        if outermost is not None:
            self._before = outermost.in_waits
            outermost.in_waits = self._before and self.in_waits
            return
        try:
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    signal.signal(number, self._note)
            _Held.outermost = self
        except BaseException:
            self._put_back()
            raise

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            assert _Held.outermost is not None
            _Held.outermost.in_waits = self._before
        elif _Held.outermost is self and _in_main_thread():
            _Held.outermost = None
            self._put_back()
            self.deliver()

    def deliver(self) -> None:
        """Call the program's handlers for what has come."""
        while self._came:
            number = self._came.pop()
            self._handlers[number](number, sys._getframe())

    def _note(self, number: int, frame: object) -> None:
        if self.waiting:
            self._handlers[number](number, frame)
        else:
            self._came.append(number)

    def _put_back(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


class _Waiting:
    """See `waiting`."""

    def __enter__(self) -> None:
        block = _Held.outermost
        if block is None or not block.in_waits or not _in_main_thread():
            return
        block.waiting = True
        try:
            block.deliver()
        except BaseException:
            block.waiting = False
            raise

    def __exit__(self, *_: object) -> None:
        if (block := _Held.outermost) is not None and _in_main_thread():
            block.waiting = False


def _in_main_thread() -> bool:
    return get_ident() == main_thread().ident
