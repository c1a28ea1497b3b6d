"""The core of a machine: its bytes are those of QEMU's own, and drgn and gdb read it.

The oracles are ``dump-guest-memory`` and ``info tlb`` of QEMU's monitor, drgn and gdb.
"""

from __future__ import annotations

import re
import struct
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import STATIONS
from lab.cores import CoreFile
from rsp.coredump import write_core
from rsp.coredump.vmcoreinfo import vmcoreinfo

if TYPE_CHECKING:
    from pathlib import Path

    from lab.gdb import Gdb
    from lab.guest import BootKernel, KernelName
    from lab.servers import BootQemu

PAGE = 4096


@pytest.mark.parametrize("qemu", list(STATIONS))
def test_it_has_what_dump_guest_memory_has(qemu: str, boot_qemu: BootQemu, tmp_path: Path) -> None:
    """In every mode of the boot sector: memory, QEMU's note, the view of the page tables."""
    machine = boot_qemu(binary=qemu)
    with rsp.connect(machine.address, symbols=machine_symbols()) as target:
        for station, mode in STATIONS[qemu].items():
            target.until(station, timeout=240)
            ours, theirs = tmp_path / f"{station}.core", tmp_path / f"{station}.qemu"
            write_core(target, ours)
            assert "rror" not in target.monitor(f"dump-guest-memory {theirs}")
            core, other = CoreFile(ours), CoreFile(theirs)
            assert core.machine == other.machine
            assert core.machine == (
                "EM_X86_64" if mode.name in ("COMPAT32", "LONG64") else "EM_386"
            )
            for each in other.segments:
                expected = other.data[each.place : each.place + each.kept]
                assert _physical(core, each.physical, each.kept) == expected
            [state], [known] = core.note("QEMU", 0), other.note("QEMU", 0)
            assert _attributes_of_segments_masked(state) == _attributes_of_segments_masked(known)
            [status], [known] = core.note("CORE", 1), other.note("CORE", 1)
            word = 8 if core.machine == "EM_X86_64" else 4
            at = 112 if word == 8 else 72
            count = 27 if word == 8 else 17
            registers, expected_registers = (
                struct.unpack_from(f"<{count}{'Q' if word == 8 else 'I'}", data, at)
                for data in (status, known)
            )
            calls = 15 if word == 8 else 11  # orig_rax: 0 is a system call, which this is not
            assert registers[:calls] == expected_registers[:calls]
            assert registers[calls + 1 :] == expected_registers[calls + 1 :]
            assert len(status) == len(known)
            for linear, physical in _tlb(target.monitor("info tlb")):
                if _physical(core, physical, PAGE) is not None:
                    assert core.virtual(linear, 512) == _physical(core, physical, 512)


def machine_symbols() -> Path:
    from rsp.testing.boot import ELF

    return ELF


def _attributes_of_segments_masked(note: bytes) -> bytes:
    """Leave out of QEMU's note what its monitor does not print: the parts of base and limit.

    Ten segments of 24 bytes each follow version, size and 18 registers.
    """
    data = bytearray(note)
    for n in range(10):
        at = 8 + 18 * 8 + n * 24 + 8
        (attributes,) = struct.unpack_from("<I", data, at)
        struct.pack_into("<I", data, at, attributes & 0x00FF_FF00)
    return bytes(data)


def _physical(core: CoreFile, address: int, size: int) -> bytes | None:
    """Return physical memory that several segments may have together."""
    data = b""
    while len(data) < size:
        at = address + len(data)
        found = next((each for each in core.segments if 0 <= at - each.physical < each.kept), None)
        if found is None:
            return None
        begin = at - found.physical
        length = min(size - len(data), found.kept - begin)
        data += core.data[found.place + begin : found.place + begin + length]
    return data


def _tlb(text: str) -> list[tuple[int, int]]:
    """Return linear and physical address of each page that is mapped."""
    found = re.findall(r"^([0-9a-f]{8,16}): ([0-9a-f]{8,16}) \S+", text, re.MULTILINE)
    return [(int(linear, 16), int(physical, 16)) for linear, physical in found]


def test_a_machine_with_a_hole_in_its_memory_and_several_cpus(
    boot_qemu: BootQemu, tmp_path: Path
) -> None:
    machine = boot_qemu(memory="3G", args=("-smp", "2"))
    file = tmp_path / "core"
    written: list[tuple[int, int]] = []

    class EnoughError(Exception):
        pass

    def enough(done: int, total: int) -> None:
        written.append((done, total))
        if len(written) == 3:
            raise EnoughError

    with rsp.connect(machine.address) as target:
        before = target.registers
        with pytest.raises(EnoughError):
            write_core(target, file, enough)
        assert list(tmp_path.iterdir()) == []
        target.invalidate()
        assert target.registers == before
        assert target.monitor("info status").startswith("VM status: paused")
        # Physical memory is not what the stub is left at.
        assert target.read_memory(0xFFFF_FFF0, 1) == b"\xea"
        assert all(done < later for (done, _), (later, _) in pairwise(written))
        assert {total >= 3 << 30 for _, total in written} == {True}


