"""What is uploaded is complete: the source runs its own tests, the wheel runs the demo."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import rsp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

ROOT = Path(__file__).parent.parent
FOLDERS = (".ci", "benchmarks", "docs", "rsp", "tests")
FILES = (
    *(".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile"),
    *("README.md", "pyproject.toml"),
)
BUILT = f"gdb_rsp-{rsp.__version__}"
# What setuptools adds.
ADDED = re.compile(r"PKG-INFO|setup\.cfg|gdb_rsp\.egg-info/.*")


def files_below(directory: Path) -> Iterator[str]:
    for path in directory.rglob("*"):
        name = str(path.relative_to(directory))
        if path.is_file() and "__pycache__" not in path.parts and not ADDED.fullmatch(name):
            yield name


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution unpacked in "source", the wheel that was made of it in "wheel"."""
    directory = tmp_path_factory.mktemp("packaging")
    checkout = directory / "checkout"
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, checkout / folder, ignore=ignored)
    for file in FILES:
        shutil.copy2(ROOT / file, checkout)
    # Not isolated: that would download setuptools, which the extra "dev" has installed.
    python(checkout, "-m", "build", "--no-isolation", "--outdir", str(directory / "dist"))
    with tarfile.open(directory / "dist" / f"{BUILT}.tar.gz") as archive:
        # Debian 12's Python 3.11.2 knows no filter, and later ones warn without one.
        safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(directory, **safely)
    (directory / BUILT).rename(directory / "source")
    with zipfile.ZipFile(directory / "dist" / f"{BUILT}-py3-none-any.whl") as wheel:
        wheel.extractall(directory / "wheel")
    return directory


def python(directory: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def metadata(built: Path) -> Message:
    file = built / "wheel" / f"{BUILT}.dist-info" / "METADATA"
    return BytesParser().parsebytes(file.read_bytes())


def test_the_source_distribution_is_the_checkout(built: Path) -> None:
    assert set(files_below(built / "source")) == set(files_below(built / "checkout"))


def test_the_source_distribution_runs_its_own_tests(built: Path) -> None:
    """A few of them: its files are the checkout's, and so are the others."""
    some = ("tests/test_docs.py", "tests/arch/test_flags.py")
    said = python(built / "source", "-bb", "-W", "error", "-m", "pytest", "-q", *some)
    assert " passed" in said


def test_the_wheel_is_the_package(built: Path) -> None:
    ours = {name for name in files_below(built / "wheel") if ".dist-info/" not in name}
    assert ours == {f"rsp/{name}" for name in files_below(ROOT / "rsp")}
    assert {"rsp/py.typed", "rsp/cli/commands/demo.rsplog", "rsp/testing/boot/boot.img"} < ours


def test_the_wheel_runs_the_demo(built: Path) -> None:
    """From its recording: no program is found without PATH."""
    wheel = built / "wheel"
    said = python(wheel, "-m", "rsp", "demo", PATH="", PYTHONPATH=str(wheel))
    assert "LONG64" in said
    assert python(wheel, "-m", "rsp", "--version") == f"rsp {rsp.__version__}\n"


def test_what_the_wheel_says_of_itself(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("gdb-rsp", rsp.__version__)
    assert (metadata["License-Expression"], metadata["License-File"]) == ("MIT", "LICENSE")
    assert not [each for each in metadata.get_all("Classifier", []) if "License" in each]
    assert set(metadata.get_all("Provides-Extra", [])) == {"disasm", "testing", "dev", "bench"}


def test_the_version_is_written_once() -> None:
    assert f'__version__ = "{rsp.__version__}"' in (ROOT / "rsp" / "__init__.py").read_text()
    assert rsp.__version__ not in (ROOT / "pyproject.toml").read_text()
