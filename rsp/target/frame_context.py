"""Where the variables of a frame are, and what was passed to its function.

Contents: the context that location expressions are evaluated in; entry values, which the caller's
call site has (DWARF 5, section 2.5.1.7). Not here: which variables there are (see `frame`), the
bytes at a location (see `rsp.values.location`), the operations of an expression (see
`rsp.symbols.dwarf.expressions`).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from rsp.errors import BadImage
from rsp.symbols.at_pc.tail_calls import Function, targets_of
from rsp.symbols.code import call_sites
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute
from rsp.symbols.dwarf.expressions import number
from rsp.symbols.dwarf.location_description import (
    OptimizedOut,
    Unavailable,
)
from rsp.symbols.dwarf.location_description import Value as Computed
from rsp.symbols.dwarf.loclists import expression_at
from rsp.symbols.dwarf.ranges import entry_pc
from rsp.values.location import located, location_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.symbols.binary import Binary
    from rsp.symbols.code.call_sites import CallSite, Passed
    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.location_description import Location
    from rsp.symbols.dwarf.units import Unit
    from rsp.target.unwinder import Activation

_MOST_NESTED = 32
"""Through how many callers an entry value is followed, each having it from the one before."""


class FrameContext:
    """A function, not inlined, in one of its activations: the context of its variables.

    Args:
        activation: its registers.
        unit: that its code is of.
        blocks: the function, and the blocks that the pc is in, innermost last.

    Attributes:
        caller: that of the caller; None where there is none, or nothing is known of it.
    """

    def __init__(self, activation: Activation, unit: Unit | None, blocks: Sequence[Die]) -> None:
        self.activation = activation
        self.unit = unit
        self.blocks = blocks
        self.caller: FrameContext | None = None
        self._nested = 0

    @property
    def binary(self) -> Binary:
        """The file that it is in."""
        binary = self.activation.binary
        assert binary is not None  # else there would be no blocks
        return binary

    @cached_property
    def start(self) -> int | None:
        """Where the function begins, as in the file."""
        return entry_pc(self.blocks[0]) if self.blocks else None

    @cached_property
    def function(self) -> Function | None:
        """The function as calls know it; None where it has no entry."""
        if self.start is None:
            return None
        name = None
        if attribute(self.blocks[0], dw.DW_AT_external):
            name = attribute(self.blocks[0], dw.DW_AT_linkage_name)
            name = name or attribute(self.blocks[0], dw.DW_AT_name)
        # A part that the compiler has split off (`work.part.0`) has the name too, from an abstract
        # instance: calls of it are not to the part.
        if name is not None and self.blocks[0].form(dw.DW_AT_abstract_origin) is not None:
            symbols = self.binary.symtab.at(self.start)
            if symbols and all(symbol.name != name for symbol in symbols):
                name = None
        return Function(self.start + self.slide, name if isinstance(name, str) else None)

    # The context of expressions.

    @property
    def word_size(self) -> int:
        """The size of an address."""
        return self.activation.word_size

    @property
    def slide(self) -> int:
        """What is added to the addresses of the file."""
        return self.activation.slide

    def register(self, number: int) -> int | None:
        """Return a register by its DWARF number, None where it is not known."""
        return self.activation.register(number)

    def read_memory(self, address: int, size: int) -> bytes | None:
        """Return memory, None where it cannot be read."""
        return self.activation.read_memory(address, size)

    def cfa(self) -> int | None:
        """Return the canonical frame address, None where it is not known."""
        return self.activation.cfa()

    def frame_base(self) -> int | None:
        """Return what DW_AT_frame_base computes, None where that cannot be told."""
        if not self.blocks:
            return None
        expression = expression_at(
            self.blocks[0], dw.DW_AT_frame_base, self.activation.link_pc, entry_pc=self.start
        )
        found = number(expression, self) if expression is not None else None
        return found if isinstance(found, int) else None

    def entry_value(self, what: bytes | int) -> int | None:
        """Return what a parameter was on entry, None where the caller does not tell."""
        how = what if isinstance(what, int) else call_sites.passed(what, self._stack_pointer)
        match self._passed(how) if how is not None else None:
            case Computed(data):
                return int.from_bytes(data, "little")
        return None

    # Variables.

    def locate(self, die: Die) -> Location:
        """Return where a variable or parameter is now."""
        try:
            return self._locate(die)
        except BadImage as error:
            return Unavailable(str(error))

    def locate_at_entry(self, die: Die) -> Location:
        """Return what a parameter was on entry: a value, or optimized out."""
        try:
            expression = None
            if self.start is not None and (described := located(die)) is not None:
                expression = expression_at(
                    described, dw.DW_AT_location, self.start, entry_pc=self.start
                )
            how = call_sites.passed(expression, self._stack_pointer) if expression else None
            return self._passed(how) if how is not None else OptimizedOut()
        except BadImage as error:
            return Unavailable(str(error))

    def _locate(self, die: Die) -> Location:
        return location_of(die, self, self.activation.link_pc, self.start)

    @property
    def _stack_pointer(self) -> int:
        return 7 if self.word_size == 8 else 4

    # Entry values, by the rules of gdb 13 (gdb/dwarf2/loc.c), which are careful: the call must be
    # to this very function, and no chain of tail calls may have led back to it.

    def _passed(self, how: Passed | int) -> Location:
        """Return what the caller says that it passed; OptimizedOut where it does not."""
        caller = self.caller
        if caller is None or self._nested >= _MOST_NESTED:
            return OptimizedOut()
        caller._nested = self._nested + 1
        try:
            site = caller.call_site
            if site is None or not self._is_target(site, caller):
                return OptimizedOut()
            expression = site.value(how, self._stack_pointer)
            if expression is None:
                return OptimizedOut()
            found = number(expression, caller)
            if not isinstance(found, int):
                return found
            mask = self.activation.machine.mask
            return Computed((found & mask).to_bytes(self.word_size, "little"))
        finally:
            caller._nested = 0

    @cached_property
    def call_site(self) -> CallSite | None:
        """The call that this function is in."""
        if self.activation.interrupted or not self.blocks:
            return None
        return call_sites.call_at(
            self.binary.functions, self.blocks, self.activation.pc - self.slide
        )

    def _is_target(self, site: CallSite, caller: FrameContext) -> bool:
        function = self.function
        if function is None:
            return False
        tail_calls = self.activation.machine.tail_calls
        targets = targets_of(site, caller.slide, caller)
        return tail_calls.goes_to(targets, function) and not tail_calls.may_lead_back(function)
