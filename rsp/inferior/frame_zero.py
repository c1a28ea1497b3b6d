"""The innermost activation of a thread, which its backtrace and its steps begin at.

Contents: of a thread that a CPU executes, how wide its code and its stack are, and with which
segment bases; of code that none does, what it will go on with. The way to the callers is the
business of `rsp.unwind`.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from rsp.arch.layout import Role
from rsp.arch.modes import CpuMode, possible_modes
from rsp.errors import MemoryFault
from rsp.inferior.stack_memory import StackMemory
from rsp.unwind.activation import Activation, Machine
from rsp.values.per_cpu import bases_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.arch.registers import Registers
    from rsp.inferior.inferior import Inferior
    from rsp.unwind.resumption import Resumption
    from rsp.values.value import Space
    from rsp.wire.threads import ThreadId

_WORD_SIZES: Final = {
    CpuMode.REAL16: 2,
    CpuMode.PROTECTED16: 2,
    CpuMode.PROTECTED32: 4,
    CpuMode.COMPAT32: 4,
    CpuMode.LONG64: 8,
}
_GDT_ENTRY: Final = 27  # GDT_ENTRY_PERCPU of i386 (arch/x86/include/asm/segment.h)


def executing(inferior: Inferior, thread: ThreadId | None, registers: Registers) -> Activation:
    """Return what a thread executes, by its registers."""
    machine = _machine_of(inferior, thread, registers)
    known = {
        name: value
        for name in machine.names.values()
        if name in registers and (value := registers[name]) is not None
    }
    return Activation(machine, known, registers.pc, interrupted=True)


def resuming(inferior: Inferior, resumption: Resumption) -> Activation:
    """Return what no CPU executes now, and goes on with a resumption."""
    known = resumption.registers
    arch, word_size, pc = ("x86-64", 8, "rip") if "rip" in known else ("i386", 4, "eip")
    memory = StackMemory(inferior, inferior.current, begin=resumption.memory)
    symbols = inferior.symbols if inferior.has_symbols else None
    layout = inferior.registers.layout
    machine = Machine(
        arch, memory, symbols, layout, word_size=word_size, find_code=inferior.find_code
    )
    return Activation(machine, known, known[pc], interrupted=resumption.begins)


def segment_bases(inferior: Inferior, thread: ThreadId | None, space: Space) -> Iterator[set[int]]:
    """Yield the bases in a thread's registers, then on i386 the one in its CPU's GDT.

    Args:
        inferior: whose.
        thread: which one.
        space: its memory.

    Raises:
        RspError: the registers cannot be had.
    """
    yield bases_in(inferior.registers_of(thread))
    if space.word_size == 4 and (state := inferior.processor.state(thread)) is not None:
        from rsp.arch.descriptors import segment_descriptor

        at = 8 * _GDT_ENTRY
        if at + 8 <= state.gdt.limit + 1:
            with suppress(MemoryFault):
                yield {segment_descriptor(space.read(state.gdt.base + at, 8)).base}


def _machine_of(inferior: Inferior, thread: ThreadId | None, registers: Registers) -> Machine:
    """Return how the code that runs uses the stack: 64, 32 or 16 bits, and from which base."""
    symbols = inferior.symbols if inferior.has_symbols else None
    memory = StackMemory(inferior, thread)
    mode = CpuMode.UNKNOWN
    state = None
    if inferior.stub.info_registers and not registers.pc >> 32:
        mode = inferior.processor.mode(thread)
        state = inferior.processor.state(thread)
    found = symbols.binary_at(registers.pc) if symbols is not None else None
    if mode in _WORD_SIZES:
        word_size = _WORD_SIZES[mode]
    elif possible_modes(registers) == {CpuMode.PROTECTED16, CpuMode.PROTECTED32}:
        word_size = 4
    elif found is not None:
        word_size = found[0].image.word_size
    else:
        word_size = 8 if registers.layout.arch == "x86-64" else 4
    code_base = stack_base = 0
    if word_size == 2:
        code_base = registers.pc - (registers.role(Role.PC) & 0xFFFF)
        stack_base = state.segments["ss"].base if state is not None else 16 * (registers["ss"] or 0)
    machine = Machine(
        "x86-64" if word_size == 8 else "i386",
        memory,
        symbols,
        registers.layout,
        word_size=word_size,
        find_code=inferior.find_code,
        code_base=code_base,
        stack_base=stack_base,
    )
    machine.bases = partial(segment_bases, inferior, thread, machine.space)
    return machine
