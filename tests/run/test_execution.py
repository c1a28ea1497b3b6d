"""Running, stopping, breakpoints and the end, on a machine whose every instruction is known."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import rsp
from lab.stops import resumed
from rsp.arch.modes import CpuMode
from rsp.errors import (
    LocalProtocolError,
    NoHardwareBreakpoint,
    RegisterUnavailable,
    RspTimeout,
    StubError,
)
from rsp.run.points import BreakpointKind, Watch
from rsp.testing.cpu import Cpu, State
from rsp.testing.faults import FaultyTransport
from rsp.testing.personalities import (
    BOCHS,
    GDBSERVER,
    KGDB,
    PLAIN,
    QEMU,
    RUST_GDBSTUB,
    VIRTUALBOX,
    Personality,
)
from rsp.testing.serve import StubTransport, connected
from rsp.testing.stub import Stub
from rsp.transports.wrapper import TransportWrapper
from rsp.wire import commands, stops
from rsp.wire.features import Features
from rsp.wire.signals import Signal

if TYPE_CHECKING:
    from rsp.remote.target import Target
    from rsp.transports.base import Transport

START = 0x1000
ALL = [QEMU, KGDB, BOCHS, VIRTUALBOX, GDBSERVER, RUST_GDBSTUB, PLAIN]
WALK = [State(registers={"rip": START + i}) for i in range(1, 32)]


def stub_of(
    personality: Personality = PLAIN, program: list[State] | None = None, **more: Any
) -> Stub:
    kgdb = personality is KGDB
    return Stub(
        personality,
        registers={"rip": START},
        memory={START: bytes(4096), 0x4000: bytes(4096)},
        program=WALK if program is None else program,
        threads=more.pop("threads", {"fffffffd": Cpu(name="shadowCPU1")} if kgdb else {}),
        thread="fffffffe" if kgdb else "01",
        **more,
    )


# --- breakpoints ---


@pytest.mark.parametrize("personality", ALL, ids=lambda who: who.name)
@pytest.mark.parametrize("kind", [BreakpointKind.SOFTWARE, BreakpointKind.HARDWARE])
def test_a_breakpoint_is_hit_where_it_is(personality: Personality, kind: BreakpointKind) -> None:
    with connected(stub_of(personality)) as target:
        point = target.breakpoint(START + 5, kind=kind)
        stop = resumed(target)
        assert stop.reason is rsp.StopReason.BREAKPOINT
        assert stop.breakpoint is point
        assert stop.signal_name == "SIGTRAP"
        assert target.registers.pc == START + 5
        assert (point.hits, point.kind) == (1, kind)


@pytest.mark.parametrize("personality", ALL, ids=lambda who: who.name)
def test_breakpoints_on_every_instruction_are_each_hit_once(personality: Personality) -> None:
    """Each resume steps over the breakpoint that it stands on, and stops at the next."""
    with connected(stub_of(personality)) as target:
        points = [target.breakpoint(START + i) for i in range(1, 8)]
        for point in points:
            assert resumed(target).breakpoint is point
        assert [point.hits for point in points] == [1] * 7


@pytest.mark.parametrize("personality", ALL, ids=lambda who: who.name)
def test_one_breakpoint_in_a_loop(personality: Personality) -> None:
    stub = stub_of(personality, loop=0)
    with connected(stub) as target:
        point = target.breakpoint(START + 7)
        for count in range(1, 6):
            assert resumed(target).breakpoint is point
            assert point.hits == count


@pytest.mark.parametrize("personality", ALL, ids=lambda who: who.name)
def test_steps_pass_and_meet_breakpoints(personality: Personality) -> None:
    with connected(stub_of(personality)) as target:
        point = target.breakpoint(START + 2)
        assert target.step(timeout=5).reason is rsp.StopReason.STEP
        target.step(timeout=5)
        assert target.registers.pc == START + 2
        target.step(timeout=5)
        assert target.registers.pc == START + 3
        assert len(target.breakpoints) == 1
        assert point.inserted


def test_a_condition_that_is_false_many_times() -> None:
    """More often than Python may recurse."""
    stub = stub_of(loop=0, program=WALK[:3])
    times = sys.getrecursionlimit() + 100
    with connected(stub) as target:
        asked = []

        def enough(target: Target) -> bool:
            asked.append(target.registers.pc)
            return len(asked) == times

        point = target.breakpoint(START + 2, condition=enough)
        assert resumed(target).breakpoint is point
        assert point.hits == 1
        assert set(asked) == {START + 2}


def test_a_condition_that_fails_leaves_the_target_stopped_there() -> None:
    with connected(stub_of()) as target:
        point = target.breakpoint(START + 2, condition=lambda target: bool(1 // 0))
        with pytest.raises(ZeroDivisionError):
            target.resume(timeout=5)
        assert not target.running
        assert target.stop.breakpoint is point
        assert target.registers.pc == START + 2


def test_two_breakpoints_at_one_place() -> None:
    stub = stub_of()
    with connected(stub) as target:
        never = target.breakpoint(START + 2, condition=lambda _: False)
        always = target.breakpoint(START + 2)
        assert resumed(target).breakpoint is always
        assert (never.hits, always.hits) == (0, 1)
        always.remove()
        assert len(stub.breakpoints) == 1
        never.remove()
        assert stub.breakpoints == {}


def test_until() -> None:
    stub = stub_of()
    with connected(stub) as target:
        assert target.until(START + 9, timeout=5).reason is rsp.StopReason.BREAKPOINT
        assert target.registers.pc == START + 9
        assert stub.breakpoints == {}
        assert len(target.breakpoints) == 0


def test_until_meets_another_stop_first() -> None:
    with connected(stub_of()) as target:
        point = target.breakpoint(START + 3)
        assert target.until(START + 9, timeout=5).breakpoint is point


def test_the_hardware_is_used_up() -> None:
    stub = stub_of()
    with connected(stub) as target:
        for i in range(4):
            target.breakpoint(START + i, kind=BreakpointKind.HARDWARE)
        with pytest.raises(NoHardwareBreakpoint, match="x86 has 4") as caught:
            target.breakpoint(START + 9, kind=BreakpointKind.HARDWARE)
        assert caught.value.address == START + 9
        with pytest.raises(NoHardwareBreakpoint):
            target.watchpoint(0x4000, 8, Watch.READ)
        assert len(target.breakpoints) == len(stub.breakpoints) == 4


def test_software_where_memory_is_and_hardware_elsewhere() -> None:
    with connected(stub_of()) as target:
        assert target.breakpoint(START + 1).kind is BreakpointKind.SOFTWARE
        assert target.breakpoint(0x900000).kind is BreakpointKind.HARDWARE
        with pytest.raises(rsp.MemoryFault):
            target.breakpoint(0x900000, kind=BreakpointKind.SOFTWARE)


@pytest.mark.parametrize("personality", [QEMU, GDBSERVER, PLAIN], ids=lambda who: who.name)
def test_a_watchpoint(personality: Personality) -> None:
    program = [*WALK[:3], State(registers={"rip": START + 4}, writes={0x4002: b"\1"}), *WALK[4:]]
    with connected(stub_of(personality, program)) as target:
        watch = target.watchpoint(0x4000, 8)
        other = target.watchpoint(0x4100, 8, Watch.ACCESS)
        stop = resumed(target)
        assert stop.reason is rsp.StopReason.WATCHPOINT
        assert stop.watchpoint is watch
        assert stop.address == 0x4002
        assert (watch.hits, other.hits) == (1, 0)


def change_of(stop: rsp.Stop) -> tuple[bytes | None, bytes | None]:
    """Return what a watchpoint saw."""
    old, new = (None if value is None else value.bytes_() for value in (stop.old, stop.new))
    return old, new


@pytest.mark.parametrize("personality", [QEMU, GDBSERVER, PLAIN, KGDB], ids=lambda who: who.name)
@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_what_a_watchpoint_saw(personality: Personality, size: int) -> None:
    def state(number: int, byte: int) -> State:
        return State(registers={"rip": START + number}, writes={0x4000: bytes([byte])})

    program = [state(1, 1), state(2, 2), WALK[2], state(4, 3), state(5, 4), state(6, 5), *WALK[6:]]
    rest = bytes(size - 1)
    stub = stub_of(personality, program)
    with connected(stub) as target:
        target.watchpoint(0x4000, size, condition=lambda target: target.registers.pc != START + 5)
        assert change_of(resumed(target)) == (b"\0" + rest, b"\1" + rest)
        # kgdb does not tell it from the end of a step.
        stop = resumed(target) if personality is KGDB else target.step(timeout=5)
        assert change_of(stop) == (b"\1" + rest, b"\2" + rest)
        assert change_of(target.step(timeout=5)) == (None, None)
        # What we write is no access of the program.
        target.write_memory(0x4000, bytes(range(0x40, 0x40 + size)))
        stop = resumed(target)
        assert change_of(stop) == (
            bytes(range(0x40, 0x40 + size)), b"\3" + bytes(range(0x41, 0x40 + size)),
        )  # fmt: skip
        first = stop
        # One that a condition lets pass counts as well.
        stop = resumed(target)
        rest = bytes(range(0x41, 0x40 + size))
        assert change_of(stop) == (b"\4" + rest, b"\5" + rest)
        assert change_of(first)[1] == b"\3" + rest
        shown = {
            1: "(old value 0x4, new value 0x5)",
            2: "(old value 0x4104, new value 0x4105)",
            16: "(old value 04 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f, "
            "new value 05 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f)",
        }
        assert shown.get(size, "old value") in str(stop)


def test_what_a_watchpoint_saw_where_memory_cannot_be_read() -> None:
    program = [State(registers={"rip": START + i}, writes={0x4000: bytes([i])}) for i in (1, 2, 3)]
    stub = stub_of(PLAIN, program)
    unmapped = {START + 2}

    def unmap(stub: Stub, command: commands.Command) -> bytes | None:
        gone = isinstance(command, commands.ReadMemory) and stub.cpu.pc in unmapped
        return b"E0e" if gone else None

    stub.hooks.append(unmap)
    with connected(stub) as target:
        target.watchpoint(0x4000, 4)
        assert change_of(resumed(target)) == (bytes(4), b"\1\0\0\0")
        stop = resumed(target)
        assert change_of(stop) == (b"\1\0\0\0", None)
        assert "(old value 0x1, and it cannot be read now)" in str(stop)
        stop = resumed(target)
        assert change_of(stop) == (None, b"\3\0\0\0")
        assert "at 0x4000 (value 0x3) SIGTRAP" in str(stop)


def test_a_watchpoint_costs_a_read_a_resume_and_a_hit_one_more() -> None:
    program = [State(registers={"rip": START + i}, writes={0x4000: bytes([i])}) for i in (1, 2, 3)]
    stub = stub_of(GDBSERVER, program)
    with connected(stub) as target:
        target.watchpoint(0x4000, 4)
        resumed(target)
        stub.received.clear()
        resumed(target)
        resumed(target)
        reads = [payload for payload in stub.received if payload.startswith(b"m4000")]
        assert len(reads) == 2  # what was read at a hit is known when it goes on


def test_a_watchpoint_that_is_none_of_ours_is_passed() -> None:
    """QEMU 7.2 reports one that has been removed since another CPU hit it, with any address."""
    program = [*WALK[:3], State(registers={"rip": START + 4}, writes={0x4002: b"\1"}), *WALK[4:]]
    stub = stub_of(QEMU, program)
    stale = [b"T05thread:p01.01;watch:000055ebf9d22f80;"]

    def report(_: Stub, command: commands.Command) -> bytes | None:
        return stale.pop() if command.resumes and stale else None

    stub.hooks.append(report)
    with connected(stub) as target:
        watch = target.watchpoint(0x4000, 8)
        stop = resumed(target)
        assert not stale
        assert (stop.watchpoint, stop.address, watch.hits) == (watch, 0x4002, 1)
        # A step ends there all the same.
        stale.append(b"T05thread:p01.01;watch:000055ebf9d22f80;")
        assert target.step(timeout=5).reason is rsp.StopReason.STEP


def test_a_watchpoint_that_is_met_by_a_step_and_removed() -> None:
    program = [State(registers={"rip": START + 1}, writes={0x4000: b"\1"}), *WALK[1:]]
    with connected(stub_of(QEMU, program)) as target:
        watch = target.watchpoint(0x4000, 4)
        assert target.step(timeout=5).watchpoint is watch
        watch.remove()
        target.step(timeout=5)
        assert target.until(START + 9, timeout=5).reason is rsp.StopReason.BREAKPOINT


def test_a_breakpoint_that_the_stub_refuses_to_remove_does_not_keep_the_others() -> None:
    """And the target is let go all the same."""
    stub = stub_of()

    def refuse(_: Stub, command: commands.Command) -> bytes | None:
        first = isinstance(command, commands.RemoveBreakpoint) and command.address == START + 1
        return b"E01" if first else None

    stub.hooks.append(refuse)
    with pytest.raises(StubError, match="refuses to remove"), connected(stub) as target:
        assert [target.breakpoint(START + i).number for i in (1, 2)] == [1, 2]
    assert {address for _, address in stub.breakpoints} <= {START + 1}
    assert stub.detached


# --- running ---


@pytest.mark.parametrize("personality", [QEMU, GDBSERVER, PLAIN], ids=lambda who: who.name)
def test_resume_wait_and_interrupt(personality: Personality) -> None:
    stub = stub_of(personality, program=WALK[:3])
    with connected(stub) as target:
        assert target.resume(wait=False) is None
        assert target.running
        with pytest.raises(RspTimeout, match=r"still runs after 0\.01 s") as caught:
            target.wait(timeout=0.01)
        assert caught.value.timeout == 0.01
        assert target.running
        stop = target.interrupt()
        assert stop.reason is rsp.StopReason.INTERRUPT
        assert stop.signal == Signal.SIGINT
        assert target.interrupt() is stop
        assert target.wait() is stop
        assert target.registers.pc == START + 3


def test_a_resume_whose_time_is_over_leaves_it_running() -> None:
    stub = stub_of(program=[])
    with connected(stub) as target:
        with pytest.raises(RspTimeout):
            target.resume(timeout=0.01)
        assert target.running
        target.interrupt()


def test_a_time_that_is_over_within_a_breakpoints_block(caplog: pytest.LogCaptureFixture) -> None:
    """The target is stopped, the breakpoint taken out, and it runs on: the error comes alone."""
    stub = stub_of(program=WALK[:2])
    with connected(stub) as target:
        with (
            pytest.raises(RspTimeout, match=r"still runs after 0\.01 s") as caught,
            target.breakpoint(START + 9),
        ):
            target.resume(timeout=0.01)
        assert not hasattr(caught.value, "__notes__")
        assert caught.value.__context__ is None
        assert target.running
        assert stub.running
        assert stub.breakpoints == {}
        assert len(target.breakpoints) == 0
        with pytest.raises(RspTimeout):
            target.wait(0.01)
        target.interrupt()
        with pytest.raises(RspTimeout):
            target.until(START + 9, timeout=0.01)
        assert target.running
        assert stub.breakpoints == {}
        assert target.interrupt().reason is rsp.StopReason.INTERRUPT
    assert not caplog.records


def test_a_block_that_ends_while_the_target_runs() -> None:
    stub = stub_of(program=WALK[:2])
    with connected(stub) as target:
        kept = target.breakpoint(START + 20)
        with target.breakpoint(START + 9), target.watchpoint(0x4000, 4):
            target.resume(wait=False)
        assert target.running
        assert list(target.breakpoints) == [kept]
        assert {address for _, address in stub.breakpoints} == {START + 20}
        with pytest.raises(LocalProtocolError):
            kept.remove()


def test_a_step_that_is_under_way_at_the_end_of_a_block_goes_on() -> None:
    """An instruction that waits (hlt) is still stepped over, and no other runs behind it."""
    stub = stub_of(program=WALK[:1])
    with connected(stub) as target:
        target.step(timeout=5)
        stub.received.clear()
        with pytest.raises(RspTimeout), target.breakpoint(START + 9):
            target.step(timeout=0.01)
        assert [payload for payload in stub.received if payload in (b"s", b"c")] == [b"s", b"s"]
        assert target.running


def test_a_stop_that_comes_while_a_block_is_left_is_not_lost() -> None:
    stub = stub_of(program=[])
    line = Stopping(stub)
    with rsp.connect(line) as target:
        with target.breakpoint(START + 9) as point:
            target.resume(wait=False)
            # It is there before the 0x03 is.
            stub.cpu.registers["rip"] = START + 9
            line.due = int(Signal.SIGTRAP)
        assert not target.running
        stop = target.wait()
        assert (stop.reason, stop.breakpoint) == (rsp.StopReason.BREAKPOINT, point)
        assert stub.breakpoints == {}


def test_a_breakpoint_of_a_block_goes_later_where_nothing_stops_the_target() -> None:
    """QEMU's user mode does not listen while its program runs."""
    features = Features({**(QEMU.features or {}), "qXfer:auxv:read": True})
    deaf = replace(
        QEMU,
        features=features,
        queries=QEMU.queries - {"qqemu.PhyMemMode", "Qqemu.PhyMemMode"},
        interrupted_by=None,
        stopped_by_any_byte=False,
    )
    stub = stub_of(deaf, program=[])
    line = Stopping(stub)
    with rsp.connect(line) as target:
        assert target.stub.name == "qemu-user"
        point = target.breakpoint(START + 9)
        with pytest.raises(RspTimeout, match="does not listen") as caught, point:
            target.resume(timeout=0.01)
        (note,) = caught.value.__notes__
        assert note == (
            f"breakpoint 1 (*{START + 9:#x}) is in the target until its next stop, for it cannot "
            "be stopped now"
        )
        assert target.running
        # It is met all the same: nobody waits for it any more, and the program goes on.
        stub.cpu.registers["rip"] = START + 9
        line.due = int(Signal.SIGTRAP)
        with pytest.raises(RspTimeout):
            target.wait(0.05)
        assert target.running
        assert (point.hits, stub.breakpoints, len(target.breakpoints)) == (0, {}, 0)
        line.due = int(Signal.SIGUSR1)
        assert target.wait(5).signal == Signal.SIGUSR1


