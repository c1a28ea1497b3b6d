"""Per-CPU variables as frames see them: those of the CPU that runs the thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import rsp

if TYPE_CHECKING:
    from lab.guest import BootKernel, KernelName


@pytest.mark.parametrize("kernel", ["debian", "i386"])
def test_a_frame_has_the_variable_of_its_cpu(kernel: KernelName, shared_kernel: BootKernel) -> None:
    guest = shared_kernel(kernel)
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        for cpu, thread in enumerate(target.threads):
            for frame in thread.backtrace():
                place = int(frame.value("&runqueues"))
                assert place == int(target.value("&runqueues", cpu=cpu)), (cpu, frame)
                assert int(frame.value("runqueues.nr_running")) == int(
                    target.value("runqueues.nr_running", cpu=cpu)
                )
        innermost = target.backtrace()[0]
        asked = "runqueues.nr_running"
        assert str(innermost.value(asked)) == str(target.value(asked))
