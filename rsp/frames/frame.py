"""A frame of a backtrace: the function, the line, the arguments and the local variables.

Contents: what the debug information says of an activation (`rsp.unwind`), and of the functions that
are inlined there, each of which is a frame. Not here: how the caller is found, where a variable is
(`frame_context`), and how values are written.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from rsp.arguments import text
from rsp.errors import MemoryFault, RspError, SymbolError
from rsp.symbols.at_pc.blocks import variables_of
from rsp.symbols.at_pc.symbolize import place_of
from rsp.symbols.at_pc.variable_location import Value as Computed
from rsp.symbols.types.types import VOID, Array, Compound
from rsp.values.location import value_at
from rsp.values.text import print_text, summary_text
from rsp.values.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rsp.arch.registers import Registers
    from rsp.frames.frame_context import FrameContext
    from rsp.symbols.at_pc import blocks
    from rsp.symbols.at_pc.scopes import Scopes
    from rsp.symbols.at_pc.variable_location import Location
    from rsp.symbols.table import SourceLine
    from rsp.unwind.activation import Activation

logger: Final = logging.getLogger("rsp.frames")

SIGNAL_HANDLER_CALLED = "<signal handler called>"


class FrameKind(Enum):
    """What a frame is of."""

    FUNCTION = "function"
    """A function that was called, or code that was interrupted or stopped."""
    INLINED = "inlined"
    """A function of which there is a copy within the next frame's."""
    TAIL_CALL = "tail call"
    """A function that is not on the stack any more: it ended in a jump to the one before it. It has
    been found out as the only way between two that are."""
    SIGNAL = "signal"
    """What the system has put on the stack so that a signal handler returns to it."""
    ENTRY = "entry"
    """The code that an interrupt, an exception or a system call has entered a kernel by; the next
    frame is what was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """An argument or a local variable in a frame.

    Attributes:
        name: with ``@entry`` behind it for what an argument was when the function was entered,
            where that differs from what it is now or is all that is known.
        value: of its type; also where it is optimized out or cannot be read.
        text: the value as gdb writes it; ``<optimized out>``, or why it cannot be read.
        unchanged: it is an argument that is known to be what it was on entry.
    """

    name: str
    value: Value
    text: str
    unchanged: bool = False

    def __str__(self) -> str:
        again = f"{self.name}@entry=" if self.unchanged else ""
        return f"{self.name}={again}{self.text}"


class Place(NamedTuple):
    """Where in the source a frame is."""

    line: SourceLine | None
    is_start: bool
    """Whether its pc is where the code of the line begins, so that gdb does not show it."""


class Frame:
    """A function in a backtrace, as itself or as a copy inlined into the next frame's.

    ``str()`` is the frame as gdb shows it. Arguments and variables are read when they are asked
    for; once the target has run, only what had been read before is there.

    Attributes:
        level: 0 for the innermost.
        kind: what it is of.
        pc: the linear address of its next instruction; inlined copies have that of the function
            that they are in.
        function: the name of the function or, where only symbols tell, of the symbol; None where
            nothing does.
        source_line: where it is in the source; None where nothing says so. Of a frame that an
            inlined copy is in, where that is called.
    """

    def __init__(
        self,
        *,
        level: int,
        kind: FrameKind,
        activation: Activation,
        place: Place,
        function: str | None = None,
        context: FrameContext | None = None,
        scopes: Scopes | None = None,
    ) -> None:
        self.level = level
        self.kind = kind
        self.pc: int = activation.pc
        self.source_line: SourceLine | None = place.line
        self._is_start = place.is_start
        self._activation = activation
        self._context = context
        self._scopes = scopes
        self.function: str | None = function or self._symbol[0]

    def __repr__(self) -> str:
        return f"<Frame {self.level} {self.function or '??'} {self.pc:#x}>"

    def __str__(self) -> str:
        if self.kind is FrameKind.SIGNAL:
            return SIGNAL_HANDLER_CALLED
        width = 2 * max(self._activation.machine.word_size, 4)
        pc = "" if self._is_start else f"{self.pc:#0{width + 2}x} in "
        arguments = ", ".join(map(str, self.arguments))
        line = f" at {self.source_line}" if self.source_line is not None else ""
        if self.module is not None:
            line = f" from {self.module}"  # as gdb names a library that it has no lines of
        mark = f" {SIGNAL_HANDLER_CALLED}" if self.kind is FrameKind.ENTRY else ""
        return f"{pc}{self.function or '??'} ({arguments}){line}{mark}"

    @cached_property
    def _symbol(self) -> tuple[str | None, int | None]:
        """The name of the symbol that the pc is in, and how far behind it the pc is."""
        activation = self._activation
        found = None
        try:
            if activation.binary is not None:
                found = place_of(activation.binary, activation.link_pc)
            elif activation.code is not None:
                found = activation.code.symbol_at(activation.lookup_pc)
        except RspError as error:
            logger.debug("the symbol at %#x: %s", self.pc, error)
        if found is None:
            return None, None
        name, begin = found
        return name, self.pc - activation.slide - begin

    @property
    def module(self) -> str | None:
        """Of code that no file of the symbols has, what it is called where it runs: ``[xfs]``."""
        code = self._activation.code
        return code.name if code is not None else None

    @property
    def offset(self) -> int | None:
        """How far the pc is behind the symbol that it is in.

        None for inlined copies, and where there is no symbol.
        """
        return None if self.inlined else self._symbol[1]

    @property
    def inlined(self) -> bool:
        """Whether the function is a copy within the next frame's."""
        return self.kind is FrameKind.INLINED

    @property
    def file(self) -> str | None:
        """The source file, as the compiler noted it; None where nothing says so."""
        return self.source_line.file if self.source_line is not None else None

    @property
    def line(self) -> int | None:
        """The line of that file; None where nothing says so."""
        return self.source_line.line if self.source_line is not None else None

    @cached_property
    def source(self) -> str | None:
        """The text of the line; None where the file is not found."""
        symbols = self._activation.machine.symbols
        if symbols is None or self.source_line is None:
            return None
        return symbols.text_of(self.source_line)

    @property
    def registers(self) -> Registers:
        """The registers in this frame; None for those that are lost."""
        return self._registers

    @cached_property
    def _registers(self) -> Registers:
        return self._activation.snapshot()

    @cached_property
    def arguments(self) -> tuple[Variable, ...]:
        """The arguments of the function, in the order in which gdb shows them."""
        return tuple(self._arguments())

    @cached_property
    def locals(self) -> tuple[Variable, ...]:
        """The local variables at the pc, those of the innermost block first."""
        context = self._context
        if context is None:
            return ()
        return tuple(
            self._variable(each, context.locate(each), _local_text)
            for each in self._declared()
            if not each.is_parameter
        )

    def variable(self, name: str) -> Value | None:
        """Return the argument or variable that a name stands for at the pc, None if none does.

        Raises:
            BadImage: what the file says of it is damaged.
        """
        text(name, "name", "the name of a variable")
        context = self._context
        if context is None:
            return None
        for each in self._declared():
            if each.name == name and not each.is_declaration:
                space = self._activation.machine.space
                return value_at(context.locate(each), each.type, context, space)
        return None

    def value(self, expression: str) -> Value:
        """Return what an expression of C comes to in this frame: its names, file and registers.

        Raises:
            SymbolNotFound: a name stands for nothing.
            SymbolError: it is no expression, or C has no such operation.
            MemoryFault: a pointer in it cannot be read, or not any more.
        """
        from rsp.values.expression import evaluate
        from rsp.values.local_names import frame_scope

        machine = self._activation.machine
        scope = frame_scope(self, self._scopes, machine.space, machine.bases)
        return evaluate(expression, scope)

    def _declared(self) -> Iterator[blocks.Variable]:
        """Yield what the blocks at the pc declare, the innermost first."""
        around = self._scopes.blocks if self._scopes is not None else ()
        for begin in reversed(range(len(around))):
            yield from variables_of(around[begin:])

    def _arguments(self) -> Iterator[Variable]:
        context, scopes = self._context, self._scopes
        if context is None or scopes is None or not scopes.blocks:
            return
        for each in variables_of(scopes.blocks[:1]):
            if not each.is_parameter:
                continue
            now = self._variable(each, context.locate(each), _argument_text)
            location = context.locate_at_entry(each)
            if not isinstance(location, Computed):
                yield now
                continue
            entry = self._variable(each, location, _argument_text, "@entry")
            if _bytes(now.value) == _bytes(entry.value):
                yield replace(now, unchanged=True)
            else:
                yield now
                yield entry

    def _variable(
        self,
        declared: blocks.Variable,
        location: Location,
        write: Callable[[Value], str],
        suffix: str = "",
    ) -> Variable:
        context = self._context
        assert context is not None
        space = self._activation.machine.space
        value = Value.absent_value_(space, VOID)
        name: str | None = None
        try:
            name = declared.name
            value = value_at(location, declared.type, context, space)
            text = write(value)
        except MemoryFault as fault:
            text = f"<error reading variable: Cannot access memory at address {fault.address:#x}>"
        except SymbolError as error:
            text = f"<error reading variable: {error}>"
        return Variable(name=f"{name or ''}{suffix}", value=value, text=text)


def _bytes(value: Value) -> bytes | None:
    try:
        return value.bytes_()
    except (MemoryFault, SymbolError):
        return None


def _argument_text(value: Value) -> str:
    if isinstance(value.type_.resolved, Compound | Array):
        return "..."  # also where nothing is known of it
    return summary_text(value)


def _local_text(value: Value) -> str:
    """Return what gdb's ``info locals`` shows: what ``print`` does, without a pointer's type."""
    return print_text(value).removeprefix(f"({value.type_}) ")
