"""Backtraces through modules whose files are not here, against the same with the files, against
gdb with the file, and against /proc/kallsyms."""

from __future__ import annotations

import contextlib
import random
import re
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.gdb import Gdb
from rsp.frames.frame import FrameKind
from rsp.linux.modules import list_modules
from rsp.linux.tasks import list_tasks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.guest import BootKernel, Guest, KernelName
    from rsp.frames.backtrace import Backtrace
    from rsp.remote.target import Target

KERNELS = ["debian", "debian-6.12", "x86_64", "i386"]
SEED = 6
_MOST_STEPS = 3000
_MOST_STOPS = 30


@pytest.fixture
def guest(request: pytest.FixtureRequest, shared_kernel: BootKernel) -> Iterator[Guest]:
    """Share a guest with KASLR, which has no modules before and after."""
    found = shared_kernel(getattr(request, "param", "debian"), kaslr=True)
    yield found
    found.unload("dummy", "xfs", "libcrc32c")


def connect(guest: Guest, modules: Path | None = None) -> Target:
    return rsp.connect(guest.address, symbols=guest.symbols, modules=modules)


@contextlib.contextmanager
def without_file(target: Target, guest: Guest, name: str) -> Iterator[None]:
    """Take the file of a module away for a while."""
    table = target.symbols
    [module] = [each for each in list_modules(target.inferior) if each.name == name]
    sections, build_id = module.sections, module.build_id
    table.remove_module(name)
    yield
    assert table.add_module(guest.modules[name], sections, build_id=build_id) == name


def read(found: Backtrace) -> Backtrace:
    """Return a backtrace with its names and arguments, which are read when they are asked for."""
    str(found)
    return found


def steps(found: Backtrace) -> list[tuple[int, str | None]]:
    """Return the frames that are on the stack."""
    not_there = (FrameKind.INLINED, FrameKind.TAIL_CALL)
    return [(each.pc, each.function) for each in found if each.kind not in not_there]


def assert_same(mine: Backtrace, with_file: Backtrace, module: str) -> None:
    """Compare what a backtrace says without a file: the same, or that it does not know."""
    shown = f"{mine}\n{with_file}"
    assert mine.complete, shown
    assert all(each.line for each in with_file), shown
    assert steps(mine) == steps(with_file), shown
    expected = {each.pc: each for each in with_file if not each.inlined}
    for frame in mine:
        of_module = frame.source_line is None
        assert frame.module == (f"[{module}]" if of_module else None), shown
        assert str(frame).endswith(f" from [{module}]") == of_module, shown
        if frame.kind is FrameKind.FUNCTION:
            known = {each.name: each.text for each in expected[frame.pc].arguments}
            for each in frame.arguments:
                text = known.get(each.name) or known[each.name.removesuffix("@entry")]
                # Of what the module has, no symbol or string is shown behind the address.
                assert each.text in ("<optimized out>", text, text.split()[0]), shown


@pytest.mark.parametrize("guest", KERNELS, indirect=True)
def test_in_the_middle_of_a_stack(guest: Guest) -> None:
    modules = guest.modules["dummy"].parent
    with connect(guest, modules) as target:
        target.breakpoint("register_netdevice", temporary=True)
        guest.start("insmod /dummy.ko")
        target.resume(timeout=240)
        expected = read(target.backtrace())
        with without_file(target, guest, "dummy"):
            found = read(target.backtrace())
        assert_same(found, expected, "dummy")
        assert [frame.function for frame in found][:3] == [
            *("register_netdevice", "dummy_init_module", "do_one_initcall")
        ]


