"""Source files: where those that a compiler noted are on this machine, and their lines.

Contents: the substitution of path prefixes (gdb manual, "Specifying Source Directories") and the
reading of a few lines. Not here: which line an address belongs to.
"""

from __future__ import annotations

import os
import posixpath
import stat
from pathlib import Path
from typing import NamedTuple

MAX_FILE = 1 << 26
"""How many bytes of a source file are read; generated ones have some megabytes."""

MAX_LINE = 4096
"""How many bytes of a line are shown."""


class NumberedLine(NamedTuple):
    """A line of a file: its number, from 1, and its text without the end of line."""

    number: int
    text: str


class SourceMap:
    """Where the directories of the machine that compiled are on this one.

    A prefix matches whole components only. Of several rules that match the first one counts; a new
    rule for the same prefix replaces the old one.

    >>> sources = SourceMap()
    >>> sources.add("/build/linux-6.1", "/home/me/linux")
    >>> sources.path("kernel/fork.c", "/build/linux-6.1")
    '/home/me/linux/kernel/fork.c'
    >>> sources.path("/build/linux-6.10/kernel/fork.c")
    '/build/linux-6.10/kernel/fork.c'
    """

    def __init__(self) -> None:
        self._rules: dict[str, str] = {}

    def add(self, old: str | os.PathLike[str], new: str | os.PathLike[str]) -> None:
        """Look for what was in a directory, or below it, in another one."""
        self._rules[_stripped(os.fspath(old))] = _stripped(os.fspath(new))

    def path(self, name: str, comp_dir: str = "") -> str:
        """Return where a file should be, by the rules; it need not exist.

        Args:
            name: as the compiler noted it.
            comp_dir: the directory that it is relative to.
        """
        return self._candidates(name, comp_dir)[0]

    def find(self, name: str, comp_dir: str = "") -> str | None:
        """Return the path of a source file that is there, or None.

        A file with a relative name is also looked for right below the directories that the rules
        lead to: a kernel that is built outside its source tree has names like ``init/main.c``, and
        the directory of the compilation does not hold them.
        """
        for path in self._candidates(name, comp_dir):
            try:
                if Path(path).is_file():
                    return path
            except (OSError, ValueError):
                continue
        return None

    def _candidates(self, name: str, comp_dir: str) -> list[str]:
        whole = posixpath.join(comp_dir, name)
        plain = posixpath.normpath(whole)
        # As it was noted first: behind a symbolic link ".." is not what it looks like.
        found = [self._mapped(whole) or self._mapped(plain) or whole, self._mapped(plain) or plain]
        if not name.startswith("/"):
            found += [posixpath.normpath(posixpath.join(new, name)) for new in self._rules.values()]
        return found

    def _mapped(self, path: str) -> str | None:
        for old, new in self._rules.items():
            if path == old or path.startswith(old.rstrip("/") + "/"):
                return (new.rstrip("/") + path[len(old.rstrip("/")) :]) or "/"
        return None


def source_lines(path: str, line: int, around: int = 5) -> tuple[NumberedLine, ...]:
    """Return a line of a file and those around it; none where the file or the line is not there.

    Args:
        path: the file; bytes that are no UTF-8 are replaced.
        line: its number, from 1.
        around: how many lines before and behind.
    """
    data = _contents(path)
    if not 1 <= line <= len(data):
        return ()
    first, last = max(1, line - around), min(line + around, len(data))
    lines = data.removesuffix(b"\n").split(b"\n", last)[first - 1 : last]
    if len(lines) <= line - first:
        return ()
    return tuple(
        NumberedLine(number, text[:MAX_LINE].removesuffix(b"\r").decode(errors="replace"))
        for number, text in enumerate(lines, first)
    )


def _contents(path: str) -> bytes:
    """Return the bytes of a file, none where it is not there or is no file."""
    try:
        # Without waiting for who writes to a FIFO that has the name of a source file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return b""
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_FILE)
        finally:
            os.close(descriptor)
    except (OSError, ValueError):
        return b""


def _stripped(path: str) -> str:
    return path.rstrip("/") or "/"
