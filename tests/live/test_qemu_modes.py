"""QEMU's x86-64 CPU on its way from 16 to 64 bit: each stop compared with gdb and the monitor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS, STATIONS
from lab.compare import assert_same_registers
from rsp import CpuMode, OnExit, StopReason

if TYPE_CHECKING:
    from lab.gdb import Gdb
    from lab.servers import BootQemu

ARCHITECTURES = {"qemu-system-x86_64": "x86-64", "qemu-system-i386": "i386"}
BLOCK_SIZES = {"qemu-system-x86_64": 608, "qemu-system-i386": 344}
MARKS = {
    "real_start": {},
    "real_based": {},
    "protected16": {"esi": 0x16161616},
    "protected_start": {"edi": 0x16321632},
    "compat_start": {"ebp": 0x32323232},
    "no_long_mode": {"ebp": 0x32323232},
    "long_start": {"ebx": 0x32643264},
    "tick": {"rax": 0x6464646464646464, "r15": 0x0F0F0F0F0F0F0F0F},
}
SEGMENT = re.compile(r"^(\w\w) *=([0-9a-f]{4}) ([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+)", re.MULTILINE)


@pytest.mark.parametrize("binary", list(STATIONS))
def test_at_reset(binary: str, boot_qemu: BootQemu, gdb: type[Gdb]) -> None:
    machine = boot_qemu(binary=binary)
    with rsp.connect(machine.address, on_exit=OnExit.LEAVE_STOPPED) as target:
        assert target.stub.name == "qemu"
        assert target.arch.name == ARCHITECTURES[binary]
        assert target.registers.layout.size == BLOCK_SIZES[binary]
        assert target.stop.reason is StopReason.ATTACHED
        assert not target.running
        assert target.mode is CpuMode.REAL16
        assert target.registers.pc == 0xFFFFFFF0
        registers = target.registers
        code = target.read_memory(0xFFFFFFF0, 16)
    oracle = gdb(address=machine.address)
    assert_same_registers(registers, oracle.registers())
    assert code == oracle.memory(0xFFFFFFF0, 16)


@pytest.mark.parametrize(
    ("binary", "label", "mode"),
    [(binary, *station) for binary, found in STATIONS.items() for station in found.items()],
)
def test_at_a_breakpoint_in_each_mode(
    binary: str,
    label: str,
    mode: CpuMode,
    boot_qemu: BootQemu,
    gdb: type[Gdb],
) -> None:
    machine = boot_qemu(binary=binary)
    address = LABELS[label]
    with rsp.connect(machine.address, on_exit=OnExit.LEAVE_STOPPED) as target:
        with target.breakpoint(address) as point:
            stop = target.resume(timeout=240)
            assert stop is not None
            assert (stop.reason, stop.breakpoint, point.hits) == (StopReason.BREAKPOINT, point, 1)
        registers = target.registers
        assert registers.pc == address
        assert target.mode is mode
        assert target.arch.name == ARCHITECTURES[binary]
        assert {name: registers[name] for name in MARKS[label]} == MARKS[label]
        code = target.read_memory(address, 32)
        low = target.read_memory(0x3FF0, 64)
        state = target.cpu_state
    oracle = gdb(address=machine.address)
    assert_same_registers(registers, oracle.registers())
    assert code == oracle.memory(address, 32)
    assert low == oracle.memory(0x3FF0, 64)

    # What the registers lack, against the monitor.
    assert state is not None
    assert state.mode is mode
    shown = machine.monitor("info registers")
    segments = {
        name.lower(): tuple(int(value, 16) for value in values)
        for name, *values in SEGMENT.findall(shown)
    }
    ours = {**state.segments, "tr": state.tr}
    assert segments == {
        name: (segment.selector, segment.base, segment.limit, segment.attributes)
        for name, segment in ours.items()
    }
    for name, table in (("GDT", state.gdt), ("IDT", state.idt)):
        found = re.search(rf"{name}= +([0-9a-f]+) ([0-9a-f]+)", shown)
        assert found is not None
        assert (table.base, table.limit) == (int(found[1], 16), int(found[2], 16))


@pytest.mark.parametrize("binary", list(STATIONS))
def test_the_whole_way_in_one_session(binary: str, boot_qemu: BootQemu, gdb: type[Gdb]) -> None:
    """Breakpoints that all stand from the beginning; each stop re-derives mode and pc."""
    machine = boot_qemu(binary=binary)
    with rsp.connect(machine.address, on_exit=OnExit.LEAVE_STOPPED) as target:
        points = {label: target.breakpoint(LABELS[label]) for label in STATIONS[binary]}
        for label, mode in STATIONS[binary].items():
            stop = target.resume(timeout=240)
            assert stop is not None
            assert stop.breakpoint is points[label]
            assert (target.mode, target.registers.pc) == (mode, LABELS[label])
        assert [point.hits for point in points.values()] == [1] * len(points)
        registers = target.registers
    assert_same_registers(registers, gdb(address=machine.address).registers())


@pytest.mark.parametrize("binary", list(STATIONS))
def test_run_until_each_mode(binary: str, boot_qemu: BootQemu) -> None:
    machine = boot_qemu(binary=binary)
    with rsp.connect(machine.address) as target:
        target.run_until_mode(CpuMode.REAL16)  # which it is in
        assert target.registers.pc == 0xFFFFFFF0
        target.until(LABELS["real_start"], timeout=240)
        for mode in dict.fromkeys(STATIONS[binary].values()):
            stop = target.run_until_mode(mode)
            assert target.mode is mode
            assert stop == target.stop
            # The monitor's own last word on the line of CS: CS16, CS32, CS64.
            bits = "".join(filter(str.isdigit, mode.name))
            said = re.search(
                r"^CS .*\bCS(16|32|64)\b", machine.monitor("info registers"), re.MULTILINE
            )
            if said is not None:  # it prints none for 16 bits in real mode
                assert said[1] == bits
        assert target.registers.pc in range(LABELS["real_start"], LABELS["tick"])


def test_a_mode_that_is_not_reached(boot_qemu: BootQemu) -> None:
    with rsp.connect(boot_qemu().address) as target:
        target.until(LABELS["real_start"], timeout=240)
        with pytest.raises(rsp.ModeNotReached, match="LONG64") as caught:
            target.run_until_mode(CpuMode.LONG64, max_steps=5)
        assert caught.value.mode is CpuMode.REAL16
        target.until(LABELS["compat_start"], timeout=240)
        with pytest.raises(rsp.ModeNotReached) as caught:
            target.run_until_mode(CpuMode.LONG64, max_steps=1)
        assert caught.value.mode is CpuMode.COMPAT32


@pytest.mark.parametrize(
    ("label", "count"),
    [("reset", 200), ("real_start", 20), ("protected16", 40), ("compat_start", 40), ("tick", 200)],
)
def test_single_steps_go_where_those_of_gdb_do(
    label: str, count: int, boot_qemu: BootQemu, gdb: type[Gdb]
) -> None:
    ours, theirs = boot_qemu(), boot_qemu()
    if label != "reset":
        for machine in (ours, theirs):
            with rsp.connect(machine.address, on_exit=OnExit.LEAVE_STOPPED) as target:
                target.until(LABELS[label], timeout=240)
    # gdb's `$rip` is the offset in the segment.
    stepped = gdb(address=theirs.address).run(*["stepi", "output/x $rip"] * count)[1::2]
    offsets = []
    with rsp.connect(ours.address) as target:
        for _ in range(count):
            assert target.step(timeout=10).reason is StopReason.STEP
            registers = target.registers
            offsets.append(registers["rip"])
            assert target.cpu_state is not None
            base = target.cpu_state.segments["cs"].base
            assert registers.pc == (registers["rip"] or 0) + base
    assert offsets == [int(address, 16) for address in stepped]
    assert len(set(offsets)) >= 4  # `tick` and its loop
