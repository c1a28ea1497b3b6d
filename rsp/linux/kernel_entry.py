"""The entry code of Linux: what ORC does not tell of the assembly of a 64-bit kernel.

This module is an `rsp.unwind.entry_code.EntryCode`. Contents: the entry that has called a function
which saves the registers for it, and the instructions at which ORC has the stack wrong. Not here:
code without tables (`pt_regs`), and frames in general (`rsp.unwind`).

An entry calls ``error_entry`` or ``paranoid_entry``, which put the registers *above* their own
return address (Linux arch/x86/entry/calling.h, PUSH_AND_CLEAR_REGS with save_ret=1). From then on
ORC's entries lead straight to the interrupted code: the kernel's unwinder needs no more. The
frame of the entry, which tells what interrupted, is found by the return address that these
functions keep in rsi, and then below the saved registers.

ORC is made from the file. Where a kernel has replaced instructions by others when it started, it
may not hold: in ``__switch_to_asm`` these fill the CPU's return stack by calls that never return
(arch/x86/include/asm/nospec-branch.h, FILL_RETURN_BUFFER).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.errors import SymbolNotFound
from rsp.linux.pt_regs import (
    PT_REGS,
    USER,
    entered_from,
    interrupt_frame,
    interrupted_at,
    interrupted_by,
)
from rsp.symbols.unwind.rules import FrameKind, RegisterOffset, numbers
from rsp.unwind.activation import Activation
from rsp.unwind.frame_pointers import call_target, is_behind_call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.symbols.unwind.rules import UnwindRules

__all__ = (
    "caller_before",
    "caller_of_thunk",
    "entered_from",
    "interrupted_by",
    "on_the_right_stack",
    "user_space_behind",
)

_MOV_RAX_RSP = b"\x48\x89\xc4"
_INT3 = b"\xcc"
_THUNKS = ("__x86_indirect_", "__x86_return_")
_MOST_PUSHED = 3
_KERNEL_HALF = 1 << 63
_USER_CS, _USER_DS = 0x33, 0x2B  # arch/x86/include/asm/segment.h
_USER_BITS = 56
"""An address in user space has no more, with five levels of page tables."""
_ALWAYS_SET = 1 << 1  # of eflags
_MOST_STUFFED = 32
"""So many entries are filled where that is not done in a loop."""

_SAVED = PT_REGS["x86-64"]
_ORC = frozenset(numbers("x86-64")[name] for name in ("rip", "rsp", "rbp"))
"""The registers that ORC has rules for at a call."""
_RSI, _RIP = 8 * _SAVED.index("rsi"), 8 * _SAVED.index("rip")


def _is_entry(rules: UnwindRules) -> bool:
    """Return whether the rules lead to interrupted code."""
    return rules.kind in (FrameKind.REGS, FrameKind.REGS_PARTIAL)


def on_the_right_stack(frame: Activation) -> Activation:
    """Return a frame with the stack pointer that its rules are right with.

    Raises:
        BadImage: the file is damaged there.
    """
    rules = frame.rules
    if rules is None or not frame.interrupted:
        return frame
    if rules.kind is FrameKind.REGS_PARTIAL:
        return _after_move(frame)
    if rules.kind is FrameKind.CALL and rules.registers.keys() == _ORC:
        return _without_stuffing(frame, rules)
    return frame


def _after_move(frame: Activation) -> Activation:
    """Return a frame as it is after ``mov %rax,%rsp``, if that is next; else as it is.

    So an entry takes the stack that error_entry has chosen. ORC has the stack there as before the
    call of error_entry, which returns with the saved registers on it.
    """
    machine = frame.machine
    stack = frame.registers.get("rax")
    size = len(_MOV_RAX_RSP)
    if stack is None or machine.memory.read(frame.pc, size) != _MOV_RAX_RSP:
        return frame
    registers = {**frame.registers, machine.sp: stack}
    after = Activation(machine, registers, frame.pc + size, interrupted=True)
    return after if after.rules is not None and after.rules.kind is FrameKind.REGS else frame


def _without_stuffing(frame: Activation, rules: UnwindRules) -> Activation:
    """Return a frame without the return addresses that are on its stack for the CPU's sake.

    Where that leads to no caller either, the rules of the code before or behind may.
    """
    machine, sp = frame.machine, frame.sp
    match rules.cfa:
        case RegisterOffset(register, offset) if machine.names.get(register) == machine.sp:
            pass
        case _:
            return frame
    if _returns(frame, sp + offset):
        return frame
    for _ in range(_MOST_STUFFED):
        pc = _word(frame, sp)
        if pc is None or call_target(frame, pc) != pc + len(_INT3):
            break
        sp += machine.word_size
    for link_pc in (frame.link_pc, rules.begin - 1, rules.end):
        other = frame.binary.unwind_rules(link_pc) if frame.binary is not None else None
        match other.cfa if other is not None else None:
            case RegisterOffset(base, depth) if base == register and _returns(frame, sp + depth):
                registers = {**frame.registers, machine.sp: sp + depth - offset}
                return Activation(machine, registers, frame.pc, interrupted=True)
    return frame


def _returns(frame: Activation, cfa: int) -> bool:
    """Return whether what is below an address can be a return address."""
    pc = _word(frame, cfa - frame.machine.word_size)
    if pc is None:
        return False
    caller = Activation(frame.machine, {}, pc, interrupted=False)
    return caller.rules is not None and (caller.lookup_pc == pc or is_behind_call(frame, pc))


def caller_of_thunk(frame: Activation) -> Activation | None:
    """Return who has called the thunk for indirect jumps that a frame is of; None if it is of none.

    ORC has these for the outermost frame (arch/x86/lib/retpoline.S, Linux 6.1), or says nothing of
    them ahead of their call (Linux 6.12). They leave all registers as they are; on the stack, they
    may have addresses of their own and of where they go.

    Raises:
        BadImage: the file is damaged there.
    """
    machine, rules = frame.machine, frame.rules
    if frame.binary is None or not frame.interrupted:
        return None
    if rules is not None and rules.registers and rules.registers.keys() != _ORC:
        return None
    function = frame.binary.lookup(frame.link_pc)
    if function is None or not function.name.startswith(_THUNKS):
        return None
    own = range(function.address, function.address + function.size)
    for place in range(_MOST_PUSHED):
        at = frame.sp + place * machine.word_size
        pc = _word(frame, at)
        if pc is not None and pc - frame.slide not in own and is_behind_call(frame, pc):
            registers = {**frame.registers, machine.pc: pc, machine.sp: at + machine.word_size}
            return Activation(machine, registers, pc, interrupted=False)
    return None


def user_space_behind(frame: Activation) -> Activation | None:
    """Return user space where an interrupt is about to return to it; None elsewhere.

    ORC ends there, as it does where a system call begins and ends. What the CPU pops is copied to
    the top of another stack, from where rdi points: rdi itself, a word that is left out, and the
    five of the CPU (swapgs_restore_regs_and_return_to_usermode). Page tables are changed with rax
    saved below.

    Raises:
        BadImage: the file is damaged there.
    """
    machine, rules = frame.machine, frame.rules
    if rules is None or rules.kind is not FrameKind.END or not frame.interrupted:
        return None
    if not frame.pc & _KERNEL_HALF:
        return None
    if (caller := _caller_of_system(frame)) is not None:
        return caller
    size, sp = machine.word_size, frame.sp
    source = frame.registers.get("rdi", 0)
    for at, saved in (
        (source + 2 * size, {"rdi": source}),
        (sp, {}),
        (sp + size, {"rdi": sp}),
        (sp + 2 * size, {"rdi": sp + size, "rax": sp}),
    ):
        words = [_word(frame, at + place * size) for place in range(5)]
        found = interrupt_frame(frame, [word for word in words if word is not None])
        if found is None or found["cs"] & USER != USER:
            continue
        others = {name: _word(frame, place) for name, place in saved.items()}
        known = {name: value for name, value in others.items() if value is not None}
        registers = {**frame.registers, **found, **known}
        return Activation(machine, registers, found[machine.pc], interrupted=True)
    return None


def _caller_of_system(frame: Activation) -> Activation | None:
    """Return who makes a system call, while ``syscall`` and ``sysret`` have it in registers.

    That is rcx and r11 (SDM volume 2B). Of others only what no instruction there uses is known.
    """
    machine = frame.machine
    if machine.symbols is None:
        return None
    try:
        entry = machine.symbols["entry_SYSCALL_64"]
        leaving = machine.symbols["syscall_return_via_sysret"].address
    except SymbolNotFound:
        return None
    if not entry.address <= frame.pc < entry.address + entry.size:
        return None
    pc, flags = frame.registers.get("rcx"), frame.registers.get("r11")
    if pc is None or pc >> _USER_BITS or flags is None or not flags & _ALWAYS_SET:
        return None
    used = {"rsp"} if frame.pc < leaving else {"rsp", "rdi", "rax"}
    if frame.pc == entry.address:
        used = set()
    registers = {name: value for name, value in frame.registers.items() if name not in used}
    registers |= {"rip": pc, "eflags": flags, "cs": _USER_CS, "ss": _USER_DS}
    return Activation(machine, registers, pc, interrupted=True)


def caller_before(frame: Activation, caller: Activation, cfa: int) -> Activation:
    """Return the entry that a frame was called by, with all registers that it has.

    Args:
        frame: any.
        caller: what its rules lead to, which is returned where that is right.
        cfa: by its rules.

    Raises:
        BadImage: the file is damaged there.
    """
    rules = frame.rules
    assert rules is not None
    if _is_entry(rules):
        if frame.interrupted and rules.kind is FrameKind.REGS_PARTIAL and _is_nmi(frame):
            # It works with rdx before it has saved that where the others go.
            known = {name: each for name, each in caller.registers.items() if name != "rdx"}
            return Activation(frame.machine, known, caller.pc, interrupted=True)
        saved = _RIP if rules.kind is FrameKind.REGS else 0
        pc = next((pc for pc in _kept(frame, cfa) if _has_called(frame, pc)), None)
        return caller if pc is None else _entry(frame, pc, caller, cfa + saved) or caller
    if caller.rules is None or caller.rules.kind is not FrameKind.REGS_PARTIAL:
        return caller
    owner: Activation | None = frame
    interrupt_frame = caller.cfa()
    if not frame.interrupted or not _has_called(frame, caller.pc):
        # It is what error_entry has ended in a jump to (sync_regs, in 6.12 for example), with all
        # registers saved above its return address.
        owner, interrupt_frame = interrupted_at(frame, cfa), cfa + _RIP
    if owner is None or interrupt_frame is None:
        return caller
    return _entry(frame, caller.pc, owner, interrupt_frame) or caller


def _is_nmi(frame: Activation) -> bool:
    symbol = frame.binary.lookup(frame.link_pc) if frame.binary is not None else None
    return symbol is not None and symbol.name.endswith("nmi")


def _kept(frame: Activation, cfa: int) -> Iterator[int]:
    """Yield what may be the return address of a function that has saved the registers."""
    below = cfa - frame.machine.word_size
    if below >= frame.sp and (pc := _word(frame, below)) is not None:
        yield pc
    if frame.interrupted and (pc := frame.registers.get("rsi")) is not None:
        yield pc


def _has_called(frame: Activation, pc: int) -> bool:
    """Return whether the instruction before an address calls the function of a frame."""
    binary = frame.binary
    function = binary.lookup(frame.link_pc) if binary is not None else None
    return function is not None and call_target(frame, pc) == function.address + frame.slide


def _word(frame: Activation, address: int) -> int | None:
    data = frame.machine.memory.read(address, frame.machine.word_size)
    return int.from_bytes(data, "little") if data is not None else None


def _entry(
    frame: Activation, pc: int, registers_of: Activation, interrupt_frame: int
) -> Activation | None:
    """Return the entry that returns are made to at ``pc``; None if it is none.

    Args:
        frame: that it called.
        pc: the return address.
        registers_of: who has its registers, other than those that tell where it is.
        interrupt_frame: where the CPU has saved rip and what follows.
    """
    machine = frame.machine
    registers = {
        name: value
        for name, value in registers_of.registers.items()
        if name not in ("cs", "ss", "eflags")
    }
    if registers.get("rsi") == pc:  # until the function has saved that address, too
        saved = _word(frame, interrupt_frame + _RSI - _RIP)
        if saved is None:
            return None
        registers["rsi"] = saved
    registers[machine.pc] = pc
    rules = Activation(machine, registers, pc, interrupted=False).rules
    if rules is None or rules.kind is not FrameKind.REGS_PARTIAL:
        return None
    match rules.cfa:
        case RegisterOffset(_, offset):
            registers[machine.sp] = interrupt_frame - offset
            return Activation(machine, registers, pc, interrupted=False)
    return None
