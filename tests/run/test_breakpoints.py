"""Breakpoints: their kinds and why, their slots, conditions, temporary ones, other modes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

import rsp
from lab.stops import resumed
from rsp.arch.modes import CpuMode
from rsp.errors import (
    ArgumentError,
    LocalProtocolError,
    MemoryFault,
    NoHardwareBreakpoint,
    SymbolNotFound,
)
from rsp.inferior.locations import Where
from rsp.run.arming import doubts, held_by_stub
from rsp.run.points import BreakpointKind
from rsp.symbols.elf.image import Image
from rsp.testing.boot import ELF
from rsp.testing.cpu import State
from rsp.testing.personalities import KGDB, PLAIN, QEMU, Personality
from rsp.testing.serve import StubTransport, connected
from rsp.testing.stub import Stub, assert_harmless
from rsp.wire import commands, replies
from rsp.wire.commands import BreakpointType
from rsp.wire.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.remote.target import Target

START = 0x1000
WALK = [State(registers={"rip": START + i}) for i in range(1, 32)]
IMAGE = Image(ELF)
SECTION = IMAGE.named(".text")
assert SECTION is not None
CODE = bytes(IMAGE.contents(SECTION)[0 : SECTION.size])
BOOT = SECTION.address
TICK = 0x7D12


def stub_of(personality: Personality = PLAIN, **more: Any) -> Stub:
    more.setdefault("program", WALK)
    more.setdefault("registers", {"rip": START})
    more.setdefault("memory", {START: bytes(4096)})
    return Stub(personality, **more)


@contextlib.contextmanager
def with_symbols(stub: Stub) -> Iterator[Target]:
    with rsp.connect(StubTransport(stub), symbols=ELF, timeout=5) as target:
        yield target
    assert_harmless(stub)


def set_points(stub: Stub) -> list[tuple[str, int]]:
    return sorted((kind.name, address) for kind, address in stub.breakpoints)


# --- what AUTO chooses ---


def loaded(code: bytes = CODE, personality: Personality = PLAIN, **more: Any) -> Stub:
    """A machine at the begin of the boot sector, which is in memory."""
    return stub_of(personality, registers={"rip": BOOT}, memory={BOOT: code}, **more)


def test_software_where_the_code_is_what_the_image_says() -> None:
    stub = loaded()
    with with_symbols(stub) as target:
        point = target.breakpoint("tick")
        assert (point.kind, point.reason) == (BreakpointKind.SOFTWARE, "")
        assert set_points(stub) == [("SOFTWARE", TICK)]


@pytest.mark.parametrize(
    "code", [bytes(len(CODE)), b"\xff" * len(CODE), bytes(byte ^ 0x5A for byte in CODE)]
)
def test_hardware_where_other_code_is(code: bytes) -> None:
    """A kernel that has not been unpacked yet."""
    stub = loaded(code)
    with with_symbols(stub) as target:
        point = target.breakpoint("tick")
        assert point.kind is BreakpointKind.HARDWARE
        assert point.reason.startswith("0x7d12: hw breakpoint, because what is in memory is not")
        assert set_points(stub) == [("HARDWARE", TICK)]
        assert "hw breakpoint" in str(target.breakpoints)


def test_hardware_where_nothing_is_mapped() -> None:
    stub = stub_of(QEMU)
    with with_symbols(stub) as target:
        point = target.breakpoint("tick")
        assert point.kind is BreakpointKind.HARDWARE
        assert point.reason == "0x7d12: hw breakpoint, because the code is not mapped yet"


@pytest.mark.parametrize("length", range(1, 9))
def test_software_where_an_instruction_was_patched(length: int) -> None:
    """As a kernel does with calls of __fentry__, alternatives and static branches."""
    at = TICK - BOOT
    code = CODE[:at] + b"\x90" * length + CODE[at + length :]
    with with_symbols(loaded(code)) as target:
        point = target.breakpoint("tick")
        assert (point.kind, point.reason) == (BreakpointKind.SOFTWARE, "")


def test_hardware_where_another_debugger_has_an_int3() -> None:
    at = TICK - BOOT
    stub = loaded(CODE[:at] + b"\xcc" + CODE[at + 1 :])
    with with_symbols(stub) as target:
        point = target.breakpoint("tick")
        assert point.kind is BreakpointKind.HARDWARE
        assert point.reason.endswith("an int3 is there already that is not ours")


@pytest.mark.parametrize("kind", [BreakpointKind.SOFTWARE, BreakpointKind.HARDWARE])
def test_what_is_asked_for_is_done(kind: BreakpointKind) -> None:
    for code in (CODE, bytes(len(CODE))):
        with with_symbols(loaded(code)) as target:
            point = target.breakpoint("tick", kind=kind)
            assert (point.kind, point.reason) == (kind, "")


def test_hardware_where_the_stub_refuses_software() -> None:
    stub = loaded()
    stub.answers[b"Z0,7d12,1"] = b"E22"
    with with_symbols(stub) as target:
        point = target.breakpoint("tick")
        assert point.kind is BreakpointKind.HARDWARE
        assert point.reason.endswith("because the stub refuses a software breakpoint there")


def test_what_is_no_place() -> None:
    with with_symbols(loaded()) as target:
        with pytest.raises(SymbolNotFound, match="nearest: tick"):
            target.breakpoint("tikc")
        with pytest.raises(SymbolNotFound):
            target.breakpoint("nothing.c:1")
        for text in ("7x", "*7x", "tick+x", "tick+", "*", "", "boot.S:", "0x1" + 16 * "0", "-1"):
            with pytest.raises(ArgumentError, match="a location is NAME"):
                target.breakpoint(text)
        assert not target.breakpoints


def test_lines_and_distances() -> None:
    with with_symbols(loaded()) as target:
        by_line = target.breakpoint("boot.S:155")
        assert [place.line for place in by_line.places] == [155]
        assert target.breakpoint("tick+2").locations == (TICK + 2,)
        assert target.breakpoint(f"{TICK:#x}").places[0].function == "tick"


# --- the debug registers ---


class Slots:
    """Lets a stub have some debug registers."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __call__(self, stub: Stub, command: commands.Command) -> replies.ErrorReply | None:
        software = BreakpointType.SOFTWARE
        if isinstance(command, commands.InsertBreakpoint) and command.type is not software:
            used = sum(kind is not software for kind, _ in stub.breakpoints)
            if used >= self.count:
                return replies.ErrorReply(code=22)
        return None


