"""The code of a module whose file is not here, by what the kernel keeps of it in its memory.

Contents: the module's ORC, by which the kernel itself unwinds, and the names of its functions, as
/proc/kallsyms shows them. Which of them a kernel has is asked of its types. What an ORC entry means
is the business of `rsp.symbols.unwind.orc`.

Tables are only read within the module's own memory, and in few pieces: of ORC as much as a search
by halves needs. The symbols are in no order, so that all of them are read, once at a stop.

Sources: Linux arch/x86/include/asm/module.h and arch/x86/kernel/unwind_orc.c
(``unwind_module_init``, ``orc_module_find``); include/linux/module.h (``struct mod_kallsyms``) and
kernel/module/kallsyms.c (``find_kallsyms_symbol``).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from rsp.errors import SymbolError
from rsp.linux.modules import has_modules, has_tree, list_modules, module_at
from rsp.linux.records import Record, has_member
from rsp.linux.sleeping import kernel_begin
from rsp.symbols.unwind.orc import END, ENTRY_SIZE, IP_SIZE, rules_of
from rsp.values.strings import read_string

if TYPE_CHECKING:
    from rsp.inferior.inferior import Inferior
    from rsp.linux.modules import Module
    from rsp.symbols.table import SymbolTable
    from rsp.symbols.unwind.orc import OrcFormat
    from rsp.symbols.unwind.rules import UnwindRules

_PIECE: Final = 256
"""So many addresses of ORC entries are read at once: 1 KB, the end of a search."""
_SERIAL_PIECE: Final = 16
_LARGEST: Final = 1 << 21
"""A larger table of symbols is not read: that of the largest driver has a megabyte."""
_LARGEST_SERIAL: Final = 1 << 13
"""On a serial line; these take a second."""
_LONGEST: Final = 512
"""KSYM_NAME_LEN."""
_MOST_NAMELESS: Final = 16
"""After so many symbols without a name none with one is looked for."""
_UNDEFINED: Final = 0
# ELF-64 and ELF-32: name, section, value.
_SYMBOLS: Final = {
    8: (struct.Struct("<I2xHQ8x"), (0, 1, 2)),
    4: (struct.Struct("<II6xH"), (0, 2, 1)),
}


class LoadedModules:
    """Finds the modules that backtraces lead through.

    Args:
        inferior: the machine.
        table: the symbols of the kernel.
    """

    def __init__(self, inferior: Inferior, table: SymbolTable) -> None:
        self._inferior = inferior
        self._table = table
        self._generation = inferior.generation
        self._found: list[ModuleCode] = []
        self._listed: tuple[Module, ...] | None = None

    def find(self, address: int) -> ModuleCode | None:
        """Return the module whose code is at an address, None if there is none.

        Raises:
            MemoryFault: the kernel's memory cannot be read.
            SymbolError: it makes no sense.
        """
        if address < kernel_begin(self._table):
            return None
        if (
            self._generation != self._inferior.generation
        ):  # it may have been replaced by another build
            self._generation = self._inferior.generation
            self._found, self._listed = [], None
        for each in self._found:
            if each.module.region_of(address):
                return each
        module = self._module_at(address)
        if module is None:
            return None
        self._found.append(ModuleCode(self._inferior, self._table, module))
        return self._found[-1]

    def _module_at(self, address: int) -> Module | None:
        if not has_modules(self._inferior):
            return None
        if has_tree(self._inferior):
            return module_at(self._inferior, address)
        if self._listed is None:
            self._listed = list_modules(self._inferior)
        return next((each for each in self._listed if each.region_of(address)), None)


class ModuleCode:
    """The code of one module, at one stop: a `rsp.unwind.loaded_code.LoadedCode`.

    Args:
        inferior: the machine.
        table: the symbols of the kernel.
        module: which one.

    Attributes:
        name: the module's, as the kernel writes it behind that of a function: ``[xfs]``.

    Raises:
        MemoryFault: its name cannot be read.
    """

    def __init__(self, inferior: Inferior, table: SymbolTable, module: Module) -> None:
        self.module = module
        self.name: str = f"[{module.name}]"
        self._inferior = inferior
        self._table = table
        self._is_fast = inferior.limits.reliable

    def rules_at(self, address: int) -> UnwindRules | None:
        """Return the rules that the kernel unwinds by, None without.

        Raises:
            MemoryFault: the tables cannot be read.
            SymbolError: they make no sense.
        """
        if self._orc is None:
            return None
        ips, entries, orc_format = self._orc
        place = bisect_right(ips, address) - 1
        if place < 0:
            return None
        entry = self._inferior.read_memory(entries + ENTRY_SIZE * place, ENTRY_SIZE)
        try:
            return rules_of(
                entry,
                orc_format,
                begin=ips[place],
                end=ips[place + 1] if place + 1 < len(ips) else END,
            )
        except ValueError as error:
            raise SymbolError(f"the ORC of {self.name} in memory: {error}") from error

    def symbol_at(self, address: int) -> tuple[str, int] | None:
        """Return the name of the function at an address and where it begins, None if unknown.

        Raises:
            MemoryFault: the symbols cannot be read.
            SymbolError: they make no sense.
        """
        region = self.module.region_of(address)
        if region is None or self._symbols is None:
            return None
        symbols, strings = self._symbols
        # As the kernel does: the nearest one before, the first of several that has a name.
        end = bisect_right(symbols, address, key=itemgetter(0))
        for value, offset in reversed(symbols[max(0, end - _MOST_NAMELESS) : end]):
            if value < region[0]:
                return None
            name = self._string(strings + offset)
            if name:
                return name.decode("utf-8", "backslashreplace"), value
        return None

    def _string(self, address: int) -> bytes:
        region = self.module.region_of(address)
        longest = 0 if region is None else min(_LONGEST, region[1] - address)
        return read_string(self._inferior.read_memory, address, longest)

    @cached_property
    def _orc(self) -> tuple[_Ips, int, OrcFormat] | None:
        module = self.module.value
        if not has_member(module.type_, "arch.orc_unwind"):
            return None
        count, ips, entries = (
            int(module["arch"][name]) for name in ("num_orcs", "orc_unwind_ip", "orc_unwind")
        )
        if not count:
            return None
        self._check(ips, IP_SIZE * count, "ORC")
        self._check(entries, ENTRY_SIZE * count, "ORC")
        orc = next(self._table.binaries())[0].orc
        if not len(orc):
            raise SymbolError(f"{self._table.path} has no ORC, and so not its format")
        piece = _PIECE if self._is_fast else _SERIAL_PIECE
        return _Ips(self._inferior, ips, count, piece), entries, orc.format

    @cached_property
    def _symbols(self) -> tuple[list[tuple[int, int]], int] | None:
        """Address and offset of the name of each symbol, and where the names are.

        By address; of several at one the first in the module's table is the last here.
        """
        module = self.module.value
        source = module
        if has_member(module.type_, "kallsyms"):  # from 4.5
            at = int(module["kallsyms"])
            source = module["kallsyms"].deref_()
            self._check(at, source.type_.size or 0, "symbols")
            source = source.loaded_()
        fields = Record(source.type_, "symtab", "num_symtab", "strtab")
        if len(fields.places) < 3:
            return None
        table, count, strings = (int(source[name]) for name in fields.places)
        layout, order = _SYMBOLS[module.space_.word_size]
        size = count * layout.size
        self._check(table, size, "symbols")
        if size > (_LARGEST if self._is_fast else _LARGEST_SERIAL):
            return None
        found = []
        for each in layout.iter_unpack(self._inferior.read_memory(table, size)):
            name, section, value = (each[place] for place in order)
            if section != _UNDEFINED:
                found.append((value, name))
        found.reverse()
        found.sort(key=itemgetter(0))
        return found, strings

    def _check(self, address: int, size: int, what: str) -> None:
        if self.module.region_of(address, size) is None:
            raise SymbolError(
                f"{size} bytes of {what} at {address:#x} are not in the memory of {self.name}"
            )


class _Ips:
    """The addresses of ORC entries, which the kernel has put in order; read in pieces."""

    def __init__(self, inferior: Inferior, address: int, count: int, piece: int) -> None:
        self._inferior = inferior
        self._address = address
        self._count = count
        self._piece = piece
        self._pieces: dict[int, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> int:
        number, place = divmod(index, self._piece)
        if number not in self._pieces:
            count = min(self._piece, self._count - number * self._piece)
            at = self._address + IP_SIZE * self._piece * number
            data = self._inferior.read_memory(at, IP_SIZE * count)
            self._pieces[number] = struct.unpack(f"<{count}i", data)
        return self._address + IP_SIZE * index + self._pieces[number][place]
