"""Backtraces against gdb's, line for line, on the same stop of the same program or kernel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

import rsp
from lab.frames import VARIANTS, compile_variant
from lab.gdb import Gdb
from lab.servers import gdbserver_tcp
from rsp import BreakpointKind, OnExit, StopReason
from rsp.target.frame import FrameKind

if TYPE_CHECKING:
    from pathlib import Path

    from lab.guest import BootKernel, Guest
    from rsp.target.backtrace import Backtrace
    from rsp.target.target import Target

# gdb's own defaults, which the lab has lifted.
SETTINGS = (
    "set print frame-arguments scalars",
    "set print elements 200",
    "set print repeats 10",
)
PATIENCE = 240.0
MARK = " <signal handler called>"

pytestmark = pytest.mark.live("gdb")

# --- programs ---

QUIET = ("handle SIGSEGV nostop noprint", "handle SIGUSR1 nostop noprint", "break *stop_here")

# gdb 13 evaluates what a caller passed with the registers of the wrong frame where that is asked
# for within an inlined copy (value_of_dwarf_reg_entry takes get_prev_frame of the copy).
WRONG = re.compile(r"(middle \(node=\w+, depth)=\d+")


class Stops(NamedTuple):
    """What a run showed: each backtrace, and the variables of each frame at some of them."""

    texts: list[list[str]]
    variables: list[list[list[tuple[str, str]]]]


@pytest.fixture(scope="module", params=list(VARIANTS))
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_variant(request.param, tmp_path_factory.mktemp("frames"))


def ours(program: Path) -> Stops:
    """Stop at each call of stop_here, and at the two instructions behind it."""
    stops = Stops([], [])
    with gdbserver_tcp(program) as address, rsp.connect(address, symbols=program) as target:
        target.breakpoint(target.symbols["stop_here"].address)
        while (stop := target.resume(timeout=20)) is not None:
            if stop.reason in (StopReason.EXITED, StopReason.TERMINATED):
                break
            if stop.reason is not StopReason.BREAKPOINT:
                continue  # a signal
            found = target.backtrace()
            assert found.end_reason == "main"
            stops.variables.append(
                [[(each.name, each.text) for each in frame.locals] for frame in found]
            )
            stops.texts.append(str(found).splitlines())
            for _ in range(2):
                target.step(timeout=5)
                stops.texts.append(str(target.backtrace()).splitlines())
    return stops


def theirs(program: Path, count: int) -> Stops:
    commands = ["continue", "bt", "bt full", "stepi", "bt", "stepi", "bt"] * count
    with gdbserver_tcp(program) as address:
        gdb = Gdb(
            address=address, symbols=program, settings=(*SETTINGS, f"set sysroot {program.anchor}")
        )
        answers = gdb.run(*QUIET, *commands)[len(QUIET) :]
    rows = [answers[at : at + 7] for at in range(0, len(answers), 7)]
    return Stops(
        [row[at].splitlines() for row in rows for at in (1, 4, 6)],
        [variables_of(row[2]) for row in rows],
    )


def variables_of(text: str) -> list[list[tuple[str, str]]]:
    """Read ``bt full``: for each frame the names and values."""
    frames: list[list[tuple[str, str]]] = []
    for line in text.splitlines():
        if line.startswith("#"):
            frames.append([])
        elif found := re.fullmatch(r" {8}(\w+) = (.*)", line):
            frames[-1].append((found[1], found[2]))
        else:
            assert line in ("No locals.", "No symbol table info available.")
    return frames


def once(frame: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out what gdb shows of an inlined copy's original beside what the copy has."""
    known = {name for name, text in frame if text != "<optimized out>"}
    return list(
        dict.fromkeys(
            each for each in frame if each[0] not in known or each[1] != "<optimized out>"
        )
    )