def test_spent_debug_registers_are_named_with_who_has_them() -> None:
    stub = stub_of()
    stub.hooks.append(Slots(4))
    with connected(stub) as target:
        for i in range(3):
            target.breakpoint(START + i, kind=BreakpointKind.HARDWARE)
        target.watchpoint(START + 0x100, 8)
        with pytest.raises(NoHardwareBreakpoint) as caught:
            target.breakpoint(START + 9, kind=BreakpointKind.HARDWARE)
        assert caught.value.address == START + 9
        for part in ("4 debug registers", "1 (*0x1000)", "3 (*0x1002)", "4 (*0x1100@8)"):
            assert part in str(caught.value)
        assert len(target.breakpoints) == 4
        target.breakpoint(START + 9)  # by software there is room


def test_auto_beyond_the_debug_registers() -> None:
    """Where QEMU's translator runs the code its software breakpoints hold everywhere."""
    for kvm, kind in (("enabled", None), ("disabled", BreakpointKind.SOFTWARE)):
        stub = loaded(bytes(len(CODE)), QEMU)
        stub.hooks.append(Slots(4))
        asked = answers_info_kvm(stub, kvm)
        with with_symbols(stub) as target:
            for i in range(4):
                assert target.breakpoint(f"tick+{i}").kind is BreakpointKind.HARDWARE
            if kind is None:
                with pytest.raises(NoHardwareBreakpoint, match="4 debug registers"):
                    target.breakpoint("tick+5")
            else:
                point = target.breakpoint("tick+5")
                assert point.kind is kind
                assert "this stub keeps it out of memory" in point.reason
            assert stub.received.count(asked) == 1


