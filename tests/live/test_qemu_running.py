"""QEMU running and stopped: breakpoints, watchpoints, interrupt, and how the machine is left."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS, counter, wait_until_it_counts
from lab.compare import assert_same_registers
from rsp import BreakpointKind, CpuMode, OnExit, StopReason, Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.gdb import Gdb
    from lab.servers import BootQemu
    from rsp.testing.qemu import QemuMachine

TICK, COUNTER = LABELS["tick"], LABELS["counter"]


@pytest.fixture
def counting(boot_qemu: BootQemu) -> QemuMachine:
    """Return a machine in 64-bit mode that counts, and that nobody has connected to yet."""
    machine = boot_qemu(stopped=False)
    wait_until_it_counts(machine)
    return machine


def status(machine: QemuMachine) -> str:
    return machine.monitor("info status").strip()


# --- coming and going ---


def test_a_running_machine_is_stopped_and_runs_on(counting: QemuMachine, gdb: type[Gdb]) -> None:
    with rsp.connect(counting.address, on_exit=OnExit.LEAVE_STOPPED) as target:
        # QEMU sends a stop reply of its own accord: the answers must not be off by one.
        assert target.stop.reason is StopReason.ATTACHED
        assert target.mode is CpuMode.LONG64
        registers = target.registers
        assert registers.pc in range(LABELS["long_start"], LABELS["greeting"])
        assert target.read_c_string(LABELS["greeting"]) == b"16, 32, 64: here we are"
        assert "paused" in status(counting)
    assert "paused" in status(counting)
    assert_same_registers(registers, gdb(address=counting.address).registers())
    with rsp.connect(counting.address):
        pass
    wait_until_it_counts(counting)


def test_what_was_inserted_is_gone_after_the_end(counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target:
        target.breakpoint(TICK)
        target.breakpoint(LABELS["long_start"], kind=BreakpointKind.HARDWARE)
        target.watchpoint(COUNTER, 8)
        target.resume(timeout=240)
    wait_until_it_counts(counting)


def test_an_error_in_the_block_leaves_nothing_behind(counting: QemuMachine) -> None:
    def fail(_: object) -> bool:
        raise ZeroDivisionError

    def session() -> None:
        with rsp.connect(counting.address) as target:
            target.breakpoint(TICK, condition=fail)
            target.resume(timeout=240)

    with pytest.raises(ZeroDivisionError):
        session()
    wait_until_it_counts(counting)


def test_a_block_that_ends_while_the_target_runs(counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target:
        target.resume(wait=False)
        assert target.running
    wait_until_it_counts(counting)
    with rsp.connect(counting.address) as target:
        target.watchpoint(0x5000, 8)  # which nothing touches
        target.resume(wait=False)
    wait_until_it_counts(counting)
    with rsp.connect(counting.address, on_exit=OnExit.LEAVE_STOPPED) as target:
        target.resume(wait=False)
    assert "paused" in status(counting)


def test_a_time_that_is_over_within_a_breakpoint_s_block(counting: QemuMachine) -> None:
    """The error says that the machine runs, and it does; nothing of the block is left in it."""
    with rsp.connect(counting.address) as target:
        with (
            pytest.raises(rsp.RspTimeout, match="still runs") as caught,
            target.breakpoint(LABELS["real_start"]),
            target.watchpoint(0x5000, 8),
        ):
            target.resume(timeout=0.1)
        assert caught.value.__context__ is None
        assert target.running
        assert len(target.breakpoints) == 0
        wait_until_it_counts(counting)
        target.interrupt()
    wait_until_it_counts(counting)


def test_detach_closes_the_target(counting: QemuMachine) -> None:
    target = rsp.connect(counting.address)
    point = target.breakpoint(TICK)
    target.detach()
    target.detach()
    wait_until_it_counts(counting)
    assert not target.running
    for use in (lambda: target.registers, target.resume, target.interrupt, target.step):
        with pytest.raises(rsp.LocalProtocolError, match="connect again"):
            use()
    assert not point.inserted


# --- interrupt ---


def test_interrupt(counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target:
        assert target.resume(wait=False) is None
        wait_until_it_counts(counting)
        for use in (lambda: target.registers, lambda: target.read_memory(0, 1), target.resume):
            with pytest.raises(rsp.LocalProtocolError, match="runs"):
                use()
        stop = target.interrupt()
        assert (stop.reason, stop.signal_name) == (StopReason.INTERRUPT, "SIGINT")
        assert target.read_u64(COUNTER) == counter(counting)
        with pytest.raises(rsp.RspTimeout, match="still runs"):
            target.resume(timeout=0.1)
        assert target.running
        with pytest.raises(rsp.RspTimeout):
            target.wait(timeout=0.1)
        # Into a step over one's own breakpoint, and again and again.
        assert target.interrupt().reason is StopReason.INTERRUPT
        with target.breakpoint(TICK, condition=lambda _: False) as point:
            for _ in range(5):
                target.resume(wait=False)
                assert target.interrupt() is target.stop
            assert point.inserted
        assert target.interrupt() is target.stop  # it stands: nothing to do


def test_a_stop_that_came_while_nobody_waited(counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target:
        point = target.breakpoint(TICK)
        target.resume(wait=False)
        while target.running:
            pass
        assert target.stop.breakpoint is point
        assert target.wait(timeout=1) is target.stop
        assert point.hits == 1


@contextlib.contextmanager
def ctrl_c(seconds: float) -> Iterator[None]:
    """Press Ctrl-C after some time; the block must end with it."""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    begun = threading.Event()

    def press() -> None:
        begun.wait()
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGINT)

    keyboard = threading.Thread(target=press)
    keyboard.start()  # which takes longer than the shortest time
    begun.set()
    with pytest.raises(KeyboardInterrupt):
        yield
    keyboard.join()


def test_ctrl_c_stops_the_target(counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target:
        for wait in (target.resume, lambda: (target.resume(wait=False), target.wait())):
            with ctrl_c(0.2):
                wait()
            assert not target.running
            assert target.stop.reason is StopReason.INTERRUPT
            assert "paused" in status(counting)
        with target.breakpoint(TICK, condition=lambda _: False), ctrl_c(0.2):
            target.resume()
        assert not target.running
    wait_until_it_counts(counting)


def ask_for_ever(target: rsp.Target) -> None:
    while True:
        target.read_memory(0, 0x180000)
        target.monitor("info registers")


@pytest.mark.parametrize("seconds", [0.001, 0.003, 0.01, 0.02])
def test_ctrl_c_within_requests(seconds: float, counting: QemuMachine) -> None:
    """What was asked for is answered later; the answers must not be taken for others."""
    with rsp.connect(counting.address) as target:
        known = target.read_memory(TICK, 16)
        with ctrl_c(seconds):
            ask_for_ever(target)
        target.invalidate()
        assert target.read_memory(TICK, 16) == known
        with ctrl_c(seconds):
            ask_for_ever(target)
        with target.breakpoint(TICK) as point:
            stop = target.resume(timeout=240)
            assert stop is not None
            assert stop.breakpoint is point
        with ctrl_c(seconds):
            ask_for_ever(target)
        # The first thing after it is a resume.
        target.resume(wait=False)
        wait_until_it_counts(counting)
        assert target.interrupt().reason is StopReason.INTERRUPT
    wait_until_it_counts(counting)


# --- breakpoints ---


@pytest.mark.parametrize("kind", list(BreakpointKind))
def test_a_breakpoint_is_hit_again_and_again(kind: BreakpointKind, counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target, target.breakpoint(TICK, kind=kind) as point:
        wanted = BreakpointKind.SOFTWARE if kind is BreakpointKind.AUTO else kind
        assert (point.kind, point.locations) == (wanted, (TICK,))
        target.resume(timeout=240)
        first = target.read_u64(COUNTER)
        for hit in range(2, 7):
            stop = target.resume(timeout=240)
            assert stop is not None
            assert (stop.reason, stop.breakpoint, stop.signal_name) == (
                StopReason.BREAKPOINT, point, "SIGTRAP",
            )  # fmt: skip
            assert target.registers.pc == TICK
            # Each round of the guest is one hit: none was lost, none counted twice.
            assert (point.hits, target.read_u64(COUNTER)) == (hit, first + hit - 1)
        assert target.step().reason is StopReason.STEP
        assert (point.hits, target.read_u64(COUNTER)) == (6, first + 6)


def test_two_breakpoints_at_one_place(counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target:
        first, second = target.breakpoint(TICK), target.breakpoint(TICK)
        for hits in (1, 2):
            target.resume(timeout=240)
            assert (first.hits, second.hits) == (hits, hits)
        first.remove()
        target.resume(timeout=240)
        assert (first.hits, second.hits) == (2, 3)
        second.remove()
        with pytest.raises(rsp.RspTimeout):
            target.resume(timeout=0.2)


def test_a_condition(counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target:
        start = target.read_u64(COUNTER)
        point = target.breakpoint(TICK, condition=lambda t: t.read_u64(COUNTER) >= start + 20)
        stop = target.resume(timeout=240)
        assert stop is not None
        assert stop.breakpoint is point
        assert start + 20 <= target.read_u64(COUNTER) <= start + 21
        assert point.hits == 1  # as gdb counts


def test_a_step_onto_a_breakpoint(counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target, target.breakpoint(TICK) as point:
        target.resume(timeout=240)
        for _ in range(20):
            stop = target.step()
            if target.registers.pc == TICK:
                break
            assert stop.reason is StopReason.STEP
        assert (stop.reason, stop.breakpoint, point.hits) == (StopReason.BREAKPOINT, point, 2)
        # And on from it, with the breakpoint removed meanwhile.
        point.remove()
        target.step()
        assert target.registers.pc != TICK


def test_breakpoints_do_not_show_in_memory(counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target:
        before = target.read_memory(TICK, 16)
        with target.breakpoint(TICK):
            target.invalidate()
            assert target.read_memory(TICK, 16) == before


def test_the_table_has_the_layout_of_gdb(boot_qemu: BootQemu, gdb: type[Gdb]) -> None:
    """The same points and hits in both; only the column What is each one's own."""
    long_start = LABELS["long_start"]
    theirs = gdb(address=boot_qemu().address).run(
        "info breakpoints",
        f"hbreak *{long_start:#x}", f"break *{TICK:#x}", "continue", "continue", "continue",
        f"watch *(long long *){COUNTER:#x}", f"rwatch *(long long *){COUNTER:#x}",
        f"awatch *(long long *){COUNTER:#x}",
        "info breakpoints",
    )  # fmt: skip
    with rsp.connect(boot_qemu().address) as target:
        assert str(target.breakpoints) == theirs[0]
        target.breakpoint(long_start, kind=BreakpointKind.HARDWARE)
        target.breakpoint(TICK)
        for _ in range(3):
            target.resume(timeout=240)
        for watch in (Watch.WRITE, Watch.READ, Watch.ACCESS):
            target.watchpoint(COUNTER, 8, watch)
        ours = str(target.breakpoints)
        assert len(target.breakpoints) == 5
    what = theirs[-1].splitlines()[0].index("What")
    assert [line[:what].rstrip() for line in ours.splitlines()] == [
        line[:what].rstrip() for line in theirs[-1].splitlines()
    ]
    assert "already hit 2 times" in ours


