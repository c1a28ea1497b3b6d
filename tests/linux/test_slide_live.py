"""The slide of kernels with KASLR, wherever the CPU is, against the guest's own /proc/kallsyms."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

import rsp
from lab import kernels

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.guest import BootKernel, Guest, KernelName
    from rsp.remote.target import Target

# For a user mode that nothing interrupts but the timer.
BUSY = "while :; do :; done"
SMALL: dict[str, Any] = {"cpus": 1, "memory": 192, "kaslr": True}


def slide_of(guest: Guest) -> int:
    """Return what the guest says itself, and its System.map; it must run."""
    running = guest.run("grep -E ' _text$' /proc/kallsyms").split()[0]
    return int(running, 16) - linked_text(guest)


def linked_text(guest: Guest) -> int:
    """Return where System.map says that the kernel's text begins."""
    system_map = guest.symbols.parent / guest.symbols.name.replace("vmlinux", "System.map")
    linked = re.search(r"^(\w+) \w _text$", system_map.read_text(), re.MULTILINE)
    assert linked
    return int(linked[1], 16)


def symbols_of(kernel: KernelName) -> Path:
    if kernel.startswith("debian"):
        return kernels.debian_kernel(kernel.partition("-")[2] or "6.1").vmlinux
    return kernels.built_kernel(kernel).vmlinux


def slide_now(target: Target) -> int | None:
    """Return the slide as of this stop; None where nothing of the kernel is seen."""
    try:
        return rsp.linux.Kernel(target).slide
    except rsp.SymbolError as error:
        if "is seen yet" not in str(error):
            raise
        return None


def connect(guest: Guest) -> Target:
    return rsp.connect(guest.address, symbols=guest.symbols, on_exit="leave stopped")


@contextlib.contextmanager
def stopped(guest: Guest, state: str) -> Iterator[None]:
    """Stop the machine where QEMU says something of its CPU."""
    deadline = time.monotonic() + 120
    while True:
        guest.monitor("stop")
        if re.search(state, guest.monitor("info registers")):
            break
        assert time.monotonic() < deadline, f"the CPU is never at {state}"
        guest.monitor("cont")
        time.sleep(0.02)
    try:
        yield
    finally:
        guest.monitor("cont")


USER, KERNEL, HALTED = "CPL=3", "CPL=0.*HLT=0", "HLT=1"


@pytest.mark.parametrize(
    ("kernel", "append", "where"),
    [
        ("debian", "", HALTED),
        ("debian", "", USER),
        ("debian", "pti=on", USER),
        ("debian", "pti=on", KERNEL),
        ("debian-6.12", "pti=on", USER),
        ("debian-6.12", "", HALTED),
        ("x86_64", "", KERNEL),
        ("x86_64", "", USER),
        ("i386", "", KERNEL),
        ("i386", "", USER),
    ],
)
def test_slide(boot_kernel: BootKernel, kernel: KernelName, append: str, where: str) -> None:
    guest = boot_kernel(kernel, append=append, **SMALL)
    expected = slide_of(guest)
    if where != HALTED:
        guest.start(BUSY)
    with stopped(guest, where), connect(guest) as target:
        found = rsp.linux.Kernel(target)
        assert found.slide == expected
        banner = found.banner
    assert guest.run("cat /proc/version") == f"{banner}\n"


@pytest.mark.parametrize("kernel", ["debian", "x86_64", "i386"])
def test_no_kaslr(shared_kernel: BootKernel, kernel: KernelName) -> None:
    guest = shared_kernel(kernel)
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        assert rsp.linux.Kernel(target).slide == 0


@pytest.mark.parametrize("kernel", ["debian", "x86_64", "i386"])
@pytest.mark.parametrize("away", [-0x200000, 0x200000, 0x1000, 0x10])
def test_a_wrong_slide_is_noticed(shared_kernel: BootKernel, kernel: KernelName, away: int) -> None:
    guest = shared_kernel(kernel)  # without KASLR: it lies where it was linked
    with rsp.connect(guest.address, symbols=guest.symbols, slide=away) as target:
        for ask in (
            lambda: target.breakpoint("schedule"),
            lambda: target.read_memory("init_task", 4),
            lambda: rsp.linux.Kernel(target, slide=away).slide,
        ):
            with pytest.raises(
                rsp.SymbolError,
                match=rf"lies at the slide 0x0, and not at {away:#x}: .*`rsp slide`",
            ):
                ask()
        assert not target.breakpoints
        # What needs no symbols goes on.
        assert target.registers.pc


def test_a_slide_that_was_given_is_proved_once_the_kernel_is_there(boot_kernel: BootKernel) -> None:
    guest = boot_kernel("debian", stopped=True, **SMALL | {"kaslr": False})
    log = []
    with rsp.connect(guest.address, symbols=guest.symbols, slide=0x200000) as target:
        # At the reset vector nothing tells that it is wrong.
        assert target.symbols["_text"].address == linked_text(guest) + 0x200000
        target.resume(wait=False)
        guest.wait_for("lab: the guest is up")
        target.interrupt()
        with pytest.raises(rsp.SymbolError, match="lies at the slide 0x0, and not at 0x200000"):
            log.append(target.symbols)
    assert not log
    with rsp.connect(guest.address, symbols=guest.symbols, slide=0) as target:
        assert target.value("init_task")["comm"].string_() == b"swapper/0"


