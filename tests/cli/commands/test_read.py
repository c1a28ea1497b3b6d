"""``rsp read -o FILE`` that is cut off: it says what the file has, and so it is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from lab.command import COMMAND, run
from lab.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from lab.held import HeldLine
    from rsp.testing.qemu import QemuMachine

LENGTH = 64 << 20
ARGUMENTS = ("0", "64M", "--leave-stopped", "--timeout", "30")


def assert_partial(said: str, file: Path) -> None:
    """Assert that it is said how many bytes the file has."""
    found = re.search(r"is partial: it has the first (\d+) of (\d+) bytes", said)
    assert found is not None, said
    assert (int(found[1]), int(found[2])) == (file.stat().st_size, LENGTH)
    assert 0 < file.stat().st_size < LENGTH


def begin(line: HeldLine, file: Path) -> Terminal:
    """Begin to read into a file, and hold it up somewhere."""
    terminal = Terminal("read", line.address, *ARGUMENTS, "-o", str(file), columns=400)
    line.release()
    while not file.exists() or not file.stat().st_size:
        time.sleep(0.01)
    line.hold()
    return terminal


def test_ctrl_c(line: HeldLine, tmp_path: Path) -> None:
    file = tmp_path / "memory"
    with begin(line, file) as terminal:
        terminal.wait_for(lambda: "reading [" in terminal.text)
        terminal.type("\x03")
        terminal.wait_for(lambda: "^C" in terminal.text)
        line.release()
        assert terminal.finish() == 130
        said = terminal.lines[-1]
    assert f"rsp: interrupted; {file} is partial" in said
    assert_partial(said, file)


def test_a_stub_that_goes_away(machine: QemuMachine, line: HeldLine, tmp_path: Path) -> None:
    file = tmp_path / "memory"
    with begin(line, file) as terminal:
        os.kill(machine.pid, signal.SIGKILL)
        line.release()
        assert terminal.finish() == 1
        said = terminal.lines[-1]
    assert said.startswith("rsp: error: ")
    assert_partial(said, file)


def test_a_file_that_may_have_no_more(machine: QemuMachine, tmp_path: Path) -> None:
    file = tmp_path / "memory"
    words = [*COMMAND, "read", machine.address, *ARGUMENTS, "-o", str(file)]
    limited = ["/bin/sh", "-c", 'ulimit -f 64 && exec "$@"', "sh", *words]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "File too large" in done.stderr
    assert_partial(done.stderr, file)


def test_a_full_disk(machine: QemuMachine) -> None:
    failed = run("read", machine.address, *ARGUMENTS, "-o", "/dev/full")
    failed.fails("No space left", "/dev/full is partial: it has the first 0 of")
