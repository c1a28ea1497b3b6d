"""The names of an image's DWARF and the functions at its addresses, kept ready for look-up.

Contents: the form that the result of `rsp.symbols.dwarf.scan` is kept in. To open it decodes
nothing, and a question reads some dozens of bytes, wherever they are. Not here: how entries are
found, and where the bytes are between two processes (`rsp.symbols.cache`).

```
header      W, the size of an offset; C, F, N, D, and the size of the text
code        begin u64[C]; entry W[C]; size u32[C]: the pieces of functions, by address
functions   entry W[F]: those that have code, ascending
definitions entry W[D]; kind u8[D]: in the order of the names; bit 7 of a kind: a declaration
names       end in the text u32[N]; end of the definitions u32[N]; kinds u16[N], a bit for each
text        the names in the order of their bytes, a NUL behind each
```
"""

from __future__ import annotations

import logging
import struct
from array import array
from bisect import bisect_left, bisect_right
from difflib import get_close_matches
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from rsp.symbols.dwarf.skip_plans import Kind

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator

    from rsp.errors import BadImage
    from rsp.symbols.cache.cache import Cache
    from rsp.symbols.dwarf.scan import Definition, Scan
    from rsp.symbols.dwarf.units import Units
    from rsp.symbols.elf.image import Image

    Progress = Callable[[int, int], None]
_Format = Literal["B", "H", "I", "Q"]

logger: Final = logging.getLogger("rsp.symbols")

_MAGIC = b"rspnames"
_HEADER = struct.Struct("<8sQQQQQQ")
_DECLARATION = 0x80
_MAX_U32 = 0xFFFFFFFF
_OFFSETS: dict[int, _Format] = {4: "I", 8: "Q"}
_OVERLAPPING = 8
"""How many pieces of code before an address are looked at; they rarely overlap."""


class Entry(NamedTuple):
    """An entry of .debug_info that answers to a name.

    Attributes:
        kind: what it defines.
        offset: where it is in .debug_info.
        declaration: it only says that there is such a thing; nothing in the image defines it.
    """

    kind: Kind
    offset: int
    declaration: bool


class NameIndex:
    """Finds the entries of names and addresses.

    Args:
        data: what an earlier one had as `data`.
        damaged: what could not be read when it was made.

    Attributes:
        data: all of it, to be kept; the same for the same image.
        damaged: see above; an index with damage is not to be kept.
        function_entries: where the entries of functions with code are in .debug_info, ascending.

    Raises:
        ValueError: the data are not of this form.
    """

    def __init__(self, data: bytes | memoryview, damaged: tuple[BadImage, ...] = ()) -> None:
        self.data: memoryview = memoryview(data)
        self.damaged = damaged
        if len(data) < _HEADER.size:
            raise _not_an_index()
        magic, width, pieces, functions, names, definitions, text = _HEADER.unpack_from(data)
        offsets = _OFFSETS.get(width)
        if magic != _MAGIC or offsets is None:
            raise _not_an_index()
        columns = _Columns(self.data[_HEADER.size :])
        self._begins = columns.take(pieces, "Q")
        self._entries = columns.take(pieces, offsets)
        self._sizes = columns.take(pieces, "I")
        self.function_entries: memoryview = columns.take(functions, offsets)
        self._offsets = columns.take(definitions, offsets)
        self._kinds = columns.take(definitions, "B")
        self._name_ends = columns.take(names, "I")
        self._definition_ends = columns.take(names, "I")
        self._masks = columns.take(names, "H")
        self._text = bytes(columns.take(text, "B"))
        if columns.rest:
            raise _not_an_index()

    @classmethod
    def of(cls, found: Scan) -> NameIndex:
        """Return the index of what was found."""
        return cls(_encoded(found), found.damaged)

    def __len__(self) -> int:
        return len(self._masks)

    def find(self, name: str) -> tuple[Entry, ...]:
        """Return the entries of a name by kind, in the order of .debug_info within one."""
        try:
            wanted = name.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            return ()
        number = bisect_left(range(len(self)), wanted, key=self._name)
        if number == len(self) or self._name(number) != wanted:
            return ()
        return tuple(self._definitions(number))

    def search(
        self, pattern: re.Pattern[str], *kinds: Kind
    ) -> Iterator[tuple[str, tuple[Entry, ...]]]:
        """Yield the names in which a pattern is found and their entries of some kinds, by name."""
        mask = sum(1 << kind for kind in set(kinds))
        names = self._text.decode(errors="surrogateescape").split("\0")
        found = pattern.search
        for number, has in enumerate(self._masks):
            if has & mask and found(names[number]):
                entries = tuple(each for each in self._definitions(number) if each.kind in kinds)
                yield names[number], entries

    def function_at(self, address: int) -> int | None:
        """Return where the entry of the function is that a link address lies in."""
        last = bisect_right(self._begins, address) - 1
        for piece in range(last, max(last - _OVERLAPPING, -1), -1):
            if address < self._begins[piece] + self._sizes[piece]:
                return int(self._entries[piece])
        return None

    def nearest(self, name: str) -> tuple[str, ...]:
        """Return up to three names that are much like one that is not there, the likest first."""
        # To compare with a name of a kernel's 130,000 takes 20 microseconds: only with those of
        # about the same size that begin or end in the same way.
        sizes = range(len(name) - 2, len(name) + 3)
        near = [
            each
            for each in self._text.decode(errors="surrogateescape").split("\0")
            if len(each) in sizes and (each[:2] == name[:2] or each[-3:] == name[-3:])
        ]
        return tuple(get_close_matches(name, near, n=3, cutoff=0.7))

    def _name(self, number: int) -> bytes:
        begin = self._name_ends[number - 1] + 1 if number else 0
        return self._text[begin : self._name_ends[number]]

    def _definitions(self, number: int) -> Iterator[Entry]:
        begin = self._definition_ends[number - 1] if number else 0
        for each in range(begin, min(self._definition_ends[number], len(self._kinds))):
            kind = self._kinds[each]
            yield Entry(_KINDS[kind & ~_DECLARATION], self._offsets[each], kind >= _DECLARATION)


