"""Writing QEMU's registers in every mode, and its memory: linear, physical, at the edges."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS, MAPPED, STATIONS, wait_until_it_counts
from lab.compare import assert_same_registers
from rsp import CpuMode, OnExit, commands, replies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.gdb import Gdb
    from lab.servers import BootQemu
    from rsp.testing.qemu import QemuMachine

PLACES = [(binary, label) for binary, found in STATIONS.items() for label in found]


def shown(machine: QemuMachine, name: str) -> int:
    """Return a register as QEMU's own monitor prints it."""
    text = machine.monitor("info registers")
    found = re.search(rf"\b{name} *=([0-9a-f]+)", text)
    assert found is not None, text
    return int(found[1], 16)


@pytest.fixture
def long_mode(boot_qemu: BootQemu) -> Iterator[rsp.Target]:
    """Return a target that has just come to 64-bit mode."""
    with rsp.connect(boot_qemu().address) as target:
        target.until(LABELS["long_start"], timeout=240)
        yield target


# --- registers ---


@pytest.mark.parametrize(("binary", "label"), PLACES)
def test_write_registers_in_each_mode(
    binary: str, label: str, boot_qemu: BootQemu, gdb: type[Gdb]
) -> None:
    machine = boot_qemu(binary=binary)
    with rsp.connect(machine.address, on_exit=OnExit.LEAVE_STOPPED) as target:
        target.until(LABELS[label], timeout=240)
        before = dict(target.registers)
        wide = "rip" in before
        accumulator, monitors = ("rax", "RAX") if target.mode is CpuMode.LONG64 else (
            ("rax", "EAX") if wide else ("eax", "EAX")
        )  # fmt: skip
        target.write_register("eax", 0x12345678)
        assert shown(machine, monitors) & 0xFFFFFFFF == 0x12345678
        target.write_register("ah", 0xAB)
        target.write_register("cx", 0xBEEF)
        assert shown(machine, monitors) & 0xFFFFFFFF == 0x1234AB78
        target.write_register("xmm3", 0x0F0E0D0C0B0A09080706050403020100)
        target.write_register("eflags", 0x246)
        changed = {accumulator, "rcx" if wide else "ecx", "xmm3", "eflags"}
        # Nothing else has moved: what `G` does outside 64-bit mode is never sent.
        after = target.registers
        assert {n: v for n, v in after.items() if n not in changed} == {
            n: v for n, v in before.items() if n not in changed
        }
        assert (after["ax"], after["cx"], after["xmm3"], after["eflags"]) == (
            0xAB78, 0xBEEF, 0x0F0E0D0C0B0A09080706050403020100, 0x246,
        )  # fmt: skip
    assert_same_registers(after, gdb(address=machine.address).registers())


@pytest.mark.parametrize("label", list(STATIONS["qemu-system-x86_64"]))
def test_what_32_bits_cannot_hold(label: str, boot_qemu: BootQemu) -> None:
    with rsp.connect(boot_qemu().address) as target:
        target.until(LABELS[label], timeout=240)
        if target.mode is CpuMode.LONG64:
            target.write_register("rdx", 0x123456789ABCDEF0)
            target.write_register("r8", 1 << 63)
            assert (target.registers["rdx"], target.registers["r8"]) == (
                0x123456789ABCDEF0, 1 << 63,
            )  # fmt: skip
            return
        with pytest.raises(rsp.RegisterWriteError, match="rdx did not take") as caught:
            target.write_register("rdx", 0x123456789ABCDEF0)
        error = caught.value
        assert (error.register, error.value, error.actual) == (
            "rdx", 0x123456789ABCDEF0, 0x9ABCDEF0,
        )  # fmt: skip
        with pytest.raises(rsp.RegisterWriteError):
            target.write_register("r8", 1)


def test_writes_that_are_refused_here(long_mode: rsp.Target) -> None:
    with pytest.raises(rsp.RegisterUnavailable, match="nearest: rax"):
        long_mode.write_register("raxx", 1)
    with pytest.raises(rsp.RegisterUnavailable):
        long_mode.registers["zmm31"]
    for name, value in (("eax", 1 << 32), ("al", 256), ("rax", -1), ("xmm0", 1 << 128)):
        with pytest.raises(rsp.LocalProtocolError):
            long_mode.write_register(name, value)


