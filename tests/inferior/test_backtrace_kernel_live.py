"""Backtraces of kernels against gdb's, on the same stop of the same machine.

Where gdb gives up, at the code by which a kernel is entered, against what the kernel itself knows:
the registers that it has saved, and /proc/self/stack.
"""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.backtraces import MARK, SETTINGS, Score, believed, lines_of
from lab.gdb_session import GdbSession
from lab.guest import BOOT_TIMEOUT, UP
from rsp import BreakpointKind, OnExit, StopReason
from rsp.frames.frame import FrameKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.guest import BootKernel, Guest, KernelName
    from rsp.arch.registers import Registers
    from rsp.frames.backtrace import Backtrace
    from rsp.remote.target import Target

SEED = 4
MODULES = 0xFFFF_FFFF_C000_0000  # on x86-64 (Linux Documentation/arch/x86/x86_64/mm.rst)

pytestmark = pytest.mark.live("gdb")


class Debuggers:
    """A gdb for each kernel, started when it is first asked."""

    def __init__(self) -> None:
        self._sessions: dict[Path, GdbSession] = {}

    def at(self, guest: Guest, *commands: str) -> list[str]:
        """Return gdb's answers at the stop that a guest is in."""
        if guest.symbols not in self._sessions:
            self._sessions[guest.symbols] = GdbSession(guest.symbols, SETTINGS)
        return self._sessions[guest.symbols].at(guest.address, *commands)

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()


@pytest.fixture(scope="module")
def gdb() -> Iterator[Debuggers]:
    debuggers = Debuggers()
    yield debuggers
    debuggers.close()


# --- comparing ---


def compare(guest: Guest, gdb: Debuggers, found: dict[int, Backtrace], score: Score) -> None:
    """Compare the backtraces of all CPUs with gdb's; the machine stands still, and is free."""
    answer = gdb.at(guest, "thread apply all bt")[0]
    parts = re.split(r"^Thread \d+ \(Thread 1\.(\d+).*$", answer, flags=re.MULTILINE)[1:]
    assert len(parts) == 2 * len(found)
    for number, text in zip(parts[::2], parts[1::2], strict=True):
        score.same_backtrace(found[int(number)], text)


def check_ends(found: dict[int, Backtrace]) -> None:
    """Whoever sleeps or runs in a kernel came from user space, or from where a task begins."""
    for each in found.values():
        if not each[0].function:  # user space, or firmware
            continue
        last = each[-1]
        if last.function == "startup_32_smp":  # which leaves the frame pointer as it was
            continue
        if last.function is None and last.pc >= MODULES:  # of which the symbols are not there
            continue
        assert each.complete, (each.end_reason, str(each))
        if each.user_registers is not None:
            selector = each.user_registers["cs"]
            assert selector is not None
            assert selector & 3 == 3
            assert each.end_reason == f"user space at {each.user_registers.pc:#x}"


def connect(guest: Guest, table: rsp.SymbolTable) -> Target:
    return rsp.connect(guest.address, symbols=table, on_exit=OnExit.LEAVE_STOPPED, timeout=30)


def stop_at(target: Target, place: str, timeout: float = 60) -> None:
    """Run to a place, past stops of another reason."""
    with target.breakpoint(place, kind=BreakpointKind.HARDWARE):
        stop = target.resume(timeout=timeout)
        assert stop is not None
        assert stop.reason is StopReason.BREAKPOINT


def backtraces(target: Target) -> dict[int, Backtrace]:
    """Return the backtraces of all CPUs, all of them read."""
    found = {int(each.id[-2:], 16): each.backtrace() for each in target.threads}
    assert all(map(str, found.values()))  # what is not read now is not there any more later
    check_ends(found)
    return found


# --- against gdb ---

STOPS = {
    **dict.fromkeys(("vfs_read", "do_nanosleep", "schedule", "__schedule", "kernel_clone"), ""),
    **dict.fromkeys(("handle_mm_fault", "exc_page_fault", "do_syscall_64", "do_exit"), ""),
    **dict.fromkeys(("update_process_times", "tick_sched_timer", "run_ksoftirqd"), ""),
    **dict.fromkeys(("kmem_cache_alloc", "try_to_wake_up", "tcp_init_sock", "tcp_v4_connect"), ""),
    **dict.fromkeys(("load_elf_binary", "__do_softirq", "process_one_work", "rcu_gp_init"), ""),
    **dict.fromkeys(
        ("sysvec_reschedule_ipi", "do_idle", "tcp_v4_rcv", "step_into", "strncpy_from_user"), ""
    ),
    "do_init_module": "rmmod dummy; insmod /dummy.ko",
    "sysvec_call_function_single": "rmmod dummy; insmod /dummy.ko",
}
BUSY = (
    "while true; do find / -xdev > /dev/null; usleep 1000; done",
    "while true; do dd if=/dev/zero bs=64k count=20 2>/dev/null | md5sum; usleep 1000; done",
)
BUSY_TIME = 6


