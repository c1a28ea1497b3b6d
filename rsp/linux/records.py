"""Members of kernel structures by name, decoded from bytes that were read in one piece.

Contents: what makes the walk of a list or a table cheap: which bytes of a structure hold the
members in question, and their numbers. Which members a kernel has is asked of its types, never of
its version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rsp.errors import BadImage, MemoryFault, SymbolNotFound
from rsp.symbols.types.types import Array, Compound
from rsp.values.numbers import is_signed

if TYPE_CHECKING:
    from rsp.inferior.inferior import Inferior
    from rsp.symbols.types.types import Type

_LARGEST = 1 << 20


def read_at(inferior: Inferior, address: int, length: int) -> bytes:
    """Read what a pointer of the kernel leads to.

    Raises:
        MemoryFault: it cannot be read, or the pointer leads nowhere.
    """
    if not 0 < address <= (1 << 64) - length:
        raise MemoryFault(
            f"a pointer to {length} bytes at {address:#x}: overwritten, or not set up yet",
            address=address,
        )
    return inferior.pages.read(address, length)


class Place(NamedTuple):
    """Where a member is: offset and size in bytes, its bits for a bit-field, and its type."""

    offset: int
    size: int
    bits: tuple[int, int] | None
    type: Type

    def number(self, data: bytes, at: int = 0) -> int:
        """Return the number that it holds in a structure that begins at an offset of the data."""
        start = at + self.offset
        number = int.from_bytes(data[start : start + self.size], "little")
        count = 8 * self.size
        if self.bits is not None:
            first, count = self.bits
            number = number >> first & (1 << count) - 1
        if number >> count - 1 and is_signed(self.type.resolved):
            number -= 1 << count
        return number

    def text(self, data: bytes, at: int = 0) -> bytes:
        """Return the string in an array of characters, up to its NUL."""
        start = at + self.offset
        return data[start : start + self.size].partition(b"\0")[0]


def has_member(ctype: Type, path: str) -> bool:
    """Return whether a structure has a member; ``a.b`` is b of its member a.

    >>> from rsp.symbols.types.types import Integer, Member, Struct
    >>> number = Integer("int", 4, signed=True)
    >>> pair = Struct("pair", 8, (Member(name="a", type=number, offset=4),))
    >>> has_member(pair, "a"), has_member(pair, "a.b"), place_of(pair, "a").offset
    (True, False, 4)
    """
    try:
        place_of(ctype, path)
    except SymbolNotFound:
        return False
    return True


def place_of(ctype: Type, path: str) -> Place:
    """Return where a member is; ``a.b`` is b of its member a.

    Raises:
        SymbolNotFound: there is no such member.
        BadImage: its offset or its size makes no sense.
    """
    offset = 0
    bits = None
    for name in path.split("."):
        bare = ctype.resolved
        if not isinstance(bare, Compound):
            raise SymbolNotFound(f"{ctype} has no members, and so no {name!r}", name=name)
        member = bare.member(name)
        offset += member.offset
        ctype = member.type
        bits = None
        if member.bit_size is not None:
            bits = (member.bit_offset or 0, member.bit_size)
    flexible = isinstance(ctype.resolved, Array) and ctype.size is None
    size = (sum(bits) + 7) // 8 if bits is not None else 0 if flexible else ctype.size
    if size is None or not 0 <= offset <= offset + size <= _LARGEST:
        raise BadImage(f"{path} of a structure has {size} bytes at offset {offset}", path="")
    return Place(offset, size, bits, ctype)


class Record:
    """Some members of a structure, and the smallest range of bytes that holds them.

    Args:
        ctype: the structure.
        paths: the members; those that it lacks are left out.

    Attributes:
        begin, end: the range, as offsets into the structure.
        places: the members that it has, by their paths.
    """

    def __init__(self, ctype: Type, *paths: str) -> None:
        self._type = ctype
        self.places: dict[str, Place] = {
            path: place_of(ctype, path) for path in paths if has_member(ctype, path)
        }
        self.begin: int = min((place.offset for place in self.places.values()), default=0)
        self.end: int = max(
            (place.offset + place.size for place in self.places.values()), default=0
        )

    def parts(self, gap: int) -> list[Record]:
        """Return records of the members that lie together, with more than a gap between them."""
        groups: list[list[str]] = []
        end = 0
        for path, place in sorted(self.places.items(), key=lambda each: each[1].offset):
            if not groups or place.offset - end > gap:
                groups.append([])
            groups[-1].append(path)
            end = max(end, place.offset + place.size)
        return [Record(self._type, *paths) for paths in groups]

    def __contains__(self, path: str) -> bool:
        return path in self.places

    def read(self, inferior: Inferior, address: int) -> bytes:
        """Return the bytes of the range, of a structure at an address; see `read_at`."""
        return read_at(inferior, address + self.begin, self.end - self.begin)

    def number(self, path: str, data: bytes) -> int:
        """Return a member's number, from the bytes of the range."""
        return self.places[path].number(data, -self.begin)

    def text(self, path: str, data: bytes) -> bytes:
        """Return a member's string, from the bytes of the range."""
        return self.places[path].text(data, -self.begin)
