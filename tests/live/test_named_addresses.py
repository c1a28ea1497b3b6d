"""Names, texts and values wherever an address is taken, on gdbserver and on a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import rsp
from lab import programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.gdb import Gdb
    from lab.guest import BootKernel
    from lab.servers import StartServer

pytestmark = pytest.mark.live("nm")

GREETING = b"hello from the subject"


class Index:
    """A number of another library."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __index__(self) -> int:
        return self._number


@pytest.fixture
def target(gdbserver: StartServer) -> Iterator[rsp.Target]:
    program = programs.build("subject.c")
    with rsp.connect(gdbserver(), symbols=program) as target:
        target.until("visit", timeout=60)
        yield target


def slid(target: rsp.Target, name: str) -> int:
    """Return where nm and the stub say that a symbol is."""
    return programs.symbols("subject.c")[name] + target.symbols.slide


def test_memory_is_read_and_written_by_name(target: rsp.Target) -> None:
    watched = slid(target, "watched")
    memory = target.read_memory(watched, 8)
    assert int.from_bytes(memory, "little") == 0x1000
    for same in ("watched", " watched ", "watched+0", f"{watched:#x}", str(watched), "*watched"):
        assert target.read_memory(same, 8) == memory
    assert target.read_memory(Index(watched), Index(8)) == memory
    assert target.read_memory("watched+1", 7) == target.read_memory("watched + 0x1", 7)
    assert target.read_memory("watched+1", 7) == memory[1:]
    assert target.read_u64("watched") == 0x1000
    assert target.read_u16("watched") == target.read_u32("watched") == 0x1000
    assert target.read_u8("watched+1") == 0x10
    assert target.read_c_string("greeting") == GREETING
    assert target.read_c_string("greeting+0x6", max_size=4) == b"from"
    target.write_memory("watched", bytearray(b"\x34\x12"))
    assert target.read_u64("watched") == 0x1234
    assert target.read_memory("visit", 4) == target.read_memory(slid(target, "visit"), 4)


def test_values_stand_for_what_they_point_to_and_for_where_they_are(target: rsp.Target) -> None:
    greeting = target.value("greeting")  # an array
    assert target.read_c_string(greeting) == GREETING
    assert target.read_c_string(target.value("&greeting[6]")) == GREETING[6:]  # a pointer
    assert target.read_memory(target.value("vectors")[1], 3) == bytes([8, 9, 10])
    visit = target.value("visit")  # a function
    assert target.read_memory(visit, 4) == target.read_memory("visit", 4)
    barrier = target.value("all_started")  # a union
    assert target.read_memory(barrier, 8) == barrier.bytes_()[:8]
    number = target.value("(long)&watched")
    assert target.read_u64(number) == 0x1000
    with pytest.raises(rsp.SymbolError, match="no integer"):
        target.read_memory(target.value("1.5"), 1)


def test_places_in_code_by_name(target: rsp.Target) -> None:
    begin = slid(target, "visit")
    assert target.disassemble("visit", 1)[0].address == begin
    assert target.disassemble(target.value("visit"), Index(1))[0].address == begin
    with target.breakpoint("*visit") as first, target.breakpoint("visit") as behind:
        assert first.locations == (begin,)
        assert behind.locations[0] > begin
    with target.breakpoint(Index(begin)) as point:
        assert point.locations == (begin,)
    for same in (begin, f"{begin:#x}", "visit+0", target.value("visit")):
        assert target.until(same, timeout=60).reason is rsp.StopReason.BREAKPOINT
        assert target.registers.pc == begin


@pytest.mark.parametrize("watch", ["write", "WRITE", rsp.Watch.WRITE, "access"])
def test_a_variable_is_watched_by_its_name(target: rsp.Target, watch: Any) -> None:
    with target.watchpoint("watched", watch=watch) as point:
        assert (point.locations, point.length) == ((slid(target, "watched"),), 8)
        stop = target.resume(timeout=60)
        assert stop.watchpoint is point
        access = point.watch is rsp.Watch.ACCESS
        # The read of watched += amount, or the write.
        assert target.read_u64("watched") == (0x1000 if access else 0x1001)
    with pytest.raises(rsp.NoHardwareBreakpoint, match="no read watchpoint"):
        target.watchpoint("watched", watch="read")  # x86 has none


@pytest.mark.parametrize(
    ("what", "length", "ctype"),
    [
        (lambda target: target.value("watched"), 8, "long"),
        (lambda target: target.value("&watched"), 8, "long"),
        (lambda target: target.value("handled"), 4, "volatile int"),
        (lambda target: target.value("vectors")[0][0], 1, "unsigned char"),
    ],
)
def test_a_value_is_watched_where_it_lies(
    target: rsp.Target, what: Callable[[rsp.Target], rsp.Value], length: int, ctype: str
) -> None:
    value = what(target)
    with target.watchpoint(value) as point:
        expected = value.address_ if value.address_ is not None else int(value)
        assert (point.locations, point.length) == ((expected,), length)
        assert str(point.ctype) == ctype


