"""Both CPUs' backtraces of Debian's kernel, each a process of its own, beside gdb.

The machine stands still: in the timer's interrupt, and in a read of a file some 20 frames deep.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import rsp
from benchmarks.figure import Figure, interleaved, median_ratio
from benchmarks.peers import run
from lab.guest import Guest
from rsp import BreakpointKind, OnExit

if TYPE_CHECKING:
    from collections.abc import Sequence

# Where to stop, at how many frames, and which share of gdb's requests are to be asked at most.
STOPS = (("tick_sched_timer", 1, 1.0), ("kmem_cache_alloc", 20, 0.5))
ROUNDS = 5


def measure() -> list[Figure]:
    """Time whole processes, and count requests."""
    figures = []
    with Guest("debian") as guest:
        for place, frames, share in STOPS:
            _stop(guest, place, frames)
            figures += [*_processes(guest, place), _requests(guest, place, share)]
    return figures


def _stop(guest: Guest, place: str, frames: int) -> None:
    with rsp.connect(
        guest.address, symbols=guest.symbols, on_exit=OnExit.LEAVE_STOPPED, timeout=60
    ) as target:
        with target.breakpoint(place, kind=BreakpointKind.HARDWARE):
            for _ in range(1000):
                target.resume(timeout=60)
                if len(target.backtrace()) >= frames:
                    return
        raise AssertionError(f"{place} is never {frames} frames deep")


def _ours(guest: Guest, *more: str) -> list[str]:
    command = [sys.executable, "-m", "rsp", "bt", guest.address, "--symbols", str(guest.symbols)]
    return [*command, "--all", "--leave-stopped", *more]


def _gdb(guest: Guest, *commands: str) -> list[str]:
    program = ["gdb", "-nx", "-nh", "-batch"]
    connect = f"target remote {guest.address.removeprefix('unix:')}"
    settings = ("set pagination off", "set auto-load off", f"file {guest.symbols}")
    for command in (*settings, *commands, connect, "thread apply all bt", "disconnect"):
        program += ["-ex", command]
    return program


def _processes(guest: Guest, place: str) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rsp-bench-") as cache:
        commands = {
            "cache": _ours(guest),
            "no cache": _ours(guest, "--no-cache"),
            "gdb": _gdb(guest),
        }
        # What is compiled and what is in the cache is there from the second time on.
        subjects = [partial(_seconds, command, cache) for command in commands.values()]
        for subject in subjects:
            subject()
        seconds = dict(zip(commands, interleaved(ROUNDS, *subjects), strict=True))
    return [
        Figure(
            subject=f"connect, backtraces at {place}; {peer}: ours / gdb",
            value=median_ratio(seconds[peer], seconds["gdb"]),
            unit="x",
            target=target,
            detail=f"ours {median(seconds[peer]):.2f} s, gdb {median(seconds['gdb']):.2f} s",
        )
        for peer, target in (("no cache", "<= 1 x"), ("cache", "<= 0.5 x"))
    ]


def _seconds(command: Sequence[str], cache: str) -> float:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return run(command, XDG_CACHE_HOME=cache).seconds


def _requests(guest: Guest, place: str, share: float) -> Figure:
    with tempfile.TemporaryDirectory(prefix="rsp-bench-") as directory:
        log = Path(directory, "session.rsplog")
        subprocess.run(_ours(guest, "--record", str(log)), check=True, capture_output=True)
        ours = _questions(re.findall(r"^w .*?\$([^#]+)#", log.read_text(), re.MULTILINE))
    done = subprocess.run(
        _gdb(guest, "set debug remote 1"), check=True, capture_output=True, text=True
    )
    gdb = _questions(re.findall(r"Sending packet: \$([^#]+)#", done.stdout + done.stderr))
    return Figure(
        subject=f"requests for the backtraces at {place}: ours / gdb",
        value=ours["backtrace"] / gdb["backtrace"],
        unit="x",
        target=f"<= {share} x",
        detail=f"ours {ours['backtrace']}, gdb {gdb['backtrace']}; with connecting "
        f"{ours['all']} and {gdb['all']}",
    )


def _questions(packets: Sequence[str]) -> dict[str, int]:
    """Return how many packets there are, and how many ask for threads, registers and memory."""
    asked = sum(bool(re.match(r"m|g$|p|Hg", packet)) for packet in packets)
    return {"all": len(packets), "backtrace": asked}
