"""The PATH of a test: what every machine has, and the programs that the test declares.

Contents: the directories of links that stand for PATH. A program that a test uses and has not
declared is therefore missing on any machine, so that the test fails where it is written, and not
only where the program is not installed. Which programs there are: `packages`.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab.packages import BASE, CALLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class DeclaredPrograms:
    """Directories of links to programs, one for each set of them.

    Args:
        directory: an empty one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._whole = os.environ["PATH"]
        self._made: dict[frozenset[str], Path] = {}

    @contextmanager
    def only(self, needs: Iterable[str]) -> Iterator[None]:
        """Let nothing else be found in PATH, here and in what is started within this."""
        before = os.environ["PATH"]
        os.environ["PATH"] = str(self._links(frozenset(needs)))
        try:
            yield
        finally:
            os.environ["PATH"] = before

    def _links(self, needs: frozenset[str]) -> Path:
        if needs not in self._made:
            directory = self._directory / str(len(self._made))
            directory.mkdir()
            called = (name for need in needs for name in CALLS.get(need, ()))
            for name in {*BASE, *needs, *called}:
                if "/" not in name and (program := shutil.which(name, path=self._whole)):
                    (directory / name).symlink_to(program)
            self._made[needs] = directory
        return self._made[needs]
