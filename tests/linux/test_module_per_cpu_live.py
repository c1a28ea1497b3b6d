"""Per-CPU variables of a module, whose section the kernel lists nowhere, against /proc/kallsyms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import rsp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.guest import BootKernel, Guest

NAME = "zs_map_area"


@pytest.fixture(params=["debian", "debian-6.12"])
def guest(request: pytest.FixtureRequest, shared_kernel: BootKernel) -> Iterator[Guest]:
    """A guest with KASLR that has the module."""
    found = shared_kernel(request.param, kaslr=True)
    found.run("insmod /zsmalloc.ko")
    yield found
    found.monitor("cont")
    found.run("rmmod zsmalloc")


def test_each_cpu_has_its_own(guest: Guest) -> None:
    """The hotplug callback of the module has made a buffer for each CPU, which tells them apart."""
    linked, offsets = (
        int(guest.run(f"grep -w {name} /proc/kallsyms").split()[0], 16)
        for name in (NAME, "__per_cpu_offset")
    )
    directory = guest.modules["zsmalloc"].parents[2]
    with rsp.connect(guest.address, symbols=guest.symbols, modules=directory) as target:
        assert linked == target.symbols[NAME].address
        kernel = rsp.linux.Kernel(target, modules=directory)
        [module] = [each for each in kernel.modules() if each.name == "zsmalloc"]
        assert ".data..percpu" in module.sections
        buffers = set()
        for cpu in range(2):
            value = kernel.per_cpu(NAME, cpu)
            base = target.read_u64(offsets + 8 * cpu)
            assert value.address_ == (linked + base) % (1 << 64)
            buffers.add(int(value["vm_buf"]))
            assert str(target.value(f"{NAME}[{cpu}].vm_buf")) == str(value["vm_buf"])
        assert len(buffers) == 2
        assert 0 not in buffers
