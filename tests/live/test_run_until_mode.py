"""Running until the CPU is in another mode: to the same instruction as stepping, in fewer steps."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS, STATIONS, wait_until_it_counts
from lab.compare import assert_same_registers
from lab.guest import BOOT_TIMEOUT, UP
from lab.programs import build
from rsp import CpuMode, OnExit

if TYPE_CHECKING:
    from pathlib import Path

    from lab.guest import BootKernel
    from lab.servers import BootQemu

BINARY = "qemu-system-x86_64"
FEW = 20_000
"""Steps; a BIOS alone executes some ten million instructions."""


def step_until(target: rsp.Target, mode: CpuMode) -> None:
    while target.mode is not mode:
        target.step(timeout=60)


def left_by(log: Path) -> set[str]:
    """Return the breakpoints that a recorded session has set and not removed."""
    found = re.findall(r"^w .*?\$([Zz])(0,[0-9a-f]+,1)#", log.read_text(), re.MULTILINE)
    assert found
    left: set[str] = set()
    for sign, what in found:
        (left.add if sign == "Z" else left.discard)(what)
    return left


@pytest.mark.parametrize("start", ["real_start", "protected16", "protected_start", "compat_start"])
def test_to_the_instructions_that_stepping_comes_to(start: str, boot_qemu: BootQemu) -> None:
    """Of every mode on the way from a place of the boot sector."""
    modes = dict.fromkeys(STATIONS[BINARY].values())
    wanted = list(modes)[list(modes).index(STATIONS[BINARY][start]) + 1 :]
    stepped = []
    with rsp.connect(boot_qemu().address) as target:
        target.until(LABELS[start], timeout=240)
        for mode in wanted:
            step_until(target, mode)
            stepped.append(target.registers)
    for mode, registers in zip(wanted, stepped, strict=True):
        with rsp.connect(boot_qemu().address) as target:
            target.until(LABELS[start], timeout=240)
            stop = target.run_until_mode(mode, timeout=300, max_steps=1000)
            assert (stop.reason, stop.late) == (rsp.StopReason.STEP, False)
            assert stop is target.stop
            assert target.mode is mode
            assert not target.points.any
            assert_same_registers(target.registers, {**registers})


@pytest.mark.parametrize(
    ("mode", "label"), [(CpuMode.COMPAT32, "compat_start"), (CpuMode.LONG64, "long_start")]
)
@pytest.mark.parametrize("cpus", [1, 2])
def test_from_the_reset_vector_through_a_bios(
    cpus: int, mode: CpuMode, label: str, boot_qemu: BootQemu, tmp_path: Path
) -> None:
    machine = boot_qemu(args=("-smp", str(cpus)))
    log = tmp_path / "log"
    with rsp.connect(machine.address, record=log) as target:
        first = target.thread
        reports: list[tuple[CpuMode, float]] = []
        stop = target.run_until_mode(
            mode, max_steps=FEW, timeout=300, progress=lambda *report: reports.append(report)
        )
        assert not stop.late
        assert stop.thread == target.thread == first
        assert (target.mode, target.registers.pc) == (mode, LABELS[label])
        assert target.registers["esi"] == 0x16161616
        assert {CpuMode.REAL16} <= {mode for mode, _ in reports} <= set(CpuMode)
        assert [seconds for _, seconds in reports] == sorted(seconds for _, seconds in reports)
        assert not target.points.any
        assert left_by(log) == set()
    wait_until_it_counts(machine)


def test_the_first_protected_mode_of_a_bios(boot_qemu: BootQemu) -> None:
    """And the first 16-bit protected mode before it, from the reset vector on."""
    stopped = []
    for steps in (False, True):
        with rsp.connect(boot_qemu().address) as target:
            for mode in (CpuMode.PROTECTED16, CpuMode.PROTECTED32):
                if steps:
                    step_until(target, mode)
                else:
                    assert not target.run_until_mode(mode, max_steps=FEW, timeout=300).late
                assert target.mode is mode
                stopped.append(target.registers.pc)
    assert stopped[:2] == stopped[2:]


def test_a_linux_kernel_from_reset_to_64_bit(boot_kernel: BootKernel, tmp_path: Path) -> None:
    """Through the BIOS, the real-mode setup and the decompressor's 32-bit code."""
    guest = boot_kernel("debian", stopped=True)
    log = tmp_path / "log"
    with rsp.connect(guest.address, record=log) as target:
        stop = target.run_until_mode(CpuMode.LONG64, max_steps=FEW, timeout=300)
        assert not stop.late
        # Linux Documentation/x86/boot.rst: the 64-bit entry is 0x200 behind the 32-bit one.
        assert target.registers.pc == 0x100200
        assert target.registers["cs"] == 0x10
        assert left_by(log) == set()
    guest.wait_for(UP, timeout=BOOT_TIMEOUT)


