"""The command line: which command it is, and how it ends.

Contents: how any command ends, its exit status and its error in one line. Not here: the list of the
commands and their help (see `rsp.cli.help`), and what a command does (see `rsp.cli.commands`).

Exit status: 0; 1 with one line on stderr; 2 for a wrong command line; as the shell counts them,
130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP, 141 when the reader of the output has gone.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import rsp
from rsp.cli.help import COMMANDS, overview, parser_of, usage_error
from rsp.cli.progress import wipe
from rsp.cli.text import printable
from rsp.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; nothing is raised.

    >>> main(["info", "1234", "--timeout", "1"])  # the error goes to stderr
    1

    Args:
        argv: the arguments behind the word ``rsp``; those of the process where none are given.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    for stream in (sys.stdout, sys.stderr):
        # A stub may send any character, and a terminal may have any encoding.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings = _Warnings()
    logging.getLogger("rsp").addHandler(warnings)
    failure: str | None = None
    status = 0
    try:
        with _orderly_end():
            status = _run(argv)
        print(end="", flush=True)  # stdout may be closed, and None
    except KeyboardInterrupt as error:
        status = 128 + (error.number if isinstance(error, _Ended) else signal.SIGINT)
        # CPython dies of SIGINT at its end when a KeyboardInterrupt has passed through an exec() of
        # text, as it may in an import (dataclasses), unless another one has ended well since.
        exec("")  # noqa: S102
        failure = _with_notes("interrupted", error) if hasattr(error, "__notes__") else None
    except rsp.RspError as error:
        status, failure = 1, _with_notes(f"error: {error}", error)
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:  # a file of the user's: the library translates its own
        said = f"error: {error.filename or 'output'}: {error.strerror or error}"
        status, failure = 1, _with_notes(said, error)
    finally:
        wipe()
        logging.getLogger("rsp").removeHandler(warnings)
    _report(failure, warnings.texts)
    return status


class _Ended(KeyboardInterrupt):
    """A signal whose default is to end the process at once, and to leave the target as it is."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does; one that is ignored (nohup) stays so."""

    def end(number: int, _: object) -> None:
        raise _Ended(number)

    taken = []
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, end)
                taken.append(number)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _with_notes(text: str, error: BaseException) -> str:
    return "; ".join([text, *getattr(error, "__notes__", ())])


class _Warnings(logging.Handler):
    """Keeps the library's warnings, so that a failure is one line with all there is to say."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _run(argv: list[str]) -> int:
    command, *rest = argv or ["help"]
    if command == "help" and rest:
        command, rest = rest[0], ["--help"]
    if command in ("help", "-h", "--help"):
        print(overview())
        return 0
    if command == "--version":
        print(f"rsp {rsp.__version__}")
        return 0
    if command not in COMMANDS:
        if command.startswith("-"):
            problem = f"the command comes before {printable(command)}; rsp help lists the commands"
        else:
            hint = nearest(command, COMMANDS)
            problem = f"no command '{printable(command)}'{hint}; rsp help lists the commands"
        print(usage_error(problem), file=sys.stderr)
        return 2
    try:
        arguments = parser_of(command).parse_intermixed_args(rest)
    except SystemExit as end:  # its way to say that it has printed what there is to say
        return end.code if isinstance(end.code, int) else 2
    status: int = arguments.run(arguments)
    return status


def _report(failure: str | None, warnings: list[str]) -> None:
    lines = [f"warning: {each}" for each in warnings]
    if failure is not None:
        lines = ["; ".join([failure, *warnings])]
    try:
        print(end="", flush=True)
    except OSError:
        _drop_output()
    with contextlib.suppress(OSError):
        for line in lines:
            print(f"rsp: {printable(line)}", file=sys.stderr)


def _drop_output() -> None:
    """Let what is left in the buffer go nowhere, so that the interpreter's end is quiet."""
    with contextlib.suppress(OSError, ValueError):  # it need not be that of the process
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
