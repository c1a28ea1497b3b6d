"""The symbol table of an ELF file: names to symbols, addresses to symbols.

Here lives: the layout of .symtab (System V ABI, "Symbol Table"), read two ways: one name by a
search of the bytes, which costs a few milliseconds in a kernel, and all of it, once, for what needs
the order. Here must not live: DWARF, and slides.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from rsp.symbols.contents import Contents, Damaged
from rsp.symbols.image import SHT_DYNSYM, SHT_SYMTAB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rsp.symbols.image import Image, Section


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

_MANY = 64
"""At so many tails of strings a search of each costs more than reading the whole table."""

_SINGLY = 6
"""So many tails are searched for one by one, each in 1 ms; all names take some."""

_LOOK_BACK = 64
"""How many symbols before an address may be labels within the one that it is in."""


_FEW = 8
"""So many addresses are looked up before all symbols are put in order, which takes ten times."""
_FEW_BEGINS = 32
"""So many are looked up that are where a symbol begins."""
_LOWEST = 1 << 16
"""The lowest address that is searched for: the bytes of smaller numbers are everywhere."""
_REACH = 256
"""How many entries before an address its symbol is searched for in first."""


class _Columns:
    """The fields of all entries as lists: as fast as it gets without a library of its own.

    An entry is (Elf64_Sym) the name, info, other and section in one word, then value and size, or
    (Elf32_Sym) name, value, size, and the rest in one word.
    """

    def __init__(self, contents: Contents, word_size: int, entry_size: int) -> None:
        whole = contents.view[: len(contents) // entry_size * entry_size]
        self._words = whole.cast("Q" if word_size == 8 else "I")
        self._wide = word_size == 8

    @cached_property
    def values(self) -> list[int]:
        """What st_value is."""
        return (self._words[1::3] if self._wide else self._words[1::4]).tolist()

    @cached_property
    def sizes(self) -> list[int]:
        """What st_size is."""
        return (self._words[2::3] if self._wide else self._words[2::4]).tolist()

    @cached_property
    def names(self) -> list[int]:
        """Where the names are in the strings."""
        return [head & 0xFFFFFFFF for head in self._heads] if self._wide else self._heads

    @cached_property
    def infos(self) -> list[int]:
        """Type and binding."""
        if self._wide:
            return [head >> 32 & 0xFF for head in self._heads]
        return [tail & 0xFF for tail in self._tails]

    @cached_property
    def sections(self) -> list[int]:
        """The numbers of sections."""
        return (
            [tail >> 48 for tail in self._heads] if self._wide else [t >> 16 for t in self._tails]
        )

    @cached_property
    def _heads(self) -> list[int]:
        return (self._words[0::3] if self._wide else self._words[0::4]).tolist()

    @cached_property
    def _tails(self) -> list[int]:
        return self._words[3::4].tolist()


class Symtab:
    """The symbols of an image that stand for places or absolute numbers.

    Args:
        image: the file. Of a module that has been given its addresses, the symbols of sections
            without an address are left out.

    Raises:
        Damaged: the headers of its sections make no sense; later, from any question, a section is
            not there.

    >>> from rsp.symbols.image import Image
    >>> from rsp.testing.boot import ELF
    >>> symtab = Symtab(Image(ELF))
    >>> hex(symtab.find("long_start")[0].address), symtab.lookup(0x7d14).name
    ('0x7cc7', 'tick')
    """

    def __init__(self, image: Image) -> None:
        self._image = image
        self._asked = self._searched = 0
        self._entry_size = 24 if image.word_size == 8 else 16
        section = image.of_type(SHT_SYMTAB) or image.of_type(SHT_DYNSYM)
        if section is None or not len(image.contents(section)):
            self._entries, self._strings = Contents.empty(".symtab"), Contents.empty(".strtab")
            return
        self._entries = image.contents(section)
        if section.entry_size != self._entry_size or not 0 < section.link < len(image.sections):
            self._entries.fail(0, "its section header makes no sense")
        self._strings = image.contents(image.sections[section.link])

    def find(self, name: str) -> tuple[ElfSymbol, ...]:
        """Return the symbols of a name, the global ones first, then as in the file."""
        if not name or "\0" in name:
            return ()
        try:
            encoded = name.encode(errors="surrogateescape") + b"\0"
        except UnicodeEncodeError:  # nothing in a file has such a name
            return ()
        places = None if "_by_name" in self.__dict__ else self._occurrences(encoded)
        found: Iterable[int]
        if places is None:
            found = self._by_name.get(encoded[:-1], ())
        elif len(places) > _SINGLY:
            names = self._columns.names
            wanted = set(places)
            found = [index for index, place in enumerate(names) if place in wanted]
        else:
            needles = (place.to_bytes(4, "little") for place in places)
            found = [index for needle in needles for index in self._entries_with(needle, at=0)]
        symbols = [symbol for index in found if (symbol := self._symbol(index))]
        return tuple(sorted(symbols, key=lambda symbol: -_RANKS[symbol.binding]))

    def lookup(self, address: int) -> ElfSymbol | None:
        """Return the symbol that a link address lies in, or None.

        A symbol without a size reaches to the next one, or to the end of its section. Of several
        at one place, one with a size is preferred, then a global one, then a weak one.
        """
        self._asked += 1
        few = not self._is_sorted and self._asked <= _FEW
        if few and (begun := self.at(address)) and begun[0].size:
            return begun[0]  # most questions are about where a function begins
        order, addresses = self._places_before(address) if few else self._places
        section = self._image.section_at(address)
        sizes, label = self._columns.sizes, None
        for position in range(bisect_right(addresses, address) - 1, -1, -1)[:_LOOK_BACK]:
            index, begin = order[position], addresses[position]
            if address < begin + sizes[index]:
                return self._symbol(index)
            if sizes[index]:
                break
            if label is None and section is not None:
                found = self._symbol(index)
                # One that marks the end of another section may have the same address.
                label = found if found and found.section == section.name else None
        return label

    def at(self, address: int) -> tuple[ElfSymbol, ...]:
        """Return the symbols that begin at a link address, aliases all, the best first."""
        self._searched += 1
        size = self._image.word_size
        few = not self._is_sorted and self._searched <= _FEW_BEGINS
        if few and _LOWEST <= address < 1 << 8 * size:
            indices: Iterable[int] = self._entries_with(address.to_bytes(size, "little"), at=size)
        else:
            order, addresses = self._places
            begin, end = bisect_left(addresses, address), bisect_right(addresses, address)
            indices = order[begin:end]
        found = [
            symbol
            for index in indices
            if (symbol := self._symbol(index))
            and symbol.address == address
            and symbol.section != ABSOLUTE
        ]
        return tuple(sorted(found, key=_merit)[::-1])

    def __iter__(self) -> Iterator[ElfSymbol]:
        """Iterate over all symbols in the order of the file."""
        for index in self._usable:
            if symbol := self._symbol(index):
                yield symbol

    def __len__(self) -> int:
        return len(self._usable)

    def names(self) -> Iterable[str]:
        """Return every name once."""
        return (name.decode(errors="surrogateescape") for name in self._by_name)

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

    def _entries_with(self, needle: bytes, *, at: int) -> Iterator[int]:
        """Yield the entries that have the bytes in the field that begins there."""
        size = self._entry_size
        begin = self._entries.find(needle)
        while begin >= 0:
            index, field = divmod(begin, size)
            if field == at and (index + 1) * size <= len(self._entries):
                yield index
            begin = self._entries.find(needle, begin + 1)

    def _symbol(self, index: int) -> ElfSymbol | None:
        """Return an entry as a value, None if it is no symbol that anyone asks for."""
        data = self._entries[index * self._entry_size : (index + 1) * self._entry_size]
        name, info, where = int.from_bytes(data[:4], "little"), data[4], data[6] | data[7] << 8
        value, size = (int.from_bytes(part, "little") for part in (data[8:16], data[16:24]))
        if self._entry_size == 16:
            value, size = (int.from_bytes(part, "little") for part in (data[4:8], data[8:12]))
            info, where = data[12], data[14] | data[15] << 8
        kind, place = _KINDS.get(info & 0xF), self._place(where)
        if kind is None or place is None or not name:
            return None
        begin, section = place
        try:
            text = self._strings.text(name)
        except Damaged:
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

    @property
    def _is_sorted(self) -> bool:
        # Of a relocatable file the addresses are not what its bytes are.
        return "_places" in self.__dict__ or self._image.relocatable

    def _places_before(self, address: int) -> tuple[list[int], list[int]]:
        """Return what ``_places`` has before an address, as far as a look-up goes back.

        For a few addresses that is a tenth of the work of putting all in order.
        """
        section = self._image.section_at(address)
        if section is None:
            return self._places
        values = self._columns.values
        before = sorted(value for value in values if section.address <= value <= address)
        lowest = before[-_REACH] if len(before) > _REACH else section.address
        near = [
            ((symbol.address, *_merit(symbol)), index)
            for index, value in enumerate(values)
            if lowest <= value <= address
            and (symbol := self._symbol(index)) is not None
            and symbol.section != ABSOLUTE
        ]
        if len(near) < _LOOK_BACK and lowest > section.address:
            return self._places
        near.sort()
        return [index for _, index in near], [key[0] for key, _ in near]

    @cached_property
    def _columns(self) -> _Columns:
        return _Columns(self._entries, self._image.word_size, self._entry_size)

    @cached_property
    def _usable(self) -> list[int]:
        """The entries that become symbols."""
        columns = self._columns
        sections = {where for where in set(columns.sections) if self._place(where)}
        infos = {info for info in set(columns.infos) if info & 0xF in _KINDS}
        return [
            index
            for index, (name, info, where) in enumerate(
                zip(columns.names, columns.infos, columns.sections, strict=True)
            )
            if name and info in infos and where in sections
        ]

    @cached_property
    def _places(self) -> tuple[list[int], list[int]]:
        """The entries that are places by address, and these; of one address the best comes last."""
        columns = self._columns
        values, sizes, infos, sections = (
            columns.values,
            columns.sizes,
            columns.infos,
            columns.sections,
        )
        begins = {where: (self._place(where) or (0, ""))[0] for where in set(sections)}
        ranks = {info: _RANKS[_BINDINGS.get(info >> 4, Binding.GLOBAL)] for info in set(infos)}
        keys = {
            index: (begins[sections[index]] + values[index], sizes[index] > 0, ranks[infos[index]])
            for index in self._usable
            if sections[index] != _SHN_ABS
        }
        order = sorted(keys, key=keys.__getitem__)
        return order, [keys[index][0] for index in order]

    @cached_property
    def _by_name(self) -> dict[bytes, list[int]]:
        strings, offsets = self._strings[:], self._columns.names
        by_name: dict[bytes, list[int]] = {}
        for index in self._usable:
            begin = offsets[index]
            end = strings.find(b"\0", begin)
            if end >= 0:
                by_name.setdefault(strings[begin:end], []).append(index)
        return by_name


def _merit(symbol: ElfSymbol) -> tuple[bool, int]:
    """Return what decides among the symbols of one address: the best has the most."""
    return symbol.size > 0, _RANKS[symbol.binding]
