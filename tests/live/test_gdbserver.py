"""gdbserver on a real process: threads, vector registers, signals, its end."""

from __future__ import annotations

import itertools
import os
import re
import select
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.compare import assert_same_registers, registers_of
from lab.programs import build, symbols
from rsp import BreakpointKind, OnExit, StopReason, Watch
from rsp.transports import open_transport

if TYPE_CHECKING:
    from lab.gdb import Gdb
    from lab.servers import StartServer

pytestmark = pytest.mark.live("nm")

# gdbserver before 14 reads the XSAVE area at Intel's offsets, on an AMD processor beyond its end:
# the last of the AVX-512 registers are what happens to lie there, another value at each look.
JUNK = frozenset(f"{kind}mm{n}" for kind in "xyz" for n in range(28, 32))


def row(number: int, size: int) -> int:
    """Return what subject.c fills vector register `number` with."""
    return int.from_bytes(bytes((8 * number + i) % 256 for i in range(size)), "little")


def oracle(gdb: type[Gdb], address: str, source: str = "subject.c") -> Gdb:
    program = build(source)
    return gdb(address=address, symbols=program, settings=(f"set sysroot {program.anchor}",))


def process_of(target: rsp.Target) -> int:
    assert target.thread is not None
    assert target.thread.thread_id.process is not None
    return target.thread.thread_id.process


@pytest.fixture(scope="module")
def names() -> dict[str, int]:
    return symbols("subject.c")


# --- registers ---


def test_threads_and_all_their_registers(
    gdbserver: StartServer, gdb: type[Gdb], names: dict[str, int]
) -> None:
    address = gdbserver()
    with rsp.connect(address, on_exit=OnExit.LEAVE_STOPPED) as target:
        assert target.stub.name == "gdbserver"
        assert target.arch.name == "x86-64"
        with target.breakpoint(names["vectors_filled"]) as point:
            stop = target.resume(timeout=240)
            assert stop is not None
            assert (stop.reason, stop.breakpoint) == (StopReason.BREAKPOINT, point)
        threads = target.threads
        assert len(threads) == 3
        assert target.thread == threads[0]
        process = process_of(target)
        name = Path(f"/proc/{process}/comm").read_text().strip()
        assert [thread.name for thread in threads] == [name] * 3
        assert {thread.thread_id.thread for thread in threads} == {
            int(task.name) for task in Path(f"/proc/{process}/task").iterdir()
        }
        registers = {thread.thread_id.thread: thread.registers for thread in threads}
        assert target.registers.pc == names["vectors_filled"]
        assert registers[threads[1].thread_id.thread].pc != target.registers.pc
        for thread in threads:
            assert target.select(thread) == thread
            assert target.registers == thread.registers
    stub = oracle(gdb, address)
    listed = stub.run("info threads")[0]
    numbers = re.findall(r"^\*? +(\d+) +Thread \d+\.(\d+) ", listed, re.MULTILINE)
    assert {int(thread) for _, thread in numbers} == set(registers)
    for number, thread in numbers:
        theirs = registers_of(stub, before=[f"thread {number}"])
        assert_same_registers(registers[int(thread)], theirs, apart_from=JUNK)


def test_vector_registers(gdbserver: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(gdbserver()) as target:
        target.until(names["vectors_filled"], timeout=240)
        registers = target.registers
        assert [registers[f"xmm{n}"] for n in range(16)] == [row(n, 16) for n in range(16)]
        if "ymm0" in registers:
            # Composed of two registers of the wire: xmm0 and ymm0h.
            assert [registers[f"ymm{n}"] for n in range(16)] == [row(n, 32) for n in range(16)]
            assert registers["ymm3h"] == row(3, 32) >> 128


def test_the_i386_program(gdbserver: StartServer, gdb: type[Gdb]) -> None:
    names = symbols("subject32.S")
    address = gdbserver(source="subject32.S")
    with rsp.connect(address, on_exit=OnExit.LEAVE_STOPPED) as target:
        assert target.arch.name == "i386"
        target.until(names["filled"], timeout=240)
        registers = target.registers
        assert (registers["esi"], registers["edi"], registers["dl"]) == (
            0x06060606, 0x07070707, 0x02,
        )  # fmt: skip
        assert registers["st0"] == 0x4000C90FDAA22168C235
        assert registers["xmm0"] == int.from_bytes(b"sixteen bytes 32", "little")
    theirs = registers_of(oracle(gdb, address, "subject32.S"))
    assert_same_registers(registers, theirs, apart_from=JUNK)
    with rsp.connect(address) as target:
        with target.breakpoint(names["visit"]) as point:
            for hits in range(1, 6):
                target.resume(timeout=240)
                assert point.hits == hits
                assert target.read_u32(names["watched"]) == 0x1000 + hits - 1
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.status) == (StopReason.EXITED, 7)


