"""4 MiB of memory from QEMU over loopback, nothing cached, against a bare loop and gdb."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter

import rsp
from benchmarks.bare import BareClient
from benchmarks.figure import Figure, apart, interleaved, median_ratio
from lab.gdb import batch, connecting
from rsp.testing.qemu import QemuMachine

_ADDRESS = 0x100000
_LENGTH = 4 << 20


def _ours(address: str) -> float:
    with rsp.connect(address, on_exit=rsp.OnExit.LEAVE_STOPPED) as target:
        start = perf_counter()
        data = target.read_memory(_ADDRESS, _LENGTH)
        elapsed = perf_counter() - start
    assert len(data) == _LENGTH
    return elapsed


def _bare(address: str) -> float:
    with closing(BareClient(address)) as client:
        return client.read_memory(_ADDRESS, _LENGTH)


def _gdb(address: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        script = (
            "import time; start = time.perf_counter(); "
            f"gdb.execute('dump binary memory {folder}/dump {_ADDRESS} {_ADDRESS + _LENGTH}'); "
            "print('seconds', time.perf_counter() - start)"
        )
        done = subprocess.run(
            batch(connecting(address), f"python {script}", "disconnect"),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert Path(folder, "dump").stat().st_size == _LENGTH
    return float(done.stdout.split("seconds")[1].split()[0])


def measure(rounds: int = 9) -> list[Figure]:
    """Interleave the three, each process on its own processor; then once more as it comes."""
    with QemuMachine(gdb="tcp", memory="64M") as machine:
        with apart(machine.pid):
            figures = _compare(machine.address, rounds, "read 4 MiB", (">= 0.75 x", ">= 5.5 x"))
        return figures + _compare(machine.address, rounds, "the same, not pinned", ("", ""))


def _compare(address: str, rounds: int, subject: str, targets: tuple[str, str]) -> list[Figure]:
    ours, bare, gdb = interleaved(
        rounds, lambda: _ours(address), lambda: _bare(address), lambda: _gdb(address)
    )
    rates = [f"{_LENGTH / median(times) / 1e6:.0f} MB/s" for times in (ours, bare, gdb)]
    detail = f"ours {rates[0]}, bare loop {rates[1]}, gdb {rates[2]}"
    return [
        Figure(
            subject=f"{subject}: ours / bare pipelined loop",
            value=median_ratio(bare, ours),
            unit="x",
            target=targets[0],
            detail=detail,
        ),
        Figure(
            subject=f"{subject}: ours / gdb dump memory",
            value=median_ratio(gdb, ours),
            unit="x",
            target=targets[1],
            detail=detail,
        ),
    ]
