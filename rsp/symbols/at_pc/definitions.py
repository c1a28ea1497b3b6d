"""What a name of the source stands for: a variable, a function or an enumerator.

Contents: what the file alone says of one. Not here: which of several is meant (`scopes` and whoever
asks them), and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from rsp.reprs import hex_repr
from rsp.symbols.at_pc.variable_location import location_of
from rsp.symbols.code.variables import PER_CPU_SECTION, address_of
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute, origins
from rsp.symbols.dwarf.ranges import entry_pc
from rsp.symbols.types.types import Enum

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.symbols.binary import Binary, ElfSymbol
    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.expressions import Context
    from rsp.symbols.dwarf.location_description import Location
    from rsp.symbols.types.types import Type


class FixedAddress(NamedTuple):
    """An address that is the same in all frames.

    Attributes:
        address: with the slide added.
        per_cpu: each CPU has its own there, and the address is an offset into its area.
    """

    address: int
    per_cpu: bool

    def __repr__(self) -> str:
        return hex_repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A variable, a function or an enumerator.

    Attributes:
        binary: the file that it is in.
        slide: what is added to the addresses of that.
        die: its entry; of an enumerator that of the enumeration.
        name: as the source has it.

    Raises:
        BadImage: from every method, for entries that make no sense.
    """

    binary: Binary
    slide: int
    die: Die
    name: str

    @property
    def external(self) -> bool:
        """Whether other files can refer to it."""
        return bool(attribute(self.die, dw.DW_AT_external))

    @property
    def is_function(self) -> bool:
        """Whether it is a function."""
        return self.die.tag in (dw.DW_TAG_subprogram, dw.DW_TAG_inlined_subroutine)

    @property
    def is_enumerator(self) -> bool:
        """Whether it is an enumerator."""
        return self.die.tag == dw.DW_TAG_enumeration_type

    @property
    def is_static(self) -> bool:
        """Whether its value is the same in all frames."""
        if self.die.tag not in (dw.DW_TAG_variable, dw.DW_TAG_formal_parameter):
            return True
        return any(_is_static(origin) for origin in origins(self.die))

    @property
    def type(self) -> Type:
        """Its type; of an enumerator the enumeration."""
        types = self.binary.types
        if self.is_enumerator or self.is_function:
            return types.type(self.die)
        return types.type_of(self.die)

    @property
    def number(self) -> int | None:
        """The value of an enumerator, None of anything else."""
        declared = self.type if self.is_enumerator else None
        return declared.enumerators.get(self.name) if isinstance(declared, Enum) else None

    @property
    def fixed_address(self) -> FixedAddress | None:
        """Where it is in all frames, None where nothing says so."""
        if self.is_function:
            entry = entry_pc(self.die)
            return None if entry is None else FixedAddress(entry + self.slide, per_cpu=False)
        for origin in origins(self.die):
            address = address_of(origin)
            if address is not None:
                break
        else:
            return None
        section = self.binary.image.section_at(address)
        if section is None or section.name != PER_CPU_SECTION:
            return FixedAddress(address + self.slide, per_cpu=False)
        return FixedAddress(address + (self.slide if section.address else 0), per_cpu=True)

    def locate(self, context: Context) -> Location:
        """Return where a variable is that needs no frame: at an address, or it is a constant."""
        return location_of(self.die, context)


def _is_static(die: Die) -> bool:
    return address_of(die) is not None or die.form(dw.DW_AT_const_value) is not None


def function_of(binary: Binary, slide: int, symbol: ElfSymbol) -> Definition | None:
    """Return the function that a symbol is the entry of, None where the file tells of none.

    Raises:
        BadImage: the file is damaged there.
    """
    frames = binary.frames(symbol.address) if binary.is_code(symbol) else ()
    if not frames or frames[-1].entry != symbol.address:
        return None
    return Definition(binary=binary, slide=slide, die=frames[-1].die, name=symbol.name)


def defined_in(binary: Binary, slide: int, name: str) -> Iterator[Definition]:
    """Yield what any source file of a binary defines by a name.

    Raises:
        BadImage: the file is damaged there.
    """
    for die in binary.defined(name):
        yield Definition(binary=binary, slide=slide, die=die, name=name)
