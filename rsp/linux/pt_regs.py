"""What a kernel saves of the code that it interrupts: ``struct pt_regs``.

Contents: its layout, what the CPU itself saves of it, and how it is found where no table covers the
code: in the entry code of 32-bit kernels, by a marked frame pointer, above a call into C. Not here:
ORC (`kernel_entry`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.errors import SymbolNotFound
from rsp.unwind.activation import Activation, EndOfStack
from rsp.unwind.frame_pointers import CALLEE_SAVED, FARTHEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rsp.unwind.activation import Machine

# Linux arch/x86/include/asm/ptrace.h, struct pt_regs; "" is a word that no register is in.
PT_REGS: Mapping[str, tuple[str, ...]] = {
    "x86-64": (
        *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"),
        *("rax", "rcx", "rdx", "rsi", "rdi", "", "rip", "cs", "eflags", "rsp", "ss"),
    ),
    "i386": (
        # Where gs is in the structure, entries keep something else.
        *("ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "", ""),
        *("eip", "cs", "eflags", "esp", "ss"),
    ),
}
USER = 3
"""The privilege of a selector of user space."""
_COPY = b"\xc1\xe9\x02\xfc\xf3\xa5"
_COPY_STEPS = (0, 3, 4)
"""shr $2,%ecx; cld; rep movsl: by then the stack pointer is the copy's."""
_DEEPEST_ENTRY = 40
"""In how many words the CPU's part of a struct pt_regs begins: a whole one, and half a copy."""
_FROM_KERNEL = 1 << 29
# Of eflags bits 3, 5, 15 and those from 22 on are 0, and bit 1 is 1 (Intel SDM volume 1, 3.4.3).
_RESERVED_FLAGS, _RESERVED_ONE = 0xFFFFFFFF_FFC0802A, 0x2
_INTERRUPTS = 1 << 9
_SELECTORS = frozenset(("cs", "ss", "ds", "es", "fs", "gs"))


def entered_from(frame: Activation, sp: int) -> Activation | None:
    """Return what the entry code without tables that a frame is in has interrupted.

    That is told by what the CPU has saved above the stack pointer. Below it, a part of a
    ``struct pt_regs`` may lie already, or still.

    Raises:
        EndOfStack: nothing of the kind is on the stack.
    """
    if not _is_entry(frame):
        return None
    machine = frame.machine
    size, names = machine.word_size, PT_REGS[machine.arch]
    rest = names.index(machine.pc)
    sp = _before_copy(frame, sp)
    for place in range(_DEEPEST_ENTRY):
        at = sp + place * size
        data = machine.memory.read(at, 5 * size)
        if data is None:
            break
        words = [
            int.from_bytes(data[each : each + size], "little") for each in range(0, 5 * size, size)
        ]
        found = interrupt_frame(frame, words)
        if found is None:
            continue
        if place >= rest:
            saved = interrupted_at(frame, at - rest * size)
            found = {**saved.registers, **found} if saved is not None else found
        else:
            for name in CALLEE_SAVED[machine.arch]:
                slot = at - (rest - names.index(name)) * size
                is_saved = slot >= sp and machine.sp in found
                value = machine.read_word(slot) if is_saved else frame.registers.get(name)
                if value is not None:
                    found[name] = value
        found.setdefault(machine.sp, at + 3 * size)
        return Activation(machine, found, found[machine.pc], interrupted=True)
    raise EndOfStack("the outermost frame", complete=True)


def _is_entry(frame: Activation) -> bool:
    """Return whether a frame is in the code by which a kernel is entered and left."""
    machine = frame.machine
    symbols = machine.symbols
    if symbols is None or not frame.interrupted or machine.word_size == 2:
        return False
    if frame.binary is None or not frame.pc & _highest(machine):
        return False
    try:
        begin, end = (symbols[f"__entry_text_{which}"].address for which in ("start", "end"))
    except SymbolNotFound:
        return False
    return begin <= frame.pc < end


