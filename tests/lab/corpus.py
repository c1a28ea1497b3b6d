"""What was asked of the live stubs when the corpus was recorded, and what is asked again.

Contents: the sessions, each a function of a target whose answers can be written as JSON. The
recorder (`record_corpus`) runs them on the stubs and stores the answers beside the log;
tests/test_corpus.py runs them on the logs. Not here: how a stub is started, and anything whose
answer depends on the time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rsp
from rsp import BreakpointKind, StopReason, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.arch.registers import Registers

CORPUS = Path(__file__).parents[1] / "corpus"

Symbols = dict[str, int]
Answers = dict[str, Any]


def shown(registers: Registers) -> dict[str, str | None]:
    """Return registers as JSON can hold them."""
    return {name: None if value is None else f"{value:#x}" for name, value in registers.items()}


def whole(target: rsp.Target) -> Answers:
    """Return all about the stop that a target is in."""
    return {
        "stop": str(target.stop),
        "mode": target.mode.name,
        "arch": target.arch.name,
        "pc": f"{target.registers.pc:#x}",
        "registers": shown(target.registers),
        "threads": [thread.id for thread in target.threads],
        "names": [thread.name for thread in target.threads],
    }


def brief(target: rsp.Target) -> str:
    return f"{target.stop} {target.mode.name} {target.registers.pc:#x}"


def boot(target: rsp.Target, at: Symbols) -> list[Answers]:
    """From the reset vector through every mode that the CPU has."""
    answers = [whole(target)]
    stations = [
        "real_start", "real_based", "protected16", "protected_start", "compat_start",
        "no_long_mode", "long_start", "tick",
    ]  # fmt: skip
    wanted = dict.fromkeys(at[name] for name in stations)
    points = [target.breakpoint(address) for address in wanted]
    for _ in range(5 if target.arch.name == "i386" else 7):
        target.resume(timeout=30)
        state = target.cpu_state
        assert state is not None
        answers.append({**whole(target), "cs": f"{state.segments['cs'].base:#x}"})
    answers.append({"table": str(target.breakpoints), "hits": [point.hits for point in points]})
    return answers


def run(target: rsp.Target, at: Symbols) -> list[Answers]:
    """Breakpoints, watchpoints, steps, interrupts; a watchpoint that is met by a step."""
    answers: list[Answers] = []
    hard = target.breakpoint(at["long_start"], kind=BreakpointKind.HARDWARE)
    target.resume(timeout=30)
    point = target.breakpoint(at["tick"], condition=lambda t: t.read_u64(at["counter"]) >= 3)
    target.resume(timeout=30)
    answers.append({"hits": [hard.hits, point.hits], "at": brief(target)})
    hard.remove()
    point.condition = None
    for watch in Watch:
        with target.watchpoint(at["counter"], 8, watch):
            for _ in range(3):
                target.resume(timeout=30)
                answers.append({"at": brief(target), "counter": target.read_u64(at["counter"])})
    answers.append({"steps": [(target.step(timeout=30), brief(target))[1] for _ in range(8)]})
    answers.append({"table": str(target.breakpoints)})
    point.remove()
    target.resume(wait=False)
    stop = target.interrupt()
    answers.append({"interrupt": str(stop), "moved": target.read_u64(at["counter"]) > 3})
    return answers


def memory(target: rsp.Target, at: Symbols) -> list[Answers]:
    """Reads and writes at the edges, physical memory, registers that take a value and do not."""
    answers: list[Answers] = []
    target.until(at["real_start"], timeout=30)
    try:
        target.write_register("rdx", 1 << 40)
    except rsp.RegisterWriteError as error:
        answers.append({"refused": str(error), "actual": error.actual})
    target.until(at["long_start"], timeout=30)
    target.write_register("ah", 0x5A)
    target.write_register("xmm9", (1 << 128) - 2)
    target.write_register("r9", 1 << 63)
    answers.append(whole(target))
    target.write_memory(0x1FFF00, bytes(range(256)))
    for start, length in ((0x1FFF80, 128), (0x1FFF80, 129), (0x1FFFFF, 9000), (0x200000, 1)):
        target.invalidate()
        try:
            answers.append({"data": target.read_memory(start, length).hex()})
        except rsp.MemoryFault as fault:
            answers.append({"fault": f"{fault.address:#x}", "partial": fault.partial.hex()})
    try:
        target.write_memory(0x1FFFFE, b"over")
    except rsp.MemoryFault as fault:
        answers.append({"fault": f"{fault.address:#x}"})
    target.write_memory(0x200000, b"physical", physical=True)
    answers.append({"physical": target.read_memory(0x1FFFFC, 16, physical=True).hex()})
    answers.append({"text": target.read_c_string(at["greeting"]).decode()})
    answers.append({"pages": len(target.read_memory(0x7000, 0x1800))})
    answers.append({"monitor": target.monitor("info status").split()})
    return answers


def two_cpus(target: rsp.Target, at: Symbols) -> list[Answers]:
    """Two CPUs at reset: the list, the names, each one's registers and mode, the selection."""
    answers = [whole(target)]
    for thread in target.threads:
        target.select(thread)
        answers.append({"id": thread.id, **whole(target)})
    with target.breakpoint(at["protected_start"]):
        target.resume(timeout=30)
    answers.append(whole(target))
    answers += [{"registers": shown(thread.registers)} for thread in target.threads]
    target.threads[1].write_register("edx", 0x2222)
    answers += [{"edx": thread.registers["edx"]} for thread in target.threads]
    answers.append({"step": str(target.threads[0].step(timeout=30))})
    return answers


