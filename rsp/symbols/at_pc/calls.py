"""A call that has left a frame: where it may go, and what it passes.

Contents: what is asked of an entry of a call, given the frame that it is made in. Not here: how
entries tell it (`rsp.symbols.code.call_sites`), and whose frames there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rsp.reprs import hex_repr
from rsp.symbols.code.call_sites import CallSite, call_at, passed
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute
from rsp.symbols.dwarf.expressions import number
from rsp.symbols.dwarf.location_description import OptimizedOut, Unavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rsp.symbols.at_pc.blocks import Block
    from rsp.symbols.dwarf.expressions import Context


class Callee(NamedTuple):
    """A function that may be called.

    Attributes:
        start: where it begins, with the slide.
        name: as other files call it, None where they cannot.
    """

    start: int
    name: str | None

    def __repr__(self) -> str:
        return hex_repr(self)


class Call:
    """A call.

    Args:
        site: its entry.
        slide: what is added to the addresses of its file.

    Raises:
        BadImage: from every method, for entries that make no sense.
    """

    def __init__(self, site: CallSite, slide: int) -> None:
        self._site = site
        self._slide = slide

    @property
    def return_pc(self) -> int | None:
        """The address behind it, None where nothing says so."""
        pc = self._site.return_pc
        return None if pc is None else pc + self._slide

    def targets(self, frame: Context | None = None) -> Collection[int | str]:
        """Return where it may go to: addresses and names, none where that cannot be told.

        Args:
            frame: that it is made in; None where it is not made now.
        """
        target = self._site.target()
        match target:
            case bytes():
                if frame is None:
                    return ()
                found = number(target, frame, unit=self._site.die.unit)
                return (found,) if isinstance(found, int) else ()
            case str():
                return (target,)
            case tuple():
                return tuple(address + self._slide for address in target)
        return ()

    def argument(
        self, parameter: bytes | int, frame: Context, stack_pointer: int
    ) -> int | Unavailable | OptimizedOut:
        """Return what it passes, OptimizedOut where it does not tell.

        Args:
            parameter: the expression of where it is passed, or the offset of its entry.
            frame: that the call is made in.
            stack_pointer: the DWARF number of that register.
        """
        how = parameter if isinstance(parameter, int) else passed(parameter, stack_pointer)
        expression = self._site.value(how, stack_pointer) if how is not None else None
        if expression is None:
            return OptimizedOut()
        return number(expression, frame, unit=self._site.die.unit)


def call_before(blocks: Sequence[Block], slide: int, return_pc: int) -> Call | None:
    """Return the call that returns to an address, None where nothing tells of it.

    Args:
        blocks: the function that the call is in, and the blocks in it, innermost last.
        slide: what is added to the addresses of their file.
        return_pc: the address behind the call.

    Raises:
        BadImage: entries make no sense.
    """
    functions = blocks[0].binary.functions
    site = call_at(functions, [block.die for block in blocks], return_pc - slide)
    return None if site is None else Call(site, slide)


def callee_of(function: Block, slide: int) -> Callee | None:
    """Return a function as calls know it; None where it has no entry.

    Raises:
        BadImage: its entry makes no sense.
    """
    start, die = function.entry_pc, function.die
    if start is None:
        return None
    name = None
    if attribute(die, dw.DW_AT_external):
        name = attribute(die, dw.DW_AT_linkage_name) or attribute(die, dw.DW_AT_name)
    # A part that the compiler has split off (`work.part.0`) has the name too, from an abstract
    # instance: calls of it are not to the part.
    if name is not None and die.form(dw.DW_AT_abstract_origin) is not None:
        symbols = function.binary.symtab.at(start)
        if symbols and all(symbol.name != name for symbol in symbols):
            name = None
    return Callee(start + slide, name if isinstance(name, str) else None)