class Stopping(TransportWrapper):
    """Tells of a stop that the target comes to by itself, of the signal ``due``."""

    def __init__(self, stub: Stub) -> None:
        super().__init__(StubTransport(stub))
        self._stub = stub
        self.due = 0

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        try:
            return super().read(max_bytes, 0)
        except RspTimeout:
            due, self.due = self.due, 0
            return self._stub.stop(due) if due else super().read(max_bytes, timeout)


def test_a_line_that_never_rests_does_not_keep_wait_from_ending() -> None:
    stub = stub_of(program=[])

    with connected(stub, line=Chatty) as target:
        with pytest.raises(RspTimeout):
            target.resume(timeout=0.05)
        assert target.running
        assert "chatter" in target.console.read()
        target.interrupt()


class Chatty(FaultyTransport):
    """Where nothing else comes, text does, at every read."""

    def __init__(self, inner: Transport) -> None:
        super().__init__(inner, reliable=True)

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        try:
            return super().read(max_bytes, 0)
        except RspTimeout:
            return b"chatter\n"


def test_output_of_the_target_goes_to_the_console() -> None:
    program = [State(registers={"rip": START + 1}, output=b"hello\n"), *WALK[1:]]
    with connected(stub_of(GDBSERVER, program)) as target:
        target.until(START + 5, timeout=5)
        assert target.console.read() == "hello\n"


