"""Where a function's prologue ends: the address that a breakpoint on its name goes to.

Contents: what gdb does for x86 (symtab.c, i386-tdep.c, amd64-tdep.c; checked on gdb 13.1), so that
a breakpoint of ours stops where one of gdb's does. Not here: names, and which functions there are.

Parameters can be read at every address of a function whose location lists say where they are; so
in the units of a compiler that writes such lists nothing is skipped, nor is it in assembler. In
others the compiler may mark the end (DW_LNS_set_prologue_end), as clang does. Else the instructions
that set up the frame are skipped, and the rest of the line they are on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.symbols.dwarf.lines import LineTable
    from rsp.symbols.dwarf.units import Unit

LANGUAGE_ASSEMBLER = 0x8001  # DW_LANG_Mips_Assembler, which GNU as writes for every machine

WINDOW = 64
"""How many bytes of a function are looked at; the longest frame set-up known has some 40."""

_LISTS = frozenset((dw.DW_FORM_sec_offset, dw.DW_FORM_loclistx, dw.DW_FORM_data4, dw.DW_FORM_data8))
_CLANGS = ("clang ", " F90 Flang ")
_GCC = re.compile(r"GNU \S+ (?:.*? )?(\d+)\.(\d+)")


def locations_valid(unit: Unit) -> bool:
    """Return whether variables can be found at every address of a unit's code.

    gdb believes so of gcc from 4.5 on, if the unit has a location list at all.
    """
    gcc = _GCC.match(unit.producer)
    if gcc is None or (int(gcc[1]), int(gcc[2])) < (4, 5):
        return False
    variables = (dw.DW_TAG_variable, dw.DW_TAG_formal_parameter)
    return any(
        attribute == dw.DW_AT_location and form in _LISTS
        for abbrev in unit.abbrevs.values()
        if abbrev.tag in variables
        for attribute, form, _ in abbrev.attributes
    )


def after_prologue(
    code: bytes,
    entry: int,
    end: int,
    *,
    word_size: int,
    unit: Unit | None = None,
    lines: LineTable | None = None,
    is_inlined: Callable[[int], bool],
) -> int:
    """Return the address behind the prologue of a function; its entry where nothing is skipped.

    Args:
        code: the first bytes of the function, `WINDOW` of them where there are so many.
        entry: its address.
        end: the address behind the function.
        word_size: of the machine, 4 or 8.
        unit: what it was compiled in, None where there is no DWARF for it.
        lines: the line table of that unit.
        is_inlined: whether an address is in an inlined copy of another function.
    """
    has_line = lines is not None and lines.row_at(entry) is not None
    if unit and has_line and (unit.language == LANGUAGE_ASSEMBLER or locations_valid(unit)):
        return entry
    if lines is not None and (marked := lines.prologue_end(entry, end)) is not None:
        return marked
    after = None
    if unit and lines and unit.producer.startswith(_CLANGS):
        after = _after_first_lines(lines, entry, end, is_inlined)
    if after is None:
        skip = _frame_setup_64 if word_size == 8 else _frame_setup_32
        after = entry + skip(code)
    row = lines.row_at(after) if lines else None
    if row is not None and row.address != after and entry <= row.end < end:
        return row.end
    return after


def _after_first_lines(
    lines: LineTable, entry: int, end: int, is_inlined: Callable[[int], bool]
) -> int | None:
    """Return where the second line of a function begins; None where it has only one.

    clang writes a row for the set-up of the frame and another for what is behind it. Two rows at
    the entry mean that there is nothing to set up; rows of lines before the first one are of
    instructions that were moved into the set-up.
    """
    row = lines.row_at(entry)
    if row is None:
        return None
    first = [each for each in lines if each.address == entry and each.file == row.file]
    if len(first) > 1:
        return entry
    if row.end >= end:
        return None
    while row.end < end:
        after = lines.row_at(row.end)
        if after is None or after.line >= row.line or after.file != row.file:
            break
        if is_inlined(row.end):
            break
        row = after
    return max(entry, row.end if row.end < end else row.address)


_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_ENDBR32 = b"\xf3\x0f\x1e\xfb"

# A stack that is aligned anew: lea of the first argument's place into a register, and of the stack
# pointer, push of the return address from beside that place.
_ALIGN_64 = re.compile(
    rb"(?:(?:\x4c\x8d\x54\x24\x08)|(?:\x41\x55\x4c\x8d\x6c\x24\x10))"  # r10, or r13 saved before
    rb"\x48(?:\x83\xe4.|\x81\xe4.{4})"
    rb"(?:\x41\xff\x72\xf8|\x41\xff\x75\xf8)",
    re.DOTALL,
)
_ALIGN_32 = re.compile(
    rb"(?:\x8d[\x4c\x44\x54]\x24\x04|\x57\x8d\x7c\x24\x08)"  # ecx, eax, edx, or edi saved before
    rb"(?:\x83\xe4.|\x81\xe4.{4})"
    rb"\xff[\x70\x71\x72\x77]\xfc",
    re.DOTALL,
)
_FRAME_64 = re.compile(rb"\x55(?:\x48\x89\xe5|\x48\x8b\xec)")
# gcc moves instructions that set eax, ecx or edx between push and mov: an immediate, a variable at
# a fixed address, or zero by sub or xor of itself.
_FRAME_32 = re.compile(
    rb"\x55"
    rb"(?:[\xb0\xb1\xb2\xb4\xb5\xb6].|[\xb8-\xba].{4}|\xa1.{4}|\x89[\x05\x0d\x15].{4}"
    rb"|[\x29\x2b\x31\x33][\xc0\xc9\xd2])*"
    rb"(?:\x8b\xec|\x89\xe5|\x8d\x2c\x24)"
    rb"(?:\x83\xec.|\x81\xec.{4}|\x8d\x64..)?",
    re.DOTALL,
)
_ENTER_32 = re.compile(rb"\xc8.{3}", re.DOTALL)
_PUSHES_32 = re.compile(rb"[\x50-\x57]{0,8}")
_NOPS_32 = re.compile(rb"(?:\x90|\x8b\xff)*")


def _frame_setup_64(code: bytes) -> int:
    """Return how many bytes set up a frame by rbp; 0 where there is no such frame."""
    at = 0
    if align := _ALIGN_64.match(code):
        at = align.end()
    if code.startswith(_ENDBR64, at):
        at += len(_ENDBR64)
        if at == len(_ENDBR64) and (align := _ALIGN_64.match(code, at)):
            at = align.end()
    frame = _FRAME_64.match(code, at)
    return frame.end() if frame else 0


def _frame_setup_32(code: bytes) -> int:
    """Return how many bytes set up a frame by ebp and save registers; 0 where none is set up."""
    at = len(_ENDBR32) if code.startswith(_ENDBR32) else 0
    if nops := _NOPS_32.match(code, at):
        at = nops.end()
    if align := _ALIGN_32.match(code, at):
        at = align.end()
    frame = _FRAME_32.match(code, at) or _ENTER_32.match(code, at)
    if frame is None:
        return 0
    pushes = _PUSHES_32.match(code, frame.end())
    return pushes.end() if pushes else frame.end()
