"""Which programs the live tests need, and the Debian package of each.

Here lives: the one table. The skip reasons, the fixtures' needs and `make lab` are read from it:
``python tests/lab/packages.py`` prints the packages that are missing.
"""

from __future__ import annotations

import shutil

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-i386": "qemu-system-x86",
    "qemu-x86_64": "qemu-user",
    "gdb": "gdb",
    "gdbserver": "gdbserver",
    "valgrind": "valgrind",
    "vgdb": "valgrind",
    "socat": "socat",
    "gcc": "gcc libc6-dev",  # the headers are only recommended by gcc's package
    "nm": "binutils",
    "readelf": "binutils",
    "addr2line": "binutils",
    "objcopy": "binutils",
    "setpriv": "util-linux",
}

# What a test that uses one of these fixtures needs; tests/conftest.py has the fixtures.
FIXTURES = {
    "boot_qemu": ("qemu-system-x86_64", "qemu-system-i386"),
    "gdb": ("gdb",),
    "build_program": ("gcc",),
    "gdbserver": ("gdbserver", "gcc"),
    "vgdb": ("valgrind", "vgdb", "gcc"),
}


def missing(*programs: str) -> list[str]:
    """Return the Debian packages to install so that all of the programs are there."""
    absent = (program for program in programs if shutil.which(program) is None)
    return sorted({package for program in absent for package in PACKAGES[program].split()})


if __name__ == "__main__":
    print(*missing(*PACKAGES))
