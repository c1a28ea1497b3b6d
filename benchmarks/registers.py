"""A register snapshot with all values decoded, against a bare ``g`` round trip."""

from __future__ import annotations

from contextlib import closing
from statistics import median
from time import perf_counter

import rsp
from benchmarks.bare import BareClient
from benchmarks.figure import Figure, apart, interleaved, median_ratio
from rsp.testing.qemu import QemuMachine

_REPEATS = 200


def measure(rounds: int = 15) -> list[Figure]:
    """Interleave bursts of both; QEMU's stub serves one client at a time."""
    with QemuMachine(gdb="tcp") as machine:
        with apart(machine.pid):
            figures = _compare(machine.address, rounds, "register snapshot", "<= 1.8 x")
        return figures + _compare(machine.address, rounds, "the same, not pinned", "")


def _compare(address: str, rounds: int, subject: str, target: str) -> list[Figure]:
    taken, alone = interleaved(rounds, lambda: _ours(address), lambda: _bare(address))
    return [
        Figure(
            subject=f"{subject}: ours / bare g round trip",
            value=median_ratio(taken, alone),
            unit="x",
            target=target,
            detail=f"ours {median(taken) * 1e6:.0f} us, bare {median(alone) * 1e6:.0f} us",
        )
    ]


def _ours(address: str) -> float:
    times = []
    with rsp.connect(address, on_exit=rsp.OnExit.LEAVE_STOPPED) as target:
        for _ in range(_REPEATS):
            target.invalidate()
            start = perf_counter()
            registers = target.registers
            times.append(perf_counter() - start)
    assert registers["rip"] == 0xFFF0
    return median(times)


def _bare(address: str) -> float:
    with closing(BareClient(address)) as client:
        return median(client.round_trip(b"$g#67") for _ in range(_REPEATS))
