"""Core files against gdb on the same file, and against the target that they were written of."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.gdb import SETTINGS, batch, parse_registers
from rsp.coredump import write_core
from rsp.coredump.write_elf import Core, Load, Run, note, write_elf
from rsp.coredump.write_machine import ram_ranges

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.guest import BootKernel, KernelName
    from lab.servers import BootQemu, StartServer

KERNELS = pytest.mark.live("qemu-system-x86_64")


def gdb_says(*commands: str) -> list[str]:
    """Return gdb's answers to all commands but those that set it up."""
    told = [word for each in commands for word in ("echo @@\\n", each)]
    found = subprocess.run(
        batch(*SETTINGS, *told), capture_output=True, text=True, timeout=240, check=False
    )
    return [each.rstrip("\n") for each in found.stdout.split("@@\n")[1:]]


def gcore(program: Path, core: Path, station: str) -> None:
    """Write a core where the program has come to a place."""
    said = gdb_says(f"file {program}", f"break {station}", "run", f"gcore {core}", "kill")
    assert core.exists(), said


# --- of a process ---


@pytest.mark.live("gdb", "gcc")
def test_each_thread_is_as_gdb_shows_it(
    build_program: Callable[[str], Path], tmp_path: Path
) -> None:
    program, path = build_program("subject.c"), tmp_path / "core"
    gcore(program, path, "visit")
    threads = ("thread 1", "thread 2", "thread 3")
    asked = [word for each in threads for word in (each, "info registers", "bt 1")]
    answers = gdb_says(f"file {program}", f"core {path}", "p watched", "p greeting", *asked)
    _, _, watched, greeting, *answers = answers
    with rsp.open_core(path, symbols=program) as core:
        assert len(core.threads) == 3
        for thread, registers in zip(core.threads, answers[1::3], strict=True):
            theirs = parse_registers(registers)
            assert {name: thread.registers[name] for name in theirs} == theirs
            assert len(theirs) >= 27
        assert watched == f"$1 = {core.value('watched')}"
        assert greeting == f"$2 = {core.value('greeting')}"
        assert core.mode is rsp.CpuMode.LONG64
        assert core.stop.signal_name == "SIGTRAP"
        assert core.stop.function == "visit"
        assert core.stop.siginfo is not None
        assert f"#0  {core.backtrace()[0]}" == answers[2].splitlines()[0]


@pytest.mark.live("gdb", "gcc")
def test_all_vector_registers(build_program: Callable[[str], Path], tmp_path: Path) -> None:
    program, path = build_program("subject.c"), tmp_path / "core"
    gcore(program, path, "vectors_filled")
    shown = "fctrl fstat ftag fiseg fioff foseg fooff fop mxcsr"
    answers = gdb_says(f"file {program}", f"core {path}", f"info registers {shown}")
    with rsp.open_core(path) as core:
        registers = core.registers
        widest = next(each for each in ("zmm", "ymm", "xmm") if f"{each}0" in registers)
        size = {"zmm": 64, "ymm": 32, "xmm": 16}[widest]
        for number in range(32 if widest == "zmm" else 16):
            row = int.from_bytes(bytes((8 * number + i) % 256 for i in range(size)), "little")
            assert registers[f"{widest}{number}"] == row, number
        theirs = parse_registers(answers[2])
        assert {name: registers[name] for name in theirs} == theirs
        assert len(theirs) == 9
        # What the CPU at hand has is what the core has.
        flags = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
        assert (size == 64) == ("avx512f" in flags)
        assert (size >= 32) == ("avx" in flags)


@pytest.mark.live("gdb", "gcc")
def test_a_program_of_32_bits(build_program: Callable[[str], Path], tmp_path: Path) -> None:
    program, path = build_program("subject32.S"), tmp_path / "core"
    gcore(program, path, "visit")
    _, _, registers, code, innermost = gdb_says(
        f"file {program}", f"core {path}", "info registers", "x/3i $pc", "bt 1"
    )
    with rsp.open_core(path, symbols=program) as core:
        theirs = parse_registers(registers)
        assert {name: core.registers[name] for name in theirs if name[0] != "k"} == {
            name: value for name, value in theirs.items() if name[0] != "k"
        }
        assert len(theirs) >= 16
        assert core.arch.name == "i386"
        assert core.mode is rsp.CpuMode.PROTECTED32 or core.mode is rsp.CpuMode.COMPAT32
        assert str(core.backtrace()[0]) in innermost.replace("#0  ", "")
        addresses = [f"{each.address:#x}" for each in core.disassemble(core.registers.pc, 3)]
        assert addresses == re.findall(r"^(?:=>)?\s+(0x\w+)", code, re.MULTILINE)