@pytest.mark.parametrize("kernel", ["debian", "i386"])
def test_at_every_instruction(kernel: KernelName, boot_kernel: BootKernel) -> None:
    """A function of the module, from its first instruction to its return.

    On one CPU: another one, which stands still meanwhile, may have what is waited for.
    """
    guest = boot_kernel(kernel, kaslr=True, cpus=1)
    modules = guest.modules["dummy"].parent
    guest.run("insmod /dummy.ko; ifconfig dummy0 10.0.0.1 up")
    with connect(guest, modules) as target:
        target.breakpoint("dummy_xmit", temporary=True)
        guest.start("ping -c 1 -W 1 10.0.0.2")
        target.resume(timeout=240)
        symbol = target.symbols["dummy_xmit"]
        back = steps(target.backtrace())[1][0]
        code, compared = range(symbol.address, symbol.address + symbol.size), 0
        for _ in range(_MOST_STEPS):
            if target.registers.pc == back:
                break
            if target.registers.pc in code:
                expected = target.backtrace()
                assert expected[0].line
                with without_file(target, guest, "dummy"):
                    found = target.backtrace()
                assert steps(found) == steps(expected), f"{found}\n{expected}"
                compared += 1
            target.step()
        assert target.registers.pc == back
        assert compared >= 15


def test_a_task_that_sleeps_in_a_module(guest: Guest) -> None:
    """xfs starts threads when it comes, and waits until each of them is there."""
    modules = guest.modules["xfs"].parents[2]
    guest.run("insmod /libcrc32c.ko")
    with connect(guest, modules) as target:
        target.breakpoint("kthread")
        guest.start("insmod /xfs.ko")
        for _ in range(_MOST_STOPS):
            target.resume(timeout=240)
            [task] = [each for each in list_tasks(target.inferior) if each.comm == "insmod"]
            expected = read(task.backtrace())
            functions = {frame.function for frame in expected}
            if not task.is_running and {"init_xfs_fs", "schedule"} <= functions:
                break
        with without_file(target, guest, "xfs"):
            assert_same(read(task.backtrace()), expected, "xfs")


@pytest.mark.live("gdb")
def test_against_gdb(shared_kernel: BootKernel) -> None:
    guest = shared_kernel("debian")
    try:
        with rsp.connect(guest.address, symbols=guest.symbols, on_exit="leave stopped") as target:
            target.breakpoint("register_netdevice", temporary=True)
            guest.start("insmod /dummy.ko")
            stop = target.resume(timeout=240)
            assert stop is not None
            assert stop.thread is not None
            found = str(target.backtrace())
            [module] = rsp.linux.Kernel(target).modules()
            sections = module.sections
        add = f"add-symbol-file {guest.modules['dummy']}"
        add += "".join(f" -s {name} {at:#x}" for name, at in sections.items())
        number = int(stop.thread.id.partition(".")[2], 16)
        gdb = Gdb(address=guest.address, symbols=guest.symbols)
        shown = gdb.run(add, f"thread {number}", "bt", "detach")[2]
        assert "dummy_init_module" in shown
        mine, theirs = (
            re.findall(r"^#\d+ +(0x\w+) in", text, re.MULTILINE) for text in (found, shown)
        )
        assert mine == [pc for pc in theirs if int(pc, 16)]  # which gdb ends with
    finally:
        guest.monitor("cont")
        guest.run("rmmod dummy")


@pytest.mark.parametrize("guest", KERNELS, indirect=True)
def test_names_and_rules(guest: Guest) -> None:
    """Every function by its name in /proc/kallsyms; and the ORC in memory is that of the file."""
    names = ["dummy"]
    if "xfs" in guest.modules:
        names.append("xfs")
        guest.run("insmod /libcrc32c.ko; insmod /xfs.ko")
    guest.run("insmod /dummy.ko")
    rng = random.Random(SEED)
    for name in names:
        lines = guest.run(f"grep -F '[{name}]' /proc/kallsyms").splitlines()
        functions: dict[int, list[str]] = {}
        for place, kind, function, _ in (line.split() for line in lines):
            if kind in "tT":
                functions.setdefault(int(place, 16), []).append(function)
        modules = guest.modules[name].parent
        with connect(guest, modules) as target:
            table = target.symbols
            assert target.inferior.find_code is not None
            for address in rng.sample(sorted(functions), min(20, len(functions))):
                code = target.inferior.find_code(address)
                assert code is not None
                assert code.name == f"[{name}]"
                assert code.symbol_at(address + 1) == (functions[address][0], address)
                found = table.binary_at(address)
                assert found is not None
                for at in range(address, address + 32):
                    assert code.rules_at(at) == found[0].orc.rules_at(at)
            assert target.inferior.find_code(table["_text"].address) is None
            assert target.inferior.find_code(0x1000) is None
