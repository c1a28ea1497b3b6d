"""Backtraces against gdb's, line for line, on the same stop of the same program."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

import rsp
from lab.backtraces import one_form
from lab.frames import VARIANTS, compile_variant
from lab.gdb import Gdb
from lab.servers import gdbserver_tcp
from rsp import StopReason

if TYPE_CHECKING:
    from pathlib import Path

# gdb's own defaults, which the lab has lifted.
SETTINGS = (
    "set print frame-arguments scalars",
    "set print elements 200",
    "set print repeats 10",
)

pytestmark = pytest.mark.live("gdb")

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
        while (stop := target.resume(timeout=240)) is not None:
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
    """Read ``bt full``: for each frame the names and values.

    gdb 18 says where a name that is there twice is declared, and that another hides it.
    """
    frames: list[list[tuple[str, str]]] = []
    for line in text.splitlines():
        if line.startswith("#"):
            frames.append([])
        elif found := re.fullmatch(r" {8}(\w+) = (.*?)(\t<\S+:\d+(, shadowed)?>)?", line):
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
        assert one_form(mine) == one_form(gdbs)


@pytest.mark.live("gcc", "gdbserver")
def test_the_variables_of_every_frame(program: Path) -> None:
    found = ours(program)
    expected = theirs(program, len(found.variables))
    for mine, gdbs in zip(found.variables, expected.variables, strict=True):
        # gdb keeps the names of a lexical block in a hash table, in whatever order.
        assert [sorted(frame) for frame in mine] == [sorted(once(frame)) for frame in gdbs]
    assert sum(len(frame) for stop in found.variables for frame in stop) > 20


COPIES = """
struct pair { int a, b; };
volatile struct pair last;
static inline __attribute__((always_inline)) void inner(int n) { last.a = n; last.b = n + 1; }
static inline __attribute__((always_inline)) void outer(int n) { inner(n); last.a = 7; }
static __attribute__((noinline)) void work(int n) { outer(n); inner(n); }
int main(void) { work(5); work(6); return last.a; }
"""


@pytest.mark.live("gcc", "gdbserver")
@pytest.mark.parametrize("place", ["work", "outer", "inner"])
def test_copies_that_begin_at_a_breakpoint(tmp_path: Path, place: str) -> None:
    """Those behind the one that the breakpoint was set on have not been entered yet."""
    (tmp_path / "copies.c").write_text(COPIES)
    program = tmp_path / "copies"
    options = ["-g", "-O2", "-static", "-no-pie", "-o", program.name]
    subprocess.run(["gcc", *options, "copies.c"], cwd=tmp_path, check=True)
    with gdbserver_tcp(program) as address, rsp.connect(address, symbols=program) as target:
        texts = []
        with target.breakpoint(place):
            for _ in range(3):
                stop = target.resume(timeout=240)
                assert stop is not None
                if stop.reason is not StopReason.BREAKPOINT:
                    break
                found = target.backtrace()
                assert found[0].level == 0
                assert found[0].function == stop.function
                texts.append(str(found))
    commands = [f"break {place}", *["continue", "bt"] * len(texts)]
    with gdbserver_tcp(program) as address:
        settings = (*SETTINGS, f"set sysroot {program.anchor}")
        answers = Gdb(address=address, symbols=program, settings=settings).run(*commands)
    assert texts == answers[2::2]
    assert len(texts) >= 2