@pytest.mark.parametrize("kernel", ["debian", "i386"])
def test_slide_while_it_boots(boot_kernel: BootKernel, kernel: KernelName) -> None:
    """Nothing at the reset vector; then nothing or the truth, wherever it is stopped."""
    guest = boot_kernel(kernel, stopped=True, **SMALL)
    seen: list[int] = []
    with connect(guest) as target:
        found = rsp.linux.Kernel(target)
        with pytest.raises(rsp.SymbolError, match=r"nothing of the kernel .* is seen yet"):
            found.slide  # noqa: B018 - it raises
        # Without it, symbols are where they were linked, and no error.
        assert target.symbols["_text"].address == linked_text(guest)
        for _ in range(12):
            target.resume(wait=False)
            time.sleep(0.1)
            target.interrupt()
            where = slide_now(target)
            assert where is not None or not seen, "it was there, and is gone"
            seen += [] if where is None else [where]
        target.resume(wait=False)
        guest.wait_for("lab: the guest is up")
        target.interrupt()
        seen.append(found.slide)
        assert target.symbols["_text"].address == linked_text(guest) + found.slide
    guest.monitor("cont")
    assert set(seen) == {slide_of(guest)}


@pytest.mark.parametrize("kernel", ["debian", "i386"])
def test_breakpoints_that_were_set_before_there_was_a_slide(
    boot_kernel: BootKernel, kernel: KernelName
) -> None:
    """They are hit wherever KASLR puts the kernel, and nothing else stops it."""
    guest = boot_kernel(kernel, stopped=True, **SMALL)
    first = "i386_start_kernel" if kernel == "i386" else "x86_64_start_kernel"
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        asked: list[int] = []

        def condition(target: Target) -> bool:
            asked.append(target.registers.pc)
            return True

        at_first = target.breakpoint(first, condition=condition)
        point = target.breakpoint("kernel_init")
        linked = point.locations
        for name, its in ((first, at_first), ("kernel_init", point)):
            stop = target.resume(timeout=240)
            assert stop is not None
            assert (stop.breakpoint, stop.reason) == (its, rsp.StopReason.BREAKPOINT)
            assert target.backtrace()[0].function == name
            assert its.hits == 1
        assert asked == list(at_first.locations)
        assert len(target.breakpoints) == 2
        slide = rsp.linux.Kernel(target).slide
        assert [place - slide for place in point.locations] == list(linked)
    guest.wait_for("lab: the guest is up", 60)
    assert slide_of(guest) == slide


def test_slide_in_a_module_that_nothing_knows(shared_kernel: BootKernel) -> None:
    guest = shared_kernel("debian", kaslr=True)
    expected = slide_of(guest)
    with connect(guest) as target:
        rsp.linux.Kernel(target).break_on_module("dummy")
        guest.start("insmod /dummy.ko")
        stop = target.resume(timeout=240)
        pc = target.registers.pc
    assert stop is not None
    assert stop.breakpoint is not None
    with connect(guest) as target:
        # Either CPU may have run it.
        target.select(next(each for each in target.threads if each.registers.pc == pc))
        assert target.image_symbols.lookup(pc - expected) is None
        assert rsp.linux.Kernel(target).slide == expected
    guest.unload("dummy")


def test_with_nothing_said(shared_kernel: BootKernel) -> None:
    """Symbols, breakpoints, values and backtraces are right from the first line on."""
    guest = shared_kernel("debian", kaslr=True)
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        with target.breakpoint("vfs_read"):
            target.resume(timeout=240)
        backtrace = target.backtrace()
        assert [frame.function for frame in backtrace][:2] == ["vfs_read", "ksys_read"]
        assert backtrace[-1].function in ("entry_SYSCALL_64", "entry_SYSCALL_64_after_hwframe")
        assert target.value("init_task.comm").string_() == b"swapper/0"
        assert target.symbols["vfs_read"].address == target.registers.pc


@pytest.mark.parametrize(
    ("kernel", "other"),
    [("debian", "x86_64"), ("debian", "debian-6.12"), ("i386", "debian"), ("debian", "i386")],
)
def test_wrong_vmlinux(shared_kernel: BootKernel, kernel: KernelName, other: KernelName) -> None:
    guest = shared_kernel(kernel, kaslr=True)
    wrong, right = symbols_of(other), rsp.SymbolTable(guest.symbols)
    assert right.build_id
    with (
        rsp.connect(guest.address, symbols=wrong) as target,
        pytest.raises(rsp.SymbolError) as caught,
    ):
        rsp.linux.Kernel(target).slide  # noqa: B018 - it raises
    message = str(caught.value)
    ours = rsp.SymbolTable(wrong).build_id
    assert ours
    for told in (str(wrong), ours.hex(), right.build_id.hex(), "Linux version 6."):
        assert told in message
