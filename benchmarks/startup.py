"""What ``import rsp`` costs over a bare interpreter, as whole processes."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter

from benchmarks.figure import Figure, interleaved


def _run(statement: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return perf_counter() - start


def measure(rounds: int = 15) -> list[Figure]:
    """Interleave processes that import and processes that do nothing."""
    statements = ("pass", "import rsp", "import rsp; rsp.Connection; rsp.commands; rsp.connect")
    _run(statements[2])  # so that all is compiled
    nothing, package, used = interleaved(rounds, *(lambda s=s: _run(s) for s in statements))
    base = median(nothing)
    return [
        Figure(
            subject="import rsp, over python -c pass",
            value=(median(package) - base) * 1e3,
            unit="ms",
            target="<= 40 ms",
            detail=f"python -c pass {base * 1e3:.0f} ms",
        ),
        Figure(
            subject="import rsp and its sans-I/O core",
            value=(median(used) - base) * 1e3,
            unit="ms",
            target="(none set)",
        ),
    ]
