"""A frame of a backtrace: the function, the line, the arguments and the local variables.

Here live: what the debug information says of an activation (`unwinder`), and of the functions that
are inlined there, each of which is a frame. Here must not live: how the caller is found, where a
variable is (`frame_context`), and how values are written.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from rsp.errors import BadImage, MemoryFault, RspError, SymbolError
from rsp.symbols.at_pc.scopes import Surroundings
from rsp.symbols.at_pc.symbolize import place_of
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute, origins
from rsp.symbols.dwarf.location_description import Value as Computed
from rsp.symbols.types.types import VOID, Array, Compound
from rsp.values.location import value_at
from rsp.values.text import print_text, summary_text
from rsp.values.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rsp.arch.registers import Registers
    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.location_description import Location
    from rsp.symbols.table import SourceLine
    from rsp.target.frame_context import FrameContext
    from rsp.target.unwinder import Activation

log: Final = logging.getLogger("rsp.target")

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
        blocks: Sequence[Die] = (),
    ) -> None:
        self.level = level
        self.kind = kind
        self.pc: int = activation.pc
        self.source_line: SourceLine | None = place.line
        self._is_start = place.is_start
        self._activation = activation
        self._context = context
        self._blocks = blocks
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
            log.debug("the symbol at %#x: %s", self.pc, error)
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

    @cached_property
    def registers(self) -> Registers:
        """The registers in this frame; None for those that are lost."""
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
            self._variable(die, context.locate(die), _local_text)
            for begin in reversed(range(len(self._blocks)))
            for die in _declared(context, self._blocks[begin:])
            if die.tag == dw.DW_TAG_variable
        )

    def variable(self, name: str) -> Value | None:
        """Return the argument or variable that a name stands for at the pc, None if none does.

        Raises:
            BadImage: what the file says of it is damaged.
        """
        context = self._context
        if context is None:
            return None
        for begin in reversed(range(len(self._blocks))):
            for die in _declared(context, self._blocks[begin:]):
                if attribute(die, dw.DW_AT_name) == name and not die.get(dw.DW_AT_declaration):
                    ctype = context.binary.types.type_of(die)
                    space = self._activation.machine.space
                    return value_at(context.locate(die), ctype, context, space)
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

        activation, around = self._activation, None
        if activation.binary is not None and self._context is not None:
            around = Surroundings(
                binary=activation.binary,
                slide=activation.slide,
                unit=self._context.unit,
                blocks=tuple(reversed(self._blocks)),
            )
        return evaluate(expression, frame_scope(self, around, activation.machine.space))

    def _arguments(self) -> Iterator[Variable]:
        context = self._context
        if context is None or not self._blocks:
            return
        for die in _declared(context, self._blocks[:1]):
            if die.tag != dw.DW_TAG_formal_parameter:
                continue
            now = self._variable(die, context.locate(die), _argument_text)
            location = context.locate_at_entry(die)
            if not isinstance(location, Computed):
                yield now
                continue
            entry = self._variable(die, location, _argument_text, "@entry")
            if _bytes(now.value) == _bytes(entry.value):
                yield replace(now, unchanged=True)
            else:
                yield now
                yield entry

    def _variable(
        self, die: Die, location: Location, write: Callable[[Value], str], suffix: str = ""
    ) -> Variable:
        context = self._context
        assert context is not None
        space = self._activation.machine.space
        value = Value.absent_value_(space, VOID)
        name: object = None
        try:
            name = attribute(die, dw.DW_AT_name)
            value = value_at(location, context.binary.types.type_of(die), context, space)
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


def _declared(context: FrameContext, blocks: Sequence[Die]) -> Iterator[Die]:
    """Yield the parameters and variables of the first block, and those that its copy has lost.

    A copy may have put some of them into the blocks within it, which follow the first.
    """
    functions = context.binary.functions
    try:
        own = functions.variables(blocks[0])
        yield from own
        origin = blocks[0].reference(dw.DW_AT_abstract_origin)
        if origin is None:
            return
        inner = [die for block in blocks[1:] for die in functions.variables(block)]
        known = {each.offset for die in (*own, *inner) for each in origins(die)}
        yield from (die for die in functions.variables(origin) if die.offset not in known)
    except BadImage as damage:
        log.debug("%s", damage)
