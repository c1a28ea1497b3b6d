"""The step to a caller where no table covers the code: by the frame pointer, if it looks like one.

Here live: the layout that ``push %ebp; mov %esp,%ebp`` leaves on the stack, in 64, 32 and 16 bits,
the prologue that has not come so far, and the registers that a kernel saves on an entry and marks
in the frame pointer, or is about to save. Here must not live: tables (`unwinder`).

A frame pointer is a guess: any code may use the register for something else. It is believed where
it points upwards from the stack pointer, to a return address that is behind a call instruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.errors import BadImage, RspError, SymbolNotFound
from rsp.target.unwinder import Activation, EndOfStack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rsp.target.unwinder import Machine

_FARTHEST = 1 << 20
"""How far above the stack pointer a frame may end; a kernel's whole stack has 8 or 16 KiB."""

_ENDBR = (b"\xf3\x0f\x1e\xfa", b"\xf3\x0f\x1e\xfb")
_PUSH = b"\x55"
_MOVES = {8: (b"\x48\x89\xe5", b"\x48\x8b\xec")}
_MOVES_SHORT = (b"\x89\xe5", b"\x8b\xec")
_PROLOGUE = 8
_RETURNS = (b"\xc3", b"\xc2")
_CALL = 0xE8
_MOST_PUSHED = 16
_LONGEST_CALL = 7

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
_USER = 3
_CALLEE_SAVED = {
    "x86-64": ("rbx", "rbp", "r12", "r13", "r14", "r15"),
    "i386": ("ebx", "ebp", "esi", "edi"),
}
_COPY = b"\xc1\xe9\x02\xfc\xf3\xa5"
_COPY_STEPS = (0, 3, 4)
"""shr $2,%ecx; cld; rep movsl: by then the stack pointer is the copy's."""
_DEEPEST_ENTRY = 40
"""In how many words the CPU's part of a struct pt_regs begins: a whole one, and half a copy."""
_FROM_KERNEL = 1 << 29
# Of eflags bits 3, 5, 15 and those from 22 on are 0, and bit 1 is 1 (Intel SDM volume 1, 3.4.3).
_RESERVED_FLAGS, _RESERVED_ONE = 0xFFFFFFFF_FFC0802A, 0x2
_SELECTORS = frozenset(("cs", "ss", "ds", "es", "fs", "gs"))


def caller_by_frame_pointer(frame: Activation) -> Activation:
    """Return the caller's activation.

    Raises:
        EndOfStack: there is no frame pointer, or what it points to is no frame.
    """
    machine = frame.machine
    sp, fp = frame.sp, frame.registers.get(machine.fp)
    if machine.word_size == 2:  # the upper halves of the registers mean nothing there
        sp, fp = sp & machine.mask, fp and fp & machine.mask
    wild = _behind_wild_call(frame, sp)
    if wild is not None:
        return wild
    if _is_entry(frame):
        return _entered_from(frame, sp)
    returns = _without_frame(frame, sp)
    if returns is not None:
        at, pushed = returns
        return _behind_call(frame, at, machine.read_word(pushed) if pushed is not None else fp)
    saved = _user_registers(frame, sp) or (fp is not None and _saved_registers(frame, fp))
    if saved:
        return saved
    if fp is not None and sp <= fp <= sp + _FARTHEST:
        return _behind_call(frame, fp + machine.word_size, machine.read_word(fp))
    if fp == 0:  # so the outermost frame marks itself (System V ABI, AMD64, section 3.4.1)
        raise EndOfStack(f"the frame pointer is 0 at {frame.pc:#x}", complete=True)
    raise EndOfStack(f"{_unknown(frame)}, and there is no frame pointer")