def test_every_frame_of_a_distribution_s_kernel(shared_kernel: BootKernel, gdb: Debuggers) -> None:
    guest, score = shared_kernel("debian"), Score()
    table = rsp.SymbolTable(guest.symbols)
    for place, trigger in STOPS.items():
        with connect(guest, table) as target:
            if trigger:
                guest.start(trigger)
            stop_at(target, place)
            found = backtraces(target)
        compare(guest, gdb, found, score)
    leave(guest)
    score.check()
    assert score.lines > 10 * len(STOPS)


def leave(guest: Guest) -> None:
    """Let the guest run, without the module."""
    rsp.connect(guest.address).detach()
    guest.run("while pidof insmod rmmod; do usleep 10000; done; rmmod dummy || true")


@pytest.mark.parametrize("kernel", ["debian", "debian-6.12", "x86_64", "i386"])
def test_wherever_a_busy_machine_stands(
    kernel: KernelName, shared_kernel: BootKernel, gdb: Debuggers
) -> None:
    """The 32-bit kernel has no ORC: its assembly is crossed by frame pointers."""
    guest, score = shared_kernel(kernel), Score()
    table = rsp.SymbolTable(guest.symbols)
    chooser = random.Random(SEED)
    for command in BUSY:
        guest.start(f"timeout {BUSY_TIME} sh -c '{command}'")
    for _ in range(8):
        guest.monitor("cont")
        time.sleep(chooser.uniform(0.005, 0.1))
        with connect(guest, table) as target:
            found = backtraces(target)
        compare(guest, gdb, found, score)
    rsp.connect(guest.address).detach()
    score.check()


def test_every_frame_of_a_32_bit_kernel(shared_kernel: BootKernel, gdb: Debuggers) -> None:
    guest, score = shared_kernel("i386"), Score()
    table = rsp.SymbolTable(guest.symbols)
    for place in ("vfs_read", "schedule", "update_process_times", "tcp_init_sock", "do_exit"):
        with connect(guest, table) as target:
            stop_at(target, place)
            found = backtraces(target)
        compare(guest, gdb, found, score)
    rsp.connect(guest.address).detach()
    score.check()


def test_start_kernel(boot_kernel: BootKernel, gdb: Debuggers) -> None:
    guest, score = boot_kernel("debian", stopped=True), Score()
    with connect(guest, rsp.SymbolTable(guest.symbols)) as target:
        stop_at(target, "start_kernel")
        stopped = target.backtrace()
        found = backtraces(target)
    compare(guest, gdb, found, score)
    score.check()
    assert [frame.function for frame in stopped] == ["start_kernel", "secondary_startup_64"]
    assert str(stopped[0]).startswith("start_kernel () at init/main.c:")


def test_the_frames_of_a_module(shared_kernel: BootKernel, gdb: Debuggers) -> None:
    guest, score = shared_kernel("debian"), Score()
    # What other tests have started is over first.
    guest.run("while pidof insmod rmmod; do usleep 10000; done; rmmod dummy; insmod /dummy.ko")
    names = (".text", ".data", ".bss", ".rodata")
    listed = guest.run(f"cd /sys/module/dummy/sections && grep -H . {' '.join(names)} || true")
    sections = {name: int(address, 16) for name, address in re.findall(r"(\.\w+):(0x\w+)", listed)}
    table = rsp.SymbolTable(guest.symbols)
    table.add_module(guest.modules["dummy"], sections)
    with connect(guest, table) as target:
        guest.start("cat /proc/net/dev")
        stop_at(target, "dummy_get_stats64")
        found = backtraces(target)
        stopped = target.backtrace()
    assert [frame.function for frame in stopped][:2] == ["dummy_get_stats64", "dev_get_stats"]
    assert str(stopped[0]).endswith(f" at {stopped[0].file}:{stopped[0].line}")
    text = sections.pop(".text")
    rest = " ".join(f"-s {name} {address:#x}" for name, address in sections.items())
    gdb.at(guest, f"add-symbol-file {guest.modules['dummy']} {text:#x} {rest}")
    compare(guest, gdb, found, score)
    gdb.at(guest, f"remove-symbol-file -a {text:#x}")
    leave(guest)
    score.check()


