"""Stubs that were taken for others, and one that has no program yet."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Literal, NoReturn

import pytest

import rsp
from rsp.testing.personalities import GDBSERVER, QEMU, QEMU_OLD
from rsp.testing.serve import StubTransport, connected
from rsp.testing.stub import Stub
from rsp.wire.features import Features
from rsp.wire.limits import InterruptWay

# Of 5.2 in user mode: a description, and neither an auxiliary vector nor physical memory.
QEMU_USER_5 = replace(
    QEMU,
    features=Features({"PacketSize": "1000", "qXfer:features:read": True, "vContSupported": True}),
    queries=QEMU.queries - {"qqemu.PhyMemMode", "Qqemu.PhyMemMode", "qRcmd"},
)


def stub_of(personality: object) -> Stub:
    assert isinstance(personality, type(QEMU))
    return Stub(personality, registers={"rip": 0x1000}, memory={0x1000: bytes(0x100)})


@pytest.mark.parametrize("offsets", [b"Text=0;Data=0;Bss=0", b"TextSeg=400000"])
def test_a_program_under_a_qemu_without_an_auxiliary_vector(offsets: bytes) -> None:
    stub = stub_of(QEMU_USER_5)
    stub.answers[b"qOffsets"] = offsets
    with rsp.connect(StubTransport(stub), on_exit="detach") as target:
        assert target.stub.name == "qemu-user"
        limits = target.session.connection.limits
        assert (limits.window, limits.interrupt) == (1, InterruptWay.NONE)


@pytest.mark.parametrize("personality", [QEMU, QEMU_OLD, QEMU_USER_5])
def test_a_machine_has_no_sections(personality: object) -> None:
    with connected(stub_of(personality)) as target:
        assert target.stub.name == "qemu"


def test_a_stub_without_a_program_says_so() -> None:
    stub = stub_of(GDBSERVER)
    stub.answers[b"?"] = b"W00"
    with rsp.connect(StubTransport(stub)) as target:
        assert_nobody_is_there(target)


@pytest.mark.live("gdbserver")
def test_gdbserver_multi_has_no_program_yet() -> None:
    with rsp.connect("| gdbserver --multi - 2>/dev/null", timeout=20) as target:
        assert_nobody_is_there(target)


def assert_nobody_is_there(target: rsp.Target) -> None:
    assert target.stop.reason is rsp.StopReason.NO_PROGRAM
    assert str(target.stop) == "no program"
    assert "the stub has no program yet" in repr(target)
    for asked in (lambda: target.registers, lambda: target.resume(timeout=5)):
        with pytest.raises(rsp.LocalProtocolError, match="no program yet"):
            asked()


def test_a_stub_that_cannot_be_interrupted_is_not_told_to_be() -> None:
    stub = stub_of(QEMU_USER_5)
    stub.answers[b"qOffsets"] = b"Text=0;Data=0;Bss=0"
    with rsp.connect(StubTransport(stub), on_exit="detach") as target:
        with pytest.raises(rsp.RspTimeout, match="only a breakpoint or a signal") as timeout:
            target.resume(timeout=0.05)
        assert "interrupt()" not in str(timeout.value)
        for refused in (lambda: target.registers, lambda: target.resume(timeout=1)):
            with pytest.raises(rsp.LocalProtocolError, match=r": wait\(\) first"):
                refused()


def timed_out(target: rsp.Target) -> None:
    with pytest.raises(rsp.RspTimeout):
        target.resume(timeout=0.05)


@pytest.mark.parametrize("personality", [QEMU, GDBSERVER], ids=lambda who: who.name)
@pytest.mark.parametrize("on_exit", ["detach", "leave stopped"])
def test_a_timeout_that_is_caught_leaves_every_block_in_order(
    personality: object, on_exit: Literal["detach", "leave stopped"]
) -> None:
    for block in (
        lambda target: contextlib.nullcontext(),
        lambda target: target.breakpoint(0x1080),
        lambda target: target.breakpoint(0x1000),
        lambda target: target.watchpoint(0x1080, 4, rsp.Watch.WRITE),
    ):
        stub = stub_of(personality)
        line = StubTransport(stub)
        with rsp.connect(line, timeout=0.5, on_exit=on_exit) as target, block(target):
            timed_out(target)
        assert stub.breakpoints == {}
        assert stub.running == (on_exit == "detach")


def test_a_launched_qemu_has_no_option_of_some_versions_alone() -> None:
    """QEMU 5.2 has no ``nodelay`` for a chardev, and 11 deprecates ``-mon``."""
    from rsp.testing.qemu import QemuMachine

    seen: list[list[str]] = []

    class Noting(QemuMachine):
        def _spawn(self, command: list[str], descriptors: list[int]) -> NoReturn:
            seen.append(command)
            raise OSError("not started")

    for gdb in ("unix", "tcp", "pty"):
        with pytest.raises(OSError, match="not started"):
            Noting(gdb=gdb)
    for command in seen:
        assert "-mon" not in command
        assert "nodelay" not in " ".join(command)