def test_a_signal_is_delivered_when_a_process_goes_on() -> None:
    program = [State(registers={"rip": START + 1}, signal=int(Signal.SIGUSR1)), *WALK[1:]]
    stub = stub_of(GDBSERVER, program)
    with connected(stub) as target:
        stop = resumed(target)
        assert stop.reason is rsp.StopReason.SIGNAL
        assert stop.signal_name == "SIGUSR1"
        target.step(timeout=5)
    assert [p for p in stub.received if p.startswith(b"vCont;")][1] == b"vCont;S1e:p01.01"


@pytest.mark.parametrize("nobody_left", [b"E.No unwaited-for children left.", b"N"])
@pytest.mark.parametrize("signal", [int(Signal.SIGSEGV), 0])
def test_a_thread_that_is_stepped_alone_and_is_gone(signal: int, nobody_left: bytes) -> None:
    """As gdbserver 13.1 at times: it waits for no thread but that one."""

    def is_gone(stub: Stub, command: commands.Command) -> bytes | None:
        if isinstance(command, commands.VCont):
            (action,) = command.actions
            if action.kind is commands.ActionKind.STEP:
                return nobody_left
        return None

    program = [State(registers={"rip": START + 1}, signal=signal)]
    stub = stub_of(GDBSERVER, program, end=stops.Terminated(signal=int(Signal.SIGSEGV)))
    stub.hooks.append(is_gone)
    with connected(stub) as target:
        if signal:
            assert resumed(target).reason is rsp.StopReason.SIGNAL
            assert target.step(timeout=5).reason is rsp.StopReason.TERMINATED
        else:  # it may have ended by itself: the others are not to run for that
            with pytest.raises(StubError, match="refuses to let the target run"):
                target.step(timeout=5)
            assert not target.running


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (stops.Exited(status=3), rsp.StopReason.EXITED),
        (stops.Terminated(signal=9), rsp.StopReason.TERMINATED),
    ],
)
def test_the_end_of_a_process(end: Any, reason: rsp.StopReason) -> None:
    stub = stub_of(GDBSERVER, WALK[:3], end=end)
    with connected(stub) as target:
        with target.breakpoint(START + 9) as point:
            stop = resumed(target)
            assert stop.reason is reason
        assert stop.status == getattr(end, "status", None)
        assert point.hits == 0
        assert len(target.breakpoints) == 0
        for forbidden in (target.resume, target.step, lambda: target.registers):
            with pytest.raises(LocalProtocolError):
                forbidden()
    assert not stub.detached