@pytest.mark.live("gcc")
def test_a_switch_that_cannot_be_found_is_found_late(boot_qemu: BootQemu) -> None:
    image = build("hidden_switch.S")
    with rsp.connect(boot_qemu(image).address) as target:
        target.until(0x7C00, timeout=240)
        stop = target.run_until_mode(CpuMode.PROTECTED32, timeout=300)
        assert target.mode is CpuMode.PROTECTED32
        assert stop.late
        assert str(stop).endswith("(later than the first instruction in the mode)")
        assert target.registers["ebx"] != 0
        assert not target.points.any


def test_its_time_is_bounded(boot_qemu: BootQemu) -> None:
    """Where a CPU never comes to the mode, and where it waits for an interrupt for ever."""
    with rsp.connect(boot_qemu(binary="qemu-system-i386").address) as target:
        with pytest.raises(rsp.ModeNotReached, match=r"LONG64 was not reached in 3 s") as caught:
            target.run_until_mode(CpuMode.LONG64, timeout=3)
        assert caught.value.mode in (CpuMode.REAL16, CpuMode.PROTECTED32)
        assert not target.running
        assert not target.points.any
    with rsp.connect(boot_qemu(None).address) as target:  # nothing to boot from
        with pytest.raises(rsp.ModeNotReached):
            target.run_until_mode(CpuMode.LONG64, timeout=6)
        with pytest.raises(rsp.ModeNotReached):
            target.run_until_mode(CpuMode.LONG64, timeout=0)
        assert not target.running


def test_another_stop_before_it_is_told(boot_qemu: BootQemu) -> None:
    with rsp.connect(boot_qemu().address, on_exit=OnExit.LEAVE_STOPPED) as target:
        point = target.breakpoint(LABELS["protected_start"])
        with pytest.raises(rsp.ModeNotReached, match="breakpoint 1") as caught:
            target.run_until_mode(CpuMode.LONG64, timeout=300)
        assert caught.value.mode is CpuMode.PROTECTED32
        assert (target.stop.breakpoint, point.hits) == (point, 1)
        assert target.registers.pc == LABELS["protected_start"]
        assert list(target.breakpoints) == [point]
        there = target.breakpoint(LABELS["long_start"])
        stop = target.run_until_mode(CpuMode.LONG64, timeout=300)
        assert (stop.breakpoint, stop.late) == (there, False)
        assert target.registers.pc == LABELS["long_start"]


def test_nothing_is_left_where_the_caller_gives_up(boot_qemu: BootQemu, tmp_path: Path) -> None:
    log = tmp_path / "log"

    reports = []

    def give_up(mode: CpuMode, seconds: float) -> None:
        reports.append((mode, seconds))
        if len(reports) == 5:
            raise ZeroDivisionError

    with rsp.connect(boot_qemu().address, record=log) as target:
        with pytest.raises(ZeroDivisionError):
            target.run_until_mode(CpuMode.LONG64, timeout=300, progress=give_up)
        assert not target.points.any
        assert left_by(log) == set()
        target.until(LABELS["long_start"], timeout=240)
