"""Which line programs know a source file, found without an index.

Contents: the search through the headers of all programs for a name as people write it: ``list.h``,
``include/linux/list.h``, an absolute path. Not here: which of their rows are meant.

Only the last component of the name is looked for in the string sections. Strings are merged there
by their ends: ``list.h`` may be the end of ``rculist.h``, and then its offset lies within that; and
a file may be named by any end of ``include/linux/list.h`` that has the last component whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.errors import BadImage
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.line_header import program_offsets
from rsp.symbols.dwarf.lines import LineProgram

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.symbols.dwarf.line_header import LineHeader
    from rsp.symbols.dwarf.sections import DwarfSections
    from rsp.symbols.elf.section_data import SectionData

_MAX_PATH = 4096  # Linux: PATH_MAX


def programs_with_file(
    sections: DwarfSections, suffix: str, comp_dir: Callable[[int], str] | None = None
) -> list[tuple[LineProgram, list[int]]]:
    """Return the programs whose header names a file, and the numbers that it has there.

    Args:
        sections: the DWARF to look through.
        suffix: the file's path, or its last components, as gdb takes it; an absolute path is
            compared whole.
        comp_dir: for the offset of a program, DW_AT_comp_dir of its unit; asked only for programs
            of versions before 5 with a file that has the last component.

    >>> from rsp.symbols.dwarf.sections import DwarfSections
    >>> from rsp.symbols.elf.image import Image
    >>> from rsp.testing.boot import ELF
    >>> programs_with_file(DwarfSections(Image(ELF)), "boot.S")
    [(LineProgram(0x0), [0, 1])]
    """
    try:
        base = suffix.rpartition("/")[2].encode(errors="surrogateescape")
    except UnicodeEncodeError:  # no file has such a name
        return []
    if not base:
        return []
    wanted = _Wanted(sections, base)
    found = []
    for offset in program_offsets(sections):
        try:
            program = LineProgram(sections, offset)
            files = wanted.files(program.header)
            if files and comp_dir is not None and program.header.version < 5:
                program = LineProgram(sections, offset, comp_dir(offset))
            files = [file for file in files if _ends_with(program.header.path(file), suffix)]
            if files:
                found.append((program, files))
        except BadImage:  # its names are not to be had, but those of others are
            continue
    return found


class _Wanted:
    """What the entry of a file may hold whose name has this last component."""

    def __init__(self, sections: DwarfSections, base: bytes) -> None:
        self._sections = sections
        self._base = base
        self._references: dict[tuple[int, int], frozenset[bytes]] = {}

    def files(self, header: LineHeader) -> list[int]:
        table = header.files
        first = header.first_file
        if table.form == dw.DW_FORM_string:
            whole, tail = b"%s\0" % self._base, b"/%s\0" % self._base
            return [
                file
                for file, (name, _) in enumerate(table.entries, first)
                if name == whole or name.endswith(tail)
            ]
        key = table.form, header.offset_size
        references = self._references.get(key)
        if references is None:
            section = self._sections.line_str
            if table.form == dw.DW_FORM_strp:
                section = self._sections.str
            references = self._references[key] = frozenset(
                offset.to_bytes(header.offset_size, "little")
                for offset in _offsets(section, self._base)
            )
        return [file for file, (name, _) in enumerate(table.entries, first) if name in references]


def _offsets(strings: SectionData, base: bytes) -> set[int]:
    """Return where strings begin that are a last component, or end with it."""
    offsets = set()
    needle = base + b"\0"
    at = strings.find(needle)
    while at >= 0:
        offsets.add(at)
        before = strings[max(0, at - _MAX_PATH) : at]
        if before.endswith(b"/"):
            begin = at - len(before) + before.rfind(b"\0") + 1
            offsets.update(range(begin, at))
        at = strings.find(needle, at + 1)
    return offsets


def _ends_with(path: str, suffix: str) -> bool:
    return path == suffix or (not suffix.startswith("/") and path.endswith(f"/{suffix}"))
