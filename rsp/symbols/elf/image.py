"""An ELF file, mapped: its sections, their bytes, its notes.

Contents: the layout of ELF headers (System V ABI, chapter 4) and the checks that keep a damaged or
hostile file from costing more than its size. Not here: what the bytes of a section mean.

The headers are read by `struct`: with pyelftools and construct, importing alone would take as long
as all of a question about a kernel (benchmarks/symbols.py).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
import struct
import zlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rsp import arguments
from rsp.errors import BadImage
from rsp.symbols.elf.headers import FILE_HEADERS, SECTION_HEADERS
from rsp.symbols.elf.inflate import inflate_file, inflate_section
from rsp.symbols.elf.section_data import SectionData

if TYPE_CHECKING:
    from collections.abc import Iterator

ET_REL, ET_DYN = 1, 3
SHT_SYMTAB, SHT_RELA, SHT_NOTE, SHT_NOBITS, SHT_REL, SHT_DYNSYM = 2, 4, 7, 8, 9, 11
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_COMPRESSED = 0x1, 0x2, 0x4, 0x800
SHN_XINDEX = 0xFFFF
NT_GNU_BUILD_ID = 3

_CLASSES = {1: 4, 2: 8}  # EI_CLASS to the size of an address
_MACHINES = {3: "i386", 62: "x86-64"}

# By the size of an address.
_COMPRESSION_HEADERS = {4: struct.Struct("<III"), 8: struct.Struct("<IxxxxQQ")}


class Section(NamedTuple):
    """A section header; the names are those of the ELF specification without ``sh_``."""

    number: int
    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    entry_size: int
    alignment: int = 1

    @property
    def loaded(self) -> bool:
        """Whether it is in memory when the program runs."""
        return bool(self.flags & SHF_ALLOC)

    @property
    def compressed(self) -> bool:
        """Whether it lies packed in the file, by ELF's means or (.zdebug_) by GNU's older ones."""
        return bool(self.flags & SHF_COMPRESSED) or self.name.startswith(".zdebug_")

    @property
    def executable(self) -> bool:
        """Whether what is in it is code."""
        return bool(self.flags & SHF_EXECINSTR)

    def holds(self, address: int) -> bool:
        """Return whether a link address lies in it."""
        return self.loaded and self.address <= address < self.address + self.size


class Note(NamedTuple):
    """A note: who defined it, which it is, and what it says."""

    owner: bytes
    type: int
    description: bytes


class Image:
    """An ELF file for i386 or x86-64, mapped for as long as the object lives.

    A file that is cut short by somebody else while it is mapped ends the process (SIGBUS), as with
    every program that maps files.

    Args:
        path: the file; one compressed as a whole by xz, zstd or gzip, as modules are, is unpacked
            into a temporary file.

    Attributes:
        path: the file.
        word_size: the size of an address, 4 or 8.
        machine: ``i386`` or ``x86-64``.
        relocatable: ET_REL, an object or a module, which has no addresses yet.
        position_independent: ET_DYN, a program or a library that may lie anywhere.
        entry: the link address at which a program begins.
        sections: the section headers, in the order of the file.

    Raises:
        BadImage: it cannot be read, is no ELF file of these machines, or has no section headers.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: str = arguments.path(path, "path")
        self._map = self._mapped()
        if self._map[0x1FE:0x200] == b"\x55\xaa" and self._map[0x202:0x206] == b"HdrS":
            raise self._bad(  # Linux's boot protocol, Documentation/x86/boot.rst
                "a kernel as it boots (bzImage), without symbols; they are in the vmlinux that is "
                "built with it, in distributions in the kernel's -dbg or -debuginfo package"
            )
        if self._is_pe():
            self._map = self._converted()
        if self._map[:4] != b"\x7fELF":
            raise self._bad("not an ELF file")
        ident = self._map[:16]
        if len(ident) < 16 or ident[4] not in _CLASSES or ident[5] not in (1, 2):
            raise self._bad("its ELF header is damaged")
        self.word_size: int = _CLASSES[ident[4]]
        try:
            self._read_headers(big_endian=ident[5] == 2)
        except struct.error:
            raise self._bad("it ends within its headers: was it copied to its end?") from None

    def __repr__(self) -> str:
        return f"Image({self.path!r})"

    def named(self, name: str) -> Section | None:
        """Return the first section of that name; ``.zdebug_info`` is asked for as .debug_info."""
        return self._by_name.get(name)

    def of_type(self, sh_type: int) -> Section | None:
        """Return the first section of that type."""
        return next((section for section in self.sections if section.type == sh_type), None)

    def section_at(self, address: int) -> Section | None:
        """Return the loaded section that a link address lies in."""
        return next((section for section in self.sections if section.holds(address)), None)

    def contents(self, section: Section | str) -> SectionData:
        """Return the bytes of a section, decompressed; empty where there is none.

        Raises:
            BadImage: it reaches beyond the file, or does not decompress.
        """
        if isinstance(section, str):
            name, found = section, self.named(section)
        else:
            name, found = section.name, section
        if found is None or found.type == SHT_NOBITS:
            return SectionData.empty(name, path=self.path)
        if found.number not in self._contents:
            self._contents[found.number] = self._read(found)
        return self._contents[found.number]

    @cached_property
    def notes(self) -> tuple[Note, ...]:
        """The notes of all note sections; those after a damaged one are left out."""
        notes: list[Note] = []
        left = len(self._map)
        for section in self.sections:
            # Sections share no bytes: what is read is bounded by the file.
            if section.type == SHT_NOTE and section.size <= left and not section.compressed:
                left -= section.size
                notes += self._notes(section)
        return tuple(notes)

    @cached_property
    def build_id(self) -> bytes | None:
        """What the linker computed of the contents, the same in a file and its debug file."""
        for note in self.notes:
            if note.owner == b"GNU" and note.type == NT_GNU_BUILD_ID and note.description:
                return note.description
        return None

    @cached_property
    def cache_key(self) -> str | None:
        """What tells it from all others, for `rsp.symbols.cache`; None where nothing does.

        That is its build-id. A stripped file and its debug file have the same, so where the
        sections are in the file goes with it; addresses do not, so that a module's key is the same
        wherever it is placed. A module that was not placed has no key, as its debug information was
        not relocated and means nothing; nor has a file without a build-id, as its name and its time
        do not say what was mapped: it may have been built anew since.
        """
        placed = not self.relocatable or any(section.address for section in self.sections)
        if not self.build_id or not placed:
            return None
        sections = repr([(each.name, each.type, each.offset, each.size) for each in self.sections])
        return f"{self.build_id.hex()}-{zlib.crc32(sections.encode(errors='surrogateescape')):08x}"

    @property
    def address_key(self) -> str | None:
        """`cache_key` for what depends on addresses; None for a module: it can be anywhere."""
        return None if self.relocatable else self.cache_key

    def open_beside(self, path: str | os.PathLike[str]) -> Image:
        """Return another file of the same program, as its debug file is."""
        return Image(path)

    def _mapped(self) -> mmap.mmap:
        try:
            # Without waiting for who writes to a FIFO, which is no file to map anyway.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise self._bad(f"cannot be read: {reason}") from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                what = "a directory" if stat.S_ISDIR(status.st_mode) else "no file"
                raise self._bad(f"cannot be read: it is {what}")
            if status.st_size == 0:
                raise self._bad("not an ELF file: it is empty")
            inflated = inflate_file(descriptor, self.path)
            if inflated is not None:
                os.close(descriptor)
                descriptor = inflated
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise self._bad(f"cannot be read: {error.strerror}") from error
        except ValueError as error:  # of length 0 once unpacked, or by now
            raise self._bad("not an ELF file: it is empty") from error
        finally:
            os.close(descriptor)

    def _is_pe(self) -> bool:
        """Return whether it is a PE image: "MZ", and "PE" where the number at 0x3c says."""
        at = int.from_bytes(self._map[0x3C:0x40], "little")
        return self._map[:2] == b"MZ" and self._map[at : at + 4] == b"PE\0\0"

    def _converted(self) -> mmap.mmap:
        """Return the ELF file that has what is in a PE image."""
        from rsp.symbols.elf.pe import as_elf

        content = as_elf(self._map, self.path)
        if content is None:
            raise self._bad(
                "a PE image (EFI, Windows) without DWARF and symbols; the ELF file that it was "
                f"made of has them{self._made_of()}"
            )
        found = mmap.mmap(-1, len(content))
        found[:] = content
        return found

    def _made_of(self) -> str:
        """Return a clause with the ELF files beside it that go by its name."""
        own = Path(self.path)
        found: list[str] = []
        with contextlib.suppress(OSError):
            beside = sorted(own.parent.iterdir())
            named = (path for path in beside if path.name.startswith(f"{own.stem}."))
            found = [str(path) for path in named if path.is_file() and _begins_as_elf(path)]
        return f": {', '.join(found)}" if found else " (.debug, .so or .dll, by its name)"

    def _read_headers(self, *, big_endian: bool) -> None:
        header = FILE_HEADERS[self.word_size]
        machine = int.from_bytes(self._map[18:20], "big" if big_endian else "little")
        if big_endian or machine not in _MACHINES:
            raise self._bad(f"made for another machine (e_machine {machine}), not for x86")
        self.machine: str = _MACHINES[machine]
        fields = header.unpack_from(self._map)[1:]
        self.entry: int
        kind, _, _, self.entry, _, table = fields[:6]
        entry_size, count, names_index = fields[10:]
        self.relocatable: bool = kind == ET_REL
        self.position_independent: bool = kind == ET_DYN

        layout = SECTION_HEADERS[self.word_size]
        size = len(self._map)
        if table == 0 or entry_size != layout.size:
            raise self._bad("its section headers are missing or damaged")
        if table + layout.size > size:
            raise self._bad("it ends before its section headers: was it copied to its end?")
        # The first header holds what does not fit into the file header.
        first = layout.unpack_from(self._map, table)
        count = count or first[5]
        names_index = first[6] if names_index == SHN_XINDEX else names_index
        if table + count * layout.size > size or names_index >= count:
            raise self._bad("its section headers are damaged: was it copied to its end?")
        raw = list(layout.iter_unpack(self._map[table : table + count * layout.size]))
        if raw[names_index][4] + raw[names_index][5] > size:
            raise self._bad("its section names are missing: was it copied to its end?")
        strings = SectionData(
            ".shstrtab", self._map, raw[names_index][4], raw[names_index][5], path=self.path
        )

        self.sections: tuple[Section, ...] = tuple(
            Section._make(
                (number, self._name(strings, fields[0]), *fields[1:8], fields[9], fields[8] or 1)
            )
            for number, fields in enumerate(raw)
        )
        self._by_name: dict[str, Section] = {}
        for section in self.sections:
            self._by_name.setdefault(section.name.replace(".zdebug_", ".debug_", 1), section)
        self._contents: dict[int, SectionData] = {}

    @staticmethod
    def _name(strings: SectionData, offset: int) -> str:
        try:
            return strings.text(offset)
        except BadImage:
            return ""

    def _read(self, section: Section) -> SectionData:
        whole = SectionData(section.name, self._map, section.offset, section.size, path=self.path)
        if section.offset + section.size > len(self._map):
            whole.fail(0, "it reaches beyond the file: was that copied to its end?")
        if section.name.startswith(".zdebug_"):  # GNU's form, before the ELF specification had one
            if whole[:4] != b"ZLIB" or len(whole) < 12:
                whole.fail(0, "no ZLIB header")
            return inflate_section(whole, 1, int.from_bytes(whole[4:12], "big"), 12)
        if section.compressed:
            header = _COMPRESSION_HEADERS[self.word_size]
            if len(whole) < header.size:
                whole.fail(0, "no compression header")
            kind, size, _ = header.unpack_from(whole.view)
            return inflate_section(whole, kind, size, header.size)
        return whole

    def _notes(self, section: Section) -> Iterator[Note]:
        # Linux aligns to 4 bytes, whatever the class (System V ABI, "Note Section").
        offset = 0
        try:
            data = self.contents(section)
            while offset + 12 <= len(data):
                name_size, size, kind = struct.unpack_from("<III", data.view, offset)
                name_at = offset + 12
                begin = name_at + (name_size + 3 & ~3)
                if begin + size > len(data):
                    return
                owner = data[name_at : name_at + name_size].rstrip(b"\0")
                yield Note(owner, kind, data[begin : begin + size])
                offset = begin + (size + 3 & ~3)
        except BadImage:
            return

    def _bad(self, reason: str) -> BadImage:
        return BadImage(f"{self.path}: {reason}", path=self.path)


def _begins_as_elf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False
