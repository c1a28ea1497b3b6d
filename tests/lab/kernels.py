"""The kernels under test: two of Debian's own, and two built from Debian's source.

Contents: what they are, and where their files are: in the user's cache, by recipe. A test takes
what is there and never asks the network; `obtain` is what puts them there. Not here: how a machine
boots them.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lab.apt import UnavailableError
from lab.programs import cache_directory

RECIPES = Path(__file__).parent / "recipes"

# Debian's kernel: package → subdirectory. From each only what the tests use: xfs is large, dummy
# is small and depends on nothing, dm-mod is dm_mod once it is loaded, zsmalloc has per-CPU data.
PACKAGES = {"linux-image-cloud-amd64": "image", "linux-image-cloud-amd64-dbg": "debug"}
MODULES = ("xfs", "libcrc32c", "dummy", "dm-mod", "zsmalloc")
MEMBERS = ("*/boot/*", *(f"*/{name}.ko*" for name in MODULES))
# Release of the kernel → what is appended to the name of Debian's suite that has it.
SUITES = {"6.1": "", "6.12": "-backports"}

# The built ones: architecture of the kernel's Makefile → what tinyconfig is merged with.
FRAGMENTS = {
    "x86_64": ("kernel.config", "x86_64.config"),
    "i386": ("kernel.config", "i386.config"),
}
# file of the build → file that is kept; modules are kept below lib/modules/RELEASE/kernel.
KEPT = {
    "vmlinux": "vmlinux",
    "arch/x86/boot/bzImage": "bzImage",
    "System.map": "System.map",
    ".config": "config",
}
# Debian's busybox for i386, which the guest of that kernel runs on.
BUSYBOX32 = "busybox-i386"
# Where the debugging information says that it was built, and who, where and when in the banner: the
# same source and compiler give the same kernel.
BUILT_IN = "/usr/src"
BANNER = {
    "KBUILD_BUILD_USER": "gdb-rsp",
    "KBUILD_BUILD_HOST": "lab",
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianKernel:
    """The files of Debian's kernel for virtual machines: KASLR, ORC and BTF, no kgdb.

    ``modules`` and ``debug_modules`` are its ``/lib/modules/RELEASE`` and the like of the debug
    package, with a few of the modules.
    """

    release: str
    vmlinux: Path
    system_map: Path
    image: Path
    modules: Path
    debug_modules: Path

    def module(self, name: str) -> Path:
        """Return a module with its debugging information: ``module("xfs")``."""
        return only(self.debug_modules, f"**/{name}.ko*")

    def stripped_module(self, name: str) -> Path:
        """Return a module as it is installed, signed and without debugging information."""
        return only(self.modules, f"**/{name}.ko*")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltKernel:
    """The files of a kernel with kgdb: x86_64 has DWARF 5 and ORC, i386 DWARF 4 and %ebp."""

    release: str
    vmlinux: Path
    system_map: Path
    bzimage: Path
    config: Path
    modules: Path

    def module(self, name: str) -> Path:
        """Return a module with its debugging information: ``module("dummy")``."""
        return only(self.modules, f"**/{name}.ko")


def debian_kernel(release: str = "6.1") -> DebianKernel:
    """Return one of Debian's kernels, "6.1" or "6.12".

    Raises:
        UnavailableError: It is not in the cache.
    """
    root = _there(debian_pattern(release))
    vmlinux = only(root, "debug/**/vmlinux-*")
    release = vmlinux.name.removeprefix("vmlinux-")
    return DebianKernel(
        release=release,
        vmlinux=vmlinux,
        system_map=only(root, "debug/**/System.map-*"),
        image=only(root, "image/**/vmlinuz-*"),
        modules=only(root, f"image/**/modules/{release}"),
        debug_modules=only(root, f"debug/**/modules/{release}"),
    )


def built_kernel(name: str) -> BuiltKernel:
    """Return the kernel of one architecture: ``built_kernel("i386")``.

    Raises:
        UnavailableError: It is not in the cache, or was built by another compiler or recipe.
    """
    root = _there(built_pattern(name))
    modules = only(root, "lib/modules/*")
    return BuiltKernel(
        release=modules.name,
        vmlinux=root / "vmlinux",
        system_map=root / "System.map",
        bzimage=root / "bzImage",
        config=root / "config",
        modules=modules,
    )


def busybox32() -> Path:
    """Return Debian's busybox for i386; raises as the others."""
    return _there(BUSYBOX32)


def debian_pattern(release: str, version: str = "*") -> str:
    """Return the name in the cache of one of Debian's kernels, whatever its version."""
    suite = SUITES[release]
    return f"linux-debian-{version}-{_key(PACKAGES, MEMBERS, *filter(None, [suite]))}"


def built_pattern(name: str, version: str = "*") -> str:
    """Return the name in the cache of a kernel that is built, whatever the source's version."""
    compiler = subprocess.run(["gcc", "--version"], check=True, capture_output=True).stdout
    return f"linux-{name}-{version}-{_key(fragment(name), KEPT, BUILT_IN, BANNER, compiler)}"


def cached(pattern: str) -> Path | None:
    """Return what lies in the cache under such a name."""
    return next(cache_directory().glob(pattern), None)


def fragment(name: str) -> str:
    """Return what the configuration of a kernel is merged with."""
    return "".join((RECIPES / part).read_text() for part in FRAGMENTS[name])


def compress(path: Path, suffix: Literal["xz", "zst"], directory: Path) -> Path:
    """Return a compressed copy of a module, as the kernel's ``make modules_install`` makes it."""
    command = {"xz": ["xz", "--check=crc32", "--lzma2=dict=1MiB"], "zst": ["zstd", "-q"]}[suffix]
    output = directory / f"{path.name}.{suffix}"
    with output.open("wb") as stream:
        subprocess.run([*command, "--stdout", path], check=True, stdout=stream)
    return output


def split_debug(path: Path, directory: Path) -> tuple[Path, Path]:
    """Return a copy without debugging information, and the ``.debug`` file that it names."""
    stripped, debug = directory / path.name, directory / f"{path.name}.debug"
    subprocess.run(["objcopy", "--only-keep-debug", path, debug], check=True)
    link = f"--add-gnu-debuglink={debug}"
    subprocess.run(["objcopy", "--strip-debug", link, path, stripped], check=True)
    return stripped, debug


def not_applied(fragment: str, config: str) -> list[str]:
    """Return the lines of a fragment that do not hold in a configuration.

    ``# CONFIG_X is not set`` also holds where CONFIG_X is not mentioned: it cannot be set there.
    """
    settings = config.splitlines()
    values = dict(line.split("=", 1) for line in settings if line.startswith("CONFIG_"))
    missed = []
    for line in fragment.splitlines():
        if unset := re.fullmatch(r"# (CONFIG_\w+) is not set", line):
            holds = unset[1] not in values
        else:
            holds = not line.startswith("CONFIG_") or line in settings
        if not holds:
            missed.append(line)
    return missed


def only(directory: Path, pattern: str) -> Path:
    """Return the one file that matches."""
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise FileNotFoundError(f"{directory}/{pattern}: {len(found)} files, expected one")
    return found[0]


def _there(pattern: str) -> Path:
    if (found := cached(pattern)) is None:
        raise UnavailableError(f"no {pattern} in {cache_directory()}: make lab puts it there")
    return found


def _key(*recipe: object) -> str:
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]
