"""A program of many kinds of calls, compiled in every way that matters to a backtrace.

Contents: how it is compiled; its source is programs/frames.c. It is static, so that all of the
stack is its own; the 32-bit ones are without a library, which need not be installed.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "programs" / "frames.c"

_M32 = ("-m32", "-nostdlib", "-ffreestanding", "-DFREESTANDING")
_O2 = ("-O2", "-fno-reorder-functions")
VARIANTS: dict[str, tuple[str, ...]] = {
    "O0": ("-O0", "-gdwarf-5"),
    "O0-frameless": ("-O0", "-gdwarf-4", "-fomit-frame-pointer"),
    "Og": ("-Og", "-gdwarf-5"),
    "O1-dwarf4": ("-O1", "-gdwarf-4"),
    "O2": (*_O2, "-gdwarf-5"),
    "O2-dwarf4": (*_O2, "-gdwarf-4"),
    "O2-frames": (*_O2, "-gdwarf-5", "-fno-omit-frame-pointer"),
    "Os": ("-Os", "-gdwarf-5"),
    "m32-O0": (*_M32, "-O0", "-gdwarf-4"),
    "m32-O2": (*_M32, *_O2, "-gdwarf-5"),
    "m32-frames": (*_M32, *_O2, "-gdwarf-4", "-fno-omit-frame-pointer"),
}


def compile_variant(name: str, directory: Path) -> Path:
    """Return the program of one of `VARIANTS`."""
    program = directory / f"frames-{name}"
    options = ("-static", "-no-pie", "-Wall", "-fno-stack-protector")
    command = ["gcc", *options, *VARIANTS[name], SOURCE.name, "-o", str(program)]
    subprocess.run(command, cwd=SOURCE.parent, check=True)
    return program
