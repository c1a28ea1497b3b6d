"""What is known of a kernel's assembly beyond its tables, on made-up code and stacks.

The real ones are in test_backtrace_kernel_live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.unwinding import CODE, STACK, N, Symbol, machine_of, rules_of, words
from rsp.errors import BadImage
from rsp.linux import kernel_entry
from rsp.linux.pt_regs import PT_REGS
from rsp.symbols.unwind.rules import (
    AtCfa,
    FrameKind,
    RegisterOffset,
    SameValue,
    UnwindRules,
    ValCfa,
)
from rsp.unwind import caller
from rsp.unwind.activation import Activation, EndOfStack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rsp.symbols.unwind.rules import RegisterRule

SAVER, ENTRY, THUNK, PLAIN, INTERRUPTED = (CODE + 0x100 * number for number in range(1, 6))
NAMES = {SAVER: "saver", ENTRY: "entry", THUNK: "__x86_indirect_thunk_rax", PLAIN: "plain"}
SAVED = PT_REGS["x86-64"]


def caller_of(frame: Activation) -> Activation:
    return caller.caller_of(frame, kernel_entry)


@dataclass
class Section:
    executable: bool


class Image:
    word_size = 8

    def section_at(self, address: int) -> Section:
        return Section(executable=address >= CODE)


class Binary:
    """A kernel of five functions; the rules are those of the code at an address."""

    def __init__(self, rules: dict[int, UnwindRules]) -> None:
        self.image = Image()
        self._rules = rules

    def unwind_rules(self, address: int) -> UnwindRules | None:
        return self._rules.get(address)

    def frames(self, address: int) -> tuple[()]:
        return ()  # it is all assembly

    def lookup(self, address: int) -> Symbol | None:
        begin = address & ~0xFF
        return Symbol(NAMES[begin], begin) if begin in NAMES else None


def call(at: int, target: int) -> dict[int, bytes]:
    """Return a call instruction that ends at an address."""
    return {at - 7: b"\x90\x90\xe8" + (target - at & 0xFFFFFFFF).to_bytes(4, "little")}


def at_offset(
    kind: FrameKind, offset: int, registers: Mapping[str, RegisterRule], **more: Any
) -> UnwindRules:
    return rules_of(registers, RegisterOffset(N["rsp"], offset), kind=kind, **more)


def called(offset: int) -> UnwindRules:
    """Return what ORC has for code that was called."""
    registers: dict[str, RegisterRule] = {"rip": AtCfa(-8), "rsp": ValCfa(0), "rbp": SameValue()}
    return at_offset(FrameKind.CALL, offset, registers)


def all_saved(offset: int) -> UnwindRules:
    registers = {name: AtCfa(8 * place) for place, name in enumerate(SAVED) if name}
    return at_offset(FrameKind.REGS, offset, registers, signal_frame=True)


def partly_saved(offset: int) -> UnwindRules:
    first = SAVED.index("rip")
    registers = {name: AtCfa(8 * place) for place, name in enumerate(SAVED[first:])}
    same = {name: SameValue() for name in SAVED[:first] if name}
    return at_offset(FrameKind.REGS_PARTIAL, offset, {**same, **registers}, signal_frame=True)


INTERRUPTED_REGISTERS = {
    name: 0x1000 + place for place, name in enumerate(SAVED) if name not in ("rip", "cs", "")
} | {"rip": INTERRUPTED, "cs": 0x10}
PT_REGS_WORDS = [INTERRUPTED_REGISTERS.get(name, 0) for name in SAVED]
RETURN = ENTRY + 0x20
RULES = {RETURN - 1: partly_saved(8)}


@pytest.mark.parametrize("place", ["below the registers", "in rsi"])
def test_the_entry_that_called_who_saves_the_registers(place: str) -> None:
    if place == "in rsi":
        stack, offset, registers = words(*PT_REGS_WORDS), 0, {"rsi": RETURN}
    else:
        stack, offset, registers = words(RETURN, *PT_REGS_WORDS), 8, {"rsi": 0}
    rules = RULES | {SAVER + 0x40: all_saved(offset)}
    machine = machine_of({STACK: stack, **call(RETURN, SAVER)}, Binary(rules))
    frame = Activation(machine, {"rsp": STACK, **registers}, SAVER + 0x40, interrupted=True)
    entry = caller_of(frame)
    assert (entry.pc, entry.interrupted) == (RETURN, False)
    found = caller_of(entry)
    assert (found.pc, found.interrupted) == (INTERRUPTED, True)
    assert found.registers == INTERRUPTED_REGISTERS


def test_another_s_call_is_no_entry() -> None:
    rules = RULES | {SAVER + 0x40: all_saved(8)}
    stack = words(RETURN, *PT_REGS_WORDS)
    machine = machine_of({STACK: stack, **call(RETURN, PLAIN)}, Binary(rules))
    frame = Activation(machine, {"rsp": STACK}, SAVER + 0x40, interrupted=True)
    assert caller_of(frame).pc == INTERRUPTED


def test_the_registers_that_are_not_saved_yet() -> None:
    """After `push %rsi; mov 8(%rsp),%rsi; mov %rdi,8(%rsp)`: rsi has the return address."""
    rules = RULES | {SAVER + 0x10: partly_saved(24)}
    stack = words(*PT_REGS_WORDS[SAVED.index("rsi") :])
    machine = machine_of({STACK: stack, **call(RETURN, SAVER)}, Binary(rules))
    registers = INTERRUPTED_REGISTERS | {"rsp": STACK, "rip": SAVER + 0x10, "rsi": RETURN}
    entry = caller_of(Activation(machine, registers, SAVER + 0x10, interrupted=True))
    assert entry.pc == RETURN
    assert caller_of(entry).registers == INTERRUPTED_REGISTERS


def test_the_instruction_that_changes_to_the_stack_of_the_saved_registers() -> None:
    rules = {ENTRY: partly_saved(8), ENTRY + 3: all_saved(0)}
    memory = {STACK + 0x200: words(*PT_REGS_WORDS), ENTRY: b"\x48\x89\xc4", STACK: bytes(64)}
    machine = machine_of(memory, Binary(rules))
    registers = {"rsp": STACK, "rax": STACK + 0x200}
    found = caller_of(Activation(machine, registers, ENTRY, interrupted=True))
    assert found.registers == INTERRUPTED_REGISTERS


@pytest.mark.parametrize("stuffed", [0, 1, 2])
@pytest.mark.parametrize("offset", [24, 32])
def test_calls_that_are_there_for_the_cpu_s_sake(stuffed: int, offset: int) -> None:
    """The code is not what the file says, and so ORC may be that of other instructions."""
    inner = PLAIN + 0x30
    rules = {PLAIN + 0x20: called(offset), (1 << 64): called(24), -1: called(24)}
    rules |= {RETURN - 1: called(8)}
    stack = words(*[inner] * stuffed, 1, 2, RETURN, 0)
    memory = {STACK: stack, **call(RETURN, SAVER), **call(inner, inner + 1)}
    registers = {"rsp": STACK, "rbp": 7}
    frame = Activation(machine_of(memory, Binary(rules)), registers, PLAIN + 0x20, interrupted=True)
    caller = caller_of(frame)
    assert (caller.pc, caller.registers["rsp"]) == (RETURN, STACK + 24 + 8 * stuffed)


@pytest.mark.parametrize("described", [True, False])
@pytest.mark.parametrize("pushed", [(), (THUNK + 5,), (INTERRUPTED,)])
def test_a_thunk(pushed: tuple[int, ...], described: bool) -> None:
    """Linux 6.1's ORC has it for the outermost frame, and that of 6.12 says nothing of it."""
    rules = {THUNK: at_offset(FrameKind.END, 0, {})} if described else {}
    memory = {STACK: words(*pushed, RETURN, 0), **call(RETURN, THUNK), THUNK: bytes(16)}
    memory |= {INTERRUPTED - 7: bytes(7)}
    registers = {"rsp": STACK, "rbx": 3}
    caller = caller_of(
        Activation(machine_of(memory, Binary(rules)), registers, THUNK, interrupted=True)
    )
    assert (caller.pc, caller.registers["rbx"]) == (RETURN, 3)
    assert caller.registers["rsp"] == STACK + 8 + 8 * len(pushed)


