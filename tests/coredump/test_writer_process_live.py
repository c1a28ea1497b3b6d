"""The core of a process: gdb on it shows what gdb shows of the process itself.

The oracle is gdb at the same stop, live and by its own ``gcore``.
"""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.compare import registers_of
from lab.programs import build, symbols
from rsp import OnExit
from rsp.coredump import write_core

if TYPE_CHECKING:
    from pathlib import Path

    from lab.gdb import Gdb
    from lab.servers import StartServer

pytestmark = pytest.mark.live("nm")


def oracle(gdb: type[Gdb], address: str, source: str) -> Gdb:
    program = build(source)
    return gdb(address=address, symbols=program, settings=(f"set sysroot {program.anchor}",))


def stop_and_write(address: str, place: int, file: Path) -> list[int]:
    """Let a program run to a place, write its core, and leave it there; return its threads."""
    with rsp.connect(address, on_exit=OnExit.LEAVE_STOPPED) as target:
        target.until(place, timeout=240)
        write_core(target, file)
        return [thread.thread_id.thread for thread in target.threads]


def stacks(oracle: Gdb) -> list[str]:
    """Return the backtraces of all threads, without the headings, in the order of the text."""
    text = oracle.run("thread apply all bt")[0]
    return sorted(
        part.split("\n", 1)[1].strip()
        for part in re.split(r"^Thread ", text, flags=re.MULTILINE)[1:]
    )


@pytest.mark.parametrize(("source", "place"), [("subject.c", "visit"), ("subject32.S", "visit")])
def test_gdb_shows_the_same_as_live(
    source: str, place: str, gdbserver: StartServer, gdb: type[Gdb], tmp_path: Path
) -> None:
    address = gdbserver(source=source)
    file = tmp_path / "core"
    threads = stop_and_write(address, symbols(source)[place], file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600  # it has all that the process knows
    assert [each.name for each in tmp_path.iterdir()] == ["core"]
    live, ours = oracle(gdb, address, source), oracle(gdb, f"core:{file}", source)
    numbers = [
        int(number) for number in re.findall(r"LWP (\d+)\b", "\n".join(ours.run("info threads")))
    ]
    assert sorted(numbers) == sorted(threads)
    commands = ("bt", "x/64xb $sp", "x/8i $pc", "info float", "p watched", "info auxv")
    assert ours.run(*commands) == live.run(*commands)
    assert stacks(ours) == stacks(live)
    assert len(stacks(ours)) == len(threads)
    told, known = registers_of(ours), registers_of(live)
    # The bases of i386's segments and its TLS descriptors are in no note of a core.
    gone = {name for name in known if name not in told}
    assert all(name.startswith("i386_tls_gdt") for name in gone), gone
    assert {name: told[name] for name in told} == {name: known[name] for name in told}


def test_vectors_and_the_other_threads(
    gdbserver: StartServer, gdb: type[Gdb], tmp_path: Path
) -> None:
    """All registers of all threads are those of gdb's own gcore, the vectors too."""
    address = gdbserver()
    file, theirs = tmp_path / "core", tmp_path / "gcore"
    threads = stop_and_write(address, symbols("subject.c")["vectors_filled"], file)
    said = oracle(gdb, address, "subject.c").run(f"gcore {theirs}")
    assert theirs.is_file(), said
    for number in range(1, len(threads) + 1):
        before = (f"thread {number}",)
        shown = registers_of(oracle(gdb, f"core:{file}", "subject.c"), before=before)
        expected = registers_of(oracle(gdb, f"core:{theirs}", "subject.c"), before=before)
        assert shown == expected
        assert len(shown) > 100


def test_the_signal_and_its_address(gdbserver: StartServer, gdb: type[Gdb], tmp_path: Path) -> None:
    file = tmp_path / "core"
    with rsp.connect(gdbserver("unmapped", source="faults.c")) as target:
        assert target.resume(timeout=240).signal_name == "SIGSEGV"
        write_core(target, file)
        pc = target.registers.pc
    shown = oracle(gdb, f"core:{file}", "faults.c").run(
        "p $_siginfo.si_signo", "p $_siginfo._sifields._sigfault.si_addr", "p/x $pc", "info proc"
    )
    assert shown[0].endswith("= 11")
    assert shown[2].endswith(f"= {pc:#x}")
    assert "faults" in shown[3]  # its command line, by NT_PRPSINFO
    assert "unmapped" in shown[3]


def test_files_and_memory_are_as_the_kernel_says(
    gdbserver: StartServer, gdb: type[Gdb], tmp_path: Path
) -> None:
    address = gdbserver()
    file = tmp_path / "core"
    with rsp.connect(address) as target:
        target.until(symbols("subject.c")["visit"], timeout=240)
        assert target.thread is not None
        process = target.thread.thread_id.process
        write_core(target, file)
        maps = _maps(process)
        said = oracle(gdb, f"core:{file}", "subject.c").run(
            "info proc mappings", "maintenance info sections"
        )
        files = {
            (int(begin, 16), int(end, 16))
            for begin, end in re.findall(r"^ *(0x\S+) +(0x\S+) .*/", said[0], re.MULTILINE)
        }
        assert files == {(begin, end) for begin, end, _, path in maps if path.startswith("/")}
        # Everything that can be read is in the core, byte for byte.
        image = file.read_bytes()
        loads = _loads(image)
        assert {(at, at + size) for at, size, _, _ in loads} == {
            (begin, end) for begin, end, _, _ in maps
        }
        kept = 0
        for at, size, place, in_file in loads:
            if in_file:
                assert in_file == size
                assert target.read_memory(at, size) == image[place : place + size]
                kept += 1
        readable = [each for each in maps if "r" in each[2] and not each[3].startswith("[vvar")]
        assert kept == len(readable)


def _maps(process: int | None) -> list[tuple[int, int, str, str]]:
    from pathlib import Path

    found = []
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        span, permissions, _, _, _, *path = line.split(None, 5)
        begin, end = span.split("-")
        found.append((int(begin, 16), int(end, 16), permissions, path[0] if path else ""))
    return found


def _loads(image: bytes) -> list[tuple[int, int, int, int]]:
    """Return address, size, offset and size in the file of each PT_LOAD of a 64-bit core."""
    import struct

    (count,) = struct.unpack_from("<H", image, 56)
    headers = [struct.unpack_from("<IIQQQQQQ", image, 64 + 56 * n) for n in range(count)]
    return [(each[3], each[6], each[2], each[5]) for each in headers if each[0] == 1]


def test_memory_behind_the_end_of_a_file(
    gdbserver: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is mapped, and cannot be read: the core says that it has none of it, and so do we."""
    file = tmp_path / "core"
    with rsp.connect(gdbserver("beyond", source="faults.c")) as target:
        stop = target.resume(timeout=240)
        assert stop.siginfo is not None
        assert stop.siginfo.address is not None
        page = stop.siginfo.address & -4096
        write_core(target, file)
    [(size, kept)] = [
        (size, kept) for address, size, _, kept in _loads(file.read_bytes()) if address == page
    ]
    assert (size, kept) == (4096, 0)
    [record] = [each for each in caplog.records if each.name == "rsp.coredump"]
    assert f"{page:#x}" in record.message