def test_old_and_new_are_values_of_the_type_of_the_variable(
    target: rsp.Target, gdbserver: StartServer, gdb: type[Gdb]
) -> None:
    oracle = gdb(address=gdbserver(), symbols=programs.build("subject.c"))
    told = "\n".join(oracle.run("watch watched", "continue", "kill")).split("\n")
    old, new = (
        next(line.rpartition(" = ")[2] for line in told if line.startswith(f"{which} value"))
        for which in ("Old", "New")
    )
    with target.watchpoint("watched") as point:
        assert point.what == "watched"
        stop = target.resume(timeout=60)
        assert (str(stop.old), str(stop.new)) == (old, new) == ("4096", "4097")
        assert str(stop).startswith(f"watchpoint {point.number} (watched) ")
        assert f"(old value {old}, new value {new})" in str(stop)
    with target.watchpoint("watched", 4) as point:
        assert point.ctype is None
    with target.watchpoint("watched+4", 4) as point:
        assert (point.what, point.ctype) == ("watched+4", None)


def test_kinds_by_name(target: rsp.Target) -> None:
    for kind in ("hardware", "HARDWARE", rsp.BreakpointKind.HARDWARE):
        with target.breakpoint("visit", kind=kind) as point:  # type: ignore[arg-type]
            assert point.kind is rsp.BreakpointKind.HARDWARE
            assert "hw breakpoint" in str(target.breakpoints)
    with pytest.raises(
        rsp.ArgumentError, match=r"kind is 'hard': give one of BreakpointKind\.AUTO"
    ):
        target.breakpoint("visit", kind="hard")  # type: ignore[arg-type]
    with pytest.raises(rsp.ArgumentError, match=r"watch is 'w': give one of Watch\.WRITE"):
        target.watchpoint("watched", watch="w")  # type: ignore[arg-type]
    assert not target.breakpoints


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("wached", "nearest: watched"),
        ("subject.c:80", "is 'subject.c:80': give an address, a symbol's name or name"),
        ("watched+", "a location is NAME"),
        (b"watched", "address is b'watched': give an address, a symbol's name or name"),
        (None, "address is None"),
        (1.0, "address is 1.0"),
        (True, "address is True"),
        (1 << 64, "not within 64 bits"),
        (-1, "not within 64 bits"),
    ],
)
def test_what_is_no_address(target: rsp.Target, what: Any, message: str) -> None:
    for ask in (
        lambda: target.read_memory(what, 4),
        lambda: target.write_memory(what, b"x"),
        lambda: target.watchpoint(what, 4),
        lambda: target.virtual_to_physical(what),
        lambda: target.read_c_string(what),
    ):
        with pytest.raises(rsp.RspError, match=message):
            ask()
    assert not target.breakpoints


@pytest.mark.parametrize("length", [-1, 1 << 32 | 1, 1 << 40, 1.0, "4", None, True])
def test_what_is_no_length(target: rsp.Target, length: Any) -> None:
    with pytest.raises(rsp.ArgumentError, match=r"^length is .*: give a number of bytes"):
        target.read_memory("watched", length)
    with pytest.raises(rsp.ArgumentError, match=r"^(length is |nothing says how many bytes)"):
        target.watchpoint(0x1000, 0 if length in (1 << 32 | 1, 1 << 40) else length)
    assert not target.breakpoints


def test_a_name_without_symbols(gdbserver: StartServer) -> None:
    with rsp.connect(gdbserver()) as target:
        for ask in (target.breakpoint, target.watchpoint, target.disassemble, target.read_u8):
            with pytest.raises(rsp.SymbolError, match="'main' is a name, and there are no symbols"):
                ask("main")


def test_names_of_a_kernel(boot_kernel: BootKernel) -> None:
    guest = boot_kernel("debian", cpus=2, kaslr=True)
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        banner = target.read_c_string("linux_banner")
        assert banner.startswith(b"Linux version ")
        init_task = target.value("init_task")
        assert target.read_memory("init_task", 64) == target.read_memory(init_task, 64)
        assert target.virtual_to_physical("init_task").physical
        # A per-CPU variable is that of the CPU of the current thread.
        for thread in target.threads:
            target.select(thread)
            own = target.value("runqueues", cpu=thread.cpu)
            assert own.address_ is not None
            offset = (own.curr.address_ or 0) - own.address_
            assert target.read_u64(f"runqueues+{offset}") == int(own.curr)
        with target.watchpoint("jiffies") as point:
            assert point.length == 8
            stop = target.resume(timeout=60)
            assert stop.watchpoint is point
        # A static variable of a function, whose symbol has no name of C.
        (static,) = target.symbols.search(r"^last_pid\.\d+$")
        with target.watchpoint(static.name) as point:
            assert (point.locations, point.length) == ((static.address,), 4)
            assert str(point.ctype) == "pid_t"
