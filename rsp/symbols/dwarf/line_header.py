"""The header of a line program: which files and directories its rows speak of.

Contents: the header of versions 2 to 5 (DWARF 5, section 6.2.4), the names of its files, and where
the headers of a whole section are. Not here: the program's opcodes and rows.

A kernel has 2,000 headers with 300,000 files in them, and one question about a header file looks at
all of these: so a table is split by one regular expression, made of the format that it declares.
"""

from __future__ import annotations

import contextlib
import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from rsp.errors import BadImage
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.leb import uleb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rsp.symbols.dwarf.sections import DwarfSections
    from rsp.symbols.elf.section_data import SectionData

_LEB = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
_STRING = rb"[^\x00]{0,4096}\x00"  # Linux: PATH_MAX
_FIXED = {
    dw.DW_FORM_data1: 1,
    dw.DW_FORM_data2: 2,
    dw.DW_FORM_data4: 4,
    dw.DW_FORM_data8: 8,
    dw.DW_FORM_data16: 16,
}
_FILES_BEFORE_5 = re.compile(  # name, directory, time of modification, size
    rb"([^\x00]{1,4096}\x00)(%s)%s%s|(?s:.+)" % (_LEB, _LEB, _LEB)
)


Entry = tuple[bytes, bytes]
"""A file's name and directory as its table has them; two that are equal are one file."""


class Table(NamedTuple):
    """The files, or the directories, of a header, and the forms that they are written in."""

    entries: Sequence[Entry]
    form: int
    directory_form: int


class _Format(NamedTuple):
    """How a table is split; the last alternative of the pattern takes all that is no entry."""

    pattern: re.Pattern[bytes]
    form: int
    directory_form: int
    name_first: bool


