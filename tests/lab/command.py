"""The command ``rsp``, run as its users do: a process of its own.

Contents: how it is started and what it leaves behind. Not here: what a command prints.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 60.0
COMMAND = (sys.executable, "-m", "rsp")


@dataclass(frozen=True, slots=True)
class Finished:
    """What a command that has ended left behind."""

    status: int
    out: str
    err: str

    def __post_init__(self) -> None:
        assert "Traceback" not in self.err, self.err

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        assert self.status == 0, self.err
        return json.loads(self.out)

    def fails(self, *said: str) -> None:
        """Assert that there is one line of error on stderr, and what is in it."""
        assert self.status == 1, (self.status, self.err)
        assert self.err.startswith("rsp: error: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert [each for each in said if each not in self.err] == [], self.err


class Server:
    """A command that listens, and its address."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self.process = process
        said = process.stderr.readline()
        assert said.startswith("listening at "), said + process.stderr.read()
        self.address = said.removeprefix("listening at ").strip()

    def finish(self) -> Finished:
        """Wait until it has ended by itself."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        return Finished(self.process.returncode, out, err)


def run(*args: str, env: dict[str, str] | None = None) -> Finished:
    """Run ``rsp`` with arguments to its end."""
    done = subprocess.run(
        [*COMMAND, *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={**os.environ, **(env or {})},
    )
    return Finished(done.returncode, done.stdout, done.stderr)


@contextmanager
def serving(*args: str) -> Iterator[Server]:
    """Start ``rsp proxy`` or ``rsp replay``, and end it if it has not ended by itself."""
    process = subprocess.Popen(
        [*COMMAND, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Server(process)
        finally:
            process.kill()
