"""Our registers beside gdb's, value for value.

Here lives the one comparison that all live tests make; `gdb` has the oracle itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsp.target.registers import Registers

# Of what gdb shows, these we must know as well: the general registers' parts, the vectors. Not
# `sp`: it is the 16-bit part there, and the stack pointer in everyone's speech.
WANTED = re.compile(r"[er]?[abcd]x|[abcd][lh]|[er]?[sd]i|[er]?bp|[er]sp|r\d+[dwl]?|[xyz]mm\d+")


def assert_same_registers(ours: Registers, theirs: dict[str, int | None]) -> None:
    """Every register of ours is gdb's, and every one of gdb's that is on the wire is ours."""
    assert len(ours) >= 16
    wrong = [
        f"{name}: {_shown(ours[name])}, gdb has {_shown(theirs[name])}"
        for name in theirs
        if name in ours and ours[name] != theirs[name]
    ]
    unknown_to_gdb = [name for name in ours if name not in theirs]
    unknown_to_us = [name for name in theirs if WANTED.fullmatch(name) and name not in ours]
    assert (wrong, unknown_to_gdb, unknown_to_us) == ([], [], [])


def _shown(value: int | None) -> str:
    return "unavailable" if value is None else f"{value:#x}"
