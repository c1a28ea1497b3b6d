"""Values at a stop of Debian's kernel on two CPUs, each time in a process of its own, beside gdb.

A process connects, shows the backtraces of both CPUs, prints a value and leaves the machine as it
was. gdb takes its time for types: a structure that the unit of the selected frame knows costs it
nothing, one that has to be looked up by its name some seconds. So there are two expressions.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, interleaved, median_ratio
from benchmarks.peers import requests, run
from lab.guest import Guest

if TYPE_CHECKING:
    from collections.abc import Sequence

OURS = """
import rsp
symbols = rsp.SymbolTable({symbols!r}, cache={cache})
with rsp.connect({address!r}, symbols=symbols, on_exit="leave stopped") as target:
    for thread in target.threads:
        print(thread.backtrace())
    print(target.value({expression!r}))
"""

VARIABLE = "init_task.comm"
CAST = "((struct task_struct *)&init_task)->comm"


def measure() -> list[Figure]:
    """Boot the guest, stop it in its idle loop, and ask."""
    with Guest() as guest:
        guest.monitor("stop")
        return [
            *_beside_gdb(guest, VARIABLE, rounds=5),
            *_beside_gdb(guest, CAST, rounds=1),
            *_alone(guest),
        ]


def _ours(guest: Guest, expression: str, *, cache: bool) -> Sequence[str]:
    program = OURS.format(
        symbols=str(guest.symbols), address=guest.address, expression=expression, cache=cache
    )
    return (sys.executable, "-c", program)


def _beside_gdb(guest: Guest, expression: str, rounds: int) -> list[Figure]:
    gdb = ["gdb", "-nx", "-batch", "-ex", "set pagination off", "-ex", f"file {guest.symbols}"]
    for command in (
        f"target remote {guest.address.removeprefix('unix:')}",
        "thread apply all backtrace",
        f"print {expression}",
        "disconnect",
    ):
        gdb += ["-ex", command]
    # No question of these needs the index of names; what is kept of use is the order of addresses.
    peers: list[Sequence[str]] = [
        gdb,
        _ours(guest, expression, cache=False),
        _ours(guest, expression, cache=True),
    ]
    for peer in peers:
        run(peer)  # so that all is compiled, and in the page cache
    timed = interleaved(rounds, *(partial(run, peer) for peer in peers))
    theirs, bare, kept = ([each.seconds for each in runs] for runs in timed)
    subject = f"connect, 2 backtraces, {expression}"
    return [
        Figure(
            subject=f"{subject}; no cache: gdb / ours",
            value=median_ratio(theirs, bare),
            unit="x",
            target=">= 8 x",
            detail=f"gdb {median(theirs):.2f} s, ours {median(bare):.3f} s",
        ),
        Figure(
            subject=f"{subject}; with the cache: gdb / ours",
            value=median_ratio(theirs, kept),
            unit="x",
            target=">= 8 x",
            detail=f"ours {median(kept):.3f} s",
        ),
    ]


def _alone(guest: Guest) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rsp-bench-") as directory:
        logs = (Path(directory, f"{number}.rsplog") for number in count())

        def command(log: Path) -> list[str | Path]:
            options: list[str | Path] = [
                "--no-cache",
                "--leave-stopped",
                "--symbols",
                guest.symbols,
                "--record",
                log,
            ]
            return [sys.executable, "-m", "rsp", "print", guest.address, VARIABLE, *options]

        log = next(logs)
        run(command(log))
        seconds = [run(command(next(logs))).seconds for _ in range(5)]
        sent = requests(log)
    return [
        Figure(
            subject=f"rsp print {VARIABLE}, no cache",
            value=median(seconds),
            unit="s",
            target="<= 0.3 s",
        ),
        Figure(
            subject=f"rsp print {VARIABLE}: reads of memory",
            value=sum(request.startswith(b"m") for request in sent),
            unit="requests",
            target="<= 3",
            detail=f"two for the slide; {len(sent)} requests in all, with the handshake",
        ),
    ]
