"""The symbol table of an ELF file: names to symbols, addresses to symbols.

Contents: the layout of .symtab (System V ABI, "Symbol Table"), read two ways: one name by a search
of the bytes, which costs a millisecond in a kernel, and all of it, once, for what needs the order.
Not here: DWARF, and slides.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, Literal

from rsp.errors import BadImage
from rsp.symbols.cache.cache import Cache
from rsp.symbols.cache.sort_order import load_order, store_order
from rsp.symbols.elf.image import SHT_DYNSYM, SHT_SYMTAB
from rsp.symbols.elf.section_data import SectionData

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rsp.symbols.elf.image import Image, Section


_Form = Literal["B", "H", "I", "Q"]


class SymbolKind(Enum):
    """What a symbol stands for."""

    FUNCTION = "function"
    OBJECT = "object"
    LABEL = "label"
    """A place without a type, as most labels in assembler are."""
    ABSOLUTE = "absolute"
    """A number that the linker knows by a name; not a place in memory."""


class Binding(Enum):
    """How a symbol was visible to other files when it was linked; the best first."""

    GLOBAL = "global"
    WEAK = "weak"
    LOCAL = "local"
    """Of one file only: several may share a name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ElfSymbol:
    """An entry of the symbol table, at its link address."""

    name: str
    address: int
    size: int
    kind: SymbolKind
    binding: Binding
    section: str

    @property
    def is_global(self) -> bool:
        """Whether it was visible to other files; local ones may share a name."""
        return self.binding is not Binding.LOCAL


# The types of symbols that are places; STT_SECTION, STT_FILE and STT_TLS are not.
_KINDS = {
    0: SymbolKind.LABEL,
    1: SymbolKind.OBJECT,
    2: SymbolKind.FUNCTION,
    5: SymbolKind.OBJECT,  # STT_COMMON
    10: SymbolKind.FUNCTION,  # STT_GNU_IFUNC
}
_BINDINGS = {0: Binding.LOCAL, 2: Binding.WEAK}  # all others are global
_RANKS = {Binding.GLOBAL: 2, Binding.WEAK: 1, Binding.LOCAL: 0}

ABSOLUTE = "*ABS*"
"""Stands for the section of what is in none."""

_SHN_UNDEF, _SHN_LORESERVE, _SHN_ABS = 0, 0xFF00, 0xFFF1

_PROMOTED = b".llvm."

_MOST_KEPT = 4096  # names that were looked up

_MANY = 64
"""At so many tails of strings a search of each costs more than reading the whole table."""

_LOOK_BACK = 64
"""At how many places before an address labels may be, within the symbol that it is in."""

# By the size of an address: the size of an entry; where in it name, value, size, info and section
# begin, and their forms.
_LAYOUTS: dict[int, tuple[int, tuple[tuple[int, _Form], ...]]] = {
    4: (16, ((0, "I"), (4, "I"), (8, "I"), (12, "B"), (14, "H"))),
    8: (24, ((0, "I"), (8, "Q"), (16, "Q"), (4, "B"), (6, "H"))),
}

_STB_LOCAL = 0

# What st_info may be, for each number whether that is a place.
_IS_PLACE = bytes(info & 0xF in _KINDS for info in range(256))


