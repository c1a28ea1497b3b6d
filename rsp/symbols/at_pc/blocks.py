"""The blocks that a pc is in: a function, copies inlined into it, and what is in braces there.

Contents: what is asked of a block, and of a variable that it declares. Not here: which blocks there
are at a pc, and which declaration a name means (`scopes`); values.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from rsp.errors import BadImage
from rsp.symbols.at_pc.variable_location import location_of, location_on_entry
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute, origins
from rsp.symbols.dwarf.expressions import number
from rsp.symbols.dwarf.loclists import expression_at
from rsp.symbols.dwarf.ranges import entry_pc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rsp.symbols.binary import Binary, FunctionFrame
    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.expressions import Context
    from rsp.symbols.dwarf.location_description import Location
    from rsp.symbols.types.types import Type

logger: Final = logging.getLogger("rsp.symbols")


class Block:
    """A function, an inlined copy of one, or a block within.

    Attributes:
        binary: the file that it is in.
        die: its entry.

    Raises:
        BadImage: from every method, for entries that make no sense.
    """

    __slots__ = ("binary", "die")

    def __init__(self, binary: Binary, die: Die) -> None:
        self.binary: Binary = binary
        self.die: Die = die

    @property
    def is_inlined(self) -> bool:
        """Whether it is a copy of a function within another one."""
        return self.die.tag == dw.DW_TAG_inlined_subroutine

    @property
    def is_lexical(self) -> bool:
        """Whether it is a block within a function, and not a function or a copy of one."""
        return self.die.tag == dw.DW_TAG_lexical_block

    @property
    def name(self) -> str | None:
        """The name of the function."""
        name = attribute(self.die, dw.DW_AT_name)
        return name if isinstance(name, str) else None

    @property
    def entry_pc(self) -> int | None:
        """Where its code begins to run, as in the file; None where it has none."""
        return entry_pc(self.die)

    def describe(self) -> FunctionFrame:
        """Return what the file says of the function."""
        return self.binary.functions.describe(self.die)

    def frame_base(self, context: Context, pc: int, start: int | None) -> int | None:
        """Return what variables of the function are relative to, None where that is not told.

        Args:
            context: the frame that it is looked at from.
            pc: where that is, in the file.
            start: where the function begins there.
        """
        expression = expression_at(self.die, dw.DW_AT_frame_base, pc, entry_pc=start)
        if expression is None:
            return None
        found = number(expression, context, unit=self.die.unit)
        return found if isinstance(found, int) else None

    def variables(self) -> tuple[Variable, ...]:
        """Return the parameters and variables that it declares itself."""
        return tuple(
            Variable(self.binary, die) for die in self.binary.functions.variables(self.die)
        )

    def origin(self) -> Block | None:
        """Return what it is a copy of, None where it is none."""
        die = self.die.reference(dw.DW_AT_abstract_origin)
        return None if die is None else Block(self.binary, die)


class Variable:
    """A parameter or a variable of a block.

    Attributes:
        die: its entry.

    Raises:
        BadImage: from every method, for entries that make no sense.
    """

    __slots__ = ("_binary", "die")

    def __init__(self, binary: Binary, die: Die) -> None:
        self._binary = binary
        self.die: Die = die

    @property
    def name(self) -> str | None:
        """Its name, None where it has none."""
        name = attribute(self.die, dw.DW_AT_name)
        return name if isinstance(name, str) else None

    @property
    def type(self) -> Type:
        """Its type."""
        return self._binary.types.type_of(self.die)

    @property
    def is_parameter(self) -> bool:
        """Whether it is a parameter."""
        return self.die.tag == dw.DW_TAG_formal_parameter

    @property
    def is_declaration(self) -> bool:
        """Whether the entry only says that there is one elsewhere."""
        return bool(self.die.get(dw.DW_AT_declaration))

    def locate(self, context: Context, pc: int, start: int | None) -> Location:
        """Return where it is.

        Args:
            context: the frame that it is looked at from.
            pc: where that is, in the file.
            start: where the function begins there.
        """
        return location_of(self.die, context, pc, start)

    def on_entry(self, start: int) -> bytes | None:
        """Return the expression of where a parameter is passed, None where nothing says so."""
        return location_on_entry(self.die, start)


def variables_of(blocks: Sequence[Block]) -> Iterator[Variable]:
    """Yield the parameters and variables of the first block, and those that its copy has lost.

    A copy may have put some of them into the blocks within it, which follow the first.
    """
    try:
        own = blocks[0].variables()
        yield from own
        origin = blocks[0].origin()
        if origin is None:
            return
        inner = [each for block in blocks[1:] for each in block.variables()]
        known = {entry.offset for each in (*own, *inner) for entry in origins(each.die)}
        yield from (each for each in origin.variables() if each.die.offset not in known)
    except BadImage as damage:
        logger.debug("%s", damage)