def test_a_process_that_ends_within_the_step_over_a_breakpoint() -> None:
    stub = stub_of(GDBSERVER, WALK[:3], end=stops.Exited(status=0))
    with connected(stub) as target:
        target.breakpoint(START + 3)
        assert resumed(target).reason is rsp.StopReason.BREAKPOINT
        assert resumed(target).reason is rsp.StopReason.EXITED
        assert len(target.breakpoints) == 0


def test_until_on_a_process_that_ends_before() -> None:
    stub = stub_of(GDBSERVER, WALK[:3], end=stops.Exited(status=0))
    with connected(stub) as target:
        assert target.until(START + 9, timeout=5).reason is rsp.StopReason.EXITED


@pytest.mark.parametrize("times", [1, 3])
def test_a_stop_that_is_reported_more_than_once_counts_once(times: int) -> None:
    stub = stub_of()
    with connected(stub) as target:
        point = target.breakpoint(START + 2, condition=lambda target: False)
        other = target.breakpoint(START + 4)
        target.step(timeout=5)
        stub.hooks.append(
            lambda stub, command: (
                [b"S05"] * times + [b"00" * 544]
                if isinstance(command, commands.ReadRegisters)
                else None
            )
        )
        assert target.registers["rax"] == 0
        stub.hooks.clear()
        target.invalidate()
        assert not target.running
        assert (point.hits, other.hits) == (0, 0)
        assert resumed(target).breakpoint is other


