"""One file and all that can be read of it, each part when a question first needs it.

Contents: which reader answers what, and in which order they are asked, so that a question about one
name costs no index. Not here: slides and several files (`table`), and how anything is read.

Addresses are those of the link, or where a module was placed.
"""

from __future__ import annotations

import logging
from dataclasses import astuple
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from rsp.errors import BadImage
from rsp.reprs import hex_repr
from rsp.symbols.code.block_names import BlockNames
from rsp.symbols.code.functions import FunctionFrame, Functions
from rsp.symbols.code.variables import PER_CPU_SECTION, Variables, address_of
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute
from rsp.symbols.dwarf.aranges import AddressIndex
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.die_search import entries_named
from rsp.symbols.dwarf.lines import LineProgram
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.skip_plans import Kind
from rsp.symbols.dwarf.units import Units
from rsp.symbols.elf.symtab import ABSOLUTE, ElfSymbol, Symtab
from rsp.symbols.types.spelling import spellings, split_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.location_spec import LocationSpec
    from rsp.symbols.cache.cache import Cache
    from rsp.symbols.code.location import Location
    from rsp.symbols.code.locator import Instances, Locator
    from rsp.symbols.code.variables import Variable
    from rsp.symbols.dwarf.name_index import NameIndex
    from rsp.symbols.dwarf.units import Unit
    from rsp.symbols.elf.image import Image
    from rsp.symbols.types.btf import Btf
    from rsp.symbols.types.from_dwarf import DwarfTypes
    from rsp.symbols.types.types import Type
    from rsp.symbols.unwind.orc import OrcTable
    from rsp.symbols.unwind.rules import UnwindRules
    from rsp.symbols.unwind.tables import UnwindTables

__all__ = ["Binary", "Declaration", "ElfSymbol", "FunctionFrame", "LineRow", "Place"]

logger: Final = logging.getLogger("rsp.symbols")

# What a name stands for behind a keyword, and the same in the order in which a bare name is taken.
_TYPES = {
    "struct": (frozenset((Kind.STRUCTURE, Kind.CLASS)),),
    "union": (frozenset((Kind.UNION,)),),
    "enum": (frozenset((Kind.ENUMERATION,)),),
}
_BARE_TYPES = (
    frozenset((Kind.TYPEDEF, Kind.BASE)),
    *(kinds for keyword in _TYPES.values() for kinds in keyword),
)

# What may be a name in an expression.
_DEFINED = frozenset((Kind.FUNCTION, Kind.VARIABLE, Kind.ENUMERATOR))
_ENUMERATOR = frozenset((dw.DW_TAG_enumerator,))

_MANY = 32
"""So many places of a name or a line are kept in the cache."""
_HEAD = 4096
"""So many bytes of a unit are searched for the offset of its line program."""
_LONGEST_KIND = 140
"""A name of a file has 255 bytes at most."""

_MOST_ANSWERS = 1024  # that are kept of a kind
_KEPT = 256
"""How many line programs are kept."""


class Place(NamedTuple):
    """A line of source code, and the directory that its file is relative to."""

    file: str
    line: int
    column: int
    directory: str


class LineRow(NamedTuple):
    """A row of a line table.

    Attributes:
        begin, end: the addresses that it covers, the second one excluded.
        place: the line.
        is_statement: whether a statement begins at ``begin``.
        program: the number of the table: gdb has the files of each for themselves.
    """

    begin: int
    end: int
    place: Place
    is_statement: bool
    program: int

    def __repr__(self) -> str:
        return hex_repr(self)


class Declaration(NamedTuple):
    """Where the source has something, and how it is declared there; None where nothing says so."""

    file: str | None
    line: int | None
    prototype: str | None


