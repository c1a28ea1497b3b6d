"""ELF cores as pyelftools reads them: what the writer's tests hold a core against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_CORE_NOTE_N_TYPE
from elftools.elf.segments import NoteSegment

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
        machine: e_machine, as pyelftools names it.
        segments: its PT_LOADs.
        notes: name, type and data of each note, in the order of the file.
    """

    def __init__(self, path: Path) -> None:
        self.data: bytes = path.read_bytes()
        with path.open("rb") as file:
            elf = ELFFile(file)
            assert elf["e_type"] == "ET_CORE"
            self.machine: str = elf["e_machine"]
            self.segments: list[Segment] = []
            self.notes: list[tuple[str, int, bytes]] = []
            for segment in elf.iter_segments():
                places = ("p_vaddr", "p_paddr", "p_memsz", "p_offset", "p_filesz")
                if segment["p_type"] == "PT_LOAD":
                    self.segments.append(Segment(*(segment[each] for each in places)))
                elif isinstance(segment, NoteSegment):
                    self.notes += [
                        (each["n_name"], number(each["n_type"]), each["n_descdata"])
                        for each in segment.iter_notes()
                    ]

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


def number(kind: str | int) -> int:
    """Return the number of a note's type, which pyelftools names where it knows it."""
    return kind if isinstance(kind, int) else ENUM_CORE_NOTE_N_TYPE[kind]
