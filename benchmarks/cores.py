"""A core of a process against gdb's gcore, and of a machine against QEMU's dump-guest-memory.

QEMU writes its own memory to a file: that is what a client cannot reach, since all of it comes over
the line, and is here to say how far away that is.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import rsp
from benchmarks.figure import Figure, apart, interleaved, median_ratio
from lab.gdb import batch, connecting
from lab.programs import build, symbols
from lab.servers import gdbserver_tcp
from rsp.coredump import write_core
from rsp.testing.qemu import QemuMachine

if TYPE_CHECKING:
    from collections.abc import Callable

_MEMORY = 64  # MiB of the machine


def _ours(address: str, file: Path) -> float:
    with rsp.connect(address, on_exit=rsp.OnExit.LEAVE_STOPPED) as target:
        start = perf_counter()
        write_core(target, file)
        return perf_counter() - start


def _gcore(address: str, program: Path, file: Path) -> float:
    script = (
        "import time; start = time.perf_counter(); "
        f"gdb.execute('gcore {file}'); print('seconds', time.perf_counter() - start)"
    )
    done = subprocess.run(
        batch(
            f"file {program}",
            # Of files that are mapped gdb leaves out what nobody has written to.
            "set use-coredump-filter off",
            *(connecting(address), f"python {script}", "disconnect"),
        ),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return float(done.stdout.split("seconds")[1].split()[0])


def _dump(machine: QemuMachine, file: Path) -> float:
    start = perf_counter()
    said = machine.monitor(f"dump-guest-memory {file}")
    elapsed = perf_counter() - start
    assert file.stat().st_size > _MEMORY << 20, said
    return elapsed


def measure(rounds: int = 5) -> list[Figure]:
    """Compare both kinds, a process with threads and a machine of 64 MiB."""
    with tempfile.TemporaryDirectory() as folder:
        return [_process(Path(folder), rounds), _machine(Path(folder), rounds)]


def _process(folder: Path, rounds: int) -> Figure:
    program = build("subject.c")
    with gdbserver_tcp(program) as address:
        with rsp.connect(address, on_exit=rsp.OnExit.LEAVE_STOPPED) as target:
            target.until(symbols("subject.c")["visit"], timeout=60)
        return _figure(
            "core of a process: ours / gdb gcore",
            rounds,
            lambda: _ours(address, folder / "core"),
            lambda: _gcore(address, program, folder / "gcore"),
            target=">= 0.3 x",
        )


def _machine(folder: Path, rounds: int) -> Figure:
    with QemuMachine(gdb="tcp", memory=f"{_MEMORY}M") as machine, apart(machine.pid):
        return _figure(
            "core of 64 MiB: ours / dump-guest-memory",
            rounds,
            lambda: _ours(machine.address, folder / "machine"),
            lambda: _dump(machine, folder / "qemu"),
            target="",
        )


def _figure(
    subject: str,
    rounds: int,
    ours: Callable[[], float],
    theirs: Callable[[], float],
    *,
    target: str,
) -> Figure:
    mine, other = interleaved(rounds, ours, theirs)
    return Figure(
        subject=subject,
        value=median_ratio(other, mine),
        unit="x",
        target=target,
        detail=f"ours {median(mine):.2f} s, theirs {median(other):.2f} s",
    )
