"""What the command lines of several commands have in common.

Contents: the options of all commands with a TARGET or a FILE, the connection and the symbols that
they describe, and the spelling of addresses, lengths and bytes.
"""

from __future__ import annotations

import argparse
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import rsp
from rsp import location_spec
from rsp.arguments import END, directory
from rsp.cli.progress import Progress, index_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.remote.debuggee import Debuggee
    from rsp.remote.target import Target
    from rsp.symbols.table import SymbolTable

DEFAULT_TIMEOUT: Final = 5.0
CORE: Final = "core:"
_LONGEST_TIMEOUT: Final = 1e6

_LENGTH = re.compile(r"(\w+?)([KMG]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_number(text: str) -> int:
    """Read ``0x7c00`` or ``31744``; what is neither is an error of the command line.

    >>> parse_number("0x10"), parse_number("010")
    (16, 10)
    """
    number = location_spec.parse_number(text)
    if number is None or number >= END:
        raise argparse.ArgumentTypeError(f"{text!r} is no number such as 0x7c00 or 31744")
    return number


def parse_place(text: str) -> str:
    """Check an address, a symbol's name, or ``name+0x10``; what it means the target has to say."""
    try:
        spec = location_spec.parse_location(text)
    except rsp.ArgumentError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if spec.file is not None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither an address (0x7c00, 31744) nor a name (start, start+0x10)"
        )
    return text


def parse_assignment(text: str) -> tuple[str, int | str]:
    """Read ``rax=0x10``, ``al=-1`` or ``rip=start+4``: a register's name, and its new value.

    >>> parse_assignment("al=-1")
    ('al', -1)
    """
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as rax=0x10")
    if value.startswith("-"):
        return name, -parse_number(value[1:])
    return name, parse_place(value)


def parse_length(text: str) -> int:
    """Read a number of bytes, ``512``, ``0x200``, ``64K``, ``4M``; at least 1."""
    found = _LENGTH.fullmatch(text)
    number = location_spec.parse_number(found[1]) if found else None
    length = number * _UNITS[found[2]] if found and number else 0
    if length < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no length such as 512, 0x200, 64K or 4M")
    return length


def parse_bytes(text: str) -> bytes:
    """Read bytes as hex digits, two each, in the order of memory; spaces may be between them."""
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if not data:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r} is not bytes in hex, two digits each in the order of memory: 90f4"
        )
    return data


