"""Where a position-independent executable lies (``gcc -pie``, which is the default of Linux).

The kernel that starts a program tells it by the auxiliary vector, which the stub hands on: the
entry point of it (getauxval(3); gdb manual, "General Query Packets", ``qXfer:auxv:read``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.errors import BadImage, LocalProtocolError, MemoryFault, SymbolError

if TYPE_CHECKING:
    from rsp.inferior.inferior import Inferior
    from rsp.symbols.binary import Binary

AT_ENTRY: Final = 9
"""The entry point of the program (elf.h)."""
_NOTE: Final = ".note.gnu.build-id"


def follow(inferior: Inferior) -> None:
    """Give the symbols the place of the program that a stub runs; nothing where that is not told.

    Raises:
        SymbolError: another program runs.
    """
    table = inferior.image_symbols
    binary, _ = next(table.binaries())
    entry = _entry(inferior, binary)
    if entry is None:
        return
    slide = entry - binary.image.entry
    if _is_at(inferior, binary, slide) is False:
        raise SymbolError(
            f"{binary.path} is not the program that runs, whose entry point is {entry:#x}: give "
            "the file of that, or say where this one lies (slide=, --slide)"
        )
    table.slide = slide
    inferior.follow = None


def check(inferior: Inferior, slide: int) -> None:
    """Hold a slide that was given against the build-id in the memory of the program that runs.

    Of a machine, as against a process, nothing is concluded: its code may be loaded later.

    Raises:
        SymbolError: the program lies elsewhere, or is another one.
    """
    binary, _ = next(inferior.image_symbols.binaries())
    entry = _entry(inferior, binary) if _is_at(inferior, binary, slide) is False else None
    if entry is not None:
        right = entry - binary.image.entry
        where = f"lies at {right:#x}" if _is_at(inferior, binary, right) else "is not there"
        raise SymbolError(
            f"slide {slide:#x} is wrong: by the build-ids in memory {binary.path} {where}; leave "
            "slide= (--slide) out, and it is found"
        )
    inferior.follow = None


def _entry(inferior: Inferior, binary: Binary) -> int | None:
    """Return the entry point of the program that runs, None where the stub does not tell it."""
    auxv = inferior.auxv()
    return _value(auxv, AT_ENTRY, binary.image.word_size) if auxv is not None else None


def _value(auxv: bytes, kind: int, word: int) -> int | None:
    """Return what an auxiliary vector has of a kind; it is pairs of words.

    >>> _value(bytes([6, 0, 0, 0, 0, 16, 0, 0, 9, 0, 0, 0, 4, 3, 2, 1]), AT_ENTRY, 4) == 0x1020304
    True
    """
    for at in range(0, len(auxv) - 2 * word + 1, 2 * word):
        if int.from_bytes(auxv[at : at + word], "little") == kind:
            return int.from_bytes(auxv[at + word : at + 2 * word], "little")
    return None


def _is_at(inferior: Inferior, binary: Binary, slide: int) -> bool | None:
    """Whether a file lies there; None where there is nothing to tell it by."""
    note = binary.image.named(_NOTE)
    try:
        expected = bytes(binary.image.contents(note).view) if note and note.loaded else b""
        if not note or not expected:
            return None
        return inferior.read_memory(note.address + slide, len(expected)) == expected
    except (BadImage, MemoryFault, LocalProtocolError):  # no address at all
        return False
