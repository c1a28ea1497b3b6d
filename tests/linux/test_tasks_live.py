"""Tasks, per-CPU data and the log of running kernels, against /proc and dmesg."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import rsp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.guest import BootKernel, Guest
    from rsp.linux import LogRecord

KERNELS = ["debian", "debian-6.12", "i386"]

# One read each of all that is compared; the letters of /proc/PID/stat are those of `Task.state`.
STATS = "cat /proc/[0-9]*/task/[0-9]*/stat 2> /dev/null; true"
# Of /proc/PID/stat: number, name, and what follows the last parenthesis, from the state on.
STAT = re.compile(r"(\d+) \((.*)\) (\S) (\d+) (.*)")
_PROCESSOR = 39 - 5  # field 39, and the fifth is the first of the last group
_FLAGS = 9 - 5
_KERNEL_THREAD = 0x200000


@pytest.fixture
def guest(request: pytest.FixtureRequest, shared_kernel: BootKernel) -> Iterator[Guest]:
    found = shared_kernel(request.param, kaslr=True)
    yield found
    found.monitor("cont")


def stats(guest: Guest) -> dict[int, tuple[str, str, int, int, bool]]:
    """Return name, state, parent, CPU and whether it is the kernel's, of each thread."""
    found = {}
    for line in guest.run(STATS).splitlines():
        fields = STAT.fullmatch(line)
        assert fields, line
        number, name, state, parent, rest = fields.groups()
        more = rest.split()
        kernel = bool(int(more[_FLAGS]) & _KERNEL_THREAD)
        found[int(number)] = (name, state, int(parent), int(more[_PROCESSOR]), kernel)
    return found


def comm(name: str, shown: str) -> bool:
    """Whether a task's 15 bytes are what /proc shows, which adds to a kworker what it works on."""
    return shown == name or (shown.startswith(name) and name.startswith("kworker"))


@pytest.mark.parametrize("guest", KERNELS, indirect=True)
def test_tasks(guest: Guest) -> None:
    before = stats(guest)
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        kernel = rsp.linux.Kernel(target)
        tasks = kernel.tasks()
        found = {
            task.pid: (
                task.comm, task.state, task.parent.tgid if task.parent else None, task.cpu,
                task.is_kernel_thread,
            )
            for task in tasks
        }  # fmt: skip
        groups = {task.pid: task.tgid for task in tasks}
        # In the midst of a switch it is two tasks of a CPU.
        running = {task.pid for task in tasks if task.is_running}
        current = [kernel.current(cpu) for cpu in range(2)]
        assert {task.pid for task in current} & found.keys() <= running
        # One that ends is on its CPU still when the list has it no more.
        assert {task.state for task in current if task.pid and task.pid not in found} <= {"X"}
        assert len(running) <= 4
        assert len(found) == len(tasks)
        assert all(task.value["pid"] == task.pid for task in tasks)
    after = stats(guest)
    # What was there before and after was there at the stop. Of the threads that do nothing but
    # sleep all is as it was; those of the load come and go, and move.
    steady = {
        pid: stat for pid, stat in before.items() if after.get(pid) == stat and stat[1] in "SI"
    }
    assert len(steady) > 15
    assert before.keys() & after.keys() <= found.keys()
    same = 0
    for pid, (name, state, parent, cpu, of_kernel) in steady.items():
        assert comm(found[pid][0], name[:15] if not name.startswith("kworker") else name)
        assert found[pid][2] == parent, name
        assert found[pid][4] == of_kernel
        same += (found[pid][1], found[pid][3]) == (state, cpu)
    assert same > 0.8 * len(steady), "in a short time most sleep on where they were"
    assert groups[1] == 1


@pytest.mark.parametrize("guest", KERNELS, indirect=True)
def test_current(guest: Guest) -> None:
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        kernel = rsp.linux.Kernel(target)
        for cpu, thread in enumerate(target.threads):
            task = kernel.current(cpu)
            assert task.comm.encode() == kernel.per_cpu("runqueues", cpu)["curr"]["comm"].string_()
            assert kernel.per_cpu("runqueues", cpu)["cpu"] == cpu
            assert task.cpu == cpu
            assert task.is_running
            if not task.is_kernel_thread:
                continue
            # Its stack is the one that the CPU is on, but for an interrupt's.
            stack = int(task.value["stack"])
            assert stack
            assert thread.registers.sp
            assert task.pid or task.comm == f"swapper/{cpu}"
        with pytest.raises(rsp.SymbolError):
            kernel.current(7)


@pytest.mark.parametrize("guest", ["debian", "debian-6.12"], indirect=True)
def test_threads(guest: Guest) -> None:
    """Each thread of a process is there once, with the number of the process."""
    guest.start("threads")
    guest.run("until [ $(ls /proc/$(pidof threads)/task | wc -l) = 4 ]; do usleep 10000; done")
    listed = guest.run("cd /proc/$(pidof threads)/task; grep '' */comm").splitlines()
    expected = {int(number): name for number, name in (line.split("/comm:") for line in listed)}
    assert sorted(expected.values()) == ["first", "main", "second", "third"]
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        tasks = rsp.linux.Kernel(target).tasks()
        leader = next(task for task in tasks if task.comm == "main")
        assert {task.pid: task.comm for task in leader.threads()} == expected
        found = [task for task in tasks if task.tgid == leader.pid]
        assert {task.pid: task.comm for task in found} == expected
        assert len(found) == 4
        assert all(task.state == "S" and not task.is_kernel_thread for task in found)
    guest.run("kill $(pidof threads)")


def log_of(guest: Guest) -> tuple[LogRecord, ...]:
    """Return the log, which is what dmesg prints, byte for byte."""
    for _ in range(5):
        before = guest.run("dmesg -s 4000000")
        with rsp.connect(guest.address, symbols=guest.symbols) as target:
            log = rsp.linux.Kernel(target).log()
        if guest.run("dmesg -s 4000000") == before:  # else something was logged meanwhile
            assert "".join(f"{record}\n" for record in log) == before
            numbers = [record.sequence or 0 for record in log]
            assert numbers == list(range(numbers[0], numbers[0] + len(log)))
            return log
    raise AssertionError("the kernel never ceases to log")


@pytest.mark.parametrize("guest", KERNELS, indirect=True)
def test_log(guest: Guest) -> None:
    """Strange text; and more than the ring holds, so that it begins somewhere in the middle."""
    # All that is written to /dev/kmsg, and none of it on the console.
    guest.run("dmesg -n 1; echo on > /proc/sys/kernel/printk_devkmsg")
    guest.run(r"printf '<3>two\nlines' > /dev/kmsg; echo > /dev/kmsg")
    guest.run(r"printf '<14>of user \303\251 \001\n' > /dev/kmsg; echo '<7>last' > /dev/kmsg")
    log = log_of(guest)
    found = {record.text: (record.level, record.facility) for record in log}
    assert found["last"] == (7, 1)
    assert found["two\nlines"] == (3, 1)
    assert found["of user \u00e9 \x01"] == (6, 1)
    for _ in range(2):
        guest.run(
            'i=0; while [ $i -lt 600 ]; do printf "$i %$((i % 700))d\\n" $i; i=$((i+1)); done '
            "> /dev/kmsg"
        )
        last = log_of(guest)
    assert last[0].sequence
    assert last[0].text != log[0].text
