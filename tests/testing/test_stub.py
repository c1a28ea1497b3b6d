"""The scripted stub is strict: what would hurt the stub that it plays, it notes, and plays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given

import rsp
from rsp.arch.description import parse_target_description
from rsp.arch.layouts import LAYOUTS
from rsp.arch.modes import CpuMode
from rsp.testing import strategies
from rsp.testing.cpu import State
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
    describe,
)
from rsp.testing.serve import StubTransport, connected, listening
from rsp.testing.stub import Answer, Stub, assert_harmless
from rsp.wire import codec, replies
from rsp.wire.codec import frame
from rsp.wire.framing import ACK, Deframer, FrameKind

if TYPE_CHECKING:
    from rsp.wire.commands import Command

ALL = [QEMU, KGDB, BOCHS, VIRTUALBOX, GDBSERVER, GDBSERVER_ACKS, RUST_GDBSTUB, PLAIN]
MEMORY = {0x1000: bytes(range(256))}


def stub_of(personality: Personality = PLAIN) -> Stub:
    return Stub(
        personality,
        registers={"rip": 0x1000, "rax": 0x1234},
        memory=MEMORY,
        program=[State(registers={"rip": 0x1001 + i}) for i in range(8)],
        thread="fffffffe" if personality is KGDB else "01",
    )


def say(stub: Stub, *payloads: bytes) -> bytes:
    """Send packets with the ack of each answer, and return all that came back."""
    return b"".join(stub.receive(frame(payload)) + stub.receive(b"+") for payload in payloads)


# --- what it answers ---


def test_the_bytes_of_an_exchange() -> None:
    stub = stub_of()
    assert stub.receive(b"$m1000,4#8e") == b"+$00010203#86"
    assert stub.receive(b"+") == b""
    assert stub.receive(b"-") == b"$00010203#86"
    assert stub.receive(b"$m1000,4#00") == b"-"
    assert stub.receive(b"+$qNobodyKnows#") == b""
    assert stub.receive(b"%02x" % (sum(b"qNobodyKnows") % 256)) == b"+$#00"
    assert stub.violations == []


@given(strategies.commands())
def test_any_command_gets_an_answer_that_its_client_understands(command: Command) -> None:
    for personality in (QEMU, KGDB, GDBSERVER, PLAIN):
        stub = stub_of(personality)
        out = stub.receive(frame(command.encode()))
        if stub.dead or stub.running:
            continue
        deframer = Deframer()
        deframer.receive_data(out)
        assert deframer.next_frame() == ACK
        while (found := deframer.next_frame()) is not None:
            assert found.kind is FrameKind.PACKET
            payload = codec.decode(found.data, 1 << 20)
            if payload[:1] != b"O" or payload == b"OK":
                command.parse_reply(payload, personality.dialect)


@given(strategies.payloads())
def test_any_payload_is_taken(payload: bytes) -> None:
    stub = stub_of()
    stub.receive(frame(payload))
    assert payload in stub.received


@pytest.mark.parametrize("size", [1, 5])
def test_bytes_may_come_in_pieces(size: int) -> None:
    whole, pieces = stub_of(QEMU), stub_of(QEMU)
    data = b"".join(frame(p) + b"+" for p in (b"qSupported:multiprocess+", b"Hg0", b"?", b"g"))
    expected = whole.receive(data)
    out = b"".join(pieces.receive(data[i : i + size]) for i in range(0, len(data), size))
    assert out == expected


WHOLE = [layout for layout in LAYOUTS if all(r.offset is not None for r in layout.registers)]


@pytest.mark.parametrize("layout", WHOLE, ids=lambda layout: layout.name)
def test_a_description_says_what_the_layout_is(layout: rsp.RegisterLayout) -> None:
    parsed = parse_target_description(lambda annex: describe(layout)).layout()
    assert parsed is not None
    assert parsed.arch == layout.arch
    seen = [(r.name, r.offset, r.bits, r.number) for r in parsed.registers]
    in_g = [(r.name, r.offset, r.bits, r.number) for r in layout.registers]
    assert sorted(seen) == sorted(in_g)


def test_upper_case_and_another_escape() -> None:
    stub = stub_of(VIRTUALBOX)
    assert b"A0A1A2A3" in stub.receive(frame(b"m10a0,4"))
    stub.answers[b"qX"] = b"a#b{c"
    assert b"$a{\x03b{[c#" in stub.receive(frame(b"qX"))


def test_runs() -> None:
    stub = stub_of(GDBSERVER)
    out = say(stub, b"Hg0", b"g")
    assert b"*" in out
    assert len(out) < 800


# --- scripts ---


def test_canned_answers() -> None:
    stub = stub_of()
    stub.answers[b"qC"] = b"QC7"
    script: list[Answer] = [b"T05thread:1;", replies.ErrorReply(code=1)]
    stub.answers[b"?"] = iter(script)
    assert stub.receive(frame(b"qC")) == b"+" + frame(b"QC7")
    assert stub.receive(frame(b"qC")) == b"+" + frame(b"QC7")
    assert stub.receive(frame(b"?")) == b"+" + frame(b"T05thread:1;")
    assert stub.receive(frame(b"?")) == b"+" + frame(b"E01")
    assert stub.receive(frame(b"?")).startswith(b"+$T05")


def test_hooks_see_every_command_and_may_answer() -> None:
    stub = stub_of()
    seen = []

    def hook(stub: Stub, command: Command) -> bytes | None:
        seen.append(command)
        return b"cafe" if isinstance(command, rsp.commands.ReadMemory) else None

    stub.hooks.append(hook)
    with connected(stub) as target:
        assert target.read_memory(0, 2) == b"\xca\xfe"
    assert rsp.commands.Detach() in seen


def test_a_stop_by_itself() -> None:
    stub = stub_of(QEMU)
    stub.receive(b"$c#63")
    for _ in range(3):
        assert stub.running
    assert stub.stop(signal=11).startswith(b"$T0bthread:01;#")
    assert not stub.running


def test_who_connects_to_a_running_qemu_hears_of_the_stop() -> None:
    stub = stub_of(QEMU)
    assert stub.connected() == b""
    stub.receive(b"$c#63")
    assert stub.connected() == b"$T02thread:01;#04"
    with rsp.connect(StubTransport(stub)) as target:
        assert target.stop.signal == 2


def test_clients_one_after_the_other() -> None:
    stub = stub_of(GDBSERVER)
    with listening(stub) as address:
        for _ in range(3):
            with rsp.connect(address, on_exit=rsp.OnExit.LEAVE_STOPPED) as target:
                assert target.registers["rax"] == 0x1234
    assert_harmless(stub)


def test_an_error_of_a_hook_is_raised_where_the_stub_is_served() -> None:
    stub = stub_of()
    stub.hooks.append(lambda stub, command: {}[0])  # type: ignore[index]  # it is to fail
    with pytest.raises(KeyError), listening(stub) as address, pytest.raises(rsp.RspError):
        rsp.connect(address, timeout=5)


# --- what it does not forgive ---


@pytest.mark.parametrize(
    ("personality", "sent", "told"),
    [
        (QEMU, [b"bs"], "not offered"),
        (QEMU, [b"bc"], "not offered"),
        (QEMU, [b"k"], "ends the target"),
        (QEMU, [b"vKill;1"], "ends the target"),
        (QEMU, [b"Z0,1000,1", b"?"], "removes the breakpoints"),
        (QEMU, [b"m1000,801"], "more than a packet"),
        (KGDB, [b"m1000,1f9"], "overruns"),
        (BOCHS, [b"m1000,100"], "overruns"),
        (GDBSERVER, [b"qXfer:features:read:target.xml:0,100"], "assertion"),
        (PLAIN, [b"M1000,fa:" + b"00" * 250], "longer than 400"),
        (PLAIN, [b"mzz"], "malformed"),
        (PLAIN, [b"G00"], "registers"),
    ],
)
def test_harm_is_noted(personality: Personality, sent: list[bytes], told: str) -> None:
    stub = stub_of(personality)
    say(stub, *sent)
    assert told in stub.violations[-1]
    with pytest.raises(AssertionError, match=told):
        assert_harmless(stub)


@pytest.mark.parametrize("mode", CpuMode)
def test_g_written_whole_hurts_qemu_outside_64_bit_mode(mode: CpuMode) -> None:
    stub = Stub(QEMU, mode=mode)
    say(stub, b"G" + b"00" * 608)
    assert bool(stub.violations) is (mode is not CpuMode.LONG64)


def test_a_stub_that_dies_is_dead() -> None:
    stub = stub_of(QEMU)
    assert stub.receive(b"$bs#d5") == b"+"
    assert stub.dead
    assert stub.receive(frame(b"g")) == b""


@pytest.mark.parametrize("data", [b"+", b"$g#67", b"x"])
def test_a_byte_while_qemu_runs_stops_it(data: bytes) -> None:
    stub = stub_of(QEMU)
    stub.receive(b"$c#63")
    assert b"$T02" in stub.receive(data)
    assert len(stub.violations) == 1


def test_a_resume_before_the_ack() -> None:
    stub = stub_of(QEMU)
    stub.receive(b"$g#67$c#63")
    assert "before the +" in stub.violations[0]


def test_requests_before_the_ack() -> None:
    """QEMU takes them, kgdb refuses them, gdbserver repeats itself for every byte."""
    two = b"$m1000,2#8c$m1002,2#8e"
    assert stub_of(QEMU).receive(two) == b"+$0001#c1+$0203#c5"
    kgdb = stub_of(KGDB)
    assert kgdb.receive(two) == b"+$0001#c1-"
    assert kgdb.violations
    gdbserver = stub_of(GDBSERVER_ACKS)
    assert gdbserver.receive(two).count(b"$0001#c1") > 5
    assert gdbserver.violations


def test_what_is_left_behind_is_told() -> None:
    stub = stub_of(QEMU)
    say(stub, b"Z0,1000,1", b"Qqemu.PhyMemMode:1")
    with pytest.raises(AssertionError, match=r"breakpoint.*physical"):
        assert_harmless(stub)


def test_kgdb_refuses_other_threads() -> None:
    stub = stub_of(KGDB)
    stub.threads["5"] = stub.cpu
    out = say(stub, b"Hc5", b"s", b"Hg5", b"P0=0000000000000000")
    assert out.count(b"$E22#a9") == 2
    assert say(stub, b"qfThreadInfo", b"qsThreadInfo").endswith(b"$#00")


def test_an_old_qemu_knows_p_in_no_mode() -> None:
    for state in (0, 10):
        stub = QemuOld()
        say(stub, *[b"s"] * state)
        assert stub.receive(frame(b"p0")) == b"+$#00"
        assert len(stub.receive(b"+$g#67")) == 5 + 2 * (536 if state else 308)
