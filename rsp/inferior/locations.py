"""Which addresses a user means: of code, of memory, of what is to be watched.

Contents: from what a user gives (a name, a source line, an address, a value) to addresses, and how
gdb's table shows each. Not here: how a text is taken apart (see ``rsp.location_spec``), and what
becomes of a breakpoint there (see ``rsp.run.arming``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Final, SupportsIndex

from rsp import arguments
from rsp.errors import ArgumentError, SymbolError
from rsp.location_spec import parse_location
from rsp.reprs import hex_repr
from rsp.symbols.at_pc.symbolize import symbolic
from rsp.symbols.types.types import Compound, Pointer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rsp.inferior.inferior import Inferior
    from rsp.symbols.table import Location, SymbolTable
    from rsp.symbols.types.types import Type
    from rsp.values.value import Value

_TAKEN: Final = "an address, a symbol's name or name+0x10 (name+0x10/0x2f0)"


class Where:
    """What a breakpoint was asked for: its addresses, and how each is called.

    Args:
        what: what the user gave.
        addresses: where that is.
        symbols: what can be said of them, None without any.
        places: the same addresses as the symbols have them, where they were looked up already.
    """

    def __init__(
        self,
        what: str,
        addresses: Iterable[int],
        symbols: SymbolTable | None = None,
        places: tuple[Location, ...] | None = None,
    ) -> None:
        self.what = what
        self.addresses: tuple[int, ...] = tuple(dict.fromkeys(addresses))
        self._symbols = symbols
        if places is not None:
            self.places = places

    @cached_property
    def places(self) -> tuple[Location, ...]:
        """Function, file and line of each address; empty without symbols."""
        table = self._symbols
        if table is None:
            return ()
        return tuple(place for address in self.addresses for place in table.locations(address))

    @property
    def digits(self) -> int:
        """How many digits gdb writes addresses with."""
        return 16 if self._symbols is None else 2 * self._symbols.word_size

    def shown(self, address: int) -> str:
        """Return how gdb's table shows an address: the line it is at, or the symbol it is in."""
        place = next((place for place in self.places if place.address == address), None)
        if place is not None and place.file is not None and place.function is not None:
            return f"in {place.function} at {place.file}:{place.line}"
        return symbolic(self._symbols, address) or self.what


def locate(what: str | SupportsIndex, inferior: Inferior) -> Where:
    """Return what a user means by a place in the code.

    Args:
        what: an address, also as text (``0x7c00``, ``*0x7c00``), or with symbols a name
            (``tcp_init_sock``), a line (``tcp.c:414``), a distance (``start_kernel+0x10``) or a
            place as Linux prints it (``vfs_read+0x10/0x2f0 [module]``).
        inferior: whose symbols are asked.

    Raises:
        SymbolNotFound, SymbolError: there is no such place, or there are no symbols.
        ArgumentError: it is no location.
    """
    symbols = inferior.symbols if inferior.has_symbols else None
    if not isinstance(what, str):
        address = address_of(what, inferior, "the location")
        return Where(f"*{address:#x}", (address,), symbols)
    spec = parse_location(what)
    if spec.address is not None:
        return Where(what, (spec.address,), symbols)
    places = _symbols_for(what, inferior).locations(what)
    return Where(what, (place.address for place in places), symbols, places)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedRange:
    """The memory that a watchpoint is for.

    Attributes:
        address: where it begins.
        length: in bytes.
        ctype: the type of all of it; None where nothing says it.
        name: of the variable, or its name and a distance; None where an address was given.
    """

    address: int
    length: int
    ctype: Type | None
    name: str | None

    def __repr__(self) -> str:
        return hex_repr(self)


def address_of(given: object, inferior: Inferior, what: str = "address") -> int:
    """Return the address that a user means, of data or of the very begin of a function.

    Args:
        given: a number; as text an address, a symbol's name or ``name+0x10``; or a Value: what a
            pointer or an integer has in it, and where an array, a structure or a function is.
            A per-CPU variable is the current CPU's.
        inferior: whose symbols are asked.
        what: the argument's name.

    Raises:
        SymbolNotFound, SymbolError: there is no such symbol, or there are no symbols.
        ArgumentError: it is no address.
    """
    if type(given) is int and 0 <= given < arguments.END:
        return given  # as most are
    from rsp.values.value import Value

    if isinstance(given, str):
        spec = parse_location(given)
        if spec.address is not None:
            return spec.address
        if spec.name is None or spec.file is not None:
            raise arguments.refused(what, given, _TAKEN)
        symbol = _symbols_for(given, inferior).symbols_of(spec)[0]
        begin = symbol.address
        if symbol.per_cpu:
            begin = index(_value_of(spec.name, inferior).address_of_())
        return (begin + (spec.offset or 0)) % arguments.END
    if isinstance(given, Value) and isinstance(given.type_.resolved, Compound):
        return index(given.address_of_())
    return arguments.integer(given, what, _TAKEN)


def _symbols_for(text: str, inferior: Inferior) -> SymbolTable:
    """Return the symbols to find a name in.

    Raises:
        SymbolError: there are none.
    """
    inferior.check()
    if not inferior.has_symbols:
        raise SymbolError(
            f"{text!r} is a name, and there are no symbols to find it in: give "
            'connect(…, symbols="vmlinux"), or --symbols FILE'
        )
    return inferior.symbols


def watched_range(given: object, length: object, inferior: Inferior) -> WatchedRange:
    """Return the memory that a user means to watch.

    Args:
        given: as for `address_of`, but a Value is meant where it lies, or where a computed pointer
            leads to.
        length: in bytes; None is that of the variable or of the Value.
        inferior: whose symbols are asked.

    Raises:
        SymbolNotFound, SymbolError: there is no such symbol, or it is not in its place yet.
        ArgumentError: it is no range of memory.
    """
    from rsp.values.value import Value

    ctype, name, size = None, None, None
    if isinstance(given, str) and (spec := parse_location(given)).name is not None:
        if inferior.await_program is not None:
            raise SymbolError(
                f"{given!r} has no place yet, for the program has not begun: watch it at a later "
                "stop"
            )
        name = spec.text
        if not spec.offset and spec.size is None and spec.file is None:
            # Of what is written in assembler only the symbol has a size.
            size = _symbols_for(given, inferior)[spec.name].size or None
            given = _value_of(spec.name, inferior)
    if isinstance(given, Value):
        computed = given.address_ is None and isinstance(given.type_.resolved, Pointer)
        value = given.deref_() if computed else given
        address, ctype = index(value.address_of_()), value.type_
        size = ctype.size or size
    else:
        address = address_of(given, inferior)
    if length is None and size is None:
        raise ArgumentError(
            f"nothing says how many bytes are to be watched at {address:#x}: give their length"
        )
    wanted = arguments.integer(
        size if length is None else length,
        "length",
        "a number of bytes",
        lowest=1,
        below=arguments.END - address + 1,
    )
    if ctype is not None and ctype.size != wanted:
        ctype = None
    return WatchedRange(address=address, length=wanted, ctype=ctype, name=name)


def _value_of(name: str, inferior: Inferior) -> Value:
    """Return what a symbol stands for; its name may be none of C (``calls.0``)."""
    from rsp.inferior.current_scope import current_scope

    return current_scope(inferior, cpu=None, names={}).value(name)