def test_a_function_begins_where_a_return_address_points_that_nobody_has_left() -> None:
    rules = {SAVER: called(8), PLAIN: called(8)}
    machine = machine_of({STACK: words(PLAIN)}, Binary(rules))
    caller = caller_of(Activation(machine, {"rsp": STACK}, SAVER, interrupted=True))
    assert caller.lookup_pc == caller.pc == PLAIN
    assert caller.rules is rules[PLAIN]


# --- i386, without tables ---

CODE_32, STACK_32 = 0xC100_0000, 0xC200_1000
ENTRIES = (CODE_32, CODE_32 + 0x1000)
CPU_32 = {"cs": 0x60, "ss": 0x68, "eax": 1, "ebx": 2, "esi": 3, "edi": 4, "ebp": 5}


def interrupted_32(stack: bytes, **registers: int) -> Activation:
    machine = machine_of({STACK_32: stack, CODE_32: bytes(64)}, Binary({}), "i386", entries=ENTRIES)
    known = {**CPU_32, "esp": STACK_32, **registers}
    return caller_of(Activation(machine, known, CODE_32 + 0x10, interrupted=True))


@pytest.mark.parametrize("pushed", [0, 1, 2])
def test_what_an_interrupt_has_saved(pushed: int) -> None:
    frame = (CODE_32 + 0x4000, 0x60, 0x246)
    found = interrupted_32(words(*[7] * pushed, *frame, 0x11, 0x22, 0, 0, size=4))
    assert (found.pc, found.registers["cs"], found.registers["eflags"]) == frame
    assert found.registers["esp"] == STACK_32 + 4 * pushed + 12
    assert found.registers["ebx"] == 2
    assert "eax" not in found.registers


