"""What type checkers see of the package: all of it, and nothing that is not there.

They are run as a user runs them: in another directory, against the package as it is installed.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rsp
from lab.pages import blocks_of

SCRIPT = Path(__file__).parent / "lab" / "user_script.py"
ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
MISSPELT = "import rsp\nprint(rsp.BreakpointKnd, rsp.linux.Kernl)\n"
STOP = "import rsp\ndef f(t: rsp.Target, w: bool) -> rsp.Stop:\n    return t.resume(wait=w)\n"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory that is not the checkout; mypy keeps there what it has seen."""
    return tmp_path_factory.mktemp("elsewhere")


def run(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    activated = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1",  # of newer versions of it
    }
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=directory,
        env=activated,
        capture_output=True,
        text=True,
        check=False,
    )


def mypy(directory: Path, **files: str) -> str:
    return run(directory, "mypy", "--strict", *write(directory, files)).stdout


def pyright(directory: Path, **files: str) -> list[str]:
    """Return what pyright has to say in its strict mode, warnings too."""
    checked = {name: f"# pyright: strict\n{text}" for name, text in files.items()}
    done = run(directory, "pyright", "--outputjson", *write(directory, checked))
    return [each["message"] for each in json.loads(done.stdout)["generalDiagnostics"]]


def write(directory: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text, encoding="utf-8")
    return [f"{name}.py" for name in files]


def pages() -> dict[str, str]:
    """Return the sessions in the README and in the pages of docs/ as programs."""
    found = {}
    for page in PAGES:
        sessions = [block.text for block in blocks_of(page) if block.text.startswith(">>> ")]
        examples = doctest.DocTestParser().get_examples("\n".join(sessions))
        found[f"page_{page.stem}"] = "".join(example.source for example in examples)
    assert sum(text.count("\n") for text in found.values()) > 50
    return found


def test_the_script_uses_every_public_name() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    names = [f"rsp.{name}" for name in rsp.__all__ if name != "linux"] + rsp.linux.__all__
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)] == []


def test_mypy_finds_no_fault_in_a_users_script(elsewhere: Path) -> None:
    said = mypy(elsewhere, script=SCRIPT.read_text(encoding="utf-8"), **pages())
    assert said == f"Success: no issues found in {len(PAGES) + 1} source files\n"


@pytest.mark.live("node")
def test_pyright_finds_no_fault_in_a_users_script(elsewhere: Path) -> None:
    assert pyright(elsewhere, script=SCRIPT.read_text(encoding="utf-8")) == []


def test_mypy_sees_what_is_wrong(elsewhere: Path) -> None:
    said = mypy(elsewhere, misspelt=MISSPELT, stop=STOP)
    assert 'Module has no attribute "BreakpointKnd"' in said
    assert 'Module has no attribute "Kernl"' in said
    assert 'Incompatible return value type (got "Stop | None", expected "Stop")' in said


@pytest.mark.live("node")
def test_pyright_sees_what_is_wrong(elsewhere: Path) -> None:
    said = "\n".join(pyright(elsewhere, misspelt=MISSPELT, stop=STOP))
    assert '"BreakpointKnd" is not a known attribute of module "rsp"' in said
    assert '"Kernl" is not a known attribute of module "rsp.linux"' in said
    assert 'Type "Stop | None" is not assignable to return type "Stop"' in said


@pytest.mark.live("node")
def test_pyright_finds_no_fault_in_the_library(elsewhere: Path) -> None:
    done = run(elsewhere, "pyright", str(Path(rsp.__file__).parent))
    assert done.stdout.startswith("0 errors, 0 warnings"), done.stdout


@pytest.mark.live("node")
def test_every_public_type_is_known(elsewhere: Path) -> None:
    done = run(elsewhere, "pyright", "--outputjson", "--ignoreexternal", "--verifytypes", "rsp")
    found = json.loads(done.stdout)["typeCompleteness"]
    said = [
        f"{symbol['name']}: {each['message']}"
        for symbol in found["symbols"]
        for each in symbol["diagnostics"]
        if symbol["isExported"] and not symbol["isTypeKnown"]
    ]
    # One attribute without an annotation makes its class unknown, and all that has to do with it.
    roots = [each for each in said if "missing" in each]
    assert (roots or said) == []
    assert found["completenessScore"] == 1, found
