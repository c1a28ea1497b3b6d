"""The commands and their help.

Contents: the list of the commands, the text of ``rsp help``, and the parser of each command with
its ``--help``. Not here: how a command ends (see `rsp.cli.run`), and what it does.
"""

from __future__ import annotations

import argparse
import builtins
from importlib import import_module
from keyword import iskeyword
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import ModuleType

GROUPS: Final = {
    "look at a target": {
        "info": "show the stub, the CPU mode, the stop and the threads",
        "regs": "show the registers of a thread, or write some",
        "read": "read memory as a hex dump or into a file",
        "core": "write an ELF core for gdb and drgn",
        "write": "write memory",
        "bt": "show the backtrace of a thread or of all threads",
        "print": "evaluate a C expression and print it as gdb does",
        "disas": "disassemble code",
        "monitor": "send a command to the stub's monitor and print the output",
    },
    "run a target": {
        "break": "run to a location and show the stop",
        "watch": "run until a variable changes and show the stop",
    },
    "look at a Linux kernel": {
        "slide": "show how far KASLR moved the kernel",
        "modules": "list the loaded modules",
        "tasks": "list all tasks, as ps does",
        "dmesg": "print the kernel log, as dmesg does",
        "console": "open a terminal on a serial line that kgdb shares",
    },
    "look at a file with symbols": {
        "sym": "look up names and addresses",
        "locations": "list the addresses of a breakpoint, inlined copies included",
        "type": "show the layout of a type",
        "list": "show the source lines around a location",
    },
    "record and replay": {
        "proxy": "record what gdb and a stub say to each other",
        "replay": "serve a recording as a stub",
    },
    "try it": {
        "demo": "follow a CPU from 16-bit to 64-bit mode; needs no target",
    },
}
"""Each command and its purpose, as ``rsp help`` lists them."""

COMMANDS: Final = {name: purpose for group in GROUPS.values() for name, purpose in group.items()}

_USAGE: Final = "rsp COMMAND [ARGUMENT ...]"
_TARGET: Final = """\
TARGET is the address of a stub: :1234, host:1234, unix:/path, /dev/ttyS0,
telnet://host:port, rfc2217://host:port, '| gdbserver - ./program', replay:LOG."""


def overview() -> str:
    """Return the text of ``rsp help``."""
    width = max(map(len, COMMANDS)) + 2
    parts = [f"usage: {_USAGE}", "Talk to a gdb stub: QEMU, gdbserver, valgrind, kgdb and others."]
    for title, commands in GROUPS.items():
        rows = [f"  {name:<{width}}{purpose}" for name, purpose in commands.items()]
        parts.append("\n".join([f"{title}:", *rows]))
    parts += [_TARGET, "rsp COMMAND --help explains a command. rsp --version prints the version."]
    return "\n\n".join(parts)


def usage_error(problem: str) -> str:
    """Return what a wrong command line is told, in the form in which argparse tells it."""
    return f"usage: {_USAGE}\nrsp: error: {problem}"


def module_of(command: str) -> ModuleType:
    """Import the module of a command.

    >>> module_of("list").__name__
    'rsp.cli.commands.list_'
    """
    taken = iskeyword(command) or hasattr(builtins, command)
    return import_module(f"rsp.cli.commands.{command}_" if taken else f"rsp.cli.commands.{command}")


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser of a command; what it parses has the command's ``run`` in ``run``."""
    module = module_of(command)
    purpose = COMMANDS[command]
    examples = [f"  {example}" for example in module.EXAMPLES]
    parser = argparse.ArgumentParser(
        prog=f"rsp {command}",
        usage=f"rsp {command} {module.USAGE}".rstrip(),
        description=f"{purpose[0].upper()}{purpose[1:]}.",
        epilog="\n".join([f"example{'s' * (len(examples) > 1)}:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.set_defaults(run=module.run)
    return parser