def test_the_pc_can_be_set(long_mode: rsp.Target) -> None:
    long_mode.write_register("rip", LABELS["tick"])
    assert long_mode.registers.pc == LABELS["tick"]
    before = long_mode.read_u64(LABELS["counter"])
    long_mode.step()
    assert long_mode.read_u64(LABELS["counter"]) == before + 1


def test_a_snapshot_stays_what_it_was(long_mode: rsp.Target) -> None:
    snapshot = long_mode.registers
    values = dict(snapshot)
    long_mode.step()
    long_mode.write_register("rdx", 0x77)
    assert dict(snapshot) == values
    assert long_mode.registers["rdx"] == 0x77
    assert snapshot.pc == LABELS["long_start"] != long_mode.registers.pc


# --- memory ---


def test_a_mebibyte_is_what_gdb_dumps(boot_qemu: BootQemu, gdb: type[Gdb], tmp_path: Path) -> None:
    machine = boot_qemu()
    with rsp.connect(machine.address, on_exit=OnExit.LEAVE_STOPPED) as target:
        target.until(LABELS["long_start"], timeout=240)
        ours = target.read_memory(0x12345, 0x100000)
        # By small reads as well: through the cache, and over page boundaries.
        pieces = b"".join(target.read_memory(at, 999) for at in range(0x12345, 0x22345 - 999, 999))
    assert ours.startswith(pieces)
    dump = tmp_path / "dump"
    gdb(address=machine.address).run(f"dump binary memory {dump} 0x12345 0x112345")
    assert ours == dump.read_bytes()


def test_the_edge_of_mapped_memory(long_mode: rsp.Target) -> None:
    edge = MAPPED
    assert len(long_mode.read_memory(edge - 16, 16)) == 16
    pattern = bytes(range(64))
    long_mode.write_memory(edge - 64, pattern)
    for start, length in ((edge - 16, 17), (edge - 1, 2), (edge - 16, 0x20000), (edge - 64, 128)):
        long_mode.invalidate()
        with pytest.raises(rsp.MemoryFault) as caught:
            long_mode.read_memory(start, length)
        assert caught.value.address == edge
        assert caught.value.partial == pattern[start - edge :]
    with pytest.raises(rsp.MemoryFault) as caught:
        long_mode.read_memory(edge - 0x12345, 0x100000)
    assert (caught.value.address, len(caught.value.partial)) == (edge, 0x12345)
    for start in (edge, edge + 4096, 1 << 63, (1 << 64) - 16):
        with pytest.raises(rsp.MemoryFault) as caught:
            long_mode.read_memory(start, 16)
        assert (caught.value.address, caught.value.partial) == (start, b"")
    # The same memory is mapped once more, at the top.
    assert long_mode.read_memory(edge - 64 - 0x80000000 + (1 << 64), 64) == pattern
    # And all of it works on after the faults.
    assert long_mode.step().reason is rsp.StopReason.STEP
    assert long_mode.read_memory(edge - 64, 64) == pattern


def test_a_write_over_the_edge(long_mode: rsp.Target) -> None:
    with pytest.raises(rsp.MemoryFault) as caught:
        long_mode.write_memory(MAPPED - 16, b"A" * 32)
    assert caught.value.address == MAPPED
    assert long_mode.read_memory(MAPPED - 16, 16) == b"A" * 16


@pytest.mark.parametrize(
    ("address", "length"), [(-1, 4), (1 << 64, 1), ((1 << 64) - 4, 8), (0, -1), (0, 1 << 65)]
)
def test_ranges_outside_of_the_address_space(
    long_mode: rsp.Target, address: int, length: int
) -> None:
    with pytest.raises(rsp.LocalProtocolError, match=r"64 bits|give a number of bytes from 0 to"):
        long_mode.read_memory(address, length)


def test_reads_of_nothing(long_mode: rsp.Target) -> None:
    assert long_mode.read_memory(0, 0) == b""
    assert long_mode.read_memory(MAPPED, 0) == b""
    long_mode.write_memory(MAPPED, b"")