# --- watchpoints ---

VALUES = re.compile(r"^(Old value|New value|Value) = (\d+)$", re.MULTILINE)
WATCH_COMMANDS = {Watch.WRITE: "watch", Watch.READ: "rwatch", Watch.ACCESS: "awatch"}


@pytest.mark.parametrize("watch", list(Watch))
def test_a_watchpoint_stops_where_that_of_gdb_does(
    watch: Watch, boot_qemu: BootQemu, gdb: type[Gdb]
) -> None:
    ours, theirs = boot_qemu(), boot_qemu()
    for machine in (ours, theirs):
        with rsp.connect(machine.address, on_exit=OnExit.LEAVE_STOPPED) as target:
            target.until(TICK, timeout=240)
    expected = gdb(address=theirs.address).run(
        f"{WATCH_COMMANDS[watch]} *(long long *){COUNTER:#x}",
        *["continue", "output/x $rip", f"output/x *(long long *){COUNTER:#x}"] * 3,
    )
    stops = zip(expected[1::3], expected[2::3], expected[3::3], strict=True)
    with rsp.connect(ours.address) as target:
        point = target.watchpoint(COUNTER, 8, watch)
        for hits, (said, pc, value) in enumerate(stops, 1):
            stop = target.resume(timeout=240)
            assert stop is not None
            shown = {name: int(number) for name, number in VALUES.findall(said)}
            if "Value" in shown:
                shown = {"Old value": shown["Value"], "New value": shown["Value"]}
            if watch is Watch.READ:
                assert stop.old is None
                assert f"(value {shown['New value']:#x})" in str(stop)
            else:
                assert stop.old == shown["Old value"]
            assert stop.new == shown["New value"]
            assert (stop.reason, stop.watchpoint) == (StopReason.WATCHPOINT, point)
            assert stop.address == COUNTER
            assert (target.registers.pc, target.read_u64(COUNTER)) == (int(pc, 16), int(value, 16))
            assert point.hits == hits
        point.remove()
        with pytest.raises(rsp.RspTimeout):
            target.resume(timeout=0.2)


