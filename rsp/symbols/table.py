"""The symbol table of a binary: names to addresses, addresses to names and source lines.

Here live: `SymbolTable` and the values it answers with. Here must not live: how a file is read
(`elf`, `lines`), and finding out the slide: here it is a number that is given.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from rsp.errors import BadImage, SymbolNotFound, nearest
from rsp.symbols.elf import ElfFile, Section
from rsp.symbols.lines import DamagedProgram, LineSections, Row, c_string, read_programs

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["SourceLine", "Symbol", "SymbolKind", "SymbolTable"]


class SymbolKind(Enum):
    """What a symbol stands for."""

    FUNCTION = "function"
    OBJECT = "object"
    LABEL = "label"
    """A place without a type or a size, as a label in assembler is."""
    ABSOLUTE = "absolute"
    """A number that the linker knows by a name; not a place in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A name for a place.

    Attributes:
        name: the symbol, as the linker spells it.
        address: where the linker put it, with the table's slide added.
        size: in bytes; 0 where the file does not say.
        kind: what is there.
        is_global: visible to other files when it was linked; local ones may share a name.
    """

    name: str
    address: int
    size: int
    kind: SymbolKind
    is_global: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLine:
    """A line of source code.

    Attributes:
        file: the path that the compiler noted; it need not exist here.
        line: the line number, from 1.
        column: from 1; 0 where the compiler does not say.
    """

    file: str
    line: int
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


# ELF specification, figures 1-16 and 1-18: by word size, the layout of a symbol and the order of
# name, value, size, info and section index in it.
_SYMBOL_LAYOUTS = {4: ("IIIBxH", (0, 1, 2, 3, 4)), 8: ("IBxHQQ", (0, 3, 4, 1, 2))}

# The types of symbols that are places; STT_SECTION, STT_FILE and STT_TLS are not.
_KINDS = {
    0: SymbolKind.LABEL,
    1: SymbolKind.OBJECT,
    2: SymbolKind.FUNCTION,
    5: SymbolKind.OBJECT,  # STT_COMMON
    10: SymbolKind.FUNCTION,  # STT_GNU_IFUNC
}

_LOOK_BACK = 64
"""How many symbols before an address may be labels within the one that it is in."""

_SHN_UNDEF, _SHN_LORESERVE, _SHN_ABS = 0, 0xFF00, 0xFFF1


class SymbolTable:
    """The symbols and source lines of an ELF file; read when the first question needs them.

    Args:
        path: an executable, a shared library or a kernel (``vmlinux``).
        slide: how far from its link addresses it was loaded; every address that is asked for or
            answered has it added.

    Raises:
        BadImage: the file cannot be read, is not ELF, or is damaged. A table that could be opened
            raises it from the first question when the symbols themselves are damaged.

    >>> from rsp.testing.boot import ELF
    >>> table = SymbolTable(ELF)
    >>> hex(table["long_start"].address)
    '0x7cc7'
    >>> table.lookup(0x7d14).name
    'tick'
    >>> print(table.line(0x7d12).file)
    rsp/testing/boot/boot.S
    """

    def __init__(self, path: str | os.PathLike[str], *, slide: int = 0) -> None:
        self.slide = slide
        self._elf = ElfFile(path)
        if self._elf.relocatable:
            raise BadImage(
                f"{self.path}: a relocatable object, whose symbols have no addresses before it "
                "is linked or loaded",
                path=self.path,
            )

    @property
    def path(self) -> str:
        """The file."""
        return self._elf.path

    def __getitem__(self, name: str) -> Symbol:
        """Return the symbol of that name; of several a global one, then the first.

        Raises:
            SymbolNotFound: there is none; the message names the nearest.
        """
        try:
            return self._by_name[name]
        except KeyError:
            hint = nearest(name, self._by_name) if self._by_name else " (it has none: stripped?)"
            raise SymbolNotFound(f"no symbol {name!r} in {self.path}{hint}", name=name) from None

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[Symbol]:
        """Iterate over all symbols, by address."""
        return iter(self._symbols)

    def __len__(self) -> int:
        return len(self._symbols)

    def __repr__(self) -> str:
        return f"SymbolTable({self.path!r})"

    def lookup(self, address: int) -> Symbol | None:
        """Return the symbol that an address lies in, or None.

        A symbol without a size reaches to the next one, or to the end of its section.
        """
        symbols, addresses = self._places
        nearest_label = None
        # A few steps back: labels within a function, and names for the same place.
        for index in range(bisect_right(addresses, address) - 1, -1, -1)[:_LOOK_BACK]:
            symbol = symbols[index]
            if address < symbol.address + symbol.size:
                return symbol
            if symbol.size == 0 and nearest_label is None:
                nearest_label = symbol
            elif symbol.size:
                break
        if nearest_label is None:
            return None
        same_section = any(
            address - self.slide in section and nearest_label.address - self.slide in section
            for section in self._elf.sections
        )
        return nearest_label if same_section else None

    def line(self, address: int) -> SourceLine | None:
        """Return the source line that the code at an address comes of, or None."""
        rows, addresses = self._rows
        address -= self.slide
        index = bisect_right(addresses, address) - 1
        if index < 0 or address >= rows[index].end or rows[index].line <= 0:
            return None  # line 0: the compiler made this code of no line in particular
        row = rows[index]
        try:
            file = row.program.file_name(row.file)
        except DamagedProgram:
            return None
        return SourceLine(file=file, line=row.line, column=row.column) if file else None

    @cached_property
    def _symbols(self) -> list[Symbol]:
        section = self._elf.of_type("SHT_SYMTAB") or self._elf.of_type("SHT_DYNSYM")
        if section is None:
            return []
        return sorted(self._read_symbols(section), key=lambda symbol: symbol.address)

    def _read_symbols(self, section: Section) -> Iterator[Symbol]:
        form, order = _SYMBOL_LAYOUTS[self._elf.word_size]
        layout = struct.Struct(("<" if self._elf.byte_order == "little" else ">") + form)
        sections = self._elf.sections
        if not 0 < section.link < len(sections) or section.entry_size != layout.size:
            raise BadImage(f"{self.path}: its symbol table is damaged", path=self.path)
        entries, names = self._elf.read(section, sections[section.link])
        whole = len(entries) - len(entries) % layout.size
        for entry in layout.iter_unpack(entries[:whole]):
            name, address, size, info, where = (entry[position] for position in order)
            binding, kind = info >> 4, _KINDS.get(info & 0xF)
            if where == _SHN_ABS:
                kind = SymbolKind.ABSOLUTE if info & 0xF == 0 else kind
            elif where == _SHN_UNDEF or where >= _SHN_LORESERVE:
                continue
            if kind is None:
                continue
            if kind is not SymbolKind.ABSOLUTE:
                address += self.slide
            try:
                text = c_string(names, name).decode(errors="surrogateescape")
            except DamagedProgram:
                continue
            if text:
                yield Symbol(
                    name=text, address=address, size=size, kind=kind, is_global=binding != 0
                )

    @cached_property
    def _by_name(self) -> dict[str, Symbol]:
        by_name: dict[str, Symbol] = {}
        for symbol in sorted(self._symbols, key=lambda symbol: not symbol.is_global):
            by_name.setdefault(symbol.name, symbol)
        return by_name

    @cached_property
    def _places(self) -> tuple[list[Symbol], list[int]]:
        """The symbols that are places; of one address the best name comes last."""
        places = [symbol for symbol in self._symbols if symbol.kind is not SymbolKind.ABSOLUTE]
        places.sort(key=lambda symbol: (symbol.address, symbol.size > 0, symbol.is_global))
        return places, [symbol.address for symbol in places]

    @cached_property
    def _rows(self) -> tuple[list[Row], list[int]]:
        loaded = [part for part in self._elf.sections if part.loaded]
        names = (".debug_line", ".debug_line_str", ".debug_str")
        line, line_strings, strings = self._elf.read(*map(self._elf.named, names))
        sections = LineSections(
            line=line,
            line_strings=line_strings,
            strings=strings,
            byte_order=self._elf.byte_order,
            word_size=self._elf.word_size,
        )
        directories = self._elf.compilation_directories()
        # Code that the linker threw away has rows still, at addresses where nothing is loaded.
        rows = [
            row
            for row in read_programs(sections, directories)
            if any(row.address in part for part in loaded)
        ]
        rows.sort(key=lambda row: row.address)
        return rows, [row.address for row in rows]
