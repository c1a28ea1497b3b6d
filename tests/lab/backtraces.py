"""The oracle for backtraces of a kernel: gdb's at the same stop, less what is known to be wrong.

Contents: what of gdb's answer is believed, and how it is compared with a backtrace of ours.
docs/differences.md has the reasons. Not here: how gdb is asked (`gdb`, `gdb_session`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lab.gdb import version
from rsp.frames.frame import FrameKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rsp.frames.frame import Frame

# gdb's own defaults, which the lab has lifted.
SETTINGS = (
    "set print frame-arguments scalars",
    "set print elements 200",
    "set print repeats 10",
)
ASSEMBLY = re.compile(r" at \S+(\.S|/idtentry\.h|/GEN-for-each-reg\.h):\d+$")
MARK = " <signal handler called>"


class Score:
    """Lines compared, and how many of them differ in an argument."""

    def __init__(self) -> None:
        self.lines = self.other = 0

    def same(self, mine: list[str], gdbs: list[str]) -> None:
        """Compare frames: addresses, functions and lines are the same, without exception.

        In arguments gdb 13 may show what is not there: it evaluates what a caller passed with the
        registers of the wrong frame where that is asked for within an inlined copy
        (value_of_dwarf_reg_entry takes get_prev_frame of the copy).
        """
        for one, other in zip(mine, gdbs, strict=True):
            assert frame_of(one) == frame_of(other), (one, other, mine, gdbs)
        self.lines += len(mine)
        self.other += sum(plain(one) != plain(other) for one, other in zip(mine, gdbs, strict=True))

    def same_backtrace(self, found: Iterable[Frame], shown: str) -> None:
        """Compare a backtrace with what gdb shows, down to where that is believed."""
        mine, gdbs = one_form(lines_of(found)), one_form(believed(shown))
        self.same(mine[: len(gdbs)], gdbs[: len(mine)])
        assert len(mine) >= len(gdbs)

    def check(self) -> None:
        """Fail if more differs than comes of that: up to 3 in a 100, as measured."""
        assert self.lines
        assert self.other <= 0.06 * self.lines + 3


def one_form(lines: list[str]) -> list[str]:
    """Leave out what gdb 18 shows otherwise than gdb 13 of the same stack.

    Newer gdbs let an inlined copy reach to the next row of the line table that begins a statement,
    against its ranges in DWARF and against addr2line, so that copies and lines differ. What is left
    is one line an activation: its address, and the function that it is in with the arguments.
    """
    if version() < 18:
        return lines
    activations: list[tuple[str, str]] = []
    entered = True  # what is below code in assembly was interrupted, and is no copy
    for line in lines:
        found = re.match(r"#\d+ +(0x\w+ in )?(.*?)( at \S+:\d+)?$", line)
        assert found, line
        address, shown, _ = found.groups("")
        if not address and not entered:  # what the copy before is inlined into
            address, _ = activations.pop()
        activations.append((address, shown))
        entered = ASSEMBLY.search(line) is not None
    return [f"#0  {address}{shown}" for address, shown in activations]


def frame_of(line: str) -> tuple[str, ...]:
    """Return the address, the function and the line of a frame."""
    found = re.match(r"#\d+ +(0x\w+ in )?(\S+) \(.*\)( at \S+)?$", line)
    assert found, line
    return tuple(found.groups(""))


def plain(line: str) -> str:
    """Leave out what arguments were on entry."""
    line = re.sub(r"(\w+)=\1@entry=", r"\1=", line)
    return re.sub(r"^#\d+ +|, \w+@entry=[^,)]*", "", line)


def lines_of(found: Iterable[Frame]) -> list[str]:
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


def believed(text: str) -> list[str]:
    """Return gdb's frames up to the first of assembly: it has no tables there, and guesses."""
    # It warns of a shift by 32 bits, as in an expression of a location list, within a line.
    text = re.sub(r"warning: (left|right) shift count [^\n]*\n", "", text)
    lines = [line for line in text.splitlines() if line]
    lost = r"#\d+ +(0x\w+ in \?\? |0x0000\w+ in fixed_percpu_data )|Backtrace stopped"
    end = next((at for at, line in enumerate(lines) if re.match(lost, line)), len(lines))
    last = next((at for at, line in enumerate(lines) if ASSEMBLY.search(line)), end)
    return lines[: min(end, last + 1)]
