"""The places that a breakpoint goes to: all of them, for a name, a source line or an address.

Contents: what gdb's linespecs stand for in C (gdb manual, "Location Specifications"), chosen as gdb
13 chooses (gdb/linespec.c, gdb/symtab.c; the differences are in the docstrings). Not here: how
names are indexed, and what is done at a place.

A function that was inlined has a place for each copy: in a Debian kernel 6.1 `list_add` has 535.
"""

from __future__ import annotations

from contextlib import suppress
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from rsp.errors import BadImage, SymbolNotFound, nearest
from rsp.symbols.code.location import Location
from rsp.symbols.code.prologue import LANGUAGE_ASSEMBLER, WINDOW, after_prologue, locations_valid
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.line_header import LineHeader, program_offsets
from rsp.symbols.dwarf.line_search import programs_with_file
from rsp.symbols.dwarf.ranges import entry_pc, pc_ranges
from rsp.symbols.dwarf.walk import occurrences
from rsp.symbols.elf.kallsyms import has_size
from rsp.symbols.elf.symtab import Binding, ElfSymbol, SymbolKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rsp.location_spec import LocationSpec
    from rsp.symbols.code.functions import Functions
    from rsp.symbols.dwarf.lines import LineProgram
    from rsp.symbols.dwarf.ranges import Ranges
    from rsp.symbols.dwarf.units import Unit, Units
    from rsp.symbols.elf.image import Image
    from rsp.symbols.elf.symtab import Symtab

_COPIES = (b"\x1d\x01\x31\x10", b"\x1d\x00\x31\x10")
"""How an abbreviation begins that is of copies of functions of other units: the tag, whether it has
children, DW_AT_abstract_origin, DW_FORM_ref_addr. Only link-time optimization makes such copies."""


class Instances(NamedTuple):
    """Where in .debug_info the entries of the functions of a name are.

    Attributes:
        concrete: those with code of their own.
        abstract: those that inlined copies refer to (DW_AT_inline).
        starts: where entries of functions begin, of whatever name, ascending; as many as are known.
            The search for copies begins close by.
    """

    concrete: Sequence[int]
    abstract: Sequence[int]
    starts: Sequence[int] = ()


