"""QEMU up to 2.8: `g` changes between 308 and 536 bytes in mid-session, and nothing says so.

gdb fails there with "Remote 'g' packet reply is too long". Here a CPU boots under a scripted stub,
16, 32, 64 bit on one way, in one session, with breakpoints that stay.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

import rsp
from rsp.arch.modes import CpuMode
from rsp.testing.cpu import State
from rsp.testing.old_qemu import BOOT, QemuOld
from rsp.testing.personalities import QEMU_OLD
from rsp.testing.serve import connected

STOPS = [
    # linear pc, mode, architecture, bytes of g
    (0x7C00, CpuMode.REAL16, "i386", 308),
    (0x7C20, CpuMode.PROTECTED16, "i386", 308),
    (0x7C30, CpuMode.PROTECTED32, "i386", 308),
    (0x7C40, CpuMode.COMPAT32, "i386", 308),
    (0x7C50, CpuMode.LONG64, "x86-64", 536),
    (0x7C58, CpuMode.LONG64, "x86-64", 536),
]


@pytest.mark.parametrize("monitor", [True, False])
def test_a_boot_from_16_to_64_bit_in_one_session(monitor: bool) -> None:
    stub = QemuOld(shows_registers=monitor)
    with connected(stub) as target:
        assert target.stub.name == "qemu"
        assert target.arch.name == "i386"
        if monitor:
            assert target.mode is CpuMode.REAL16
            assert target.registers.pc == 0xFFFFFFF0
        points = [target.breakpoint(pc) for pc, *_ in STOPS]
        for point, (pc, mode, arch, size) in zip(points, STOPS, strict=True):
            stop = target.resume(timeout=5)
            assert stop is not None
            assert stop.breakpoint is point
            registers = target.registers
            assert target.arch.name == arch
            assert registers.layout.size == size
            assert registers.pc == pc
            # Without the monitor only 64-bit mode tells itself, by the length.
            known = monitor or mode is CpuMode.LONG64
            assert target.mode is (mode if known else CpuMode.UNKNOWN)
        assert registers["rax"] == 0x1122334455667788
        assert registers["r15"] == 0xF00D
        assert [point.hits for point in points] == [1] * len(points)
        # And round in the loop: the breakpoints that were set in real mode hold.
        stop = target.resume(timeout=5)
        assert stop is not None
        assert stop.breakpoint is points[-1]
        assert points[-1].hits == 2
    assert stub.received.count(b"?") == 1
    assert sum(payload.startswith(b"qSupported") for payload in stub.received) == 1


def test_registers_are_written_right_in_each_mode() -> None:
    stub = QemuOld()
    with connected(stub) as target:
        for value, (pc, _, arch, size) in enumerate(STOPS, 0x1000):
            target.until(pc, timeout=5)
            name = "rbx" if arch == "x86-64" else "ebx"
            target.write_register(name, value)
            assert target.registers[name] == value
            assert stub.cpu.registers["rbx"] == value
            target.write_register("bl", 0x99)
            assert stub.cpu.registers["rbx"] == (value & ~0xFF) | 0x99
            assert stub.received[-2].startswith(b"G")
            assert len(stub.received[-2]) == 1 + 2 * size
        target.write_register("r14", 1 << 63)
        assert stub.cpu.registers["r14"] == 1 << 63


def test_memory_and_symbols_of_the_session_survive_the_switch() -> None:
    stub = QemuOld(memory={0x7D00: b"the same memory"})
    with connected(stub) as target:
        for pc, *_ in STOPS:
            target.until(pc, timeout=5)
            assert target.read_memory(0x7D00, 15) == b"the same memory"


def test_stepping_through_the_switch() -> None:
    stub = QemuOld()
    with connected(stub) as target:
        seen = []
        for _ in BOOT:
            target.step(timeout=5)
            seen.append((target.registers.pc, target.arch.name))
        assert seen[4:6] == [(0x7C40, "i386"), (0x7C50, "x86-64")]


@pytest.mark.parametrize(
    "mode", [CpuMode.PROTECTED16, CpuMode.PROTECTED32, CpuMode.COMPAT32, CpuMode.LONG64]
)
def test_run_until_mode(mode: CpuMode) -> None:
    with connected(QemuOld()) as target:
        target.run_until_mode(mode, max_steps=20)
        assert target.mode is mode


def test_a_mode_that_is_not_reached() -> None:
    stub = QemuOld(program=[State(registers={"rip": 0x7C00 + i, "cs": 0}) for i in range(50)])
    with connected(stub) as target:
        with pytest.raises(rsp.ModeNotReached, match="LONG64 was not reached in 10") as caught:
            target.run_until_mode(CpuMode.LONG64, max_steps=10)
        assert caught.value.mode is CpuMode.REAL16


def test_back_to_real_mode_by_a_reset() -> None:
    """After 64-bit mode the 32-bit layout comes again, and is known for what it is."""
    reset = State(registers={"rip": 0xFFF0, "cs": 0xF000}, mode=CpuMode.REAL16)
    stub = QemuOld(program=[*BOOT, reset, *BOOT], loop=None)
    with connected(stub) as target:
        point = target.breakpoint(0x7C60)
        target.resume(timeout=5)
        assert target.arch.name == "x86-64"
        target.until(0x7C00, timeout=5)
        assert target.arch.name == "i386"
        assert target.registers.layout.name == "qemu-2-x86-64-in-32-bit"
        target.write_register("ecx", 3)
        assert target.registers["cl"] == 3
        target.resume(timeout=5)
        assert (target.arch.name, point.hits) == ("x86-64", 2)


@pytest.mark.parametrize("numbers", ["qemu-2-i386", "qemu-2-x86-64-in-32-bit"])
def test_a_number_is_taken_only_where_p_gives_what_g_gave(numbers: str) -> None:
    """Nobody says which numbers `P` takes outside 64-bit mode, so `p` has to, beforehand."""
    answers = replace(QEMU_OLD, layout_32=numbers, commands=QEMU_OLD.commands | {"p", "P"})
    stub = QemuOld(personality=answers)
    with connected(stub) as target:
        for pc, *_ in STOPS:
            target.until(pc, timeout=5)
            long_mode = target.arch.name == "x86-64"
            target.write_register("rip" if long_mode else "eip", pc + 1)
            assert stub.cpu.registers["rip"] == pc + 1
            target.write_register("rip" if long_mode else "eip", pc)
    assert any(payload.startswith(b"P") for payload in stub.received)
    assert not any(payload.startswith(b"G") for payload in stub.received)
