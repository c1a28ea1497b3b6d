"""The tables against real stubs, with gdb, binutils and QEMU's monitor as the oracles.

QEMU is driven into every CPU mode from the stub alone: the GDT and the page tables are written
to memory (at reset the base of the GDT is 0), and then the control registers and CS.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lab.gdb import batch
from rsp.arch import constructs
from rsp.arch.descriptors import page_entry, segment_descriptor
from rsp.arch.flags import Cr0, EFlags, Mxcsr
from rsp.arch.layout import Register, RegisterLayout
from rsp.arch.layouts import LAYOUTS
from rsp.arch.modes import CpuMode, CpuState, infer_mode, linear_pc, parse_info_registers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BY_NAME = {layout.name: layout for layout in LAYOUTS}
QEMU_LAYOUTS = {
    "qemu-system-x86_64": BY_NAME["qemu-x86-64"],
    "qemu-system-i386": BY_NAME["qemu-i386"],
}


class Link:
    """Just enough of the protocol to ask a well-behaved stub; the real one is tested elsewhere."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = b""

    def ask(self, request: str) -> str:
        data = request.encode()
        self._socket.sendall(b"$%b#%02x" % (data, sum(data) & 0xFF))
        return self._packet()

    def _packet(self) -> str:
        while not (found := re.search(rb"\$([^#]*)#..", self._buffer)):
            received = self._socket.recv(1 << 16)
            assert received, "the stub closed the connection"
            self._buffer += received
        self._buffer = self._buffer[found.end() :]
        self._socket.sendall(b"+")
        return found[1].decode("latin-1")

    def monitor(self, command: str) -> str:
        text = ""
        reply = self.ask(f"qRcmd,{command.encode().hex()}")
        while reply != "OK":
            assert reply[0] == "O"
            text += bytes.fromhex(reply[1:]).decode()
            reply = self._packet()
        return text

    def write_memory(self, address: int, data: bytes) -> None:
        assert self.ask(f"M{address:x},{len(data):x}:{data.hex()}") == "OK"


