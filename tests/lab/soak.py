"""The live tests again and again beside busy loops: no result may depend on an idle machine.

``python -m lab.soak --runs 5 --loops 4 -- -k kgdb`` runs ``pytest -m live`` so often, gives it what
stands behind ``--``, and fails if a test did. `make soak` does it with what ARGS has.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# It ends when whoever started it has ended, however that was.
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
PYTEST = ("-bb", "-W", "error", "-m", "pytest", "-m", "live", "-q", "--tb=short")
VERDICT = re.compile(r"^(?:FAILED|ERROR) .*", re.MULTILINE)


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """Keep so many processes busy."""
    with contextlib.ExitStack() as running:
        for _ in range(loops):
            process = running.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            running.callback(process.kill)
        yield


def run(log: Path, arguments: Sequence[str]) -> bool:
    """Run the live tests once, say how it went, and return whether all were green."""
    started = time.monotonic()
    with log.open("w") as output:
        done = subprocess.run(
            [sys.executable, *PYTEST, *arguments], stdout=output, stderr=output, check=False
        )
    text = log.read_text(errors="replace").strip()
    minutes, load = (time.monotonic() - started) / 60, os.getloadavg()[2]
    verdict = text.rpartition("\n")[2].strip("= ")
    print(f"{log}: {verdict}; {minutes:.0f} min, load {load:.0f}", flush=True)
    for failure in VERDICT.findall(text):
        print(f"    {failure}", flush=True)
    return done.returncode == 0


def main() -> int:
    """Run as often as the command line says."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--loops", type=int, default=4, help="busy loops beside them")
    parser.add_argument("--logs", type=Path, default=Path("build/soak"), help="a directory")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, behind --")
    options = parser.parse_args()
    options.logs.mkdir(parents=True, exist_ok=True)
    with busy(options.loops):
        green = [
            run(options.logs / f"run-{number}.log", options.pytest)
            for number in range(1, options.runs + 1)
        ]
    print(f"{green.count(True)} of {len(green)} runs were green beside {options.loops} busy loops")
    return 0 if all(green) else 1


if __name__ == "__main__":
    sys.exit(main())
