"""The step to a caller where no table covers the code: by the frame pointer, if it looks like one.

Contents: the layout that ``push %ebp; mov %esp,%ebp`` leaves on the stack, in 64, 32 and 16 bits,
and the prologue that has not come so far. Not here: tables (`caller`), and what a kernel saves
where it is entered (`entry_code`).

A frame pointer is a guess: any code may use the register for something else. It is believed where
it points upwards from the stack pointer, to a return address that is behind a call instruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.errors import BadImage, RspError
from rsp.unwind.activation import Activation, EndOfStack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rsp.unwind.entry_code import EntryCode

FARTHEST: Final = 1 << 20
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

CALLEE_SAVED: Final[Mapping[str, tuple[str, ...]]] = {
    "x86-64": ("rbx", "rbp", "r12", "r13", "r14", "r15"),
    "i386": ("ebx", "ebp", "esi", "edi"),
}
"""The registers that a function leaves as they are."""


def caller_by_frame_pointer(frame: Activation, entry_code: EntryCode) -> Activation:
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
    if (entered := entry_code.entered_from(frame, sp)) is not None:
        return entered
    returns = _without_frame(frame, sp)
    if returns is not None:
        at, pushed = returns
        return _behind_call(frame, at, machine.read_word(pushed) if pushed is not None else fp)
    if (interrupted := entry_code.interrupted_by(frame, sp, fp)) is not None:
        return interrupted
    if fp is not None and sp <= fp <= sp + FARTHEST:
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
        name: value for name, value in frame.registers.items() if name in CALLEE_SAVED[machine.arch]
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