# --- modes ---


@pytest.mark.parametrize("personality", [QEMU, PLAIN, GDBSERVER], ids=lambda who: who.name)
@pytest.mark.parametrize("enough", [True, False])
def test_a_mode_is_stepped_to_where_breakpoints_may_not_hold(
    personality: Personality, enough: bool
) -> None:
    """Under KVM they lie in memory that a program may load itself over; others have none."""
    walk = [State(registers={"rip": START + i}) for i in range(1, 400)]
    program = [*walk, State(registers={"rip": 0x7C00}, mode=CpuMode.REAL16), *WALK]
    stub = stub_of(personality, program)
    stub.answers[b"qRcmd," + b"info kvm".hex().encode()] = [
        b"O" + b"kvm support: enabled\r\n".hex().encode(), b"OK",
    ]  # fmt: skip
    with connected(stub) as target:
        # Of the layouts of the others no register tells the mode.
        if personality is QEMU and enough:
            stop = target.run_until_mode(CpuMode.REAL16)
            assert (target.mode, target.registers.pc, stop.late) == (CpuMode.REAL16, 0x7C00, False)
        else:
            with pytest.raises(rsp.ModeNotReached, match="in 300 steps"):
                target.run_until_mode(CpuMode.REAL16, max_steps=300)
            assert target.registers["rip"] == START + 300
        with pytest.raises(rsp.ModeNotReached, match="in 0 s"):
            target.run_until_mode(CpuMode.COMPAT32, timeout=0)
    assert not [payload for payload in stub.received if payload[:1] in (b"Z", b"c")]