def test_a_call_through_a_null_pointer(shared_kernel: BootKernel, gdb: Debuggers) -> None:
    guest, score = shared_kernel("debian"), Score()
    with connect(guest, rsp.SymbolTable(guest.symbols)) as target:
        stop_at(target, "vfs_read")
        pc = target.registers["rip"]
        assert pc is not None
        target.write_register("rip", 0)
        assert target.thread is not None
        thread = target.thread.id
        found = backtraces(target)[int(thread[-2:], 16)]
    answer = gdb.at(guest, f"thread {int(thread[-2:], 16)}", "bt")[1]
    with rsp.connect(guest.address) as target:
        target.select(thread)
        target.write_register("rip", pc)
    assert found[0].pc == 0
    gdbs = believed(answer.partition("\n")[2])
    score.same(lines_of(found)[1 : len(gdbs) + 1], gdbs)
    assert found[1].function == "ksys_read"
    score.check()


# --- further than gdb ---

GENERAL = (
    *(f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp")),
    *(f"r{number}" for number in range(8, 16)),
)
SAVED = {
    "x86-64": (*GENERAL, "rip", "rsp", "eflags", "cs", "ss"),
    "i386": ("ebx", "esi", "edi", "ebp", "eip", "esp", "eflags", "cs"),
}


def interrupted(found: Backtrace) -> Registers | None:
    """Return the registers of what the innermost entry has interrupted."""
    entry = next((each for each in found if each.kind is FrameKind.ENTRY), None)
    return found[entry.level + 1].registers if entry is not None else found.user_registers


def check_registers(found: Registers, expected: Registers, names: tuple[str, ...]) -> None:
    resume = 1 << 16  # of eflags: which the CPU sets where it saves them, and clears
    for name in names:
        other = expected[name]
        assert other is not None
        assert found[name] in (other, other ^ resume if name == "eflags" else other), name


@pytest.mark.parametrize(
    ("kernel", "place", "end"),
    [
        ("debian", "asm_sysvec_apic_timer_interrupt", "sysvec_apic_timer_interrupt"),
        ("debian", "asm_exc_page_fault", "exc_page_fault"),
        ("debian-6.12", "asm_exc_page_fault", "exc_page_fault"),
        ("i386", "asm_sysvec_apic_timer_interrupt", "sysvec_apic_timer_interrupt"),
        ("i386", "asm_exc_page_fault", "exc_page_fault"),
    ],
)
def test_every_instruction_of_an_entry(
    kernel: KernelName, place: str, end: str, shared_kernel: BootKernel
) -> None:
    """What was interrupted has the registers that the CPU had at the first instruction."""
    guest = shared_kernel(kernel)
    with rsp.connect(guest.address, symbols=guest.symbols, timeout=30) as target:
        stop_at(target, place)
        expected = interrupted(target.backtrace())
        assert expected is not None
        names = SAVED[target.backtrace()[0].registers.layout.arch if kernel != "i386" else "i386"]
        functions = set()
        for _ in range(120):
            found = target.backtrace()
            check_ends({0: found})
            registers = interrupted(found)
            assert registers is not None
            check_registers(registers, expected, names)
            if kernel != "i386":
                assert place in {str(frame.function) for frame in found[:3]}
            functions.add(found[0].function)
            if found[0].function == end:
                break
            target.step(timeout=20)
        assert {end, "handle_exception" if kernel == "i386" else "error_entry"} <= functions


@pytest.mark.parametrize("to_user", [False, True], ids=["to the kernel", "to user space"])
def test_every_instruction_of_a_return(to_user: bool, shared_kernel: BootKernel) -> None:
    """What was interrupted has the registers that the CPU has behind the iret."""
    guest, seen = shared_kernel("debian"), []
    guest.start("cat /proc/self/maps; cat /proc/self/maps")  # which the kernel copies to new pages

    def is_wanted(target: Target) -> bool:
        regs = target.value("(struct pt_regs *)$sp")
        return to_user == (int(regs["cs"]) & 3 == 3)

    with rsp.connect(guest.address, symbols=guest.symbols, timeout=30) as target:
        with target.breakpoint("error_return", condition=is_wanted):
            assert target.resume(timeout=240)
        for _ in range(90):
            found = target.backtrace()
            registers = interrupted(found)
            assert registers is not None
            seen.append(registers)
            is_iret = target.read_memory(target.registers.pc, 2) == b"\x48\xcf"
            target.step(timeout=20)
            if is_iret:
                break
        after = target.registers
    assert is_iret
    for registers in seen:
        check_registers(registers, after, SAVED["x86-64"])


SYSRETQ = b"\x48\x0f\x07"


@pytest.mark.parametrize(
    ("kernel", "append"), [("debian", ""), ("debian", "pti=on"), ("debian-6.12", "")]
)
def test_every_instruction_of_a_system_call(
    kernel: KernelName, append: str, boot_kernel: BootKernel
) -> None:
    """Where it was made is known from the first instruction of the entry to the sysret."""
    guest = boot_kernel(kernel, append=append)
    guest.wait_for(UP, BOOT_TIMEOUT)
    guest.start("while :; do umask 22; done")

    def callers(target: Target, last: bytes) -> list[Registers]:
        found = []
        for _ in range(90):
            registers = target.backtrace().user_registers
            assert registers is not None, hex(target.registers.pc)
            found.append(registers)
            code = target.read_memory(target.registers.pc, len(last))
            target.step(timeout=20)
            if code == last:
                break
        assert code == last
        return found

    with rsp.connect(guest.address, symbols=guest.symbols, timeout=30) as target:
        stop_at(target, "entry_SYSCALL_64")
        before = target.registers
        # Up to the first that it calls, by when the registers are saved and cleared.
        entered = callers(target, b"\xe8")
        stop_at(target, "syscall_return_via_sysret")
        left = callers(target, SYSRETQ)
        after = target.registers
    assert (before["rcx"], before["r11"]) == (entered[0]["rip"], entered[0]["eflags"])
    # The kernel saves -ENOSYS for rax: the number of the call is beside it.
    apart = {"rip", "eflags", "cs", "ss", "rax"}
    for found, cpu, others in ((entered, before, apart), (left, after, set[str]())):
        assert len(found) > 20
        for registers in found:
            assert registers["rip"] == (cpu["rcx"] if others else cpu["rip"])
            assert (registers["cs"], registers["ss"]) == (0x33, 0x2B)
            for name in {*SAVED["x86-64"]} - others:
                assert registers[name] in (None, cpu[name]), name
    for name in ("rbx", "rbp", "rdx", "r12"):
        assert {each[name] for each in entered} == {before[name]}
        assert {each[name] for each in left} == {after[name]}
    assert entered[0]["rsp"] == entered[-1]["rsp"] == before["rsp"]


@pytest.mark.parametrize("new", [False, True], ids=["slept", "new"])
@pytest.mark.parametrize("kernel", ["debian", "i386"])
def test_every_instruction_of_a_switch_of_tasks(
    kernel: KernelName, new: bool, shared_kernel: BootKernel
) -> None:
    """It has the stack of one task first, then that of another; both were in __schedule."""
    guest = shared_kernel(kernel)
    with rsp.connect(guest.address, symbols=guest.symbols, timeout=30) as target:
        wanted = is_new if new else lambda target: not is_new(target)
        with target.breakpoint("__switch_to_asm", condition=wanted):
            assert target.resume(timeout=240)
        callers: list[str | None] = []
        for _ in range(150):
            found = target.backtrace()
            if found[0].function != "__switch_to_asm":
                break
            callers = [frame.function for frame in found[1:4]]
            assert "__schedule" in callers or "ret_from_fork" in callers, str(found)
            check_ends({0: found})
            target.step(timeout=20)
        assert found[0].function == "__switch_to"
        assert ("ret_from_fork" in callers) == new


def is_new(target: Target) -> bool:
    """Whether the task that is changed to has not run yet."""
    registers = target.registers
    task = registers["rsi"] if "rsi" in registers else registers["edx"]
    frame = target.value(
        f"(struct inactive_task_frame *)((struct task_struct *){task:#x})->thread.sp"
    )
    return int(frame["ret_addr"]) == target.symbols["ret_from_fork"].address


@pytest.mark.parametrize("kernel", ["debian", "debian-6.12"])
def test_every_instruction_of_a_thunk(kernel: KernelName, shared_kernel: BootKernel) -> None:
    """It goes to a function whose callers are its own."""
    guest = shared_kernel(kernel)
    with rsp.connect(guest.address, symbols=guest.symbols, timeout=30) as target:
        for register in ("rcx", "rbx"):
            stop_at(target, f"__x86_indirect_thunk_{register}")
            callers = [frame.pc for frame in target.backtrace()[1:]]
            assert len(callers) >= 4
            for _ in range(4):
                target.step(timeout=20)
                found = target.backtrace()
                outer = next(each.level for each in found if not each.inlined)
                assert [frame.pc for frame in found[outer + 1 :]] == callers, str(found)
            assert "thunk" not in str(found[0].function)


@pytest.mark.parametrize("kernel", ["debian", "i386"])
def test_the_kernel_s_own_stack_trace(kernel: KernelName, shared_kernel: BootKernel) -> None:
    guest = shared_kernel(kernel)
    guest.run("rm -f /tmp/stack")
    with rsp.connect(guest.address, symbols=guest.symbols, timeout=30) as target:
        guest.start("cat /proc/self/stack > /tmp/stack.new; mv /tmp/stack.new /tmp/stack")
        stop_at(target, "proc_pid_stack")
        mine = [frame.pc for frame in target.backtrace() if not frame.inlined]
        target.resume(wait=False)
        text = guest.run("until [ -e /tmp/stack ]; do usleep 10000; done; cat /tmp/stack")
        places = re.findall(r"\] (\S+?)\+(0x\w+)/", text)
        theirs = [target.symbols[name].address + int(at, 16) for name, at in places]
        target.interrupt()
    assert places[0][0] == "proc_pid_stack"
    assert mine[1:] == theirs[1:], text
    assert len(mine) >= 6


def test_what_an_interrupt_interrupted(boot_kernel: BootKernel, gdb: Debuggers) -> None:
    """Its registers are those of pt_regs; with these, gdb shows the frames that we show below."""
    guest = boot_kernel("debian")
    with connect(guest, rsp.SymbolTable(guest.symbols)) as target:
        for _ in range(50):
            stop_at(target, "update_process_times")
            found = target.backtrace()
            entry = next((each for each in found if each.kind is FrameKind.ENTRY), None)
            if entry is not None:  # else it has interrupted user space
                break
        assert entry is not None
        assert target.thread is not None
        assert entry.function == "asm_sysvec_apic_timer_interrupt"
        assert str(entry).endswith(MARK)
        registers = found[entry.level + 1].registers
        saved = target.value(f"*(struct pt_regs *){found[entry.level - 1].arguments[0].text}")
        members = {name: name.removeprefix("r") for name in GENERAL[:7]}
        members |= {"rip": "ip", "rsp": "sp", "eflags": "flags"}
        for name in SAVED["x86-64"]:
            assert registers[name] == int(saved[members.get(name, name)]), name
        mine = lines_of(found[entry.level + 1 :])
        thread = f"thread {int(target.thread.id[-2:], 16)}"
    names = (*GENERAL, "rip", "rsp")
    answers = gdb.at(
        guest,
        thread,
        *(f"set $saved_{name} = ${name}" for name in names),
        *(f"set ${name} = {registers[name]:#x}" for name in names),
        "bt",
        *(f"set ${name} = $saved_{name}" for name in names),
    )
    gdbs, score = believed(answers[1 + 2 * len(names)]), Score()
    score.same(mine[: len(gdbs)], gdbs[: len(mine)])
    score.check()


def test_a_frame_takes_no_more_requests_than_gdb_needs(
    shared_kernel: BootKernel, gdb: Debuggers, tmp_path: Path
) -> None:
    """Counted for a frame: gdb mostly ends at the entry of an interrupt, ours goes on below it."""
    guest = shared_kernel("debian")
    mine, gdbs = [], []
    for number in range(5):
        log = tmp_path / f"{number}.rsplog"
        with rsp.connect(
            guest.address, symbols=guest.symbols, on_exit="leave stopped", timeout=30, record=log
        ) as target:
            stop_at(target, "tick_sched_timer")
            threads = target.threads
            before = requests(log)
            found = [frame for thread in threads for frame in thread.backtrace()]
            assert all(map(str, found))
            mine.append((requests(log) - before, len(found)))
        told = gdb.at(guest, "set debug remote 1", "thread apply all bt", "set debug remote 0")[1]
        asked = len(re.findall(r"Sending packet: \$(?:m|g|Hg)", told))
        gdbs.append((asked, len(re.findall(r"^#\d", told, re.MULTILINE))))
        rsp.connect(guest.address).detach()
    assert all(asked >= 3 for asked, _ in mine)
    asked, frames = map(sum, zip(*mine, strict=True))
    gdb_asked, gdb_frames = map(sum, zip(*gdbs, strict=True))
    assert asked / frames <= gdb_asked / gdb_frames, (mine, gdbs)  # mostly less than half


def requests(log: Path) -> int:
    """Return how many registers, memory and threads were asked for so far."""
    return len(re.findall(r"^w .*\$(?:m|g|Hg)", log.read_text(), re.MULTILINE))