def test_written_memory_is_the_guest_s(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    data = bytes(range(256)) * 40
    with rsp.connect(machine.address) as target:
        target.until(LABELS["real_start"], timeout=240)
        target.write_memory(0x9001, data)
        assert target.read_memory(0x9001, len(data)) == data
        words = re.findall(r"0x([0-9a-f]{2})\b", machine.monitor("xp/10240xb 0x9001"))
        assert bytes(int(word, 16) for word in words) == data
        # A cache must not hide what was written in between.
        target.write_memory(0x9001, b"\xff")
        assert target.read_memory(0x9000, 3)[1:] == b"\xff\x01"
        assert (target.read_u8(0x9002), target.read_u16(0x9002)) == (1, 0x0201)
        assert (target.read_u32(0x9002), target.read_u64(0x9002)) == (
            0x04030201, 0x0807060504030201,
        )  # fmt: skip


def test_memory_read_again_after_a_step(long_mode: rsp.Target) -> None:
    long_mode.until(LABELS["tick"], timeout=240)
    before = long_mode.read_u64(LABELS["counter"])
    assert long_mode.read_u64(LABELS["counter"]) == before
    long_mode.step()
    assert long_mode.read_u64(LABELS["counter"]) == before + 1


def test_strings(long_mode: rsp.Target) -> None:
    text = b"16, 32, 64: here we are"
    assert long_mode.read_c_string(LABELS["greeting"]) == text
    assert long_mode.read_c_string(LABELS["greeting"], max_size=6) == text[:6]
    long_mode.write_memory(MAPPED - 5, b"edge\0")
    assert long_mode.read_c_string(MAPPED - 5) == b"edge"
    long_mode.write_memory(MAPPED - 5, b"edgy!")
    with pytest.raises(rsp.MemoryFault) as caught:
        long_mode.read_c_string(MAPPED - 5)
    assert (caught.value.address, caught.value.partial) == (MAPPED, b"edgy!")


def test_memory_as_a_file(long_mode: rsp.Target) -> None:
    stream = io.BufferedReader(long_mode.memory)
    stream.seek(LABELS["greeting"])
    assert stream.read(6) == b"16, 32"
    stream.seek(MAPPED - 8)
    assert len(long_mode.memory.read(0) or b"") == 0
    raw = long_mode.memory
    raw.seek(MAPPED - 8)
    raw.write(b"12345678")
    raw.seek(MAPPED - 4)
    assert raw.read(16) == b"5678"
    with pytest.raises(rsp.MemoryFault):
        raw.read(16)


# --- physical memory ---


def physical_mode(target: rsp.Target) -> bool:
    reply = target.session.ask(commands.QueryPhysicalMemoryMode())
    assert isinstance(reply, replies.PhysicalMemoryMode)
    return reply.enabled


def test_physical_memory(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    with rsp.connect(machine.address) as target:
        target.until(LABELS["long_start"], timeout=240)
        linear = target.read_memory(LABELS["greeting"], 24)
        assert target.read_memory(LABELS["greeting"], 24, physical=True) == linear
        assert target.read_memory((1 << 64) - 0x80000000 + LABELS["greeting"], 24) == linear
        # What is not mapped has physical memory behind it all the same, up to 16 MiB.
        with pytest.raises(rsp.MemoryFault):
            target.read_memory(MAPPED, 8)
        target.write_memory(MAPPED, b"physical", physical=True)
        assert target.read_memory(MAPPED, 8, physical=True) == b"physical"
        said = machine.monitor(f"xp/gx {MAPPED:#x}").split(":")[1]
        assert int(said, 16).to_bytes(8, "little") == b"physical"
        assert not physical_mode(target)
        with pytest.raises(rsp.MemoryFault):  # not out of a cache of the other kind either
            target.read_memory(MAPPED, 8)


def test_the_physical_mode_is_put_back(long_mode: rsp.Target) -> None:
    with pytest.raises(rsp.LocalProtocolError):
        long_mode.read_memory(1 << 64, 8, physical=True)
    assert not physical_mode(long_mode)
    # Somebody had switched it on for all: it stays so.
    long_mode.session.ask(commands.SetPhysicalMemoryMode(enabled=True))
    long_mode.read_memory(0, 8, physical=True)
    assert physical_mode(long_mode)
    long_mode.session.ask(commands.SetPhysicalMemoryMode(enabled=False))


# --- monitor ---


def test_monitor(boot_qemu: BootQemu) -> None:
    machine = boot_qemu(stopped=False)
    wait_until_it_counts(machine)
    with rsp.connect(machine.address) as target:
        ours = target.monitor("info registers")
        assert ours.split() == machine.monitor("info registers").split()
        assert "unknown command" in target.monitor("no such command")
        # A monitor may write behind our back: what was read is read again.
        assert target.read_u64(LABELS["counter"]) > 0
        target.monitor("stop")
        long = target.monitor("info qtree")
        assert len(long) > 4000
        assert long.split() == machine.monitor("info qtree").split()
