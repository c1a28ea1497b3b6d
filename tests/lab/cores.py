"""ELF cores, read by a few lines of their own: what the writer's tests hold a core against.

Contents: the program headers and the notes of a core of either class.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Segment:
    """A PT_LOAD."""

    address: int
    physical: int
    size: int
    place: int
    kept: int


class CoreFile:
    """A core.

    Attributes:
        data: all of it.
        machine: e_machine.
        segments: its PT_LOADs.
        notes: name, type and data of each note, in the order of the file.
    """

    def __init__(self, path: Path) -> None:
        self.data: bytes = path.read_bytes()
        assert self.data[:4] == b"\x7fELF"
        wide = self.data[4] == 2
        kind, self.machine = struct.unpack_from("<HH", self.data, 16)
        assert kind == 4
        (start,) = struct.unpack_from("<Q" if wide else "<I", self.data, 32 if wide else 28)
        (count,) = struct.unpack_from("<H", self.data, 56 if wide else 44)
        self.segments: list[Segment] = []
        self.notes: list[tuple[str, int, bytes]] = []
        for n in range(count):
            if wide:
                kind, _, place, address, physical, kept, size, _ = struct.unpack_from(
                    "<IIQQQQQQ", self.data, start + 56 * n
                )
            else:
                kind, place, address, physical, kept, size, _, _ = struct.unpack_from(
                    "<8I", self.data, start + 32 * n
                )
            if kind == 1:
                self.segments.append(Segment(address, physical, size, place, kept))
            elif kind == 4:
                self.notes += self._notes(place, kept)

    def _notes(self, place: int, size: int) -> list[tuple[str, int, bytes]]:
        found = []
        end = place + size
        while place < end:
            name_size, data_size, kind = struct.unpack_from("<III", self.data, place)
            name = self.data[place + 12 : place + 12 + name_size].rstrip(b"\0").decode()
            at = place + 12 + name_size + -name_size % 4
            found.append((name, kind, self.data[at : at + data_size]))
            place = at + data_size + -data_size % 4
        return found

    def note(self, name: str, kind: int) -> list[bytes]:
        """Return the data of all notes of a name and type."""
        return [data for each, its, data in self.notes if (each, its) == (name, kind)]

    def physical(self, address: int, size: int) -> bytes | None:
        """Return physical memory, None where no segment has all of it."""
        for each in self.segments:
            if each.physical <= address and address + size <= each.physical + each.kept:
                at = each.place + address - each.physical
                return self.data[at : at + size]
        return None

    def virtual(self, address: int, size: int) -> bytes | None:
        """Return memory at a linear address, None where no segment has all of it."""
        for each in self.segments:
            if each.address <= address and address + size <= each.address + each.kept:
                at = each.place + address - each.address
                return self.data[at : at + size]
        return None