# --- threads ---


def test_the_threads_of_kgdb() -> None:
    """CPUs are -2, -3, …; the list ends with an empty packet; sleepers have rip 0."""
    sleeper = Cpu({"rip": 0, "rsp": 0xFFFFC90000013E00}, name="kthreadd")
    stub = stub_of(
        KGDB, threads={**{f"{i:x}": Cpu(name=f"task {i}") for i in range(1, 40)}, "28": sleeper}
    )
    with connected(stub) as target:
        threads = target.threads
        assert [thread.id for thread in threads][:2] == ["fffffffe", "1"]
        assert len(threads) == 41
        assert threads[-1].name == "kthreadd"
        with pytest.raises(RegisterUnavailable):
            _ = threads[-1].registers.pc
        assert threads[-1].registers["ds"] is None
        assert target.registers.pc == START


def test_another_thread_of_kgdb_cannot_be_stepped_and_nothing_is_lost_by_trying() -> None:
    """E22; and `Hc` must not stay on it, or the next `c` would be refused as well."""
    stub = stub_of(KGDB)
    with connected(stub) as target:
        point = target.breakpoint(START + 4)
        other = target.threads[1]
        with pytest.raises(StubError, match="no thread but the one that stopped") as caught:
            other.step(timeout=5)
        assert caught.value.code in (22, None)
        assert len(stub.breakpoints) == 1
        assert not target.running
        assert resumed(target).breakpoint is point