class Binary:
    """What a file says of itself.

    Args:
        image: the file with the code; its debug file is found where it has none of its own.
        cache: keeps the index of names between processes.
        progress: called with the bytes done and the bytes in all while that index is made.
        base: the kernel, for a module, whose BTF goes on where the kernel's ends.

    Raises:
        BadImage: from every method, where what is asked for is damaged.
    """

    def __init__(
        self,
        image: Image,
        *,
        cache: Cache,
        progress: Callable[[int, int], None] | None = None,
        base: Binary | None = None,
    ) -> None:
        self.image = image
        self._cache = cache
        self._progress = progress
        self._base = base
        # Stacks go through the same functions again and again, and tools ask for the same types.
        keep = lru_cache(_MOST_ANSWERS)
        self.row: Callable[[int], LineRow | None] = keep(self._row)
        self.unwind_rules: Callable[[int], UnwindRules | None] = keep(self._rules)
        self.blocks: Callable[[int], tuple[Unit | None, tuple[Die, ...]]] = keep(self._blocks)
        self.type: Callable[[str], Type | None] = keep(self._type)
        self._programs: dict[int, LineProgram] = {}
        self._scopes: dict[int, BlockNames] = {}

    @property
    def path(self) -> str:
        """The file."""
        return self.image.path

    def read(self, address: int, size: int) -> bytes:
        """Return what the file has at an address, less where its section ends, none without one."""
        section = self.image.section_at(address)
        if section is None:
            return b""
        at = address - section.address
        return self.image.contents(section)[at : at + size]

    # The readers.

    @cached_property
    def debug(self) -> Image:
        """The file with the debug information, which may be the file itself."""
        if self.image.named(".debug_info") is None:
            from rsp.symbols.elf.debugfile import find_debug_file

            found = find_debug_file(self.image)
            if found is not None:
                logger.info("%s: its debug information is in %s", self.path, found.path)
                return found
        return self.image

    @cached_property
    def symtab(self) -> Symtab:
        """The symbols; those of the debug file where the file itself was stripped."""
        own = Symtab(self.image, self._cache)
        if self.image.named(".symtab") is None and self.debug is not self.image:
            return Symtab(self.debug, self._cache)
        return own

    @cached_property
    def units(self) -> Units:
        """The units of its DWARF."""
        return Units(DwarfSections(self.debug))

    @cached_property
    def functions(self) -> Functions:
        """Its functions and what is inlined into them."""
        return Functions(self._file_name)

    @cached_property
    def variables(self) -> Variables:
        """Its variables by address."""
        return Variables(self.image, self.units, self.functions)

    @cached_property
    def types(self) -> DwarfTypes:
        """The types of its DWARF."""
        from rsp.symbols.types.from_dwarf import DwarfTypes

        return DwarfTypes(self.units, self._definition)

    @cached_property
    def btf(self) -> Btf | None:
        """The types of its BTF, None where it has none, or a module's without its kernel."""
        if self.image.named(".BTF") is None or (self.image.relocatable and self._base is None):
            return None
        from rsp.symbols.types.btf import Btf

        return Btf(
            self.image.contents(".BTF"),
            self._base.btf if self._base is not None else None,
            word_size=self.image.word_size,
        )

    @cached_property
    def index(self) -> NameIndex:
        """The names of its DWARF: from the cache, or made now, in seconds for a kernel."""
        from rsp.symbols.dwarf.name_index import load_or_build

        if self._kept_index is not None:
            return self._kept_index
        return load_or_build(self.units, self.debug, self._cache, self._progress)

    @cached_property
    def _kept_index(self) -> NameIndex | None:
        from rsp.symbols.dwarf.name_index import load

        return load(self.debug, self._cache)

    @cached_property
    def _unwind(self) -> UnwindTables:
        from rsp.symbols.unwind.tables import UnwindTables

        debug = None if self.debug is self.image else self.debug
        return UnwindTables(self.image, debug, cache=self._cache)

    @cached_property
    def _locator(self) -> Locator:
        from rsp.symbols.code.locator import Locator

        return Locator(
            image=self.image,
            symtab=self.symtab,
            units=self.units,
            unit_at=self._addresses.unit_at,
            functions=self.functions,
            program=self.program,
            instances=self._instances,
            nearest=lambda name: self.index.nearest(name),
        )

    def _instances(self, name: str) -> Instances:
        from rsp.symbols.code.locator import Instances

        entries = [each for each in self.index.find(name) if not each.declaration]
        return Instances(
            concrete=[each.offset for each in entries if each.kind is Kind.FUNCTION],
            abstract=[each.offset for each in entries if each.kind is Kind.INLINE],
            starts=self.index.function_entries,
        )

    @cached_property
    def _addresses(self) -> AddressIndex:
        return AddressIndex(self.units)

    # The questions.

    def find(self, name: str) -> tuple[ElfSymbol, ...]:
        """Return the symbols of a name, global ones first."""
        return self.symtab.find(name)

    def lookup(self, address: int) -> ElfSymbol | None:
        """Return the symbol that an address lies in."""
        return self.symtab.lookup(address)

    def unit_at(self, address: int) -> Unit | None:
        """Return the unit whose code is at an address."""
        return self._addresses.unit_at(address)

    def line(self, address: int) -> Place | None:
        """Return the line that the code at an address belongs to."""
        row = self.row(address)
        return row.place if row is not None else None

    def _row(self, address: int) -> LineRow | None:
        """Return the row of the line table that an address is in."""
        unit = self._addresses.unit_at(address)
        program = self.program(unit) if unit else None
        row = program.table.row_at(address) if program else None
        if program is None or row is None:
            return None
        header = program.header
        place = Place(header.name(row.file), row.line, row.column, header.directory)
        return LineRow(row.address, row.end, place, row.is_stmt, header.offset)

    def frames(self, address: int) -> tuple[FunctionFrame, ...]:
        """Return the functions that an address is in, the innermost inlined copy first."""
        unit = self._addresses.unit_at(address)
        return self.functions.frames(unit, address) if unit else ()

    def _blocks(self, address: int) -> tuple[Unit | None, tuple[Die, ...]]:
        """Return the unit at an address, and the functions and blocks there, innermost last."""
        unit = self._addresses.unit_at(address)
        return unit, self.functions.blocks(unit, address) if unit is not None else ()

    def _rules(self, address: int) -> UnwindRules | None:
        """Return how to find the caller's registers from those at an address."""
        return self._unwind.rules_at(address)

    @property
    def orc(self) -> OrcTable:
        """Its ORC entries, whose format is that of its modules, too."""
        return self._unwind.orc

    @property
    def has_types(self) -> bool:
        """Whether it has debug information of any kind."""
        return self.btf is not None or bool(self.units.offsets)

    def moves(self, symbol: ElfSymbol) -> bool:
        """Return whether a symbol's address moves with the file when that is loaded elsewhere.

        Numbers do not, and neither do offsets into a CPU's own data: up to Linux 6.14 their section
        is linked at 0 on x86-64.
        """
        if symbol.section == PER_CPU_SECTION:
            section = self.image.named(PER_CPU_SECTION)
            return section is not None and section.address != 0
        return symbol.section != ABSOLUTE

    def is_per_cpu(self, symbol: ElfSymbol) -> bool:
        """Return whether each CPU has its own, at an offset into its area that the address is."""
        return symbol.section == PER_CPU_SECTION

    def is_code(self, symbol: ElfSymbol) -> bool:
        """Return whether a symbol stands for code."""
        return self.symtab.is_code(symbol)

    def describe(self, symbol: ElfSymbol) -> Declaration:
        """Return what the debug information says of a symbol, as far as that is to be had."""
        try:
            if symbol.section == ABSOLUTE:
                return Declaration(None, None, None)
            if self.is_code(symbol):
                return self._describe_code(symbol)
            return self._describe_data(symbol)
        except BadImage as damage:
            logger.debug("%s", damage)
            return Declaration(None, None, None)

    def _type(self, name: str) -> Type | None:
        """Return a type by its name in C, None where there is none."""
        if self.btf is not None and (found := self.btf.find(name)) is not None:
            return found
        return self._dwarf_type(name)

    def locations(self, spec: LocationSpec) -> tuple[Location, ...]:
        """Return the places that a breakpoint at something goes to.

        Where they are many, they are kept in the cache: to name the line of each of 500 inlined
        copies takes half a second.

        Raises:
            SymbolNotFound: there is no such function, file or line.
        """
        kind = f"places-{spec.text.encode('utf-8', 'replace').hex()}"
        key = self.debug.address_key
        if key is None or len(kind) > _LONGEST_KIND:
            return self._locator.find(spec)
        if (kept := self._cache.load(key, kind)) is not None:
            return _decoded(kept)
        found = self._locator.find(spec)
        if len(found) >= _MANY:
            self._cache.store(key, kind, _encoded(found))
        return found

    def symbols_of(self, spec: LocationSpec) -> tuple[ElfSymbol, ...]:
        """Return the symbols that a place is given from; see `Locator.symbols`.

        Raises:
            SymbolNotFound: there is none, or none of that size.
        """
        return self._locator.symbols(spec)

    def source_file(self, suffix: str) -> tuple[str, str] | None:
        """Return the name and the directory of a source file, by the end of its path."""
        for program, files in self._locator.programs(suffix):
            return program.header.name(files[0]), program.header.directory
        return None

    def nearest_types(self, name: str) -> tuple[str, ...]:
        """Return names of types that are much like one that is not there."""
        return self.index.nearest(split_name(name)[1])

    def declared_in(self, owner: Die, name: str) -> Die | None:
        """Return what a unit, a function or a block declares by a name; see `BlockNames.find`."""
        return self._scope(owner).find(name)

    def type_in(self, owner: Die, name: str) -> Type | None:
        """Return a type that a unit, a function or a block defines itself."""
        die = self._scope(owner).type(name)
        return self.types.type(die) if die is not None else None

    def names_in(self, owner: Die) -> tuple[str, ...]:
        """Return the names that `declared_in` knows."""
        return tuple(self._scope(owner).names())

    def units_of(self, file: str) -> tuple[Unit, ...]:
        """Return the units of a source file, by the end of its path; of a header, one with it."""
        programs = {program.header.offset for program, _ in self._locator.programs(file)}
        needles = [offset.to_bytes(4, "little") for offset in programs]
        info = self.units.sections.info
        found = []
        for unit in self.units if programs else ():
            # To read the entries of all units takes a second in a kernel.
            head = info[unit.first_die : min(unit.first_die + _HEAD, unit.end)]
            likely = len(needles) > _MANY or any(needle in head for needle in needles)
            if likely and unit.line_offset in programs:
                found.append(unit)
        own = [unit for unit in found if f"/{unit.comp_dir}/{unit.name}".endswith(f"/{file}")]
        return tuple(own or found[:1])

    def defined(self, name: str) -> tuple[Die, ...]:
        """Return what any unit defines by a name: variables, functions and enumerations.

        An enumerator is found by a search of .debug_info, in 0.1 s for a kernel; the index is made
        for what that does not find, unless there is no such name at all.
        """
        index = self.__dict__.get("index") or self._kept_index
        if index is None:
            for die in entries_named(self.units, name, _ENUMERATOR):
                found = self._scope(Die.root_of(die.unit)).find(name)
                if found is not None:
                    return (found,)
            if not self._mentions(name):
                return ()
            index = self.index
        entries = (each for each in index.find(name) if not each.declaration)
        return tuple(Die.at(self.units, each.offset) for each in entries if each.kind in _DEFINED)

    def _mentions(self, name: str) -> bool:
        """Return whether a text is in the DWARF at all."""
        text = name.encode(errors="surrogateescape") + b"\0"
        sections = self.units.sections
        return any(
            each.find(text) >= 0 for each in (sections.str, sections.line_str, sections.info)
        )

    def _scope(self, owner: Die) -> BlockNames:
        scope = self._scopes.get(owner.offset)
        if scope is None:
            if len(self._scopes) >= _KEPT:
                del self._scopes[next(iter(self._scopes))]
            scope = BlockNames(self.functions.walk(owner.unit), owner)
            self._scopes[owner.offset] = scope
        return scope

    def variable(self, symbol: ElfSymbol) -> Variable | None:
        """Return the variable that a symbol stands for."""
        names = _names(symbol)
        found = self._indexed(names[1], symbol.address) or self.variables.at(symbol.address)
        named = [each for each in found if each.name in names] or found
        # A weak definition beside the one that was linked may have an array without bounds.
        sized = [each for each in named if self.types.type_of(each.die).size is not None]
        return next(iter(sized or named), None)

    def type_of_function(self, symbol: ElfSymbol) -> Type | None:
        """Return the prototype of the function that a symbol is the entry of, None without one."""
        frames = self.frames(symbol.address)
        if frames and frames[-1].entry == symbol.address:
            return self.types.type(frames[-1].die)
        return None if self.btf is None else self.btf.function(symbol.name)

    def type_of_variable(self, symbol: ElfSymbol) -> Type | None:
        """Return the type of the variable that a symbol stands for, None where nothing says so."""
        entry = self._entry_of_variable(symbol)
        if entry is not None:
            return self.types.type_of(entry)
        if self.btf is None:
            return None
        found = self.btf.variable(symbol.name)
        if found is None and self._base is None:
            from rsp.symbols.types.kernel_variables import kernel_variable

            return kernel_variable(self.btf, symbol.name, symbol.size, self.image.word_size)
        return found

    def _entry_of_variable(self, symbol: ElfSymbol) -> Die | None:
        """Return the entry that says what a symbol of data is: its definition or a declaration.

        A name that the linker's script or assembler has made is declared somewhere in C; a variable
        of another name that lies there (``jiffies_64``, for ``jiffies``) may be of another type.
        """
        if not symbol.size and (declared := self._declared(symbol)) is not None:
            return declared
        variable = self.variable(symbol)
        if variable is None:
            return self._declared(symbol) if symbol.size else None
        is_label = not symbol.size and variable.name not in _names(symbol)
        return None if is_label else variable.die

    def _declared(self, symbol: ElfSymbol) -> Die | None:
        """Return what C files declare for a name that they do not define."""
        if not symbol.is_global:
            return None
        entries = self.variables.declarations(symbol.name)
        sized = (die for die in entries if self.types.type_of(die).size is not None)
        return next(sized, next(iter(entries), None))

    def program(self, unit: Unit) -> LineProgram | None:
        """Return the line program of a unit; the last ones are kept."""
        offset = unit.line_offset
        if offset is None:
            return None
        program = self._programs.get(offset)
        if program is None:
            if len(self._programs) >= _KEPT:
                del self._programs[next(iter(self._programs))]
            program = LineProgram(unit.sections, offset, unit.comp_dir)
            self._programs[offset] = program
        return program

    def _indexed(self, name: str, address: int) -> tuple[Variable, ...]:
        """Return the variables of a name at an address, where there is an index to ask."""
        index = self.__dict__.get("index") or self._kept_index
        if index is None:
            return ()
        entries = [each for each in index.find(name) if each.kind is Kind.VARIABLE]
        dies = [Die.at(self.units, each.offset) for each in entries if not each.declaration]
        return tuple(
            self.variables.describe(die, address) for die in dies if address_of(die) == address
        )

    def _file_name(self, unit: Unit, file: int) -> str | None:
        try:
            program = self.program(unit)
            return program.header.name(file) if program else None
        except BadImage:
            return None

    def _describe_code(self, symbol: ElfSymbol) -> Declaration:
        unit = self._addresses.unit_at(symbol.address)
        die = self.functions.at(unit, symbol.address) if unit else None
        declared = self._declaration(die, self.types.type(die)) if die else None
        if declared is None or declared.file is None:  # assembler has lines, and entries without
            place = self.line(symbol.address)
            prototype = declared.prototype if declared else None
            return Declaration(place and place.file, place and place.line, prototype)
        return declared

    def _describe_data(self, symbol: ElfSymbol) -> Declaration:
        entry = self._entry_of_variable(symbol)
        if entry is None:
            return Declaration(None, None, None)
        return self._declaration(entry, self.types.type_of(entry))

    def _declaration(self, die: Die, declared: Type) -> Declaration:
        """Put together what the entry of a function or of a variable says."""
        name, external = attribute(die, dw.DW_AT_name), attribute(die, dw.DW_AT_external)
        file, line = self.functions.declared(die)
        storage = "" if external else "static "
        prototype = f"{storage}{declared.declaration(str(name))};" if name is not None else None
        return Declaration(file, line or None, prototype)

    def _dwarf_type(self, name: str) -> Type | None:
        if not self.units.offsets:
            return None
        if "index" not in self.__dict__:
            from rsp.symbols.types.from_dwarf import find_without_index

            # A search for one name takes less than making the index, and may fail to find it.
            if (die := find_without_index(self.units, name)) is not None:
                return self.types.type(die)
        keyword, bare = split_name(name)
        entries = [entry for each in spellings(bare) for entry in self.index.find(each)]
        for kinds in _TYPES.get(keyword, _BARE_TYPES):
            for entry in entries:  # definitions come before declarations
                if entry.kind in kinds:
                    return self.types.type(Die.at(self.units, entry.offset))
        return None

    def _definition(self, keyword: str, tag: str) -> Type | None:
        return self.type(f"{keyword} {tag}")


def _names(symbol: ElfSymbol) -> tuple[str, str]:
    """Return what the source may call a variable: a static within a function is NAME.NUMBER."""
    return symbol.name, symbol.name.partition(".")[0]


def _encoded(places: tuple[Location, ...]) -> bytes:
    import json

    return json.dumps([astuple(place) for place in places]).encode()


def _decoded(kept: memoryview) -> tuple[Location, ...]:
    import json

    from rsp.symbols.code.location import Location

    rows = json.loads(bytes(kept))
    return tuple(
        Location(address=address, function=function, file=file, line=line, inlined=inlined)
        for address, function, file, line, inlined in rows
    )