def _behind_wild_call(frame: Activation, sp: int) -> Activation | None:
    """Return who has called an address that no code is at, by a null pointer for example."""
    machine = frame.machine
    if not frame.interrupted or machine.symbols is None or machine.word_size == 2:
        return None
    data = machine.memory.read(sp, machine.word_size)
    if data is None or machine.owner_of(int.from_bytes(data, "little")) is None:
        return None
    if machine.memory.read(frame.pc, 1) is not None:
        return None
    fp = frame.registers.get(machine.fp)
    caller = _behind_call(frame, sp, fp)
    known = {
        name: value
        for name, value in frame.registers.items()
        if name in _CALLEE_SAVED[machine.arch]
    }
    return Activation(
        machine,
        {**known, **caller.registers},
        caller.pc,
        interrupted=False,
        unsaved=frame.registers,
    )


def _unknown(frame: Activation) -> str:
    return f"nothing says how to unwind from {frame.pc:#x}" + (
        f" ({frame.damage})" if frame.damage else ""
    )


def _without_frame(frame: Activation, sp: int) -> tuple[int, int | None] | None:
    """Return where the return address is of a function that has set no frame pointer.

    Either its prologue has not come so far, or it returns with the next instruction, or it is
    assembly that does without. Then what is above the stack pointer is believed where it is behind
    a call of this very function.

    Returns:
        Where the return address is, and where the frame pointer has been saved, None if that is
        what it was; or None if the function has a frame, or that cannot be told.
    """
    machine = frame.machine
    start = _begin(frame) if frame.interrupted else None
    if start is None:
        return None
    done = frame.pc - start
    code = machine.memory.read(start, _PROLOGUE)
    if code is None:
        return None
    begin = 4 if code.startswith(_ENDBR) else 0
    has_pushed = code[begin : begin + 1] == _PUSH and done > begin
    end = begin + has_pushed
    moves = _MOVES.get(machine.word_size, _MOVES_SHORT)
    has_frame = done > end and code.startswith(moves, end)
    returns = machine.memory.read(frame.pc, 1) in _RETURNS
    if has_frame and not returns:
        return None
    for place in range(_MOST_PUSHED):
        at = sp + place * machine.word_size
        try:
            pc = machine.code_base + machine.read_word(at)
        except EndOfStack:
            return None
        if returns and place == 0 and is_behind_call(frame, pc):
            return at, None
        if has_frame:
            return None
        if call_target(frame, pc) == start:
            return at, at - machine.word_size if has_pushed else None
        if place == has_pushed and done <= end and is_behind_call(frame, pc):
            return at, sp if has_pushed else None
    # Assembly that changes to a task which has not run yet returns to where that begins.
    for place in range(_MOST_PUSHED if _is_assembly(frame, frame.pc) else 0):
        at = sp + place * machine.word_size
        if _begins_assembly(frame, machine.read_word(at)):
            return at, at - machine.word_size if has_pushed else None
    return None


def _begin(frame: Activation) -> int | None:
    """Return where the function of a frame begins, None where no symbol tells."""
    if frame.binary is not None:
        symbol = frame.binary.lookup(frame.link_pc)
        return None if symbol is None else symbol.address + frame.slide
    try:
        found = frame.code.symbol_at(frame.lookup_pc) if frame.code is not None else None
    except RspError:
        return None
    return None if found is None else found[1]


def _is_assembly(frame: Activation, pc: int) -> bool:
    """Return whether code of the frame's file is of no function that a compiler tells of."""
    binary, link_pc = frame.binary, pc - frame.slide
    if binary is None:
        return False
    section = binary.image.section_at(link_pc)
    try:
        return section is not None and section.executable and not binary.frames(link_pc)
    except BadImage:
        return False


def _begins_assembly(frame: Activation, pc: int) -> bool:
    """Return whether assembly of the same file begins at an address, as ret_from_fork does."""
    if frame.binary is None or not _is_assembly(frame, pc):
        return False
    symbol = frame.binary.lookup(pc - frame.slide)
    return symbol is not None and symbol.address == pc - frame.slide


def call_target(frame: Activation, pc: int) -> int | None:
    """Return where the call before an address goes; None if none is there in the frame's file."""
    owner = frame.machine.owner_of(pc)
    if owner is None or owner not in (frame.binary, frame.code):
        return None
    size = 3 if frame.machine.word_size == 2 else 5
    code = frame.machine.memory.read(pc - size, size)
    if code is None or code[0] != _CALL:
        return None
    return pc + int.from_bytes(code[1:], "little", signed=True)


