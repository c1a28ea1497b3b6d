"""Who is compared on a guest: ours within this process and as one of its own, and gdb.

Contents: how each is started, what a whole process takes, and what it has sent. gdb's command line
is that of the lab's oracle.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import rsp
from rsp.recording import EntryKind, read_log

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.guest import Guest


@dataclass(frozen=True, slots=True)
class Run:
    """What a process took: seconds, and its largest resident set in MiB."""

    seconds: float
    memory: float


def run(command: Sequence[str | Path], **environment: str) -> Run:
    """Run a process to its end; what it prints must be something."""
    start = perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = perf_counter() - start
    assert process.returncode == 0, command
    assert printed, command
    return Run(seconds, usage.ru_maxrss / 1024)


def command_on(guest: Guest, name: str, *options: str | Path) -> list[str | Path]:
    """Return the command line of ``rsp NAME`` on a guest, which it leaves standing."""
    command = [sys.executable, "-m", "rsp", name, guest.address]
    return [*command, "--symbols", guest.symbols, "--no-cache", "--leave-stopped", *options]


def connect(guest: Guest, address: str | None = None, *, record: Path | None = None) -> rsp.Target:
    """Connect to a guest with its symbols, by its gdbstub or another address, to leave it so."""
    return rsp.connect(
        guest.address if address is None else address,
        symbols=guest.symbols,
        on_exit=rsp.OnExit.LEAVE_STOPPED,
        record=record,
    )


def requests(log: Path) -> list[bytes]:
    """Return the packets that a client sent, from a recording of its own or gdb's remotelog."""
    sent = b"".join(entry.data for entry in read_log(log) if entry.kind is EntryKind.SENT)
    return [part.partition(b"#")[0] for part in sent.split(b"$")[1:]]
