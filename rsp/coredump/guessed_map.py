"""The memory map of a process that nobody tells, as far as the process itself does.

Contents: the program and its libraries, which the auxiliary vector and the dynamic linker's list
lead to; the stack and the local storage of each thread; what lies behind the program, which is the
heap where addresses are not random. Memory from elsewhere (``mmap``) is not found.

Sources: getauxval(3), System V ABI (program header, dynamic section), glibc elf/link.h.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rsp.coredump.memory_map import Region
from rsp.errors import ArgumentError, MemoryFault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rsp.arch.registers import Registers
    from rsp.inferior.live import LiveInferior

AT_PHDR: Final = 3
AT_PHNUM: Final = 5
AT_BASE: Final = 7
AT_EXECFN: Final = 31
AT_SYSINFO_EHDR: Final = 33

_PT_LOAD, _PT_DYNAMIC, _PT_PHDR = 1, 2, 6
_DT_DEBUG: Final = 21
_PAGE: Final = 4096
_PIECE: Final = 1 << 16
_RED_ZONE: Final = 128
_MOST_OBJECTS: Final = 1024
_MOST_HEADERS: Final = 256
_MOST_DYNAMIC: Final = 512
# struct link_map as a debugger reads it, and the words of glibc's own behind that.
_LINK_MAP: Final = 64
_MOST_STACK: Final = 1 << 23
_MOST_HEAP: Final = 1 << 26
_LOCAL: Final = 1 << 14  # on both sides of what FS or GS points to


def auxiliary(vector: bytes | None, word: int) -> dict[int, int]:
    """Return the auxiliary vector by its types."""
    pairs = struct.iter_unpack("<QQ" if word == 8 else "<II", _whole(vector or b"", 2 * word))
    return dict(reversed([*pairs]))  # the first of two counts


def guessed_map(
    inferior: LiveInferior, vector: bytes | None, threads: Sequence[Registers], word: int
) -> tuple[Region, ...]:
    """Return the regions that are found; none that cannot be read."""
    found = _Finder(inferior, word)
    entries = auxiliary(vector, word)
    if AT_PHDR in entries:
        found.program(entries[AT_PHDR], entries.get(AT_PHNUM, 0))
    for kind in (AT_BASE, AT_SYSINFO_EHDR):
        if entries.get(kind):
            found.object_at(entries[kind])
    for registers in threads:
        found.upwards(registers.sp - _RED_ZONE, _MOST_STACK)
        for base in ("fs_base", "gs_base"):
            if local := registers.get(base):
                found.upwards(local - _LOCAL, _LOCAL)
                found.upwards(local, _LOCAL)
    return tuple(found.regions())


class _Finder:
    """Collects regions."""

    def __init__(self, inferior: LiveInferior, word: int) -> None:
        self._inferior = inferior
        self._word = word
        self._pages: set[int] = set()

    def regions(self) -> Iterator[Region]:
        """Yield what was found, neighbouring pages as one."""
        begin = end = 0
        for page in sorted(self._pages):
            if page != end:
                if end > begin:
                    yield Region(begin=begin, end=end, permissions="rwx")
                begin = page
            end = page + _PAGE
        if end > begin:
            yield Region(begin=begin, end=end, permissions="rwx")

    def upwards(self, address: int, most: int) -> None:
        """Add what can be read from the page of an address on."""
        at = address & -_PAGE
        stop = at + most
        while 0 <= at < stop:
            size = min(_PIECE, stop - at)
            data = self._read(at, size)
            self._add(at, len(data))
            if len(data) < size:
                return
            at += size

    def program(self, headers: int, count: int) -> None:
        """Add the program by its headers, and what the dynamic linker has loaded."""
        segments = self._segments(headers, min(count, _MOST_HEADERS))
        bias = next((headers - address for kind, address, _ in segments if kind == _PT_PHDR), 0)
        end = self._loads(segments, bias)
        if end:
            self.upwards(end, _MOST_HEAP)
        for kind, address, size in segments:
            if kind == _PT_DYNAMIC:
                self._linked(address + bias, size)

    def object_at(self, address: int) -> None:
        """Add an object whose ELF header is at an address."""
        header = self._read(address, 64)
        if not header.startswith(b"\x7fELF") or len(header) < 64:
            return
        if self._word == 8:
            (offset,), (count,) = (
                struct.unpack_from("<Q", header, 32),
                struct.unpack_from("<H", header, 56),
            )
        else:
            (offset,), (count,) = (
                struct.unpack_from("<I", header, 28),
                struct.unpack_from("<H", header, 44),
            )
        segments = self._segments(address + offset, min(count, _MOST_HEADERS))
        first = next((at for kind, at, _ in segments if kind == _PT_LOAD), 0)
        self._loads(segments, address - (first & -_PAGE))

    def _linked(self, dynamic: int, size: int) -> None:
        """Follow r_debug to the list of objects: struct link_map."""
        word = self._word
        data = self._read(dynamic, min(size, _MOST_DYNAMIC * 2 * word))
        debug = auxiliary(data, word).get(_DT_DEBUG, 0)
        place = self._number(debug + word) if debug else 0
        seen: set[int] = set()
        while place and place not in seen and len(seen) < _MOST_OBJECTS:
            seen.add(place)
            # The list itself is in memory of its own: without it no debugger finds the libraries.
            for needed in (place, place + _LINK_MAP, self._number(place + word)):
                self.upwards(needed, _PAGE)
            if base := self._number(place):
                self.object_at(base)
            place = self._number(place + 3 * word)

    def _segments(self, address: int, count: int) -> list[tuple[int, int, int]]:
        """Return type, address and size in memory of each program header."""
        form = "<I12xQ8x8xQ8x" if self._word == 8 else "<I4xI4x4xI8x"
        data = self._read(address, count * struct.calcsize(form))
        found = struct.iter_unpack(form, _whole(data, struct.calcsize(form)))
        return [(kind, at, size) for kind, at, size in found]

    def _loads(self, segments: list[tuple[int, int, int]], bias: int) -> int:
        """Add the segments that are loaded; return where the last one ends."""
        last = 0
        for kind, address, size in segments:
            if kind == _PT_LOAD and size:
                begin = (address + bias) & -_PAGE
                last = address + bias + size
                last += -last % _PAGE
                self.upwards(begin, min(last - begin, _MOST_HEAP))
        return last

    def _add(self, address: int, size: int) -> None:
        self._pages.update(range(address, address + size - size % _PAGE, _PAGE))

    def _number(self, address: int) -> int:
        return int.from_bytes(self._read(address, self._word), "little")

    def _read(self, address: int, size: int) -> bytes:
        """Return what can be read."""
        with suppress(ArgumentError):  # it leaves the address space
            try:
                return self._inferior.read_memory(address, size)
            except MemoryFault as fault:
                return fault.partial
        return b""


def _whole(data: bytes, size: int) -> bytes:
    return data[: len(data) - len(data) % size]
