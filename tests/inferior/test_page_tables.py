"""The page walk beside QEMU's own: of Linux, of the boot sector's modes, of tables of noise.

QEMU's monitor has two oracles: ``info tlb``, all pages that are mapped with the bits of their
entries, and ``gva2gpa``, the physical address of one.
"""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

import rsp
from lab.boot import LABELS, MAPPED, STATIONS
from rsp import MemoryFault
from rsp.errors import UnsupportedCommand
from rsp.inferior.page_tables import PageTables
from rsp.testing.personalities import PLAIN
from rsp.testing.serve import connected
from rsp.testing.stub import Stub

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lab.guest import BootKernel, Guest, KernelName
    from lab.servers import BootQemu
    from rsp.arch.paging import Translation
    from rsp.testing.qemu import QemuMachine

PAGE = 4096
SAMPLE = 150

# The letters of `info tlb` (QEMU monitor/hmp, target/i386/monitor.c: print_pte), as we have them.
LETTERS = {
    "X": "no_execute",
    "G": "global_",
    "D": "dirty",
    "A": "accessed",
    "C": "cache_disable",
    "T": "write_through",
    "U": "user",
    "W": "writable",
}

Tlb = dict[int, tuple[int, str]]


def tlb_of(machine: Guest | QemuMachine) -> Tlb:
    """Return the pages that are mapped: linear address → physical address and bits."""
    lines = re.findall(
        r"^([0-9a-f]{16}): ([0-9a-f]{16}) (\S+)", machine.monitor("info tlb"), re.MULTILINE
    )
    return {int(linear, 16): (int(physical, 16), bits) for linear, physical, bits in lines}


def gva2gpa(machine: Guest | QemuMachine, address: int) -> int | None:
    said = machine.monitor(f"gva2gpa {address:#x}")
    return None if "Unmapped" in said else int(said.removeprefix("gpa: "), 16)


def translated(tables: PageTables, address: int) -> int | None:
    try:
        return tables.translate(address).physical
    except MemoryFault:
        return None


def bits_of(found: Translation) -> str:
    """Return what `info tlb` has of the entry that maps a page."""
    entry = found.entries[-1]
    shown = [letter if getattr(entry, name) else "-" for letter, name in LETTERS.items()]
    shown.insert(2, "P" if found.page_size > PAGE else "-")
    return "".join(shown)


def sample(addresses: Iterable[int], seed: int) -> list[int]:
    """Return some pages and an address in each; the same ones every time."""
    chosen = random.Random(seed)
    known = sorted(addresses)
    pages = chosen.sample(known, min(SAMPLE, len(known)))
    return [page + chosen.randrange(PAGE - 16) for page in pages]


def keep_in_user_mode(guest: Guest, cpus: int) -> None:
    """Give every CPU a program that never calls the kernel."""
    for _ in range(cpus):
        guest.start("while :; do :; done")
    guest.run("true")  # they have begun


def in_user_mode(target: rsp.Target) -> None:
    """Let the target run until a CPU is stopped in user mode, and select that."""
    for _ in range(200):
        for thread in target.threads:
            if (thread.registers["cs"] or 0) & 3 == 3:
                target.select(thread)
                return
        target.resume(wait=False)
        time.sleep(0.02)
        target.interrupt()
    pytest.fail("no CPU was in user mode at any of 200 stops")


# --- Linux ---


