"""kgdb of a real kernel, 64- and 32-bit, on a line of its own: against gdb on the same stop, and
against the kernel's own account of its tasks."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

import rsp
from lab.backtraces import SETTINGS, Score
from lab.gdb import Gdb, parse_registers
from lab.missing import kernels_needed
from lab.packages import FIXTURES
from lab.stacks import assert_same as assert_same_stack
from lab.stacks import settled_stacks
from rsp import BreakpointKind, CpuMode, OnExit, StopReason, Watch
from rsp.cli.run import main
from rsp.linux.records import place_of
from rsp.wire import commands, replies
from rsp.wire.commands import BreakpointType

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.guest import Guest, Port
    from rsp.remote.target import Target
    from rsp.run.points import Point

KERNELS = ("x86_64", "i386")
PATIENCE = 60.0

pytestmark = pytest.mark.live("gdb", *FIXTURES["boot_kernel"])


class Stopped(NamedTuple):
    """A guest that stands still in kgdb, and its tasks' stacks as the guest showed them before."""

    guest: Guest
    stacks: dict[int, list[str]]

    @property
    def line(self) -> str:
        return self.guest.ports[1]

    def connect(self, **options: object) -> Target:
        """Connect, to leave it standing."""
        settings: dict[str, object] = {
            "symbols": self.guest.symbols,
            "timeout": PATIENCE,
            "slide": 0,
            "on_exit": OnExit.LEAVE_STOPPED,
        }
        return rsp.connect(self.line, **(settings | options))  # type: ignore[arg-type]  # by name


@pytest.fixture(scope="module", params=KERNELS)
def stopped(request: pytest.FixtureRequest) -> Iterator[Stopped]:
    from lab.guest import Guest

    ports: tuple[Port, ...] = ("console", "unix", "console", "shell")
    with contextlib.ExitStack() as machines:
        with kernels_needed():
            guest = machines.enter_context(Guest(request.param, append="kgdboc=ttyS1", ports=ports))
        guest.start("sleep 1000000")
        stacks = settled_stacks(guest)
        guest.start("echo g > /proc/sysrq-trigger")
        yield Stopped(guest, stacks)


# --- against gdb ---


def test_registers_threads_and_backtraces_are_gdb_s(stopped: Stopped) -> None:
    with stopped.connect() as target:
        assert target.stub.name == "kgdb"
        assert target.stop.reason is StopReason.ATTACHED
        mine = {thread.id: thread.name for thread in target.threads}
        cpus = [thread for thread in target.threads if thread.id.startswith("ffff")]
        assert [thread.name for thread in cpus] == ["shadowCPU0", "shadowCPU1"]
        registers = [thread.registers for thread in cpus]
        backtraces = [thread.backtrace() for thread in cpus]
        assert all(map(str, backtraces))  # what is not read now is not there any more later
        current = target.registers
        names = set(target.registers.layout.positions)
        assert target.mode is (CpuMode.LONG64 if "rip" in names else CpuMode.PROTECTED32)
    gdb = Gdb(
        address=stopped.line, symbols=stopped.guest.symbols, settings=SETTINGS, timeout=PATIENCE
    )
    # Of the stop that it is told of at first, which names no thread, gdb shows the registers as
    # those of the first thread in the list; until they are asked for again, by thread.
    finds = [f"thread find ^Thread {int(cpu.id, 16)}$" for cpu in cpus]
    numbers = [re.findall(r"Thread (\d+) has target id", each)[0] for each in gdb.run(*finds)]
    listed, here, _, *others = gdb.run(
        "info threads",
        "info registers",
        "maintenance flush register-cache",
        *(each for number in numbers for each in (f"thread {number}", *ASKED)),
    )
    theirs = {
        f"{int(number) & 0xFFFFFFFF:02x}": name
        for number, name in re.findall(r"Thread (-?\d+) \((.*?)\) ", listed)
    }
    assert theirs == mine
    assert_same(current, here)
    score = Score()
    for number, (values, found) in enumerate(zip(registers, backtraces, strict=True)):
        _, their_registers, their_frames = others[3 * number : 3 * number + 3]
        assert_same(values, their_registers)
        score.same_backtrace(found, their_frames)
    score.check()


ASKED = ("info registers", "bt")
JUNK = {"ds", "es", "fs", "gs"}


def assert_same(values: rsp.arch.registers.Registers, shown: str) -> None:
    theirs = parse_registers(shown)
    compared = 0
    for name, value in values.items():
        if value is None:
            assert name in JUNK
            continue
        their = theirs[name]
        assert their is not None
        mask = 0xFFFF if name in {"cs", "ss", "ds", "es"} else (1 << 64) - 1
        assert value == their & mask, name
        compared += 1
    assert compared >= 14


