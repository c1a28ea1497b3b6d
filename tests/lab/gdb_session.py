"""One gdb for many stops: it loads the symbols once, and connects to the stub at each stop.

Contents: a gdb that is told what to do line by line. Not here: what is asked at one stop only
(`gdb`), and any code of the library under test.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from lab.gdb import MARK, SETTINGS, GdbError, connecting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class GdbSession:
    """A gdb that goes from stop to stop; a context manager.

    Args:
        symbols: the program.
        settings: commands that come first, after the lab's own.
        timeout: for one answer, in seconds.
    """

    def __init__(self, symbols: Path, settings: Sequence[str] = (), timeout: float = 240.0) -> None:
        self._timeout = timeout
        self._said = b""
        self._process = subprocess.Popen(
            ["gdb", "-nx", "-nh", "-q", *(f"-ex={each}" for each in ("set prompt", *SETTINGS))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        for command in (*settings, f"file {symbols}"):
            self._ask(command)

    def at(self, address: str, *commands: str) -> list[str]:
        """Return the output of commands at the stop that a stub is in, and leave it there."""
        connection = self._ask(connecting(address))
        if "Remote debugging using" not in connection or "could not connect" in connection:
            raise GdbError(f"gdb could not connect to {address}:\n{connection}")
        answers = [self._ask(command) for command in commands]
        self._ask("disconnect")
        return answers

    def _ask(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\necho \\n{MARK}\\n\n".encode())
        end = f"\n{MARK}\n".encode()
        deadline = time.monotonic() + self._timeout
        while end not in self._said:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            said = os.read(self._process.stdout.fileno(), 1 << 16) if ready else b""
            if not said:
                raise GdbError(f"gdb did not answer {command!r}:\n{self._said.decode()}")
            self._said += said
        answer, _, self._said = self._said.partition(end)
        return answer.decode(errors="replace").strip("\n")

    def close(self) -> None:
        """End gdb, which leaves the stub as it is."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(b"quit\n")
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
