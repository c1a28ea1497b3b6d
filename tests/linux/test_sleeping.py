"""Where tasks that sleep go on: by every shape of the frame that the switch leaves, and on QEMU
against the kernel's own account."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.stacks import assert_same, settled_stacks
from rsp.inferior.backtraces import backtrace_from
from rsp.linux.sleeping import backtrace_of_task, resumption_at
from rsp.linux.tasks import list_tasks
from rsp.testing.serve import StubTransport
from rsp.testing.stub import Stub

if TYPE_CHECKING:
    from pathlib import Path

    from lab.guest import BootKernel

STACK = 0x7FFF0000
KERNEL = """
#define frame struct inactive_task_frame
%(frame)s
asm(".globl _text, ret_from_fork, thread_return, schedule\\n.text\\n_text: nop\\n"
    "schedule: call _text\\n%(labels)s nop\\nret_from_fork: nop; nop\\n");
void _start(void) { %(use)s }
"""

# From 4.9 to 5.8 and later on, and the other way round on i386.
OF_64 = "frame { unsigned long r15, r14, r13, r12, bx, bp, ret_addr; };"
IN_64 = {"r15": 1, "r14": 2, "r13": 3, "r12": 4, "rbx": 5, "rbp": 6}
WITH_FLAGS_64 = "frame { unsigned long flags, r15, r14, r13, r12, bx, bp, ret_addr; };"
OF_32 = "frame { unsigned long flags, si, di, bx, bp, ret_addr; };"
OF_32_BEFORE = "frame { unsigned long si, di, bx, bp, ret_addr; };"

pytestmark = pytest.mark.live("gcc")


def kernel(directory: Path, bits: int, frame: str, labels: str = "") -> rsp.SymbolTable:
    """Return the symbols of a kernel with that frame."""
    source = directory / "kernel.c"
    use = "static frame f; (void)*(volatile frame *)&f;" if frame else ""
    source.write_text(KERNEL % {"frame": frame, "use": use, "labels": labels})
    command = [shutil.which("gcc") or "gcc", f"-m{bits}", "-g", "-O0", "-nostdlib", "-static"]
    command += [
        "-fno-pie",
        "-no-pie",
        "-ffreestanding",
        "-o",
        str(directory / "kernel"),
        str(source),
    ]
    subprocess.run(command, check=True)
    return rsp.SymbolTable(directory / "kernel")


def stub_with(words: list[int], bits: int) -> Stub:
    stack = struct.pack(f"<{len(words)}{'Q' if bits == 64 else 'I'}", *words)
    return Stub(memory={STACK: stack}, registers={"rip": 0x1000})


@pytest.mark.parametrize(
    ("bits", "frame", "expected"),
    [
        (64, OF_64, IN_64),
        (64, WITH_FLAGS_64, {"eflags": 1} | {name: each + 1 for name, each in IN_64.items()}),
        (32, OF_32, {"eflags": 1, "esi": 2, "edi": 3, "ebx": 4, "ebp": 5}),
        (32, OF_32_BEFORE, {"esi": 1, "edi": 2, "ebx": 3, "ebp": 4}),
    ],
)
def test_every_frame(tmp_path: Path, bits: int, frame: str, expected: dict[str, int]) -> None:
    table = kernel(tmp_path, bits, frame)
    count = max(expected.values()) + 1
    words = [*range(1, count), table["schedule"].address + 5]
    with rsp.connect(StubTransport(stub_with(words, bits)), symbols=table) as target:
        found = resumption_at(target.inferior, STACK)
        pc, sp = ("rip", "rsp") if bits == 64 else ("eip", "esp")
        at = STACK + len(words) * bits // 8
        assert found.registers == expected | {pc: words[-1], sp: at}
        assert not found.begins
        assert found.memory == (1 << 63 if bits == 64 else table["_text"].address & 0xF8000000)


def test_a_task_that_has_never_run(tmp_path: Path) -> None:
    """It returns to where ret_from_fork begins, which is in no function that called anything."""
    table = kernel(tmp_path, 64, OF_64)
    begin = table["ret_from_fork"].address
    with rsp.connect(
        StubTransport(stub_with([0, 0, 0, 0, 0, 0, begin], 64)), symbols=table
    ) as target:
        found = resumption_at(target.inferior, STACK)
        assert found.begins
        assert backtrace_from(target.inferior, found)[0].function == "ret_from_fork"


def test_kernels_before_the_frame_had_a_type(tmp_path: Path) -> None:
    """On the stack were the frame pointer and the flags, and the place was known to the linker."""
    table = kernel(tmp_path, 64, "", labels="thread_return:")
    with rsp.connect(StubTransport(stub_with([0x1234, 0x246], 64)), symbols=table) as target:
        found = resumption_at(target.inferior, STACK)
        place = table["thread_return"].address
        assert found.registers == {"rip": place, "rsp": STACK + 16, "rbp": 0x1234}


def test_32_bit_kernels_had_the_place_in_the_task(tmp_path: Path) -> None:
    table = kernel(tmp_path, 32, "")
    with rsp.connect(StubTransport(stub_with([0x1234, 0x246], 32)), symbols=table) as target:
        found = resumption_at(target.inferior, STACK, 0xC1000000)
        assert found.registers == {"eip": 0xC1000000, "esp": STACK + 8, "ebp": 0x1234}
        with pytest.raises(rsp.SymbolError, match="has no struct inactive_task_frame"):
            resumption_at(target.inferior, STACK)


def test_a_stack_that_cannot_be_read(tmp_path: Path) -> None:
    table = kernel(tmp_path, 64, OF_64)
    with (
        rsp.connect(StubTransport(stub_with([0], 64)), symbols=table) as target,
        pytest.raises(rsp.MemoryFault),
    ):
        resumption_at(target.inferior, STACK)


def test_tasks_of_a_distribution_s_kernel(shared_kernel: BootKernel) -> None:
    guest = shared_kernel("debian")
    stacks = settled_stacks(guest)
    compared = 0
    with rsp.connect(guest.address, symbols=guest.symbols, slide=0, timeout=60) as target:
        for task in list_tasks(target.inferior):
            if task.pid in stacks and task.state != "R":  # else it has woken since
                found = task.backtrace()
                assert_same(found, stacks[task.pid], target.symbols)
                compared += 1
        # And one that runs, by its CPU.
        for thread in target.threads:
            running = target.value("runqueues", cpu=thread.cpu)["curr"].deref_()
            found = backtrace_of_task(target.inferior, running, cpu=thread.cpu)
            assert str(found) == str(thread.backtrace())
    assert compared >= 30


def test_nothing_of_linux_is_loaded_before_a_task_sleeps(tmp_path: Path) -> None:
    """A backtrace of what runs, and a connection, pay for none of it."""
    kernel(tmp_path, 64, OF_64)
    script = f"""
import sys, rsp
from rsp.testing.serve import StubTransport
from rsp.testing.stub import Stub
with rsp.connect(StubTransport(Stub()), symbols={str(tmp_path / "kernel")!r}) as target:
    target.backtrace()
assert not [name for name in sys.modules if name.startswith("rsp.linux")]
"""
    subprocess.run([sys.executable, "-c", script], check=True)
