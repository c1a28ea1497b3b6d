"""The core of a process whose memory map nobody tells: what leads to its memory is followed.

valgrind tells none, nor does QEMU's user mode before 8.1; from then on the test is about its map.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.compare import registers_of
from lab.programs import build, symbols
from rsp.coredump import write_core

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.gdb import Gdb
    from lab.servers import StartServer

pytestmark = pytest.mark.live("nm")


def calls(backtrace: str) -> list[str]:
    """Return the functions of gdb's backtrace, or of ours."""
    return re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\S+) \(", backtrace, re.MULTILINE)


def assert_readable(target: rsp.Target, gdb: type[Gdb], file: Path) -> None:
    """Assert that gdb finds in the core what we find in the process: stacks, libraries, values."""
    target.until(symbols("subject.c")["vectors_filled"], timeout=240)
    write_core(target, file)
    program = build("subject.c")
    core = gdb(address=f"core:{file}", symbols=program, settings=(f"set sysroot {program.anchor}",))
    stacks, value, libraries, process = core.run(
        "thread apply all bt", "p greeting", "info sharedlibrary", "info proc"
    )
    found = [calls(stack) for stack in re.split(r"^Thread ", stacks, flags=re.MULTILINE)[1:]]
    assert calls(str(target.backtrace())) in found
    # Out of a system call in the C library, by its own tables.
    assert sum("wait_for_the_end" in stack for stack in found) == 2
    assert len(found) == len(target.threads) == 3
    assert value == '$1 = "hello from the subject"'
    assert re.search(r" Yes .*/libc\.so\.6", libraries)
    assert program.name in process
    shown, ours = registers_of(core), target.registers
    for name in ("rip", "rsp", "eflags", "fctrl", "xmm3", "fs_base"):
        if name in ours:
            assert shown[name] == ours[name], name


def test_under_valgrind(
    vgdb: StartServer, gdb: type[Gdb], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with rsp.connect(vgdb(), symbols=build("subject.c"), timeout=20) as target:
        assert_readable(target, gdb, tmp_path / "core")
    [record] = [each for each in caplog.records if each.name == "rsp.coredump"]
    assert "does not tell the memory map" in record.message


@pytest.mark.live("qemu-x86_64", "gcc")
def test_under_qemu_user(gdb: type[Gdb], tmp_path: Path) -> None:
    with emulated(tmp_path) as target:
        assert_readable(target, gdb, tmp_path / "core")


@contextlib.contextmanager
def emulated(directory: Path) -> Iterator[rsp.Target]:
    """Connect to the program under the emulator, as soon as that listens."""
    socket = directory / "gdb"
    process = subprocess.Popen(
        ["qemu-x86_64", "-g", socket, build("subject.c")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    with process:
        try:
            deadline = time.monotonic() + 120
            while not socket.exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            with rsp.connect(f"unix:{socket}", symbols=build("subject.c")) as target:
                yield target
        finally:
            process.kill()