DRGN = """
import sys
import drgn
from drgn.helpers.linux import cmdline, cpu_curr, find_task, for_each_task
from drgn.helpers.linux import get_dmesg
prog = drgn.Program()
prog.set_core_dump(sys.argv[1])
prog.load_debug_info([sys.argv[2]])
print(prog["init_task"].comm.string_().decode())
print(sorted(task.pid.value_() for task in for_each_task(prog)))
print([frame.name for frame in prog.stack_trace(cpu_curr(prog, int(sys.argv[3])))][:5])
print([frame.name for frame in prog.stack_trace(find_task(prog, 2))])
print(cmdline(find_task(prog, 1)))
print(len(get_dmesg(prog)) > 1000)
"""


@pytest.mark.parametrize("name", ["debian", "x86_64"])
def test_drgn_reads_a_kernel_under_kaslr(
    name: KernelName, boot_kernel: BootKernel, gdb: type[Gdb], tmp_path: Path
) -> None:
    """Debian's kernel has a VMCOREINFO of its own; the lab's is built without, and has ours."""
    guest = boot_kernel(name, kaslr=True, memory=128 if name == "debian" else 64)
    file = tmp_path / "vmcore"
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        with target.breakpoint("vfs_read"):
            stop = target.resume(timeout=240)
        assert stop.thread is not None
        cpu = stop.thread.cpu
        assert cpu is not None
        write_core(target, file)
        pids = sorted(task.pid for task in target.kernel.tasks())
        frames = [frame.function for frame in target.backtrace()][:5]
        registers = target.registers
        stack = target.read_memory(registers.sp, 64)
        [info] = CoreFile(file).note("VMCOREINFO", 0)
        assert ("vmcoreinfo_size" in target.symbols) == (name == "debian")
        if name == "debian":
            assert_is_the_kernel_s_own(target, info)
    said = subprocess.run(
        [sys.executable, "-c", DRGN, str(file), str(guest.symbols), str(cpu)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert said.returncode == 0, said.stderr
    comm, tasks, running, sleeping, command, log = said.stdout.splitlines()
    assert comm == "swapper/0"
    assert tasks == str(pids)
    assert running == str(frames)
    assert "'schedule', 'kthreadd'" in sleeping
    assert "/init" in command
    assert log == "True"
    shown = gdb(address=f"core:{file}").run(
        f"thread {cpu + 1}", "info registers rip", f"x/64xb {registers.sp:#x}"
    )
    assert f"{registers.pc:#x}" in shown[1]
    found = [int(each, 16) for each in re.findall(r"\t(0x[0-9a-f]{2})\b", shown[2])]
    assert bytes(found) == stack


def assert_is_the_kernel_s_own(target: rsp.Target, info: bytes) -> None:
    """Assert that VMCOREINFO is what the kernel has written, and what we make up a part of it."""
    size_at = target.symbols["vmcoreinfo_size"].address
    size = target.read_u64(size_at)
    assert info == target.read_memory(target.read_u64("vmcoreinfo_data"), size)
    target.write_memory(size_at, bytes(8))  # as while it starts: it has not written it yet
    made_up = vmcoreinfo(target.inferior, target.kernel, levels=4)
    target.write_memory(size_at, size.to_bytes(8, "little"))
    assert made_up.count(b"\n") >= 8
    assert set(made_up.splitlines()) <= set(info.splitlines())


def test_gdb_reads_a_32_bit_kernel(boot_kernel: BootKernel, gdb: type[Gdb], tmp_path: Path) -> None:
    guest = boot_kernel("i386", cpus=1, memory=64)
    file = tmp_path / "vmcore"
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        with target.breakpoint("vfs_read"):
            target.resume(timeout=240)
        write_core(target, file)
        frames = [frame.function for frame in target.backtrace() if not frame.inlined]
        banner = target.kernel.banner
    core = CoreFile(file)
    assert core.machine == "EM_386"
    assert min(each.address for each in core.segments if each.address) >= 0xC000_0000
    assert core.note("VMCOREINFO", 0)
    shown = gdb(address=f"core:{file}", symbols=guest.symbols).run("bt 6", "output linux_banner")
    found = re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\w+) \(", shown[0], re.MULTILINE)
    assert found[0] == frames[0] == "vfs_read"
    assert set(frames[:2]) <= set(found)
    assert banner[:40] in shown[1]
