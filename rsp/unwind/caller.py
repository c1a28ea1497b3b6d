"""From the registers of an activation to those of its caller.

Contents: the step to the activation that called or interrupted another one, by call frame
information, then by ORC, decided anew at every step, then by the frame pointer. Not here: how often
to step, and what a frame shows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NoReturn

from rsp.symbols.unwind.rules import (
    AtCfa,
    AtExpression,
    FrameKind,
    InRegister,
    SameValue,
    Undefined,
    ValCfa,
    ValExpression,
    compute,
)
from rsp.unwind.activation import Activation, EndOfStack
from rsp.unwind.entry_code import NO_ENTRY_CODE
from rsp.unwind.frame_pointers import caller_by_frame_pointer
from rsp.unwind.saved_registers import Saved, SavedRegisters, unread

if TYPE_CHECKING:
    from rsp.symbols.unwind.rules import RegisterRule, UnwindRules
    from rsp.unwind.entry_code import EntryCode

# What is saved takes a whole word each; a vector register has more than one.
_MASKS = dict.fromkeys(("cs", "ss", "ds", "es", "fs", "gs"), 0xFFFF) | {"eflags": 0xFFFFFFFF}


def caller_of(frame: Activation, entry_code: EntryCode = NO_ENTRY_CODE) -> Activation:
    """Return the activation that called this one, or was interrupted by it.

    Args:
        frame: any activation.
        entry_code: what knows the code by which a kernel is entered and left.

    Raises:
        EndOfStack: there is none.
        BadImage: a file is damaged.
    """
    machine = frame.machine
    machine.memory.look_at(machine.stack_base + frame.known(machine.sp))
    thunk = entry_code.caller_of_thunk(frame)
    if thunk is not None:
        return thunk
    frame = entry_code.on_the_right_stack(frame)
    rules = frame.rules
    if rules is None:
        return caller_by_frame_pointer(frame, entry_code)
    if rules.kind is FrameKind.END:
        user = entry_code.user_space_behind(frame)
        if user is None:
            raise EndOfStack("the outermost frame", complete=True)
        return user
    cfa = frame.cfa()
    if cfa is None:
        raise EndOfStack("where the frame is on the stack cannot be told")
    machine.memory.look_at(cfa)  # which may be on another stack
    match rules.registers.get(rules.return_address):
        case AtCfa(offset):
            # With the pc of interrupted code goes cs, which tells whether that is the kernel's.
            words = 1 if rules.kind is FrameKind.CALL else 2
            machine.memory.expect(cfa + offset & machine.mask, words * machine.word_size)
    registers, unsaved = _follow(frame, rules, cfa)
    name = machine.names.get(rules.return_address, machine.pc)
    if isinstance(rules.registers.get(rules.return_address, Undefined()), Undefined):
        raise EndOfStack(
            "the outermost frame", complete=True
        )  # so it is marked (DWARF 5, section 6.4.4)
    pc = SavedRegisters(registers).get(name)
    if pc is None:
        _cannot_read(frame, rules, cfa)
    caller = Activation(
        machine,
        SavedRegisters({**registers, machine.pc: pc}),
        pc,
        interrupted=rules.signal_frame,
        unsaved=SavedRegisters(unsaved),
    )
    return entry_code.caller_before(frame, caller, cfa)


def _follow(
    frame: Activation, rules: UnwindRules, cfa: int
) -> tuple[dict[str, int | Saved], dict[str, int | Saved]]:
    """Return the caller's registers, and those that no rule speaks of."""
    machine = frame.machine
    registers: dict[str, int | Saved] = {}
    for register, rule in rules.registers.items():
        name = machine.names.get(register)
        value = _value(frame, register, rule, cfa) if name is not None else None
        if name is not None and value is not None:
            registers[name] = value
    unsaved = {}
    # Of loaded code, which is compiled, nothing tells what it has saved to use it otherwise.
    if rules.kind is FrameKind.CALL and not rules.signal_frame and frame.code is None:
        changed = {
            machine.names.get(register)
            for register, rule in rules.registers.items()
            if not isinstance(rule, SameValue)
        }
        unsaved = {
            name: value
            for name, value in {**unread(frame.unsaved), **unread(frame.registers)}.items()
            if name not in changed and name not in registers
        }
    return registers, unsaved


def _value(frame: Activation, register: int, rule: RegisterRule, cfa: int) -> int | Saved | None:
    """Return the caller's value of a register, or where it lies."""
    machine = frame.machine
    name = machine.names[register]
    mask = _MASKS.get(name, machine.mask)
    match rule:
        case SameValue():
            return unread(frame.registers).get(name)
        case AtCfa(offset):
            return Saved(partial(_read, frame, cfa + offset, mask))
    value = _computed(frame, rule, cfa)
    return None if value is None else value & mask


def _computed(frame: Activation, rule: RegisterRule, cfa: int) -> int | None:
    machine = frame.machine
    match rule:
        case ValCfa(offset):
            return cfa + offset & machine.mask
        case InRegister(other):
            return frame.register(other)
        case AtExpression(expression):
            found = compute(expression, frame, stack=(cfa,))
            return None if found is None else _read(frame, found, machine.mask)
        case ValExpression(expression):
            return compute(expression, frame, stack=(cfa,))
    return None


def _read(frame: Activation, address: int, mask: int) -> int | None:
    data = frame.machine.memory.read(address & frame.machine.mask, frame.machine.word_size)
    return None if data is None else int.from_bytes(data, "little") & mask


def _cannot_read(frame: Activation, rules: UnwindRules, cfa: int) -> NoReturn:
    match rules.registers.get(rules.return_address):
        case AtCfa(offset):
            address = cfa + offset & frame.machine.mask
            raise EndOfStack(f"memory at {address:#x} cannot be read")
    raise EndOfStack("the return address is not known")
