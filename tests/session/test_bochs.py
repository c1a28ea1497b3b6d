"""Bochs as version 3.0 answers: qC without QC, rip + 1 in ``g``, and a buffer of 255 characters."""

from __future__ import annotations

import pytest

import rsp
from rsp.testing.cpu import State
from rsp.testing.personalities import BOCHS
from rsp.testing.serve import StubTransport, connected
from rsp.testing.stub import Stub, assert_harmless
from rsp.wire import commands

WALK = [State(registers={"rip": 0x1000 + n}) for n in range(1, 9)]


def bochs(**options: object) -> Stub:
    return Stub(
        BOCHS,
        registers={"rip": 0x1000},
        memory={0x1000: bytes(0x1000)},
        program=WALK,
        loop=0,
        **options,  # type: ignore[arg-type]  # those of Stub
    )


@pytest.mark.parametrize("kind", ["software", "hardware"])
def test_the_pc_at_a_breakpoint_is_its_place_and_nothing_is_written(
    kind: rsp.BreakpointKind,
) -> None:
    stub = bochs()
    with connected(stub) as target, target.breakpoint(0x1003, kind=kind) as point:
        for hits in (1, 2):
            stop = target.resume(timeout=5)
            assert stop.breakpoint is point
            assert point.hits == hits
            assert target.registers.pc == target.registers["rip"] == 0x1003
            target.invalidate()
            assert target.registers.pc == 0x1003
        target.step(timeout=5)
        assert target.registers.pc == 0x1004
    assert not any(packet[:1] in (b"P", b"G") for packet in stub.received)


def test_what_is_written_to_the_pc_at_a_breakpoint_is_read_back() -> None:
    stub = bochs()
    with connected(stub) as target, target.breakpoint(0x1003):
        target.resume(timeout=5)
        target.write_register("rip", 0x1010)
        assert target.registers["rip"] == 0x1010


def test_no_packet_is_longer_than_its_buffer() -> None:
    """A longer one overruns the stack: it crashed at the end of the session."""
    stub = bochs()
    line = StubTransport(stub)
    with rsp.connect(line) as target:
        target.write_memory(0x1100, bytes(range(256)) * 4)
        assert target.read_memory(0x1100, 1024) == bytes(range(256)) * 4
        with pytest.raises(rsp.LocalProtocolError, match="split it"):
            target.session.ask(commands.WriteMemory(address=0x1100, data=bytes(150)))
        assert target.stub.name == "bochs"
        assert target.thread is not None
        assert max(map(len, stub.received)) < 255
    assert_harmless(stub)


def test_a_stub_of_the_family_of_i386_stub_is_none() -> None:
    """GRUB's sends as many registers, and does not know qC; its pc is where the CPU's is."""
    stub = bochs()
    stub.answers[b"qC"] = b""
    with rsp.connect(StubTransport(stub)) as target:
        assert target.stub.name == "unknown"
        assert target.stub.pc_behind_in_g == 0
