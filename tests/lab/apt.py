"""Debian's packages, unpacked into a directory: this needs no root, and changes nothing else.

Contents: asking apt. ``python3 tests/lab/apt.py PACKAGE DIRECTORY`` unpacks one, with nothing but
Python's own library. Not here: what the lab makes of a package (`obtain`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path


class UnavailableError(Exception):
    """The lab lacks something, such as a kernel or a mirror; the message is the reason."""


class Apt:
    """Debian's archive as this machine's apt is set up to reach it, with lists of its own.

    They are always fresh, and nothing of the machine changes; this needs no root.

    Args:
        scratch: an empty directory.
        suite: the name of another suite ("sid"), or "-backports" for that of the release that the
            machine has; signed by the same key, and of the same mirror.
        architecture: another one than the machine's.
    """

    def __init__(self, scratch: Path, *, suite: str = "", architecture: str = "") -> None:
        self.scratch = scratch
        self._options = [
            f"-oDir::State::Lists={scratch / 'lists'}/",
            "-oDir::Cache::pkgcache=",
            "-oDir::Cache::srcpkgcache=",
            "-oAPT::Sandbox::User=root",
            "-oAcquire::Retries=3",
        ]
        if architecture:
            names = ("APT::Architecture", "APT::Architectures")
            self._options += [f"-o{name}={architecture}" for name in names]
        (scratch / "lists").mkdir(parents=True)
        self._run("apt-get", "update")
        if suite:
            (scratch / "sources.list").write_text(self._of_suite(suite))
            self._options += [
                f"-oDir::Etc::sourcelist={scratch / 'sources.list'}",
                "-oDir::Etc::sourceparts=-",
            ]
            self._run("apt-get", "update")

    def stands_for(self, name: str) -> tuple[str, str]:
        """Return which package, and which version of it, a meta package stands for."""
        shown = self._run("apt-cache", "show", "--no-all-versions", name)
        real = re.search(r"^Depends: (\S+) \(= (\S+)\)", shown, re.MULTILINE)
        if real is None:
            raise UnavailableError(f"apt does not say which package {name} stands for")
        return real[1], real[2]

    def unpack(self, name: str, directory: Path, *members: str) -> None:
        """Download a package, take files out of it (all, or those of the patterns), delete it."""
        self._run("apt-get", "download", name)
        (package,) = self.scratch.glob(f"{name.partition('=')[0]}_*.deb")
        _take_out(package, directory, "--wildcards", *members)

    def unpack_with_dependencies(self, directory: Path, *names: str) -> None:
        """Unpack packages with all that they need, as if the machine had none of it."""
        archives = self.scratch / "archives"
        (archives / "partial").mkdir(parents=True)
        status = self.scratch / "status"
        status.touch()
        options = [f"-oDir::State::status={status}", f"-oDir::Cache::archives={archives}/"]
        options += ["-oDebug::NoLocking=true", "-y", "--no-install-recommends", "--download-only"]
        self._run("apt-get", "install", *options, *names)
        for name in ("bin", "sbin", "lib", "lib64"):  # the links that all packages count on
            (directory / "usr" / name).mkdir(parents=True)
            (directory / name).symlink_to(f"usr/{name}")
        for package in archives.glob("*.deb"):
            _take_out(package, directory, "--keep-directory-symlink")

    def mirror(self) -> str:
        """Return the address of the archive that this machine's release comes from."""
        return self._release()[0]

    def _of_suite(self, suite: str) -> str:
        """Return the line of sources.list for a suite beside the release of this machine."""
        uri, codename, key = self._release()
        signed = f"[signed-by={key}] " if key and not key.startswith("$(") else ""
        name = f"{codename}{suite}" if suite.startswith("-") else suite
        return f"deb {signed}{uri} {name} main\n"

    def _release(self) -> tuple[str, str, str]:
        """Return address, code name and key of the release of this machine."""
        wanted = "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(COMPONENT)|$(SIGNED_BY)"
        for line in self._run("apt-get", "indextargets", "--format", wanted).splitlines():
            made_by, uri, release, codename, component, key = line.split("|")
            # Suites such as bookworm-updates have a hyphen, and are not what others are named by.
            plain = release == codename or release in ("stable", "oldstable")
            if (made_by, component) == ("Packages", "main") and plain and "-" not in codename:
                return uri, codename, key
        raise UnavailableError("apt has no sources of a Debian release")

    def _run(self, *command: str) -> str:
        try:
            done = subprocess.run(
                [*command, *self._options],
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


def _take_out(package: Path, directory: Path, *options: str) -> None:
    """Unpack a package with these options and patterns of tar, and delete it."""
    directory.mkdir(parents=True, exist_ok=True)
    unpack = ["tar", "-x", "-C", str(directory), *options]
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=-1) as pack:
        subprocess.run(unpack, check=True, stdin=pack.stdout)
    if pack.returncode:
        raise subprocess.CalledProcessError(pack.returncode, "dpkg-deb")
    package.unlink()


if __name__ == "__main__":
    package, place = sys.argv[1], Path(sys.argv[2]).resolve()
    try:
        Apt(place / "apt").unpack(package, place)
    except UnavailableError as reason:
        sys.exit(f"{package} cannot be had: {reason}")
