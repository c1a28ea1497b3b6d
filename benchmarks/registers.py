"""A register snapshot with all values decoded, against a bare ``g`` round trip."""

from __future__ import annotations

from statistics import median
from time import perf_counter

import rsp
from benchmarks.bare import BareClient
from benchmarks.figure import Figure, interleaved, median_ratio
from rsp.testing.qemu import QemuMachine

_REPEATS = 200


def measure(rounds: int = 15) -> list[Figure]:
    """Interleave bursts of both, each on a QEMU of its own: one stub serves one client."""
    with (
        QemuMachine(gdb="tcp") as machine,
        QemuMachine(gdb="tcp") as other,
        rsp.connect(machine.address) as target,
    ):
        client = BareClient(other.address)

        def ours() -> float:
            times = []
            for _ in range(_REPEATS):
                target.invalidate()
                start = perf_counter()
                registers = target.registers
                times.append(perf_counter() - start)
            assert registers["rip"] == 0xFFF0
            return median(times)

        def bare() -> float:
            return median(client.round_trip(b"$g#67") for _ in range(_REPEATS))

        taken, alone = interleaved(rounds, ours, bare)
        client.close()
    return [
        Figure(
            subject="register snapshot: ours / bare g round trip",
            value=median_ratio(taken, alone),
            unit="x",
            target="<= 1.8 x",
            detail=f"ours {median(taken) * 1e6:.0f} us, bare {median(alone) * 1e6:.0f} us",
        )
    ]
