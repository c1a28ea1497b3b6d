"""Addresses by the symbols that they lie in: ``<vfs_read+16>``.

Contents: which of several symbols is meant, as gdb decides it. Not here: how a symbol is found
(`rsp.symbols.elf.symtab`), and what is printed around its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsp.symbols.binary import Binary
    from rsp.symbols.elf.symtab import ElfSymbol
    from rsp.symbols.table import SymbolTable


def name_at(symbols: SymbolTable | None, address: int) -> str | None:
    """Return the place of an address in gdb's spelling, None where no symbol has it.

    Raises:
        BadImage: the file is damaged there.

    >>> from rsp import SymbolTable
    >>> from rsp.testing.boot import ELF
    >>> name_at(SymbolTable(ELF), 0x7d14)
    'tick+2'
    """
    found = symbols.binary_at(address) if symbols is not None else None
    if found is None:
        return None
    binary, slide = found
    place = place_of(binary, address - slide)
    if place is None:
        return None
    name, begin = place
    distance = address - slide - begin
    return f"{name}+{distance}" if distance else name


def symbolic(symbols: SymbolTable | None, address: int) -> str:
    """Return it as gdb prints it behind an address, ``<tick+2>``; empty where no symbol has it."""
    name = name_at(symbols, address)
    return "" if name is None else f"<{name}>"


def place_of(binary: Binary, address: int) -> tuple[str, int] | None:
    """Return the name of what an address of the link lies in, and where that begins.

    Raises:
        BadImage: the file is damaged there.
    """
    symbol = binary.lookup(address)
    if symbol is None:
        return None
    code = binary.is_code(symbol)
    if not symbol.size and not code:
        return None  # a label among data says nothing of what follows it
    aliases = _aliases(binary, symbol, address)
    # Of several names gdb takes the last (minsyms.c, which sorts them).
    name = max((alias.name for alias in aliases), default=symbol.name)
    if code and (len(aliases) > 1 or "." in name):
        # The compiler's name goes before the linker's: `work` for work.constprop.0.
        function = binary.frames(address)[-1:]
        if function and function[0].entry is not None and function[0].entry >= symbol.address:
            return function[0].name or name, function[0].entry
    return name, symbol.address


def _aliases(binary: Binary, symbol: ElfSymbol, address: int) -> list[ElfSymbol]:
    """Return the symbols that begin where one does and reach as far as the address."""
    return [
        alias
        for alias in binary.symtab.at(symbol.address)
        if bool(alias.size) == bool(symbol.size)
        and (not alias.size or address < alias.address + alias.size)
    ]