class Symtab:
    """The symbols of an image that stand for places or absolute numbers.

    Args:
        image: the file. Of a module that has been given its addresses, the symbols of sections
            without an address are left out.
        cache: keeps the order of the addresses between processes.

    Raises:
        BadImage: the headers of its sections make no sense; later, from any question, a section is
            not there.

    >>> from rsp.symbols.elf.image import Image
    >>> from rsp.testing.boot import ELF
    >>> symtab = Symtab(Image(ELF))
    >>> hex(symtab.find("long_start")[0].address), symtab.lookup(0x7d14).name
    ('0x7cc7', 'tick')
    """

    def __init__(self, image: Image, cache: Cache | None = None) -> None:
        self._image = image
        self._cache = cache or Cache.off()
        self._found: dict[str, tuple[ElfSymbol, ...]] = {}
        self._aliases: dict[int, tuple[ElfSymbol, ...]] = {}
        entries, self._strings = (
            SectionData.empty(name, path=image.path) for name in (".symtab", ".strtab")
        )
        size, layout = _LAYOUTS[image.word_size]
        section = image.of_type(SHT_SYMTAB) or image.of_type(SHT_DYNSYM)
        if section is not None and len(image.contents(section)):
            entries = image.contents(section)
            if section.entry_size != size or not 0 < section.link < len(image.sections):
                entries.fail(0, "its section header makes no sense")
            self._strings = image.contents(image.sections[section.link])
        self._names, self._values, self._sizes, self._infos, self._sections = (
            _column(entries, size, begin, form) for begin, form in layout
        )

    def find(self, name: str) -> tuple[ElfSymbol, ...]:
        """Return the symbols of a name, the global ones first, then as in the file.

        Those that clang has renamed to link the whole program (``name.llvm.123``) go with the name,
        as they do in a kernel's kallsyms.
        """
        if name in self._found:  # whoever asks whether there is one asks for it next
            return self._found[name]
        indexes = [*self._named(name), *self._promoted(name)]
        symbols = [symbol for index in indexes if (symbol := self._symbol(index))]
        found = tuple(sorted(symbols, key=lambda symbol: -_RANKS[symbol.binding]))
        if len(self._found) >= _MOST_KEPT:
            self._found.clear()
        self._found[name] = found
        return found

    def lookup(self, address: int) -> ElfSymbol | None:
        """Return the symbol that a link address lies in, or None.

        A symbol without a size reaches to the next one, or to the end of its section. Of several
        at one place, one with a size is preferred, then a global one, then a weak one.
        """
        section = self._image.section_at(address)
        label = None
        end = bisect_right(self._order, address, key=self._addresses.__getitem__)
        for _ in range(_LOOK_BACK):
            if end == 0:
                break
            begin = self._addresses[self._order[end - 1]]
            aliases = self.at(begin)
            if aliases and aliases[0].size:
                return aliases[0] if address < begin + aliases[0].size else label
            if label is None and section is not None:
                # One that marks the end of another section may have the same address.
                label = next((each for each in aliases if each.section == section.name), None)
            end = bisect_left(self._order, begin, hi=end, key=self._addresses.__getitem__)
        return label

    def at(self, address: int) -> tuple[ElfSymbol, ...]:
        """Return the symbols that begin at a link address, aliases all, the best first."""
        if address in self._aliases:
            return self._aliases[address]
        begin = bisect_left(self._order, address, key=self._addresses.__getitem__)
        end = bisect_right(self._order, address, lo=begin, key=self._addresses.__getitem__)
        symbols = [self._symbol(index) for index in self._order[begin:end]]
        places = [symbol for symbol in symbols if symbol and symbol.section != ABSOLUTE]
        found = tuple(sorted(places, key=_merit)[::-1])
        if symbols:  # of a kernel's strings 9,000 begin at one address
            self._aliases[address] = found
        return found

    def next_after(self, address: int) -> ElfSymbol | None:
        """Return the first symbol behind a link address, None without one."""
        at = bisect_right(self._order, address, key=self._addresses.__getitem__)
        while at < len(self._order):
            begin = self._addresses[self._order[at]]
            if found := self.at(begin):
                return found[0]
            at = bisect_right(self._order, begin, lo=at, key=self._addresses.__getitem__)
        return None

    def is_code(self, symbol: ElfSymbol) -> bool:
        """Return whether a symbol stands for code: as its type says; of a label, its section.

        A variable may lie in an executable section, too: small kernels are one section, and Linux
        7.2 is linked with an executable .data.
        """
        if symbol.kind is SymbolKind.LABEL:
            section = self._image.section_at(symbol.address)
            return section is not None and section.executable
        return symbol.kind is SymbolKind.FUNCTION

    def __iter__(self) -> Iterator[ElfSymbol]:
        """Iterate over all symbols in the order of the file."""
        for index in self._usable:
            if symbol := self._symbol(index):
                yield symbol

    def __len__(self) -> int:
        return len(self._usable)

    def names(self, *, local: bool | None = None) -> Iterable[str]:
        """Return every name once; or only those that are all local, or those that are not."""
        infos = self._infos.tobytes()
        for name, indices in self._by_name.items():
            if local is None or all(infos[index] >> 4 == _STB_LOCAL for index in indices) is local:
                yield name.decode(errors="surrogateescape")

    def _occurrences(self, encoded: bytes) -> list[int] | None:
        """Return where in the strings the name ends one; None if that is in too many places.

        Linkers keep a string that is the tail of another only once, so a name may begin anywhere.
        """
        places: list[int] = []
        at = self._strings.find(encoded)
        while at >= 0:
            if len(places) == _MANY:
                return None
            places.append(at)
            at = self._strings.find(encoded, at + 1)
        return places

    def _named(self, name: str) -> Iterable[int]:
        """Return the entries with a name, in the order of the file."""
        if not name or "\0" in name:
            return ()
        try:
            encoded = name.encode(errors="surrogateescape") + b"\0"
        except UnicodeEncodeError:  # nothing in a file has such a name
            return ()
        places = None if "_by_name" in self.__dict__ else self._occurrences(encoded)
        if places is None:
            return self._by_name.get(encoded[:-1], ())
        return sorted(index for place in places for index in self._entries_named(place))

    def _promoted(self, name: str) -> Iterator[int]:
        """Yield the entries of a name that ThinLTO has made global, by a hash behind it."""
        if not self._has_promoted or not name or "\0" in name:
            return
        with suppress(UnicodeEncodeError):
            encoded = name.encode(errors="surrogateescape")
            at = self._strings.find(encoded + _PROMOTED)
            while at >= 0:
                if self._strings.text(at)[len(name) + len(_PROMOTED) :].isdecimal():
                    yield from sorted(self._entries_named(at))
                at = self._strings.find(encoded + _PROMOTED, at + 1)

    @cached_property
    def _has_promoted(self) -> bool:
        return self._strings.find(_PROMOTED) >= 0

    def _entries_named(self, place: int) -> Iterator[int]:
        """Yield the entries whose names begin at a place in the strings."""
        needle, names = place.to_bytes(4, "little"), self._packed_names
        begin = names.find(needle)
        while begin >= 0:
            if begin % 4 == 0:
                yield begin // 4
            begin = names.find(needle, begin + 1)

    def _symbol(self, index: int) -> ElfSymbol | None:
        """Return an entry as a value, None if it is no symbol that anyone asks for."""
        name, value, size = self._names[index], self._values[index], self._sizes[index]
        info, where = self._infos[index], self._sections[index]
        kind, place = _KINDS.get(info & 0xF), self._place(where)
        if kind is None or place is None or not name:
            return None
        begin, section = place
        try:
            text = self._strings.text(name)
        except BadImage:
            return None
        if not text:
            return None
        if where == _SHN_ABS and info & 0xF == 0:
            kind = SymbolKind.ABSOLUTE
        return ElfSymbol(
            name=text,
            address=value + begin,
            size=size,
            kind=kind,
            binding=_BINDINGS.get(info >> 4, Binding.GLOBAL),
            section=section,
        )

    def _place(self, where: int) -> tuple[int, str] | None:
        """Return what is added to the values of a section's symbols, and the section's name."""
        if where == _SHN_ABS:
            return 0, ABSOLUTE
        if where == _SHN_UNDEF or where >= _SHN_LORESERVE or where >= len(self._image.sections):
            return None
        section: Section = self._image.sections[where]
        if not self._image.relocatable:
            return 0, section.name
        return (section.address, section.name) if section.loaded else None

    @cached_property
    def _packed_names(self) -> bytes:
        """Where the names are, without what lies between: a sixth of the bytes to search."""
        return self._names.tobytes()

    @cached_property
    def _usable(self) -> list[int]:
        """The entries that become symbols, as far as these fields say."""
        sections = self._sections.tolist()
        known = {where for where in set(sections) if self._place(where)}
        kinds = self._infos.tobytes().translate(_IS_PLACE)
        return [
            index
            for index, (name, is_place, where) in enumerate(
                zip(self._names.tolist(), kinds, sections, strict=True)
            )
            if name and is_place and where in known
        ]

    @cached_property
    def _addresses(self) -> Sequence[int]:
        """The addresses of all entries."""
        if not self._image.relocatable:
            return self._values
        sections = self._sections.tolist()
        begins = {where: (self._place(where) or (0, ""))[0] for where in set(sections)}
        return [begins[where] + value for where, value in zip(sections, self._values, strict=True)]

    @cached_property
    def _order(self) -> Sequence[int]:
        """The entries by address, without those whose type says that they are no place."""
        count = len(self._infos)
        kept = load_order(self._cache, self._image.address_key, "symbols", limit=count)
        if kept is not None:
            return kept
        kinds = self._infos.tobytes().translate(_IS_PLACE)
        order = sorted(compress(range(count), kinds), key=self._addresses.__getitem__)
        store_order(self._cache, self._image.address_key, "symbols", order)
        return order

    @cached_property
    def _by_name(self) -> dict[bytes, list[int]]:
        strings, offsets = self._strings[:], self._names.tolist()
        by_name: dict[bytes, list[int]] = {}
        for index in self._usable:
            begin = offsets[index]
            end = strings.find(b"\0", begin)
            if end >= 0:
                by_name.setdefault(strings[begin:end], []).append(index)
        return by_name


def _column(entries: SectionData, size: int, begin: int, form: _Form) -> memoryview[int]:
    """Return one field of all entries, of which nothing is decoded before it is taken out."""
    width = struct.calcsize(form)
    return entries.view[: len(entries) // size * size].cast(form)[begin // width :: size // width]


def _merit(symbol: ElfSymbol) -> tuple[bool, int]:
    """Return what decides among the symbols of one address: the best has the most."""
    return symbol.size > 0, _RANKS[symbol.binding]
