"""What a test does that cannot run here.

Contents: the skip. Where nothing may be skipped (RSP_LAB=required), tests/conftest.py makes a
failure of it, as of any other.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lab.apt import UnavailableError
from lab.packages import missing

if TYPE_CHECKING:
    from collections.abc import Iterator


def skip_without(*needs: str) -> None:
    """Skip the test if programs of `packages.PACKAGES` are missing, and say what to install."""
    if packages := missing(*needs):
        names = " ".join(packages)
        pytest.skip(f"install {names} (Debian, as root: make lab, or apt-get install {names})")


@contextmanager
def kernels_needed() -> Iterator[None]:
    """Skip the test if a kernel that is asked for within this is not there."""
    try:
        yield
    except UnavailableError as error:
        pytest.skip(str(error))
