"""Objects and modules (ET_REL) that have addresses, relocated as a linker or the kernel does it.

Contents: `RelocatedImage`, and what each type of relocation writes (psABI of x86-64, table 4.9; of
i386, table 2.10). Not here: where the addresses come from (`modules`).
"""

from __future__ import annotations

import mmap
import struct
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from rsp.errors import nearest
from rsp.symbols.elf.image import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHN_XINDEX,
    SHT_REL,
    SHT_RELA,
    SHT_SYMTAB,
    Image,
    Section,
)
from rsp.symbols.elf.section_data import SectionData

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping

_SHT_SYMTAB_SHNDX = 18
_SHN_UNDEF, _SHN_LORESERVE, _SHN_ABS = 0, 0xFF00, 0xFFF1
_SHF_RELA_LIVEPATCH = 0x00100000  # applied by the kernel when the module that they patch is loaded

# What relocating itself reads.
_NEVER_RELOCATED = (SHT_SYMTAB, SHT_RELA, SHT_REL, _SHT_SYMTAB_SHNDX)

# Where sections are put that have no address: x86-64 CPUs can have nothing there (it is not
# canonical, with four levels of page tables or five); a 32-bit kernel has its processes there.
_NOWHERE = {4: 0x1000, 8: 0x4000_0000_0000_0000}
_ALIGNMENT = 0x1000

# Tables about code as distances from where they are: what matters of that is that the code is in
# reach, and nobody needs to look up the addresses of hundreds of sections for them.
_TABLES = (".eh_frame", ".orc_unwind_ip")

# By the size of an address and the type of the table: offset, info, addend (or in the place).
_ENTRIES = {
    (8, SHT_RELA): struct.Struct("<QQq"),
    (8, SHT_REL): struct.Struct("<QQ"),
    (4, SHT_RELA): struct.Struct("<IIi"),
    (4, SHT_REL): struct.Struct("<II"),
}
_SYMBOL_SHIFT = {4: 8, 8: 32}  # an entry's info: the symbol's index above, the type below
# By the size of an address: the layout of a symbol; value and section index in it.
_SYMBOLS = {4: (struct.Struct("<IIIBBH"), 1, 5), 8: (struct.Struct("<IBBHQQ"), 4, 3)}


class _Kind(NamedTuple):
    """What a type of relocation writes: symbol's value and addend, less the place if relative."""

    number: struct.Struct
    relative: bool


if TYPE_CHECKING:
    # How to store, the symbol's value, whether to take off the place, and what is stored. A plain
    # tuple: 730,000 are unpacked for a big module, and a named one would cost a third more.
    _Recipe = tuple[Callable[[mmap.mmap, int, int], None], int, bool, struct.Struct]

_KINDS = {
    "x86-64": {
        1: _Kind(struct.Struct("<Q"), False),  # R_X86_64_64
        2: _Kind(struct.Struct("<i"), True),  # PC32
        4: _Kind(struct.Struct("<i"), True),  # PLT32, which is PC32 where there is no PLT
        10: _Kind(struct.Struct("<I"), False),  # 32
        11: _Kind(struct.Struct("<i"), False),  # 32S
        12: _Kind(struct.Struct("<H"), False),  # 16
        13: _Kind(struct.Struct("<h"), True),  # PC16
        14: _Kind(struct.Struct("<B"), False),  # 8
        15: _Kind(struct.Struct("<b"), True),  # PC8
        24: _Kind(struct.Struct("<q"), True),  # PC64
    },
    "i386": {
        1: _Kind(struct.Struct("<I"), False),  # R_386_32
        2: _Kind(struct.Struct("<i"), True),  # PC32
        4: _Kind(struct.Struct("<i"), True),  # PLT32
        20: _Kind(struct.Struct("<H"), False),  # 16
        21: _Kind(struct.Struct("<h"), True),  # PC16
        22: _Kind(struct.Struct("<B"), False),  # 8
        23: _Kind(struct.Struct("<b"), True),  # PC8
    },
}
_NO_NUMBER = struct.Struct("")
# The types up to these that are not above are NONE, or about what only a linker makes (GOT, TLS).
_LAST_TYPE = {"x86-64": 42, "i386": 43}


# The kernel keeps a module's symbols in memory (CONFIG_KALLSYMS) and lists where, though the file
# does not say that they are loaded.
_KALLSYMS = frozenset({".symtab", ".strtab"})


