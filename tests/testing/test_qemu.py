"""The QEMU launcher, and the boot sector that it boots: what they are said to do, they do."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import serial

from lab.gdb import Gdb, parse_memory
from rsp.errors import TransportError
from rsp.testing.boot import ELF, IMAGE
from rsp.testing.boot.build import build
from rsp.testing.qemu import QemuMachine

if TYPE_CHECKING:
    from lab.servers import BootQemu

GREETING = b"16, 32, 64: here we are\0"

CS_16 = "07c0 00007c00 0000ffff 00009b00"
CS_32 = "0008 00000000 ffffffff 00cf9a00 DPL=0 CS32"
CS_64 = "0018 0000000000000000 ffffffff 00af9a00 DPL=0 CS64"
NUMBERED = {f"R{n}": n * 0x0101010101010101 for n in range(8, 16)}

# Label → its linear address, QEMU's words on CS there, CR0.PE, EFER.LMA, the marks left so far.
# EFER.LMA is what tells compatibility mode from protected mode, CR0.PE the two of 16 bit.
STATIONS = {
    "real_start": (0x7C00, "0000 00000000 0000ffff 00009b00", False, False, {}),
    "real_based": (0x7C05, CS_16, False, False, {}),
    "protected16": (0x7C51, CS_16, True, False, {"SI": 0x16161616}),
    "protected_start": (0x7C5F, CS_32, True, False, {"DI": 0x16321632}),
    "compat_start": (0x7CB3, CS_32, True, True, {"BP": 0x32323232}),
    "long_start": (0x7CC7, CS_64, True, True, {"BX": 0x32643264}),
    "tick": (0x7D12, CS_64, True, True, {"AX": 0x6464646464646464, "SP": 0x7BF8, **NUMBERED}),
}


def registers_of(machine: QemuMachine) -> dict[str, int]:
    """Read the plain numbers of the monitor's ``info registers``; EAX and RAX are both AX."""
    text = machine.monitor("info registers")
    found = re.findall(r"\b(?:[ER]([A-Z]{2})|(\w+)) *=([0-9a-f]{8,16})\b", text)
    return {general or name: int(value, 16) for general, name, value in found}


def counter_of(machine: QemuMachine) -> int:
    return int(machine.monitor("xp/gx 0x4000").split()[1], 16)


def wait_for_count(machine: QemuMachine, above: int = 0) -> None:
    deadline = time.monotonic() + 60
    while counter_of(machine) <= above:
        assert time.monotonic() < deadline, "the guest does not count"