@pytest.mark.parametrize(
    ("name", "options", "paging"),
    [
        ("debian", {}, "4-level paging"),
        ("debian", {"append": "pti=on", "cpu": "qemu64,+la57"}, "5-level paging"),
        ("i386", {}, "32-bit paging"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_pages_of_linux_are_qemus(
    boot_kernel: BootKernel, name: KernelName, options: dict[str, Any], paging: str
) -> None:
    guest = boot_kernel(name, cpus=1, **options)  # the monitor's answers are of the first
    keep_in_user_mode(guest, 1)
    with rsp.connect(guest.address, timeout=30) as target:
        in_user_mode(target)
        tables, tlb = PageTables(target.inferior), tlb_of(guest)
        assert tables.paging.name == paging
        half = 0xC0000000 if name == "i386" else 1 << 63
        users = sample((page for page in tlb if page < half), 1)
        kernels = sample((page for page in tlb if page >= half), 2)
        assert min(len(users), len(kernels)) > 10
        for address in (*users, *kernels):
            found = tables.translate(address)
            physical, bits = tlb[address - address % found.page_size]
            assert found.physical == physical + address % found.page_size, f"{address:#x}"
            assert bits_of(found) == bits, f"{address:#x}"
        for address in sample((page for page, (_, bits) in tlb.items() if "C" not in bits), 3)[:40]:
            assert tables.read(address, 16) == target.read_memory(address, 16), f"{address:#x}"
        chosen = [page ^ 1 << bit for page in sample(tlb, 4)[:10] for bit in range(12, 64, 3)]
        for address in chosen:
            if address < 1 << 32 or name != "i386":
                assert translated(tables, address) == gva2gpa(guest, address), f"{address:#x}"


def test_the_kernel_is_read_from_user_mode_though_its_page_tables_are_hidden(
    boot_kernel: BootKernel,
) -> None:
    guest = boot_kernel("debian", append="pti=on")
    symbols = "grep -E ' (linux_banner|entry_SYSCALL_64|_text)$' /proc/kallsyms"
    at = {line.split()[2]: int(line.split()[0], 16) for line in guest.run(symbols).splitlines()}
    for _ in range(2):
        keep_in_user_mode(guest, 1)
    with rsp.connect(guest.address, timeout=30) as target:
        in_user_mode(target)
        cr3 = target.registers["cr3"]
        assert cr3 is not None
        assert cr3 & PAGE
        kernels = cr3 & ~(2 * PAGE - 1)
        pc = target.registers.pc

        with pytest.raises(MemoryFault) as hidden:
            target.read_memory(at["linux_banner"], 16)
        assert hidden.value.address == at["linux_banner"]
        with pytest.raises(MemoryFault, match="is not mapped: in the page ") as walked:
            target.virtual_to_physical(at["linux_banner"])
        assert walked.value.address == at["linux_banner"]
        banner = PageTables(target.inferior, kernels).read(at["linux_banner"], 64)
        assert banner.startswith(b"Linux version ")

        # Both halves have the way in from user mode, and the program, which one
        # of them cannot execute.
        way_in = [target.virtual_to_physical(at["entry_SYSCALL_64"], r) for r in (None, kernels)]
        assert way_in[0].physical == way_in[1].physical
        users, program = (target.virtual_to_physical(pc, root) for root in (None, kernels))
        assert users.physical == program.physical
        assert (users.user, users.executable, program.executable) == (True, True, False)


def test_a_walk_switches_to_physical_memory_once(boot_kernel: BootKernel, tmp_path: Path) -> None:
    guest, log = boot_kernel("x86_64", cpus=1), tmp_path / "log"

    def sent() -> list[str]:
        lines = (line for line in log.read_text().splitlines() if line.startswith("w "))
        return re.findall(r"\$(Qqemu[^#]*|m[0-9a-f]+|M)[#,]", "".join(lines))

    on, off = "Qqemu.PhyMemMode:1", "Qqemu.PhyMemMode:0"
    with rsp.connect(guest.address, timeout=30, record=log) as target:
        regs = target.registers
        address = regs.sp
        before = len(sent())
        target.virtual_to_physical(address)
        walk = sent()[before:]
        assert [walk[0], walk[-1]] == [on, off]
        assert 2 <= len(walk[1:-1]) <= 4
        tables = PageTables(target.inferior)
        before = len(sent())
        data = tables.read(address & ~(PAGE - 1), 16)
        read = sent()[before:]
        # What it read of the tables is kept, and what it read of memory is not in the way.
        assert read.count(on) == read.count(off) == 1
        assert len(read) == len(walk) + 1
        before = len(sent())
        tables.translate(address)
        assert sent()[before:] == [on, off]
        assert target.read_memory(address & ~(PAGE - 1), 16) == data
        with target.physical_memory():
            with pytest.raises(rsp.LocalProtocolError, match="addresses are physical here"):
                target.read_memory(address, 1)
            with pytest.raises(rsp.LocalProtocolError, match="addresses are physical here"):
                target.write_memory(address, b"")
        with pytest.raises(ZeroDivisionError), target.physical_memory():
            raise ZeroDivisionError
        assert sent()[-1] == off
        assert target.read_memory(address & ~(PAGE - 1), 16) == data


def test_a_read_over_a_hole_tells_what_is_before_it(boot_kernel: BootKernel) -> None:
    guest = boot_kernel("x86_64", cpus=1)
    with rsp.connect(guest.address, timeout=30) as target:
        tlb = tlb_of(guest)
        tables = PageTables(target.inferior)
        ends = [page + PAGE for page in tlb if page > 1 << 63 and "P" not in tlb[page][1]]
        end = next(address for address in ends if address not in tlb)
        with pytest.raises(MemoryFault) as fault:
            tables.read(end - PAGE - 100, PAGE + 200)
        assert fault.value.address == end
        assert fault.value.partial[-PAGE:] == target.read_memory(end - PAGE, PAGE)


# --- every mode ---


@pytest.mark.parametrize("binary", STATIONS)
def test_the_boot_sector_on_its_way(boot_qemu: BootQemu, binary: str) -> None:
    machine = boot_qemu(binary=binary)
    with rsp.connect(machine.address, timeout=30) as target:
        for label, mode in STATIONS[binary].items():
            target.until(LABELS[label], timeout=240)
            tables = PageTables(target.inferior)
            chosen = [0, 0x7C00, MAPPED - 1, MAPPED, 0xFFFFFFF0]
            assert [translated(tables, each) for each in chosen] == [
                gva2gpa(machine, each) for each in chosen
            ], mode
            assert target.virtual_to_physical(LABELS[label]).physical == LABELS[label]


TABLES, COUNT = 1 << 20, 64
PG_PE, PSE, PAE, LA57, LME_NXE = 0x80000011, 0x10, 0x20, 0x1000, 0x900


@pytest.mark.parametrize(
    ("name", "cr4", "efer", "size", "width"),
    [
        ("32-bit paging", 0, 0, 4, 32),
        ("32-bit paging", PSE, 0, 4, 32),
        ("PAE paging", PAE, 0, 8, 32),
        ("PAE paging", PAE | PSE, 0x800, 8, 32),
        ("4-level paging", PAE, LME_NXE, 8, 48),
        ("5-level paging", PAE | LA57, LME_NXE, 8, 57),
    ],
)
def test_tables_of_noise(
    boot_qemu: BootQemu, name: str, cr4: int, efer: int, size: int, width: int
) -> None:
    machine = boot_qemu(None, args=("-cpu", "max"))
    noise = random.Random(cr4)

    def entry() -> int:
        # Nearly always present, now and then a page, and any of the other bits.
        flags = noise.getrandbits(12) & ~0x81 | (noise.random() < 0.9)
        flags |= (noise.random() < 0.2) << 7
        return TABLES + noise.randrange(COUNT) * PAGE | flags

    content = b"".join(entry().to_bytes(size, "little") for _ in range(COUNT * PAGE // size))
    with rsp.connect(machine.address, timeout=30) as target:
        target.write_memory(TABLES, content, physical=True)
        for register, value in (("cr3", TABLES), ("cr4", cr4), ("efer", efer), ("cr0", PG_PE)):
            target.write_register(register, value)
        tables = PageTables(target.inferior)
        assert tables.paging.name == name
        found: list[int | None] = []
        for _ in range(300):
            low = noise.getrandbits(width - (width > 32))
            address = low if width == 32 or noise.random() < 0.5 else (1 << 64) - 1 - low
            found.append(translated(tables, address))
            assert found[-1] == gva2gpa(machine, address), f"{address:#x}"
        assert 20 < found.count(None) < 280
        if width > 32:
            outside = noise.getrandbits(width - 1) | 1 << width
            assert translated(tables, outside) is None is gva2gpa(machine, outside)


def test_a_stub_without_control_registers_says_so() -> None:
    refused = pytest.raises(UnsupportedCommand, match="no control registers")
    with connected(Stub(PLAIN, registers={"rip": 0x1000})) as target, refused:
        target.virtual_to_physical(0)
