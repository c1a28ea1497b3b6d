"""What the tests of commands that read much memory share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.held import HeldLine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.servers import BootQemu
    from rsp.testing.qemu import QemuMachine


@pytest.fixture
def machine(boot_qemu: BootQemu) -> QemuMachine:
    """Return a machine whose memory takes a while to read."""
    return boot_qemu(memory="128M")


@pytest.fixture
def line(machine: QemuMachine) -> Iterator[HeldLine]:
    """Return the way to it, which can be held up."""
    with HeldLine(machine.address) as line:
        yield line
