"""Packets that hurt a stub are never sent, whatever the public functions are asked for.

A scripted stub notes what would hurt the one that it plays; `connected` fails at the end if it did.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import rsp
from rsp.arch.modes import CpuMode
from rsp.errors import LocalProtocolError, MemoryFault, UnsupportedCommand
from rsp.testing.cpu import Cpu, State
from rsp.testing.old_qemu import QemuOld
from rsp.testing.personalities import (
    BOCHS,
    GDBSERVER,
    GDBSERVER_ACKS,
    KGDB,
    PLAIN,
    QEMU,
    RUST_GDBSTUB,
    VIRTUALBOX,
    Personality,
)
from rsp.testing.serve import StubTransport, connected
from rsp.testing.stub import Stub
from rsp.wire import commands

if TYPE_CHECKING:
    from rsp.remote.target import Target

MEMORY = {0x1000: bytes(range(256)) * 64}
WALK = [State(registers={"rip": 0x1000 + i}) for i in range(64)]
ALL = [QEMU, KGDB, BOCHS, VIRTUALBOX, GDBSERVER, GDBSERVER_ACKS, RUST_GDBSTUB, PLAIN]


def stub_of(personality: Personality) -> Stub:
    return Stub(
        personality,
        registers={"rip": 0x0FFF, "rax": 0x1122334455667788},
        memory=MEMORY,
        program=WALK,
        threads={"fffffffd": Cpu(name="shadowCPU1"), "01": Cpu()} if personality is KGDB else {},
        thread="fffffffe" if personality is KGDB else "01",
    )


def exercise(target: Target) -> None:
    """Do what people do."""
    assert target.registers["rax"] == 0x1122334455667788
    assert target.read_memory(0x1000, 0x4000) == MEMORY[0x1000]
    target.write_memory(0x1800, b"hello" * 500)
    assert target.read_memory(0x1800, 2500) == b"hello" * 500
    target.write_register("rbx", 0x77)
    assert target.registers["rbx"] == 0x77
    with target.breakpoint(0x1010) as point:
        stop = target.resume(timeout=5)
        assert stop is not None
        assert stop.breakpoint is point
        assert target.registers.pc == 0x1010
        target.step()
        assert target.registers.pc == 0x1011
    assert [thread.id for thread in target.threads]
    assert target.mode in CpuMode
    target.resume(wait=False)
    assert target.running
    if target.stub.name != "kgdb":
        target.interrupt()
        assert not target.running


@pytest.mark.parametrize("personality", ALL, ids=lambda who: who.name)
def test_a_session_harms_no_stub(personality: Personality) -> None:
    stub = stub_of(personality)
    with connected(stub) as target:
        exercise(target)
        assert target.stub.name == personality.name
    assert stub.violations == []


@pytest.mark.parametrize("personality", ALL, ids=lambda who: who.name)
def test_the_target_runs_on_at_the_end(personality: Personality) -> None:
    stub = stub_of(personality)
    with connected(stub) as target:
        target.breakpoint(0x1020)
    assert stub.detached
    assert stub.breakpoints == {}


@pytest.mark.parametrize(
    "mode", [CpuMode.REAL16, CpuMode.PROTECTED16, CpuMode.PROTECTED32, CpuMode.COMPAT32]
)
def test_g_is_never_written_whole_to_a_qemu_outside_64_bit_mode(mode: CpuMode) -> None:
    """It reads 8 bytes a register and takes 4: cr4, x87 and mxcsr are overwritten."""
    stub = Stub(QEMU, registers={"rip": 0x7C00}, mode=mode, memory={0x7000: bytes(4096)})
    with connected(stub) as target:
        target.write_register("rax", 5)
        target.write_register("al", 7)
        target.write_register("eflags", 0x202)
        with pytest.raises(LocalProtocolError, match="would do harm"):
            target.session.ask(commands.WriteRegisters(data=bytes(608)))
        assert target.registers["eax"] == 7
    assert any(payload.startswith(b"P") for payload in stub.received)
    assert not any(payload.startswith(b"G") for payload in stub.received)


def test_p_that_is_cut_to_32_bits_is_found_out() -> None:
    stub = Stub(QEMU, registers={"rip": 0x7C00}, mode=CpuMode.PROTECTED32)
    with connected(stub) as target:
        with pytest.raises(rsp.RegisterWriteError, match="0x22222222") as caught:
            target.write_register("rax", 0x1111111122222222)
        assert caught.value.actual == 0x22222222


@pytest.mark.parametrize("personality", ALL, ids=lambda who: who.name)
def test_bs_and_bc_are_not_sent_unless_they_were_offered(personality: Personality) -> None:
    """QEMU 7.2 aborts on an assertion."""
    stub = stub_of(personality)
    with connected(stub) as target:
        for command in (commands.ReverseStep(), commands.ReverseContinue()):
            with pytest.raises(LocalProtocolError, match="did not offer"):
                target.session.tell(command)
            with pytest.raises(LocalProtocolError, match="did not offer"):
                target.session.tell(commands.Unknown(payload=command.encode()))
    assert not {b"bs", b"bc"} & set(stub.received)


@pytest.mark.parametrize(("personality", "most"), [(KGDB, 504), (BOCHS, 127)])
def test_m_stays_within_the_buffer(personality: Personality, most: int) -> None:
    stub = stub_of(personality)
    with connected(stub) as target:
        assert target.read_memory(0x1000, 10_000) == MEMORY[0x1000][:10_000]
        with pytest.raises(LocalProtocolError, match="would do harm"):
            target.session.ask(commands.ReadMemory(address=0x1000, length=most + 1))
    lengths = [int(p.partition(b",")[2], 16) for p in stub.received if p.startswith(b"m")]
    assert 0 < max(lengths) <= most


def test_m_is_small_until_it_is_known_who_answers() -> None:
    """kgdb says nothing of its buffer of 1024 bytes, nor that it is kgdb."""
    stub = stub_of(KGDB)
    connection = rsp.Connection()
    with pytest.raises(LocalProtocolError, match="199"):
        connection.send(commands.ReadMemory(address=0, length=200), 0.0)
    with connected(stub):
        pass
    before_known = stub.received[: stub.received.index(b"qfThreadInfo")]
    assert not [payload for payload in before_known if payload.startswith(b"m")]


def test_no_byte_but_the_interrupt_reaches_a_running_qemu() -> None:
    """Every byte stops the machine; later versions do not even say so."""
    stub = stub_of(QEMU)
    with connected(stub) as target:
        target.read_memory(0x1000, 100)
        target.resume(wait=False)
        for _ in range(3):
            assert target.running
        for forbidden in (
            lambda: target.read_memory(0x1000, 1),
            lambda: target.registers,
            lambda: target.write_register("rax", 1),
            lambda: target.breakpoint(0x1000),
            lambda: target.monitor("info registers"),
            lambda: target.threads,
            lambda: target.resume(),
            lambda: target.step(),
        ):
            with pytest.raises(LocalProtocolError, match="run"):
                forbidden()
        assert target.interrupt().reason is rsp.StopReason.INTERRUPT


def test_leaving_a_running_qemu_sends_nothing() -> None:
    stub = stub_of(QEMU)
    with connected(stub) as target:
        target.resume(wait=False)
        assert target.running
    assert stub.running
    assert not stub.detached
    assert stub.violations == []


def test_kgdb_gets_one_request_at_a_time_and_its_acks() -> None:
    """What comes before the `+` of a reply is answered with `-` and dropped."""
    stub = stub_of(KGDB)
    with connected(stub) as target:
        target.read_memory(0x1000, 5000)
        assert target.session.connection.limits.window == 1
        assert not target.session.connection.limits.optimistic_ack


def test_a_running_kernel_is_sent_nothing() -> None:
    """All but BREAK and g is input of its console."""
    stub = stub_of(KGDB)
    with connected(stub) as target:
        target.resume(wait=False)
        with pytest.raises(UnsupportedCommand, match="BREAK"):
            target.interrupt()
        assert target.running
    assert stub.violations == []


def test_physical_addressing_is_put_back_even_when_a_read_fails() -> None:
    """It holds for the whole machine, not for the connection."""
    stub = stub_of(QEMU)
    stub.physical_memory.map(0, b"physical")
    with connected(stub) as target:
        assert target.read_memory(0, 8, physical=True) == b"physical"
        assert not stub.physical
        with pytest.raises(MemoryFault):
            target.read_memory(0, 9, physical=True)
        assert not stub.physical
        target.write_memory(0, b"PHYS", physical=True)
        assert stub.physical_memory.read(0, 8) == b"PHYSical"
        assert not stub.physical
        assert target.read_memory(0x1000, 4) == b"\0\1\2\3"


def test_physical_addressing_that_was_on_stays_on() -> None:
    """Somebody else's setting is not ours to change."""
    stub = stub_of(QEMU)
    stub.physical_memory.map(0, b"physical")
    with rsp.connect(StubTransport(stub)) as target:
        stub.physical = True
        assert target.read_memory(0, 8, physical=True) == b"physical"
        assert stub.physical
        assert target.read_memory(0, 1) == b"p"


