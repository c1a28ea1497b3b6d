"""``rsp core``: what it says, and what it leaves when it is cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from lab.command import COMMAND, run
from lab.cores import CoreFile
from lab.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from lab.held import HeldLine
    from lab.servers import StartServer
    from rsp.testing.qemu import QemuMachine


def test_of_a_process(gdbserver: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "core"
    address = gdbserver()
    done = run("core", address, "-o", str(file))
    assert (done.status, done.out) == (0, "")
    assert done.err == f"{file}: a core of {file.stat().st_size} bytes\n"
    shown = run("core", address, "-o", str(file), "--json")  # the process is as it was
    assert shown.json == {"file": str(file), "size": file.stat().st_size}
    assert CoreFile(file).note("CORE", 1)


def test_what_cannot_be_written(gdbserver: StartServer, tmp_path: Path) -> None:
    address = gdbserver()
    run("core", address, "-o", str(tmp_path)).fails("is there and is no file")
    run("core", address, "-o", str(tmp_path / "none" / "core")).fails("No such file")
    assert run("core", address).status == 2
    assert list(tmp_path.iterdir()) == []


def begin(line: HeldLine, file: Path) -> Terminal:
    """Begin to write a core, and hold it up somewhere."""
    file.write_bytes(b"old")
    words = ("core", line.address, "-o", str(file), "--timeout", "30")
    terminal = Terminal(*words, columns=400)
    line.release()
    while not any(each.stat().st_size > 1 << 20 for each in file.parent.iterdir()):
        time.sleep(0.01)
    line.hold()
    return terminal


def assert_as_it_was(file: Path) -> None:
    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


def test_ctrl_c(machine: QemuMachine, line: HeldLine, tmp_path: Path) -> None:
    file = tmp_path / "core"
    with begin(line, file) as terminal:
        terminal.wait_for(lambda: "writing the core [" in terminal.text)
        terminal.type("\x03")
        terminal.wait_for(lambda: "^C" in terminal.text)
        line.release()
        assert terminal.finish() == 130
        said = terminal.lines[-1]
    assert f"rsp: interrupted; {file} is as it was" in said
    assert_as_it_was(file)
    # Addresses are linear again, at which the firmware begins.
    assert "VM status: paused" in machine.monitor("info status")
    assert run("read", machine.address, "0xfffffff0", "1").out.split()[1] == "ea"


def test_a_stub_that_goes_away(machine: QemuMachine, line: HeldLine, tmp_path: Path) -> None:
    file = tmp_path / "core"
    with begin(line, file) as terminal:
        os.kill(machine.pid, signal.SIGKILL)
        line.release()
        assert terminal.finish() == 1
        said = terminal.lines[-1]
    assert said.startswith("rsp: error: ")
    assert f"{file} is as it was" in said
    assert_as_it_was(file)


def test_a_full_disk(machine: QemuMachine, tmp_path: Path) -> None:
    file = tmp_path / "core"
    file.write_bytes(b"old")
    words = [*COMMAND, "core", machine.address, "-o", str(file)]
    limited = ["/bin/sh", "-c", 'ulimit -f 64 && exec "$@"', "sh", *words]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "File too large" in done.stderr
    assert_as_it_was(file)
