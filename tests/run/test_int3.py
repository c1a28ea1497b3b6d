"""Breakpoints on a stub without Z: int3 in memory, which nobody else notices, and none is left."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import rsp
from rsp import BreakpointKind, OnExit, StopReason
from rsp.errors import MemoryFault, NoHardwareBreakpoint
from rsp.testing.cpu import State
from rsp.testing.personalities import PLAIN
from rsp.testing.serve import StubTransport
from rsp.testing.stub import Stub, assert_harmless
from rsp.wire import commands, replies, stops

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.remote.target import Target
    from rsp.wire.commands import Command

START = 0x1000
CODE = bytes(range(0x40, 0x60)) * 8
WALK = [State(registers={"rip": START + i}) for i in range(1, 32)]
MINIMAL = replace(
    PLAIN,
    name="unknown",
    commands=frozenset("GD"),
    packet_size=1100,
    thread_in_stop=False,
    queries=frozenset(),
)
"""What a stub of a hundred lines has: ? g G m M c s, and D; and room for all registers."""


def stub_of(**more: Any) -> Stub:
    more.setdefault("end", stops.Exited(status=0))
    return Stub(MINIMAL, registers={"rip": START}, memory={START: CODE}, program=WALK, **more)


@contextlib.contextmanager
def connected(stub: Stub, **more: Any) -> Iterator[Target]:
    with rsp.connect(StubTransport(stub), timeout=5, **more) as target:
        yield target
    assert_harmless(stub)
    assert stub.memory.read(START, len(CODE)) == CODE


def at(stub: Stub, address: int) -> bytes:
    return stub.memory.read(address, 1)


@pytest.mark.parametrize("kind", ["auto", "software"])
def test_it_is_hit_stepped_over_and_hit_again(kind: Any) -> None:
    stub = stub_of(loop=0)
    with connected(stub) as target:
        point = target.breakpoint(START + 4, kind=kind)
        assert point.kind is BreakpointKind.SOFTWARE
        assert "an int3 in memory" in point.reason
        assert at(stub, START + 4) == b"\xcc"
        for hits in (1, 2, 3):
            stop = target.resume(timeout=5)
            assert (stop.reason, stop.breakpoint) == (StopReason.BREAKPOINT, point)
            assert target.registers.pc == START + 4
            assert stub.cpu.pc == START + 4  # it has been written
            assert point.hits == hits
            assert at(stub, START + 4) == b"\xcc"
        assert not any(packet.startswith(b"Z0") for packet in stub.received[-8:])


def test_neighbours_of_one_byte() -> None:
    stub = stub_of()
    with connected(stub) as target:
        for each in (4, 5, 6):
            target.breakpoint(START + each)
        for each in (4, 5, 6):
            assert target.resume(timeout=5).reason is StopReason.BREAKPOINT
            assert target.registers.pc == START + each
        assert target.read_memory(START, 16) == CODE[:16]


def test_steps_end_at_it_and_begin_at_it() -> None:
    stub = stub_of()
    with connected(stub) as target:
        target.breakpoint(START + 2)
        reasons = [target.step(timeout=5).reason for _ in range(3)]
        assert reasons == [StopReason.STEP, StopReason.BREAKPOINT, StopReason.STEP]
        assert target.registers.pc == START + 3


def test_until_and_a_false_condition() -> None:
    stub = stub_of()
    with connected(stub) as target:
        asked: list[int] = []

        def is_never(one: Target) -> bool:
            asked.append(one.registers.pc)
            return False

        target.breakpoint(START + 3, condition=is_never)
        assert target.until(START + 8, timeout=5).reason is StopReason.BREAKPOINT
        assert (target.registers.pc, asked) == (START + 8, [START + 3])
        assert at(stub, START + 8) == CODE[8:9]


def test_reads_show_what_was_there() -> None:
    stub = stub_of()
    with connected(stub) as target:
        assert target.read_memory(START, 32) == CODE[:32]
        for each in (0, 5, 31):
            target.breakpoint(START + each)
        assert target.read_memory(START, 32) == CODE[:32]
        assert target.read_u8(START + 5) == CODE[5]
        assert target.pages.read(START + 3, 4) == CODE[3:7]
        with pytest.raises(MemoryFault) as info:
            target.read_memory(START, len(CODE) + 1)
        assert info.value.partial == CODE


def test_writes_over_it_are_seen_and_keep_it() -> None:
    stub = stub_of()
    with connected(stub) as target, target.breakpoint(START + 4) as point:
        target.write_memory(START + 2, b"\x90" * 6)
        assert stub.memory.read(START + 2, 6) == b"\x90\x90\xcc\x90\x90\x90"
        assert target.read_memory(START + 2, 6) == b"\x90" * 6
        assert target.resume(timeout=5).breakpoint is point
        point.remove()
        assert stub.memory.read(START + 2, 6) == b"\x90" * 6
        target.write_memory(START, CODE)


def test_two_at_one_place() -> None:
    stub = stub_of()
    with connected(stub) as target:
        first, second = target.breakpoint(START + 4), target.breakpoint(START + 4)
        first.remove()
        assert target.resume(timeout=5).breakpoint is second
        second.remove()
        assert at(stub, START + 4) == CODE[4:5]


@pytest.mark.parametrize("on_exit", list(OnExit))
def test_none_is_left(on_exit: OnExit) -> None:
    stub = stub_of(loop=0)
    with connected(stub, on_exit=on_exit) as target:
        target.breakpoint(START + 4)
        target.breakpoint(START + 9)
        target.resume(timeout=5)


def test_none_is_left_after_an_error() -> None:
    stub = stub_of(loop=0)
    with connected(stub) as target:
        target.breakpoint(START + 4, condition=lambda _: 1 // 0 > 0)
        with pytest.raises(ZeroDivisionError):
            target.resume(timeout=5)


@pytest.mark.parametrize("packet", range(1, 5))
def test_none_is_left_after_ctrl_c_while_it_is_set(packet: int) -> None:
    """The packets are: read, write, read back; and Ctrl-C comes while each is answered."""
    stub = stub_of()
    count = 0

    def press(_: Stub, command: Command) -> None:
        nonlocal count
        if armed and isinstance(command, commands.ReadMemory | commands.WriteMemory):
            count += 1
            if count == packet:
                signal.raise_signal(signal.SIGINT)

    armed = False
    stub.hooks.append(press)
    with contextlib.suppress(KeyboardInterrupt), connected(stub) as target:
        target.breakpoint(START + 9).remove()  # Z0 is known not to be there
        armed = True
        target.breakpoint(START + 4)
        target.breakpoint(START + 5)
    assert count >= packet
    assert stub.memory.read(START, len(CODE)) == CODE


def test_the_end_of_the_program_forgets_it() -> None:
    stub = stub_of()
    with rsp.connect(StubTransport(stub), timeout=5) as target:
        target.breakpoint(START + 4, temporary=True)
        point = target.breakpoint(START + 0x80)
        assert target.resume(timeout=5).reason is StopReason.BREAKPOINT
        assert target.resume(timeout=5).reason is StopReason.EXITED
        assert not point.inserted


def test_code_that_was_loaded_over_it_stays() -> None:
    stub = stub_of()
    with rsp.connect(StubTransport(stub), timeout=5) as target:
        point = target.breakpoint(START + 4)
        stub.memory.map(START, b"\x90" * 16)
        point.remove()
    assert stub.memory.read(START, 16) == b"\x90" * 16


def test_memory_that_keeps_nothing() -> None:
    """A ROM takes every write, and stays as it is."""
    stub = stub_of()
    stub.hooks.append(
        lambda _, command: replies.Ok() if isinstance(command, commands.WriteMemory) else None
    )
    with connected(stub) as target:
        with pytest.raises(MemoryFault, match="what is written there is not kept"):
            target.breakpoint(START + 4)
        assert not list(target.breakpoints)


@pytest.mark.parametrize("answer", [replies.ErrorReply(code=1), replies.Unsupported()])
def test_memory_that_refuses(answer: rsp.replies.Reply) -> None:
    stub = stub_of()
    stub.hooks.append(
        lambda _, command: answer if isinstance(command, commands.WriteMemory) else None
    )
    with connected(stub) as target:
        with pytest.raises(rsp.StubError, match="cannot write memory"):
            target.until(START + 4)
        with pytest.raises(MemoryFault, match="cannot read memory"):
            target.breakpoint(0xDEAD0000)
        with pytest.raises(NoHardwareBreakpoint):
            target.breakpoint(START + 4, kind="hardware")


def test_an_int3_that_cannot_be_removed_is_told() -> None:
    stub = stub_of()
    with rsp.connect(StubTransport(stub), timeout=5) as target:
        point = target.breakpoint(START + 4)
        stub.hooks.append(
            lambda _, command: replies.Ok() if isinstance(command, commands.WriteMemory) else None
        )
        with pytest.raises(MemoryFault, match=r"the int3 at 0x1004 cannot be removed"):
            point.remove()
        assert target.read_u8(START + 4) == 0xCC


def test_debug_registers_come_first_where_there_are_some() -> None:
    stub = stub_of()
    stub.hooks.append(
        lambda _, command: (
            replies.Ok()
            if isinstance(command, commands.InsertBreakpoint | commands.RemoveBreakpoint)
            and command.type is commands.BreakpointType.HARDWARE
            else None
        )
    )
    with connected(stub) as target:
        for _ in range(2):
            with target.breakpoint(START + 4) as point:
                assert point.kind is BreakpointKind.HARDWARE
        assert at(stub, START + 4) == CODE[4:5]
