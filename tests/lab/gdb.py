"""The oracle: the real gdb, asked about the stop that a stub is in.

Contents: running gdb in batch, and reading its answers into values. Not here: any code of the
library under test.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import processes

if TYPE_CHECKING:
    from pathlib import Path

MARK = "--- rsp lab: next answer ---"

QUIET = (
    "set confirm off",
    "set pagination off",
    "set width 0",
    "set style enabled off",
    "set auto-load off",
    "set debuginfod enabled off",
)
SETTINGS = (
    *QUIET,
    "set tcp auto-retry off",
    "set remotetimeout 60",
    # Nothing may be shortened or folded in what is parsed below.
    "set print elements 0",
    "set print repeats 0",
    "set print frame-arguments all",
)


# gdb 18's wording → gdb 13's, which the tests know.
OLDER_WORDING = {
    "No breakpoints, watchpoints, tracepoints, or catchpoints.": "No breakpoints or watchpoints."
}


class GdbError(AssertionError):
    """gdb could not be run to the end; the message is its output."""


def batch(*commands: str) -> list[str]:
    """Return the command line of a gdb that does these, and nothing of the user's, and ends."""
    told = [word for command in commands for word in ("-ex", command)]
    return ["gdb", "-nx", "-nh", "-batch", *told]


@functools.cache
def version() -> int:
    """Return the first number of the version of the gdb in PATH."""
    said = subprocess.run([*batch(), "--version"], capture_output=True, check=True, text=True)
    found = re.search(r" (\d+)\.\d+\S*$", said.stdout.splitlines()[0])
    assert found, said.stdout
    return int(found[1])


