"""An ELF core file: its segments and its notes, and the bytes of both.

Contents: `CoreFile`. It is read in pieces and not mapped, since /proc/kcore cannot be. Not here:
what the notes mean (see `core_notes`), and which memory a thread sees (see `core_memory`).

Source: Linux fs/binfmt_elf.c and fs/proc/kcore.c.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from rsp import arguments
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
from rsp.errors import BadImage
from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Iterator

_PN_XNUM: Final = 0xFFFF  # the number of segments is in section 0 then
_WORDS: Final = {1: 4, 2: 8}  # EI_CLASS to the size of an address
_MACHINES: Final = {EM_386: "i386", EM_X86_64: "x86-64"}
_ADDRESSES: Final = {"i386": 4, "x86-64": 8}
_INFO_AT: Final = {4: 28, 8: 44}  # of sh_info in a section header
_MOST_SEGMENTS: Final = 1 << 20
_MOST_NOTES: Final = 1 << 28  # bytes; a process of 65,536 threads has some 200 MB
_NO_PHYSICAL: Final = 1 << 52
"""No physical address of x86 is above; kcore says all ones of what has none."""
_OTHERS: Final = {
    b"KDUMP   ": "a dump that makedumpfile has compressed: makedumpfile -E writes an ELF core",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first",
    b"\x04\x22\x4d\x18": "compressed by lz4: unpack it first",
    b"\xfd7zXZ": "compressed by xz: unpack it first",
}


class Segment(NamedTuple):
    """A PT_LOAD: where its bytes are in memory and in the file."""

    virtual: int
    physical: int | None
    size: int
    offset: int
    in_file: int

    def __repr__(self) -> str:
        return hex_repr(self, "virtual")


class CoreNote(NamedTuple):
    """A note: who defines it, its type, its bytes."""

    owner: str
    type: int
    data: bytes


class CoreFile:
    """An open core file.

    Args:
        path: of the file.

    Attributes:
        path: of the file.
        arch: ``i386`` or ``x86-64``.
        word_size: of an address there, in bytes.
        segments: what has memory, in the order of the file.
        notes: all of them.

    Raises:
        BadImage: it is no core of x86, or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = arguments.path(path, "path")
        self._file = -1
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            self._length = os.fstat(self._file).st_size
            head = os.pread(self._file, 64, 0)
        except OSError as error:
            self.close()
            raise BadImage(f"{self.path}: cannot be read: {error.strerror}", path=self.path) from (
                error
            )
        try:
            self.segments: tuple[Segment, ...] = ()
            self.notes: tuple[CoreNote, ...] = ()
            self._read_headers(head)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<CoreFile {self.path}, {len(self.segments)} segments>"

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def at(self, offset: int, size: int) -> bytes:
        """Return bytes of the file, fewer where it ends or cannot be read."""
        data = b""
        try:
            while len(data) < size:
                more = os.pread(self._file, min(size - len(data), 1 << 30), offset + len(data))
                if not more:
                    break
                data = data + more if data else more
        except (OSError, OverflowError):  # /proc/kcore refuses some pages
            pass
        return data

    @property
    def truncated(self) -> bool:
        """Whether the file ends before its memory does, as when the disk was full."""
        return any(each.offset + each.in_file > self._length for each in self.segments)

    def _read_headers(self, head: bytes) -> None:
        for magic, what in _OTHERS.items():
            if head.startswith(magic):
                raise self._bad(f"no ELF core, but {what}")
        if head[:4] != b"\x7fELF" or len(head) < 52:
            raise self._bad("no ELF file")
        word, order = _WORDS.get(head[4]), head[5]
        if word is None or order != 1:
            raise self._bad("no little-endian ELF file of 32 or 64 bits")
        header = HEADERS[word]
        if len(head) < header.size:
            raise self._bad("it ends within its header")
        _, kind, machine, _, _, begin, sections, _, _, size, count, *_ = header.unpack_from(head)
        if kind != ET_CORE:
            raise self._bad("an ELF file, and no core: give a program as symbols=")
        arch = _MACHINES.get(machine)
        if arch is None:
            raise self._bad(f"a core of another architecture (e_machine {machine})")
        self.arch: str = arch
        # QEMU writes the core of a 32-bit machine as a 64-bit file.
        self.word_size: int = _ADDRESSES[arch]
        if count == _PN_XNUM:
            count = int.from_bytes(self.at(sections + _INFO_AT[word], 4), "little")
        entry = SEGMENTS[word]
        if size != entry.size or count > _MOST_SEGMENTS:
            raise self._bad(f"{count} segments of {size} bytes")
        table = self.at(begin, size * count)
        if len(table) < size * count:
            raise self._bad("it ends within its program headers")
        loads, notes = [], []
        for fields in entry.iter_unpack(table):
            if word == 8:
                kind, _, offset, virtual, physical, in_file, in_memory, _ = fields
            else:
                kind, offset, virtual, physical, in_file, in_memory, _, _ = fields
            if kind == PT_LOAD and in_memory:
                known = physical if physical + in_memory <= _NO_PHYSICAL else None
                loads.append(Segment(virtual, known, in_memory, offset, min(in_file, in_memory)))
            elif kind == PT_NOTE:
                notes.append((offset, in_file))
        self.segments = tuple(loads)
        self.notes = tuple(note for offset, size in notes for note in self._notes(offset, size))

    def _notes(self, offset: int, size: int) -> Iterator[CoreNote]:
        data = self.at(offset, min(size, _MOST_NOTES))
        at = 0
        while at + NOTE.size <= len(data):
            name_size, desc_size, kind = NOTE.unpack_from(data, at)
            name_at = at + NOTE.size
            desc_at = name_at + name_size + -name_size % 4
            at = desc_at + desc_size + -desc_size % 4
            if desc_at + desc_size > len(data):
                raise self._bad("it ends within a note")
            if name_size or desc_size:  # kcore pads with zeros
                name = data[name_at : name_at + name_size].rstrip(b"\0")
                owner = name.decode("ascii", "replace")
                yield CoreNote(owner, kind, data[desc_at : desc_at + desc_size])

    def _bad(self, reason: str) -> BadImage:
        return BadImage(f"{self.path}: {reason}", path=self.path)