def answers_info_kvm(stub: Stub, kvm: str) -> bytes:
    """Let a stub say whether KVM runs the code, and return the packet that asks."""
    asked = f"qRcmd,{b'info kvm'.hex()}".encode()
    stub.answers[asked] = [f"O{f'kvm support: {kvm}'.encode().hex()}".encode(), b"OK"]
    return asked


def test_all_places_of_a_name_are_made_alike() -> None:
    """The debug registers are not spent on a few of them."""
    stub = loaded(bytes(len(CODE)), QEMU)
    stub.hooks.append(Slots(4))
    answers_info_kvm(stub, "disabled")
    with with_symbols(stub) as target:
        places = [TICK + i for i in range(5)]
        where = Where("many", places, target.symbols)
        point = target.points.add(
            where,
            BreakpointKind.AUTO,
            doubts=doubts(places, target.inferior, target.points),
            held_by_stub=lambda: held_by_stub(target.inferior),
        )
        assert set(point.types.values()) == {BreakpointType.SOFTWARE}
        assert target.points.debug_registers_used == 0


def test_our_own_int3_in_memory_is_not_another_debugger_s() -> None:
    """As reads show it under KVM."""
    stub = loaded()
    with with_symbols(stub) as target:
        first = target.breakpoint("tick")
        at = TICK - BOOT
        stub.memory = type(stub.memory)({BOOT: CODE[:at] + b"\xcc" + CODE[at + 1 :]})
        target.invalidate()
        second = target.breakpoint("tick")
        assert (first.kind, second.kind) == (BreakpointKind.SOFTWARE,) * 2
        assert second.reason == ""


# --- conditions and temporary ones ---


def test_a_temporary_one_goes_when_it_is_hit() -> None:
    stub = stub_of(loop=0)
    with connected(stub) as target:
        times = []

        def third(target: Target) -> bool:
            times.append(target.registers.pc)
            return len(times) == 3

        point = target.breakpoint(START + 5, temporary=True, condition=third)
        assert str(target.breakpoints).splitlines()[1].split()[2] == "del"
        assert resumed(target).breakpoint is point
        assert (len(times), point.hits, point.inserted) == (3, 1, False)
        assert len(target.breakpoints) == 0
        assert stub.breakpoints == {}


