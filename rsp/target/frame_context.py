"""Where the variables of a frame are, and what was passed to its function.

Here live: the context that location expressions are evaluated in, entry values, which the caller's
call site has (DWARF 5, section 2.5.1.7), and the bytes at a location. Here must not live: which
variables there are (`frame`), and an expression's operations (`rsp.symbols.dwarf.expressions`).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from rsp.errors import BadImage
from rsp.symbols.code import call_sites
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute, origins
from rsp.symbols.dwarf.expressions import evaluate, number
from rsp.symbols.dwarf.location_description import (
    ImplicitPointer,
    InMemory,
    InRegister,
    OptimizedOut,
    Pieces,
    Unavailable,
)
from rsp.symbols.dwarf.location_description import Value as Computed
from rsp.symbols.dwarf.loclists import expression_at
from rsp.symbols.dwarf.ranges import entry_pc
from rsp.target.tail_calls import Function, targets_of
from rsp.target.values import OPTIMIZED_OUT, UNAVAILABLE, Hole, Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.symbols.binary import Binary
    from rsp.symbols.code.call_sites import CallSite, Passed
    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.expressions import Context
    from rsp.symbols.dwarf.location_description import Location, Piece
    from rsp.symbols.dwarf.units import Unit
    from rsp.symbols.types.types import Type
    from rsp.target.unwinder import Activation
    from rsp.target.values import Space

_MOST_NESTED = 32
"""Through how many callers an entry value is followed, each having it from the one before."""

SYNTHETIC_POINTER = "<synthetic pointer>"


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
            if self.start is not None and (described := _located(die)) is not None:
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


def location_of(die: Die, context: Context, pc: int = 0, start: int | None = None) -> Location:
    """Return where a variable is.

    Args:
        die: its entry.
        context: the frame that it is looked at from.
        pc: where that is, in the file.
        start: where the function begins there.

    Raises:
        BadImage: the entry makes no sense.
    """
    described = _located(die)
    if described is None:
        for origin in origins(die):
            constant = origin.get(dw.DW_AT_const_value)
            if constant is not None:
                return _constant(constant)
        return OptimizedOut()
    expression = expression_at(described, dw.DW_AT_location, pc, entry_pc=start)
    return evaluate(expression, context) if expression else OptimizedOut()


def _located(die: Die) -> Die | None:
    """Return the entry that has the location: the variable's own, or that of its origin."""
    for origin in origins(die):
        if origin.form(dw.DW_AT_location) is not None:
            return origin
    return None


def _constant(value: int | bool | str | bytes) -> Computed:
    match value:
        case bytes():
            return Computed(value)
        case str():
            return Computed(value.encode(errors="surrogateescape") + b"\0")
    return Computed((value & (1 << 64) - 1).to_bytes(8, "little"))


def value_at(location: Location, ctype: Type, context: Context, space: Space) -> Value:
    """Return what is at a location as a value.

    Raises:
        BadImage: what the type says of its size cannot be read.
    """
    if isinstance(location, InMemory):
        return Value(space, ctype, address=location.address)
    if isinstance(location, Unavailable):
        return Value.absent_value_(space, ctype, f"<error reading variable: {location.reason}>")
    size = ctype.size or 0
    data, holes = _contents(location, size, context)
    return Value(space, ctype, data=data, holes=holes)


def _contents(location: Location, size: int, context: Context) -> tuple[bytes, tuple[Hole, ...]]:
    """Return as many bytes of what is at a location, and which of them are not known."""
    match location:
        case InMemory(address):
            data = context.read_memory(address, size)
            return _hole(size, UNAVAILABLE) if data is None else (data, ())
        case InRegister(register):
            value = context.register(register)
            if value is None:
                return _hole(size, OPTIMIZED_OUT)
            return _fit(value.to_bytes((value.bit_length() + 7) // 8, "little"), size), ()
        case Computed(data):
            return _fit(data, size), ()
        case ImplicitPointer():
            return _hole(size, SYNTHETIC_POINTER)
        case Pieces(pieces):
            return _joined(pieces, size, context)
    return _hole(size, OPTIMIZED_OUT)


def _hole(size: int, why: str) -> tuple[bytes, tuple[Hole, ...]]:
    return bytes(size), (Hole(0, 8 * size, why),)


def _joined(pieces: Sequence[Piece], size: int, context: Context) -> tuple[bytes, tuple[Hole, ...]]:
    bits = filled = 0
    holes: list[Hole] = []
    for piece in pieces:
        wanted = min(piece.bits, 8 * size - filled)
        data, missing = _contents(piece.location, (piece.offset + wanted + 7) // 8, context)
        holes += [Hole(filled, filled + wanted, hole.why) for hole in missing[:1]]
        value = int.from_bytes(data, "little") >> piece.offset & (1 << wanted) - 1
        bits |= value << filled
        filled += wanted
    if filled < 8 * size:
        holes.append(Hole(filled, 8 * size, OPTIMIZED_OUT))
    return bits.to_bytes(size, "little"), tuple(holes)


def _fit(data: bytes, size: int) -> bytes:
    return data[:size].ljust(size, b"\0")
