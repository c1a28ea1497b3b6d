"""The kernels under test: two of Debian's own, and two built from Debian's source.

Here lives: how they are obtained and where their files are. They are kept in the user's cache, by
recipe; one that is there is used as it is, with no question to the network, so that a run of the
tests never begins to download because Debian has a newer one (remove its directory for that).
``python tests/lab/kernels.py`` obtains all. Here must not live: how a machine boots them.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if not __package__:
    sys.path[0] = str(Path(__file__).parents[1])

from lab.packages import FIXTURES, missing
from lab.programs import cache_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("lab.kernels")

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
# Where the debugging information says that it was built, and who, where and when in the banner: the
# same source and compiler give the same kernel.
BUILT_IN = "/usr/src"
BANNER = {
    "KBUILD_BUILD_USER": "gdb-rsp",
    "KBUILD_BUILD_HOST": "lab",
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
}


class UnavailableError(Exception):
    """Debian's packages cannot be had on this machine; the message is the reason."""


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
        return _only(self.debug_modules, f"**/{name}.ko*")

    def stripped_module(self, name: str) -> Path:
        """Return a module as it is installed, signed and without debugging information."""
        return _only(self.modules, f"**/{name}.ko*")


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
        return _only(self.modules, f"**/{name}.ko")


def debian_kernel(release: str = "6.1") -> DebianKernel:
    """Return one of Debian's kernels, "6.1" or "6.12", downloading it if no earlier run has.

    Raises:
        UnavailableError: There is no apt here, or it cannot reach a mirror.
    """
    suite = SUITES[release]
    key = _key(PACKAGES, MEMBERS, *filter(None, [suite]))
    root = _cached(f"linux-debian-*-{key}")
    if root is None:
        with _scratch(f"linux-debian{suite}") as scratch:
            root = _cached(f"linux-debian-*-{key}") or _fetch_debian(scratch, key, suite)
    vmlinux = _only(root, "debug/**/vmlinux-*")
    release = vmlinux.name.removeprefix("vmlinux-")
    return DebianKernel(
        release=release,
        vmlinux=vmlinux,
        system_map=_only(root, "debug/**/System.map-*"),
        image=_only(root, "image/**/vmlinuz-*"),
        modules=_only(root, f"image/**/modules/{release}"),
        debug_modules=_only(root, f"debug/**/modules/{release}"),
    )


def built_kernel(name: str) -> BuiltKernel:
    """Return the kernel of one architecture: ``built_kernel("i386")``. Raises as the next."""
    return built_kernels()[name]


def built_kernels() -> dict[str, BuiltKernel]:
    """Return all built kernels by name, building those that no earlier run has built.

    Raises:
        UnavailableError: There is no apt here, or it cannot reach a mirror.
    """
    patterns = {name: f"linux-{name}-*-{_build_key(name)}" for name in FRAGMENTS}
    if not all(map(_cached, patterns.values())):
        with _scratch("linux-build") as scratch:
            # Another run may have built them while this one waited.
            _build([name for name, each in patterns.items() if _cached(each) is None], scratch)
    return {name: _built(_only(cache_directory(), each)) for name, each in patterns.items()}


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


def _only(directory: Path, pattern: str) -> Path:
    """Return the one file that matches."""
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise FileNotFoundError(f"{directory}/{pattern}: {len(found)} files, expected one")
    return found[0]


def _key(*recipe: object) -> str:
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]


def _build_key(name: str) -> str:
    compiler = subprocess.run(["gcc", "--version"], check=True, capture_output=True).stdout
    return _key(_fragment(name), KEPT, BUILT_IN, BANNER, compiler)


def _fragment(name: str) -> str:
    return "".join((RECIPES / part).read_text() for part in FRAGMENTS[name])


def _cached(pattern: str) -> Path | None:
    return next(cache_directory().glob(pattern), None)


@contextmanager
def _scratch(name: str) -> Iterator[Path]:
    """Provide an empty directory in the cache to one process at a time; the others wait."""
    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    directory = cache / f"{name}.tmp"
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # A run that was killed has left its own.
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


class _Apt:
    """Debian's archive as this machine's apt is set up to reach it, with lists of its own.

    They are always fresh, and nothing of the machine changes; this needs no root.

    Args:
        scratch: an empty directory.
        suite: "-backports" for that suite of the release that the machine has; signed by the same
            key, and of the same mirror.
    """

    def __init__(self, scratch: Path, suite: str = "") -> None:
        self.scratch = scratch
        self._sources: tuple[str, ...] = ()
        (scratch / "lists").mkdir()
        self._run("apt-get", "update")
        if suite:
            (scratch / "sources.list").write_text(self._of_suite(suite))
            self._sources = (
                f"-oDir::Etc::sourcelist={scratch / 'sources.list'}",
                "-oDir::Etc::sourceparts=-",
            )
            self._run("apt-get", "update")

    def _of_suite(self, suite: str) -> str:
        """Return the line of sources.list for a suite beside the release of this machine."""
        wanted = "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(COMPONENT)|$(SIGNED_BY)"
        for line in self._run("apt-get", "indextargets", "--format", wanted).splitlines():
            made_by, uri, release, codename, component, key = line.split("|")
            # Suites such as bookworm-updates have a hyphen, and are not what others are named by.
            plain = release == codename or release in ("stable", "oldstable")
            if (made_by, component) == ("Packages", "main") and plain and "-" not in codename:
                signed = f"[signed-by={key}] " if key and not key.startswith("$(") else ""
                return f"deb {signed}{uri} {codename}{suite} main\n"
        raise UnavailableError("apt has no sources of a Debian release")

    def download(self, name: str) -> tuple[Path, str]:
        """Download what a meta package stands for; return the file and the version."""
        shown = self._run("apt-cache", "show", "--no-all-versions", name)
        real = re.search(r"^Depends: (\S+) \(= (\S+)\)", shown, re.MULTILINE)
        if real is None:
            raise UnavailableError(f"apt does not say which package {name} stands for")
        package, version = real.groups()
        log.info("downloading %s %s", package, version)
        self._run("apt-get", "download", f"{package}={version}")
        return _only(self.scratch, f"{package}_*.deb"), version

    def _run(self, *command: str) -> str:
        options = (
            f"-oDir::State::Lists={self.scratch / 'lists'}/",
            "-oDir::Cache::pkgcache=",
            "-oDir::Cache::srcpkgcache=",
            "-oAPT::Sandbox::User=root",
            *self._sources,
        )
        try:
            done = subprocess.run(
                [*command, *options],
                capture_output=True,
                check=True,
                cwd=self.scratch,
                env={**os.environ, "LC_ALL": "C"},
                text=True,
            )
        except FileNotFoundError as error:
            raise UnavailableError(f"{command[0]} is not installed") from error
        except subprocess.CalledProcessError as error:
            said = (error.stderr.strip() or f"status {error.returncode}").splitlines()
            raise UnavailableError(f"{' '.join(command)}: {said[-1]}") from error
        return done.stdout


