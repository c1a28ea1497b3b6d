"""Whatever is given to a public method, it comes to an error of ours or to none."""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rsp
from lab.odd import ODD, Call, calls_of
from lab.programs import build
from rsp import arguments
from rsp.recording import Recorder
from rsp.testing.boot import ELF, IMAGE
from rsp.testing.qemu import QemuMachine
from rsp.transports.replay import ReplayTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.guest import BootKernel
    from lab.servers import StartServer

# What is usual for an argument where another one is odd.
USUAL: dict[str, object] = {
    "address": 0x7C00, "length": 4, "data": b"", "name": "rax", "value": 0, "expression": "1",
    "where": 0x7C00, "timeout": 0.01, "max_steps": 1, "mode": "REAL16", "command": "info status",
    "thread": None, "offset": 0, "size": 4, "key": 0, "index": 0, "b": b"", "hint": 4,
    "buffer": bytearray(4), "text": "x", "pattern": "^main$", "query": "main", "spec": "main",
    "line": rsp.SourceLine(file="a.c", line=1), "built": "/a", "here": "/b", "sections": {},
    "path": "nope", "role": None, "now": 1.0, "number": 0, "lines": [b""], "cpu": 0, "values": {},
    "ctype": "char",
}  # fmt: skip

# These end the session, or are the doors by which the parts of the library know each other.
NOT_CALLED = {
    *("detach", "leave_as_found", "leave_forgotten", "forget", "peek", "invalidate", "enter_kdb"),
    *("close", "detach", "feed", "forget_recent", "readlines", "readall", "readline", "truncate"),
    *("number_", "absent_value_", "member_"),
}


OF_NAMES = {
    *("read_memory", "read_u32", "watchpoint", "value", "select", "find", "lookup", "line", "type"),
    *("variable", "source", "locations", "inline_chain"),
}
BOOT = 0x7C00
ANYTHING = (
    st.text(max_size=20)
    | st.text("mainbot.S:+*0x1589 ", max_size=12)
    | st.integers()
    | st.floats()
    | st.binary(max_size=8)
    | st.sampled_from(ODD)
)


def parts_of(target: rsp.Target) -> list[object]:
    thread = target.thread
    assert thread is not None
    return [target, thread, target.registers, target.memory, target.console, target.symbols]


def calls_on(target: rsp.Target) -> list[Call]:
    return [call for part in parts_of(target) for call in calls_of(part, USUAL, NOT_CALLED)]


def check(target: rsp.Target, call: Call, given: Any, address: int) -> None:
    """Make a call with a value, and see that the target is as usable as before."""
    if call.argument in ("timeout", "max_steps") and may_wait_long(given):
        return
    if call.argument in ("condition", "progress") and callable(given):
        return  # what a user's own function raises is the user's
    with suppress(rsp.RspError):
        call(given)
    if target.running:
        target.interrupt()
    for point in list(target.breakpoints):
        point.remove()
    registers = target.registers
    assert registers.pc is not None
    assert len(target.read_memory(address, 4)) == 4


def may_wait_long(given: Any) -> bool:
    """Whether it is a time, or a number of steps, that is taken and longer than a test may wait."""
    try:
        limit = arguments.timeout(given)
    except rsp.ArgumentError:
        return False
    return limit is None or limit > 0.1


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of its own for each test: some texts are names of files to be made."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def machine() -> Iterator[rsp.Target]:
    """A machine under QEMU, in the boot sector's 64-bit code."""
    with QemuMachine(IMAGE) as machine, rsp.connect(machine.address, symbols=ELF) as target:
        target.until("long_start", timeout=60)
        yield target


@pytest.fixture
def program(gdbserver: StartServer) -> Iterator[rsp.Target]:
    """A process under gdbserver, which has types, frames and threads."""
    with rsp.connect(gdbserver(), symbols=build("subject.c")) as target:
        target.until("visit", timeout=60)
        yield target


def try_all(target: rsp.Target, calls: list[Call], address: int) -> None:
    for call in calls:
        for value in ODD:
            try:
                check(target, call, value, address)
            except BaseException as error:
                error.add_note(f"{call} given {arguments.shown(value)}")
                raise


