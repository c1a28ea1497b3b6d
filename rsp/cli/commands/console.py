"""``rsp console``: a terminal on a serial line that kgdb shares, with a key to stop the kernel.

Contents: the terminal. It sends what is typed to the line and shows what comes from it, until the
escape character. Not here: how a kernel is stopped and let run again (see `rsp.connect`).
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import textwrap
from typing import TYPE_CHECKING, Final

import rsp
from rsp.cli.arguments import add_symbol_options, add_timeout, open_symbols
from rsp.cli.frames import backtrace_text
from rsp.cli.progress import Progress
from rsp.cli.text import printable, printable_lines
from rsp.transports import open_transport
from rsp.transports.wrapper import TransportWrapper

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rsp.remote.target import Target
    from rsp.transports.base import Transport

_ESCAPE: Final = b"\x1d"  # Ctrl-], as in telnet
_KEYS: Final = "Ctrl-] b stops the kernel, Ctrl-] q ends, Ctrl-] Ctrl-] types Ctrl-]"
_AT_A_STOP: Final = (
    "bt shows the backtrace, c lets the kernel run, q lets it run and ends; "
    "anything else is a command of kdb (summary, ps)"
)
# A look at the keyboard, every so often.
_GLANCE: Final = 0.02
# Seconds that nothing has come for, after the end of what is to be typed.
_DONE: Final = 1.0

USAGE: Final = "TARGET [--qemu-monitor ADDRESS] [--timeout S] [OPTION ...]"
EXAMPLES: Final = ("rsp console /dev/ttyS0,115200 --symbols vmlinux",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    about = textwrap.fill(f"{_KEYS}. At a stop: {_AT_A_STOP}.", 79)
    parser.description = f"{parser.description}\n\n{about}"
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="the serial line: /dev/ttyS0, telnet://host:port, rfc2217://host:port, unix:/path",
    )
    parser.add_argument(
        "--qemu-monitor",
        metavar="ADDRESS",
        help="the address of QEMU's monitor, for a line that cannot send a BREAK",
    )
    add_timeout(parser)
    symbols = parser.add_argument_group("symbols")
    symbols.add_argument("--symbols", metavar="FILE", help="vmlinux, for backtraces")
    add_symbol_options(symbols)


def run(arguments: argparse.Namespace) -> int:
    """Be a terminal until the user or the line ends it."""
    symbols = open_symbols(arguments) if arguments.symbols else None
    with open_transport(arguments.target, timeout=arguments.timeout) as line:
        keyboard = _Keyboard()
        if keyboard.terminal:
            print(f"rsp: {line.address}: {_KEYS}", file=sys.stderr)
        while _converse(line, keyboard):
            with (
                Progress("stopping the kernel") as stopping,
                rsp.connect(
                    _Kept(line),
                    symbols=symbols,
                    timeout=arguments.timeout,
                    interrupt=arguments.qemu_monitor or True,
                ) as target,
            ):
                stopping.end()
                _show(target.console.read().encode())
                over = _at_a_stop(target, keyboard)
            _show(target.console.read().encode())
            if over:
                break
    return 0


def _converse(line: Transport, keyboard: _Keyboard) -> bool:
    """Show what comes and send what is typed; whether the kernel is to be stopped."""
    quiet = 0.0
    escaped = False
    with keyboard.raw():
        while quiet < _DONE:
            with contextlib.suppress(rsp.RspTimeout):
                data = line.read(1 << 16, _GLANCE)
                if not data:
                    raise rsp.ConnectionLost(f"{line.address} has hung up", address=line.address)
                _show(data)
                quiet = 0.0
            quiet += _GLANCE if keyboard.at_end else 0.0
            while key := keyboard.key():
                if escaped:
                    escaped = False
                    if key in b"bB":
                        return True
                    if key in b"qQ":
                        return False
                elif key == _ESCAPE:
                    escaped = True
                    continue
                line.write(key, 5.0)
    return False


def _at_a_stop(target: Target, keyboard: _Keyboard) -> bool:
    """Take commands until the kernel is to run again; whether the user wants to end.

    Ctrl-C at a terminal ends a command, or drops what is typed.
    """
    print(f"\nrsp: {target.stop}; {_AT_A_STOP}", file=sys.stderr)
    command = "bt"
    while command not in ("c", "q"):
        try:
            if command:
                print(_answer(target, command), flush=True)
            print("(rsp) ", end="", file=sys.stderr, flush=True)
            command = keyboard.line()
        except (rsp.StubError, rsp.SymbolError) as error:
            print(f"rsp: {printable(str(error))}", file=sys.stderr)
            command = ""
        except KeyboardInterrupt:
            if not keyboard.terminal:
                raise
            print(file=sys.stderr)
            command = ""
    return command == "q"


def _answer(target: Target, command: str) -> str:
    with Progress("asking the kernel"):
        if command == "bt":
            return backtrace_text(target.backtrace())
        return printable_lines(target.monitor(command))


def _show(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


class _Keyboard:
    """What the user types: keys while the kernel runs, lines at a stop."""

    def __init__(self) -> None:
        self._file = sys.stdin.fileno()
        self._typed = b""
        self.terminal = os.isatty(self._file)
        self.at_end = False

    def key(self) -> bytes:
        """Return the next byte, none if there is none now."""
        if not self._typed and not self.at_end and select.select([self._file], [], [], 0)[0]:
            self._fill()
        key, self._typed = self._typed[:1], self._typed[1:]
        return key

    def line(self) -> str:
        """Return the next line; the end is ``q``."""
        while b"\n" not in self._typed and not self.at_end:
            self._fill()
        line, newline, self._typed = self._typed.partition(b"\n")
        return line.decode("utf-8", "replace").strip() if line or newline else "q"

    def _fill(self) -> None:
        data = os.read(self._file, 1024)
        self._typed += data
        self.at_end = not data

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Let every key through as it is typed, Ctrl-C too; nothing to do for a file or a pipe."""
        if not self.terminal:
            yield
            return
        import termios
        import tty

        before = termios.tcgetattr(self._file)
        tty.setraw(self._file, termios.TCSADRAIN)  # what was typed ahead counts
        try:
            yield
        finally:
            termios.tcsetattr(self._file, termios.TCSADRAIN, before)


class _Kept(TransportWrapper):
    """The line, which stays open when a target on it is detached from."""

    def close(self) -> None:
        """Leave it open."""
