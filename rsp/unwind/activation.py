"""One activation of a function: its registers, and what its code and its stack are read through.

Contents: the machine that the activations of a backtrace have in common, and an activation, which
is the context that the rules of its tables are evaluated in. Not here: the step to the caller
(`caller`); functions, lines and arguments.

Registers go by name here, ``rip`` or ``eip``, as the tables of two machines number them
differently.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

from rsp.arch.registers import Registers
from rsp.errors import RspError
from rsp.symbols.at_pc.tail_calls import TailCalls
from rsp.symbols.unwind.rules import (
    CfaExpression,
    RegisterOffset,
    compute,
)
from rsp.values.c import C
from rsp.values.value import Space

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rsp.arch.layout import RegisterLayout
    from rsp.symbols.binary import Binary
    from rsp.symbols.table import SymbolTable
    from rsp.symbols.unwind.rules import UnwindRules
    from rsp.unwind.loaded_code import CodeFinder, LoadedCode
    from rsp.values.per_cpu import Bases

logger: Final = logging.getLogger("rsp.unwind")


class EndOfStack(Exception):
    """There is no caller, or none that can be told; the message is the reason.

    Attributes:
        complete: the stack ends here, as it should.
    """

    def __init__(self, reason: str, *, complete: bool = False) -> None:
        super().__init__(reason)
        self.complete = complete


class Reader(Protocol):
    """The memory as the thread sees it."""

    def read(self, address: int, size: int) -> bytes | None:
        """Return memory, None where it cannot be read."""
        ...

    def fetch(self, address: int, size: int) -> bytes:
        """Return memory; MemoryFault where it cannot be read."""
        ...

    def silence(self) -> str | None:
        """Return why nothing can be read now; None where it can."""
        ...

    def look_at(self, stack_pointer: int) -> None:
        """Take what is around a stack pointer for a stack."""
        ...

    def expect(self, address: int, size: int) -> None:
        """Note that these bytes are asked for next, and those around them need not be."""
        ...


class Machine:
    """What all frames of a backtrace have in common.

    Args:
        arch: of the code that runs, which also numbers the registers: "i386" or "x86-64".
        memory: what the stack is read through.
        symbols: None where there are none.
        layout: how the stub sends registers.
        word_size: the size of a return address.
        find_code: tells of code that no file of the symbols has; None where nobody can.
        code_base, stack_base: of 16-bit segments, which pc and stack pointer are offsets in.

    Attributes:
        pc, sp, fp: the names of these registers.
        bases: tells of the segments of the CPU that runs the thread; None where none does.
        tail_calls: what is known of the tail calls of functions.
    """

    def __init__(
        self,
        arch: str,
        memory: Reader,
        symbols: SymbolTable | None,
        layout: RegisterLayout,
        *,
        word_size: int,
        find_code: CodeFinder | None = None,
        code_base: int = 0,
        stack_base: int = 0,
    ) -> None:
        self.arch = arch
        self.memory = memory
        self.symbols = symbols
        self.layout = layout
        self.word_size = word_size
        self._find_code = find_code
        self.code_base = code_base
        self.stack_base = stack_base
        self.mask: int = (1 << 8 * self.word_size) - 1
        self.tail_calls: TailCalls = TailCalls(symbols)
        self.pc, self.sp, self.fp = (
            ("rip", "rsp", "rbp") if arch == "x86-64" else ("eip", "esp", "ebp")
        )
        self.bases: Bases | None = None
        self.names: Mapping[int, str] = register_names(arch)
        self.space: Space = Space(
            read=memory.fetch,
            symbols=symbols,
            word_size=word_size,
            language=C,
            silence=memory.silence,
        )

    def binary_at(self, address: int) -> tuple[Binary, int] | None:
        """Return the file that has an address, and its slide."""
        return self.symbols.binary_at(address) if self.symbols is not None else None

    def loaded_at(self, address: int) -> LoadedCode | None:
        """Return the code at an address that no file has.

        Raises:
            RspError: that cannot be told.
        """
        return self._find_code(address) if self._find_code is not None else None

    def owner_of(self, address: int) -> Binary | LoadedCode | None:
        """Return whose code is at an address, as far as that can be told."""
        found = self.binary_at(address)
        if found is not None:
            return found[0]
        try:
            return self.loaded_at(address)
        except RspError as error:
            logger.debug("whose code is at %#x: %s", address, error)
            return None

    def read_word(self, address: int) -> int:
        """Read a word of the stack.

        Raises:
            EndOfStack: it cannot be read.
        """
        address = self.stack_base + (address & self.mask)
        data = self.memory.read(address, self.word_size)
        if data is None:
            raise EndOfStack(f"memory at {address:#x} cannot be read")
        return int.from_bytes(data, "little")


@cache
def register_names(arch: str) -> Mapping[int, str]:
    """Return the names of the registers by their DWARF numbers."""
    from rsp.arch import i386, x86_64

    module = x86_64 if arch == x86_64.ARCH else i386
    known = (*module.CORE, *module.X87, *module.SSE)
    return {each.dwarf: each.name for each in known if each.dwarf is not None}


class Activation:
    """One activation of a function: its registers, as far as they are known.

    It is the context (`rsp.symbols.at_pc.variable_location.Context`) that the rules of its tables
    are evaluated in.

    Args:
        machine: of the backtrace.
        registers: by name; what is not there is lost.
        pc: the linear address of its next instruction.
        interrupted: the pc is where it was interrupted, or stopped, and not behind a call.
        unsaved: registers that nothing says to be saved, as they are in the frame that it called.
            A function may still rely on one that it knows its callee to leave alone (gcc's
            -fipa-ra, or assembly, of which ORC has the stack only); then the debug information has
            a variable in it.
        cfa: the canonical frame address, where it does not follow from the rules.

    Attributes:
        binary: the file that its code is of; None where no file has it.
        code: what is known of code that no file has.
        damage: why there are no rules, where something does not make sense.
    """

    def __init__(
        self,
        machine: Machine,
        registers: Mapping[str, int],
        pc: int,
        *,
        interrupted: bool,
        unsaved: Mapping[str, int] | None = None,
        cfa: int | None = None,
    ) -> None:
        self.machine = machine
        self.registers = registers
        self.pc = pc
        self.interrupted = interrupted
        self.unsaved: Mapping[str, int] = unsaved or {}
        self.lookup_pc: int = pc if interrupted or not pc else pc - 1
        found = machine.binary_at(self.lookup_pc)
        self.binary: Binary | None = found[0] if found is not None else None
        self.slide: int = found[1] if found is not None else 0
        self.damage: str = ""
        self.code: LoadedCode | None = self._loaded() if self.binary is None else None
        self.rules = self._rules(self.lookup_pc)
        if self.rules is None and self.lookup_pc < pc:
            # Nothing is called there: the address is where a function begins, which somebody has
            # put on the stack, as a new task's of ret_from_fork (Linux copy_thread).
            self.rules = self._rules(pc)
            self.lookup_pc = pc if self.rules is not None else self.lookup_pc
        self._cfa = cfa
        self._cfa_known = cfa is not None

    @property
    def link_pc(self) -> int:
        """The address to look up, as it is in the file."""
        return self.lookup_pc - self.slide

    @property
    def sp(self) -> int:
        """The stack pointer; EndOfStack where it is not known."""
        return self.known(self.machine.sp)

    def snapshot(self) -> Registers:
        """Return the registers in the layout that the stub sends them in."""
        layout = self.machine.layout
        wide = layout.arch != self.machine.arch  # 32-bit code on a 64-bit CPU
        values = {
            f"r{name[1:]}" if wide and name[:1] == "e" and name != "es" else name: value
            for name, value in self.registers.items()
        }
        return Registers(
            layout, [values.get(each.name) for each in layout.registers], lambda _: self.pc
        )

    def known(self, name: str) -> int:
        """Return a register; EndOfStack where it is not known."""
        value = self.registers.get(name)
        if value is None:
            raise EndOfStack(f"{name} is not known")
        return value

    def _loaded(self) -> LoadedCode | None:
        try:
            return self.machine.loaded_at(self.lookup_pc)
        except RspError as error:
            self.damage = str(error)
            return None

    def _rules(self, pc: int) -> UnwindRules | None:
        try:
            if self.code is not None:
                return self.code.rules_at(pc)
            if self.binary is None or self.binary.image.word_size != self.machine.word_size:
                return None
            return self.binary.unwind_rules(pc - self.slide)
        except RspError as error:
            self.damage = str(error)
            return None

    # The context of expressions.

    @property
    def word_size(self) -> int:
        """The size of an address."""
        return self.machine.word_size

    def register(self, number: int) -> int | None:
        """Return a register by its DWARF number, None where it is not known."""
        name = self.machine.names.get(number, "")
        if name == self.machine.pc:
            return self.pc
        value = self.registers.get(name)
        return self.unsaved.get(name) if value is None else value

    def read_memory(self, address: int, size: int) -> bytes | None:
        """Return memory, None where it cannot be read."""
        return self.machine.memory.read(address, size)

    def frame_base(self) -> int | None:
        """None: the tables know none."""
        return None

    def entry_value(self, what: bytes | int) -> int | None:  # noqa: ARG002 - as the protocol is
        """None: the tables need none."""
        return None

    def cfa(self) -> int | None:
        """Return the canonical frame address, None where it cannot be told."""
        if not self._cfa_known:
            self._cfa_known = True
            self._cfa = self._compute_cfa()
        return self._cfa

    def _compute_cfa(self) -> int | None:
        if self.rules is None:
            return None
        match self.rules.cfa:
            case RegisterOffset(register, offset):
                base = self.register(register)
                return None if base is None else base + offset & self.machine.mask
            case CfaExpression(expression):
                found = compute(expression, self)
                return None if found is None else found & self.machine.mask
