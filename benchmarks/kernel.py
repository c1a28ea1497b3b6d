"""A running kernel, each time in a process of its own: its slide, its tasks beside gdb, its log.

gdb walks the tasks as lx-ps of the kernel's scripts/gdb does: along ``tasks`` and ``thread_group``,
and of each task the number and the name. It is told the slide, which ours finds out.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

import rsp
from benchmarks.figure import Figure, interleaved, median_ratio
from benchmarks.peers import command_on, connect, requests, run
from lab.gdb import batch, connecting
from lab.guest import Guest

TASKS = 100
ROUNDS = 5

GDB_WALK = """
import gdb

task_struct = gdb.lookup_type("struct task_struct")
offset = {field.name: field.bitpos // 8 for field in task_struct.fields()}


def behind(task, name):
    node = int(task[name]["next"])
    return gdb.Value(node - offset[name]).cast(task_struct.pointer())


leader = init = gdb.parse_and_eval("&init_task")
while True:
    task = leader
    while True:
        print(task, int(task["pid"]), task["comm"].string())
        task = behind(task, "thread_group")
        if task == leader:
            break
    leader = behind(leader, "tasks")
    if leader == init:
        break
"""

NOTHING = """
import sys
import rsp
with rsp.connect(sys.argv[1], on_exit="leave stopped", record=sys.argv[2]) as target:
    print(target.stub.name)
"""


def measure() -> list[Figure]:
    """Boot a guest with KASLR, give it tasks and a full log, and stop it."""
    with Guest(kaslr=True) as guest, tempfile.TemporaryDirectory(prefix="rsp-bench-") as directory:
        logs = (Path(directory, f"{number}.rsplog") for number in count())
        guest.run("dmesg -n 1; echo on > /proc/sys/kernel/printk_devkmsg")
        guest.run(
            'i=0; while [ $i -lt 1500 ]; do printf "$i %200d\\n" $i; i=$((i+1)); done > /dev/kmsg'
        )
        there = int(guest.run("ls -d /proc/[0-9]*/task/[0-9]* 2> /dev/null | wc -l"))
        guest.run(f"i={there}; while [ $i -lt {TASKS} ]; do sleep 9999 & i=$((i+1)); done")
        guest.monitor("stop")
        return [
            *_slide(guest, next(logs), next(logs)),
            *_tasks(guest, Path(directory), next(logs)),
            *_log(guest),
        ]


def _slide(guest: Guest, log: Path, empty: Path) -> list[Figure]:
    run(command_on(guest, "slide", "--record", log))
    run([sys.executable, "-c", NOTHING, guest.address, str(empty)])
    seconds = [run(command_on(guest, "slide")).seconds for _ in range(ROUNDS)]
    return [
        Figure(
            subject="rsp slide, beyond the handshake",
            value=len(requests(log)) - len(requests(empty)),
            unit="requests",
            target="<= 64",
        ),
        Figure(subject="rsp slide, no cache", value=median(seconds), unit="s", target="<= 0.5 s"),
    ]


def _tasks(guest: Guest, directory: Path, log: Path) -> list[Figure]:
    walk, theirs_log = directory / "walk.py", directory / "gdb.rsplog"
    walk.write_text(GDB_WALK)
    with connect(guest) as target:
        kernel = rsp.linux.Kernel(target)
        slide, tasks = kernel.slide, len(kernel.tasks())

    def gdb(*settings: str) -> list[str]:
        return batch(
            *("set pagination off", *settings, f"symbol-file {guest.symbols} -o {slide:#x}"),
            *(connecting(guest.address), f"source {walk}", "disconnect"),
        )

    run(gdb(f"set remotelogfile {theirs_log}"))
    run(command_on(guest, "tasks", "--record", log))
    timed = interleaved(ROUNDS, partial(run, gdb()), partial(run, command_on(guest, "tasks")))
    theirs, ours = ([each.seconds for each in runs] for runs in timed)
    walked, read = len(requests(theirs_log)), len(requests(log))
    return [
        Figure(
            subject=f"rsp tasks, {tasks} tasks: requests, of those of gdb's walk",
            value=100 * read / walked,
            unit="%",
            target="<= 20 %",
            detail=f"gdb {walked}, ours {read}",
        ),
        Figure(
            subject=f"rsp tasks, {tasks} tasks, no cache: gdb / ours",
            value=median_ratio(theirs, ours),
            unit="x",
            target="> 1 x",
            detail=f"gdb {median(theirs):.2f} s, ours {median(ours):.3f} s",
        ),
    ]


def _log(guest: Guest) -> list[Figure]:
    with connect(guest) as target:
        size = sum(len(str(record)) for record in rsp.linux.Kernel(target).log())
    return [
        Figure(
            subject="rsp dmesg of a full log, no cache",
            value=median([run(command_on(guest, "dmesg")).seconds for _ in range(ROUNDS)]),
            unit="s",
            target="<= 1 s",
            detail=f"{size >> 10} KiB of text",
        )
    ]