def lives(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("label", STATIONS)
def test_the_boot_sector_passes_every_mode(boot_qemu: BootQemu, gdb: type[Gdb], label: str) -> None:
    address, code_segment, protection, long_mode, marks = STATIONS[label]
    machine = boot_qemu()
    # By name: the symbols of the ELF have to agree with the addresses above. gdb disconnects
    # without letting the machine go.
    gdb(address=machine.address, symbols=ELF).run(f"break *&{label}", "continue")
    registers = registers_of(machine)
    assert f"\nCS ={code_segment}" in machine.monitor("info registers")
    assert int(code_segment.split()[1], 16) + registers["IP"] == address
    assert bool(registers["CR0"] & 1) == protection
    assert bool(registers["EFER"] & 1 << 10) == long_mode
    assert marks.items() <= registers.items()


def test_the_boot_sector_maps_what_it_says(boot_qemu: BootQemu, gdb: type[Gdb]) -> None:
    _, _, low, high, unmapped, xmm0, backtrace = gdb(address=boot_qemu().address, symbols=ELF).run(
        "break tick",
        "continue",
        "x/24xb &greeting",
        "x/24xb (char *)&greeting + 0xffffffff80000000",
        "x/xb 0x200000",
        "output/x $xmm0.uint128",
        "bt",
    )
    assert parse_memory(low) == parse_memory(high) == GREETING
    assert "Cannot access memory" in unmapped
    assert int(xmm0, 16).to_bytes(16, "little") == GREETING[:16]
    assert re.fullmatch(r"#0 .* tick .*\n#1 .* long_start .*", backtrace)


def test_a_cpu_without_long_mode_stays_in_protected_mode(boot_qemu: BootQemu) -> None:
    machine = boot_qemu(binary="qemu-system-i386", stopped=False)
    wait_for_count(machine)
    text = machine.monitor("info registers")
    assert re.search(r"^EIP=00007c(bf|c5)", text, re.MULTILINE)
    assert f"\nCS ={CS_32}" in text


def test_a_stopped_machine_waits_at_the_reset_vector(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    assert machine.monitor("info status") == "VM status: paused (prelaunch)\n"
    assert registers_of(machine)["IP"] == 0xFFF0
    machine.monitor("cont")
    wait_for_count(machine)


def test_a_running_machine_counts(boot_qemu: BootQemu) -> None:
    machine = boot_qemu(stopped=False)
    wait_for_count(machine)
    wait_for_count(machine, above=counter_of(machine))


def test_two_machines_share_an_image_which_stays_as_it_is(
    boot_qemu: BootQemu, tmp_path: Path
) -> None:
    image = tmp_path / "a, name with commas,.img"
    image.write_bytes(IMAGE.read_bytes())
    for machine in [boot_qemu(image, stopped=False), boot_qemu(image, stopped=False)]:
        wait_for_count(machine)
    assert image.read_bytes() == IMAGE.read_bytes()


def answer_to_halt_reason(address: str) -> bytes:
    """Ask ``?`` and return the first bytes of the answer, without any code of the library."""
    request, length = b"$?#3f", 4
    if address.startswith("/dev/"):
        with serial.Serial(address, timeout=30) as line:
            line.write(request)
            return line.read(length)
    if address.startswith("unix:"):
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(address.removeprefix("unix:"))
    else:
        host, port = address.split(":")
        stream = socket.create_connection((host, int(port)))
    with stream:
        stream.settimeout(30)
        stream.sendall(request)
        data = b""
        while len(data) < length and (more := stream.recv(length - len(data))):
            data += more
        return data


@pytest.mark.parametrize("gdb_listens_on", ["unix", "tcp", "pty"])
def test_the_stub_answers_at_the_address(boot_qemu: BootQemu, gdb_listens_on: str) -> None:
    machine = boot_qemu(gdb=gdb_listens_on)
    assert answer_to_halt_reason(machine.address) == b"+$T0"


def test_close_ends_qemu_and_removes_its_files(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    path = Path(machine.address.removeprefix("unix:"))
    assert lives(machine.pid)
    assert path.is_socket()
    machine.close()
    machine.close()
    assert not lives(machine.pid)
    assert not path.parent.exists()
    with pytest.raises(TransportError, match="monitor"):
        machine.monitor("info status")


@pytest.mark.live("qemu-system-x86_64")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"args": ["-machine", "nonesuch"]}, "unsupported machine type"),
        ({"image": "/nonexistent.img"}, "No such file or directory"),
        ({"memory": "-1"}, "qemu-system-x86_64: "),
    ],
)
def test_a_start_that_fails_says_why(options: dict[str, object], said: str) -> None:
    with pytest.raises(TransportError, match=said) as caught:
        QemuMachine(**options)  # type: ignore[arg-type] # a table of keyword arguments
    assert caught.value.address == "qemu-system-x86_64"


def test_a_program_that_is_not_there_says_what_to_install() -> None:
    with pytest.raises(TransportError, match="apt-get install qemu-system-x86"):
        QemuMachine(binary="/nonexistent/qemu")


def test_a_program_that_is_not_qemu_is_told() -> None:
    with pytest.raises(TransportError, match="did not start"):
        QemuMachine(binary="true")


@pytest.mark.live("qemu-system-x86_64", "setpriv")
def test_a_killed_run_leaves_no_machine() -> None:
    script = (
        "import time; from rsp.testing.qemu import QemuMachine\n"
        "with QemuMachine() as machine: print(machine.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert lives(pid)
        os.kill(run.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while lives(pid):
        assert time.monotonic() < deadline, "QEMU outlived the run that started it"
        time.sleep(0.01)


@pytest.mark.live("gcc", "objcopy", "readelf", "nm")
def test_the_bundled_files_are_what_the_source_gives(tmp_path: Path) -> None:
    elf, image = build(tmp_path)
    assert image.read_bytes() == IMAGE.read_bytes()
    # Another assembler may lay the file out in another way; what it says must be the same.
    for question in (["nm", "-nS"], ["readelf", "--wide", "--debug-dump=decodedline"]):
        rebuilt, bundled = (
            subprocess.run([*question, file], check=True, capture_output=True).stdout
            for file in (elf, ELF)
        )
        assert rebuilt == bundled


def test_the_bundled_image_is_a_boot_sector() -> None:
    assert len(IMAGE.read_bytes()) == 512
    assert IMAGE.read_bytes()[-2:] == b"\x55\xaa"


@pytest.mark.live("readelf")
def test_the_bundled_elf_names_no_path_of_the_machine_it_was_built_on() -> None:
    tables = [f"--string-dump={name}" for name in (".debug_str", ".debug_line_str", ".strtab")]
    dump = subprocess.run(["readelf", *tables, ELF], check=True, capture_output=True, text=True)
    strings = re.findall(r"^ *\[ *[0-9a-f]+\] +(.*)$", dump.stdout, re.MULTILINE)
    assert "boot.S" in strings
    assert {string for string in strings if "/" in string} == {"rsp/testing/boot"}
