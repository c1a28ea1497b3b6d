"""Stepping by lines on the boot sector, through all modes, and on scripted stubs."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS
from lab.stops import step_flags
from rsp.arch.modes import CpuMode
from rsp.errors import LocalProtocolError, RspTimeout, SymbolError
from rsp.symbols.table import SymbolTable
from rsp.testing.boot import ELF
from rsp.testing.cpu import State
from rsp.testing.personalities import PLAIN, QEMU
from rsp.testing.serve import StubTransport, connected
from rsp.testing.stub import Stub
from rsp.wire import commands

if TYPE_CHECKING:
    from pathlib import Path

    from lab.servers import BootQemu

LEAVE = rsp.OnExit.LEAVE_STOPPED
LONG = LABELS["long_start"]
CALL, BEHIND, TICK = 0x7D0B, 0x7D10, LABELS["tick"]
# Where the lines from long_start on begin, up to the call.
LINES = {155: LONG, 156: 0x7CD1, 157: 0x7CD9, 158: 0x7CDD, 159: 0x7CE1}


def line_of(stop: rsp.Stop | None) -> int:
    assert stop is not None
    assert stop.line is not None
    return stop.line.line


# --- on QEMU ---


def test_from_real_to_64_bit_mode(boot_qemu: BootQemu) -> None:
    """Every stop is where a statement begins, and no line is left out."""
    table = SymbolTable(ELF)
    with rsp.connect(boot_qemu().address, symbols=ELF) as target:
        target.until("real_start", timeout=240)
        modes, lines = {target.mode}, []
        while target.registers.pc != CALL:
            stop = target.step_line(timeout=240)
            assert stop.reason is rsp.StopReason.STEP
            assert stop.line == table.line(target.registers.pc)
            modes.add(target.mode)
            lines.append(line_of(stop))
            assert len(lines) < 500
        assert modes >= {CpuMode.REAL16, CpuMode.PROTECTED32, CpuMode.LONG64}
        assert lines[-1] == 171
        assert set(range(155, 165)) <= set(lines)


def test_into_over_and_out_of_a_call(boot_qemu: BootQemu) -> None:
    with rsp.connect(boot_qemu().address, symbols=ELF) as target:
        for command, where, line in (
            (target.next_line, BEHIND, 172),
            (target.step_line, TICK, 178),
        ):
            target.until(CALL, timeout=240)
            stop = command(timeout=30)
            assert (target.registers.pc, line_of(stop)) == (where, line)
            assert stop.reason is rsp.StopReason.STEP
        assert stop.function == "tick"
        count = target.read_u64(0x4000)
        stop = target.finish(timeout=240)
        assert (target.registers.pc, line_of(stop)) == (BEHIND, 172)
        assert target.read_u64(0x4000) == count + 1
        assert stop.return_value is None  # assembler has no type
        assert not target.breakpoints


def test_step_flags_of_qemu_are_set_and_restored(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    with rsp.connect(machine.address, on_exit=LEAVE) as target:
        assert step_flags(target) == 7
        target.session.ask(commands.SetStepFlags(flags=1))
        target.step(timeout=30)  # by instruction they stay
        assert step_flags(target) == 1
        target.until(LONG, timeout=240)
    with rsp.connect(machine.address, symbols=ELF, on_exit=LEAVE) as target:
        assert step_flags(target) == 1
        target.step_line(timeout=240)
        assert step_flags(target) == 7
        target.next_line(timeout=240)
    with rsp.connect(machine.address) as target:
        assert step_flags(target) == 1


def test_what_a_step_has_set_is_taken_out_also_while_the_target_runs(
    boot_qemu: BootQemu, tmp_path: Path
) -> None:
    log = tmp_path / "session.rsplog"
    with rsp.connect(boot_qemu().address, symbols=ELF, record=log) as target:
        target.until(TICK, timeout=240)
        with contextlib.suppress(RspTimeout):  # QEMU may be quick
            target.finish(timeout=0.0)
    sent = log.read_text()
    assert sent.count(f",{BEHIND:x},1") == 2
    assert sent.count("$Z") == sent.count("$z") == 2


def test_a_watchpoint_ends_a_step(boot_qemu: BootQemu) -> None:
    with rsp.connect(boot_qemu().address, symbols=ELF) as target:
        target.until(CALL, timeout=240)
        point = target.watchpoint(0x4000, 8)
        stop = target.next_line(timeout=240)
        assert (stop.reason, stop.watchpoint) == (rsp.StopReason.WATCHPOINT, point)
        assert stop.function == "tick"


# --- scripted ---


def scripted(*places: int, **more: object) -> Stub:
    """A machine in 64-bit mode, at the first place, that comes to the others."""
    first, *others = places
    return Stub(
        QEMU,
        registers={"rip": first, "rsp": 0x6000, "r8": 1},
        memory={0x7000: bytes(0x2000), 0x5000: bytes(0x2000)},
        program=[State(registers={"rip": place}) for place in others],
        **more,  # type: ignore[arg-type]  # as Stub takes them
    )


def on(stub: Stub) -> rsp.Target:
    return rsp.connect(StubTransport(stub), symbols=ELF, timeout=5)


def test_lines_of_several_instructions_and_jumps_within_one() -> None:
    """A jump back to the begin of a line does not end a step; its end does."""
    stub = scripted(LONG, LONG + 2, LONG + 5, LONG, LONG + 3, LINES[156], LINES[157] + 1)
    with on(stub) as target:
        stop = target.step_line(timeout=5)
        assert (target.registers.pc, line_of(stop)) == (LINES[156], 156)


def test_into_the_middle_of_a_line_is_no_end() -> None:
    stub = scripted(LONG, LINES[157] + 1, LINES[157] + 2, LINES[158], LINES[159])
    with on(stub) as target:
        assert line_of(target.next_line(timeout=5)) == 158


def test_where_there_is_no_line() -> None:
    with on(scripted(0x9000)) as target, pytest.raises(SymbolError, match="step\\(\\) executes"):
        target.step_line()
    with connected(scripted(0x9000)) as target, pytest.raises(SymbolError, match="no symbols"):
        target.next_line()


def test_the_outermost_function_is_not_finished() -> None:
    stub = scripted(0x9000)
    stub.memory = type(stub.memory)({})
    with on(stub) as target, pytest.raises(SymbolError, match="who has called"):
        target.finish()


def test_a_position_is_of_the_last_stop() -> None:
    with on(scripted(LONG, LINES[156], LINES[157])) as target:
        first = target.stop
        assert line_of(first) == 155
        second = target.step(timeout=5)
        assert first.function == "long_start"  # it was asked for then
        target.step(timeout=5)
        with pytest.raises(LocalProtocolError, match="before the target runs on"):
            _ = second.line


def test_from_a_pc_that_was_written() -> None:
    with on(scripted(LONG, LINES[158], LINES[159])) as target:
        assert line_of(target.stop) == 155
        target.write_register("rip", LINES[157])
        assert line_of(target.next_line(timeout=5)) == 158


def test_the_current_line(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = scripted(CALL)
    code = bytes.fromhex("e802000000")
    stub.memory = type(stub.memory)({CALL: code + bytes(16)})
    with on(stub) as target:
        assert target.current_line() == "=> 0x7d0b <long_start+68>:\tcallq 0x7d12 <tick>"
        target.symbols.source_map("/", ELF.parents[3])
        number, text = target.current_line().split("\t", 1)
        assert ELF.with_name("boot.S").read_text().splitlines()[int(number) - 1] == text
    for missing in ("capstone", "memory"):
        stub = scripted(0x9000)
        if missing == "capstone":
            stub.memory = type(stub.memory)({0x9000: bytes(16)})
            monkeypatch.setitem(sys.modules, "capstone", None)
        with connected(stub) as target:
            assert target.current_line() == "=> 0x9000"


def test_no_symbols_no_position() -> None:
    with connected(scripted(LONG)) as target:
        assert target.stop.position is None
        assert target.stop.line is None
        assert target.stop.function is None


def test_a_step_that_takes_too_long_goes_on() -> None:
    """The target runs on; where the step was to end it stops."""
    stub = scripted(LONG)  # the instruction never ends
    with on(stub) as target:
        with pytest.raises(RspTimeout, match="still runs"):
            target.step_line(timeout=0.05)
        assert target.running
        assert target.interrupt().reason is rsp.StopReason.STEP or not target.running
        assert not stub.breakpoints


def test_plain_stubs_step_too() -> None:
    stub = Stub(
        PLAIN,
        registers={"rip": LONG, "rsp": 0x6000},
        memory={0x7000: bytes(0x2000), 0x5000: bytes(0x2000)},
        program=[State(registers={"rip": place}) for place in (LONG + 3, LINES[156])],
    )
    with on(stub) as target:
        assert line_of(target.next_line(timeout=5)) == 156
    assert not any(packet.startswith(b"qqemu.sstep=") for packet in stub.received)


def next_lines(target: rsp.Target, timeout: float) -> None:
    while True:
        target.next_line(timeout=timeout)


def test_a_step_whose_time_is_over_says_how_long_it_was(boot_qemu: BootQemu) -> None:
    """And not what was left of it for its last wait."""
    with rsp.connect(boot_qemu().address, symbols=ELF) as target:
        target.until("real_based", timeout=240)
        with pytest.raises(rsp.RspTimeout, match="still runs after 1e-09 s") as caught:
            next_lines(target, 1e-9)
        assert caught.value.timeout == 1e-9
        target.wait(timeout=240)