class RelocatedImage(Image):
    """An object or a module at the addresses where it was loaded.

    It has the interface of any other image: sections have their addresses, and the contents of
    a section are relocated, in a copy of that section, when they are first asked for. References
    to symbols of other files stay as they are in the file: 0, as a rule.

    A section that no address is given for is not loaded: nothing is found in it by address, and
    what refers to it has an address where nothing can be.

    Args:
        path: an ET_REL file.
        addresses: where its sections are, by their names.

    Attributes:
        addresses: as they were given.

    Raises:
        BadImage: it is no such file, or its sections cannot be there.
    """

    def __init__(self, path: str | os.PathLike[str], addresses: Mapping[str, int]) -> None:
        super().__init__(path)
        self.addresses: dict[str, int] = {
            name: at for name, at in addresses.items() if name not in _KALLSYMS
        }
        if not self.relocatable:
            raise self._bad("already linked, so its sections cannot be placed; it takes a slide")
        self._tables: dict[int, list[Section]] = {}
        self._too_much: set[int] = set()
        left = len(self._map)
        for section in self.sections:
            if section.type in (SHT_REL, SHT_RELA) and not section.flags & _SHF_RELA_LIVEPATCH:
                self._tables.setdefault(section.info, []).append(section)
                if section.size <= left:
                    left -= section.size  # they share no bytes: the work is bounded by the file
                else:
                    self._too_much.add(section.info)
        self._place_sections()

    def open_beside(self, path: str | os.PathLike[str]) -> RelocatedImage:
        """Return another file of the same module, at the same addresses."""
        return RelocatedImage(path, self.addresses)

    def _placed(self) -> list[Section]:
        """Return the sections that have an address, at that."""
        named = {section.name: section for section in reversed(self.sections) if section.loaded}
        for name in self.addresses:
            if name not in named:
                raise self._bad(
                    f"it has no section {name} to be loaded{nearest(name, named)}; "
                    "is it the file of this module?"
                )
        return [named[name]._replace(address=address) for name, address in self.addresses.items()]

    def _place_sections(self) -> None:
        placed = self._placed()
        self._check_places(placed)

        at = {section.number: section for section in placed}
        code = min((s.address for s in placed if s.flags & SHF_EXECINSTR), default=None)
        nowhere = self._nowhere(placed)
        sections = list(self.sections)
        for section in self.sections:
            if section.number in at:
                sections[section.number] = at[section.number]
                continue
            address = 0  # offsets into debug sections count from there, whatever the file says
            if section.loaded and section.name in _TABLES and code is not None:
                address = code
            elif section.loaded:
                address = nowhere
                nowhere += -(-section.size // _ALIGNMENT) * _ALIGNMENT
            flags = section.flags & ~SHF_ALLOC
            sections[section.number] = section._replace(address=address, flags=flags)
        self.sections: tuple[Section, ...] = tuple(sections)
        self._by_name = {name: sections[old.number] for name, old in self._by_name.items()}

    def _check_places(self, placed: list[Section]) -> None:
        before = None
        for section in sorted(placed, key=lambda each: each.address):
            if not 0 <= section.address <= (1 << 8 * self.word_size) - section.size:
                raise self._bad(
                    f"its {section.name} of {section.size:#x} bytes cannot be at "
                    f"{section.address:#x}"
                )
            if not section.size:
                continue
            if before and section.address < before.address + before.size:
                raise self._bad(
                    f"its {section.name} at {section.address:#x} would lie in its {before.name}, "
                    f"{before.size:#x} bytes at {before.address:#x}: were the addresses read "
                    "from this module?"
                )
            before = section

    def _nowhere(self, placed: list[Section]) -> int:
        """Return where the sections without an address begin, clear of those that have one."""
        begin = _NOWHERE[self.word_size]
        end = begin + sum(s.size + _ALIGNMENT for s in self.sections if s.loaded)
        if any(s.address < end and begin < s.address + s.size for s in placed):
            last = max(s.address + s.size for s in placed)
            return -(-last // _ALIGNMENT) * _ALIGNMENT
        return begin

    def _read(self, section: Section) -> SectionData:
        contents = super()._read(section)
        tables = self._tables.get(section.number)
        if not tables or not len(contents) or section.type in _NEVER_RELOCATED:
            return contents
        if section.number in self._too_much:
            contents.fail(0, "its relocations are larger than the file")
        data = mmap.mmap(-1, len(contents))
        data[:] = contents.view
        for table in tables:
            self._relocate(section, contents, data, table)
        return SectionData(contents.name, data, 0, len(contents), path=self.path)

    def _relocate(
        self, section: Section, contents: SectionData, data: mmap.mmap, table: Section
    ) -> None:
        raw = self.contents(table)
        layout = _ENTRIES[self.word_size, table.type]
        if len(raw) % layout.size:
            raw.fail(len(raw), "it ends within a relocation")
        recipes = _Recipes(self, section, contents, table)
        entries: Iterable[tuple[int, int, int]] = layout.iter_unpack(raw.view)
        if table.type == SHT_REL:
            entries = recipes.with_addends(layout.iter_unpack(raw.view), data)
        # 730,308 times for .debug_info of xfs.ko: each step in here costs hundredths of a second.
        for offset, info, addend in entries:
            store, base, relative, _ = recipes[info]
            value = base + addend - offset if relative else base + addend
            try:
                store(data, offset, value)
            except (struct.error, IndexError):
                recipes.store_odd(data, offset, info, value)


class UnloadedImage(RelocatedImage):
    """An object or a module that nobody has loaded: its sections lie one behind the other.

    They begin at 0, as gdb arranges them for a file without addresses (gdb/symfile.c,
    place_section), so that no two things have the same address.

    Args:
        path: an ET_REL file.

    Raises:
        BadImage: it is no such file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path, {})

    def open_beside(self, path: str | os.PathLike[str]) -> UnloadedImage:
        """Return another file of the same module; its sections have the same sizes."""
        return UnloadedImage(path)

    def _placed(self) -> list[Section]:
        placed = []
        end = 0
        for section in self.sections:
            if section.loaded:
                begin = -(-end // section.alignment) * section.alignment
                placed.append(section._replace(address=begin))
                end = begin + section.size
        return placed


class _Recipes(dict[int, "_Recipe"]):
    """What to do for each info that a section's relocations have, found when it first occurs."""

    def __init__(
        self, image: RelocatedImage, section: Section, contents: SectionData, table: Section
    ) -> None:
        super().__init__()
        self._fail = contents.fail
        self._section = section
        self._sections = image.sections
        self._kinds = _KINDS[image.machine]
        self._last_type = _LAST_TYPE[image.machine]
        self._shift = _SYMBOL_SHIFT[image.word_size]
        self._word_size = image.word_size
        symtab = image.sections[table.link] if table.link < len(image.sections) else None
        if symtab is None or symtab.type != SHT_SYMTAB:
            image.contents(table).fail(0, "it names no symbol table")
        self._symbols = image.contents(symtab)
        indexes = next((s for s in image.sections if s.type == _SHT_SYMTAB_SHNDX), None)
        self._indexes = (
            image.contents(indexes)
            if indexes
            else SectionData.empty(".symtab_shndx", path=image.path)
        )

    def __missing__(self, info: int) -> _Recipe:
        number = info & (1 << self._shift) - 1
        kind = self._kinds.get(number)
        base = self._value(info >> self._shift)
        recipe: _Recipe
        if kind is None and number > self._last_type:
            recipe = self._refuse, 0, False, _NO_NUMBER
        elif kind is None or base is None:
            recipe = _leave, 0, False, _NO_NUMBER
        else:
            base -= self._section.address if kind.relative else 0
            recipe = kind.number.pack_into, base, kind.relative, kind.number
        self[info] = recipe
        return recipe

    def with_addends(
        self, entries: Iterator[tuple[int, int]], data: mmap.mmap
    ) -> Iterator[tuple[int, int, int]]:
        """Yield entries with the addends that lie in their places."""
        for offset, info in entries:
            *_, number = self[info]
            try:
                (addend,) = number.unpack_from(data, offset) if number.size else (0,)
            except (struct.error, IndexError):
                self._outside(offset)
            yield offset, info, addend

    def store_odd(self, data: mmap.mmap, offset: int, info: int, value: int) -> None:
        """Store what does not fit, where that may be so.

        Raises:
            BadImage: it may not.
        """
        size = self[info][3].size
        if offset + size > len(data):
            self._outside(offset)
        # Addresses wrap. Code can be out of reach of a section that has no address; offsets
        # into debug sections always fit.
        if size < self._word_size and self._section.name.startswith((".debug", ".zdebug")):
            self._fail(offset, f"{value:#x} is relocated into {size} bytes")
        data[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")

    def _value(self, index: int) -> int | None:
        """Return the address of a symbol, None for one of another file."""
        layout, value_at, where_at = _SYMBOLS[self._word_size]
        at = index * layout.size
        if index == 0:
            return 0
        if at + layout.size > len(self._symbols):
            self._symbols.fail(at, "a relocation asks for a symbol that is not there")
        fields = layout.unpack_from(self._symbols.view, at)
        where: int = fields[where_at]
        value: int = fields[value_at]
        if where == _SHN_ABS:
            return value
        if where == SHN_XINDEX:
            where = self._indexes.unsigned(4 * index, 4)
        elif where == _SHN_UNDEF or where >= _SHN_LORESERVE:
            return None
        if where >= len(self._sections):
            self._symbols.fail(at, f"a symbol in section {where}, which is not there")
        return self._sections[where].address + value

    def _refuse(self, _data: mmap.mmap, offset: int, _value: int) -> None:
        self._fail(offset, "its relocation is of a type that is not known")

    def _outside(self, offset: int) -> NoReturn:
        self._fail(offset, "a relocation beyond its end")


def _leave(data: mmap.mmap, offset: int, value: int) -> None:
    """Do nothing: the place is filled by a linker, or from another file."""
