"""QEMU with two CPUs: threads, their registers and modes, one stepping while the other stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS
from lab.compare import assert_same_registers, registers_of
from rsp import CpuMode, OnExit, StopReason

if TYPE_CHECKING:
    from lab.gdb import Gdb
    from lab.servers import BootQemu
    from rsp.testing.qemu import QemuMachine

# The second CPU is started as by any operating system (Intel SDM volume 3A, section 8.4.4): INIT,
# then a startup message with the page of its first instruction.
STARTER, PAGE = 0x5000, 0x8000
START_THE_OTHER = bytes.fromhex(
    "c7050003e0fe00450c00"  # movl $0x000c4500, 0xfee00300   INIT to all but this one
    "c7050003e0fe08460c00"  # movl $0x000c4608, 0xfee00300   startup at 0x8000
    "40ebfd"  # 1: incl %eax; jmp 1b
)
SPIN = STARTER + 20
COUNT_16 = bytes.fromhex("40ebfd")  # 1: incw %ax; jmp 1b, in 16-bit code


@pytest.fixture
def two_cpus(boot_qemu: BootQemu) -> QemuMachine:
    return boot_qemu(args=("-smp", "2"))


def start_the_other(target: rsp.Target) -> None:
    """Let both CPUs run: the first in 32-bit protected mode, the second in real mode."""
    target.until(LABELS["protected_start"], timeout=240)
    target.write_memory(STARTER, START_THE_OTHER)
    target.write_memory(PAGE, COUNT_16)
    target.write_register("eip", STARTER)
    stop = target.until(PAGE, timeout=240)
    assert stop.reason is StopReason.BREAKPOINT


def test_threads_are_cpus(two_cpus: QemuMachine, gdb: type[Gdb]) -> None:
    with rsp.connect(two_cpus.address, on_exit=OnExit.LEAVE_STOPPED) as target:
        first, second = target.threads
        assert target.thread == first
        assert (first.id, second.id) == ("p01.01", "p01.02")
        assert [thread.name[:5] for thread in (first, second)] == ["CPU#0", "CPU#1"]
        ours = first.registers, second.registers
        assert target.select(second) == second
        assert target.thread == second
        assert target.registers == second.registers
        assert target.select("p01.01") == first
        with pytest.raises(rsp.StubError, match=r"no thread p01\.09"):
            target.select("p01.09")
        assert target.registers == first.registers
    oracle = gdb(address=two_cpus.address)
    assert_same_registers(ours[0], registers_of(oracle, before=["thread 1"]))
    assert_same_registers(ours[1], registers_of(oracle, before=["thread 2"]))
    assert "(CPU#1" in oracle.run("info threads")[0]


def test_each_cpu_has_its_mode(two_cpus: QemuMachine, gdb: type[Gdb]) -> None:
    with rsp.connect(two_cpus.address, on_exit=OnExit.LEAVE_STOPPED) as target:
        start_the_other(target)
        first, second = target.threads
        assert target.thread == second
        assert target.stop.thread == second
        assert (target.mode, target.registers.pc) == (CpuMode.REAL16, PAGE)
        assert second.registers["rip"] == 0
        assert target.cpu_state is not None
        assert target.cpu_state.segments["cs"].base == PAGE
        ours = second.registers
        target.select(first)
        assert target.mode is CpuMode.PROTECTED32
        assert target.registers.pc in range(STARTER, SPIN + 3)
        assert target.cpu_state is not None
        assert target.cpu_state.segments["cs"].selector == 0x08
    assert_same_registers(ours, registers_of(gdb(address=two_cpus.address), before=["thread 2"]))


def test_the_monitor_may_be_about_another_cpu(two_cpus: QemuMachine) -> None:
    """``cpu 1`` stays set in the monitor, and what it then shows of "the" CPU is the second's."""
    with rsp.connect(two_cpus.address) as target:
        start_the_other(target)
        first, second = target.threads
        for current in ("cpu 1", "cpu 0"):
            target.monitor(current)
            for thread, mode in ((first, CpuMode.PROTECTED32), (second, CpuMode.REAL16)):
                target.select(thread)
                assert target.mode is mode
                base = 0 if thread == first else PAGE
                assert target.cpu_state is not None
                assert target.cpu_state.segments["cs"].base == base
                assert target.registers.pc - base == target.registers["rip"]


def test_one_cpu_steps_and_the_other_stands_still(two_cpus: QemuMachine) -> None:
    with rsp.connect(two_cpus.address) as target:
        start_the_other(target)
        first, second = target.threads
        for stepping, standing in ((second, first), (first, second)) * 2:
            still = dict(standing.registers)
            for _ in range(4):
                before = dict(stepping.registers)
                stop = stepping.step(timeout=10)
                assert (stop.reason, stop.thread) == (StopReason.STEP, stepping)
                assert dict(stepping.registers) != before
                assert dict(standing.registers) == still
        # All of them run on resume.
        counts = [thread.registers["eax"] for thread in (first, second)]
        with pytest.raises(rsp.RspTimeout):
            target.resume(timeout=0.2)
        stop = target.interrupt()
        assert stop.thread in (first, second)
        assert [thread.registers["eax"] for thread in (first, second)] != counts
        for thread, count in zip((first, second), counts, strict=True):
            assert thread.registers["eax"] != count


def test_registers_after_an_interrupt_are_those_of_the_thread_it_names(
    two_cpus: QemuMachine,
) -> None:
    with rsp.connect(two_cpus.address) as target:
        start_the_other(target)
        threads = target.threads
        for thread in (*threads, *reversed(threads)):
            target.select(thread)
            assert target.registers == thread.registers
            target.resume(wait=False)
            stop = target.interrupt()
            assert stop.thread is not None
            # Real mode has cs 0x800 here, protected mode 0x08.
            selectors = {t.id: t.registers["cs"] for t in target.threads}
            assert selectors == {"p01.01": 0x08, "p01.02": 0x800}
            assert target.registers["cs"] == selectors[stop.thread.id]


def test_a_breakpoint_stops_whoever_comes(two_cpus: QemuMachine) -> None:
    with rsp.connect(two_cpus.address) as target:
        start_the_other(target)
        first, second = target.threads
        points = {first: target.breakpoint(SPIN), second: target.breakpoint(PAGE)}
        seen = set()
        for _ in range(40):
            stop = target.resume(timeout=240)
            assert stop is not None
            assert stop.thread is not None
            assert stop.breakpoint is points[stop.thread]
            assert target.registers.pc == stop.breakpoint.locations[0]
            seen.add(stop.thread)
            if len(seen) == 2:
                break
        assert sum(point.hits for point in points.values()) >= 2


def test_registers_of_the_other_cpu_can_be_written(two_cpus: QemuMachine) -> None:
    with rsp.connect(two_cpus.address) as target:
        start_the_other(target)
        first, second = target.threads
        before = dict(second.registers)
        first.write_register("edx", 0x1111)
        second.write_register("edx", 0x2222)
        assert (first.registers["edx"], second.registers["edx"]) == (0x1111, 0x2222)
        assert {**before, "rdx": 0x2222} == dict(second.registers)
