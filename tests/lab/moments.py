"""Ctrl-C at a chosen moment of our own code, in this process.

    whole = interrupt(work, at=None).count     # how many there are
    for moment in draw(whole, 200, seed=1): interrupt(work, at=moment)

A moment is a line of rsp, or of the context managers that it uses, which is about to be executed;
one of the stubs under test (rsp.testing) is none. There SIGINT is raised, and Python's own handler
does what it does.

Not here: what is to hold afterwards.
"""

from __future__ import annotations

import contextlib
import gc
import random
import signal
import sys
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rsp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_OURS = str(Path(rsp.__file__).parent)
_STUB = str(Path(_OURS, "testing"))


class _Tracer:
    """Counts the moments, and raises SIGINT at one of them."""

    def __init__(self, at: int | None) -> None:
        self.count = 0
        self.where = ""
        self._at = at

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        ours = name.startswith(_OURS) and not name.startswith(_STUB)
        return self._step(frame, event, argument) if ours or name == contextlib.__file__ else None

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.count += 1
        if self.count == self._at:
            code = frame.f_code
            self.where = f"{event} at {Path(code.co_filename).name}:{frame.f_lineno}"
            signal.raise_signal(signal.SIGINT)
        return self._step


@contextlib.contextmanager
def _traced(tracer: _Tracer) -> Iterator[None]:
    # A shell may have let this test run ignore SIGINT.
    handler, trace = signal.signal(signal.SIGINT, signal.default_int_handler), sys.gettrace()
    sys.settrace(tracer)
    try:
        yield
    finally:
        sys.settrace(trace)
        signal.signal(signal.SIGINT, handler)


@dataclass(frozen=True, slots=True)
class Moments:
    """What has been done.

    Attributes:
        count: the moments that there were.
        where: the one that Ctrl-C came at.
    """

    count: int
    where: str


def draw(whole: int, most: int, *, seed: int) -> list[int]:
    """Return moments drawn over the whole: each part of it has one."""
    chance, number = random.Random(seed), min(whole, most)
    ends = [1 + whole * part // number for part in range(number + 1)]
    return [chance.randrange(*part) for part in pairwise(ends)]


def interrupt(work: Callable[[], object], *, at: int | None) -> Moments:
    """Do the work with Ctrl-C at a moment of it, or at none.

    What was forgotten by then has been collected.
    """
    tracer = _Tracer(at)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # that a Target was forgotten
        with contextlib.suppress(KeyboardInterrupt), _traced(tracer):
            work()
        gc.collect()
    return Moments(tracer.count, tracer.where)