@pytest.mark.live("gdb", "gcc")
def test_what_is_not_in_the_core_is_read_from_its_files(
    build_program: Callable[[str], Path], tmp_path: Path
) -> None:
    """Linux and gdb leave out of a core what lies in files and was not written to."""
    program, path = build_program("subject.c"), tmp_path / "core"
    gcore(program, path, "visit")
    with rsp.open_core(path) as core:
        leave_out(path, core.registers.pc)
    with rsp.open_core(path, symbols=program) as core:
        assert any(each.in_file < each.size for each in core.inferior.core.segments)
        pc = core.registers.pc
        theirs = gdb_says(f"file {program}", f"core {path}", f"x/16xb {pc:#x}")[2]
        assert core.read_memory(pc, 16) == bytes(
            int(each, 16) for each in re.findall(r"\t0x(\w\w)", theirs)
        )
        with pytest.raises(rsp.MemoryFault, match="the core does not have it"):
            core.read_memory(0x10, 4)
        with pytest.raises(rsp.LocalProtocolError, match="no physical memory"):
            core.read_memory(pc, 4, physical=True)


def leave_out(path: Path, address: int) -> None:
    """Take the bytes of one segment out of a core, as Linux writes what is in a file."""
    content = bytearray(path.read_bytes())
    (begin,), (count,) = (
        struct.unpack_from("<Q", content, 32),
        struct.unpack_from("<H", content, 56),
    )
    for at in range(begin, begin + 56 * count, 56):
        kind, _, _, virtual, _, _, size, _ = struct.unpack_from("<IIQQQQQQ", content, at)
        if kind == 1 and virtual <= address < virtual + size:
            struct.pack_into("<Q", content, at + 32, 0)
    path.write_bytes(content)


@pytest.mark.live("gdb", "gcc")
def test_nothing_of_it_lives(build_program: Callable[[str], Path], tmp_path: Path) -> None:
    program, path = build_program("subject.c"), tmp_path / "core"
    gcore(program, path, "visit")
    with rsp.open_core(path, symbols=program) as core:
        thread = core.threads[0]
        for acts in (
            thread.step,
            lambda: thread.write_register("rax", 1),
            lambda: core.memory.write(b"x"),
        ):
            with pytest.raises(rsp.LocalProtocolError, match="a core does not live"):
                acts()
        with pytest.raises(rsp.StubError, match=r"the core has no thread p1\.1"):
            core.select("p1.1")
        with pytest.raises(rsp.SymbolError, match="not the vmlinux"):
            _ = core.kernel
    with pytest.raises(rsp.LocalProtocolError, match="the core was closed"):
        _ = core.registers


# --- of a machine ---


@KERNELS
@pytest.mark.parametrize("name", ["x86_64", "i386"])
def test_a_machine_is_as_it_was_when_it_stood(
    name: KernelName, shared_kernel: BootKernel, tmp_path: Path
) -> None:
    guest = shared_kernel(name)
    with rsp.connect(
        guest.address, symbols=guest.symbols, timeout=60, on_exit="leave stopped"
    ) as target:
        _ = target.monitor(f"dump-guest-memory {tmp_path / 'core'}")
        with rsp.open_core(tmp_path / "core", symbols=guest.symbols) as core:
            compare(core, target)


def compare(core: rsp.Core, target: rsp.Target) -> None:
    kernel, theirs = core.kernel, target.kernel
    assert kernel.slide == theirs.slide
    assert core.value("init_task.comm") == target.value("init_task.comm")
    assert [(each.pid, each.comm) for each in kernel.tasks()] == [
        (each.pid, each.comm) for each in theirs.tasks()
    ]
    assert kernel.log() == theirs.log()
    assert [each.name for each in kernel.modules()] == [each.name for each in theirs.modules()]
    assert len(core.threads) == len(target.threads)
    for mine, live in zip(core.threads, target.threads, strict=True):
        known = {name: value for name, value in mine.registers.items() if value is not None}
        known.pop("ftag", None)  # in QEMU's g it is always 0
        assert known == {name: live.registers[name] for name in known}
        assert mine.registers.pc == live.registers.pc
        assert str(mine.backtrace()) == str(live.backtrace())
        assert mine.cpu == live.cpu
    for mine_task, live_task in zip(kernel.tasks(), theirs.tasks(), strict=True):
        assert str(mine_task.backtrace()) == str(live_task.backtrace())
    physical = core.virtual_to_physical("init_task").physical
    assert physical == target.virtual_to_physical("init_task").physical
    assert core.read_memory(physical, 64, physical=True) == core.read_memory("init_task", 64)
    assert core.cpu_state is not None
    assert target.cpu_state is not None
    assert core.cpu_state.mode is target.cpu_state.mode
    assert core.cpu_state.segments == target.cpu_state.segments