class Locator:
    """Finds the places that a location specification stands for.

    Args:
        image: the file, with the code.
        symtab: its symbols.
        units: its DWARF; may be empty.
        unit_at: the unit of an address.
        functions: the functions of the units.
        program: the line program of a unit.
        instances: the entries of the functions of a name.
        nearest: names that are much like one that is not there.

    Raises:
        BadImage: from every method, where the file makes no sense.
        SymbolNotFound: there is no such name, file or line.
    """

    def __init__(
        self,
        *,
        image: Image,
        symtab: Symtab,
        units: Units,
        unit_at: Callable[[int], Unit | None],
        functions: Functions,
        program: Callable[[Unit], LineProgram | None],
        instances: Callable[[str], Instances],
        nearest: Callable[[str], Sequence[str]],
    ) -> None:
        self._image = image
        self._symtab = symtab
        self._units = units
        self._unit_at = unit_at
        self._functions = functions
        self._program = program
        self._instances = instances
        self._nearest = nearest

    def find(self, spec: LocationSpec) -> tuple[Location, ...]:
        """Return the places that are meant, by address; an address is one of the file's own."""
        if spec.address is not None:
            return (self.at(spec.address),)
        if spec.file is not None and spec.line is not None:
            return self.at_line(spec.file, spec.line)
        name = spec.name or ""
        if spec.offset is not None:
            return tuple(self.at(each.address + spec.offset) for each in self.symbols(spec))
        found = self.named(name)
        if spec.file is not None:
            found = tuple(each for each in found if each.file and _is_file(each.file, spec.file))
        if not found:
            raise SymbolNotFound(f"no function {spec.text!r}{self._hint(name)}", name=spec.text)
        return found

    def at(self, address: int) -> Location:
        """Return an address as a place."""
        return self._place(address, self._unit_at(address))

    def named(self, name: str) -> tuple[Location, ...]:
        """Return where the functions of a name begin, behind their prologues; none where unknown.

        Clones made by the compiler (`name.part.0`, `name.isra.0`) go with the name, as their
        entries say that they are of it; under their own name there is the symbol only.
        """
        places: dict[int, Location] = {}
        known = set()  # where a symbol adds nothing, be its size another one (COFF has none)
        instances = self._instances(name)
        for offset in instances.concrete:
            die = Die.at(self._units, offset)
            if ranges := _ranges(die):
                begin = ranges[0][0]
                known.add(begin)
                address = self._behind(begin, max(end for _, end in ranges), die.unit)
                if address not in places:
                    places[address] = self._place(address, die.unit, name, moved=address != begin)
        for die in self._copies(instances):
            at = self._begin_of_copy(die)
            if at is None:
                continue
            address = self._settled(at, die.unit)
            if address not in places:
                places[address] = self._place(
                    address, die.unit, name, inlined=True, moved=address != at
                )
        for symbol in self._symtab.find(name):
            if self._symtab.is_code(symbol) and symbol.address not in known:
                unit = self._unit_at(symbol.address)
                address = self._behind(symbol.address, symbol.address + symbol.size, unit)
                if address not in places:
                    places[address] = self._place(address, unit, None if unit else name)
        return tuple(places[address] for address in sorted(places))

    def at_line(self, file: str, line: int) -> tuple[Location, ...]:
        """Return where the code of a line begins: one place in each block that has code of it.

        Where the line has no code, the next one that has some is meant.

        Args:
            file: its path, or the last components of that.
            line: from 1.
        """
        programs = self.programs(file)
        if not programs:
            raise SymbolNotFound(
                f"no source file {file!r} in {self._image.path}{self._nearest_file(file)}",
                name=file,
            )
        rows = [
            (address, program.header.name(files[0]))
            for program, files in programs
            for address in program.table.addresses(files, line)
        ]
        if not rows:
            after = [program.table.nearest_line(files, line) for program, files in programs]
            known = [number for number in after if number is not None]
            if not known:
                text = f"{file}:{line}"
                raise SymbolNotFound(f"no code at {text}, nor behind it in that file", name=text)
            line = min(known)
            rows = [
                (address, program.header.name(files[0]))
                for program, files in programs
                for address in program.table.addresses(files, line)
            ]
        places: dict[int, Location] = {}
        seen: set[int] = set()
        for begin, name in rows:
            unit = self._unit_at(begin)
            blocks = self._functions.blocks(unit, begin) if unit else ()
            # Code of one line may lie in many pieces: within a block the first is enough.
            block = next((die for die in reversed(blocks) if self._functions.is_block(die)), None)
            if block is not None:
                if block.offset in seen:
                    continue
                seen.add(block.offset)
            address = begin if unit is None else self._settled(begin, unit)
            if address in places:
                continue
            place = self._place(address, unit, moved=address != begin)
            scope = next((die for die in reversed(blocks) if _is_function(die)), None)
            places[address] = Location(
                address=address,
                function=_name(scope) if scope else place.function,
                file=name if address == begin else place.file,
                line=line if address == begin else place.line,
                inlined=scope is not None and scope.tag == dw.DW_TAG_inlined_subroutine,
            )
        return tuple(places[address] for address in sorted(places))

    def programs(self, file: str) -> list[tuple[LineProgram, list[int]]]:
        """Return the line programs that know a source file, and the numbers that it has there.

        Args:
            file: its path, or the last components of that.
        """
        return programs_with_file(
            self._units.sections, file, lambda at: self._comp_dirs.get(at, "")
        )

    def _copies(self, instances: Instances) -> Iterator[Die]:
        """Yield the inlined copies of functions, in the units of these and in others."""
        info = self._units.sections.info
        wanted = set(instances.abstract)
        hits: dict[int, list[int]] = {}
        for offset in sorted(wanted):
            unit = self._units.at(offset)
            reference = (offset - unit.offset).to_bytes(4, "little")
            found = hits.setdefault(unit.offset, [])
            found += occurrences(info, reference, unit.offset, unit.end)
            if self._has_foreign_copies:
                for at in occurrences(info, offset.to_bytes(unit.offset_size, "little")):
                    hits.setdefault(self._units.at(at).offset, []).append(at)
        for begin, offsets in hits.items():
            if not offsets:
                continue
            unit = self._units.starting_at(begin)
            # The bytes may be part of anything: only whole entries count.
            for _, die in self._functions.walk(unit).entries_at(set(offsets), instances.starts):
                origin = die.number(dw.DW_AT_abstract_origin)
                if die.tag == dw.DW_TAG_inlined_subroutine and origin in wanted:
                    yield die

    def _begin_of_copy(self, die: Die) -> int | None:
        """Return where an inlined copy begins; None for one that has no place at all.

        gdb 13 takes the begin of the first range, not DW_AT_entry_pc. Of a copy that has no code
        left the file says where it would be entered, and gdb 18 puts a breakpoint there, too.
        """
        if ranges := _ranges(die):
            return ranges[0][0]
        entry = entry_pc(die)
        section = self._image.section_at(entry) if entry is not None else None
        return entry if section is not None and section.executable else None

    def _place(
        self,
        address: int,
        unit: Unit | None,
        function: str | None = None,
        *,
        inlined: bool = False,
        moved: bool = False,
    ) -> Location:
        """Return a place; where no function is given, with the innermost one there.

        A place that was moved behind a prologue and into an inlined copy is shown at the call.
        """
        file, line = None, 0
        if function is None or moved:
            blocks = self._functions.blocks(unit, address) if unit else ()
            scopes = [die for die in blocks if _is_function(die)]
            if moved and len(scopes) > 1 and (call := self._functions.describe(scopes[1]).call):
                file, line = call.file, call.line
            if function is None and scopes:
                function = _name(scopes[-1])
                inlined = len(scopes) > 1
        if function is None and (symbol := self._symtab.lookup(address)):
            function = symbol.name
        if not line and unit and (program := self._program(unit)):
            row = program.table.row_at(address)
            if row is not None:
                file, line = program.header.name(row.file), row.line
        return Location(address=address, function=function, file=file, line=line, inlined=inlined)

    def _settled(self, address: int, unit: Unit) -> int:
        """Return an address, or the one behind the prologue of its function if it is in that.

        gdb 13 also moves what is in a part of the function below its entry, where the prologue is
        not: code that is seldom run is often there.
        """
        if unit.language == LANGUAGE_ASSEMBLER or locations_valid(unit):
            return address
        function = self._functions.at(unit, address)
        ranges = _ranges(function) if function else ()
        if not ranges:
            return address
        entry = ranges[0][0]
        after = self._behind(entry, max(end for _, end in ranges), unit)
        return after if entry <= address < after else address

    def _behind(self, entry: int, end: int, unit: Unit | None) -> int:
        """Return the address behind the prologue of a function."""
        section = self._image.section_at(entry)
        code = b""
        if section is not None:
            at = entry - section.address
            code = self._image.contents(section)[at : at + WINDOW]
        program = self._program(unit) if unit else None

        def is_inlined(address: int) -> bool:
            blocks = self._functions.blocks(unit, address) if unit else ()
            return any(die.tag == dw.DW_TAG_inlined_subroutine for die in blocks)

        return after_prologue(
            code,
            entry,
            end,
            word_size=self._image.word_size,
            unit=unit,
            lines=program.table if program else None,
            is_inlined=is_inlined,
        )

    def symbols(self, spec: LocationSpec) -> tuple[ElfSymbol, ...]:
        """Return the symbol that a place is given from; all of its size, where it has one.

        The name of a section stands for its begin: ``.text+0x10``.
        """
        name = spec.name or ""
        named = self._symtab.find(name) or self._section(name)
        if not named:
            known = self._symtab.names()
            hint = nearest(name, known) if len(self._symtab) else " (it has none: stripped?)"
            raise SymbolNotFound(f"no symbol {name!r} in {self._image.path}{hint}", name=name)
        if spec.size is None:
            return named[:1]
        size = spec.size
        found = tuple(each for each in named if has_size(each, size, self._image, self._symtab))
        if not found:
            sizes = ", ".join(f"{each.size:#x}" for each in named)
            raise SymbolNotFound(
                f"no {name!r} of {size:#x} bytes in {self._image.path}, which has {sizes}: the "
                "place is of another build",
                name=name,
            )
        return found

    def _section(self, name: str) -> tuple[ElfSymbol, ...]:
        section = self._image.named(name)
        if section is None or not section.loaded:
            return ()
        return (
            ElfSymbol(
                name=name,
                address=section.address,
                size=section.size,
                kind=SymbolKind.LABEL,
                binding=Binding.LOCAL,
                section=name,
            ),
        )

    def _hint(self, name: str) -> str:
        if not len(self._symtab) and not len(self._units):
            return " (it has no symbols: stripped?)"
        # Inlined functions are no symbols, and symbols need no entries.
        near = self._nearest(name) or get_close_matches(name, list(self._symtab.names()), 3, 0.7)
        return f" (nearest: {', '.join(near)})" if near else ""

    def _nearest_file(self, file: str) -> str:
        base = file.rpartition("/")[2]
        known = set()
        for offset in program_offsets(self._units.sections):
            with suppress(BadImage):
                header = LineHeader(self._units.sections, offset)
                numbers = range(header.first_file, header.first_file + len(header.files.entries))
                known |= {header.name(number).rpartition("/")[2] for number in numbers}
        near = get_close_matches(base, known, 3, 0.7)
        return f" (nearest: {', '.join(near)})" if near else ""

    @cached_property
    def _comp_dirs(self) -> dict[int, str]:
        """The directory of the compilation, by where the line program is."""
        return {
            unit.line_offset: unit.comp_dir
            for unit in self._units
            if unit.version < 5 and unit.line_offset is not None
        }

    @cached_property
    def _has_foreign_copies(self) -> bool:
        abbrev = self._units.sections.abbrev
        return any(abbrev.find(begin) >= 0 for begin in _COPIES)


def _ranges(die: Die) -> Ranges:
    """Return where the code of an entry is; nowhere if its list is damaged."""
    try:
        return pc_ranges(die)
    except BadImage:
        return ()


def _is_function(die: Die) -> bool:
    return die.tag in (dw.DW_TAG_subprogram, dw.DW_TAG_inlined_subroutine)


def _name(die: Die) -> str | None:
    name = attribute(die, dw.DW_AT_name)
    return name if isinstance(name, str) else None


def _is_file(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f"/{suffix}")
