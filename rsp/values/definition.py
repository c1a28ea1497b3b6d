"""What .debug_info defines outside all frames, as values: statics, functions, enumerators.

Here lives: the value of an entry of which only the file has to be known. Here must not live: which
entry a name means (`surroundings`, `scope`), and what is in frames (`frame`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsp.errors import MemoryFault
from rsp.symbols.at_pc.scopes import Surroundings
from rsp.symbols.code.variables import PER_CPU_SECTION, address_of
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute, origins
from rsp.symbols.dwarf.ranges import entry_pc
from rsp.symbols.types.types import Enum
from rsp.values.per_cpu import PerCpuValue
from rsp.values.value import Value

if TYPE_CHECKING:
    from rsp.symbols.binary import Binary
    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.units import Unit
    from rsp.values.per_cpu import Bases
    from rsp.values.value import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A variable, a function or an enumerator.

    Attributes:
        binary: the file that it is in.
        slide: what is added to the addresses of that.
        die: its entry; of an enumerator that of the enumeration.
        name: as the source has it.
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
    def surroundings(self) -> Surroundings:
        """What is around it, outside functions."""
        return Surroundings(binary=self.binary, slide=self.slide, unit=self.die.unit)

    @property
    def is_function(self) -> bool:
        """Whether it is a function."""
        return self.die.tag in (dw.DW_TAG_subprogram, dw.DW_TAG_inlined_subroutine)

    @property
    def is_static(self) -> bool:
        """Whether its value is the same in all frames."""
        if self.die.tag not in (dw.DW_TAG_variable, dw.DW_TAG_formal_parameter):
            return True
        return any(_is_static(origin) for origin in origins(self.die))

    def value(self, space: Space, bases: Bases | None = None) -> Value | None:
        """Return its value, of a per-CPU variable a `PerCpuValue`; None for what has no code.

        Args:
            space: the memory.
            bases: of segments, which tell the current thread's CPU.

        Raises:
            BadImage: the file is damaged there.
        """
        types, die = self.binary.types, self.die
        if die.tag == dw.DW_TAG_enumeration_type:
            ctype = types.type(die)
            if not isinstance(ctype, Enum) or self.name not in ctype.enumerators:
                return None
            return Value.number_(space, ctype, ctype.enumerators[self.name])
        if die.tag == dw.DW_TAG_subprogram:
            entry = entry_pc(die)
            if entry is None:
                return None
            return Value(space, types.type(die), address=entry + self.slide)
        ctype = types.type_of(die)
        address = next((at for each in origins(die) if (at := address_of(each)) is not None), None)
        if address is None:
            from rsp.values.location import location_of, value_at

            context = _NoFrame(die.unit, self.slide, space)
            return value_at(location_of(die, context), ctype, context, space)
        section = self.binary.image.section_at(address)
        if section is None or section.name != PER_CPU_SECTION:
            return Value(space, ctype, address=address + self.slide)
        moved = self.slide if section.address else 0
        return PerCpuValue(space, ctype, address + moved, bases)


def _is_static(die: Die) -> bool:
    return address_of(die) is not None or die.form(dw.DW_AT_const_value) is not None


@dataclass(frozen=True, slots=True)
class _NoFrame:
    """The context of a variable's location that needs no frame."""

    unit: Unit
    slide: int
    space: Space

    @property
    def word_size(self) -> int:
        return self.unit.word_size

    def register(self, number: int) -> int | None:  # noqa: ARG002 - as the protocol has it
        return None

    def read_memory(self, address: int, size: int) -> bytes | None:
        try:
            return self.space.read(address, size)
        except MemoryFault:
            return None

    def frame_base(self) -> int | None:
        return None

    def cfa(self) -> int | None:
        return None

    def entry_value(self, what: bytes | int) -> int | None:  # noqa: ARG002 - as above
        return None