def test_a_breakpoint_under_another_thread_is_put_back_when_its_step_is_refused() -> None:
    other = Cpu({"rip": START + 4})
    stub = stub_of(KGDB, threads={"fffffffd": other})
    with connected(stub) as target:
        point = target.breakpoint(START + 4)
        with pytest.raises(StubError):
            target.threads[1].step(timeout=5)
        assert len(stub.breakpoints) == 1
        assert resumed(target).breakpoint is point


def test_registers_of_another_thread_and_back() -> None:
    stub = stub_of(QEMU, threads={"02": Cpu({"rip": 0x2222}, name="CPU#1 [halted ]")})
    with connected(stub) as target:
        first, second = target.threads
        assert (first.registers.pc, second.registers.pc) == (START, 0x2222)
        assert target.registers.pc == START
        target.select(second)
        assert target.registers.pc == 0x2222
        target.write_register("rbx", 7)
        assert stub.threads["02"].registers["rbx"] == 7
        assert "rbx" not in stub.cpu.registers
        second.step(timeout=5)
        assert target.stop.thread == second
        assert target.registers.pc == 0x2223
        assert stub.cpu.pc == START


# --- the end ---


def test_left_stopped() -> None:
    stub = stub_of(QEMU)
    with connected(stub, on_exit=rsp.OnExit.LEAVE_STOPPED) as target:
        target.breakpoint(START + 4)
        resumed(target)
    assert not stub.detached
    assert not stub.running
    assert stub.breakpoints == {}


def test_a_running_target_is_left_stopped() -> None:
    stub = stub_of(QEMU, program=[])
    with connected(stub, on_exit=rsp.OnExit.LEAVE_STOPPED) as target:
        target.breakpoint(START + 4)
        target.resume(wait=False)
    assert not stub.running
    assert stub.breakpoints == {}


@pytest.mark.parametrize("personality", [QEMU, GDBSERVER, PLAIN], ids=lambda who: who.name)
def test_a_running_target_with_breakpoints_is_detached_from(personality: Personality) -> None:
    stub = stub_of(personality, program=[])
    with connected(stub) as target:
        target.breakpoint(START + 4)
        target.resume(wait=False)
    assert stub.detached
    assert stub.breakpoints == {}


def test_a_stub_without_detach_is_let_run() -> None:
    stub = stub_of(Personality(name="unknown", layout="valgrind-x86-64", commands=frozenset("PZ")))
    with connected(stub):
        pass
    assert stub.running


def test_a_refused_detach_is_told() -> None:
    stub = stub_of()
    stub.answers[b"D"] = b"E01"
    with pytest.raises(StubError, match="detach"), connected(stub):
        pass


def test_detach_twice_and_then_anything() -> None:
    with connected(stub_of()) as target:
        target.detach()
        target.detach()
        for forbidden in (target.resume, target.wait, target.interrupt, lambda: target.registers):
            with pytest.raises(LocalProtocolError, match="connect again"):
                forbidden()
        assert not target.running
