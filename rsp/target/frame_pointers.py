"""The step to a caller where no table covers the code: by the frame pointer, if it looks like one.

Here live: the layout that ``push %ebp; mov %esp,%ebp`` leaves on the stack, in 64, 32 and 16 bits,
the prologue that has not come so far, and the registers that a kernel saves on an entry and marks
in the frame pointer. Here must not live: tables (`unwinder`).

A frame pointer is a guess: any code may use the register for something else. It is believed where
it points upwards from the stack pointer, to a return address that is behind a call instruction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.arch.flags import EFlags
from rsp.target.unwinder import Activation, EndOfStack

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rsp.target.unwinder import Machine

_FARTHEST = 1 << 20
"""How far above the stack pointer a frame may end; a kernel's whole stack has 8 or 16 KiB."""

_ENDBR = (b"\xf3\x0f\x1e\xfa", b"\xf3\x0f\x1e\xfb")
_PUSH = b"\x55"
_MOVES = {8: (b"\x48\x89\xe5", b"\x48\x8b\xec")}
_MOVES_SHORT = (b"\x89\xe5", b"\x8b\xec")
_PROLOGUE = 8
_LONGEST_CALL = 7

# Linux arch/x86/include/asm/ptrace.h, struct pt_regs; "" is a word that no register is in.
PT_REGS: Mapping[str, tuple[str, ...]] = {
    "x86-64": (
        *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"),
        *("rax", "rcx", "rdx", "rsi", "rdi", "", "rip", "cs", "eflags", "rsp", "ss"),
    ),
    "i386": (
        *("ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", ""),
        *("eip", "cs", "eflags", "esp", "ss"),
    ),
}
_USER = 3
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
    depth = _prologue(frame)
    if depth is not None:
        return _behind_call(frame, sp + depth, fp)
    saved = _user_registers(frame, sp) or (fp is not None and _saved_registers(frame, fp))
    if saved:
        return saved
    if fp is not None and sp <= fp <= sp + _FARTHEST:
        return _behind_call(frame, fp + machine.word_size, machine.read_word(fp))
    if fp == 0:  # so the outermost frame marks itself (System V ABI, AMD64, section 3.4.1)
        raise EndOfStack(f"the frame pointer is 0 at {frame.pc:#x}", complete=True)
    raise EndOfStack(f"{_unknown(frame)}, and there is no frame pointer")


def _unknown(frame: Activation) -> str:
    return f"nothing says how to unwind from {frame.pc:#x}" + (
        f" ({frame.damage})" if frame.damage else ""
    )


def _prologue(frame: Activation) -> int | None:
    """Return how far above the stack pointer the return address is, where that is still to tell.

    The function must begin as usual, and the pc be before the frame pointer is set.
    """
    machine = frame.machine
    if frame.binary is None or not frame.interrupted:
        return None
    symbol = frame.binary.lookup(frame.link_pc)
    if symbol is None or not 0 <= frame.link_pc - symbol.address < _PROLOGUE:
        return None
    done = frame.link_pc - symbol.address
    if done == 0:
        return 0
    code = machine.memory.read(frame.pc - done, _PROLOGUE)
    if code is None:
        return None
    begin = 4 if code.startswith(_ENDBR) else 0
    moves = _MOVES.get(machine.word_size, _MOVES_SHORT)
    if code[begin : begin + 1] != _PUSH or not code[begin + 1 :].startswith(moves):
        return None
    if done <= begin:
        return 0
    return machine.word_size if done == begin + 1 else None


def _behind_call(frame: Activation, at: int, fp: int | None) -> Activation:
    """Return the caller with the return address at ``at``."""
    machine = frame.machine
    offset = machine.read_word(at)
    if offset == 0:
        raise EndOfStack("the return address is 0", complete=True)
    pc = machine.code_base + offset
    if not _is_behind_call(frame, pc):
        raise EndOfStack(
            f"{_unknown(frame)}, and {pc:#x} at {machine.stack_base + at:#x} is no return address"
        )
    registers = {machine.pc: offset, machine.sp: at + machine.word_size & machine.mask}
    if fp is not None:
        registers[machine.fp] = fp
    return Activation(machine, registers, pc, interrupted=False)


def _is_behind_call(frame: Activation, pc: int) -> bool:
    r"""Return whether an address is behind a call (Intel SDM volume 2A, CALL: E8, FF /2)."""
    code = frame.machine.memory.read(pc - _LONGEST_CALL, _LONGEST_CALL)
    if code is None:
        return False
    relative = 3 if frame.machine.word_size == 2 else 5
    if code[-relative] == 0xE8:
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
    return found if is_user and found.registers["eflags"] & EFlags.IF else None


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
