"""The programs under test: their sources are beside this file, built into the user's cache.

Contents: how each is compiled, and the cache, which is outside of the checkout and keyed by the
source (its place too: the debugging information names it), the recipe and the compiler.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

SOURCES = Path(__file__).parent

# Without position independence the addresses are those that nm prints.
RECIPES = {
    "subject.c": ("gcc", "-g", "-O0", "-Wall", "-Wextra", "-Werror", "-no-pie", "-pthread"),
    "threads.c": ("gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-pthread"),
    "deep.c": ("gcc", "-g", "-O1", "-fno-optimize-sibling-calls", "-no-pie"),
    "faults.c": ("gcc", "-g", "-O0", "-Wall", "-Wextra", "-Werror", "-no-pie"),
    "faults32.S": ("gcc", "-g", "-m32", "-static", "-no-pie", "-nostdlib"),
    "forks.c": (
        *("gcc", "-g", "-O0", "-Wall", "-Wextra", "-Werror", "-no-pie", "-pthread"),
        "-Wl,-z,now",
    ),
    "hidden_switch.S": (
        *("gcc", "-m32", "-static", "-no-pie", "-nostdlib"),
        "-Wl,--oformat=binary,-Ttext=0x7c00,-N,--build-id=none",
    ),
    "subject32.S": ("gcc", "-g", "-m32", "-static", "-no-pie", "-nostdlib"),
}


# Read once: a test may give the library a cache of its own meanwhile.
_CACHES = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"


def cache_directory() -> Path:
    """Return the directory that built programs are kept in (XDG base directories)."""
    return Path(_CACHES, "gdb-rsp")


def build(name: str) -> Path:
    """Return the executable made of a source file, building it if no earlier run has."""
    source, recipe = SOURCES / name, RECIPES[name]
    version = subprocess.run(["gcc", "--version"], check=True, capture_output=True).stdout
    made_of = [source.read_bytes(), repr(recipe).encode(), version, os.fsencode(source)]
    key = hashlib.sha256(b"\0".join(made_of)).hexdigest()[:16]
    directory = cache_directory()
    program = directory / f"{source.stem}-{key}"
    if not program.exists():
        directory.mkdir(parents=True, exist_ok=True)
        # Renamed when whole: a run that is cut off, or beside this one, leaves no half program.
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            output = Path(scratch, program.name)
            subprocess.run([*recipe, "-o", output, source], check=True)
            output.replace(program)
    return program


def symbols(name: str) -> dict[str, int]:
    """Return the addresses of a program's symbols, as nm has them."""
    command: list[str | Path] = ["nm", "--defined-only", build(name)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)
    words = (line.split() for line in listed.stdout.splitlines())
    return {symbol: int(address, 16) for address, _, symbol in words}
