"""kgdb where no kernel is at hand: every layout, tasks that sleep, and what its stops leave out.

Here is what a real one does not show when a test wants it; the rest is in tests/live/test_kgdb.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import rsp
from rsp import CpuMode, StopReason, Watch
from rsp.arch.layouts import LAYOUTS
from rsp.testing.cpu import Cpu, State
from rsp.testing.personalities import KGDB, KGDB_I386, Personality
from rsp.testing.serve import connected
from rsp.testing.stub import Stub
from rsp.unwind.resumption import Resumption
from rsp.wire.signals import Signal

if TYPE_CHECKING:
    from rsp.arch.registers import Registers

START = 0xFFFFFFFF81000000
WATCHED = 0xFFFF888000001000
STACK = 0xFFFFC90000013E00

SIZES = {layout.name: layout.size for layout in LAYOUTS}


def stub_of(personality: Personality = KGDB, **options: object) -> Stub:
    """Return a kernel of two CPUs and a task that sleeps, stopped on CPU 0."""
    registers = {"rip": START, "rsp": STACK, "rax": 5, "cs": 0x10, "ss": 0x18, "ds": 0x7B}
    settings: dict[str, object] = {
        "registers": registers,
        "memory": {START: b"\x90" * 64, WATCHED: bytes(64), STACK: bytes(64)},
        "program": [State(registers={"rip": START + n}) for n in range(1, 9)],
        "thread": "fffffffe",
        "threads": {
            "fffffffd": Cpu({"rip": START + 32, "rax": 1}, name="shadowCPU1"),
            "01": Cpu({"rsp": STACK, "rbp": STACK + 32, "eflags": 0x202, "cs": 0x10}, name="init"),
        },
    }
    return Stub(personality, **(settings | options))  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("layout", "size", "mode"),
    [
        ("kgdb-i386", 64, CpuMode.PROTECTED32),
        ("kgdb-2.6-x86-64", 148, CpuMode.LONG64),
        ("kgdb-x86-64", 156, CpuMode.LONG64),
        ("kgdb-x86-64-all", 164, CpuMode.LONG64),
    ],
)
def test_every_layout_that_it_has_had(layout: str, size: int, mode: CpuMode) -> None:
    assert SIZES[layout] == size
    # On i386 the upper half of a selector is what was on the stack beside it.
    selectors = {"cs": 0x20000060, "ss": 0x68, "ds": 0x7B, "es": 0x7B, "fs": 0xFFFF, "gs": 0xFFFF}
    i386 = mode is CpuMode.PROTECTED32
    stub = stub_of(
        replace(KGDB, layout=layout),
        registers={"rip": 0xC1000000, "rsp": 0xC0001000, "rax": 7, **(selectors if i386 else {})},
    )
    with connected(stub) as target:
        registers = target.registers
        assert target.stub.name == "kgdb"
        assert registers.layout.name == layout
        assert target.mode is mode
        assert target.arch.name == ("i386" if i386 else "x86-64")
        assert registers["eax"] == 7
        assert (registers.pc, registers.sp) == (0xC1000000, 0xC0001000)
        junk = {"fs", "gs"} if i386 else {"ds", "es", "fs", "gs"}
        assert {name for name, value in registers.items() if value is None} == junk
        if i386:
            assert (registers["cs"], registers["ds"]) == (0x60, 0x7B)


def test_the_mode_of_a_program_s_code_is_not_guessed() -> None:
    """A CPU that was running a program may have been running 32-bit code on a 64-bit kernel."""
    with connected(stub_of(registers={"rip": 0x8048000, "rax": 1, "cs": 0x23})) as target:
        assert target.mode is CpuMode.UNKNOWN


# --- tasks that sleep ---


def test_of_a_task_that_sleeps_only_the_stack_is_known() -> None:
    with connected(stub_of()) as target:
        registers = target.threads[2].registers
        known = {name: value for name, value in registers.items() if value is not None}
        assert known == {"rsp": STACK, "rbp": STACK + 32}
        with pytest.raises(rsp.RegisterUnavailable, match="does not give rip"):
            _ = registers.pc
        assert target.mode is CpuMode.LONG64


@pytest.mark.parametrize("personality", [KGDB, KGDB_I386], ids=lambda who: who.layout)
def test_a_call_of_a_null_pointer_is_no_sleep(personality: Personality) -> None:
    registers = {"rip": 0, "rsp": STACK & 0xFFFFFFFF, "rdi": 1, "cs": 0x10}
    with connected(stub_of(personality, registers=registers)) as target:
        assert target.registers.pc == 0
        assert target.registers["eax"] == 0
        assert target.backtrace()[0].pc == 0


def test_who_can_unwind_a_thread_that_sleeps_is_asked_in_turn() -> None:
    asked = []

    def knows_nothing(registers: Registers) -> Resumption | None:
        asked.append(registers.sp)
        return None

    def fails(registers: Registers) -> Resumption | None:
        asked.append(registers.sp)
        raise rsp.SymbolError("no such type here")

    def knows(registers: Registers) -> Resumption | None:
        asked.append(registers.sp)
        return Resumption(registers={"rip": START + 4, "rsp": registers.sp})

    with connected(stub_of()) as target:
        sleeper = target.threads[2]
        nothing = sleeper.backtrace()
        assert (len(nothing), nothing.complete) == (0, False)
        assert str(nothing).startswith("Backtrace stopped: the stub gives no pc of it")
        target.inferior.thread_unwinders += [knows_nothing, fails]
        assert sleeper.backtrace().end_reason == "no such type here"
        target.inferior.thread_unwinders.append(knows)
        assert [frame.pc for frame in sleeper.backtrace()] == [START + 4]
        assert asked == [sleeper.registers.sp] * 5
        assert target.threads[1].backtrace()[0].pc == START + 32
        assert asked == [sleeper.registers.sp] * 5


def test_what_is_in_another_address_space_is_not_read() -> None:
    def elsewhere(registers: Registers) -> Resumption | None:
        known = {"rip": START + 4, "rsp": registers.sp}
        return Resumption(registers=known, memory=STACK + 1)

    stub = stub_of()
    with connected(stub) as target:
        target.inferior.thread_unwinders.append(elsewhere)
        found = target.threads[2].backtrace()
        assert not found.complete
        assert not any(payload.startswith(b"m%x" % (STACK >> 16)) for payload in stub.received)


@pytest.mark.parametrize("sp", [0, 8, (1 << 64) - 8, (1 << 64) - 1])
def test_a_stack_pointer_that_is_none(sp: int) -> None:
    def knows(registers: Registers) -> Resumption | None:
        words = target.read_memory(registers.sp, 56)
        return Resumption(registers={"rip": START, "rsp": len(words)})

    stub = stub_of(threads={"01": Cpu({"rsp": sp}, name="init")})
    with connected(stub) as target:
        target.inferior.thread_unwinders.append(knows)
        assert not target.threads[1].backtrace().complete


def test_which_threads_are_cpus() -> None:
    with connected(stub_of()) as target:
        assert [thread.cpu for thread in target.threads] == [0, 1, None]
        assert target.thread is not None
        assert target.thread.cpu == 0


# --- breakpoints and watchpoints ---


def test_a_watchpoint_s_stop_is_a_trap_and_no_more() -> None:
    program = [State(registers={"rip": START + 1}, writes={WATCHED: b"\1"})] * 9
    with connected(stub_of(program=program)) as target:
        point = target.watchpoint(WATCHED, 4)
        stop = target.resume(timeout=5)
        assert stop is not None
        assert stop.reason is StopReason.WATCHPOINT
        assert (stop.watchpoint, stop.address, point.hits) == (point, WATCHED, 1)
        # Which of two it was nobody says.
        other = target.watchpoint(WATCHED + 8, 4, Watch.ACCESS)
        stop = target.resume(timeout=5)
        assert stop is not None
        assert (stop.reason, stop.watchpoint) == (StopReason.WATCHPOINT, None)
        assert (point.hits, other.hits) == (1, 0)


def test_who_waits_for_a_debug_register_is_warned_once(caplog: pytest.LogCaptureFixture) -> None:
    with connected(stub_of()) as target:
        target.breakpoint(START + 4)
        assert not caplog.records
        target.breakpoint(START + 8, kind=rsp.BreakpointKind.HARDWARE)
        target.watchpoint(WATCHED, 4)
        (record,) = caplog.records
        assert "never reports a hit" in record.getMessage()


def test_a_kernel_s_own_int3_is_no_watchpoint() -> None:
    trap = State(registers={"rip": START + 1}, signal=int(Signal.SIGTRAP))
    stub = stub_of(program=[trap], memory={START: b"\xcc" + bytes(63)})
    with connected(stub) as target:
        target.watchpoint(WATCHED, 4)
        stop = target.resume(timeout=5)
        assert stop is not None
        assert (stop.reason, stop.int3, stop.watchpoint) == (StopReason.SIGNAL, START, None)


@pytest.mark.parametrize(("at", "length"), [(1, 2), (1, 4), (2, 4), (4, 8), (0, 3)])
def test_a_range_that_no_debug_register_watches(at: int, length: int) -> None:
    stub = stub_of()
    stub.answers[b"Z2,%x,%x" % (WATCHED + at, length)] = b"E01"
    with connected(stub) as target, pytest.raises(rsp.NoHardwareBreakpoint):
        target.watchpoint(WATCHED + at, length)
    # Some of these kgdb takes, and watches other bytes.
    sent = [payload for payload in stub.received if payload.startswith(b"Z2")]
    assert not at or not sent


def test_a_request_that_came_twice_has_been_carried_out() -> None:
    """On a bad line: the `+` is lost, and the request repeated, which it refuses then."""
    stub = stub_of()
    with connected(stub) as target:
        stub.answers[b"Z0,%x,1" % (START + 4)] = b"E17"  # EEXIST
        point = target.breakpoint(START + 4)
        assert point.inserted
        assert point.kind is rsp.BreakpointKind.SOFTWARE
        stub.answers[b"z0,%x,1" % (START + 4)] = b"E02"  # ENOENT
        point.remove()
        stub.answers[b"z0,%x,1" % (START + 8)] = b"E22"
        other = target.breakpoint(START + 8)
        with pytest.raises(rsp.StubError, match="refuses to remove"):
            other.remove()


def test_the_stack_pointer_cannot_be_written() -> None:
    with connected(stub_of()) as target:
        with pytest.raises(rsp.RegisterWriteError, match=r"rsp did not take .* kgdb") as error:
            target.write_register("rsp", STACK + 8)
        assert error.value.actual == STACK
        target.write_register("rax", 1)
        assert target.registers["rax"] == 1