class _Columns:
    """Cuts bytes into columns, one behind the other."""

    def __init__(self, data: memoryview) -> None:
        self.rest = data

    def take(self, count: int, form: _Format) -> memoryview[int]:
        size = count * struct.calcsize(form)
        if size > len(self.rest):
            raise _not_an_index()
        column, self.rest = self.rest[:size].cast(form), self.rest[size:]
        return column


_KINDS = tuple(Kind)


def build_index(units: Units, progress: Progress | None = None) -> NameIndex:
    """Read all units, a kernel's in some two seconds.

    Args:
        units: the units of an image.
        progress: called some hundred times with the bytes done and the bytes in all.
    """
    return NameIndex.of(_scan(units, progress))


def load_or_build(
    units: Units, image: Image, cache: Cache, progress: Progress | None = None
) -> NameIndex:
    """Return the index that is in the cache, or build one and keep it there.

    That of a module has no addresses, as it serves wherever the module is placed: `function_at`
    finds nothing. An index that lacks what was damaged is not kept.
    """
    kept = load(image, cache)
    if kept is not None:
        return kept
    key = image.cache_key
    found = _scan(units, progress)
    if image.relocatable:
        found = found._replace(code=[])
    index = NameIndex.of(found)
    if key is not None and not index.damaged:
        cache.store(key, "index", index.data)
    return index


def load(image: Image, cache: Cache) -> NameIndex | None:
    """Return the index that is in the cache, None without one."""
    key = image.cache_key
    if key is None or (data := cache.load(key, "index")) is None:
        return None
    try:
        return NameIndex(data)
    except ValueError as error:
        logger.debug("%s: %s", image.path, error)
        return None


def _scan(units: Units, progress: Progress | None) -> Scan:
    from rsp.symbols.dwarf.scan import scan  # which no question needs that the cache answers

    return scan(units, progress)


def _encoded(found: Scan) -> bytes:
    names = sorted(found.names)
    grouped = [found.names[name] for name in names]
    definitions = list(chain.from_iterable(grouped))
    functions = sorted(at for kind, declared, at in definitions if kind == 0 and not declared)
    largest = max((at for _, _, at in (*definitions, *found.code)), default=0)
    width = 4 if largest <= _MAX_U32 else 8
    offset = _OFFSETS[width]
    columns = (
        array("Q", [begin for begin, _, _ in found.code]),
        array(offset, [entry for _, _, entry in found.code]),
        array("I", [min(end - begin, _MAX_U32) for begin, end, _ in found.code]),
        array(offset, functions),
        array(offset, [at for _, _, at in definitions]),
        bytes([kind | declared << 7 for kind, declared, _ in definitions]),
        array("I", [end - 1 for end in accumulate(len(name) + 1 for name in names)]),
        array("I", accumulate(map(len, grouped))),
        array("H", [_mask(each) for each in grouped]),
        b"".join([name + b"\0" for name in names]),
    )
    counts = len(found.code), len(functions), len(names), len(definitions), len(columns[-1])
    return b"".join((_HEADER.pack(_MAGIC, width, *counts), *columns))


def _mask(definitions: list[Definition]) -> int:
    mask = 0
    for kind, _, _ in definitions:
        mask |= 1 << kind
    return mask


def _not_an_index() -> ValueError:
    return ValueError("not an index of names")
