"""Where the variables of a frame are, and what was passed to its function.

Contents: the context that location expressions are evaluated in; entry values, which the caller's
call site has (DWARF 5, section 2.5.1.7). Not here: which variables there are (see `frame`), the
bytes at a location (see `rsp.values.location`), what the file says of variables and calls (see
`rsp.symbols.at_pc`).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from rsp.errors import BadImage
from rsp.symbols.at_pc.calls import Callee, call_before, callee_of
from rsp.symbols.at_pc.variable_location import OptimizedOut, Unavailable
from rsp.symbols.at_pc.variable_location import Value as Computed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.symbols.at_pc.blocks import Block, Variable
    from rsp.symbols.at_pc.calls import Call
    from rsp.symbols.at_pc.scopes import Scopes
    from rsp.symbols.at_pc.variable_location import Location
    from rsp.unwind.activation import Activation

_MOST_NESTED = 32
"""Through how many callers an entry value is followed, each having it from the one before."""


class FrameContext:
    """A function, not inlined, in one of its activations: the context of its variables.

    Args:
        activation: its registers.
        scopes: the function, and the blocks that the pc is in; None where nothing tells of them.

    Attributes:
        caller: that of the caller; None where there is none, or nothing is known of it.
    """

    def __init__(self, activation: Activation, scopes: Scopes | None) -> None:
        self.activation = activation
        self.scopes = scopes
        self.caller: FrameContext | None = None
        self._nested = 0

    @property
    def blocks(self) -> Sequence[Block]:
        """The function, and the blocks that the pc is in, innermost last."""
        return self.scopes.blocks if self.scopes is not None else ()

    @cached_property
    def start(self) -> int | None:
        """Where the function begins, as in the file."""
        return self.blocks[0].entry_pc if self.blocks else None

    @cached_property
    def function(self) -> Callee | None:
        """The function as calls know it; None where it has no entry."""
        return callee_of(self.blocks[0], self.slide) if self.blocks else None

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
        return self.blocks[0].frame_base(self, self.activation.link_pc, self.start)

    def entry_value(self, what: bytes | int) -> int | None:
        """Return what a parameter was on entry, None where the caller does not tell."""
        match self._passed(what):
            case Computed(data):
                return int.from_bytes(data, "little")
        return None

    # Variables.

    def locate(self, variable: Variable) -> Location:
        """Return where a variable or parameter is now."""
        try:
            return variable.locate(self, self.activation.link_pc, self.start)
        except BadImage as error:
            return Unavailable(str(error))

    def locate_at_entry(self, parameter: Variable) -> Location:
        """Return what a parameter was on entry: a value, or optimized out."""
        try:
            expression = parameter.on_entry(self.start) if self.start is not None else None
            return self._passed(expression) if expression else OptimizedOut()
        except BadImage as error:
            return Unavailable(str(error))

    @property
    def _stack_pointer(self) -> int:
        return 7 if self.word_size == 8 else 4

    # Entry values, by the rules of gdb 13 (gdb/dwarf2/loc.c), which are careful: the call must be
    # to this very function, and no chain of tail calls may have led back to it.

    def _passed(self, parameter: bytes | int) -> Location:
        """Return what the caller says that it passed; OptimizedOut where it does not."""
        caller = self.caller
        if caller is None or self._nested >= _MOST_NESTED:
            return OptimizedOut()
        caller._nested = self._nested + 1
        try:
            call = caller.call
            if call is None or not self._is_target(call, caller):
                return OptimizedOut()
            found = call.argument(parameter, caller, self._stack_pointer)
            if not isinstance(found, int):
                return found
            mask = self.activation.machine.mask
            return Computed((found & mask).to_bytes(self.word_size, "little"))
        finally:
            caller._nested = 0

    @cached_property
    def call(self) -> Call | None:
        """The call that this function is in."""
        if self.activation.interrupted or not self.blocks:
            return None
        return call_before(self.blocks, self.slide, self.activation.pc)

    def _is_target(self, call: Call, caller: FrameContext) -> bool:
        function = self.function
        if function is None:
            return False
        tail_calls = self.activation.machine.tail_calls
        targets = call.targets(caller)
        return tail_calls.goes_to(targets, function) and not tail_calls.may_lead_back(function)
