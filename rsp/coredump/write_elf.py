"""The file of a core, written: ELF headers, notes, and memory with holes where it is zero.

Contents: what a core is made of, its layout, and the loop that reads a target's memory into it. Not
here: which memory, and what the notes say.

Source: System V ABI, chapter 5 (program header), elf.h.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from rsp.coredump.elf_layout import (
    EM_386,
    EM_X86_64,
    ET_CORE,
    HEADERS,
    NOTE,
    PT_LOAD,
    PT_NOTE,
    SEGMENTS,
)
from rsp.errors import MemoryFault
from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_LOADS: Final = 65_000
"""The most program headers of a core: ``e_phnum`` has 16 bits, and 0xffff means something else."""
READ, WRITE, EXECUTE = 4, 2, 1

_PAGE: Final = 4096
# What is read at once: enough for the requests of a whole window, and a step of a progress bar.
_PIECE: Final = 1 << 20
_ZEROS: Final = bytes(_PAGE)


@dataclass(slots=True)
class Run:
    """A run of memory whose bytes are in the file.

    Attributes:
        address: of the first byte, as the target is asked for it.
        size: in bytes.
        kept: how many of them could be read, and are there.
    """

    address: int
    size: int
    kept: int = 0

    def __repr__(self) -> str:
        return hex_repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A segment: where some bytes of a run are in the target's address spaces.

    Attributes:
        address: the virtual address.
        physical: the physical address, 0 in a process.
        size: in bytes.
        run: where its bytes are; None where they were left out.
        offset: in the run.
        flags: `READ`, `WRITE` and `EXECUTE`.
    """

    address: int
    physical: int = 0
    size: int
    run: Run | None
    offset: int = 0
    flags: int = READ | WRITE | EXECUTE

    def __repr__(self) -> str:
        return hex_repr(self)

    @property
    def kept(self) -> int:
        """How many bytes of it are in the file."""
        return 0 if self.run is None else max(0, min(self.size, self.run.kept - self.offset))


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """A core to be written.

    Attributes:
        word_size: 8 of a 64-bit machine or process, 4 of a 32-bit one.
        notes: all of them, encoded.
        runs: the memory, in the order of the file.
        loads: the segments.
        physical: whether the runs' addresses are physical.
    """

    word_size: int
    notes: bytes
    runs: Sequence[Run] = field(default_factory=list)
    loads: Sequence[Load] = field(default_factory=list)
    physical: bool = False

    @property
    def total(self) -> int:
        """How many bytes of memory are to be read."""
        return sum(run.size for run in self.runs)


def note(name: str, kind: int, data: bytes) -> bytes:
    r"""Return a note, its name and its data padded to words of four bytes.

    >>> note("CORE", 6, b"\1\2")
    b'\x05\x00\x00\x00\x02\x00\x00\x00\x06\x00\x00\x00CORE\x00\x00\x00\x00\x01\x02\x00\x00'
    """
    text = name.encode() + b"\0"
    return NOTE.pack(len(text), len(data), kind) + _padded(text, 4) + _padded(data, 4)


def write_elf(
    file: BinaryIO,
    core: Core,
    read: Callable[[int, int], bytes],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a core, the memory of the target first and the headers last.

    Args:
        file: new and empty, at its begin; it can seek.
        core: what is written. ``kept`` of its runs says afterwards what could be read.
        read: returns memory by address and length, or raises MemoryFault.
        progress: told how many bytes have been read, and how many there are.

    Raises:
        OSError: the file cannot be written.
    """
    word = 8 if core.word_size == 8 or _needs_64_bits(core) else 4
    notes_at = HEADERS[word].size + SEGMENTS[word].size * (1 + len(core.loads))
    at = _up(notes_at + len(core.notes))
    places: dict[int, int] = {}
    done = 0
    for run in core.runs:
        places[id(run)] = at
        file.seek(at)
        while run.kept < run.size:
            size = min(_PIECE, run.size - run.kept)
            try:
                data = read(run.address + run.kept, size)
            except MemoryFault as fault:
                data = fault.partial
            _write_sparse(file, data)
            run.kept += len(data)
            done += len(data)
            if len(data) < size:
                done += run.size - run.kept  # it is not going to be there
            if progress is not None:
                progress(done, core.total)
            if len(data) < size:
                break
        at = _up(at + run.size)
    file.truncate(file.tell())  # a hole at the end
    file.seek(0)
    file.write(_header(core, word))
    file.write(_segment(PT_NOTE, 0, 0, 0, notes_at, len(core.notes), 0, 4, word))
    for load in core.loads:
        place = 0 if load.run is None else places[id(load.run)] + load.offset
        file.write(
            _segment(
                *(PT_LOAD, load.flags, load.address, load.physical),
                *(place, load.kept, load.size, _PAGE if place % _PAGE == 0 else 1),
                word,
            )
        )
    file.write(core.notes)


def _needs_64_bits(core: Core) -> bool:
    """Whether a 32-bit file has no room for it: a guest with PAE may have more than 4 GiB."""
    highest = max((run.address + run.size for run in core.runs), default=0)
    return max(highest, core.total + (1 << 26)) > 1 << 32


def _write_sparse(file: BinaryIO, data: bytes) -> None:
    """Write, leaving out pages of zeros: the file has holes there."""
    at = 0
    while at < len(data):
        end = at
        while end < len(data) and data[end : end + _PAGE] != _ZEROS:
            end += _PAGE
        file.write(data[at:end])
        at = end
        while data[at : at + _PAGE] == _ZEROS:
            at += _PAGE
        if at > end:
            file.seek(at - end, 1)


def _header(core: Core, word: int) -> bytes:
    identity = b"\x7fELF" + bytes([word // 4, 1, 1])
    machine = EM_X86_64 if core.word_size == 8 else EM_386
    header, load = HEADERS[word], SEGMENTS[word]
    return header.pack(
        *(identity, ET_CORE, machine, 1, 0, header.size, 0, 0),
        *(header.size, load.size, 1 + len(core.loads), 0, 0, 0),
    )


def _segment(
    kind: int,
    flags: int,
    address: int,
    physical: int,
    place: int,
    kept: int,
    size: int,
    align: int,
    word: int,
) -> bytes:
    if word == 8:
        return SEGMENTS[8].pack(kind, flags, place, address, physical, kept, size, align)
    return SEGMENTS[4].pack(kind, place, address, physical, kept, size, flags, align)


def _up(offset: int) -> int:
    return offset + -offset % _PAGE


def _padded(data: bytes, align: int) -> bytes:
    return data + bytes(-len(data) % align)
