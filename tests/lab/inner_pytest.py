"""pytest on a test file of its own, under a copy of the rules of tests/conftest.py."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = Path(__file__).parents[1]


def run_pytest(directory: Path, source: str, **environment: str) -> tuple[int, str]:
    """Run a test file in a directory of its own; return pytest's exit status and output."""
    directory.mkdir(exist_ok=True)
    (directory / "conftest.py").symlink_to(TESTS / "conftest.py")
    (directory / "test_sample.py").write_text(textwrap.dedent(source))
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = live: needs a program\n")
    # Under CI pytest writes more, and shortens nothing.
    ours = ("RSP_LAB", "CI", "BUILD_NUMBER")
    inherited = {name: value for name, value in os.environ.items() if name not in ours}
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", directory],
        env={**inherited, "PYTHONPATH": str(TESTS), **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
    )
    return finished.returncode, finished.stdout + finished.stderr