# --- tasks that sleep ---


def test_backtraces_of_tasks_that_sleep_are_the_kernel_s_own(stopped: Stopped) -> None:
    compared = 0
    with stopped.connect() as target:
        for thread in target.threads:
            entries = stopped.stacks.get(int(thread.id, 16))
            if entries and thread.registers["eax"] is None:  # else it runs
                found = thread.backtrace()
                functions = [frame.function for frame in found]
                if any(str(each).startswith("preempt_schedule") for each in functions):
                    continue  # it has woken since, and waits for a CPU
                assert_same_stack(found, entries, target.symbols)
                assert functions[:2] == ["context_switch", "__schedule"]
                compared += 1
    # The built kernels have some 20 tasks of their own, of which two or three are awake.
    assert compared >= 15


def test_registers_of_tasks_that_sleep_are_not_junk(stopped: Stopped) -> None:
    with stopped.connect() as target:
        init = next(thread for thread in target.threads if thread.name == "init")
        registers = init.registers
        known = {name for name, value in registers.items() if value is not None}
        assert known in ({"rsp", "rbp"}, {"esp", "ebp"})
        with pytest.raises(rsp.RegisterUnavailable):
            _ = registers.pc
        # The saved stack pointer is the task's own.
        task = next(value for value in tasks(target) if int(value["pid"]) == 1)
        assert registers.sp == int(task["thread"]["sp"])


def tasks(target: Target) -> Iterator[rsp.Value]:
    first = target.value("init_task")
    offset = place_of(first.type_, "tasks").offset
    node = int(first["tasks"]["next"])
    while node != target.symbols["init_task"].address + offset:
        task = target.value(f"*(struct task_struct *){node - offset:#x}")
        yield task
        node = int(task["tasks"]["next"])


