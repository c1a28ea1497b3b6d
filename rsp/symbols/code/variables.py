"""Variables at fixed addresses: their entries, found by address or name without any index.

Contents: the search of .debug_info for the expression that names an address (DWARF 5, sections
2.6.1.1.1 and 4.1), or for declarations of a name. Not here: variables in registers and frames,
values, and types beyond the entry of one.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute, origins
from rsp.symbols.dwarf.die_search import entries_named
from rsp.symbols.dwarf.leb import uleb, uleb_bytes
from rsp.symbols.dwarf.walk import occurrences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.symbols.code.functions import Functions
    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.units import Unit, Units
    from rsp.symbols.elf.image import Image

_FEW = 4
"""So many addresses are searched for one by one."""
_DECLARATIONS = 16
"""So many declarations are looked at for one with a size."""

_VARIABLE = frozenset((dw.DW_TAG_variable,))

PER_CPU_SECTION = ".data..percpu"
"""Linux's template of what every CPU has a copy of; its addresses are offsets into a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A variable at a fixed address.

    Attributes:
        name: empty where the file does not say.
        address: its link address.
        file: where it is declared, None where the file does not say.
        line: of that file, 0 where the file does not say.
        type: the entry of its type, None for what has none.
        section: the name of the section that it is in, empty where that is none.
        external: whether other files can refer to it.
        die: its definition.
    """

    name: str
    address: int
    file: str | None
    line: int
    type: Die | None
    section: str
    external: bool
    die: Die

    @property
    def per_cpu(self) -> bool:
        """Whether each CPU has its own, and the address is an offset into a CPU's area."""
        return self.section == PER_CPU_SECTION


class Variables:
    """Finds variables by their addresses.

    Raises:
        BadImage: from every method, where .debug_info makes no sense.
    """

    def __init__(self, image: Image, units: Units, functions: Functions) -> None:
        self._image = image
        self._units = units
        self._functions = functions
        self._asked = 0

    def at(self, address: int) -> tuple[Variable, ...]:
        """Return the variables at a link address: several where one is defined under two names.

        A pass over the 160 MB of a kernel takes about 50 ms.
        """
        hits: dict[int, list[int]] = {}
        for offset in self._mentions(address):
            hits.setdefault(self._units.at(offset).offset, []).append(offset)
        found = []
        for begin, offsets in hits.items():
            unit = self._units.starting_at(begin)
            for _, die in self._functions.walk(unit).entries_at(offsets):
                if address_of(die) == address:
                    found.append(self.describe(die, address))
        return tuple(found)

    def declarations(self, name: str) -> tuple[Die, ...]:
        """Return declarations of a name that is defined in another file, not all.

        Where no compiler has defined it they are what there is: the linker's script has given an
        address to the name, or assembler has.
        """
        entries = entries_named(self._units, name, _VARIABLE, declared=True)
        return tuple(die for die in islice(entries, _DECLARATIONS) if die.get(dw.DW_AT_external))

    def describe(self, die: Die, address: int) -> Variable:
        """Return what the definition of a variable, and its declaration, say of it."""
        name = attribute(die, dw.DW_AT_name)
        file, line = self._functions.declared(die)
        section = self._image.section_at(address)
        return Variable(
            name=name if isinstance(name, str) else "",
            address=address,
            file=file,
            line=line,
            type=type_of(die),
            section=section.name if section else "",
            external=bool(attribute(die, dw.DW_AT_external)),
            die=die,
        )

    def _mentions(self, address: int) -> Iterator[int]:
        """Yield where .debug_info has the bytes of an expression that is this address."""
        sections = self._units.sections
        size = self._image.word_size
        if not 0 <= address < 1 << 8 * size:
            return
        operand = address.to_bytes(size, "little")
        self._asked += 1
        if self._asked > _FEW:
            yield from self._by_operand.get(operand, ())
        else:
            yield from occurrences(sections.info, _expression(dw.DW_OP_addr, operand))
        for offset in occurrences(sections.addr, operand):
            base, units = self._users(offset)
            if units and (offset - base) % size == 0:
                index = uleb_bytes((offset - base) // size)
                for operation in (dw.DW_OP_addrx, dw.DW_OP_GNU_addr_index):
                    needle = _expression(operation, index)
                    for unit in units:
                        yield from occurrences(sections.info, needle, unit.offset, unit.end)

    @cached_property
    def _by_operand(self) -> dict[bytes, list[int]]:
        """Where each address is mentioned: one pass with the work of some four for an address."""
        info, size = self._units.sections.info, self._image.word_size
        found: dict[bytes, list[int]] = {}
        begin = _expression(dw.DW_OP_addr, bytes(size))[:2]
        for offset in occurrences(info, begin):
            found.setdefault(info[offset + 2 : offset + 2 + size], []).append(offset)
        return found

    def _users(self, offset: int) -> tuple[int, list[Unit]]:
        """Return where the part of .debug_addr begins that an offset is in, and whose it is."""
        bases = self._bases
        starts = sorted(bases)
        index = bisect_right(starts, offset) - 1
        return (starts[index], bases[starts[index]]) if index >= 0 else (0, [])

    @cached_property
    def _bases(self) -> dict[int, list[Unit]]:
        bases: dict[int, list[Unit]] = {}
        for unit in self._units:
            for which in (dw.DW_AT_addr_base, dw.DW_AT_GNU_addr_base):
                if base := unit.base(which):
                    bases.setdefault(base, []).append(unit)
        return bases


def address_of(die: Die) -> int | None:
    """Return the fixed address of a variable; None where its location is anything else.

    Raises:
        BadImage: the address is in .debug_addr, and that is too short.
    """
    location = die.get(dw.DW_AT_location)
    if die.tag != dw.DW_TAG_variable or not isinstance(location, bytes) or not location:
        return None
    if location[0] == dw.DW_OP_addr and len(location) == 1 + die.unit.word_size:
        return int.from_bytes(location[1:], "little")
    if location[0] in (dw.DW_OP_addrx, dw.DW_OP_GNU_addr_index):
        try:
            index, end = uleb(location, 1)
        except (IndexError, ValueError):
            return None
        return die.unit.address(index) if end == len(location) else None
    return None


def type_of(die: Die) -> Die | None:
    """Return the entry of a variable's type, None where it has none.

    A definition may know more than its declaration: how many elements an array has.

    Raises:
        BadImage: a reference leads nowhere.
    """
    for origin in origins(die):
        if origin.form(dw.DW_AT_type) is not None:
            return origin.reference(dw.DW_AT_type)
    return None


def _expression(operation: int, operand: bytes) -> bytes:
    """Return the bytes of an expression, its length before it."""
    return bytes((1 + len(operand), operation)) + operand
