"""DWARF line programs: from the bytes of .debug_line to rows of address, file and line.

Here lives: the reader of one program, versions 2 to 5 (DWARF 5, section 6.2). Here must not live:
files, and the choice of a row for an address.

A damaged program gives the rows before the damage; its cost is bounded by its own size.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_NAME = 4096  # Linux: PATH_MAX
WORD = (1 << 64) - 1


class DamagedProgram(Exception):
    """The bytes do not follow DWARF; does not leave this package."""


class Row(NamedTuple):
    """The code from address to end comes of this line; ``file`` counts within the program."""

    address: int
    end: int
    program: LineProgram
    file: int
    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSections:
    """The sections that a line program needs."""

    line: bytes
    line_strings: bytes
    strings: bytes
    byte_order: Literal["little", "big"]
    word_size: int


class Cursor:
    """Reads forward through bytes, up to an end."""

    def __init__(self, sections: LineSections, offset: int, end: int) -> None:
        self.data = sections.line
        self.byte_order = sections.byte_order
        self.offset = offset
        self.end = end

    def take(self, size: int) -> bytes:
        """Return the next bytes."""
        if size > self.end - self.offset:
            raise DamagedProgram("it ends within a value")
        self.offset += size
        return self.data[self.offset - size : self.offset]

    def unsigned(self, size: int) -> int:
        """Return an unsigned integer of that many bytes."""
        return int.from_bytes(self.take(size), self.byte_order)

    def signed(self, size: int) -> int:
        """Return a signed integer of that many bytes."""
        return int.from_bytes(self.take(size), self.byte_order, signed=True)

    def uleb(self) -> int:
        """Return an unsigned LEB128 number."""
        return self._leb()[0] & WORD

    def sleb(self) -> int:
        """Return a signed LEB128 number."""
        value, bits = self._leb()
        return value - (1 << bits) if value >> (bits - 1) else value

    def _leb(self) -> tuple[int, int]:
        value = 0
        for bits in range(0, 70, 7):  # ten bytes hold 64 bits
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << bits
            if byte < 0x80:
                return value, bits + 7
        raise DamagedProgram("a LEB128 number of more than 64 bits")

    def string(self) -> bytes:
        """Return the bytes up to the next NUL, which is passed too."""
        text = c_string(self.data, self.offset, self.end)
        self.take(len(text) + 1)
        return text


def c_string(data: bytes, offset: int, end: int | None = None) -> bytes:
    """Return the bytes up to the next NUL."""
    limit = min(len(data) if end is None else end, offset + MAX_NAME)
    stop = data.find(b"\0", offset, limit)
    if stop < 0:
        raise DamagedProgram("a string without an end")
    return data[offset:stop]


class FileName(NamedTuple):
    """A file or directory of the header; its name is looked up when somebody asks."""

    name: bytes | tuple[bytes, int]  # the string, or a section and the offset in it
    directory: int

    def text(self) -> str:
        """Return the name."""
        name = self.name if isinstance(self.name, bytes) else c_string(*self.name)
        return name.decode(errors="surrogateescape")


class LineProgram:
    """One program: its header, read at once, and its rows.

    Attributes:
        offset: where it begins in .debug_line.
        next_offset: where the one after it begins.
    """

    def __init__(self, sections: LineSections, offset: int, directory: str = "") -> None:
        self.offset = offset
        self._sections = sections
        self._directory = directory
        self._address_size = sections.word_size

        cursor = Cursor(sections, offset, len(sections.line))
        self._offset_size = 4
        length = cursor.unsigned(4)
        if length == 0xFFFFFFFF:  # the 64-bit format
            self._offset_size = 8
            length = cursor.unsigned(8)
        self.next_offset = cursor.end = min(cursor.offset + length, len(sections.line))
        self._cursor = cursor

    def rows(self) -> Iterator[Row]:
        """Yield the rows of each sequence, as the program makes them.

        Raises:
            DamagedProgram: here the program makes no sense any more.
        """
        cursor = self._cursor
        self._read_header(cursor)
        base, line_range = self._line_base, self._line_range
        address, file, line, column = 0, 1, 1, 0
        # A row is whole when the next one says where it ends.
        pending: tuple[int, int, int, int] | None = None

        while cursor.offset < cursor.end:
            opcode = cursor.unsigned(1)
            emit = ended = False
            if opcode >= self._opcode_base:
                advance, up = divmod(opcode - self._opcode_base, line_range)
                address += advance * self._instruction_length
                line += base + up
                emit = True
            elif opcode == 0:
                size = cursor.uleb()
                following = cursor.offset + size
                match cursor.unsigned(1):
                    case 1:  # DW_LNE_end_sequence
                        emit = ended = True
                    case 2:  # DW_LNE_set_address
                        address = cursor.unsigned(size - 1)
                cursor.offset = min(following, cursor.end)
            else:
                match opcode:
                    case 1:  # DW_LNS_copy
                        emit = True
                    case 2:  # DW_LNS_advance_pc
                        address += cursor.uleb() * self._instruction_length
                    case 3:  # DW_LNS_advance_line
                        line += cursor.sleb()
                    case 4:  # DW_LNS_set_file
                        file = cursor.uleb()
                    case 5:  # DW_LNS_set_column
                        column = cursor.uleb()
                    case 8:  # DW_LNS_const_add_pc
                        advance = (255 - self._opcode_base) // line_range
                        address += advance * self._instruction_length
                    case 9:  # DW_LNS_fixed_advance_pc
                        address += cursor.unsigned(2)
                    case _:  # says nothing of an address or a line
                        for _ in range(self._operands[opcode - 1]):
                            cursor.uleb()
            address &= WORD
            if emit:
                if pending is not None and pending[0] < address:
                    yield Row(pending[0], address, self, *pending[1:])
                pending = None if ended else (address, file, line, column)
            if ended:
                address, file, line, column = 0, 1, 1, 0

    def file_name(self, number: int) -> str:
        """Return the path of a file that a row names, empty where the header has none.

        Raises:
            DamagedProgram: the name is not where the header says.
        """
        # Versions before 5 count from 1, and the directory of the unit is not in their list.
        first = 0 if self._version >= 5 else 1
        if not first <= number < len(self._files) + first:
            return ""
        file = self._files[number - first]
        path, base = file.text(), self._directory
        if first <= file.directory < len(self._directories) + first:
            path = _join(self._directories[file.directory - first].text(), path)
        if self._version >= 5 and self._directories:
            # Directory 0, the unit's own, may be relative itself: it is not put before itself.
            base = self._directories[0].text() if file.directory else ""
        return _join(base, path)

    def _read_header(self, cursor: Cursor) -> None:
        self._version = cursor.unsigned(2)
        if not 2 <= self._version <= 5:
            raise DamagedProgram(f"version {self._version}")
        if self._version >= 5:
            cursor.take(2)  # the sizes of addresses and of segment selectors
        header_length = cursor.unsigned(self._offset_size)
        start = cursor.offset + header_length
        self._instruction_length = cursor.unsigned(1)
        if self._version >= 4:
            cursor.take(1)  # operations per instruction: one on every CPU here
        cursor.take(1)  # default_is_stmt
        self._line_base = cursor.signed(1)
        self._line_range = cursor.unsigned(1)
        self._opcode_base = cursor.unsigned(1)
        if self._line_range == 0 or self._opcode_base == 0:
            raise DamagedProgram("a header without opcodes")
        self._operands = cursor.take(self._opcode_base - 1)
        if self._version >= 5:
            self._directories = self._entries(cursor)
            self._files = self._entries(cursor)
        else:
            self._directories, self._files = [], []
            while name := cursor.string():
                self._directories.append(FileName(name, 0))
            while name := cursor.string():
                self._files.append(FileName(name, cursor.uleb()))
                cursor.uleb()  # time of modification
                cursor.uleb()  # size
        if not cursor.offset <= start <= cursor.end:
            raise DamagedProgram("its header has another length")
        cursor.offset = start

    def _entries(self, cursor: Cursor) -> list[FileName]:
        """Read a list of directories or files (DWARF 5, 6.2.4.1): its format first."""
        formats = [(cursor.uleb(), cursor.uleb()) for _ in range(cursor.unsigned(1))]
        count = cursor.uleb()
        if count and not formats:
            raise DamagedProgram("entries without a format")
        entries = []
        for _ in range(count):  # every form takes a byte at least, so the end stops it
            name: bytes | tuple[bytes, int] = b""
            directory = 0
            for content, form in formats:
                value = self._form(cursor, form)
                match content, value:
                    case 1, bytes() | tuple():  # DW_LNCT_path
                        name = value
                    case 2, int():  # DW_LNCT_directory_index
                        directory = value
            entries.append(FileName(name, directory))
        return entries

    def _form(self, cursor: Cursor, form: int) -> bytes | int | tuple[bytes, int]:
        """Read a value; the forms are those that DWARF 5 allows here."""
        match form:
            case 0x08:  # DW_FORM_string
                return cursor.string()
            case 0x1F:  # DW_FORM_line_strp
                return self._sections.line_strings, cursor.unsigned(self._offset_size)
            case 0x0E:  # DW_FORM_strp
                return self._sections.strings, cursor.unsigned(self._offset_size)
            case 0x0F:  # DW_FORM_udata
                return cursor.uleb()
            case 0x09:  # DW_FORM_block
                return cursor.take(cursor.uleb())
            case 0x0B | 0x05 | 0x06 | 0x07 | 0x1E:  # DW_FORM_data1, 2, 4, 8 and 16
                sizes = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}
                return cursor.unsigned(sizes[form])
        raise DamagedProgram(f"form {form:#x}")


def _join(directory: str, name: str) -> str:
    return name if not directory or name.startswith("/") else f"{directory}/{name}"


def read_programs(sections: LineSections, directories: Mapping[int, str]) -> Iterator[Row]:
    """Yield the rows of every program, leaving out what is damaged."""
    offset = 0
    while offset < len(sections.line):
        try:
            program = LineProgram(sections, offset, directories.get(offset, ""))
        except DamagedProgram:
            return
        with contextlib.suppress(DamagedProgram):
            yield from program.rows()
        offset = program.next_offset
