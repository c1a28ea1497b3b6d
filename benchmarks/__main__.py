"""Run the benchmarks named on the command line, or all: ``python -m benchmarks memory``."""

from __future__ import annotations

import sys
from importlib import import_module

SUBJECTS = (
    "framing",
    "startup",
    "registers",
    "memory",
    "cores",
    "symbols",
    "values",
    "backtraces",
    "stepping",
    "kernel",
    "serial",
)


def main() -> int:
    """Print a line for each figure."""
    names = sys.argv[1:] or SUBJECTS
    for name in names:
        if name not in SUBJECTS:
            print(f"no benchmark {name!r}; there are {', '.join(SUBJECTS)}", file=sys.stderr)
            return 2
    for name in names:
        for figure in import_module(f"benchmarks.{name}").measure():
            print(figure, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
