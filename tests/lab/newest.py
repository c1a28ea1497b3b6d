"""``python tests/lab/newest.py``: the newest QEMU, gdb, gdbserver and valgrind that Debian has.

Contents: getting them into the user's cache, and starting them with the libraries of their suite.
It prints their directory, which RSP_LAB_BIN then names. What is there is used as it is: remove the
directory to get newer ones.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).parents[1])

from lab.apt import Apt, UnavailableError
from lab.obtain import scratch_directory
from lab.programs import cache_directory

log = logging.getLogger("lab.newest")

SUITE = "sid"
PACKAGES = ("qemu-system-x86", "qemu-user", "gdb", "gdbserver", "valgrind")

# Program → what its wrapper sets, and the first arguments; {usr} is the directory of the suite.
PROGRAMS = {
    "qemu-system-x86_64": ("", ""),
    "qemu-system-i386": ("", ""),
    "gdb": ("PYTHONHOME={usr} ", " --data-directory {usr}/share/gdb"),
    "gdbserver": ("", ""),
    "valgrind": ("VALGRIND_LIB={usr}/libexec/valgrind ", ""),
    "vgdb": ("", ""),
}
BINARIES = {"valgrind": "valgrind.bin"}  # valgrind itself is a script
STATIC = ("qemu-x86_64",)  # these start as they are
LOADER = "lib64/ld-linux-x86-64.so.2"


def newest() -> Path:
    """Have the programs in the cache and return the directory of them."""
    place = cache_directory() / "newest"
    if not place.exists():
        with scratch_directory("newest") as scratch:
            log.info("downloading %s from %s", ", ".join(PACKAGES), SUITE)
            made = scratch / "made"
            Apt(scratch / "apt", suite=SUITE).unpack_with_dependencies(made, *PACKAGES)
            _wrap(made, place)
            made.rename(place)
    return place / "wrapped"


def _wrap(made: Path, place: Path) -> None:
    """Write what starts each program, with the loader and the libraries of its own suite."""
    usr = place / "usr"
    (made / "wrapped").mkdir()
    for name in STATIC:
        (made / "wrapped" / name).symlink_to(usr / "bin" / name)
    # A copy of the loader for each, of its name and beside bin: QEMU looks for its files relative
    # to the program that runs, and that is the loader.
    (made / "usr/loaders").mkdir()
    for name, (variables, arguments) in PROGRAMS.items():
        shutil.copy(made / "usr" / LOADER, made / "usr/loaders" / name)
        wrapper = made / "wrapped" / name
        program = BINARIES.get(name, name)
        text = (
            "#!/bin/sh\n"
            f"{variables}exec {{usr}}/loaders/{name} --library-path {{usr}}/lib/x86_64-linux-gnu "
            f'{{usr}}/bin/{program}{arguments} "$@"\n'
        )
        wrapper.write_text(text.replace("{usr}", str(usr)))
        wrapper.chmod(0o755)


def main() -> int:
    """Get the programs, and print their directory; their versions go to stderr."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        directory = newest()
    except UnavailableError as error:
        log.error("the newest programs cannot be had: %s", error)
        return 1
    for name in ("qemu-system-x86_64", "qemu-x86_64", "gdb", "gdbserver", "valgrind"):
        said = subprocess.run(
            [directory / name, "--version"], capture_output=True, check=True, text=True
        )
        log.info("%s: %s", name, said.stdout.splitlines()[0])
    print(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