def _extract(package: Path, directory: Path, *members: str) -> None:
    """Take files out of a Debian package, which is deleted."""
    directory.mkdir(exist_ok=True)
    unpack = ["tar", "-x", "-C", str(directory), "--wildcards", *members]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as pack:
        subprocess.run(unpack, check=True, stdin=pack.stdout)
    if pack.returncode:
        raise subprocess.CalledProcessError(pack.returncode, "dpkg-deb")
    package.unlink()


def _fetch_debian(scratch: Path, key: str, suite: str) -> Path:
    began = time.perf_counter()
    apt = _Apt(scratch, suite)
    root = scratch / "root"
    root.mkdir()
    for name, subdirectory in PACKAGES.items():
        package, version = apt.download(name)
        _extract(package, root / subdirectory, *MEMBERS)
    for module in root.rglob("*.ko.xz"):  # busybox loads none that is compressed
        subprocess.run(["xz", "--decompress", module], check=True)
    log.info("Debian's kernel %s: %.0f s", version, time.perf_counter() - began)
    return root.rename(cache_directory() / f"linux-debian-{version}-{key}")


def _build(names: list[str], scratch: Path) -> None:
    if not names:
        return
    package, version = _Apt(scratch).download("linux-source")
    _extract(package, scratch, "*/linux-source-*.tar.xz")
    archive = _only(scratch, "**/linux-source-*.tar.xz")
    subprocess.run(["tar", "-x", "-C", scratch, "-f", archive], check=True)
    archive.unlink()
    for name in names:
        began = time.perf_counter()
        target = cache_directory() / f"linux-{name}-{version}-{_build_key(name)}"
        kept = _make(name, _only(scratch, "linux-source-*"), target.with_name(f"{target.name}.log"))
        kept.rename(target)
        log.info("%s kernel: %.0f s", name, time.perf_counter() - began)


def _make(name: str, source: Path, build_log: Path) -> Path:
    """Configure and build one kernel; return the directory of what is kept."""
    log.info("building the %s kernel, log in %s", name, build_log)
    objects, kept = source.parent / name, source.parent / f"{name}-kept"
    objects.mkdir()
    kept.mkdir()
    mapped = f"-ffile-prefix-map={source.parent}={BUILT_IN}"
    variables = {"O": objects, "ARCH": name, "KCFLAGS": mapped, "KAFLAGS": mapped, **BANNER}
    command = ["nice", "-n", "10", "make", "-C", str(source), f"-j{os.cpu_count()}"]
    command += [f"{variable}={value}" for variable, value in variables.items()]
    # A make that started this must not hand its own flags and job slots on.
    inherited = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environ = {key: value for key, value in os.environ.items() if key not in inherited}
    config, fragment = objects / ".config", _fragment(name)
    with build_log.open("w") as stream:

        def make(*targets: str) -> None:
            made = subprocess.run(
                [*command, *targets],
                check=False,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
            if made.returncode:
                raise RuntimeError(f"make {' '.join(targets)} failed: see {build_log}")

        make("tinyconfig")
        config.write_text(config.read_text() + fragment)
        make("olddefconfig")
        if missed := not_applied(fragment, config.read_text()):
            raise RuntimeError(f"not in the configuration of {name}: {', '.join(missed)}")
        make("bzImage", "modules")
    for built, file in KEPT.items():
        (objects / built).rename(kept / file)
    release = (objects / "include/config/kernel.release").read_text().strip()
    for module in objects.rglob("*.ko"):
        place = kept / "lib/modules" / release / "kernel" / module.relative_to(objects)
        place.parent.mkdir(parents=True, exist_ok=True)
        module.rename(place)
    shutil.rmtree(objects)
    return kept


def _built(root: Path) -> BuiltKernel:
    modules = _only(root, "lib/modules/*")
    return BuiltKernel(
        release=modules.name,
        vmlinux=root / "vmlinux",
        system_map=root / "System.map",
        bzimage=root / "bzImage",
        config=root / "config",
        modules=modules,
    )


def main() -> int:
    """Obtain all kernels, with progress on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if packages := missing(*FIXTURES["debian_kernel"], *FIXTURES["built_kernel"]):
        log.error("to obtain the kernels of the live tests, install %s", " ".join(packages))
        return 1
    try:
        debian_kernel()
        built_kernels()
        for release in SUITES:  # last, as a machine may have no such suite
            debian_kernel(release)
    except UnavailableError as error:
        log.error("the kernels of the live tests cannot be obtained: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
