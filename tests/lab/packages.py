"""Which programs and headers the live tests need, and the Debian package of each.

Contents: the one table. The skip reasons, the fixtures' needs, the PATH of a test and `make lab`
are read from it: ``python tests/lab/packages.py`` prints the packages that are missing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

# A name with a slash is a file, others are programs in PATH.
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
    "g++": "g++",
    "as": "binutils",
    "ld": "binutils",
    "nm": "binutils",
    "readelf": "binutils",
    "addr2line": "binutils",
    "objcopy": "binutils",
    "objdump": "binutils",
    "strip": "binutils",
    "setpriv": "util-linux",
    "apt-get": "apt",
    "apt-cache": "apt",
    "dpkg-deb": "dpkg",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "/usr/include/gelf.h": "libelf-dev",
    "xz": "xz-utils",
    "zstd": "zstd",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "node": "nodejs",  # which pyright runs in
}

# Programs that a test may use and need not declare: every Debian has them.
BASE = (
    *("bash", "cat", "cp", "grep", "gzip", "head", "ln", "mkdir", "printf", "setsid", "sh"),
    *("sleep", "tail", "true"),
)

# What a program of the table finds by PATH itself.
CALLS = {
    "gcc": ("as", "ld"),
    "g++": ("as", "ld"),
    "valgrind": ("valgrind.bin",),  # Debian's is a script
}

# What a test that uses one of these fixtures needs; tests/conftest.py has the fixtures.
FIXTURES = {
    "boot_qemu": ("qemu-system-x86_64", "qemu-system-i386"),
    "gdb": ("gdb",),
    "build_program": ("gcc",),
    "gdbserver": ("gdbserver", "gcc"),
    "vgdb": ("valgrind", "vgdb", "gcc"),
    "debian_kernel": (),
    "built_kernel": ("gcc",),  # it is kept by the compiler's version
}
_GUEST = ("qemu-system-x86_64", "qemu-system-i386", "gcc", "busybox", "cpio")
FIXTURES |= dict.fromkeys(("boot_kernel", "shared_kernel"), _GUEST)

# What `obtain` needs to put the kernels into the cache.
OBTAIN = (
    *("apt-get", "apt-cache", "dpkg-deb", "xz", "gcc", "make", "flex", "bison", "bc"),
    *("objcopy", "/usr/include/gelf.h"),
)


def present(need: str) -> bool:
    """Return whether a program or a file of the table is on this machine."""
    return Path(need).exists() if "/" in need else shutil.which(need) is not None


def missing(*needs: str) -> list[str]:
    """Return the Debian packages to install so that all of the programs and files are there."""
    absent = (need for need in needs if not present(need))
    return sorted({package for need in absent for package in PACKAGES[need].split()})


if __name__ == "__main__":
    print(*missing(*PACKAGES))
