"""Stepping by lines, against the real gdb: every stop of many steps, on programs and a kernel."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.guest import BOOT_TIMEOUT, UP
from lab.stepping import (
    VARIANTS,
    Place,
    compile_steps,
    compile_threads,
    empty_disk,
    gdb_places,
    resumes,
    under_gdbserver,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from lab.gdb import Gdb
    from lab.guest import BootKernel, KernelName
    from rsp.remote.target import Target
    from rsp.run.stop import Stop

pytestmark = pytest.mark.live("gcc", "gdb", "gdbserver")

GONE = (rsp.StopReason.EXITED, rsp.StopReason.TERMINATED)
MANY = 400
"""More steps than the program has."""


@pytest.fixture(scope="module", params=VARIANTS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled in one way."""
    return compile_steps(request.param, tmp_path_factory.mktemp("steps"))


@contextmanager
def stopped_at_its_begin(program: Path, record: Path | None = None) -> Iterator[Target]:
    """Run the program under gdbserver, and connect."""
    with (
        under_gdbserver(program) as address,
        rsp.connect(address, symbols=program, record=record) as target,
    ):
        yield target


def stepped(target: Target, command: str) -> Stop:
    match command:
        case "step":
            return target.step_line(timeout=240)
        case "next":
            return target.next_line(timeout=240)
        case "finish":
            return target.finish(timeout=240)
    return target.step(timeout=20)


def our_places(target: Target, commands: Sequence[str]) -> list[Place | str]:
    places: list[Place | str] = []
    for command in commands:
        typed = target.stop.line is not None
        try:
            stop = stepped(target, command)
        except rsp.SymbolError as error:
            places.append(str(error))
            continue
        if stop.reason in GONE:
            break
        line = stop.line.line if stop.line is not None else 0
        # gdb shows no value of what has no type; ours is what is in the register.
        value = stop.return_value if typed else None
        places.append(Place(target.registers.pc, stop.function, line, value))
    return places


def without_words(places: Sequence[Place | str]) -> list[Place | None]:
    """Return the places alone: gdb words its errors in another way."""
    return [None if isinstance(place, str) else place for place in places]


def both(
    program: Path, commands: Sequence[str], tmp_path: Path
) -> tuple[list[Place | str], list[Place | str], int, int]:
    """Return our places and gdb's, and how often we and gdb have resumed."""
    with under_gdbserver(program) as address:
        theirs, their_resumes = gdb_places(
            address, program, commands, directory=tmp_path, first=("tbreak run", "continue")
        )
    log = tmp_path / "ours.log"
    with stopped_at_its_begin(program, record=log) as target:
        target.breakpoint("run", temporary=True)
        target.resume(timeout=240)
        ours = our_places(target, commands)
    return ours, theirs, resumes(log), their_resumes


@pytest.mark.parametrize("command", ["step", "next"])
def test_every_line_to_the_end(program: Path, command: str, tmp_path: Path) -> None:
    ours, theirs, our_resumes, their_resumes = both(program, [command] * MANY, tmp_path)
    assert ours == theirs
    assert len(ours) > 15
    assert our_resumes <= their_resumes