def test_a_condition_that_fails_is_a_hit_and_says_whose_it_is() -> None:
    with connected(stub_of()) as target:
        point = target.breakpoint(START + 2, condition=lambda target: bool(1 // 0))
        beside = target.breakpoint(START + 2)
        with pytest.raises(ZeroDivisionError) as caught:
            target.resume(timeout=5)
        assert "condition of breakpoint 1" in caught.value.__notes__[0]
        assert (point.hits, beside.hits) == (1, 1)
        assert target.stop.breakpoint is point
        assert not target.running


def test_a_condition_lets_nothing_run() -> None:
    with connected(stub_of()) as target:
        target.breakpoint(START + 2, condition=lambda target: bool(target.step()))
        with pytest.raises(LocalProtocolError, match="must not let the target run"):
            target.resume(timeout=5)
        assert target.registers.pc == START + 2
        assert target.step(timeout=5).reason is rsp.StopReason.STEP


# --- another mode, another debugger ---


@pytest.mark.parametrize("mapped", [True, False])
def test_armed_again_after_a_switch_of_the_mode(mapped: bool) -> None:
    """Its address may be of other memory now, where no int3 is."""
    program = [
        State(registers={"rip": BOOT + 1}, mode=CpuMode.LONG64),
        State(registers={"rip": BOOT + 2}),
    ]
    stub = loaded(personality=QEMU, program=program, mode=CpuMode.REAL16)
    with with_symbols(stub) as target:
        point = target.breakpoint("tick")
        stop = target.breakpoint(BOOT + 1, kind=BreakpointKind.HARDWARE)
        before = len(stub.received)
        if not mapped:
            stub.memory = type(stub.memory)({})
        assert resumed(target).breakpoint is stop
        sent = [packet for packet in stub.received[before:] if packet[:1] in b"zZ"]
        kind = b"Z0" if mapped else b"Z1"
        assert sent == [b"z0,7d12,1", kind + b",7d12,1"]
        assert point.kind is (BreakpointKind.SOFTWARE if mapped else BreakpointKind.HARDWARE)
        assert "not mapped" in point.reason or mapped
        before = len(stub.received)
        target.step(timeout=5)
        assert b"z0,7d12,1" not in stub.received[before:]


def test_armed_again_without_symbols_too() -> None:
    program = [State(registers={"rip": START + 1}, mode=CpuMode.LONG64)]
    stub = stub_of(QEMU, program=program, mode=CpuMode.REAL16)
    with connected(stub) as target:
        target.breakpoint(START + 9)
        before = len(stub.received)
        target.step(timeout=5)
        sent = [packet for packet in stub.received[before:] if packet[:1] in b"zZ"]
        assert sent == [b"z0,1009,1", b"Z0,1009,1"]


@pytest.mark.parametrize("ours", [True, False])
def test_an_int3_that_is_not_ours(ours: bool) -> None:
    program = [
        State(registers={"rip": START + 1}, writes={START: b"\xcc"}),
        State(registers={"rip": START + 1}, signal=int(Signal.SIGTRAP)),
    ]
    with connected(stub_of(program=program)) as target:
        target.breakpoint(START + 1 if ours else START + 9)
        stop = resumed(target)
        if ours:
            assert (stop.reason, stop.int3) == (rsp.StopReason.BREAKPOINT, None)
            stop = resumed(target)
        else:
            assert (stop.reason, stop.int3) == (rsp.StopReason.SIGNAL, START)
            assert "an int3 at 0x1000 that is not ours" in str(stop)


def test_memory_that_cannot_be_read_is_no_int3() -> None:
    program = [State(registers={"rip": 0x9001}, signal=int(Signal.SIGTRAP))]
    with connected(stub_of(QEMU, program=program)) as target:
        stop = resumed(target)
        assert (stop.reason, stop.int3) == (rsp.StopReason.SIGNAL, None)
        with pytest.raises(MemoryFault):
            target.read_memory(0x9000, 1)


def test_a_step_that_ends_before_it_begins_counts_no_hit_twice() -> None:
    """As QEMU's do when the APIC has something for the CPU."""
    program = [State(registers={"rip": START + i}) for i in (1, 1, 2, 3)]
    with connected(stub_of(QEMU, program=program)) as target:
        point, end = target.breakpoint(START + 1), target.breakpoint(START + 3)
        assert resumed(target).breakpoint is point
        assert resumed(target).breakpoint is end
        assert (point.hits, end.hits) == (1, 1)


def test_a_jump_to_itself_is_hit_again_and_again() -> None:
    program = [State(registers={"rip": START + 1}) for _ in range(20)]
    with connected(stub_of(QEMU, program=program)) as target:
        point = target.breakpoint(START + 1)
        for count in range(1, 6):
            assert resumed(target).breakpoint is point
            assert point.hits == count


def test_kgdb_reports_behind_its_own_int3() -> None:
    with connected(stub_of(KGDB, thread="fffffffe")) as target:
        target.breakpoint(START + 5)
        stop = resumed(target)
        assert (stop.reason, stop.int3) == (rsp.StopReason.BREAKPOINT, None)
        assert target.registers.pc == START + 5