def _before_copy(frame: Activation, sp: int) -> int:
    """Return where the registers are that are just being copied to another stack, else ``sp``.

    On i386 the entry does so by itself (Linux arch/x86/entry/entry_32.S, SWITCH_TO_KERNEL_STACK).
    """
    code = frame.machine.memory.read(frame.pc, len(_COPY))
    source, to = (frame.registers.get(name) for name in ("esi", "edi"))
    if code is None or source is None or to is None:
        return sp
    return source - (to - sp) if any(code.startswith(_COPY[at:]) for at in _COPY_STEPS) else sp


def interrupted_by(frame: Activation, sp: int, fp: int | None) -> Activation | None:
    """Return the code whose registers are saved at the stack pointer, or where ``fp`` marks."""
    return _user_registers(frame, sp) or (_marked(frame, fp) if fp is not None else None)


def _user_registers(frame: Activation, sp: int) -> Activation | None:
    """Return the code in user space that has called a kernel, if its registers are at ``sp``.

    There they are when the code of the entry calls into C (Linux arch/x86/entry/entry_32.S).
    """
    machine = frame.machine
    if machine.word_size == 2 or not frame.pc & _highest(machine):
        return None
    found = interrupted_at(frame, sp)
    if found is None:
        return None
    is_user = found.registers["cs"] & found.registers["ss"] & USER == USER
    return found if is_user and _are_flags(found.registers["eflags"], is_user=True) else None


def _marked(frame: Activation, fp: int) -> Activation | None:
    """Return the interrupted code where the frame pointer stands for a ``struct pt_regs``.

    Kernels built with frame pointers set bit 0 of it then, on i386 they clear the highest bit
    (Linux arch/x86/kernel/unwind_frame.c, decode_frame_pointer).
    """
    machine = frame.machine
    highest = _highest(machine)
    if machine.word_size == 2 or not frame.pc & highest:  # a kernel is in the upper half
        return None
    mark = 1 if machine.word_size == 8 else highest
    if fp & mark != mark & 1:
        return None
    at = fp ^ mark
    return interrupted_at(frame, at) if 0 <= at - frame.sp <= FARTHEST else None


def interrupt_frame(frame: Activation, words: Sequence[int]) -> dict[str, int] | None:
    """Return the registers that a CPU saves, if these can be they.

    Without a change of privilege a 32-bit CPU saves no stack pointer; Linux adds it, and sets a bit
    in the upper half of cs (arch/x86/entry/entry_32.S, FIXUP_FRAME).
    """
    machine = frame.machine
    if len(words) < 5:
        return None
    pc, selector, flags, sp, stack = words
    cs = selector & 0xFFFF
    is_user = cs & stack & USER == USER and not stack >> 16
    if not _are_flags(flags, is_user=is_user) or selector >> 32:
        return None
    if not is_user and (cs != frame.registers.get("cs") or machine.owner_of(pc) is None):
        return None
    found = {machine.pc: pc, "cs": cs, "eflags": flags}
    added = selector & _FROM_KERNEL and stack == frame.registers.get("ss")
    if is_user or added or machine.word_size == 8:
        found |= {machine.sp: sp, "ss": stack & 0xFFFF}
    return found


def _are_flags(flags: int, *, is_user: bool) -> bool:
    """Return whether a word can be eflags.

    Those of a new program a kernel makes itself, without the bit that is always 1 (start_thread).
    """
    reserved = flags & _RESERVED_FLAGS
    is_new = is_user and not reserved and flags & _INTERRUPTS
    return reserved == _RESERVED_ONE or bool(is_new)


def interrupted_at(frame: Activation, at: int) -> Activation | None:
    """Return the code whose registers are saved as a ``struct pt_regs``; None if unreadable."""
    machine = frame.machine
    names = PT_REGS[machine.arch]
    size = machine.word_size
    data = machine.memory.read(at, len(names) * size)
    if data is None:
        return None
    registers = {}
    for place, name in enumerate(names):
        value = int.from_bytes(data[place * size : (place + 1) * size], "little")
        if name:
            registers[name] = value & 0xFFFF if name in _SELECTORS else value
    return Activation(machine, registers, registers[machine.pc], interrupted=True)


def _highest(machine: Machine) -> int:
    return 1 << 8 * machine.word_size - 1