def test_the_command_shows_all(stopped: Stopped, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--symbols", str(stopped.guest.symbols), "--timeout", "60"]
    options += ["--leave-stopped", "--json"]  # and the slide is found, whichever thread it is
    assert main(["bt", stopped.line, "--all", *options]) == 0
    threads = json.loads(capsys.readouterr().out)["threads"]
    assert all(thread["frames"] for thread in threads)
    sleeper = next(thread for thread in threads if thread["name"] == "sleep")
    assert main(["bt", stopped.line, "--thread", sleeper["id"], *options]) == 0
    (again,) = json.loads(capsys.readouterr().out)["threads"]
    assert again == sleeper
    functions = [frame["function"] for frame in sleeper["frames"]]
    assert functions[:3] == ["context_switch", "__schedule", "schedule"]
    assert "do_nanosleep" in functions


# --- what it refuses ---


def test_only_the_thread_that_stopped_is_written_and_stepped(stopped: Stopped) -> None:
    with stopped.connect() as target:
        current = target.thread
        assert current is not None
        whole = "rax" if "rax" in current.registers else "eax"
        stack = "rsp" if "rsp" in current.registers else "esp"
        before = current.registers
        cpus = [thread for thread in target.threads if thread.id.startswith("ffff")]
        (mine,) = (thread for thread in cpus if thread.registers == before)
        (other,) = (thread for thread in cpus if thread.registers != before)
        init = next(thread for thread in target.threads if thread.name == "init")
        for thread in (other, init):
            with pytest.raises(rsp.RegisterWriteError, match=f"not of {thread.id}: let it run"):
                thread.write_register(whole, 0)
            with pytest.raises(rsp.StubError, match=f"not of {thread.id}: to step there") as error:
                thread.step(timeout=PATIENCE)
            assert error.value.code == 22
        with pytest.raises(rsp.StubError, match="no thread 7fff"):
            target.select("7fff")
        # The CPU's thread and the task's are one.
        value = current.registers[whole]
        assert value is not None
        mine.write_register(whole, value ^ 1)
        assert target.registers[whole] == value ^ 1
        current.write_register(whole, value)
        with pytest.raises(rsp.RegisterWriteError, match="did not take"):
            target.write_register(stack, before.sp + 64)
        assert target.registers == before
        stop = mine.step(timeout=PATIENCE)
        assert stop.reason is StopReason.STEP
        assert stop.thread == current
        assert target.registers.pc != before.pc


def test_memory_is_read_within_its_limit(stopped: Stopped, tmp_path: Path) -> None:
    log = tmp_path / "session.rsplog"
    with stopped.connect(record=log) as target:
        banner = target.symbols["linux_banner"].address
        data = target.read_memory(banner, 5000)
        assert data.startswith(b"Linux version 6.1.")
        assert data == b"".join(target.read_memory(banner + at, 50) for at in range(0, 5000, 50))
        with pytest.raises(rsp.MemoryFault) as fault:
            target.read_memory(0x1000, 16)
        assert fault.value.address == 0x1000
        # gdb: `set {int}…`, read back, and left as it was.
        word = target.symbols["panic_timeout"].address
        old = target.read_memory(word, 4)
        target.write_memory(word, b"\x2a\0\0\0")
        assert int(target.value("panic_timeout")) == 42
        target.write_memory(word, old)
    lengths = [int(each, 16) for each in re.findall(r"\$m[0-9a-f]+,([0-9a-f]+)#", log.read_text())]
    assert max(lengths) == 500
    assert "vCont;" not in log.read_text()
    assert not re.search(r"w \S*\$G", log.read_text())


def test_debug_registers_are_counted_together(stopped: Stopped) -> None:
    with stopped.connect() as target:
        where = target.symbols["jiffies"].address
        with pytest.raises(rsp.NoHardwareBreakpoint, match=r"Watch\.ACCESS"):
            target.watchpoint(where, 4, Watch.READ)
        with pytest.raises(rsp.NoHardwareBreakpoint, match="multiple of their length"):
            target.watchpoint(where + 1, 4)
        points: list[Point] = [
            target.watchpoint(where, 4),
            target.watchpoint(where, 2, Watch.ACCESS),
            target.breakpoint("vfs_read", kind=BreakpointKind.HARDWARE),
            target.breakpoint("vfs_write", kind=BreakpointKind.HARDWARE),
        ]
        with pytest.raises(rsp.NoHardwareBreakpoint, match=r"use 4: 1 \(.*2 \(.*vfs_read"):
            target.breakpoint("do_exit", kind=BreakpointKind.HARDWARE)
        points.pop().remove()
        points.append(target.breakpoint("do_exit", kind=BreakpointKind.HARDWARE))
        for point in points:
            point.remove()


def test_the_kernel_debugger_answers_commands(stopped: Stopped) -> None:
    with stopped.connect() as target:
        listed = target.monitor("ps A")
        names = {thread.name for thread in target.threads if not thread.name.startswith("shadow")}
        for name in names:
            assert name in listed
        assert "dummy" not in target.monitor("lsmod")
        # Of a command that it does not know it says nothing at all.
        assert target.monitor("no_such_command") == ""


# --- breakpoints ---


def test_software_breakpoints_are_in_memory_only_while_it_runs(stopped: Stopped) -> None:
    with stopped.connect() as target, target.breakpoint("do_nanosleep") as point:
        assert point.kind is BreakpointKind.SOFTWARE
        (where,) = point.locations
        code = target.read_memory(where, 4)
        assert code[0] != 0xCC
        for count in (1, 2, 3):
            stop = target.resume(timeout=PATIENCE)
            assert stop is not None
            assert stop.breakpoint is point
            assert point.hits == count
            assert target.registers.pc == where
            assert stop.thread is not None
            assert stop.thread.name == "usleep"
            assert target.read_memory(where, 4) == code
            assert target.backtrace()[0].function == "do_nanosleep"
        target.step(timeout=PATIENCE)
        assert where < target.registers.pc < where + 16


def test_what_a_lost_client_has_left_is_gone(stopped: Stopped) -> None:
    address = rsp.SymbolTable(stopped.guest.symbols)["vfs_read"].address
    request = commands.InsertBreakpoint(type=BreakpointType.SOFTWARE, address=address, kind=1)
    target = stopped.connect()
    assert target.session.ask(request) == replies.Ok()
    refused = target.session.ask(request)
    assert isinstance(refused, replies.ErrorReply)
    assert refused.code == 17  # EEXIST, in decimal
    target.session.close()
    with stopped.connect() as target:  # `?` has removed it
        assert target.session.ask(request) == replies.Ok()
        assert (
            target.session.ask(
                commands.RemoveBreakpoint(type=BreakpointType.SOFTWARE, address=address, kind=1)
            )
            == replies.Ok()
        )


def test_at_the_end_it_runs_on(stopped: Stopped) -> None:
    with stopped.connect(on_exit=OnExit.DETACH):
        pass
    assert stopped.guest.run("echo alive") == "alive\n"


def test_a_module_s_init_is_stopped_in(stopped: Stopped) -> None:
    """The last: it lets the guest run."""
    guest = stopped.guest
    guest.start("echo g > /proc/sysrq-trigger")
    with stopped.connect(on_exit=OnExit.DETACH) as target:
        guest.start("insmod /dummy.ko")
        stop = target.until("do_init_module", timeout=PATIENCE)
        assert stop.thread is not None
        assert stop.thread.name == "insmod"
        functions = [frame.function for frame in target.backtrace()]
        assert functions[0] == "do_init_module"
        assert str(functions[-1]).startswith("entry_")
    assert "dummy" in guest.run("cat /proc/modules")
