"""Where a task goes on that sleeps: what a backtrace of it begins with.

Contents: what the switch from one task to another leaves on a kernel's stack. A task that does not
run has no registers but those; stubs show zeros for it, or nothing. What is there is told by the
kernel's types, never by its version.

Sources: Linux arch/x86/include/asm/switch_to.h (``struct inactive_task_frame``, from 4.9; before
that the assembly of ``switch_to``), arch/x86/entry/entry_64.S and entry_32.S (``__switch_to_asm``,
``ret_from_fork``).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from rsp.arch.layout import Role
from rsp.errors import SymbolError, SymbolNotFound
from rsp.linux.records import Record, has_member
from rsp.unwind.resumption import Resumption

if TYPE_CHECKING:
    from rsp.arch.registers import Registers
    from rsp.frames.backtrace import Backtrace
    from rsp.inferior.inferior import Inferior
    from rsp.symbols.table import SymbolTable
    from rsp.values.value import Value

_FRAME: Final = "struct inactive_task_frame"

# Its members, and the register that each is popped into.
_SAVED: Final = {
    8: {
        "flags": "eflags",
        "r15": "r15",
        "r14": "r14",
        "r13": "r13",
        "r12": "r12",
        "bx": "rbx",
        "bp": "rbp",
    },
    4: {"flags": "eflags", "si": "esi", "di": "edi", "bx": "ebx", "bp": "ebp"},
}
_RETURN: Final = "ret_addr"
_NAMES: Final = {8: ("rip", "rsp", "rbp"), 4: ("eip", "esp", "ebp")}

_USER_HALF: Final = 1 << 63
# Of a 32-bit kernel the text is linked 16 MB above the begin of its part of the address space
# (CONFIG_PHYSICAL_START), or less, and that is a multiple of this (CONFIG_PAGE_OFFSET).
_SPLIT: Final = 0x0800_0000


def resumption_of(inferior: Inferior, registers: Registers) -> Resumption | None:
    """Return where a thread goes on that the stub gives only a stack pointer of.

    That is what kgdb gives of a task that sleeps.

    Raises:
        MemoryFault: its stack cannot be read.
        SymbolError: nothing in the symbols says what is there.
    """
    name = registers.layout.role(Role.SP).name
    sp = registers[name]
    return None if sp is None else resumption_at(inferior, sp)


def resumption_at(inferior: Inferior, sp: int, ip: int | None = None) -> Resumption:
    """Return where a task goes on whose stack pointer was saved when it was switched from.

    Args:
        inferior: the machine.
        sp: ``task->thread.sp``.
        ip: ``task->thread.ip``, which 32-bit kernels before 4.9 have.

    Raises:
        MemoryFault: the stack cannot be read there.
        SymbolError: nothing in the symbols says what is there.
    """
    table = inferior.symbols
    word = table.word_size
    pc_name, sp_name, fp_name = _NAMES[word]
    frame = None
    with contextlib.suppress(SymbolNotFound):
        frame = Record(table.type(_FRAME), *_SAVED[word], _RETURN)
    if frame is None or _RETURN not in frame:
        # Pushed are the flags and then the frame pointer, by code that goes on behind a jump.
        pc = ip or _address(table, "thread_return")
        if pc is None:
            raise SymbolError(
                f"{table.path} does not say what is on the stack of a task that sleeps: it has no "
                f"{_FRAME}"
            )
        data = inferior.read_memory(sp, 2 * word)
        fp = int.from_bytes(data[:word], "little")
        registers = {pc_name: pc, sp_name: sp + 2 * word, fp_name: fp}
        return Resumption(registers=registers, memory=kernel_begin(table))
    data = inferior.read_memory(sp + frame.begin, frame.end - frame.begin)
    registers = {
        register: frame.number(member, data)
        for member, register in _SAVED[word].items()
        if member in frame
    }
    registers |= {pc_name: frame.number(_RETURN, data), sp_name: sp + frame.end}
    return Resumption(
        registers=registers,
        # A new task returns to what no call is before.
        begins=registers[pc_name]
        in (_address(table, "ret_from_fork"), _address(table, "ret_from_fork_asm")),
        memory=kernel_begin(table),
    )


def backtrace_of_task(inferior: Inferior, task: Value, *, cpu: int | None = None) -> Backtrace:
    """Return the backtrace of a task.

    Args:
        inferior: the machine.
        task: its ``struct task_struct``.
        cpu: the CPU that executes it now, None for none.

    Raises:
        MemoryFault: its stack cannot be read.
        SymbolError: nothing in the symbols says what is there.
    """
    from rsp.inferior.backtraces import backtrace, backtrace_from

    for each in inferior.threads() if cpu is not None else ():
        if inferior.stub.cpu_of(each.thread) == cpu:
            return backtrace(inferior, each)
    thread = task["thread"]
    ip = int(thread["ip"]) if has_member(thread.type_, "ip") else None
    return backtrace_from(inferior, resumption_at(inferior, int(thread["sp"]), ip))


def kernel_begin(table: SymbolTable) -> int:
    """Return where the part of the address space begins that all tasks share."""
    if table.word_size == 8:
        return _USER_HALF
    text = _address(table, "_text")
    return 0 if text is None else (text - table.slide) // _SPLIT * _SPLIT


def _address(table: SymbolTable, name: str) -> int | None:
    return table[name].address if name in table else None
