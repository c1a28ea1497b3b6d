"""What commands print: hex dumps, names of addresses, and text that a stub chose.

Contents: the forms that more than one command prints for people. Not here: JSON (see
`rsp.cli.json`), and requests to a target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.errors import RegisterUnavailable
from rsp.symbols.at_pc.symbolize import name_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.arch.registers import Registers
    from rsp.symbols.table import SymbolTable

_ROW = 16
_DOTS = str.maketrans({byte: "." for byte in range(256) if not 0x20 <= byte < 0x7F})


def printable(text: str) -> str:
    """Return the text on one line, without what a terminal would obey.

    Names of threads and the like are chosen by the stub, which may be anybody's.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in " ".join(text.splitlines())
    )


def printable_lines(text: str) -> str:
    """Return the same of a text of several lines, which keeps them and its tabs."""
    lines = text.rstrip("\n").split("\n")
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)


def hex_dump(address: int, data: bytes) -> Iterator[str]:
    r"""Give the lines of a dump in the form of ``hexdump -C``, every line in full.

    >>> print(*hex_dump(0x7D1B, b"16, 32, 64: here we are\0"), sep="\n")
    00007d1b  31 36 2c 20 33 32 2c 20  36 34 3a 20 68 65 72 65  |16, 32, 64: here|
    00007d2b  20 77 65 20 61 72 65 00                           | we are.|
    """
    for start in range(0, len(data), _ROW):
        row = data[start : start + _ROW]
        halves = f"{row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}"
        text = row.decode("latin-1").translate(_DOTS)
        yield f"{address + start:08x}  {halves}  |{text}|"


def place(symbols: SymbolTable | None, address: int) -> str:
    """Return an address for people: ``0x7d15 <tick+3>``."""
    name = name_at(symbols, address)
    return f"{address:#x} <{printable(name)}>" if name else f"{address:#x}"


def pc_text(symbols: SymbolTable | None, registers: Registers) -> str:
    """Return where the next instruction is: its linear address, which the register need not be."""
    try:
        return place(symbols, registers.pc)
    except RegisterUnavailable:
        return "unavailable"
