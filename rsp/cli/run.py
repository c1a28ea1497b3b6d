"""The command line: which command it is, and how it ends.

Here live: the list of the commands, and how any of them ends: its exit status, and its error as
one line. What a command does is in the module of its name in `rsp.cli.commands`, which is loaded
when it is asked for.
Here must not live: anything of the protocol, or a question to a target.

Exit status: 0; 1 with one line on stderr; 2 for a wrong command line; as the shell counts them,
130 after Ctrl-C and 141 when the reader of the output has gone.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import io
import logging
import os
import sys
from importlib import import_module
from keyword import iskeyword
from typing import TYPE_CHECKING, Final

import rsp

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "main"]

COMMANDS: Final = {
    "info": "who answers there, and why the target stands still",
    "regs": "the registers of a thread",
    "read": "read memory: a hex dump, or into a file",
    "write": "write memory",
    "bt": "who called whom: the frames of a thread, or of all of them",
    "print": "what an expression of C comes to, as gdb shows it",
    "break": "run to a place, and show who has come there",
    "disas": "the instructions at a place",
    "slide": "how far KASLR has moved a running kernel",
    "modules": "the modules that a kernel has loaded",
    "tasks": "the tasks of a kernel: all threads, as ps shows them",
    "dmesg": "the kernel's log, as dmesg shows it",
    "sym": "what has this name, or is at this address, in a file with symbols",
    "locations": "every place where a breakpoint must go, inlined copies too",
    "type": "the layout of a type",
    "list": "the source lines around a place",
    "demo": "follow a CPU from 16 to 64 bit, on a machine that comes with this command",
    "replay": "serve a recording as a stub, to gdb too",
    "console": "a terminal on the line of a kernel, with a key that stops it",
    "proxy": "stand between gdb and a stub, and record what they say",
}
"""Each command, and what it is for."""


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
        status = _run(argv)
        print(end="", flush=True)  # stdout may be closed, and None
    except KeyboardInterrupt:
        return 130
    except rsp.RspError as error:
        failure = "; ".join([str(error), *getattr(error, "__notes__", ())])
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:  # a file of the user's: the library translates its own
        failure = f"{error.filename or 'output'}: {error.strerror or error}"
    finally:
        logging.getLogger("rsp").removeHandler(warnings)
    _report(failure, warnings.texts)
    return status if failure is None else 1


class _Warnings(logging.Handler):
    """Keeps the library's warnings, so that a failure is one line with all there is to say."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="rsp",
        description="Talk to a gdb stub: QEMU, gdbserver, valgrind, kgdb and others.",
        epilog="rsp COMMAND --help says more of each.",
    )
    parser.add_argument("--version", action="version", version=f"rsp {rsp.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=f"{name}: {purpose}.")
        if argv[:1] == [name]:
            module = import_module(f"rsp.cli.commands.{module_name(name)}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as end:  # its way to say that it has printed what there is to say
        return end.code if isinstance(end.code, int) else 2
    status: int = arguments.run(arguments)
    return status


def module_name(command: str) -> str:
    """Return the name of a command's module, with an underscore where Python has that word.

    >>> module_name("read"), module_name("list"), module_name("break")
    ('read', 'list_', 'break_')
    """
    taken = iskeyword(command) or hasattr(builtins, command)
    return f"{command}_" if taken else command


def _report(failure: str | None, warnings: list[str]) -> None:
    from rsp.cli.text import printable

    lines = [f"warning: {each}" for each in warnings]
    if failure is not None:
        lines = ["; ".join([f"error: {failure}", *warnings])]
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