def test_registers_are_written_without_p(
    gdbserver: StartServer, gdb: type[Gdb], names: dict[str, int]
) -> None:
    address = gdbserver()
    with rsp.connect(address, on_exit=OnExit.LEAVE_STOPPED) as target:
        target.until(names["visit"], timeout=240)
        before = dict(target.registers)
        target.write_register("rax", 0x1122334455667788)
        target.write_register("al", 0x99)
        target.write_register("xmm5", 1 << 127)
        after = target.registers
        changed = {"rax", "xmm5"}
        assert (after["rax"], after["xmm5"]) == (0x1122334455667799, 1 << 127)
        assert {n: v for n, v in after.items() if n not in changed | JUNK and n[0] != "z"} == {
            n: v for n, v in before.items() if n not in changed | JUNK and n[0] != "z"
        }
    stub = oracle(gdb, address)
    assert stub.value("$rax") == 0x1122334455667799
    assert stub.registers()["xmm5"] == 1 << 127


# --- running ---


def test_breakpoints_to_the_exit(gdbserver: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(gdbserver()) as target:
        point = target.breakpoint(names["visit"])
        for hits in range(1, 6):
            stop = target.resume(timeout=240)
            assert stop is not None
            assert (stop.reason, stop.breakpoint) == (StopReason.BREAKPOINT, point)
            assert target.registers.pc == names["visit"]
            assert (target.registers["rdi"], point.hits) == (hits, hits)
            # gdbserver hides its int3.
            target.invalidate()
            assert target.read_u8(names["visit"]) != 0xCC
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.status, stop.signal) == (StopReason.EXITED, 7, 0)
        assert "status 7" in str(stop)
        assert not target.running
        for use in (lambda: target.registers, target.resume, target.step, lambda: target.threads):
            with pytest.raises(rsp.LocalProtocolError, match="exited"):
                use()


@pytest.mark.parametrize("kind", [BreakpointKind.SOFTWARE, BreakpointKind.HARDWARE])
def test_kinds_of_breakpoints(
    kind: BreakpointKind, gdbserver: StartServer, names: dict[str, int]
) -> None:
    with rsp.connect(gdbserver()) as target, target.breakpoint(names["visit"], kind=kind) as point:
        for _ in range(2):
            stop = target.resume(timeout=240)
            assert stop is not None
            assert stop.breakpoint is point
        assert (point.kind, point.hits) == (kind, 2)


