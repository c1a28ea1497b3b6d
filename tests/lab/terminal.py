"""The command ``rsp`` at a terminal: a pseudo-terminal, and what its screen shows (pyte).

    with Terminal("read", address, "0", "64M", columns=40) as terminal:
        terminal.wait_for(lambda screen: "%" in screen[0])    # reads what comes until it is so
        terminal.type("\\x03")                                 # Ctrl-C, as the terminal sends it
        assert terminal.finish() == 130

Contents: the terminal. Not here: what a command prints.
"""

from __future__ import annotations

import os
import subprocess
import sys
import termios
from pathlib import Path
from select import select
from time import monotonic
from typing import TYPE_CHECKING, Self

import pyte

from lab.command import COMMAND, TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# A session with the terminal as its own, where Ctrl-C means what it means to a user.
_AT_ITS_TERMINAL = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command at a terminal of its own, which it is ended with.

    Args:
        words: the command's, behind ``rsp``.
        columns: the width of the terminal.
        rows: its height.
        output: where stdout goes instead.
        env: more of the environment.
    """

    def __init__(
        self,
        *words: str,
        columns: int = 80,
        rows: int = 24,
        output: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._come = b""
        self._lines: list[str] | None = None
        self._terminal, theirs = os.openpty()
        termios.tcsetwinsize(self._terminal, (rows, columns))
        with (output or Path(os.devnull)).open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _AT_ITS_TERMINAL, *COMMAND, *words],
                stdin=theirs,
                stdout=theirs if output is None else file,
                stderr=theirs,
                env={**os.environ, **(env or {})},
            )
        os.close(theirs)

    @property
    def lines(self) -> list[str]:
        """What the screen shows, without the blanks at the ends and the empty lines below."""
        if self._lines is None:  # pyte takes its time
            self._lines = [line.rstrip() for line in self.screen.display]
            while self._lines and not self._lines[-1]:
                self._lines.pop()
        return self._lines

    @property
    def text(self) -> str:
        """The same as one text."""
        return "\n".join(self.lines)

    def wait_for(self, seen: Callable[[], bool]) -> None:
        """Take what comes until something is so; it is asked behind each piece."""
        deadline = monotonic() + TIMEOUT
        while not seen():
            assert monotonic() < deadline, self.text
            assert self._take(deadline), self.text

    def finish(self) -> int:
        """Take what comes until the command has ended, and return its exit status."""
        deadline = monotonic() + TIMEOUT
        while self._take(deadline):
            assert monotonic() < deadline, self.text
        return self.process.wait(TIMEOUT)

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._terminal, text.encode())

    def resize(self, columns: int) -> None:
        """Tell the command that the terminal has another width; `narrow` then makes it so."""
        termios.tcsetwinsize(self._terminal, (self.screen.lines, columns))

    def narrow(self, columns: int) -> None:
        """Cut off what is behind so many columns."""
        self.screen.resize(columns=columns)
        self._lines = None

    def _take(self, deadline: float) -> bool:
        """Take what comes next, a line at most; whether the command has the terminal open still."""
        if not self._come:
            if not select([self._terminal], [], [], max(0.0, deadline - monotonic()))[0]:
                return True
            try:
                self._come = os.read(self._terminal, 1 << 16)
            except OSError:  # what a terminal says that nobody has open any more (EIO)
                return False
        end = self._come.find(b"\r", 1)
        line, self._come = (self._come[:end], self._come[end:]) if end > 0 else (self._come, b"")
        self._stream.feed(line)
        self._lines = None
        return bool(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._terminal)
