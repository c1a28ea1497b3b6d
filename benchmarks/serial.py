"""kgdb behind a serial line of 115200 baud: how much of it is used, and how little is sent.

The kernel is real, and so is its stub; the line's speed is that of `rsp.testing.faults`, and its
harm too. gdb's bytes are those of its own log, of the same stop of the same kernel.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import rsp
from benchmarks.figure import Figure
from benchmarks.peers import connect
from rsp.recording import EntryKind, read_log
from rsp.testing.cpu import Cpu
from rsp.testing.faults import FaultyTransport, SlowTransport
from rsp.testing.personalities import KGDB
from rsp.testing.serve import StubTransport
from rsp.testing.stub import Stub
from rsp.transports import open_transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.guest import Guest
    from rsp.transports.base import Transport

_BAUD = 115200
_LENGTH = 16 << 10
_READS = 10_000
_BASE = 0xFFFFFFFF81000000
# Where the kernel is stopped for a backtrace: what a user meets by a break-in, and two breakpoints.
_STOPS = ("", "vfs_read", "tcp_init_sock")


def measure() -> list[Figure]:
    """Read memory behind the throttle, trace stacks beside gdb, and read over a bad line."""
    from lab.guest import Guest

    with Guest("x86_64", append="kgdboc=ttyS0", ports=("unix", "shell")) as guest:
        figures = [_read_memory("kernel", lambda: open_transport(guest.ports[0], timeout=5), 0)]
        figures += [*_backtraces(guest), _over_a_bad_line(guest)]
    figures.insert(0, _read_memory("stub at hand", lambda: StubTransport(_stub()), _BASE))
    return figures


def _read_memory(who: str, opened: Callable[[], Transport], address: int) -> Figure:
    shares = []
    for _ in range(5):
        line = SlowTransport(opened(), baud=_BAUD)
        with rsp.connect(line) as target:
            start = address or target.registers.pc & ~0xFFF
            before = perf_counter()
            data = target.read_memory(start, _LENGTH)
            shares.append(len(data) * 2 * 10 / _BAUD / (perf_counter() - before))
    shares.sort()
    return Figure(
        subject=f"memory behind 115200 baud, a {who}",
        value=shares[2],
        unit="of hex",
        target=">= 0.95",
        detail=f"{shares[0]:.3f} to {shares[-1]:.3f}; with 504 bytes at once 0.970 is the most",
    )


def _backtraces(guest: Guest) -> list[Figure]:
    from lab.gdb import Gdb

    whole, alone, details = [], [], []
    for place in _STOPS:
        with connect(guest, guest.ports[0]) as target:
            if place:
                with target.breakpoint(place):
                    target.resume(timeout=60)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "ours")
            with connect(guest, guest.ports[0], record=log) as target:
                # The registers and the slide are known before; gdb asks for those as it connects.
                _ = target.registers, target.symbols.lookup(target.registers.pc)
                begun = _bytes(log)
                assert len(str(target.backtrace())) > 100
                ours = _bytes(log)
            counts = []
            for name, commands in (("connected", ("p 1",)), ("bt", ("bt",))):
                theirs = Path(folder, name)
                settings = ("set print elements 200", f"set remotelogfile {theirs}")
                Gdb(address=guest.ports[0], symbols=guest.symbols, settings=settings).run(*commands)
                counts.append(_bytes(theirs))
        with rsp.connect(guest.ports[0]):
            pass
        before, after = counts
        whole.append(ours / after)
        alone.append((ours - begun) / (after - before))
        details.append(f"{place or 'break-in'} {ours} / {after}")
    return [
        Figure(
            subject="bytes from connecting to a backtrace, ours / gdb",
            value=sum(whole) / len(whole),
            unit="x",
            target="<= 0.60 x",
            detail=", ".join(details),
        ),
        Figure(
            subject="bytes of the backtrace alone, ours / gdb",
            value=sum(alone) / len(alone),
            unit="x",
            target="",
            detail=", ".join(f"{each:.2f}" for each in alone),
        ),
    ]


def _bytes(log: Path) -> int:
    moved = (EntryKind.SENT, EntryKind.RECEIVED)
    return sum(len(entry.data) for entry in read_log(log) if entry.kind in moved)


def _over_a_bad_line(guest: Guest) -> Figure:
    with connect(guest, guest.ports[0]) as target:  # it is left standing
        base = target.registers.pc & ~0xFFF
        content = target.read_memory(base, _LENGTH)
    line = FaultyTransport(open_transport(guest.ports[0], timeout=5), rate=0.001, seed=1)
    chance = random.Random(1)
    wrong, times = 0, []
    with rsp.connect(line) as target:
        for done in range(_READS):
            size = chance.choice((4, 8, 16, 64, 256))
            at = chance.randrange(_LENGTH - size)
            target.invalidate()
            before = perf_counter()
            wrong += target.read_memory(base + at, size) != content[at : at + size]
            times.append(perf_counter() - before)
            if sys.stderr.isatty() and done % 100 == 0:
                print(f"\r{done} reads", end="", file=sys.stderr)
    return Figure(
        subject=f"{_READS} reads of a kernel, 1 byte in 1,000 harmed: wrong ones",
        value=wrong,
        unit="reads",
        target="0",
        detail=f"{len(line.done)} faults, {sum(times):.0f} s, the slowest read {max(times):.2f} s "
        "of the 5 s that one may take",
    )


def _stub() -> Stub:
    content = random.Random(2).randbytes(_LENGTH)
    return Stub(
        KGDB,
        registers={"rip": _BASE},
        memory={_BASE: content},
        threads={"fffffffd": Cpu()},
        thread="fffffffe",
    )