@pytest.mark.live("gcc", "gdbserver")
def test_every_frame_of_a_program(program: Path) -> None:
    """Arguments, inlined copies, tail calls, signals, recursion: all text as gdb's."""
    found = ours(program)
    expected = theirs(program, len(found.texts) // 3)
    assert len(found.texts) >= 3 * 17
    shown = {line.split(" (")[0].split()[-1] for stop in found.texts for line in stop}
    assert {"types", "factorial", "innermost", "with_alloca", "leaves", "main"} <= shown
    for mine, gdbs in zip(found.texts, expected.texts, strict=True):
        if program.name.endswith(("O1-dwarf4", "Os")):
            depths = re.findall(r"middle \(node=\w+, depth=(\d+)", "\n".join(mine))
            assert set(depths) <= {"2", "3"}
            mine, gdbs = ([WRONG.sub(r"\1", line) for line in lines] for lines in (mine, gdbs))
        assert mine == gdbs


@pytest.mark.live("gcc", "gdbserver")
def test_the_variables_of_every_frame(program: Path) -> None:
    found = ours(program)
    expected = theirs(program, len(found.variables))
    for mine, gdbs in zip(found.variables, expected.variables, strict=True):
        # gdb keeps the names of a lexical block in a hash table, in whatever order.
        assert [sorted(frame) for frame in mine] == [sorted(once(frame)) for frame in gdbs]
    assert sum(len(frame) for stop in found.variables for frame in stop) > 20


# --- kernels ---


def stop_at(target: Target, place: str) -> None:
    """Run to a place, past stops of another reason."""
    with target.breakpoint(place, kind=BreakpointKind.HARDWARE):
        stop = target.resume(timeout=60)
        assert stop is not None
        assert stop.reason is StopReason.BREAKPOINT


class Score:
    """Lines compared, and how many of them differ in an argument."""

    def __init__(self) -> None:
        self.lines = self.other = 0

    def same(self, mine: list[str], gdbs: list[str]) -> None:
        """Compare frames: addresses, functions and lines are the same, without exception.

        Where gdb evaluates what a caller passed (`WRONG`), it shows an argument that is not there.
        """
        assert [frame_of(line) for line in mine] == [frame_of(line) for line in gdbs]
        self.lines += len(mine)
        self.other += sum(plain(one) != plain(other) for one, other in zip(mine, gdbs, strict=True))

    def check(self) -> None:
        """Fail if more differs than comes of that."""
        assert self.lines
        assert self.other <= 0.05 * self.lines + 1


def frame_of(line: str) -> tuple[str, ...]:
    """Return the address, the function and the line of a frame."""
    found = re.match(r"#\d+ +(0x\w+ in )?(\S+) \(.*\)( at \S+)?$", line)
    assert found, line
    return tuple(found.groups(""))


def plain(line: str) -> str:
    """Leave out what arguments were on entry."""
    line = re.sub(r"(\w+)=\1@entry=", r"\1=", line)
    return re.sub(r"^#\d+ +|, \w+@entry=[^,)]*", "", line)


def lines_of(found: Backtrace) -> list[str]:
    """Return the lines without our mark, and without those that gdb leaves out.

    Of a function that ended in a jump, and had copies of others inlined at the jump, gdb shows the
    innermost copy, and no more (gdb 13, dwarf2_tailcall_frame_unwind).
    """
    lines: list[str] = []
    begin = 0  # of the frames of one activation
    for frame in found:
        lines.append(f"#0  {str(frame).removesuffix(MARK)}")
        if frame.kind is FrameKind.TAIL_CALL:
            del lines[begin + 1 :]
        if not frame.inlined:
            begin = len(lines)
    return lines


def compare(
    guest: Guest, table: rsp.SymbolTable, place: str, score: Score, trigger: str = ""
) -> Backtrace:
    """Compare all threads with gdb at a stop; return the one of the thread that stopped."""
    with rsp.connect(
        guest.address, symbols=table, on_exit=OnExit.LEAVE_STOPPED, timeout=30
    ) as target:
        if trigger:
            guest.start(trigger)
        stop_at(target, place)
        found = {int(each.id[-2:], 16): each.backtrace() for each in target.threads}
        texts = {thread: lines_of(each) for thread, each in found.items()}
        stopped = target.backtrace()
        str(stopped)  # what is not read now is not there any more later
        check_ends(found)
    answer = oracle(guest).run("thread apply all bt")[0]
    parts = re.split(r"^Thread \d+ \(Thread 1\.(\d+).*$", answer, flags=re.MULTILINE)[1:]
    assert len(parts) == 2 * len(texts)
    for number, text in zip(parts[::2], parts[1::2], strict=True):
        gdbs, mine = believed(text), texts[int(number)]
        if found[int(number)].complete:
            gdbs = gdbs[: len(mine)]
        score.same(mine[: len(gdbs)], gdbs)
    return stopped


def oracle(guest: Guest) -> Gdb:
    return Gdb(address=guest.address, symbols=guest.symbols, settings=SETTINGS, timeout=PATIENCE)


def believed(text: str) -> list[str]:
    """Return gdb's frames up to where it has lost its way, which it does below an entry."""
    lines = [line for line in text.splitlines() if line]
    lost = r"#\d+ +(0x\w+ in \?\? |0x0000\w+ in fixed_percpu_data )|Backtrace stopped"
    end = next((at for at, line in enumerate(lines) if re.match(lost, line)), len(lines))
    return lines[:end]


def check_ends(found: dict[int, Backtrace]) -> None:
    """Whoever sleeps or runs in a kernel came from user space, or from where a task begins."""
    for each in found.values():
        if not each[0].function:  # user space, or firmware
            continue
        if each[-1].function in ("ret_from_fork", "secondary_startup_64", "startup_32_smp"):
            continue
        assert each.complete, each.end_reason
        if each.user_registers is None:
            # Before the entry has saved anything, nothing tells where it was come from.
            assert len(each) == 1
            assert str(each[0].function).startswith(("entry_", "asm_"))
            continue
        selector = each.user_registers["cs"]
        assert selector is not None
        assert selector & 3 == 3
        assert each.end_reason == f"user space at {each.user_registers.pc:#x}"


def test_start_kernel(boot_kernel: BootKernel) -> None:
    guest, score = boot_kernel("debian", stopped=True), Score()
    found = compare(guest, rsp.SymbolTable(guest.symbols), "start_kernel", score)
    score.check()
    assert [frame.function for frame in found] == ["start_kernel", "secondary_startup_64"]
    assert str(found[0]).startswith("start_kernel () at init/main.c:")