@pytest.mark.parametrize("seed", range(3))
def test_commands_in_any_order(program: Path, seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    commands = source.choices(["step", "next", "finish", "stepi"], [8, 4, 1, 3], k=150)
    ours, theirs, our_resumes, their_resumes = both(program, commands, tmp_path)
    assert without_words(ours) == without_words(theirs)
    assert our_resumes <= their_resumes


RETURNING = ("narrow", "wide", "paint", "where", "odd", "nothing", "add", "both", "bare", "tail")


def test_what_a_function_returns(program: Path, tmp_path: Path) -> None:
    breaks = [f"tbreak {name}" for name in RETURNING]
    commands = ["continue", "finish"] * len(RETURNING)
    with under_gdbserver(program) as address:
        said, _ = gdb_places(address, program, commands, directory=tmp_path, first=breaks)
    theirs = said[1::2]
    ours: list[Place | str] = []
    with stopped_at_its_begin(program) as target:
        for name in RETURNING:
            target.breakpoint(name, temporary=True)
        for _ in RETURNING:
            target.resume(timeout=240)
            ours += our_places(target, ["finish"])
        assert not target.breakpoints
    assert ours == theirs
    values = [place.value for place in ours if isinstance(place, Place)]
    assert -1 in values
    assert sum(value is not None for value in values) == 7


def test_what_was_returned_is_of_one_stop(program: Path, tmp_path: Path) -> None:
    """The call returns to where an inlined copy begins: the step after it only shows that."""
    commands = ["continue", "finish", "step", "step"]
    with under_gdbserver(program) as address:
        theirs, _ = gdb_places(
            address, program, commands, directory=tmp_path, first=["tbreak seven"]
        )
    with stopped_at_its_begin(program) as target:
        target.breakpoint("seven", temporary=True)
        target.resume(timeout=240)
        ours = our_places(target, commands[1:])
    assert ours == theirs[1:]
    returned, entered = ours[0], ours[1]
    assert isinstance(returned, Place)
    assert isinstance(entered, Place)
    assert (returned.value, entered.value) == (7, None)
    if program.name.startswith(("Og", "O1")):
        # Elsewhere the compiler has moved another instruction to behind the call.
        assert (entered.pc, entered.function) == (returned.pc, "twice")


def test_a_breakpoint_in_a_function_that_is_stepped_over(program: Path) -> None:
    with stopped_at_its_begin(program) as target:
        target.breakpoint("run", temporary=True)
        target.resume(timeout=240)
        with target.breakpoint("paint") as point:
            while (stop := target.next_line(timeout=240)).reason is rsp.StopReason.STEP:
                pass
            assert stop.breakpoint is point
            assert stop.function == "paint"
            assert point.hits == 1
        assert len(target.breakpoints) == 0
        # What the step had set is gone: the program runs to its end.
        assert target.resume(timeout=240) is not None
        assert target.stop.reason is rsp.StopReason.EXITED


def test_tables_of_breakpoints(program: Path, gdb: type[Gdb]) -> None:
    specs = ["twice", "four_times", "steps.c:13", "factorial", "bare", "bare_calls+4", "steps.c:90"]
    with under_gdbserver(program) as address:
        said = gdb(address=address, symbols=program).run(
            *(f"break {spec}" if "+" not in spec else f"break *{spec}" for spec in specs),
            "tbreak add",
            "hbreak narrow",
            "watch *(long *)&sink",
            "delete 10",
            *["continue"] * 5,
            "info breakpoints",
        )
    with stopped_at_its_begin(program) as target:
        for spec in specs:
            target.breakpoint(spec)
        target.breakpoint("add", temporary=True)
        target.breakpoint("narrow", kind=rsp.BreakpointKind.HARDWARE)
        for _ in range(5):
            target.resume(timeout=240)
        ours = str(target.breakpoints)
    assert ours.splitlines() == [line.rstrip() for line in said[-1].splitlines()]
    assert "<MULTIPLE>" in ours
    assert " times" in ours


def test_threads_that_stand_on_breakpoints(tmp_path: Path) -> None:
    """Each hit is of a call of its own, also when another thread has stepped meanwhile."""
    program = compile_threads(tmp_path)
    with stopped_at_its_begin(program) as target:
        target.breakpoint("main", temporary=True)
        target.resume(timeout=240)
        point = target.breakpoint("work")
        workers = target.symbols["workers"].address
        calls: dict[int, int] = {}
        stepped_others = 0
        for _ in range(60):
            stop = target.resume(timeout=240)
            while stop is not None and stop.reason is rsp.StopReason.BREAKPOINT:
                worker = target.registers["rdi"] or 0
                seen = target.read_u64(worker + 8)
                assert calls.get(worker) != seen, "the same call was hit twice"
                calls[worker] = seen
                assert stop.thread is not None
                other = next(each for each in target.threads if each != stop.thread)
                stop = other.step(timeout=20)
                stepped_others += stop.reason is rsp.StopReason.STEP
        target.write_memory(target.symbols["done"].address, b"\1")
        assert point.hits >= 60
        assert stepped_others > 20
        assert set(calls) <= {workers + 24 * number for number in range(3)}


def test_lines_while_other_threads_run(tmp_path: Path) -> None:
    program = compile_threads(tmp_path)
    with stopped_at_its_begin(program) as target:
        target.breakpoint("work", condition=lambda target: target.read_u64(third) > 5)
        third = target.symbols["workers"].address + 2 * 24 + 8
        assert target.resume(timeout=240) is not None
        target.breakpoints[0].remove()
        thread = target.thread
        lines = set()
        before = target.read_u64(third)
        for _ in range(200):
            stop = target.next_line(timeout=240)
            assert (stop.reason, stop.thread) == (rsp.StopReason.STEP, thread)
            assert stop.line is not None
            lines.add(stop.line.line)
        target.write_memory(target.symbols["done"].address, b"\1")
        # Through the loop again and again, and no more.
        assert lines <= set(range(15, 30))
        assert len(lines) >= 4
        assert target.read_u64(third) > before, "the others stood still"


# What is done at each place of a kernel. gdb takes whatever is on the stack for the caller of an
# entry from user space, and of user space: there it would run to nowhere, so nothing is finished
# that near to it, and few steps are of calls.
LINES, INTO, SINGLE = ("next",) * 50, ("step",) * 50, ("stepi",) * 200
MIXED = ("step", "step", "step", "stepi") * 12
OUT = ("stepi", "stepi", "finish", "step", "stepi")
DEBIAN = {
    "start_kernel": (LINES, INTO, SINGLE),
    "vfs_read": (INTO, OUT),
    "tcp_init_sock": (LINES, OUT),
    "schedule": (LINES,),
    "__alloc_pages": (INTO,),
    "do_nanosleep": (INTO, OUT),
}
I386 = {"start_kernel": (LINES, SINGLE), "vfs_read": (MIXED, OUT), "schedule": (INTO,)}


def without_thunks(places: Sequence[Place | str]) -> list[Place | None]:
    """gdb stops in the thunks of indirect calls, as the first of them has a second name."""
    return [
        place
        for place in without_words(places)
        if place is None or not (place.function or "").startswith("__x86_indirect")
    ]


def before_a_fault(places: Sequence[Place | None]) -> int:
    """Return how many places come before an exception, as a page fault of a copy to the user.

    gdb does not find the way back from there: it stops within the handler, and ours goes over it.
    """
    names = [place.function or "" if place is not None else "" for place in places]
    return next((i for i, name in enumerate(names) if name.startswith("asm_exc")), len(places))


@pytest.mark.parametrize(("kernel", "plan"), [("debian", DEBIAN), ("i386", I386)])
def test_a_kernel(
    kernel: KernelName,
    plan: Mapping[str, Sequence[Sequence[str]]],
    boot_kernel: BootKernel,
    tmp_path: Path,
) -> None:
    """From one state of a machine, many commands: the same stops, with no more resumes."""
    disk = empty_disk(tmp_path / "snapshots.qcow2")
    guest = boot_kernel(
        kernel,
        cpus=1,
        stopped=True,
        args=(
            *("-drive", f"if=none,format=qcow2,file={disk}"),
            # Its clock counts instructions: timers expire at the same one in each run.
            *("-icount", "shift=3,sleep=off", "-rtc", "clock=vm"),
        ),
    )
    symbols, leave = guest.symbols, rsp.OnExit.LEAVE_STOPPED
    compared, values = 0, 0
    for place, runs in plan.items():
        early = place == "start_kernel"
        if not early:
            guest.wait_for(UP, BOOT_TIMEOUT)
        with rsp.connect(guest.address, symbols=symbols, on_exit=leave) as target:
            point = target.breakpoint(place, temporary=True)
            kinds = rsp.BreakpointKind
            assert point.kind is (kinds.HARDWARE if early else kinds.SOFTWARE)
            target.resume(timeout=120)
            assert target.stop.breakpoint is point
        guest.monitor("savevm here")
        for commands in runs:
            guest.monitor("loadvm here")
            log = tmp_path / f"{compared}.log"
            with rsp.connect(guest.address, symbols=symbols, on_exit=leave, record=log) as target:
                ours = without_words(our_places(target, commands))
            guest.monitor("loadvm here")
            said, their_resumes = gdb_places(guest.address, symbols, commands, directory=tmp_path)
            theirs = without_thunks(said)
            length = min(before_a_fault(ours), before_a_fault(theirs))
            assert ours[:length] == theirs[:length], (place, commands[0])
            compared += length
            values += sum(each is not None and each.value is not None for each in ours)
            if len(ours) == len(theirs):
                assert resumes(log) <= their_resumes
        guest.monitor("loadvm here")
        guest.monitor("cont")
    assert compared > 0.6 * sum(len(commands) for runs in plan.values() for commands in runs)
    assert values > 0