def test_a_watchpoint_beside_the_counter_is_not_hit(counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target, target.watchpoint(COUNTER + 8, 8) as point:
        with pytest.raises(rsp.RspTimeout):
            target.resume(timeout=0.2)
        target.interrupt()
        assert point.hits == 0


def test_a_watchpoint_on_the_instruction_of_a_breakpoint(counting: QemuMachine) -> None:
    """The step over one's own breakpoint meets the watchpoint, which QEMU then reports twice.

    gdb 13 shows the second report as a SIGTRAP from nowhere.
    """
    with rsp.connect(counting.address) as target:
        target.until(TICK, timeout=240)
        start = target.read_u64(COUNTER)
        point, watch = target.breakpoint(TICK), target.watchpoint(COUNTER, 8)
        seen = []
        for _ in range(6):
            stop = target.resume(timeout=240)
            assert stop is not None
            seen.append((stop.reason, target.read_u64(COUNTER) - start))
        assert seen == [
            (reason, hit)
            for hit in (1, 2, 3)
            for reason in (StopReason.WATCHPOINT, StopReason.BREAKPOINT)
        ]
        assert (point.hits, watch.hits) == (3, 3)
        assert target.registers.pc == TICK
        # The same by steps: onto the watchpoint, and from it.
        assert target.step().reason is StopReason.WATCHPOINT
        behind = target.registers.pc
        assert behind > TICK
        assert target.step().reason is StopReason.STEP
        assert target.registers.pc not in (TICK, behind)
        # And the last report, which nobody has taken, does not stop the machine when we are gone.
        while target.step().reason is not StopReason.WATCHPOINT:
            pass
    wait_until_it_counts(counting)


def test_watchpoints_on_one_address(counting: QemuMachine) -> None:
    with rsp.connect(counting.address) as target:
        write = target.watchpoint(COUNTER, 8, Watch.WRITE)
        wide = target.watchpoint(COUNTER - 8, 16, Watch.WRITE)
        read = target.watchpoint(COUNTER, 8, Watch.READ)
        target.resume(timeout=240)
        target.resume(timeout=240)
        assert write.hits == wide.hits
        assert write.hits + read.hits == 2


# --- the stop as gdb has it ---


def test_the_stop_after_a_hit_is_gdb_s_too(counting: QemuMachine, gdb: type[Gdb]) -> None:
    with rsp.connect(counting.address, on_exit=OnExit.LEAVE_STOPPED) as target:
        target.until(TICK, timeout=240)
        registers = target.registers
        flags = registers.flags
        stack = target.read_u64(registers.sp)
    oracle = gdb(address=counting.address)
    assert_same_registers(registers, oracle.registers())
    assert oracle.value("*(unsigned long long *)$rsp") == stack
    shown = re.search(r"\[(.*)\]", oracle.run("info registers eflags")[0])
    assert shown is not None
    assert set(shown[1].split()) - {"IOPL=0"} == set(str(flags).strip("[ ]").split())


# --- somebody else lets it run ---


@pytest.mark.parametrize("how", ["QMP", "the stub's monitor"])
def test_a_machine_that_was_let_run_behind_our_back(counting: QemuMachine, how: str) -> None:
    """Its monitor, or a window, resumes it: what is asked then stops it, and is answered."""

    def let_run(target: rsp.Target) -> None:
        _ = (counting if how == "QMP" else target).monitor("cont")
        target.invalidate()
        assert "running" in status(counting)

    with rsp.connect(counting.address) as target:
        let_run(target)
        before = int.from_bytes(target.read_memory(COUNTER, 4), "little")
        assert "paused" in status(counting)
        let_run(target)
        assert target.registers.pc in range(LABELS["long_start"], LABELS["greeting"])
        let_run(target)
        assert target.step(timeout=60).reason is StopReason.STEP
        let_run(target)
        with target.breakpoint(TICK):
            assert target.resume(timeout=60).reason is StopReason.BREAKPOINT
        assert int.from_bytes(target.read_memory(COUNTER, 4), "little") > before
        let_run(target)
    assert "running" in status(counting)