@KERNELS
def test_a_kernel_under_kaslr(boot_kernel: BootKernel, tmp_path: Path) -> None:
    guest, dump = boot_kernel("debian", kaslr=True, append="pti=on"), tmp_path / "qemu"
    with rsp.connect(guest.address, symbols=guest.symbols, timeout=60) as target:
        _ = target.monitor(f"dump-guest-memory {dump}")
        with rsp.open_core(dump, symbols=guest.symbols) as core:
            compare(core, target)
        size = int(target.value("vmcoreinfo_size"))
        info = target.read_memory(int(target.value("vmcoreinfo_data")), size)
        with_vmcoreinfo(target, tmp_path / "core", info)
        with rsp.open_core(tmp_path / "core", symbols=guest.symbols) as core:
            compare_without_registers(core, target)


def compare_without_registers(core: rsp.Core, target: rsp.Target) -> None:
    """/proc/vmcore and /proc/kcore have no control registers: the kernel's own tables serve."""
    assert core.vmcoreinfo["OSRELEASE"] in core.kernel.banner
    assert core.cpu_state is None
    slide = int(core.vmcoreinfo["KERNELOFFSET"], 16)
    assert core.kernel.slide == target.kernel.slide == slide
    mine, theirs = core.kernel.tasks(), target.kernel.tasks()
    assert [(each.pid, each.comm) for each in mine] == [(each.pid, each.comm) for each in theirs]
    assert core.threads == ()
    asleep = [number for number, each in enumerate(theirs) if not each.is_running]
    for number in asleep:
        assert str(mine[number].backtrace()) == str(theirs[number].backtrace())
    assert len(asleep) > 30
    assert set(core.registers.values()) == {None}
    with pytest.raises(rsp.RegisterUnavailable):
        _ = core.registers.pc
    assert core.mode is rsp.CpuMode.UNKNOWN


def with_vmcoreinfo(target: rsp.Target, path: Path, info: bytes) -> None:
    """Write a core with the memory of a machine, and VMCOREINFO as its one note."""
    runs = [Run(begin, end - begin) for begin, end in ram_ranges(target.inferior)]
    loads = [Load(address=0, physical=run.address, size=run.size, run=run) for run in runs]
    notes = note("VMCOREINFO", 0, info)
    with path.open("wb") as file, target.physical_memory():
        write_elf(
            file,
            Core(word_size=8, notes=notes, runs=runs, loads=loads, physical=True),
            lambda address, length: target.read_memory(address, length, physical=True),
        )


@KERNELS
def test_a_boot_sector(boot_qemu: BootQemu, tmp_path: Path) -> None:
    """Before there is an operating system: real mode, and memory without page tables."""
    machine, path = boot_qemu(), tmp_path / "core"
    with rsp.connect(machine.address, timeout=60) as target:
        for stop in (None, 0x7C00):
            if stop is not None:
                target.until(stop, timeout=60)
            path.unlink(missing_ok=True)
            _ = target.monitor(f"dump-guest-memory {path}")
            with rsp.open_core(path) as core:
                assert core.mode is target.mode is rsp.CpuMode.REAL16
                assert core.registers.pc == target.registers.pc
                if stop is not None:
                    assert core.read_memory(stop, 512) == target.read_memory(stop, 512)
                    assert core.disassemble(stop, 4) == target.disassemble(stop, 4)


# --- written by rsp core ---


@KERNELS
def test_a_machine_s_core_that_was_written_here(shared_kernel: BootKernel, tmp_path: Path) -> None:
    guest, path = shared_kernel("debian"), tmp_path / "core"
    with rsp.connect(
        guest.address, symbols=guest.symbols, timeout=60, on_exit="leave stopped"
    ) as target:
        write_core(target, path)
        with rsp.open_core(path, symbols=guest.symbols) as core:
            compare(core, target)
            assert core.vmcoreinfo["OSRELEASE"] in core.kernel.banner
            assert core.registers["xmm0"] == target.registers["xmm0"]


@pytest.mark.parametrize("source", ["subject.c", "subject32.S"])
def test_a_process_s_core_that_was_written_here(
    source: str, gdbserver: StartServer, build_program: Callable[[str], Path], tmp_path: Path
) -> None:
    program, path = build_program(source), tmp_path / "core"
    with rsp.connect(gdbserver(source=source), symbols=program) as target:
        target.until("visit", timeout=60)
        write_core(target, path)
        with rsp.open_core(path, symbols=program) as core:
            assert [each.id for each in core.threads] == [
                each.id for each in sorted(target.threads, key=lambda each: each != target.thread)
            ]
            for mine in core.threads:
                registers = target.registers_of(mine.thread_id)
                known = {name: value for name, value in mine.registers.items() if value is not None}
                assert known == {name: registers[name] for name in known}
                assert len(known) > 40
                assert str(mine.backtrace()) == str(target.backtrace_of(mine.thread_id))
            assert core.read_u32("watched") == target.read_u32("watched")
            sp = core.registers.sp
            assert core.read_memory(sp, 64) == target.read_memory(sp, 64)