def parse_timeout(text: str) -> float:
    """Read seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_TIMEOUT:  # which no NaN is
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def add_json(options: argparse._ActionsContainer) -> None:
    """Add ``--json``."""
    options.add_argument("--json", action="store_true", help="print one JSON object")


def add_timeout(options: argparse._ActionsContainer) -> None:
    """Add ``--timeout``."""
    options.add_argument(
        "--timeout",
        metavar="S",
        type=parse_timeout,
        default=DEFAULT_TIMEOUT,
        help="seconds for connecting, for each request and for a run (default: %(default)g)",
    )


def add_target(parser: argparse.ArgumentParser, *, runs: bool = False) -> None:
    """Add the TARGET, and in groups of their own the options that all commands with one have.

    The help of a command so begins with what is its own.

    Args:
        parser: of the command.
        runs: whether the command lets the target run; else it only looks, and leaves it as found.
    """
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="the stub's address: :1234, host:1234, unix:/path, /dev/ttyS0,115200, "
        "telnet://host:port, rfc2217://host:port, '| gdbserver - ./program', replay:LOG; "
        "commands that only look take core:FILE, too",
    )
    common = parser.add_argument_group("options of all commands with a TARGET")
    add_json(common)
    add_timeout(common)
    common.add_argument(
        "--leave-stopped",
        action="store_true",
        help="leave the target stopped at the end; by default it runs on"
        + ("" if runs else " if it ran before, and else stays stopped"),
    )
    common.add_argument(
        "--interrupt",
        metavar="WAY",
        default=True,
        help="how a kernel that runs behind a serial line is stopped, where the line carries no "
        "BREAK: ctrl-c (agent-proxy), or the address of QEMU's monitor",
    )
    parser.set_defaults(on_exit="detach" if runs else "as found")
    add_record(common)
    symbols = parser.add_argument_group("symbols")
    symbols.add_argument("--symbols", metavar="FILE", help="an ELF file with symbols: vmlinux")
    add_symbol_options(symbols)


def add_address(parser: argparse.ArgumentParser) -> None:
    """Add ADDR, what `rsp.inferior.locations.address_of` takes."""
    parser.add_argument(
        "address",
        metavar="ADDR",
        type=parse_place,
        help="an address: 0x7c00, 31744, and with --symbols start_kernel, start_kernel+0x10, "
        "start_kernel+0x10/0x4f0",
    )


def add_spec(parser: argparse.ArgumentParser) -> None:
    """Add SPEC, what `SymbolTable.locations` takes: a place in the code."""
    parser.add_argument(
        "spec",
        metavar="SPEC",
        help="a location: 0x7c00, and with symbols start_kernel, start_kernel+0x10, "
        "start_kernel+0x10/0x4f0, tcp.c:414",
    )


def add_record(options: argparse._ActionsContainer) -> None:
    """Add ``--record``."""
    options.add_argument("--record", metavar="LOG", help="record the session in a new file")


def add_symbol_file(parser: argparse.ArgumentParser) -> None:
    """Add the FILE with symbols that a command asks, and the options that go with it."""
    parser.add_argument(
        "symbols",
        metavar="FILE",
        help="vmlinux, a program, a debug file, a module (.ko) or an object",
    )
    common = parser.add_argument_group("options of all commands with a FILE")
    add_json(common)
    add_symbol_options(common)


def add_symbol_options(options: argparse._ActionsContainer) -> None:
    """Add what says where an image lies, and what else belongs to it."""
    options.add_argument(
        "--slide",
        metavar="N",
        type=parse_slide,
        default="auto",
        help="distance of the file's load address from its link address: auto, none or 0x… "
        "(default: auto, which finds that of a running Linux kernel and of a "
        "position-independent program, and is none elsewhere)",
    )
    options.add_argument(
        "--symbol-script",
        metavar="FILE",
        action="append",
        default=[],
        help="load addresses of modules: a file of gdb's add-symbol-file lines, or a copy of "
        "/sys/module/*/sections (--modules then names the directory of the modules' files)",
    )
    options.add_argument(
        "--modules",
        metavar="DIR",
        help="the files of a Linux kernel's modules: /lib/modules/RELEASE, or "
        "/usr/lib/debug/lib/modules/RELEASE",
    )
    options.add_argument(
        "--source-map",
        metavar="FROM=TO",
        type=parse_source_map,
        action="append",
        default=[],
        help="look for source files in TO instead of FROM, the directory of the build",
    )
    options.add_argument(
        "--no-cache", action="store_true", help="do not use the index of names on disk"
    )


def parse_slide(text: str) -> int | str:
    """Read ``auto``, ``none``, which is 0, or a number."""
    return "auto" if text == "auto" else 0 if text == "none" else parse_number(text)


def parse_source_map(text: str) -> tuple[str, str]:
    """Read ``/build/linux=/home/me/linux``."""
    before, equals, after = text.partition("=")
    if not (before and equals and after):
        raise argparse.ArgumentTypeError(f"{text!r} is not FROM=TO")
    return before, after


def open_symbols(arguments: argparse.Namespace) -> SymbolTable:
    """Open the file with symbols that the options name; a bar shows while its index is made."""
    if arguments.modules is not None:
        directory(arguments.modules, "--modules")
    table = rsp.SymbolTable(
        arguments.symbols,
        slide=0 if arguments.slide == "auto" else arguments.slide,
        cache=not arguments.no_cache,
        progress=index_progress(),
    )
    for before, after in arguments.source_map:
        table.source_map(before, after)
    for script in arguments.symbol_script:
        if Path(script).is_dir():
            from rsp.linux.sections import add_sections

            add_sections(table, script, arguments.modules)
        else:
            table.add_symbol_script(script)
    return table


@contextmanager
def look_at(arguments: argparse.Namespace) -> Iterator[Debuggee]:
    """Connect, or open the core file of ``core:FILE``: for commands that only look.

    Raises:
        BadImage: it is no core file.
        ArgumentError: an option makes no sense with a core.
    """
    path = _core_path(arguments.target)
    if path is None:
        with connect(arguments) as target:
            yield target
        return
    for option, is_given in (
        ("--record", arguments.record is not None),
        ("--interrupt", arguments.interrupt is not True),
        ("--leave-stopped", arguments.leave_stopped),
    ):
        if is_given:
            raise rsp.ArgumentError(f"{option} is for a target that lives, and not for a core")
    with (
        Progress("reading the core"),
        rsp.open_core(
            path,
            symbols=None if arguments.symbols is None else open_symbols(arguments),
            modules=arguments.modules,
            slide=arguments.slide,
        ) as core,
    ):
        yield core


def _core_path(target: str) -> str | None:
    """Return the file of ``core:FILE``, None of what is an address."""
    path = target.removeprefix(CORE)
    return None if path == target or path.isdecimal() else path  # core:1234 is a host's port


@contextmanager
def connect(arguments: argparse.Namespace) -> Iterator[Target]:
    """Connect as the options of `add_target` say; the errors of ``rsp.connect``.

    The terminal shows what takes long, so that nothing may be printed before the end of the block.
    """
    with (
        Progress("asking the target"),
        rsp.connect(
            arguments.target,
            symbols=None if arguments.symbols is None else open_symbols(arguments),
            modules=arguments.modules,
            slide=arguments.slide,
            timeout=arguments.timeout,
            record=arguments.record,
            interrupt=arguments.interrupt,
            on_exit="leave stopped" if arguments.leave_stopped else arguments.on_exit,
        ) as target,
    ):
        yield target


def symbols_of(arguments: argparse.Namespace, target: Debuggee) -> SymbolTable | None:
    """Return the symbols that ``--symbols`` gave, None without it."""
    return target.symbols if arguments.symbols is not None else None
