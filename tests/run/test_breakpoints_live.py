"""Breakpoints on live kernels and programs: from the reset vector on, on two CPUs, all counted."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS
from lab.stepping import compile_steps, under_gdbserver
from lab.stops import resumed, step_flags
from rsp import BreakpointKind, StopReason
from rsp.arch.modes import CpuMode
from rsp.errors import NoHardwareBreakpoint
from rsp.testing.boot import ELF
from rsp.wire import commands, replies

if TYPE_CHECKING:
    from pathlib import Path

    from lab.guest import BootKernel, Guest
    from lab.servers import BootQemu
    from rsp.remote.target import Target
    from rsp.run.points import Breakpoint
    from rsp.run.stop import Stop

PATIENCE = 120.0


def hit(target: Target, point: Breakpoint | None = None) -> Stop:
    stop = resumed(target, PATIENCE)
    assert stop.reason is StopReason.BREAKPOINT
    if point is not None:
        assert stop.breakpoint is point
    return stop


# --- a kernel ---


def test_a_kernel_that_is_not_unpacked_yet(boot_kernel: BootKernel) -> None:
    guest = boot_kernel("debian", stopped=True)
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        assert target.mode is CpuMode.REAL16
        point = target.breakpoint("start_kernel")
        assert point.kind is BreakpointKind.HARDWARE
        place = f"{point.locations[0]:#x}"
        assert point.reason == f"{place}: hw breakpoint, because the code is not mapped yet"
        # More places than there are debug registers: QEMU's translator keeps them itself.
        with target.breakpoint("list_add") as copies:
            assert copies.kind is BreakpointKind.SOFTWARE
            assert len(copies.locations) > 500
            assert len(copies.locations) == len(target.symbols.locations("list_add"))
            assert "by software, although the code is not mapped yet" in copies.reason
        # As many as fit are by hardware again.
        later = target.breakpoint("rest_init", temporary=True)
        assert later.kind is BreakpointKind.HARDWARE
        stop = hit(target, point)
        assert (target.mode, stop.function) == (CpuMode.LONG64, "start_kernel")
        assert (point.hits, later.hits) == (1, 0)
        assert [each.number for each in target.breakpoints] == [point.number, later.number]
        # Now it is there, whatever the kernel has patched in it.
        copies = target.breakpoint("list_add")
        assert (copies.kind, copies.reason) == (BreakpointKind.SOFTWARE, "")
        stop = hit(target, copies)
        assert stop.function == "list_add"
        assert target.registers.pc in copies.locations
        assert next(iter(target.backtrace())).inlined
        copies.remove()
        assert hit(target).breakpoint is later
        assert [each.number for each in target.breakpoints] == [point.number]


# Each loop calls umask(2) equally often in each round, and the end of both calls sync(2).
ROUNDS = 40
LOOP = f"i=0; while [ $i -lt {ROUNDS} ]; do umask 22; i=$((i+1)); done"
# One on each CPU: the scheduler may leave both on one.
LOOPS = f"taskset 1 sh -c '{LOOP}' & taskset 2 sh -c '{LOOP}' & wait; sync"


def test_no_hit_is_lost_or_counted_twice_on_two_cpus(shared_kernel: BootKernel) -> None:
    guest = shared_kernel("debian")
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        point = target.breakpoint("__x64_sys_umask")
        end = target.breakpoint("ksys_sync")
        guest.start(LOOPS)
        cpus = set()
        while (stop := hit(target)).breakpoint is point:
            assert stop.function == "__x64_sys_umask"
            cpus.add(stop.thread)
            if point.hits % 3 == 0:
                target.step(timeout=PATIENCE)  # past it
            elif point.hits % 3 == 1:
                other = next(each for each in target.threads if each != stop.thread)
                # Both may have come there at once; QEMU tells of one, and then of the other.
                if other.registers.pc not in point.locations:
                    other.step(timeout=PATIENCE)
        assert stop.breakpoint is end
        calls, rest = divmod(point.hits, 2 * ROUNDS)
        assert (rest, calls in range(1, 5)) == (0, True)
        assert len(cpus) == 2
        assert f"\tbreakpoint already hit {point.hits} times\n" in str(target.breakpoints)

        # The same again: a condition sees every call, and is true at each tenth.
        point.remove()
        seen: list[int] = []

        def tenth(target: Target) -> bool:
            seen.append(target.registers.pc)
            return len(seen) % 10 == 0

        with target.breakpoint("__x64_sys_umask", condition=tenth) as some:
            assert f"stop only if {tenth.__qualname__}" in str(target.breakpoints)
            guest.start(LOOPS)
            while hit(target).breakpoint is some:
                pass
            assert len(seen) == point.hits
            assert some.hits == len(seen) // 10


def test_single_steps_enter_no_interrupt_handler(shared_kernel: BootKernel) -> None:
    """Stepping by line keeps them out, whatever QEMU's flags were, and restores the flags."""
    guest = shared_kernel("debian")
    with rsp.connect(
        guest.address, symbols=guest.symbols, on_exit=rsp.OnExit.LEAVE_STOPPED
    ) as target:
        flags_set(target, 1)  # single steps, with interrupts and timers
        assert interrupts(target, target.step, rounds=30) > 0, "no interrupt is due at any stop"
    assert flags(guest) == 1
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        assert interrupts(target, target.step_line, rounds=30) == 0
        assert step_flags(target) == 7
        # Also when a step has not come to its end, and the target runs.
        with contextlib.suppress(rsp.RspTimeout):
            target.finish(timeout=0.0)
        if not target.running:
            target.resume(wait=False)
    assert guest.running
    assert flags(guest) == 1
    with rsp.connect(guest.address) as target:
        flags_set(target, 7)


