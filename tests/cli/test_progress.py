"""The line that says what takes long: what is on the screen of terminals of several widths."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.command import run
from lab.held import HeldLine
from lab.terminal import Terminal
from rsp.cli.progress import Progress
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.kernels import DebianKernel
    from lab.servers import BootQemu

STAY = ("--leave-stopped", "--timeout", "60")
WIDTHS = [80, 40, 20, 8]


class Watched:
    """A terminal on which the line is looked at whenever something comes."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.seen: list[str] = []

    def wait_for(self, seen: Callable[[str], bool]) -> None:
        """Wait until the line is as it is to be; there is never another one."""

        def look() -> bool:
            lines = self.terminal.lines
            assert len(lines) <= 1, lines
            assert self.terminal.screen.cursor.y == 0
            self.seen += lines
            return bool(lines) and seen(lines[0])

        self.terminal.wait_for(look)


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_first_index_fits_the_terminal(
    debian_kernel: DebianKernel, tmp_path: Path, columns: int
) -> None:
    vmlinux = str(debian_kernel.vmlinux)
    fresh = {"XDG_CACHE_HOME": str(tmp_path)}
    with Terminal("locations", vmlinux, "schedule", columns=columns, env=fresh) as terminal:
        watched = Watched(terminal)
        watched.wait_for(lambda line: re.search(r"[1-9]\d %", line) is not None)
        bar = watched.seen[-1]
        match columns:
            case 80:
                form = r"indexing the symbols \[#* *\]  \d\d %, [\d.]+ of [\d.]+ MiB, [\d.]+ MiB/s"
                assert re.fullmatch(form, bar)
            case 40:
                assert re.fullmatch(r"indexing the symbols \[#* *\]  \d\d %", bar)
            case 20:
                assert re.fullmatch(r"\[#* *\]  \d\d %", bar)
            case _:
                assert re.fullmatch(r" *\d\d %", bar)
        assert terminal.finish() == 0
        # The answer is all that is left.
        assert terminal.text.replace("\n", "") == run("locations", vmlinux, "schedule").out.strip()


def test_a_terminal_that_becomes_narrower(debian_kernel: DebianKernel, tmp_path: Path) -> None:
    vmlinux = str(debian_kernel.vmlinux)
    fresh = {"XDG_CACHE_HOME": str(tmp_path)}
    with Terminal("locations", vmlinux, "schedule", columns=80, env=fresh) as terminal:
        watched = Watched(terminal)
        watched.wait_for(lambda line: "%" in line)
        terminal.resize(20)
        # Until it is seen, lines for the old width may be on their way.
        watched.wait_for(lambda line: line.startswith("["))
        terminal.narrow(20)
        watched.wait_for(lambda line: re.fullmatch(r"\[#* *\] +\d+ %", line) is not None)
        assert terminal.finish() == 0


COMMANDS = [
    ("info",),
    ("regs",),
    ("regs", "--json"),
    ("bt",),
    ("read", "0xfffffff0", "16"),
    ("read", "0xfffffff0", "16", "--json"),
    ("write", "0x7c00", "90"),
    ("print", "(int)1"),
    ("disas", "0xfffffff0", "--count", "1"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("columns", WIDTHS[1:3])
def test_a_target_that_takes_its_time(
    boot_qemu: BootQemu, words: tuple[str, ...], columns: int
) -> None:
    machine = boot_qemu()
    command, *more = words
    options = [*more, "--symbols", str(ELF), *STAY]
    with (
        HeldLine(machine.address) as line,
        Terminal(command, line.address, *options, columns=columns, rows=200) as terminal,
    ):
        watched = Watched(terminal)
        watched.wait_for(lambda said: re.search(r"\d s$", said) is not None)
        assert re.fullmatch(r"asking the.* \d+ s", watched.seen[-1])
        line.release()
        assert terminal.finish() == 0
        shown = terminal.text
    # Where the line was is what is printed, and nothing else; the terminal breaks its lines.
    assert "".join(shown.split()) == "".join(run(command, machine.address, *options).out.split())


def test_waiting_for_a_breakpoint(boot_qemu: BootQemu) -> None:
    arguments = ("break", boot_qemu().address, "no_long_mode", "--symbols", str(ELF))
    with Terminal(*arguments, "--timeout", "4", columns=80) as terminal:
        watched = Watched(terminal)
        watched.wait_for(lambda line: "of 4 s" in line)
        form = r"waiting until it is reached \[#* *\] \d s of 4 s"
        assert re.fullmatch(form, watched.seen[-1])
        assert terminal.finish() == 1
        assert terminal.lines[0].startswith("rsp: error: no_long_mode was not reached within 4 s")


def test_ctrl_c_wipes_the_line(boot_qemu: BootQemu) -> None:
    with (
        HeldLine(boot_qemu().address) as line,
        Terminal("info", line.address, *STAY) as terminal,
    ):
        Watched(terminal).wait_for(lambda said: said.startswith("asking the target"))
        terminal.type("\x03")
        # The terminal echoes it.
        terminal.wait_for(lambda: "^C" in terminal.text)
        line.release()
        assert terminal.finish() == 130, terminal.text
        assert terminal.text == ""


def test_a_file_gets_no_line(boot_qemu: BootQemu) -> None:
    with HeldLine(boot_qemu().address) as line:
        line.release()
        shown = run("read", line.address, "0", "8M", "--json", *STAY)
    assert (shown.status, shown.err) == (0, "")


def test_a_bar_while_a_file_is_written(boot_qemu: BootQemu, tmp_path: Path) -> None:
    file = tmp_path / "memory"
    with (
        HeldLine(boot_qemu(memory="128M").address) as line,
        Terminal("read", line.address, "0", "64M", "-o", str(file), *STAY) as terminal,
    ):
        watched = Watched(terminal)
        line.release()
        while not file.exists() or not file.stat().st_size:
            time.sleep(0.01)
        line.hold()
        watched.wait_for(lambda said: said.startswith("reading ["))
        assert re.fullmatch(
            r"reading \[#* *\] +\d+ %, [\d.]+ of 64.0 MiB, [\d.]+ MiB/s", watched.seen[-1]
        )
        line.release()
        assert terminal.finish() == 0
        assert terminal.text.replace("\n", "") == f"{64 << 20} bytes at 0x0 are in {file}"
    assert file.stat().st_size == 64 << 20


@given(
    st.integers(0, 200),
    st.floats(0, 1e6),
    st.integers(0, 1 << 40),
    st.none() | st.integers(1, 1 << 40),
    st.none() | st.floats(0.1, 1e6),
)
def test_what_is_said_fits(
    width: int, elapsed: float, done: int, total: int | None, limit: float | None
) -> None:
    progress = Progress("waiting for the breakpoint", total=total, limit=limit)
    progress.update(done)
    said = progress.text(width, elapsed)
    assert len(said) <= width
    assert said.isprintable()
    if width >= 12:
        assert said


@pytest.mark.parametrize(
    ("width", "said"),
    [
        (80, "reading the tasks, 12 s"),
        (23, "reading the tasks, 12 s"),
        (22, "reading the ta... 12 s"),
        (12, "read... 12 s"),
        (11, "12 s"),
        (4, "12 s"),
        (3, ""),
    ],
)
def test_what_has_no_end_in_sight(width: int, said: str) -> None:
    assert Progress("reading the tasks").text(width, 12.3) == said
