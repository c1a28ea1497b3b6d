"""Several targets that are given one table of symbols: each has its own slide and modules."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import rsp
from lab import servers

if TYPE_CHECKING:
    from pathlib import Path

    from lab.guest import BootKernel, Guest

PROGRAM = """
int counter;
__attribute__((noinline)) int middle(int step) { return counter += step; }
int main(int argc, char **argv) { return middle(argc) - middle(-argc); }
"""
SMALL: dict[str, Any] = {"cpus": 1, "memory": 192, "kaslr": True}


@pytest.mark.live("gcc", "gdbserver")
def test_two_processes(tmp_path: Path) -> None:
    program = tmp_path / "program"
    source = program.with_suffix(".c")
    source.write_text(PROGRAM)
    subprocess.run(["gcc", "-g", "-O1", "-fPIE", "-pie", "-o", program, source], check=True)
    table = rsp.SymbolTable(program)
    linked = table["middle"].address
    moved = ("--no-disable-randomization",)
    with (
        servers.gdbserver_tcp(program, options=moved) as one,
        servers.gdbserver_tcp(program, options=moved) as other,
        rsp.connect(one, symbols=table) as first,
        rsp.connect(other, symbols=table) as second,
    ):
        places = [target.symbols["middle"].address for target in (first, second)]
        assert places[0] != places[1]
        assert first.symbols["middle"].address == places[0]
        points = [target.breakpoint("middle") for target in (second, first)]
        assert points[0].locations != points[1].locations
        for target in (first, second, second, first):
            stop = target.resume(timeout=60)
            assert (stop.function, stop.reason) == ("middle", rsp.StopReason.BREAKPOINT)
            assert target.backtrace()[1].function == "main"
        assert [int(target.value("counter")) for target in (first, second)] == [1, 1]
    assert table["middle"].address == linked


def of_kallsyms(guest: Guest, name: str) -> int:
    return int(guest.run(f"grep -E ' {name}$' /proc/kallsyms").split()[0], 16)


def test_two_kernels(shared_kernel: BootKernel, boot_kernel: BootKernel) -> None:
    guests = [shared_kernel("debian", kaslr=True), boot_kernel("debian", **SMALL)]
    guests[1].run("insmod /dummy.ko")
    real = [of_kallsyms(guest, "vfs_read") for guest in guests]
    table = rsp.SymbolTable(guests[0].symbols)
    directory = guests[1].modules["dummy"].parent
    with (
        rsp.connect(guests[0].address, symbols=table, modules=directory) as first,
        rsp.connect(guests[1].address, symbols=table, modules=directory) as second,
    ):
        for _ in range(2):
            assert [each.symbols["vfs_read"].address for each in (first, second)] == real
            assert "dummy_setup" not in first.symbols
            assert "dummy_setup" in second.symbols
        with second.breakpoint("vfs_read"), first.breakpoint("vfs_read"):
            for target, address in zip((first, second), real, strict=True):
                stop = target.resume(timeout=240)
                assert stop.function == "vfs_read"
                assert target.registers.pc == address
    assert table.slide == 0


def test_a_target_has_one_kernel(shared_kernel: BootKernel) -> None:
    guest = shared_kernel("debian")
    guest.run("insmod /dummy.ko")
    try:
        directory = guest.modules["dummy"].parent
        with rsp.connect(guest.address, symbols=guest.symbols, modules=directory) as target:
            assert target.kernel is rsp.linux.Kernel(target)
            # The directory that was given to connect is not lost.
            assert [each.file is None for each in target.kernel.modules()] == [False]
            assert "dummy_setup" in target.symbols
        with rsp.connect(guest.address, symbols=guest.symbols) as target:
            assert [each.file for each in target.kernel.modules()] == [None]
            assert "dummy_setup" not in target.symbols
            assert rsp.linux.Kernel(target, modules=directory) is target.kernel
            assert "dummy_setup" in target.symbols
            assert target.kernel.modules()[0].file is not None
    finally:
        guest.run("rmmod dummy")