class Machine:
    """A QEMU at reset, of which registers are read with our tables."""

    def __init__(self, link: Link, layout: RegisterLayout) -> None:
        self.link = link
        self._layout = layout

    def write(self, name: str, value: int) -> None:
        register = self._layout[name]
        assert isinstance(register, Register)
        data = self._layout.to_bytes(name, value).hex()
        assert self.link.ask(f"P{register.number:x}={data}") == "OK"

    def values(self) -> dict[str, int | None]:
        return self._layout.decode(bytes.fromhex(self.link.ask("g")))

    def state(self) -> CpuState:
        return parse_info_registers(self.link.monitor("info registers"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)


def connect(port: int, process: subprocess.Popen[str]) -> socket.socket:
    deadline = time.monotonic() + 120
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        except ConnectionRefusedError:
            assert process.poll() is None, "the stub ended by itself"
            assert time.monotonic() < deadline, "the stub does not listen"
            time.sleep(0.05)


@contextmanager
def qemu(program: str) -> Iterator[int]:
    port = free_port()
    arguments = ("-S", "-display", "none", "-nodefaults", "-gdb", f"tcp:127.0.0.1:{port}")
    with started(program, *arguments) as process:
        connect(port, process).close()
        yield port


@pytest.fixture(params=QEMU_LAYOUTS)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with qemu(request.param) as port, socket.create_connection(("127.0.0.1", port), 10) as link:
        machine = Machine(Link(link), QEMU_LAYOUTS[request.param])
        machine.link.ask("qSupported")
        machine.link.ask("qXfer:features:read:target.xml:0,ffb")  # before it P answers nothing
        yield machine


def gdb(port: int, *commands: str) -> str:
    return subprocess.run(
        batch(f"target remote 127.0.0.1:{port}", *commands),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout


def check_against_gdb(layout: RegisterLayout, output: str) -> None:
    """Compare number, place, width and value of each register with gdb's own."""
    packet = re.search(r'^received: "([0-9a-fx]+)"', output, re.MULTILINE)
    assert packet
    digits = packet[1]
    unavailable = bytes(digits[i] == "x" for i in range(0, len(digits), 2))
    values = layout.decode(bytes.fromhex(digits.replace("x", "0")), unavailable)
    places = dict[str, tuple[int, int, int]]()
    raw = dict[str, str]()
    for line in output.splitlines():
        match line.split():
            case [name, _, _, _, size, _, number, offset] if offset.isdecimal():
                places[name] = (int(number), int(offset), int(size))
            case [name, _, _, _, _, _, value] if value.startswith(("0x", "<")):
                raw[name] = value
    assert places == {r.name: (r.number, r.offset, r.size) for r in layout.registers}
    bits = {register.name: register.bits for register in layout.registers}
    shown = {
        name: f"0x{value:0{bits[name] // 4}x}" if value is not None else "<unavailable>"
        for name, value in values.items()
    }
    assert {name: raw[name] for name in values} == shown


GDB_TABLES = ("maint packet g", "maint print remote-registers", "maint print raw-registers")


@pytest.mark.live("gdb", *QEMU_LAYOUTS)
@pytest.mark.parametrize("program", QEMU_LAYOUTS)
def test_qemu_registers_are_what_gdb_shows(program: str) -> None:
    layout = QEMU_LAYOUTS[program]
    integers = ["eflags", *(r.name for r in layout.registers if r.size in (4, 8))][:10]
    changes = [f"set ${name} = {n * 0x1020304 + 2}" for n, name in enumerate(integers)]
    with qemu(program) as port:
        output = gdb(
            port,
            *changes,
            "set $xmm3.v2_int64[0] = 0x1122334455667788",
            "set $xmm3.v2_int64[1] = 0x0102030405060708",
            "set $st1 = 1.5",
            *GDB_TABLES,
            "info registers eflags cr0 mxcsr",
        )
    check_against_gdb(layout, output)
    for kind, name in ((EFlags, "eflags"), (Cr0, "cr0"), (Mxcsr, "mxcsr")):
        shown = re.search(rf"^{name} +0x([0-9a-f]+) +(\[.*\])$", output, re.MULTILINE)
        assert shown
        assert str(kind(int(shown[1], 16))) == shown[2].replace("IOPL=0 ", "")


SPIN = "void _start(void) { for (;;); }"


@pytest.mark.live("gdb", "gdbserver", "gcc")
@pytest.mark.parametrize("bits", [32, 64])
def test_gdbserver_registers_are_what_gdb_shows(bits: int, tmp_path: Path) -> None:
    source = tmp_path / "spin.c"
    source.write_text(SPIN)
    program = tmp_path / "spin"
    subprocess.run(
        ["gcc", f"-m{bits}", "-nostdlib", "-static", "-o", program, source],
        check=True,
    )
    port = free_port()
    accumulator = "rax" if bits == 64 else "eax"
    with started("gdbserver", "--once", f"127.0.0.1:{port}", str(program)) as process:
        assert process.stderr is not None
        while "Listening" not in process.stderr.readline():
            assert process.poll() is None
        output = gdb(
            port,
            f"set ${accumulator} = 0x11223344",
            "set $ah = 0x55",
            "set $st0 = -2.5",
            "set $xmm7.v2_int64[1] = 0x0102030405060708",
            "set $ymm2.v4_int64[3] = 0x1112131415161718" if "avx" in cpu_flags() else "",
            *GDB_TABLES,
            "kill",
        )
    sizes = {layout.size: layout for layout in LAYOUTS if layout.name.startswith("gdbserver-")}
    packet = re.search(r'^received: "([0-9a-fx]+)"', output, re.MULTILINE)
    assert packet
    check_against_gdb(sizes[len(packet[1]) // 2], output)


def cpu_flags() -> list[str]:
    with open("/proc/cpuinfo") as lines:  # noqa: PTH123 - a file of the kernel, not a path of ours
        return next(line for line in lines if line.startswith("flags")).split()


@pytest.mark.live("as", "readelf")
@pytest.mark.parametrize("width", ["32", "64"])
def test_dwarf_numbers_are_binutils_own(width: str, tmp_path: Path) -> None:
    """An assembler and a dumper that know the numbers: ``.cfi_undefined 17`` is xmm0."""
    arch = "i386" if width == "32" else "x86-64"
    renamed = {"fctrl": "fcw", "fstat": "fsw", "fs_base": "fs.base", "gs_base": "gs.base"}
    if width == "64":
        renamed["eflags"] = "rflags"
    ours = {
        register.dwarf: renamed.get(register.name, register.name)
        for layout in LAYOUTS
        if layout.arch == arch
        for register in layout.registers
        if register.dwarf is not None
    }
    source = tmp_path / "cfi.s"
    object_file = tmp_path / "cfi.o"
    undefined = "\n".join(f".cfi_undefined {number}" for number in sorted(ours))
    source.write_text(f".cfi_startproc\nnop\n{undefined}\n.cfi_endproc\n")
    subprocess.run(["as", f"--{width}", "-o", object_file, source], check=True)
    dump = subprocess.run(
        ["readelf", "-wf", object_file],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    theirs = {
        int(number): name
        for number, name in re.findall(r"DW_CFA_undefined: r(\d+) \(([^)]+)\)", dump)
    }
    assert theirs == ours


CODE_64, CODE_32, CODE_16, DATA = 0x08, 0x10, 0x18, 0x20
PAGE_TABLES = {0x1000: 0x2007, 0x2000: 0x3007, 0x3000: 0x83, 0x3008: 0x8000_0000_0020_01E3}


def descriptor(*, type_: int, long: bool, big: bool, pages: bool) -> bytes:
    return bytes(
        constructs.SEGMENT_DESCRIPTOR.build(
            {
                "base_high": 0,
                "base_low": 0x1000,
                "limit_high": 0xF,
                "limit_low": 0xFFFF,
                "granularity": pages,
                "default_big": big,
                "long": long,
                "available": False,
                "present": True,
                "dpl": 0,
                "code_or_data": True,
                "type": type_,
            }
        )
    )


GDT = {
    CODE_64: descriptor(type_=0xB, long=True, big=False, pages=True),
    CODE_32: descriptor(type_=0xB, long=False, big=True, pages=True),
    CODE_16: descriptor(type_=0xB, long=False, big=False, pages=False),
    DATA: descriptor(type_=0x3, long=False, big=True, pages=True),
}


def check_mode(machine: Machine, mode: CpuMode) -> CpuState:
    """The monitor says this mode, and the registers alone say it or nothing."""
    state = machine.state()
    assert state.mode is mode
    assert infer_mode(machine.values()) in {mode, CpuMode.UNKNOWN}
    if state.segments["cs"].selector in GDT:
        described = segment_descriptor(GDT[state.segments["cs"].selector])
        cached = state.segments["cs"]
        assert (cached.base, cached.limit) == (described.base, described.limit)
        assert bool(cached.attributes >> 21 & 1) == described.long
        assert bool(cached.attributes >> 22 & 1) == described.default_big
    return state


@pytest.mark.live(*QEMU_LAYOUTS)
def test_the_modes_of_a_booting_cpu(machine: Machine) -> None:
    reset = check_mode(machine, CpuMode.REAL16)
    assert infer_mode(machine.values()) is CpuMode.REAL16
    by_cs = linear_pc(reset.pc, reset.mode, cs=reset.segments["cs"].selector)
    assert by_cs == linear_pc(reset.pc, reset.mode, cs_base=reset.segments["cs"].base)
    for selector, entry in GDT.items():
        machine.link.write_memory(selector, entry)
    machine.write("cr0", Cr0.PE | Cr0.ET)
    check_mode(machine, CpuMode.PROTECTED16)  # CS is still the one of real mode
    machine.write("cs", CODE_32)
    check_mode(machine, CpuMode.PROTECTED32)
    machine.write("cs", CODE_16)
    check_mode(machine, CpuMode.PROTECTED16)
    if "r8" not in machine.values():
        return
    for address, page in PAGE_TABLES.items():
        machine.link.write_memory(address, page.to_bytes(8, "little"))
    machine.write("cs", CODE_32)
    machine.write("cr4", 0x20)
    machine.write("cr3", 0x1000)
    machine.write("efer", 0x900)
    machine.write("cr0", Cr0.PG | Cr0.PE | Cr0.ET)
    check_mode(machine, CpuMode.COMPAT32)
    machine.write("cs", CODE_16)
    check_mode(machine, CpuMode.COMPAT32)
    machine.write("cs", CODE_64)
    check_mode(machine, CpuMode.LONG64)
    machine.write("r15", 1)
    assert infer_mode(machine.values()) is CpuMode.LONG64
    check_pages(machine.link.monitor("info tlb"))


def check_pages(tlb: str) -> None:
    """QEMU's own walk of the tables: ``address: physical NGPDACTUW`` of each page."""
    directory = {
        index << 21: page_entry(PAGE_TABLES[0x3000 + index * 8].to_bytes(8, "little"), level=2)
        for index in range(2)
    }
    ours = [
        f"{linear:016x}: {entry.address:016x} "
        + "".join(
            letter if bit else "-"
            for letter, bit in (
                ("X", entry.no_execute),
                ("G", entry.global_),
                ("P", entry.size == 1 << 21),
                ("D", entry.dirty),
                ("A", entry.accessed),
                ("C", entry.cache_disable),
                ("T", entry.write_through),
                ("U", entry.user),
                ("W", entry.writable),
            )
        )
        for linear, entry in directory.items()
    ]
    assert tlb.split("\n")[:-1] == ours or tlb.splitlines() == ours


@pytest.mark.live(*QEMU_LAYOUTS)
def test_a_gate_leads_where_we_say(machine: Machine) -> None:
    """``int $0x40`` in 32-bit protected mode: the CPU reads the gate that we have written."""
    for selector, entry in GDT.items():
        machine.link.write_memory(selector, entry)
    entry = constructs.GATE_32.build(
        {
            "offset_high": 0x0002,
            "offset_low": 0x3456,
            "present": True,
            "dpl": 0,
            "type": 0xE,
            "selector": CODE_32,
        }
    )
    machine.link.write_memory(0x40 * 8, entry)
    machine.link.write_memory(0x1000 + 0x8000, b"\xcd\x40")
    machine.write("cr0", Cr0.PE | Cr0.ET)
    machine.write("cs", CODE_32)
    machine.write("ss", DATA)
    pointers = ("rip", "rsp") if "rip" in machine.values() else ("eip", "esp")
    machine.write(pointers[0], 0x8000)
    machine.write(pointers[1], 0x7000)
    assert machine.link.ask("s")[0] == "T"
    assert machine.values()[pointers[0]] == 0x23456