def process(target: rsp.Target, at: Symbols) -> list[Answers]:
    """A program: threads, vector registers, watchpoints, a signal, the exit status."""
    answers: list[Answers] = [{"stub": target.stub.name, "arch": target.arch.name}]
    target.until(at["vectors_filled"], timeout=60)
    answers.append(whole(target))
    answers += [
        {"id": thread.id, "registers": shown(thread.registers)} for thread in target.threads[1:]
    ]
    composed = [name for name in ("xmm1", "ymm1", "zmm1") if name in target.registers]
    answers.append({name: target.registers[name] for name in composed})
    with target.breakpoint(at["visit"]) as point:
        for _ in range(3):
            target.resume(timeout=60)
        answers.append({"hits": point.hits, "rdi": target.registers["rdi"]})
    try:
        with target.watchpoint(at["watched"], 8) as watch:
            target.resume(timeout=60)
            answers.append({"at": brief(target), "hits": watch.hits})
    except rsp.NoHardwareBreakpoint as error:
        answers.append({"refused": str(error)})
    answers.append({"watched": target.read_u64(at["watched"])})
    target.write_register("rbx", 0x1122334455667788)
    answers.append({"rbx": target.registers["rbx"]})
    answers.append({"greeting": target.read_c_string(at["greeting"]).decode()})
    answers.append({"vectors": target.read_memory(at["vectors"], 256).hex()})
    try:
        target.read_memory(0, 8)
    except rsp.MemoryFault as fault:
        answers.append({"fault": fault.address, "code": fault.code})
    answers.append({"steps": [(target.step(timeout=60), brief(target))[1] for _ in range(3)]})
    while target.stop.reason not in (StopReason.EXITED, StopReason.TERMINATED):
        target.resume(timeout=60)
        answers.append({"stop": str(target.stop)})
    return answers


SCRIPTS: dict[str, Callable[[rsp.Target, Symbols], list[Answers]]] = {
    "qemu-7.2-x86_64-boot-modes": boot,
    "qemu-7.2-i386-boot-modes": boot,
    "qemu-7.2-x86_64-run": run,
    "qemu-7.2-x86_64-memory": memory,
    "qemu-7.2-x86_64-smp2": two_cpus,
    "qemu-7.2-x86_64-pty": memory,
    "qemu-user-7.2-signal": process,
    "gdbserver-13.1-threads-avx": process,
    "gdbserver-13.1-acks-signal": process,
    "valgrind-3.19-threads": process,
}

GDB_LOGS = ("gdb-13.1-on-qemu-7.2", "gdb-13.1-on-gdbserver-13.1")

LOOK = "info all-registers"
"""What gdb was told where its values of the registers were stored; the command is in its log."""
