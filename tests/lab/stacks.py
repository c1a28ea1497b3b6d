"""The oracle for tasks that sleep: the kernel's own account of their stacks, /proc/PID/stack.

Contents: reading it in a guest, and comparing it with a backtrace. The kernel leaves out its
scheduler (kernel/stacktrace.c), and inlined copies.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.guest import Guest
    from rsp.frames.backtrace import Backtrace
    from rsp.symbols.table import SymbolTable

# Who waits for the command that shows the stacks, or naps in the load, or serves it, or looks for a
# mouse.
AWAKE = re.compile(
    r"\b(?:do_wait|do_sys_poll|(?:pipe|wait_for_partner)\w*|inet_csk_accept|ps2_\w+)\+"
)
ENTRY = re.compile(r"([^+]+)\+(0x[0-9a-f]+)/")


def settled_stacks(guest: Guest) -> dict[int, list[str]]:
    """Return the stacks of the tasks that sleep on, by pid, the innermost entry first."""
    first = stacks(guest)
    time.sleep(1)
    return {
        pid: entries
        for pid, entries in stacks(guest).items()
        if first.get(pid) == entries and not AWAKE.search(" ".join(entries))
    }


def stacks(guest: Guest) -> dict[int, list[str]]:
    """Return /proc/PID/stack of each task that has one."""
    shown = guest.run(
        "for p in /proc/[0-9]*; do echo = ${p#/proc/}; cat $p/stack 2> /dev/null; done; true"
    )
    found: dict[int, list[str]] = {}
    entries: list[str] = []
    for line in shown.splitlines():
        if line.startswith("= "):
            entries = found[int(line[2:])] = []
        elif line.startswith("[<0>] "):
            entries.append(line.removeprefix("[<0>] "))
    return {pid: each for pid, each in found.items() if each}


def assert_same(found: Backtrace, entries: list[str], table: SymbolTable) -> None:
    """Compare every return address, and how the stack ends."""
    shown = f"{entries}\n{found}"
    assert found.complete, shown
    scheduler = range(table["__sched_text_start"].address, table["__sched_text_end"].address)
    mine = [frame.pc for frame in found if not frame.inlined and frame.pc not in scheduler]
    assert len(mine) == len(entries), shown
    for pc, entry in zip(mine, entries, strict=True):
        name, offset = ENTRY.findall(entry)[0]
        assert pc in {each.address + int(offset, 16) for each in table.find(name)}, shown
    user = found.user_registers
    if user is None:
        assert str(found[-1].function).startswith("ret_from_fork"), shown
    else:
        assert (user["cs"] or 0) & 3 == 3, shown