def _behind_call(frame: Activation, at: int, fp: int | None) -> Activation:
    """Return the caller with the return address at ``at``."""
    machine = frame.machine
    offset = machine.read_word(at)
    if offset == 0:
        raise EndOfStack("the return address is 0", complete=True)
    pc = machine.code_base + offset
    begins = _is_assembly(frame, frame.pc) and _begins_assembly(frame, pc)
    if not begins and not is_behind_call(frame, pc):
        raise EndOfStack(
            f"{_unknown(frame)}, and {pc:#x} at {machine.stack_base + at:#x} is no return address"
        )
    registers = {machine.pc: offset, machine.sp: at + machine.word_size & machine.mask}
    if fp is not None:
        registers[machine.fp] = fp
    caller = Activation(machine, registers, pc, interrupted=False)
    if begins:
        caller.lookup_pc = pc  # nothing has been called before it
    return caller


def is_behind_call(frame: Activation, pc: int) -> bool:
    r"""Return whether an address is behind a call (Intel SDM volume 2A, CALL: E8, FF /2)."""
    code = frame.machine.memory.read(pc - _LONGEST_CALL, _LONGEST_CALL)
    if code is None:
        return False
    relative = 3 if frame.machine.word_size == 2 else 5
    if code[-relative] == _CALL:
        return True
    # FF /2 with a ModRM byte, and no, one or four bytes behind it, or a SIB byte before those.
    return any(code[-size] == 0xFF and code[1 - size] >> 3 & 7 == 2 for size in range(2, 8))


def _saved_registers(frame: Activation, fp: int) -> Activation | None:
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
    return interrupted_at(frame, at) if 0 <= at - frame.sp <= _FARTHEST else None


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
    is_user = found.registers["cs"] & found.registers["ss"] & _USER == _USER
    flags = found.registers["eflags"]
    return found if is_user and flags & _RESERVED_FLAGS == _RESERVED_ONE else None


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


def _entered_from(frame: Activation, sp: int) -> Activation:
    """Return the code that was interrupted, by what the CPU has saved above the stack pointer.

    Below that a part of a ``struct pt_regs`` may lie already, or still.
    """
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
            for name in _CALLEE_SAVED[machine.arch]:
                slot = at - (rest - names.index(name)) * size
                is_saved = slot >= sp and machine.sp in found
                value = machine.read_word(slot) if is_saved else frame.registers.get(name)
                if value is not None:
                    found[name] = value
        found.setdefault(machine.sp, at + 3 * size)
        return Activation(machine, found, found[machine.pc], interrupted=True)
    raise EndOfStack("the outermost frame", complete=True)


def _before_copy(frame: Activation, sp: int) -> int:
    """Return where the registers are that are just being copied to another stack, else ``sp``.

    On i386 the entry does so by itself (Linux arch/x86/entry/entry_32.S, SWITCH_TO_KERNEL_STACK).
    """
    code = frame.machine.memory.read(frame.pc, len(_COPY))
    source, to = (frame.registers.get(name) for name in ("esi", "edi"))
    if code is None or source is None or to is None:
        return sp
    return source - (to - sp) if any(code.startswith(_COPY[at:]) for at in _COPY_STEPS) else sp


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
    is_user = cs & stack & _USER == _USER and not stack >> 16
    if flags & _RESERVED_FLAGS != _RESERVED_ONE or selector >> 32:
        return None
    if not is_user and (cs != frame.registers.get("cs") or machine.owner_of(pc) is None):
        return None
    found = {machine.pc: pc, "cs": cs, "eflags": flags}
    added = selector & _FROM_KERNEL and stack == frame.registers.get("ss")
    if is_user or added or machine.word_size == 8:
        found |= {machine.sp: sp, "ss": stack & 0xFFFF}
    return found


def _highest(machine: Machine) -> int:
    return 1 << 8 * machine.word_size - 1


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
