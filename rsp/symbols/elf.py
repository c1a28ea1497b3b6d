"""An ELF file as sections and their bytes.

Here lives: every use of pyelftools, and the checks that keep a damaged file from costing more
than its own size. Here must not live: what the bytes of a section mean.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rsp.errors import BadImage

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_INFLATION = 1032
"""What a byte of deflate can stand for at most (zlib's technical notes)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section header; the names are those of the ELF specification without ``sh_``."""

    index: int
    name: str
    type: str
    address: int
    size: int
    link: int
    entry_size: int
    loaded: bool

    def __contains__(self, address: int) -> bool:
        return self.loaded and self.address <= address < self.address + self.size


class ElfFile:
    """The headers of an ELF file, read once; the file is open only while it is read.

    Attributes:
        path: the file.
        word_size: 4 or 8.
        byte_order: ``little`` or ``big``.
        sections: the section headers, in the order of the file.

    Raises:
        BadImage: the file cannot be read, or is not an ELF file with section headers.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        with self._open() as elf:
            self.word_size = elf.elfclass // 8
            self.byte_order: Literal["little", "big"] = "little" if elf.little_endian else "big"
            self.relocatable = elf["e_type"] == "ET_REL"
            headers = elf.num_sections() * elf["e_shentsize"]
            if elf["e_shentsize"] < elf.structs.Elf_Shdr.sizeof() or headers > elf.stream_len:
                raise BadImage(
                    f"{self.path}: its section headers are missing or damaged", path=self.path
                )
            self.sections = tuple(
                Section(
                    index=index,
                    name=section.name,
                    type=str(section["sh_type"]),
                    address=section["sh_addr"],
                    size=section["sh_size"],
                    link=section["sh_link"],
                    entry_size=section["sh_entsize"],
                    loaded=bool(section["sh_flags"] & 2),  # SHF_ALLOC
                )
                for index, section in enumerate(elf.iter_sections())
            )

    def named(self, name: str) -> Section | None:
        """Return the first section of that name."""
        return next((section for section in self.sections if section.name == name), None)

    def of_type(self, sh_type: str) -> Section | None:
        """Return the first section of that type, ``SHT_SYMTAB`` for example."""
        return next((section for section in self.sections if section.type == sh_type), None)

    def read(self, *sections: Section | None) -> list[bytes]:
        """Return the contents of each section, decompressed; empty for None.

        Raises:
            BadImage: a section reaches beyond the file, or does not decompress.
        """
        with self._open() as elf:
            return [b"" if section is None else self._data(elf, section) for section in sections]

    def compilation_directories(self) -> dict[int, str]:
        """Return where each unit was compiled, by the offset of its line program.

        DWARF 5 has it in the line program itself, earlier versions only here. What comes after a
        damaged unit is left out.
        """
        directories: dict[int, str] = {}
        wanted = {f".debug_{name}" for name in ("info", "abbrev", "str", "line_str")}
        with self._open() as elf, contextlib.suppress(BadImage), self._damage():
            for section in self.sections:
                if section.name in wanted:
                    self._data(elf, section)  # for its checks
            dwarf = elf.get_dwarf_info(relocate_dwarf_sections=False, follow_links=False)
            for unit in dwarf.iter_CUs():
                attributes = unit.get_top_DIE().attributes
                if "DW_AT_stmt_list" in attributes and "DW_AT_comp_dir" in attributes:
                    directory = attributes["DW_AT_comp_dir"].value
                    directories[attributes["DW_AT_stmt_list"].value] = os.fsdecode(directory)
        return directories

    def _data(self, elf: Any, section: Section) -> bytes:
        found = elf.get_section(section.index)
        # For a compressed section data_size is what its header claims.
        bound = found["sh_size"] * (MAX_INFLATION if found.compressed else 1)
        if (
            found["sh_type"] == "SHT_NOBITS"
            or found["sh_offset"] + found["sh_size"] > elf.stream_len
            or found.data_size > bound
        ):
            raise BadImage(f"{self.path}: section {section.name} is damaged", path=self.path)
        return bytes(found.data())

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        from elftools.elf.elffile import ELFFile

        try:
            # Without waiting for who writes to a FIFO, which is no file to seek in anyway.
            stream = open(self.path, "rb", opener=_open_at_once)  # noqa: SIM115
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise BadImage(f"{self.path}: cannot be read: {reason}", path=self.path) from error
        with stream, self._damage():
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise BadImage(f"{self.path}: cannot be read: it is no file", path=self.path)
            yield ELFFile(stream)

    @contextlib.contextmanager
    def _damage(self) -> Iterator[None]:
        try:
            yield
        except BadImage:
            raise
        # pyelftools lets out whatever its parsing stumbles over: KeyError, AssertionError,
        # RecursionError, OverflowError and others beside its own.
        except Exception as error:
            raise BadImage(
                f"{self.path}: not an ELF file, or a damaged one: {error}", path=self.path
            ) from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