class LineHeader:
    """The header of the program at an offset of .debug_line.

    Args:
        sections: the DWARF that it is a part of.
        offset: where it begins (DW_AT_stmt_list of its unit).
        comp_dir: DW_AT_comp_dir of its unit, which versions before 5 do not repeat.

    Attributes:
        version: of DWARF, 2 to 5.
        offset_size: 4, or 8 in the 64-bit format.
        begin: where its opcodes begin.
        end: where the next program begins; the end of the section at most.
        default_is_stmt: whether a row is a recommended place for a breakpoint at first.
        minimum_instruction_length, line_base, line_range, opcode_base: what the opcodes count in.
        operands: how many operands each opcode below ``opcode_base`` has, from opcode 1.

    Raises:
        BadImage: there is no such header. A damaged table of files is one for who asks for a name.
    """

    def __init__(self, sections: DwarfSections, offset: int, comp_dir: str = "") -> None:
        line = sections.line
        self.sections = sections
        self.offset = offset
        self.comp_dir = comp_dir
        self.offset_size: int
        self.end: int
        self.offset_size, at, self.end = _extent(line, offset)
        self.version: int = line.unsigned(at, 2)
        if not 2 <= self.version <= 5:
            line.fail(offset, f"a line program of DWARF version {self.version}")
        at += 4 if self.version >= 5 else 2  # version 5: sizes of addresses and of selectors
        length = line.unsigned(at, self.offset_size)
        at += self.offset_size
        self.begin: int = at + length
        # Version 4 put the operations of a long instruction word second; x86 has no such word.
        fields = line[at : at + 1] + line[at + 1 + (self.version >= 4) : at + 6]
        if not at + 6 <= self.begin <= self.end:
            line.fail(offset, f"a line program with a header of {length} bytes")
        self.minimum_instruction_length: int = fields[0]
        self.default_is_stmt: bool = bool(fields[1])
        self.line_base: int = fields[2] - 256 if fields[2] > 127 else fields[2]
        self.line_range: int = fields[3]
        self.opcode_base: int = fields[4] if len(fields) > 4 else 0
        if not self.line_range or not self.opcode_base:
            line.fail(offset, "a line program without special opcodes")
        at += 5 + (self.version >= 4)
        self._tables_at = at + self.opcode_base - 1
        if self._tables_at > self.begin:
            line.fail(
                offset, f"a line program with {self.opcode_base} opcodes in so short a header"
            )
        self.operands: bytes = line[at : self._tables_at]

    def __repr__(self) -> str:
        return f"LineHeader({self.offset:#x})"

    @property
    def first_file(self) -> int:
        """The number of the first file, and directory: 0, and 1 in versions before 5."""
        return 0 if self.version >= 5 else 1

    @cached_property
    def files(self) -> Table:
        """The table of files.

        Raises:
            BadImage: it does not follow its format.
        """
        return self._tables[1]

    def name(self, file: int) -> str:
        """Return the name that gdb shows for a file: as it was recorded, with its directory.

        It is relative where the compiler was given it so. In version 5 gdb puts the directory of
        the compilation before what lies in that itself, except for the source file of the unit.

        Raises:
            BadImage: there is no such file.
        """
        entry = self._entry(file)
        name, number = self._text(self.files.form, entry[0]), self._number(entry[1])
        if number:
            return _join(self._directory(number), name)
        if self.version < 5 or (entry == self.files.entries[0] and self.directory.startswith("/")):
            return name
        return _join(self.directory, name)

    def path(self, file: int) -> str:
        """Return a file's name with the directory of the compilation before it.

        Raises:
            BadImage: there is no such file.
        """
        entry = self._entry(file)
        name, number = self._text(self.files.form, entry[0]), self._number(entry[1])
        if number:
            name = _join(self._directory(number), name)
        return _join(self.directory, name)

    @cached_property
    def directory(self) -> str:
        """The directory of the compilation; empty where neither unit nor header has it."""
        if self.version >= 5 and self._tables[0].entries:
            return self._directory(0)
        return self.comp_dir

    def _entry(self, file: int) -> Entry:
        index = file - self.first_file
        if not 0 <= index < len(self.files.entries):
            self.sections.line.fail(self.offset, f"no file {file} in the header of the program")
        return self.files.entries[index]

    def _directory(self, number: int) -> str:
        index = number - self.first_file
        table = self._tables[0]
        if not 0 <= index < len(table.entries):
            self.sections.line.fail(self.offset, f"no directory {number} in the header")
        return self._text(table.form, table.entries[index][0])

    def _number(self, raw: bytes) -> int:
        if self.files.directory_form == dw.DW_FORM_udata:
            return uleb(raw, 0)[0] if raw else 0
        return int.from_bytes(raw, "little")

    def _text(self, form: int, raw: bytes) -> str:
        if form == dw.DW_FORM_string:
            return raw[:-1].decode(errors="surrogateescape")
        sections = self.sections
        strings = sections.line_str if form == dw.DW_FORM_line_strp else sections.str
        return strings.text(int.from_bytes(raw, "little"))

    @cached_property
    def _tables(self) -> tuple[Table, Table]:
        line = self.sections.line
        data = line[self._tables_at : self.begin]
        try:
            return self._tables_of_5(data) if self.version >= 5 else _tables_before_5(data)
        except (IndexError, ValueError) as error:
            reason = error.args[0] if isinstance(error, ValueError) else "they end too early"
            raise line.damage(self.offset, f"its tables of files: {reason}") from None

    def _tables_of_5(self, data: bytes) -> tuple[Table, Table]:
        layout, count, at = _declaration(data, 0, self.offset_size)
        directories = []
        for _ in range(count):
            match = layout.pattern.match(data, at)
            if match is None or match.lastindex is None:
                raise IndexError
            directories.append((match[1], b""))
            at = match.end()
        first = Table(directories, layout.form, layout.directory_form)

        # The files are the last in a header, so that where they end is known.
        layout, count, at = _declaration(data, at, self.offset_size)
        files = layout.pattern.findall(data, at)[:count]
        if len(files) < count or (files and not any(files[-1])):
            raise IndexError
        if not layout.name_first:
            files = [(name, directory) for directory, name in files]
        # gas lists the source file of a unit twice, as 0 and as 1. Only a linker makes their names
        # one string.
        if len(files) > 1 and files[0] != files[1] and files[0][1] == files[1][1]:
            with contextlib.suppress(BadImage):
                if self._text(layout.form, files[0][0]) == self._text(layout.form, files[1][0]):
                    files[1] = files[0]
        return first, Table(files, layout.form, layout.directory_form)