def interrupts(target: Target, command: object, rounds: int) -> int:
    """Return how many single commands behind a stop lead into an interrupt handler."""
    assert callable(command)
    met = 0
    for _ in range(rounds):
        with target.breakpoint("vfs_read"):
            hit(target)
        for _ in range(3):
            function = command(timeout=PATIENCE).function or ""
            met += function.startswith(("asm_sysvec", "asm_common", "sysvec", "irq_entries"))
    return met


def flags_set(target: Target, value: int) -> None:
    assert isinstance(target.session.ask(commands.SetStepFlags(flags=value)), replies.Ok)


def flags(guest: Guest) -> int:
    with rsp.connect(guest.address) as target:
        return step_flags(target)


# --- the boot sector ---


def test_through_every_mode(boot_qemu: BootQemu, tmp_path: Path) -> None:
    """Inserted in real mode, hit in 64-bit mode; and inserted anew at each switch between."""
    log = tmp_path / "session.rsplog"
    with rsp.connect(boot_qemu().address, symbols=ELF, record=log) as target:
        target.until("real_start", timeout=240)
        point = target.breakpoint("tick")
        assert (point.kind, target.mode) == (BreakpointKind.SOFTWARE, CpuMode.REAL16)
        modes = []
        for label in ("protected_start", "compat_start", "long_start"):
            target.until(label, timeout=240)
            modes.append(target.mode)
        assert modes == [CpuMode.PROTECTED32, CpuMode.COMPAT32, CpuMode.LONG64]
        for count in (1, 2, 3):
            assert hit(target, point).function == "tick"
            assert point.hits == count
    sent = log.read_text()
    place = f"0,{LABELS['tick']:x},1"
    assert sent.count(f"$Z{place}") == sent.count(f"$z{place}") > 2


# --- programs ---


@pytest.mark.live("gcc", "gdbserver")
def test_more_places_than_debug_registers(tmp_path: Path) -> None:
    program = compile_steps("O2", tmp_path)
    with under_gdbserver(program) as address, rsp.connect(address, symbols=program) as target:
        places = target.symbols.locations("twice")
        assert len(places) > 4
        with pytest.raises(NoHardwareBreakpoint) as caught:
            target.breakpoint("twice", kind=BreakpointKind.HARDWARE)
        assert caught.value.address in {place.address for place in places}
        assert "x86 has 4 debug registers" in str(caught.value)
        assert not target.breakpoints
        # None was left behind: there is room for four again.
        for place in places[:4]:
            target.breakpoint(place.address, kind=BreakpointKind.HARDWARE)
        with pytest.raises(NoHardwareBreakpoint, match=r"these use 4: 1 .*, 4 "):
            target.breakpoint("run", kind=BreakpointKind.HARDWARE)
        assert target.breakpoint("twice").kind is BreakpointKind.SOFTWARE


@pytest.mark.live("gcc", "gdbserver")
def test_an_int3_of_another_debugger(tmp_path: Path) -> None:
    program = compile_steps("O0", tmp_path)
    with under_gdbserver(program) as address, rsp.connect(address, symbols=program) as target:
        place = target.symbols["narrow"].address
        code = target.read_memory(place, 1)
        target.write_memory(place, b"\xcc")
        point = target.breakpoint(place)
        assert (point.kind, target.breakpoint(place).kind) == (BreakpointKind.HARDWARE,) * 2
        assert "an int3 is there already that is not ours" in point.reason
        assert hit(target, point).int3 is None
        target.breakpoints[1].remove()
        point.remove()
        target.breakpoint("run")
        stop = target.resume(timeout=PATIENCE)
        assert stop is not None
        assert (stop.reason, stop.int3, stop.breakpoint) == (StopReason.SIGNAL, place, None)
        assert f"by an int3 at {place:#x} that is not ours" in str(stop)
        assert target.registers.pc == place
        target.write_memory(place, code)
        stop = target.resume(timeout=PATIENCE)
        assert stop is not None
        assert stop.reason is StopReason.EXITED