@pytest.mark.live("qemu-system-x86_64")
def test_every_method_of_a_machine_with_each_odd_value(machine: rsp.Target) -> None:
    calls = calls_on(machine)
    assert len(calls) > 80
    try_all(machine, calls, BOOT)


def test_every_method_of_what_a_process_has_with_each_odd_value(program: rsp.Target) -> None:
    frame = program.backtrace()[0]
    barrier, vectors = program.value("all_started"), program.value("vectors")
    parts = [frame, barrier, vectors, barrier.type_.resolved, frame.registers.layout]
    calls = [call for part in parts for call in calls_of(part, USUAL, NOT_CALLED)]
    calls += [call for call in calls_on(program) if call.method in OF_NAMES]
    assert {str(call).partition(".")[0] for call in calls} > {
        "Frame",
        "Value",
        "Union",
        "RegisterLayout",
        "Target",
    }
    try_all(program, calls, program.registers.pc)


@pytest.mark.live("qemu-system-x86_64")
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_text_number_or_bytes(machine: rsp.Target, data: st.DataObject) -> None:
    call = data.draw(st.sampled_from(calls_on(machine)), label="call")
    value = data.draw(ANYTHING)
    check(machine, call, value, BOOT)


@pytest.mark.live("qemu-system-x86_64")
def test_every_method_of_a_kernel_with_each_odd_value(boot_kernel: BootKernel) -> None:
    guest = boot_kernel("debian", cpus=1)
    with rsp.connect(guest.address, symbols=guest.symbols) as target:
        kernel = rsp.linux.Kernel(target)
        calls = list(calls_of(kernel, USUAL, NOT_CALLED))
        assert {call.method for call in calls} == {"per_cpu", "current", "break_on_module"}
        try_all(target, calls, kernel.per_cpu("runqueues", 0).address_ or 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda given: rsp.connect(given),
        lambda given: rsp.connect("| true", timeout=given),
        lambda given: rsp.connect("| true", symbols=given, timeout=5),
        lambda given: rsp.connect("| true", modules=given, timeout=5),
        lambda given: rsp.connect("| true", slide=given, timeout=5),
        lambda given: rsp.connect("| true", record=given, timeout=5),
        lambda given: rsp.connect("| true", interrupt=given, timeout=5),
        lambda given: rsp.connect("| true", on_exit=given, timeout=5),
        lambda given: rsp.SymbolTable(given),
        lambda given: rsp.SymbolTable(ELF, slide=given),
        lambda given: rsp.SymbolTable(ELF, cache=given),
        lambda given: rsp.SymbolTable(ELF, progress=given),
        lambda given: rsp.linux.Kernel(given),
        lambda given: rsp.Connection(given),
        lambda given: ReplayTransport(given),
        lambda given: Recorder(given),
        lambda given: QemuMachine(given, binary="true"),
        lambda given: QemuMachine(binary=given),
        lambda given: QemuMachine(binary="true", gdb=given),
        lambda given: QemuMachine(binary="true", memory=given),
        lambda given: QemuMachine(binary="true", args=given),
        lambda given: QemuMachine(binary="true", stopped=given),
    ],
)
def test_what_is_made_of_each_odd_value(make: Callable[[Any], Any]) -> None:
    for value in ODD:
        with suppress(rsp.RspError):
            made = make(value)
            if hasattr(made, "close"):
                made.close()


@pytest.mark.parametrize("command", rsp.commands.COMMANDS, ids=lambda command: command.__name__)
def test_a_command_with_each_odd_value_in_each_field(command: type[rsp.commands.Command]) -> None:
    fields = inspect.signature(command).parameters
    for name in fields:
        for value in ODD:
            usual = dict.fromkeys(fields, 1) | {name: value}
            connection = rsp.Connection()
            with suppress(rsp.RspError):
                connection.send(command(**usual), 0.0)
            # It sends what can be sent all the same.
            connection.data_to_send()
            if connection.state is rsp.State.STOPPED and not connection.unanswered:
                connection.send(rsp.commands.ReadMemory(address=0, length=4), 0.0)
                assert connection.data_to_send() == b"$m0,4#fd"


def test_every_method_of_a_connection_with_each_odd_value() -> None:
    connection = rsp.Connection()
    for call in calls_of(connection, {**USUAL, "command": rsp.commands.QueryStop()}, ()):
        for value in ODD:
            with suppress(rsp.RspError):
                call(value)