def test_hardware_breakpoints_run_out(gdbserver: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(gdbserver()) as target:
        target.until(names["vectors_filled"], timeout=240)
        points = [
            target.breakpoint(names["visit"] + n, kind=BreakpointKind.HARDWARE) for n in range(4)
        ]
        with pytest.raises(rsp.NoHardwareBreakpoint, match="4") as caught:
            target.breakpoint(names["main"], kind=BreakpointKind.HARDWARE)
        assert caught.value.address == names["main"]
        assert list(target.breakpoints) == points
        points[0].remove()
        target.breakpoint(names["main"], kind=BreakpointKind.HARDWARE)


@pytest.mark.parametrize("watch", [Watch.WRITE, Watch.ACCESS])
def test_watchpoints(watch: Watch, gdbserver: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(gdbserver()) as target:
        target.until(names["vectors_filled"], timeout=240)
        values = []
        with target.watchpoint(names["watched"], 8, watch) as point:
            while point.hits < 6:
                stop = target.resume(timeout=240)
                assert stop is not None
                assert (stop.reason, stop.watchpoint) == (StopReason.WATCHPOINT, point)
                assert stop.address == names["watched"]
                values.append(target.read_u64(names["watched"]) - 0x1000)
                if watch is Watch.WRITE and point.hits == 5:
                    break
        if watch is Watch.WRITE:
            assert values == [1, 3, 6, 10, 15]
        else:  # visit reads it, writes it, and reads it for its result
            assert values == [0, 1, 1, 1, 3, 3]


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_what_a_watchpoint_saw_is_what_gdb_says(
    size: int, gdbserver: StartServer, gdb: type[Gdb], names: dict[str, int]
) -> None:
    """Also after several hits, and when somebody has written there meanwhile."""
    kind = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long"}[size]
    place = f"*({kind} *){names['watched']:#x}"
    said = "\n".join(
        oracle(gdb, gdbserver(pipe=True)).run(
            f"break *{names['vectors_filled']:#x}",
            "continue",
            "set output-radix 10",
            f"watch {place}",
            "continue",
            "continue",
            f"set var {place} = 0x21",
            "continue",
            "continue",
        )
    )
    pairs = re.findall(r"^Old value = (\d+).*\nNew value = (\d+)", said, re.MULTILINE)
    assert len(pairs) == 4
    with rsp.connect(gdbserver()) as target:
        target.until(names["vectors_filled"], timeout=240)
        target.watchpoint(names["watched"], size)
        seen = []
        for hits in range(4):
            if hits == 2:
                target.write_memory(names["watched"], (0x21).to_bytes(size, "little"))
            stop = target.resume(timeout=240)
            assert stop is not None
            assert stop.old is not None
            assert stop.new is not None
            assert str(stop.new.type_) == kind
            assert f"(old value {int(stop.old):#x}, new value {int(stop.new):#x})" in str(stop)
            seen.append((int(stop.old), int(stop.new)))
        target.detach()
        # They are of that stop, whatever has become of the target.
        assert stop is not None
        assert f"(old value {seen[-1][0]:#x}, new value {seen[-1][1]:#x})" in str(stop)
    assert seen == [(int(old), int(new)) for old, new in pairs]


def test_a_typed_watchpoint_shows_values_as_gdb_prints_them(
    gdbserver: StartServer, names: dict[str, int]
) -> None:
    with rsp.connect(gdbserver(), symbols=build("subject.c")) as target:
        target.until("vectors_filled", timeout=240)
        ctype = target.symbols.type("long")
        point = target.points.add_watch(names["watched"], 8, Watch.WRITE, None, ctype)
        for old, new in ((4096, 4097), (4097, 4099)):
            stop = target.resume(timeout=240)
            assert stop is not None
            assert stop.watchpoint is point
            assert stop.old is not None
            assert stop.new is not None
            assert (int(stop.old), int(stop.new)) == (old, new)
            assert f"(old value {old}, new value {new})" in str(stop)


def test_a_read_watchpoint_is_refused(gdbserver: StartServer, names: dict[str, int]) -> None:
    """x86 has no debug register for reads alone, and gdbserver says so."""
    with rsp.connect(gdbserver()) as target:
        target.until(names["vectors_filled"], timeout=240)
        with pytest.raises(rsp.NoHardwareBreakpoint):
            target.watchpoint(names["watched"], 8, Watch.READ)
        assert len(target.breakpoints) == 0


def test_a_breakpoint_where_nothing_is_mapped(
    gdbserver: StartServer, names: dict[str, int]
) -> None:
    with rsp.connect(gdbserver()) as target:
        target.until(names["vectors_filled"], timeout=240)
        with pytest.raises(rsp.MemoryFault) as caught:
            target.breakpoint(0x10, kind=BreakpointKind.SOFTWARE)
        assert caught.value.address == 0x10
        assert len(target.breakpoints) == 0
        # A debug register takes any address.
        assert target.breakpoint(0x10).kind is BreakpointKind.HARDWARE


def test_steps_go_where_those_of_gdb_do(
    gdbserver: StartServer, gdb: type[Gdb], names: dict[str, int]
) -> None:
    count = 60
    stepped = oracle(gdb, gdbserver(pipe=True)).run(
        f"break *{names['visit']:#x}", "continue", "delete", *["stepi", "output/x $pc"] * count
    )[4::2]
    ours = []
    with rsp.connect(gdbserver()) as target:
        target.until(names["visit"], timeout=240)
        others = [dict(thread.registers) for thread in target.threads[1:]]
        for _ in range(count):
            assert target.step(timeout=30).reason is StopReason.STEP
            ours.append(target.registers.pc)
        for thread, before in zip(target.threads[1:], others, strict=True):
            now = thread.registers
            assert {n: now[n] for n in ("rip", "rsp", "rax")} == {
                n: before[n] for n in ("rip", "rsp", "rax")
            }
    assert ours == [int(pc, 16) for pc in stepped]


def test_interrupt_a_running_process(gdbserver: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(gdbserver("spin")) as target:
        target.until(names["vectors_filled"], timeout=240)
        last = 0
        for _ in range(3):
            with pytest.raises(rsp.RspTimeout, match="still runs"):
                target.resume(timeout=0.1)
            stop = target.interrupt()
            assert (stop.reason, stop.signal_name) == (StopReason.INTERRUPT, "SIGINT")
            assert target.read_u64(names["spins"]) > last
            last = target.read_u64(names["spins"])
        target.write_memory(names["keep_spinning"], bytes(4))
        # The SIGINT is not the program's.
        end = target.resume(timeout=240)
        assert end is not None
        assert (end.reason, end.status) == (StopReason.EXITED, 7)


def test_a_process_runs_on_behind_the_block_of_a_breakpoint(
    gdbserver: StartServer, names: dict[str, int]
) -> None:
    with rsp.connect(gdbserver("spin")) as target:
        target.until(names["vectors_filled"], timeout=240)
        with target.breakpoint(names["fill_vectors"]), target.watchpoint(names["handled"], 4):
            target.resume(wait=False)
        assert target.running
        assert len(target.breakpoints) == 0
        target.interrupt()
        first = target.read_u64(names["spins"])
        with (
            pytest.raises(rsp.RspTimeout, match=r"interrupt\(\) stops it"),
            target.breakpoint(names["visit"]),
        ):
            target.resume(timeout=0.1)
        target.interrupt()
        assert target.read_u64(names["spins"]) > first
        target.write_memory(names["keep_spinning"], bytes(4))


# --- signals ---


def test_a_signal_is_delivered_on_resume(gdbserver: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(gdbserver("signal")) as target:
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.signal_name) == (StopReason.SIGNAL, "SIGUSR1")
        assert target.read_u32(names["handled"]) == 0
        with target.breakpoint(names["on_signal"]) as point:
            stop = target.resume(timeout=240)
            assert stop is not None
            assert stop.breakpoint is point
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.status) == (StopReason.EXITED, 7)


def test_a_step_delivers_the_signal_too(gdbserver: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(gdbserver("signal")) as target:
        target.resume(timeout=240)
        target.step(timeout=30)
        assert target.registers.pc == names["on_signal"]


def test_a_process_that_crashes(gdbserver: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(gdbserver("crash")) as target:
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.signal_name) == (StopReason.SIGNAL, "SIGSEGV")
        assert target.registers.pc in range(names["main"], names["main"] + 1000)
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.signal_name) == (StopReason.TERMINATED, "SIGSEGV")
        assert stop.status is None


def test_a_step_at_the_signal_that_ends_a_process(gdbserver: StartServer) -> None:
    # Of the threads gdbserver waits for the one that is stepped, and may find it gone.
    for _ in range(8):
        with rsp.connect(gdbserver("crash")) as target:
            assert target.resume(timeout=240).signal_name == "SIGSEGV"
            stop = target.step(timeout=240)
            assert (stop.reason, stop.signal_name) == (StopReason.TERMINATED, "SIGSEGV")


# --- the end ---


@pytest.mark.parametrize("running", [False, True])
def test_detach_leaves_the_process_running(
    running: bool, gdbserver: StartServer, names: dict[str, int]
) -> None:
    with rsp.connect(gdbserver("spin")) as target:
        target.breakpoint(names["visit"])
        target.resume(timeout=240)
        for point in list(target.breakpoints):
            point.remove()
        process = process_of(target)
        ended = os.pidfd_open(process)
        target.write_memory(names["keep_spinning"], bytes(4))
        target.breakpoint(names["visit"])  # which would kill it, were it left behind
        if running:
            target.breakpoints[0].remove()
            target.breakpoint(names["on_signal"])
            target.resume(wait=False)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        assert poll.poll(30_000), Path(f"/proc/{process}/status").read_text()
    finally:
        os.close(ended)


def test_the_process_stays_stopped_when_left_so(
    gdbserver: StartServer, names: dict[str, int]
) -> None:
    address = gdbserver()
    with rsp.connect(address, on_exit=OnExit.LEAVE_STOPPED) as target:
        target.breakpoint(names["visit"])
        target.resume(timeout=240)
        before = dict(target.registers)
        process = process_of(target)
    assert re.search(r"^State:\s+t", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    with rsp.connect(address) as target:
        assert target.stop.reason is StopReason.ATTACHED
        assert {n: target.registers[n] for n in ("rip", "rdi", "eflags")} == {
            n: before[n] for n in ("rip", "rdi", "eflags")
        }
        stop = target.resume(timeout=240)
        assert stop is not None
        assert stop.status == 7


def test_a_second_client(gdbserver: StartServer) -> None:
    address = gdbserver()
    with rsp.connect(address) as target:
        with pytest.raises((rsp.TransportError, rsp.RspTimeout)):
            rsp.connect(address, timeout=0.5)
        assert target.registers.pc


# --- memory ---


def test_memory_is_the_process_s(gdbserver: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(gdbserver()) as target:
        target.until(names["visit"], timeout=240)
        process = process_of(target)
        with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
            memory.seek(names["vectors"])
            assert target.read_memory(names["vectors"], 2048) == memory.read(2048)
            start, end = first_edge(process)
            memory.seek(start)
            whole = memory.read(end - start)
        assert target.read_memory(start, end - start) == whole
        assert target.read_c_string(names["greeting"]) == b"hello from the subject"
        for begin, length in ((end - 5, 10), (end - 5, 100_000), (start, end - start + 1)):
            target.invalidate()
            with pytest.raises(rsp.MemoryFault) as caught:
                target.read_memory(begin, length)
            assert caught.value.address == end
            assert caught.value.partial == whole[begin - start :]
        with pytest.raises(rsp.MemoryFault) as caught:
            target.read_memory(0, 8)
        assert (caught.value.address, caught.value.partial) == (0, b"")
        data = bytes(range(256)) * 8
        target.write_memory(names["vectors"], data)
        assert target.read_memory(names["vectors"], 2048) == data
        with pytest.raises(rsp.MemoryFault):
            target.write_memory(0x10, b"x")
        with pytest.raises(rsp.UnsupportedCommand, match="physical"):
            target.read_memory(0, 8, physical=True)


def first_edge(process: int) -> tuple[int, int]:
    """Return the last readable mapping of the program before a hole."""
    maps = Path(f"/proc/{process}/maps").read_text()
    found = [
        (int(start, 16), int(end, 16), readable == "r")
        for start, end, readable in re.findall(r"^(\w+)-(\w+) (.)", maps, re.MULTILINE)
    ]
    for (start, end, readable), (following, *_) in itertools.pairwise(found):
        if end != following and readable:
            return start, end
    raise AssertionError(maps)


def test_monitor(gdbserver: StartServer) -> None:
    with rsp.connect(gdbserver()) as target:
        assert "monitor" in target.monitor("help")
        with pytest.raises(rsp.StubError, match="refused"):
            target.monitor("no such command")


# --- the lines ---


def test_over_a_pipe(gdbserver: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(gdbserver("signal", pipe=True)) as target:
        assert target.stub.name == "gdbserver"
        target.until(names["vectors_filled"], timeout=240)
        assert target.registers["xmm7"] == row(7, 16)
        assert len(target.threads) == 3
        stop = target.resume(timeout=240)
        assert stop is not None
        assert stop.signal_name == "SIGUSR1"
        stop = target.resume(timeout=240)
        assert stop is not None
        assert stop.status == 7


def test_a_block_over_a_pipe_that_ends_early(gdbserver: StartServer) -> None:
    """The process is let go, and gdbserver with it; the fixture of the run sees what is left."""
    with rsp.connect(gdbserver(pipe=True)) as target:
        target.step()


def test_with_acks(gdbserver: StartServer, gdb: type[Gdb], names: dict[str, int]) -> None:
    """A line that may lose bytes keeps its acks: said of the transport, the rest follows."""
    address = gdbserver("signal")
    transport = open_transport(address, timeout=5)
    transport.reliable = False
    with rsp.connect(transport, on_exit=OnExit.LEAVE_STOPPED) as target:
        limits = target.session.connection.limits
        assert (limits.reliable, limits.window) == (False, 1)
        target.until(names["vectors_filled"], timeout=240)
        stack = target.registers.sp & ~0xFFF
        data = target.read_memory(stack, 2048)
        threads = [thread.name for thread in target.threads]
        assert len(threads) == 3
        with target.breakpoint(names["visit"]) as point:
            for _ in range(5):
                target.resume(timeout=240)
        assert point.hits == 5
        stop = target.resume(timeout=240)
        assert stop is not None
        assert stop.signal_name == "SIGUSR1"
        target.write_register("rbx", 0x77)
        registers = target.registers
    theirs = registers_of(oracle(gdb, address))
    assert_same_registers(registers, theirs, apart_from=JUNK)
    assert len(data) == 2048


def test_acks_may_go_along_with_the_requests(gdbserver: StartServer, names: dict[str, int]) -> None:
    """With acks and several requests under way, gdbserver repeats a reply until its ``+`` comes.

    The handshake leaves acks off; here they are kept on by a stub that is known before.
    """
    address = gdbserver()
    transport = open_transport(address, timeout=5)
    transport.reliable = False
    with rsp.connect(transport) as target:
        target.until(names["visit"], timeout=240)
        slowly = target.read_memory(names["vectors"] & ~0xFFF, 0x1000)
        connection = target.session.connection
        connection.limits = replace(
            connection.limits, reliable=True, window=16, optimistic_ack=True, most_read=64
        )
        for _ in range(4):
            target.invalidate()
            assert target.read_memory(names["vectors"] & ~0xFFF, 0x1000) == slowly
        stop = target.resume(timeout=240)
        assert stop is not None
        assert stop.status == 7
