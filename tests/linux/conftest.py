"""What the tests of the room of Linux share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab.structures import Structures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.guest import BootKernel, Guest, KernelName


@pytest.fixture
def shared_kernel(shared_kernel: BootKernel) -> Iterator[BootKernel]:
    """Return a shared guest, which stands still between the tests of this room.

    Several run side by side otherwise, on the few processors of a machine.
    """
    asked: list[Guest] = []

    def shared(kernel: KernelName = "debian", **options: Any) -> Guest:
        asked.append(shared_kernel(kernel, **options))
        return asked[-1]

    yield shared
    for guest in asked:
        guest.monitor("stop")


@pytest.fixture(scope="session")
def structures() -> Iterator[Structures]:
    """Start programs with structures of kernels: ``structures("old_log.c", "-DPRB")``."""
    with Structures() as started:
        yield started
