"""Ctrl-C held back while the target is between two states.

Here lives one context manager. Between the removal of a breakpoint and the note of it, say, there
is no good moment for a KeyboardInterrupt; a little later there is.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def held() -> Iterator[None]:
    """Let Ctrl-C wait until the block has ended, which raises KeyboardInterrupt then.

    Only in the main thread, where Python raises it, and only where Python's own handler is in
    force: another one may do anything.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    pressed = False

    def note(*_: object) -> None:
        nonlocal pressed
        pressed = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if pressed:
            raise KeyboardInterrupt