@pytest.mark.parametrize("eflags", [0x202, 0x200], ids=["saved", "of a new program"])
def test_an_entry_from_user_space_with_all_registers_saved(eflags: int) -> None:
    names = PT_REGS["i386"]
    values = {name: 0x100 + place for place, name in enumerate(names) if name}
    values |= {"cs": 0x73, "ss": 0x7B, "eflags": eflags, "eip": 0x0804_8000, "": 0}
    found = interrupted_32(words(*(values[name] for name in names), size=4))
    assert found.registers == {name: values[name] for name in names if name}


def test_an_entry_that_has_nothing_on_the_stack() -> None:
    with pytest.raises(EndOfStack, match="outermost") as end:
        interrupted_32(bytes(400))
    assert end.value.complete


# --- anything ---


@given(data=st.data())
def test_no_stack_and_no_code_does_harm(data: st.DataObject) -> None:
    places = [STACK, STACK + 8, RETURN, PLAIN + 0x30, THUNK + 5, INTERRUPTED, ENTRY + 3, 0]
    value = st.sampled_from(places) | st.integers(0, (1 << 64) - 1)
    stack = words(*data.draw(st.lists(value, max_size=40)))
    code = data.draw(st.binary(max_size=12))
    kinds = st.sampled_from([called, all_saved, partly_saved])
    offsets = st.integers(-20, 20).map(lambda number: 8 * number)
    pcs = [SAVER, ENTRY, THUNK, PLAIN]
    rules = {pc: data.draw(kinds)(data.draw(offsets)) for pc in pcs if data.draw(st.booleans())}
    rules |= {RETURN - 1: data.draw(kinds)(8)}
    pc = data.draw(st.sampled_from(pcs))
    registers = data.draw(st.dictionaries(st.sampled_from(["rax", "rsi", "rbp"]), value))
    memory = {STACK: stack, pc: code, **call(RETURN, pc)}
    machine = machine_of(
        memory, Binary(rules), entries=data.draw(st.sampled_from([None, (ENTRY, PLAIN)]))
    )
    frame = Activation(machine, {**registers, "rsp": STACK}, pc, interrupted=True)
    for _ in range(4):
        try:
            frame = caller_of(frame)
        except (EndOfStack, BadImage):
            return
        assert all(0 <= each < 1 << 64 for each in frame.registers.values())
