"""The pages of the documentation, played as their reader would type them.

A page is played in a fresh directory, block after block, on the machines that it starts itself:

- ``console``: each command after ``$ `` is run by a shell, and its output compared; one after
  ``guest# `` is begun in the lab's guest. ``...`` in an output stands for anything.
- ``python`` with ``>>>``: run as a doctest, with the names of the blocks before.
- ``python`` and ``c`` otherwise: a file, whose name is the comment in its first line.

Contents: how a page is divided and played. Not here: what a page needs that it does not make
itself, which is for tests/test_pages.py.
"""

from __future__ import annotations

import contextlib
import doctest
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.guest import Guest

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PROMPT = re.compile(r"^(\$|guest#) ", re.MULTILINE)
# Ports that pages use; each is played with a free one.
PORTS = re.compile(r"(?<![\w.])(?:1234|1235|2345|4444|9999)(?!\w)")
PATIENCE = 300.0
MARK = "RSP_LAB_PAGE"
FLAGS = doctest.ELLIPSIS


@contextlib.contextmanager
def _loggers_restored() -> Iterator[None]:
    """Undo what a page does to loggers: the tests behind it would write a line for each packet."""
    before = {logger: (logger.level, logger.handlers.copy()) for logger in _loggers()}
    try:
        yield
    finally:
        for logger in _loggers():
            level, handlers = before.get(logger, (logging.NOTSET, []))
            logger.setLevel(level)
            logger.handlers[:] = handlers


def _loggers() -> list[logging.Logger]:
    names = [name for name in logging.root.manager.loggerDict if name.startswith("rsp")]
    return [logging.getLogger(name) for name in names]


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a page.

    Attributes:
        page: the file.
        number: its place among the page's blocks, from 1.
        line: where its text begins in the file.
    """

    page: Path
    number: int
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.stem}-{self.number}"

    @property
    def commands(self) -> list[tuple[str, str, str]]:
        """Of a console: prompt, command (with the lines that continue it), and what it prints."""
        pieces = PROMPT.split(self.text)
        assert not pieces[0], f"{self}: output before the first command"
        found = []
        for prompt, session in zip(pieces[1::2], pieces[2::2], strict=True):
            ended = re.search(r"(?<!\\)\n", session)
            assert ended is not None
            found.append((prompt, session[: ended.start()], session[ended.end() :]))
        return found


def blocks_of(page: Path) -> list[Block]:
    """Divide a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, number, text.count("\n", 0, found.start(2)) + 1, found[1], found[2])
        for number, found in enumerate(BLOCK.finditer(text), start=1)
    ]


class Play:
    """One page being played.

    Args:
        page: the file.
        elsewhere: beginnings of commands that are not run here.
        guest: the lab's guest that the page speaks of, which ends with it.
        names: what stands in the page → what is played instead.
        files: what lies in the directory before: name → file or directory.
    """

    def __init__(
        self,
        page: Path,
        *,
        elsewhere: tuple[str, ...] = (),
        guest: Guest | None = None,
        names: dict[str, str] | None = None,
        files: dict[str, Path] | None = None,
    ) -> None:
        self._blocks = iter(blocks_of(page))
        self._elsewhere = elsewhere
        self._guest = guest
        self._names = names or {}
        self._ports: dict[str, str] = {}
        self._globals: dict[str, Any] = {}
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(_loggers_restored())
        self._directory = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="rsp-page-"))
        )
        for name, file in (files or {}).items():
            (self._directory / name).parent.mkdir(parents=True, exist_ok=True)
            (self._directory / name).symlink_to(file)
        self._mark = f"{MARK}={self._directory.name}"
        self._played: list[Block] = []

    def close(self) -> None:
        """End what the page has left running, and forget its directory."""
        processes.end(self._mark, patience=0)
        if self._guest is not None:
            self._guest.close()
        self._stack.close()

    def until(self, block: Block) -> None:
        """Play a block, and those before it that have not been."""
        while block not in self._played:
            following = next(self._blocks)
            self._played.append(following)
            self._play(following)

    def _play(self, block: Block) -> None:
        match block.language:
            case "console":
                self._console(block)
            case "python" if block.text.startswith(">>> "):
                self._session(block)
            case "python" | "c":
                (name,) = re.findall(r"\A(?:#|/\*) (\w+\.\w+)", block.text)
                (self._directory / name).write_text(self._here(block.text))
            case _:
                raise AssertionError(f"{block}: nobody knows how to play {block.language!r}")

    def _session(self, block: Block) -> None:
        text = self._here(block.text)
        test = doctest.DocTestParser().get_doctest(
            text, {}, str(block), str(block.page), block.line
        )
        test.globs = self._globals
        said: list[str] = []
        with contextlib.chdir(self._directory):
            runner = doctest.DocTestRunner(optionflags=FLAGS)
            result = runner.run(test, out=said.append, clear_globs=False)
        assert result.attempted
        assert not result.failed, "".join(said)

    def _console(self, block: Block) -> None:
        ours = []
        for prompt, command, expected in block.commands:
            if prompt == "guest#":
                assert self._guest is not None
                assert not expected
                self._guest.start(command)
            elif not command.startswith(self._elsewhere):
                ours.append((self._here(command), self._here(expected)))
        script = "".join(f"{_awaited(command)}\nprintf '\\036%d\\n' $?\n" for command, _ in ours)
        pieces = re.split(r"\x1e(\d+)\n", self._shell(script))
        checker = doctest.OutputChecker()
        for (command, expected), said, status in zip(ours, pieces[::2], pieces[1::2], strict=False):
            context = f"{block.page.name}:{block.line}: $ {command}\n"
            assert checker.check_output(expected, said, FLAGS), (
                f"{context}expected:\n{expected}got ({status}):\n{said}"
            )
            failed = expected.startswith("rsp: error: ")
            assert (status != "0") == failed, f"{context}exit status {status}:\n{said}"
        assert len(pieces) == 2 * len(ours) + 1, f"{block}: the shell has ended: {pieces[-1]}"

    def _shell(self, script: str) -> str:
        """Run a script, and return what it printed; what it leaves running goes on."""
        name, _, value = self._mark.partition("=")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        # A file and not a pipe: what is left running has it open, too.
        with (self._directory / ".said").open("w+b") as output:
            subprocess.run(
                ["sh", "-c", script],
                check=False,
                cwd=self._directory,
                env={**os.environ, name: value, "PATH": path, "COLUMNS": "80"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
            )
            output.seek(0)
            return output.read().decode(errors="replace")

    def _here(self, text: str) -> str:
        """Put the names of this machine into a text."""
        for name, ours in self._names.items():
            text = text.replace(name, ours)
        text = re.sub(r"(qemu-system-\w+) -s ", r"\1 -gdb tcp::1234 ", text)
        return PORTS.sub(lambda port: self._port(port[0]), text)

    def _port(self, port: str) -> str:
        if port not in self._ports:
            self._ports[port] = _free_port()
        return self._ports[port]


def _awaited(command: str) -> str:
    """Return a command which waits, if it is left running, until its port listens."""
    port = re.search(r"[ :](\d{4,5}) .*&$", command)
    if port is None:
        return command
    # Another state than listening (0A), or another port, ends otherwise.
    listens = f":{int(port[1]):04X} 0*:0000 0A"
    return f"{command}\nuntil grep -qs '{listens}' /proc/net/tcp*; do sleep 0.1; done"


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
