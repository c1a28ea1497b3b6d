"""Our registers beside gdb's, value for value.

Contents: the one comparison that all live tests make; `gdb` has the oracle itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lab.gdb import PARTS, parse_registers

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lab.gdb import Gdb
    from rsp.arch.registers import Registers

# gdb shows these only when they are asked for by name.
BY_NAME = (
    *(*PARTS, "fs_base", "gs_base", "orig_rax", "orig_eax"),
    *(f"i386_tls_gdt_{n}" for n in range(3)),
)

# Of what gdb shows, these we must know as well: the general registers' parts, the vectors. Not
# `sp`, gdb's other name for the whole stack pointer: `Registers.sp` here.
WANTED = re.compile(r"[er]?[abcd]x|[abcd][lh]|[er]?[sd]i|[er]?bp|[er]sp|r\d+[dwl]?|[xyz]mm\d+")
# Registers of the wire that gdb gives no names: it shows the whole (`ymm0`) instead.
NAMELESS = re.compile(r"[yz]mm\d+h")


def registers_of(oracle: Gdb, *, before: Sequence[str] = ()) -> dict[str, int | None]:
    """Return all that gdb shows of the thread that it is at after the commands ``before``."""
    answers = oracle.run(
        *before, "info all-registers", *(f"info registers {name}" for name in BY_NAME)
    )
    everything, *named = answers[len(before) :]
    there = [answer for answer in named if not answer.startswith("Invalid register")]
    return parse_registers("\n".join([everything, *there]))


def assert_same_registers(
    ours: Registers, theirs: dict[str, int | None], *, apart_from: Collection[str] = ()
) -> None:
    """Every register of ours is gdb's, and every one of gdb's that is on the wire is ours."""
    assert len(ours) >= 16
    wrong = [
        f"{name}: {_shown(ours[name])}, gdb has {_shown(theirs[name])}"
        for name in theirs
        if name in ours and ours[name] != theirs[name] and name not in apart_from
    ]
    unknown_to_gdb = [name for name in ours if name not in theirs and not NAMELESS.fullmatch(name)]
    unknown_to_us = [name for name in theirs if WANTED.fullmatch(name) and name not in ours]
    differences = (wrong, unknown_to_gdb, unknown_to_us)
    assert differences == ([], [], []), differences


def _shown(value: int | None) -> str:
    return "unavailable" if value is None else f"{value:#x}"
