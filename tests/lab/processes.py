"""The processes that a part of the tests has started, found by a mark in their environment.

A mark is inherited by what a process starts, also in a session of its own. No process is found by
its name: others may run the same programs here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def marked(mark: str) -> dict[int, str]:
    """Return pid and command line of what has ``NAME=value`` in its environment; no zombies."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is not ours
            if mark.encode() in (directory / "environ").read_bytes().split(b"\0"):
                command = (directory / "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(directory.name)] = command.decode(errors="replace").strip()
    return found


def end(mark: str, *, patience: float) -> dict[int, str]:
    """Give what is marked some seconds to end by itself, kill the rest, and return that."""
    deadline = time.monotonic() + patience
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left