def program_offsets(sections: DwarfSections) -> Iterator[int]:
    """Yield where the line programs begin, each behind the one before it, up to damage."""
    offset = 0
    with contextlib.suppress(BadImage):
        while offset < len(sections.line):
            end = _extent(sections.line, offset)[2]
            yield offset
            offset = end


def _extent(line: SectionData, offset: int) -> tuple[int, int, int]:
    """Return the size of offsets, where the version is, and where the program ends."""
    offset_size, begin = 4, offset + 4
    length = line.unsigned(offset, 4)
    if length == 0xFFFFFFFF:
        offset_size, begin = 8, offset + 12
        length = line.unsigned(offset + 4, 8)
    if length < 10:  # the fields before the tables have more
        line.fail(offset, f"a line program of {length} bytes")
    return offset_size, begin, min(begin + length, len(line))


def _tables_before_5(data: bytes) -> tuple[Table, Table]:
    directories = []
    at = 0
    while data[at]:
        end = data.index(b"\0", at) + 1
        directories.append((data[at:end], b""))
        at = end
    files = _FILES_BEFORE_5.findall(data, at + 1, len(data) - 1)
    if data[-1] or (files and not any(files[-1])):
        raise IndexError
    string, udata = dw.DW_FORM_string, dw.DW_FORM_udata
    return Table(directories, string, udata), Table(files, string, udata)


def _declaration(data: bytes, at: int, offset_size: int) -> tuple[_Format, int, int]:
    """Return the format of the table that begins there, the number of entries, and their begin."""
    fields = [data[at]]
    at += 1
    for _ in range(2 * fields.pop()):
        field, at = uleb(data, at)
        fields.append(field)
    count, at = uleb(data, at)
    if count > len(data) - at:  # every entry has a byte at least
        raise IndexError
    return _format(tuple(fields), offset_size), count, at


@lru_cache(maxsize=64)
def _format(fields: tuple[int, ...], offset_size: int) -> _Format:
    """Return how entries are split whose format is these pairs of content and form."""
    pattern = b""
    forms: dict[int, int] = {}
    for content, form in zip(fields[::2], fields[1::2], strict=True):
        part = _form_pattern(form, offset_size)
        if content in (dw.DW_LNCT_path, dw.DW_LNCT_directory_index) and content not in forms:
            forms[content] = form
            part = b"(%s)" % part
        pattern += part
    name = forms.get(dw.DW_LNCT_path, dw.DW_FORM_string)
    directory = forms.get(dw.DW_LNCT_directory_index)
    if dw.DW_LNCT_path not in forms:  # an empty table may declare nothing
        pattern += b"()"
    if directory is None:
        pattern += b"()"
    return _Format(
        re.compile(b"%s|.+" % pattern, re.DOTALL),
        name,
        dw.DW_FORM_udata if directory is None else directory,
        next(iter(forms), dw.DW_LNCT_path) == dw.DW_LNCT_path,
    )


def _form_pattern(form: int, offset_size: int) -> bytes:
    if form == dw.DW_FORM_string:
        return _STRING
    if form == dw.DW_FORM_udata:
        return _LEB
    if form in (dw.DW_FORM_line_strp, dw.DW_FORM_strp):
        return b".{%d}" % offset_size
    if form in _FIXED:
        return b".{%d}" % _FIXED[form]
    raise ValueError(f"form {form:#x}")


def _join(directory: str, name: str) -> str:
    if not directory or name.startswith("/"):
        return name
    return f"{directory}{'' if directory.endswith('/') else '/'}{name}"
