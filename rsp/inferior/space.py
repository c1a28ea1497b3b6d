"""The memory and the symbols of a target, as values see them.

Contents: the one `Space` of a target. Not here: values themselves (see `rsp.values`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.errors import MemoryFault
from rsp.values.c import C
from rsp.values.value import Space

if TYPE_CHECKING:
    from rsp.inferior.inferior import Inferior
    from rsp.symbols.table import SymbolTable

_END: Final = 1 << 64


def space_of(inferior: Inferior, symbols: SymbolTable | None) -> Space:
    """Return the memory of a target, with symbols to look names and types up in."""

    def read(address: int, length: int) -> bytes:
        if not 0 <= address <= address + length <= _END:
            raise MemoryFault(
                f"cannot read {length} bytes at {address:#x}: memory ends before",
                address=address,
            )
        return inferior.pages.read(address, length)

    return Space(
        read=read,
        symbols=symbols,
        word_size=_word_size(inferior, symbols),
        language=C,
        silence=lambda: inferior.silence,
    )


def _word_size(inferior: Inferior, symbols: SymbolTable | None) -> int:
    if symbols is not None:
        return symbols.word_size
    return 8 if inferior.registers.layout.arch == "x86-64" else 4