@pytest.mark.parametrize("personality", ALL, ids=lambda who: who.name)
def test_the_target_is_never_ended(personality: Personality) -> None:
    stub = stub_of(personality)
    with pytest.raises(ZeroDivisionError), connected(stub) as target:
        _fail_with_a_breakpoint(target)
    assert stub.detached
    assert stub.breakpoints == {}
    assert not [payload for payload in stub.received if payload[:1] == b"k" or b"vKill" in payload]


def _fail_with_a_breakpoint(target: Target) -> None:
    target.breakpoint(0x1010)
    raise ZeroDivisionError


@pytest.mark.parametrize("personality", [QEMU, KGDB], ids=lambda who: who.name)
def test_the_stop_is_asked_for_once(personality: Personality) -> None:
    """`?` removes all breakpoints there."""
    stub = stub_of(personality)
    with connected(stub) as target:
        target.breakpoint(0x1010)
        target.resume(timeout=5)
        target.invalidate()
        assert target.stop.reason is rsp.StopReason.BREAKPOINT
    assert stub.received.count(b"?") == 1


def test_gdbserver_is_asked_for_its_description_after_a_thread() -> None:
    """13.1 fails an assertion and exits otherwise."""
    stub = stub_of(GDBSERVER)
    with connected(stub):
        first = next(i for i, p in enumerate(stub.received) if p.startswith(b"qXfer:features"))
    assert b"Hg0" in stub.received[:first]


def test_an_old_qemu_is_written_whole_and_gets_back_what_it_gave() -> None:
    """Up to 2.8 there is no `P` for x86, and G has the length of g in every mode."""
    stub = QemuOld()
    with connected(stub) as target:
        for register in ("eax", "ebx", "esp"):
            target.write_register(register, 0x1234)
        before = dict(target.registers)
        target.write_register("ecx", 1)
        after = dict(target.registers)
    assert {name for name in before if before[name] != after[name]} == {"ecx"}
    assert not [payload for payload in stub.received if payload[:1] == b"P"]
