"""The lines to QEMU: TCP, a serial line, a second client, and a machine that dies."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Literal

import pytest

import rsp
from lab.boot import LABELS, STATIONS, wait_until_it_counts
from lab.compare import assert_same_registers
from rsp import OnExit, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.gdb import Gdb
    from lab.servers import BootQemu
    from rsp.testing.qemu import QemuMachine

TICK, COUNTER = LABELS["tick"], LABELS["counter"]


@pytest.mark.parametrize("line", ["unix", "tcp", "pty"])
def test_the_same_session_over_each_line(
    line: Literal["unix", "tcp", "pty"], boot_qemu: BootQemu, gdb: type[Gdb]
) -> None:
    machine = boot_qemu(gdb=line)
    with rsp.connect(machine.address, on_exit=OnExit.LEAVE_STOPPED) as target:
        # On a line that may lose bytes nothing is taken for granted: acks, one request at a time.
        assert target.session.connection.limits.reliable == (line != "pty")
        assert (target.session.connection.limits.window == 1) == (line == "pty")
        for label, mode in STATIONS["qemu-system-x86_64"].items():
            target.until(LABELS[label], timeout=240)
            assert (target.mode, target.registers.pc) == (mode, LABELS[label])
        data = target.read_memory(0x5000, 100_000)
        target.write_memory(0x30000, data[::-1])
        target.invalidate()
        assert target.read_memory(0x30000, 100_000) == data[::-1]
        with target.watchpoint(COUNTER, 8) as watch:
            stop = target.resume(timeout=240)
            assert stop is not None
            assert stop.watchpoint is watch
        target.write_register("rbx", 0x1122334455667788)
        target.resume(wait=False)
        assert target.interrupt().reason is StopReason.INTERRUPT
        with pytest.raises(rsp.MemoryFault):
            target.read_memory(1 << 40, 8)
        registers = target.registers
    assert registers["rbx"] == 0x1122334455667788
    oracle = gdb(address=machine.address)
    assert_same_registers(registers, oracle.registers())
    assert oracle.memory(0x30000, 64) == data[::-1][:64]
    with rsp.connect(machine.address):
        pass
    wait_until_it_counts(machine)


def test_a_running_machine_on_a_serial_line(boot_qemu: BootQemu) -> None:
    """There is no connection that QEMU could notice: it runs until the first byte comes."""
    machine = boot_qemu(gdb="pty", stopped=False)
    wait_until_it_counts(machine)
    with rsp.connect(machine.address) as target:
        assert target.registers.pc in range(LABELS["long_start"], LABELS["greeting"])
        point = target.breakpoint(TICK)
        target.resume(timeout=240)
        assert point.hits == 1
    wait_until_it_counts(machine)
    with rsp.connect(machine.address) as target:
        assert target.read_memory(TICK, 1) == b"\x48"
    wait_until_it_counts(machine)


@pytest.mark.parametrize("line", ["unix", "tcp"])
def test_the_second_client_is_told_why(line: Literal["unix", "tcp"], boot_qemu: BootQemu) -> None:
    machine = boot_qemu(gdb=line)
    with rsp.connect(machine.address) as target:
        with pytest.raises(rsp.RspTimeout, match="another client may be attached"):
            rsp.connect(machine.address, timeout=0.5)
        # The first one has not noticed.
        assert target.registers.pc == 0xFFFFFFF0
    with rsp.connect(machine.address) as target:
        assert target.stub.name == "qemu"


USES: dict[str, Callable[[rsp.Target], object]] = {
    "registers": lambda target: target.registers,
    "memory": lambda target: target.read_memory(0x8000, 8),
    "much memory": lambda target: target.read_memory(0, 0x100000),
    "write": lambda target: target.write_memory(0x8000, b"x"),
    "breakpoint": lambda target: target.breakpoint(TICK),
    "resume": lambda target: target.resume(timeout=240),
    "step": lambda target: target.step(timeout=30),
    "threads": lambda target: target.threads,
    "monitor": lambda target: target.monitor("info status"),
    "detach": lambda target: target.detach(),
}


@pytest.mark.parametrize(
    ("use", "line"),
    # A pty that was just opened is looked at once a second: a few of them will do.
    [
        *((use, line) for use in USES for line in ("unix", "tcp")),
        ("registers", "pty"),
        ("resume", "pty"),
    ],
)
def test_a_machine_that_dies(
    use: str, line: Literal["unix", "tcp", "pty"], boot_qemu: BootQemu
) -> None:
    machine = boot_qemu(gdb=line)

    def session() -> None:
        with rsp.connect(machine.address) as target:
            target.breakpoint(LABELS["real_start"])
            target.resume(timeout=240)
            kill(machine)
            USES[use](target)

    with pytest.raises(rsp.ConnectionLost, match="connect again"):
        session()


def test_a_machine_that_dies_while_it_runs(boot_qemu: BootQemu) -> None:
    machine = boot_qemu(stopped=False)
    with rsp.connect(machine.address) as target:
        target.resume(wait=False)
        kill(machine)
        with pytest.raises(rsp.ConnectionLost):
            target.wait(timeout=240)
        for use in ("registers", "memory", "resume"):
            with pytest.raises(rsp.RspError):
                USES[use](target)


def test_a_machine_that_ends_when_it_is_let_go(boot_qemu: BootQemu) -> None:
    """QEMU answers the ``D``, and does not wait for the ack of its answer."""
    for _ in range(5):
        machine = boot_qemu()
        with rsp.connect(machine.address) as target:
            target.until(LABELS["long_start"], timeout=240)
            # ud2 without an IDT: a triple fault, and with -no-reboot the end.
            target.write_memory(target.registers.pc, b"\x0f\x0b")
        os.waitid(os.P_PID, machine.pid, os.WEXITED | os.WNOWAIT)


def kill(machine: QemuMachine) -> None:
    os.kill(machine.pid, signal.SIGKILL)
    os.waitid(os.P_PID, machine.pid, os.WEXITED | os.WNOWAIT)