def connecting(address: str) -> str:
    """Return gdb's command to connect, or to open ``core:FILE``.

    It takes a unix socket by its bare path.
    """
    if address.startswith("core:"):
        return f"core-file {address.removeprefix('core:')}"
    return f"target remote {address.removeprefix('unix:')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gdb:
    """gdb on one stub; every method is a run of its own, which leaves the stub as it was.

    It connects, asks, and disconnects without detaching, so that a stopped target stays stopped.
    A stub that takes one client at a time (QEMU's) must be free before.
    """

    address: str
    symbols: Path | None = None
    architecture: str | None = None
    settings: tuple[str, ...] = ()
    timeout: float = 240.0

    def run(self, *commands: str) -> list[str]:
        """Return the output of each command, errors included; prompts are off."""
        told = [*SETTINGS, *self.settings]
        if self.symbols is not None:
            told.append(f"file {self.symbols}")
        if self.architecture is not None:
            told.append(f"set architecture {self.architecture}")
        mark = f"echo \\n{MARK}\\n"
        for command in (connecting(self.address), *commands, "disconnect"):
            told += [mark, command]
        run = uuid.uuid4().hex
        try:
            finished = subprocess.run(
                batch(*told, mark),
                env={**os.environ, "RSP_LAB_GDB": run},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=self.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as expired:
            said = (expired.stdout or b"").decode(errors="replace")
            raise GdbError(f"gdb did not end within {self.timeout:g} s:\n{said}") from expired
        finally:
            # gdb may end before the stub that it has started ("| gdbserver -"), and that outlives
            # gdb's SIGHUP now and then.
            if self.address.startswith("|"):
                processes.end(f"RSP_LAB_GDB={run}", patience=0.5)
        output = finished.stdout.decode(errors="replace")
        for newer, older in OLDER_WORDING.items():
            output = output.replace(newer, older)
        answers = [answer.strip("\n") for answer in output.split(f"{MARK}\n")]
        # Before the first mark: the settings. Then the connection, the commands, the disconnect.
        if len(answers) != len(commands) + 4:
            raise GdbError(f"gdb ended with {finished.returncode}:\n{output}")
        connection = answers[1]
        if any(sign in connection for sign in ("Connection refused", "could not connect")):
            raise GdbError(f"gdb could not connect to {self.address}:\n{connection}")
        return answers[2:-2]

    def registers(self) -> dict[str, int | None]:
        """Return every register's raw value, parts like ``al`` and ``xmm0`` included."""
        all_registers, *parts = self.run(
            "info all-registers", *(f"info registers {name}" for name in PARTS)
        )
        there = [part for part in parts if not part.startswith("Invalid register")]
        return parse_registers("\n".join([all_registers, *there]))

    def memory(self, address: int, length: int) -> bytes:
        """Return memory as gdb's ``x`` shows it."""
        return parse_memory(self.run(f"x/{length}xb {address:#x}")[0])

    def value(self, expression: str) -> int:
        """Return the value of an integer expression, unsigned."""
        answer = self.run(f"output/x {expression}")[0]
        try:
            return int(answer, 16)
        except ValueError:
            raise GdbError(f"{expression}: {answer}") from None

    def backtrace(self) -> str:
        """Return what ``bt`` prints."""
        return self.run("bt")[0]


# gdb's "all" leaves out what is a part of another register.
PARTS = (
    *(f"{kind}mm{n}" for kind in "xy" for n in range(32)),
    *(f"{letter}{part}" for letter in "abcd" for part in "lh"),
    *(f"{prefix}{name}" for prefix in ("", "e") for name in ("ax", "bx", "cx", "dx")),
    *(f"{prefix}{name}" for prefix in ("", "e") for name in ("si", "di", "bp", "sp")),
    *("sil", "dil", "bpl", "spl"),
    *(f"r{n}{width}" for n in range(8, 16) for width in "lwd"),
)

REGISTER = re.compile(r"^(\w+)\s+(.*)$")
RAW = re.compile(r"\(raw (0x[0-9a-f]+)\)")
WHOLE = re.compile(r"\buint(?:128|64) = (0x[0-9a-f]+)")  # of xmm0, of mm0
INT128S = re.compile(r"\bv[24]_int128 = \{([^}]*)\}")
WORDS = re.compile(r"\{((?:0x[0-9a-f]+, ){3}0x[0-9a-f]+)\}")  # i386_tls_gdt_0
REFUSED = re.compile(r'Could not fetch register "(\w+)"')  # by the stub: gdb 18's words
INTEGER = re.compile(r"(0x[0-9a-f]+)(?:\s|$)")


def parse_registers(text: str) -> dict[str, int | None]:
    """Read ``info registers`` or ``info all-registers``: the raw bits, None where unavailable.

    >>> parse_registers("rip  0x7d12  0x7d12 <tick>")
    {'rip': 32018}
    """
    registers: dict[str, int | None] = {}
    for line in text.splitlines():
        if refused := REFUSED.match(line):
            registers[refused[1]] = None
            continue
        if not (found := REGISTER.match(line)):
            raise GdbError(f"not a register: {line}")
        name, shown = found.groups()
        if shown.startswith("<"):  # <unavailable>, <not saved>
            registers[name] = None
        elif whole := RAW.search(shown) or WHOLE.search(shown):
            registers[name] = int(whole[1], 16)
        elif parts := INT128S.search(shown):  # the lowest 128 bits are shown first
            words = [int(word, 16) for word in parts[1].split(",")]
            registers[name] = sum(word << 128 * n for n, word in enumerate(words))
        elif parts := WORDS.fullmatch(shown):
            words = [int(word, 16) for word in parts[1].split(", ")]
            registers[name] = sum(word << 32 * n for n, word in enumerate(words))
        elif number := INTEGER.match(shown):
            registers[name] = int(number[1], 16)
        else:
            raise GdbError(f"no value found in: {line}")
    return registers


def parse_memory(text: str) -> bytes:
    """Read the bytes of ``x/…xb``.

    >>> parse_memory("0x7c00 <real_start>:\\t0xea\\t0x05")
    b'\\xea\\x05'
    """
    data = bytearray()
    for line in text.splitlines():
        _, separator, values = line.partition(":\t")
        if not separator or "Cannot access memory" in line:
            raise GdbError(text)
        data += bytes(int(value, 16) for value in values.split("\t"))
    return bytes(data)
