"""The registers that a kernel saves of what it interrupts, where no table says so."""

from __future__ import annotations

import pytest

from lab.unwinding import CODE, STACK, machine_of, words
from rsp.linux import kernel_entry
from rsp.linux.pt_regs import PT_REGS
from rsp.unwind.activation import Activation, EndOfStack
from rsp.unwind.caller import caller_of


@pytest.mark.parametrize(("arch", "size"), [("x86-64", 8), ("i386", 4)])
def test_registers_that_a_kernel_saved_and_marked(arch: str, size: int) -> None:
    base = STACK if size == 8 else 0xC000_1000
    code = CODE if size == 8 else 0xC010_0000
    names = PT_REGS[arch]
    saved = words(*range(0x100, 0x100 + len(names)), size=size)
    machine = machine_of({base: bytes(64) + saved}, arch=arch)
    at = base + 64
    fp = at | 1 if size == 8 else at & 0x7FFF_FFFF
    frame = Activation(machine, {machine.sp: base, machine.fp: fp}, code, interrupted=False)
    caller = caller_of(frame, kernel_entry)
    assert caller.interrupted
    expected = {name: 0x100 + index for index, name in enumerate(names) if name}
    assert caller.registers == expected
    assert caller.pc == expected[machine.pc]


@pytest.mark.parametrize("eflags", [0x202, 0x200], ids=["saved", "of a new program"])
def test_the_registers_of_a_system_call_where_nothing_marks_them(eflags: int) -> None:
    """Linux's entry_SYSENTER_32 has no table and no mark: user space's are at the stack pointer."""
    names = PT_REGS["i386"]
    values = dict.fromkeys(names, 0) | {"cs": 0x73, "ss": 0x7B, "eflags": eflags, "eip": 0xB7F12549}
    memory = {0xC000_1000: words(*(values[name] for name in names), size=4)}
    machine = machine_of(memory, arch="i386")
    registers = {"esp": 0xC000_1000, "ebp": 0xBFFF_0000}
    frame = Activation(machine, registers, 0xC132_8358, interrupted=False)
    assert caller_of(frame, kernel_entry).pc == 0xB7F12549
    values["cs"] = 0x60  # a kernel's
    memory = {0xC000_1000: words(*(values[name] for name in names), size=4)}
    machine = machine_of(memory, arch="i386")
    with pytest.raises(EndOfStack):
        caller_of(Activation(machine, registers, 0xC132_8358, interrupted=False), kernel_entry)
