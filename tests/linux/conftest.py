"""What the tests of the room of Linux share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.structures import Structures

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def structures() -> Iterator[Structures]:
    """Start programs with structures of kernels: ``structures("old_log.c", "-DPRB")``."""
    with Structures() as started:
        yield started
