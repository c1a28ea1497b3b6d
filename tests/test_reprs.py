"""What objects show of themselves: addresses in hex, nothing raised, nothing asked of a target."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING, Any

import pytest

import rsp
from lab.stops import resumed
from rsp.arch.layouts import layout_for_length
from rsp.arch.registers import Registers
from rsp.errors import RspTimeout
from rsp.reprs import is_in_hex
from rsp.symbols.code.location import Location
from rsp.symbols.table import SymbolTable
from rsp.testing.boot import ELF
from rsp.testing.cpu import Cpu, State
from rsp.testing.personalities import GDBSERVER, PLAIN, QEMU
from rsp.testing.serve import StubTransport, connected
from rsp.testing.stub import Stub
from rsp.wire import commands, stops
from test_architecture import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.remote.target import Target

START = 0x1000
WALK = [State(registers={"rip": START + i}) for i in range(1, 32)]
# Bits of a register, and of a value: no addresses.
NO_ADDRESSES = {"TypeField", "Hole"}


def classes() -> Iterator[type[Any]]:
    """Yield the dataclasses and named tuples that users of the library can meet."""
    yield from filter(inspect.isclass, (getattr(rsp, name) for name in rsp.__all__))
    for module in pkgutil.walk_packages(rsp.__path__, "rsp."):
        if not module.name.startswith((*PRIVATE, "rsp.__main__")):
            for name, found in vars(importlib.import_module(module.name)).items():
                is_own = inspect.isclass(found) and found.__module__ == module.name
                if is_own and name[0] != "_" and name not in NO_ADDRESSES:
                    yield found


def int_fields(found: type[Any]) -> list[str]:
    if dataclasses.is_dataclass(found):
        types = {each.name: each.type for each in dataclasses.fields(found) if each.repr}
    elif issubclass(found, tuple) and hasattr(found, "_fields"):
        types = found.__annotations__
    else:
        return []
    return [name for name, type_ in types.items() if re.search(r"\bint\b", str(type_))]


def test_whatever_holds_an_address_shows_it_in_hex() -> None:
    found = [each for each in classes() if any(map(is_in_hex, int_fields(each)))]
    assert {"Symbol", "Location", "Stop", "Instruction", "CpuState"} <= {
        each.__name__ for each in found
    }
    made = "dataclasses.py", "collections/__init__.py", "<string>"
    own = {each: inspect.unwrap(each.__repr__).__code__.co_filename for each in found}
    assert [each for each, file in own.items() if file.endswith(made)] == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            Location(address=0x7CC7, function="f", file="b.S", line=7, inlined=False),
            "Location(address=0x7cc7, function='f', file='b.S', line=7, inlined=False)",
        ),
        (commands.ReadMemory(address=0x1000, length=64), "ReadMemory(address=0x1000, length=64)"),
        (
            commands.Action(kind=commands.ActionKind.RANGE_STEP, start=0x401000, end=0x401010),
            "start=0x401000, end=0x401010",
        ),
        (stops.Stopped(signal=5, address=0x4000), "address=0x4000"),
        (State(registers={"rip": 0x7C00}), "State(registers={'rip': 0x7c00}, mode=None"),
    ],
    ids=lambda what: type(what).__name__,
)
def test_some_of_them(value: object, text: str) -> None:
    assert text in repr(value)


def test_symbols() -> None:
    table = SymbolTable(ELF)
    assert repr(table) == f"SymbolTable({str(ELF)!r})"
    assert repr(table["tick"]).startswith("Symbol(name='tick', address=0x7d12, size=9, kind=<Symb")
    table.slide = 0x1000
    assert repr(table) == f"SymbolTable({str(ELF)!r}, slide=0x1000)"
    assert {"tick", "counter", "long_start"} <= set(table._ipython_key_completions_())


def test_registers() -> None:
    layout = layout_for_length(608)
    data = bytes([0x34, 0x12]).ljust(136, b"\0") + (0x246).to_bytes(4, "little")
    registers = Registers(layout, layout.decode_values(data))
    assert repr(registers).startswith("Registers(rax=0x1234, rbx=0x0, ")
    assert repr(registers).endswith(f"gs=<unavailable>; {len(layout.registers)} in all)")
    lines = str(registers).splitlines()
    assert lines[0] == "rax            0x1234              4660"
    assert "eflags         0x246               [ IF ZF PF ]" in lines
    assert "cr3            <unavailable>" in lines
    assert not [line for line in lines if line.startswith(("xmm", "st", "fctrl", "mxcsr"))]
    minus = Registers(layout, layout.decode_values(b"\xff" * 608))
    assert str(minus).startswith("rax            0xffffffffffffffff  -1")
    names = registers._ipython_key_completions_()
    assert {"rax", "eax", "al", "rip", "xmm15", "cr3"} <= set(names)
    assert all(name in registers for name in names)


def all_of(target: Target) -> list[object]:
    return [target, target.stop, target.breakpoints, *target.breakpoints, target.console]


def test_of_a_target_in_every_state() -> None:
    stub = Stub(
        GDBSERVER,
        registers={"rip": START},
        memory={START: bytes(4096), 0x4000: bytes(4096)},
        program=[
            *WALK[:3],
            State(registers={"rip": START + 4}, writes={0x4000: b"\1"}),
            *WALK[4:6],
        ],
        threads={"02": Cpu(name="worker")},
    )
    with connected(stub) as target:
        thread = target.threads[1]
        assert repr(thread) == "Thread(p01.02)"
        assert thread.name == "worker"
        assert repr(thread) == "Thread(p01.02, 'worker')"
        point, watch = target.breakpoint(START + 2), target.watchpoint(0x4000, 4)
        resumed(target)
        registers, value = target.registers, target.memory
        stub.received.clear()
        assert repr(point) == "<Breakpoint 1 at 0x1002, hit 1 time>"
        assert repr(watch) == "<Watchpoint 2 (write) on 4 bytes at 0x4000, hit 0 times>"
        assert repr(target.breakpoints) == f"<Breakpoints [{point!r}, {watch!r}]>"
        stopped = "breakpoint 1 (*0x1002) SIGTRAP in thread p01.01"
        assert repr(target.stop) == f"<Stop {stopped}>"
        assert repr(target) == f"<Target gdbserver at stub, stopped: {stopped}>"
        repr(registers), repr(value), repr(thread)
        assert stub.received == []  # nothing was asked
        point.remove()
        assert repr(point) == "<Breakpoint 1 at 0x1002, hit 1 time, removed>"
        stop = resumed(target)
        assert repr(stop) == (
            "<Stop watchpoint 2 at 0x4000 (old value 0x0, new value 0x1) SIGTRAP in thread p01.01>"
        )
        with pytest.raises(RspTimeout):
            target.resume(timeout=0.01)
        stub.received.clear()
        assert repr(target) == "<Target gdbserver at stub, the target runs>"
        assert [repr(each) for each in (*all_of(target), registers, value, thread, stop)]
        assert stub.received == []
        assert stub.running
        target.interrupt()
    stub.received.clear()
    assert repr(target) == "<Target gdbserver at stub, the target was detached from>"
    assert [repr(each) for each in (*all_of(target), registers, value, thread, stop)]
    assert stub.received == []


def test_of_a_target_that_has_ended_or_is_lost() -> None:
    stub = Stub(PLAIN, registers={"rip": START}, program=WALK[:2], end=stops.Exited(status=3))
    with connected(stub) as target:
        target.resume(timeout=5)
        assert repr(target) == "<Target unknown at stub, the target has exited>"
        assert repr(target.stop) == "<Stop exited with status 3>"
    stub = Stub(QEMU, registers={"rip": START})
    target = rsp.connect(StubTransport(stub))
    stub.dead = True
    with pytest.raises(rsp.ConnectionLost):
        target.read_memory(START, 1)
    assert repr(target) == "<Target qemu at stub, the connection is lost>"


def test_breakpoints_of_many_places_are_short() -> None:
    stub = Stub(QEMU, registers={"rip": START}, memory={START: bytes(4096)})
    with connected(stub) as target:
        from rsp.inferior.locations import Where

        where = Where("many", range(START, START + 500))
        point = target.points.add(where, rsp.BreakpointKind.SOFTWARE)
        assert repr(point) == (
            "<Breakpoint 1 (many) at 0x1000, 0x1001, 0x1002 and 497 more, hit 0 times>"
        )
        point.remove()
