"""What a process is told of its signals, on the stubs that pass it on; gdb is the oracle."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.programs import build, symbols
from lab.stops import resumed

if TYPE_CHECKING:
    from lab.gdb import Gdb
    from lab.servers import BootQemu, StartServer

KINDS = {
    "unmapped": ("SIGSEGV", "SEGV_MAPERR"),
    "protected": ("SIGSEGV", "SEGV_ACCERR"),
    "general": ("SIGSEGV", "SI_KERNEL"),
    "beyond": ("SIGBUS", "BUS_ADRERR"),
    "divide": ("SIGFPE", "FPE_INTDIV"),
    "illegal": ("SIGILL", "ILL_ILLOPN"),
    "user": ("SIGUSR1", "SI_USER"),
    "queue": ("SIGUSR2", "SI_QUEUE"),
    "timer": ("SIGALRM", "SI_TIMER"),
    "child": ("SIGCHLD", "CLD_EXITED"),
}
PROGRAM = "faults.c"


def gdb_s(gdb: type[Gdb], address: str, source: str) -> dict[str, int]:
    """Return the fields of gdb's ``$_siginfo`` where the program gets its signal."""
    program = build(source)
    oracle = gdb(address=address, symbols=program, settings=(f"set sysroot {program.anchor}",))
    said = oracle.run(
        "handle SIGALRM SIGCHLD stop",
        "continue",
        "print/d $_siginfo",
        "print/x $_siginfo._sifields._sigfault",
    )[-2:]
    fields = {name: int(number) for name, number in re.findall(r"(si_\w+) = (-?\d+)", said[0])}
    address_of = re.search(r"si_addr = (0x[0-9a-f]+)", said[1])
    assert address_of is not None
    return fields | {"si_addr": int(address_of[1], 16)}


@pytest.mark.live("nm")
@pytest.mark.parametrize("kind", list(KINDS))
def test_each_kind_is_what_gdb_says(kind: str, gdbserver: StartServer, gdb: type[Gdb]) -> None:
    theirs = gdb_s(gdb, gdbserver(kind, source=PROGRAM, pipe=True), PROGRAM)
    names = symbols(PROGRAM)
    with rsp.connect(gdbserver(kind, source=PROGRAM)) as target:
        stop = resumed(target, timeout=30)
        ours = stop.siginfo
        assert ours is not None
        assert (stop.reason, stop.signal_name) == (rsp.StopReason.SIGNAL, KINDS[kind][0])
        assert (ours.number, ours.code) == (theirs["si_signo"], theirs["si_code"])
        assert ours.code_name == KINDS[kind][1]
        assert len(ours.data) == 128
        assert target.thread is not None
        process = target.thread.thread_id.process
        page = target.read_u64(names["page"])
        expected = {
            "unmapped": 0x10,
            "protected": names["read_only"],
            "divide": names["divides"],
            "illegal": names["ud2_here"],
            "beyond": page + 0x10,
        }
        assert ours.address == expected.get(kind)
        if kind in expected and kind != "beyond":  # where that is mapped is chosen anew
            assert ours.address == theirs["si_addr"]
        if kind in ("user", "queue"):
            assert (ours.pid, ours.uid) == (process, theirs["si_uid"])
            assert f"{KINDS[kind][0]} from process {process} ({KINDS[kind][1]}) in" in str(stop)
        elif kind == "child":
            assert ours.status == theirs["si_status"] == 9
            assert ours.pid not in (None, process)
            assert f"SIGCHLD of process {ours.pid} (CLD_EXITED) in thread" in str(stop)
        else:
            assert ours.pid is None
            place = "" if ours.address is None else f"at {ours.address:#x} "
            assert f"{KINDS[kind][0]} {place}({KINDS[kind][1]}) in thread" in str(stop)
        said = str(stop)
        if kind in ("unmapped", "protected", "general", "beyond", "divide", "illegal"):
            end = target.resume(timeout=240)
            assert end is not None
            assert end.reason is rsp.StopReason.TERMINATED
            assert end.siginfo is None
            # What was asked for at a stop stays known.
            assert str(stop) == said


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [((), r"SIGSEGV at 0x14 \(SEGV_MAPERR\)"), (("x",), r"SIGUSR1 from process \d+ \(SI_USER\)")],
)
def test_of_a_32_bit_process(
    arguments: tuple[str, ...], shown: str, gdbserver: StartServer, gdb: type[Gdb]
) -> None:
    source = "faults32.S"
    theirs = gdb_s(gdb, gdbserver(*arguments, source=source, pipe=True), source)
    with rsp.connect(gdbserver(*arguments, source=source)) as target:
        stop = resumed(target, timeout=30)
        ours = stop.siginfo
        assert ours is not None
        assert (ours.number, ours.code) == (theirs["si_signo"], theirs["si_code"])
        if not arguments:
            assert ours.address == theirs["si_addr"] == 0x14
        assert re.search(shown, str(stop))


def test_it_is_asked_for_at_the_stop_and_only_when_wanted(gdbserver: StartServer) -> None:
    with rsp.connect(gdbserver("signal")) as target:
        stop = resumed(target, timeout=30)
        assert stop.signal_name == "SIGUSR1"
        first = repr(stop)  # a repr asks for nothing
        target.resume(timeout=240)
        with pytest.raises(rsp.LocalProtocolError, match=r"take \.siginfo before"):
            _ = stop.siginfo
        assert str(stop).startswith("signal SIGUSR1 in thread")
        assert repr(stop) == first


def test_of_valgrind(vgdb: StartServer) -> None:
    with rsp.connect(vgdb("unmapped", source=PROGRAM), timeout=20) as target:
        resumed(target, timeout=60)  # memcheck has something to say first
        stop = resumed(target, timeout=60)
        assert stop.siginfo is not None
        assert "SIGSEGV at 0x10 (SEGV_MAPERR)" in str(stop)


def test_a_stub_that_does_not_tell(boot_qemu: BootQemu) -> None:
    with rsp.connect(boot_qemu().address) as target:
        assert target.stop.siginfo is None
