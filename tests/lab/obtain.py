"""``python tests/lab/obtain.py``: what `make lab` puts into the user's cache, once.

Contents: Debian's kernels, downloaded; the kernels with kgdb, built; busybox for i386. What is
there is used as it is, with no question to the network, so that a run of the tests never begins to
download because Debian has a newer one (remove its directory for that). No test calls any of it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:
    sys.path[0] = str(Path(__file__).parents[1])

from lab.apt import Apt, UnavailableError
from lab.kernels import (
    BANNER,
    BUILT_IN,
    BUSYBOX32,
    FRAGMENTS,
    KEPT,
    MEMBERS,
    PACKAGES,
    SUITES,
    built_pattern,
    cached,
    debian_pattern,
    fragment,
    not_applied,
    only,
)
from lab.packages import OBTAIN, missing
from lab.programs import cache_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("lab.obtain")


def debian(release: str) -> None:
    """Have one of Debian's kernels in the cache."""
    if cached(debian_pattern(release)):
        return
    with scratch_directory(f"linux-debian{SUITES[release]}") as scratch:
        # Another run may have obtained it while this one waited.
        if not cached(debian_pattern(release)):
            _fetch(release, scratch)


def built() -> None:
    """Have the kernels with kgdb in the cache."""
    if all(cached(built_pattern(name)) for name in FRAGMENTS):
        return
    with scratch_directory("linux-build") as scratch:
        if names := [name for name in FRAGMENTS if not cached(built_pattern(name))]:
            _build(names, scratch)


def busybox32() -> None:
    """Have Debian's busybox for i386 in the cache."""
    if cached(BUSYBOX32):
        return
    with scratch_directory(BUSYBOX32) as scratch:
        Apt(scratch, architecture="i386").unpack("busybox-static", scratch)
        (scratch / "bin/busybox").replace(cache_directory() / BUSYBOX32)


@contextmanager
def scratch_directory(name: str) -> Iterator[Path]:
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


def _fetch(release: str, scratch: Path) -> None:
    began = time.perf_counter()
    apt = Apt(scratch, suite=SUITES[release])
    root = scratch / "root"
    for name, subdirectory in PACKAGES.items():
        package, version = apt.stands_for(name)
        log.info("downloading %s %s", package, version)
        apt.unpack(f"{package}={version}", root / subdirectory, *MEMBERS)
    for module in root.rglob("*.ko.xz"):  # busybox loads none that is compressed
        subprocess.run(["xz", "--decompress", module], check=True)
    root.rename(cache_directory() / debian_pattern(release, version))
    log.info("Debian's kernel %s: %.0f s", version, time.perf_counter() - began)


def _build(names: list[str], scratch: Path) -> None:
    apt = Apt(scratch)
    package, version = apt.stands_for("linux-source")
    log.info("downloading %s %s", package, version)
    apt.unpack(f"{package}={version}", scratch, "*/linux-source-*.tar.xz")
    archive = only(scratch, "**/linux-source-*.tar.xz")
    subprocess.run(["tar", "-x", "-C", scratch, "-f", archive], check=True)
    archive.unlink()
    for name in names:
        began = time.perf_counter()
        target = cache_directory() / built_pattern(name, version)
        kept = _make(name, only(scratch, "linux-source-*"), target.with_name(f"{target.name}.log"))
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
    config, settings = objects / ".config", fragment(name)
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
        config.write_text(config.read_text() + settings)
        make("olddefconfig")
        if missed := not_applied(settings, config.read_text()):
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


def main() -> int:
    """Obtain all, with progress on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if packages := missing(*OBTAIN):
        log.error("to obtain the kernels of the live tests, install %s", " ".join(packages))
        return 1
    try:
        debian("6.1")
        busybox32()
        built()
        for release in SUITES:  # last, as a machine may have no such suite
            debian(release)
    except UnavailableError as error:
        log.error("the kernels of the live tests cannot be obtained: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
