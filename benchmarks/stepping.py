"""Fifty source lines of a kernel, stepped over by ours and by gdb from the same state of a machine.

What counts is how often the target is resumed, for each is a round trip and a stop; on a serial
line so is every other packet, those of connecting included.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.peers import connect
from lab.guest import Guest
from lab.stepping import empty_disk, gdb_places, packets, resumes

LINES = 50
PLACES = ("start_kernel", "tcp_init_sock")


def measure() -> list[Figure]:
    """Step from a function of the boot, and from one of a system call."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="rsp-bench-") as name:
        directory = Path(name)
        disk = empty_disk(directory / "snapshots.qcow2")
        # A clock that counts instructions: both runs meet the same interrupts.
        clock = ("-icount", "shift=3,sleep=off", "-rtc", "clock=vm")
        drive = ("-drive", f"if=none,format=qcow2,file={disk}")
        with Guest("debian", cpus=1, stopped=True, args=(*drive, *clock)) as guest:
            for place in PLACES:
                with connect(guest) as target, target.breakpoint(place):
                    target.resume(timeout=240)
                guest.monitor("savevm here")
                figures += _both(guest, place, directory)
    return figures


def _both(guest: Guest, place: str, directory: Path) -> list[Figure]:
    ours, theirs = directory / f"{place}.rsplog", directory / "gdb.log"
    guest.monitor("loadvm here")
    with connect(guest, record=ours) as target:
        lines = [target.next_line(timeout=60).line for _ in range(LINES)]
    guest.monitor("loadvm here")
    said, _ = gdb_places(guest.address, guest.symbols, ["next"] * LINES, directory=directory)
    guest.monitor("loadvm here")
    numbers = [line.line if line is not None else 0 for line in lines]
    assert numbers == [0 if isinstance(each, str) else each.line for each in said]
    figures = []
    for what, count in (("resumes", resumes), ("packets", packets)):
        mine, gdb = count(ours), count(theirs)
        figures.append(
            Figure(
                subject=f"{LINES} lines of {place}: {what}, ours / gdb",
                value=mine / gdb,
                unit="x",
                target="<= 1 x",
                detail=f"ours {mine}, gdb {gdb}",
            )
        )
    return figures
