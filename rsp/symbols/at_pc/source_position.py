"""Where a pc is in the source: the function, the line, the inlined copies.

Contents: what gdb shows at a stop. An inlined copy whose code begins at the pc has not been entered
yet, as far as the source goes: gdb shows the line of its call, and a step "into" it moves only the
view (gdb/inline-frame.c; checked on gdb 13.1). Not here: whose pc it is, and stacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from rsp.reprs import hex_repr
from rsp.symbols.code.prologue import LANGUAGE_ASSEMBLER, WINDOW, after_prologue
from rsp.symbols.dwarf.ranges import pc_ranges
from rsp.symbols.table import SourceLine, source_line
from rsp.symbols.types.types import Function

if TYPE_CHECKING:
    from rsp.symbols.binary import Binary
    from rsp.symbols.code.functions import FunctionFrame
    from rsp.symbols.dwarf.units import Unit
    from rsp.symbols.table import SymbolTable


class LineKey(NamedTuple):
    """What makes two addresses be of one line: gdb has the files of each unit for themselves."""

    program: int
    file: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRange:
    """A row of a line table.

    Attributes:
        begin, end: the addresses that it covers, the second one excluded.
        key: which line it is.
        is_statement: whether a statement begins at ``begin``.
        source: the line for people.
    """

    begin: int
    end: int
    key: LineKey
    is_statement: bool
    source: SourceLine

    def __repr__(self) -> str:
        return hex_repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionRange:
    """A function, or a symbol where there is no debugging information, around an address.

    Attributes:
        name: of it.
        entry: where it is entered.
        begin, end: the piece of it that the address is in.
    """

    name: str
    entry: int
    begin: int
    end: int

    def __repr__(self) -> str:
        return hex_repr(self)


class Position:
    """A pc in the program.

    Args:
        table: the symbols.
        pc: the address.
        entered: the names of functions whose inlined copies count as entered at their first
            instruction: a breakpoint was set on them.
        hidden: how many inlined copies are not entered yet; found out where it is not given.

    Attributes:
        pc: the address.
    """

    def __init__(
        self,
        table: SymbolTable,
        pc: int,
        *,
        entered: frozenset[str] = frozenset(),
        hidden: int | None = None,
    ) -> None:
        self.pc = pc
        self._table = table
        self._entered = entered
        self._given = hidden

    def revealed(self) -> Position:
        """Return the same place with the outermost of the hidden copies entered."""
        return Position(self._table, self.pc, hidden=self.hidden - 1)

    @cached_property
    def line(self) -> SourceLine | None:
        """The source line that gdb shows, None where nothing says so."""
        if self.hidden:
            return self.call.source if self.call is not None else None
        return self.row.source if self.row is not None else None

    @cached_property
    def function(self) -> str | None:
        """The innermost function that has been entered, None where there is not even a symbol."""
        if self.frames:
            return self.frames[self.hidden].name or None
        return self.bounds.name if self.bounds is not None else None

    @property
    def key(self) -> LineKey | None:
        """Which line it is that gdb shows."""
        if self.hidden:
            return self.call.key if self.call is not None else None
        return self.row.key if self.row is not None else None

    @property
    def copies(self) -> tuple[int, ...]:
        """The inlined copies that have been entered, the outermost first, as numbers."""
        return tuple(frame.die.offset for frame in reversed(self.frames[self.hidden : -1]))

    @cached_property
    def hidden(self) -> int:
        """How many inlined copies begin here and are not entered yet."""
        if self._given is not None:
            return self._given
        count = 0
        before: frozenset[int] | None = None
        for frame in self.frames[:-1]:
            if frame.name in self._entered:
                break
            ranges = pc_ranges(frame.die)
            if not ranges or ranges[0][0] != self._link_pc:
                if before is None:
                    before = self._blocks_before()
                if frame.die.offset in before:
                    break
            count += 1
        return count

    def _blocks_before(self) -> frozenset[int]:
        """Return the copies that the byte before the pc is in: these are not begun here."""
        binary = self._binary
        frames = binary.frames(self._link_pc - 1) if binary is not None else ()
        return frozenset(frame.die.offset for frame in frames)

    @cached_property
    def call(self) -> LineRange | None:
        """The line where the outermost hidden copy is called, as far as that copy reaches."""
        frame = self.frames[self.hidden - 1] if self.hidden else None
        call = frame.call if frame is not None else None
        if frame is None or call is None or call.file is None or not call.line:
            return None
        directory = self.row.source.directory if self.row is not None else ""
        end = max((end for _, end in pc_ranges(frame.die)), default=self._link_pc)
        return LineRange(
            begin=self.pc,
            end=end + self._slide,
            key=LineKey(frame.die.unit.line_offset or 0, call.file, call.line),
            is_statement=True,
            source=SourceLine(
                file=call.file, line=call.line, column=call.column, directory=directory
            ),
        )

    @cached_property
    def row(self) -> LineRange | None:
        """The row of the line table that the pc is in: of the innermost copy, hidden or not."""
        return self.row_at(self.pc)

    def row_at(self, address: int) -> LineRange | None:
        """Return the row of another address of the same file."""
        binary, slide = self._binary, self._slide
        row = binary.row(address - slide) if binary is not None else None
        if row is None:
            return None
        return LineRange(
            begin=row.begin + slide,
            end=row.end + slide,
            key=LineKey(row.program, row.place.file, row.place.line),
            is_statement=row.is_statement,
            source=source_line(row.place),
        )

    @cached_property
    def frames(self) -> tuple[FunctionFrame, ...]:
        """The inlined copies at the pc, the innermost first, and the function that they are in."""
        return self._binary.frames(self._link_pc) if self._binary is not None else ()

    @cached_property
    def bounds(self) -> FunctionRange | None:
        """The function itself, that inlined copies are in; None where nothing says which."""
        if self.frames:
            function = self.frames[-1]
            ranges = pc_ranges(function.die)
            for begin, end in ranges:
                if begin <= self._link_pc < end:
                    return FunctionRange(
                        name=function.name,
                        entry=ranges[0][0] + self._slide,
                        begin=begin + self._slide,
                        end=end + self._slide,
                    )
        symbol = self._table.lookup(self.pc)
        if symbol is None:
            return None
        return FunctionRange(
            name=symbol.name,
            entry=symbol.address,
            begin=symbol.address,
            end=max(symbol.address + symbol.size, self.pc + 1),
        )

    @property
    def function_type(self) -> Function | None:
        """The type of the function itself, None where nothing says so."""
        if not self.frames or self._binary is None:
            return None
        declared = self._binary.types.type(self.frames[-1].die)
        return declared if isinstance(declared, Function) else None

    def after_prologue(self) -> int:
        """Return where a step into this function stops: where its frame has been set up.

        Unlike a breakpoint on its name, a step does not ask whether variables can be found before
        that (infrun.c, handle_step_into_function).
        """
        bounds, binary = self.bounds, self._binary
        if bounds is None or binary is None:
            return self.pc
        begin = bounds.begin - self._slide
        unit = binary.unit_at(begin)
        if unit is None or unit.language == LANGUAGE_ASSEMBLER:
            return bounds.begin
        program = binary.program(unit)
        after = after_prologue(
            binary.read(begin, WINDOW),
            begin,
            bounds.end - self._slide,
            word_size=binary.image.word_size,
            unit=unit if _has_clang_rows(unit) else None,
            lines=program.table if program is not None else None,
            is_inlined=lambda address: len(binary.frames(address)) > 1,
        )
        return after + self._slide

    @cached_property
    def _found(self) -> tuple[Binary | None, int]:
        return self._table.binary_at(self.pc) or (None, 0)

    @property
    def _binary(self) -> Binary | None:
        return self._found[0]

    @property
    def _slide(self) -> int:
        return self._found[1]

    @property
    def _link_pc(self) -> int:
        return self.pc - self._slide


def _has_clang_rows(unit: Unit) -> bool:
    return "clang" in unit.producer
