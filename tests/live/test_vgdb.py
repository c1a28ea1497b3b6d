"""valgrind's stub, through its relay vgdb."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.compare import assert_same_registers, registers_of
from lab.programs import build, symbols
from rsp import StopReason, Watch

if TYPE_CHECKING:
    from lab.gdb import Gdb
    from lab.servers import StartServer

pytestmark = pytest.mark.live("nm")


@pytest.fixture(scope="module")
def names() -> dict[str, int]:
    return symbols("subject.c")


def test_registers_where_the_program_starts(vgdb: StartServer, gdb: type[Gdb]) -> None:
    """valgrind lets its program run when a client leaves, so gdb looks at a run of its own.

    Two runs are alike to the last bit as long as there is one thread only.
    """
    with rsp.connect(vgdb(), timeout=20) as target:
        assert target.stub.name == "valgrind"
        assert target.arch.name == "x86-64"
        ours = target.registers
    program = build("subject.c")
    oracle = gdb(address=vgdb(), symbols=program, settings=(f"set sysroot {program.anchor}",))
    assert_same_registers(ours, registers_of(oracle))


def test_threads_vectors_and_memory(
    vgdb: StartServer, gdb: type[Gdb], names: dict[str, int]
) -> None:
    with rsp.connect(vgdb(), timeout=20) as target:
        stop = target.until(names["vectors_filled"], timeout=240)
        assert stop.reason is StopReason.BREAKPOINT
        threads = target.threads
        assert len(threads) == 3
        assert all(re.match(rf"tid {n} Vg", t.name) for n, t in enumerate(threads, 1))
        registers = [thread.registers for thread in threads]
        assert registers[0] == target.registers
        assert registers[1].pc != registers[0].pc == names["vectors_filled"]
        memory = target.read_memory(names["vectors"], 2048)
    assert memory == bytes((8 * row + i) % 256 for row in range(32) for i in range(64))
    program = build("subject.c")
    oracle = gdb(address=vgdb(), symbols=program, settings=(f"set sysroot {program.anchor}",))
    theirs = registers_of(oracle, before=(f"break *{names['vectors_filled']:#x}", "continue"))
    # How the threads came to run shows in what the system calls left in general registers.
    alike = [name for name in registers[0] if re.match(r"[xy]mm|rip|rbp|rsp|st|[c-g]s|f", name)]
    assert len(alike) > 50
    assert {name: registers[0][name] for name in alike if name in theirs} == {
        name: theirs[name] for name in alike if name in theirs
    }


def test_a_session_to_the_exit(vgdb: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(vgdb(), timeout=20) as target:
        with target.breakpoint(names["visit"]) as point:
            for hits in range(1, 5):
                stop = target.resume(timeout=240)
                assert stop is not None
                assert stop.breakpoint is point
                assert target.registers.pc == names["visit"]
                assert (target.registers["rdi"], point.hits) == (hits, hits)
        assert target.step(timeout=20).reason is StopReason.STEP
        assert target.registers.pc > names["visit"]
        with target.watchpoint(names["watched"], 8) as watch:
            before = target.read_u64(names["watched"])
            stop = target.resume(timeout=240)
            assert stop is not None
            assert (stop.reason, stop.watchpoint) == (StopReason.WATCHPOINT, watch)
            assert target.read_u64(names["watched"]) == before + 4
        target.write_memory(names["watched"], (0x4321).to_bytes(8, "little"))
        assert target.read_u64(names["watched"]) == 0x4321
        target.write_register("rbx", 0x1122334455667788)
        assert target.registers["ebx"] == 0x55667788
        with pytest.raises(rsp.MemoryFault) as caught:
            target.read_memory(0, 16)
        assert (caught.value.address, caught.value.partial) == (0, b"")
        assert "monitor commands" in target.monitor("help")
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.status) == (StopReason.EXITED, 7)


def test_signals(vgdb: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(vgdb("crash"), timeout=20) as target:
        # memcheck has something to say first: the write is invalid.
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.signal_name) == (StopReason.SIGNAL, "SIGTRAP")
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.signal_name) == (StopReason.SIGNAL, "SIGSEGV")
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.signal_name) == (StopReason.TERMINATED, "SIGSEGV")


def test_a_program_that_spins_is_interrupted(vgdb: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(vgdb("spin"), timeout=30) as target:
        target.until(names["visit"], timeout=240)
        target.resume(wait=False)
        stop = target.interrupt()
        assert stop.reason is StopReason.INTERRUPT
        target.write_memory(names["keep_spinning"], bytes(4))
        end = target.resume(timeout=240)
        assert end is not None
        assert (end.reason, end.status) == (StopReason.EXITED, 7)


@pytest.mark.parametrize("watch", list(Watch))
def test_watchpoints_of_each_kind(watch: Watch, vgdb: StartServer, names: dict[str, int]) -> None:
    with rsp.connect(vgdb(), timeout=20) as target:
        target.until(names["visit"], timeout=240)
        with target.watchpoint(names["watched"], 8, watch) as point:
            stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.reason, stop.watchpoint, point.hits) == (StopReason.WATCHPOINT, point, 1)
        change = "old value 0x1000, new value 0x1001" if watch is Watch.WRITE else "value 0x1000"
        assert f"({change})" in str(stop)
