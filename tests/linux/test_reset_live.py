"""A machine that is reset while we are connected: its kernel chooses another place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.guest import BOOT_TIMEOUT, UP

if TYPE_CHECKING:
    from lab.guest import BootKernel, Guest

REBOOTS = ("-action", "reboot=reset")


@pytest.fixture(params=["debian", "i386"])
def guest(request: pytest.FixtureRequest, boot_kernel: BootKernel) -> Guest:
    """A guest with KASLR that boots again when it is reset."""
    guest = boot_kernel(request.param, kaslr=True, args=REBOOTS)
    guest.wait_for(UP, BOOT_TIMEOUT)
    return guest


def wait_for_another(guest: Guest, boots: int) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT
    while guest.console.count(UP) < boots:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def text_of(guest: Guest) -> int:
    """Return where the guest says that its code begins."""
    return int(guest.run("grep -E ' _text$' /proc/kallsyms").split()[0], 16)


def test_the_kernel_is_found_again(guest: Guest) -> None:
    """Symbols, breakpoints and modules follow; those of the last boot are forgotten."""
    guest.run("insmod /dummy.ko")
    directory = guest.modules["dummy"].parents[3]
    with rsp.connect(guest.address, symbols=guest.symbols, modules=directory) as target:
        kernel = rsp.linux.Kernel(target, modules=directory)
        places = {kernel.slide}
        assert "dummy_xmit" in target.symbols
        point = target.breakpoint("do_init_module")
        for boots in (2, 3):
            target.resume(wait=False)
            guest.monitor("system_reset")
            wait_for_another(guest, boots)
            target.interrupt()
            assert "dummy_xmit" not in target.symbols
            assert not kernel.modules()
            places.add(kernel.slide)
            # It may be in user space, of which there are no symbols.
            begin = target.symbols["_text"].address
            assert all(frame.function for frame in target.backtrace() if frame.pc >= begin)
            [address] = point.locations
            assert address == target.symbols.locations("do_init_module")[0].address
            target.resume(wait=False)
            assert text_of(guest) == target.symbols["_text"].address
            guest.start("insmod /dummy.ko")
            stop = target.wait(240)
            assert (stop.breakpoint, stop.function) == (point, "do_init_module")
            assert all(frame.function for frame in target.backtrace())
        # Three boots that choose one of some hundred places are not all at the same.
        assert len(places) > 1


def test_a_breakpoint_is_hit_in_the_next_boot(boot_kernel: BootKernel) -> None:
    """The reset is noticed in the firmware, and the kernel's start is waited for."""
    guest = boot_kernel("debian", kaslr=True, args=REBOOTS)
    guest.wait_for(UP, BOOT_TIMEOUT)
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        point = target.breakpoint("rest_init")
        guest.monitor("system_reset")
        target.resume(wait=False)
        target.interrupt()
        assert target.mode is not rsp.CpuMode.LONG64
        linked = rsp.SymbolTable(guest.symbols)["rest_init"].address
        assert target.symbols["rest_init"].address == linked, "there is no kernel yet"
        stop = target.resume(timeout=BOOT_TIMEOUT)
        assert stop is not None
        assert (stop.breakpoint, stop.function) == (point, "rest_init")
        assert target.symbols["rest_init"].address in point.locations
        assert target.backtrace()[-1].function == "secondary_startup_64"
