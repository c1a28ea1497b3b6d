"""Which addresses a user means, and what would become of a breakpoint there.

Contents: from what a user gives (a name, a source line, an address, a value) to the addresses of a
breakpoint, of memory or of a watchpoint; how gdb's table shows each; the comparison of the code in
memory with that of the image, and what follows where one of them has changed. Not here: how a text
is taken apart (see ``rsp.location_spec``), and inserting (see ``breakpoints``).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Final, SupportsIndex

from rsp import arguments
from rsp.errors import ArgumentError, BadImage, MemoryFault, StubError, SymbolError
from rsp.location_spec import parse_location
from rsp.reprs import hex_repr
from rsp.symbols.types.types import Compound, Pointer
from rsp.target.points import Breakpoint, BreakpointKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rsp.symbols.table import Location, SymbolTable
    from rsp.symbols.types.types import Type
    from rsp.target.target import Target
    from rsp.values.value import Value

logger: Final = logging.getLogger("rsp.target")

_TAKEN: Final = "an address, a symbol's name or name+0x10 (name+0x10/0x2f0)"

_WINDOW: Final = 64
"""How many bytes of code are compared. A running kernel has patched single instructions of them:
calls of __fentry__, alternatives, static branches, returns; never most."""
_FEWEST: Final = 8
"""Of fewer bytes that are not 0 nothing is concluded."""
_MANY: Final = 16
_UNIT: Final = 1 << 21
"""Of many locations one is compared in each 2 MB, which is the size of the pages that a kernel maps
its own code by, and speaks for the others: code is loaded in one piece."""
_INT3: Final = b"\xcc"


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
        symbol = self._symbols.lookup(address) if self._symbols is not None else None
        if symbol is None:
            return self.what
        offset = address - symbol.address
        return f"<{symbol.name}+{offset}>" if offset else f"<{symbol.name}>"


def locate(what: str | SupportsIndex, target: Target) -> Where:
    """Return what a user means by a place in the code.

    Args:
        what: an address, also as text (``0x7c00``, ``*0x7c00``), or with symbols a name
            (``tcp_init_sock``), a line (``tcp.c:414``), a distance (``start_kernel+0x10``) or a
            place as Linux prints it (``vfs_read+0x10/0x2f0 [module]``).
        target: whose symbols are asked.

    Raises:
        SymbolNotFound, SymbolError: there is no such place, or there are no symbols.
        ArgumentError: it is no location.
    """
    symbols = target.symbols if target.has_symbols else None
    if not isinstance(what, str):
        address = address_of(what, target, "the location")
        return Where(f"*{address:#x}", (address,), symbols)
    spec = parse_location(what)
    if spec.address is not None:
        return Where(what, (spec.address,), symbols)
    places = _symbols_for(what, target).locations(what)
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


def address_of(given: object, target: Target, what: str = "address") -> int:
    """Return the address that a user means, of data or of the very begin of a function.

    Args:
        given: a number; as text an address, a symbol's name or ``name+0x10``; or a Value: what a
            pointer or an integer has in it, and where an array, a structure or a function is.
            A per-CPU variable is the current CPU's.
        target: whose symbols are asked.
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
        symbol = _symbols_for(given, target).symbols_of(spec)[0]
        begin = symbol.address
        if symbol.per_cpu:
            begin = index(_value_of(spec.name, target).address_of_())
        return (begin + (spec.offset or 0)) % arguments.END
    if isinstance(given, Value) and isinstance(given.type_.resolved, Compound):
        return index(given.address_of_())
    return arguments.integer(given, what, _TAKEN)


def _symbols_for(text: str, target: Target) -> SymbolTable:
    """Return the symbols to find a name in.

    Raises:
        SymbolError: there are none.
    """
    if not target.has_symbols:
        raise SymbolError(
            f"{text!r} is a name, and there are no symbols to find it in: give "
            'connect(…, symbols="vmlinux"), or --symbols FILE'
        )
    return target.symbols


def watched_range(given: object, length: object, target: Target) -> WatchedRange:
    """Return the memory that a user means to watch.

    Args:
        given: as for `address_of`, but a Value is meant where it lies, or where a computed pointer
            leads to.
        length: in bytes; None is that of the variable or of the Value.
        target: whose symbols are asked.

    Raises:
        SymbolNotFound, SymbolError: there is no such symbol, or it is not in its place yet.
        ArgumentError: it is no range of memory.
    """
    from rsp.values.value import Value

    ctype, name, size = None, None, None
    if isinstance(given, str) and (spec := parse_location(given)).name is not None:
        if target.await_program is not None:
            raise SymbolError(
                f"{given!r} has no place yet, for the program has not begun: watch it at a later "
                "stop"
            )
        name = spec.text
        if not spec.offset and spec.size is None and spec.file is None:
            # Of what is written in assembler only the symbol has a size.
            size = _symbols_for(given, target)[spec.name].size or None
            given = _value_of(spec.name, target)
    if isinstance(given, Value):
        computed = given.address_ is None and isinstance(given.type_.resolved, Pointer)
        value = given.deref_() if computed else given
        address, ctype = index(value.address_of_()), value.type_
        size = ctype.size or size
    else:
        address = address_of(given, target)
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


def _value_of(name: str, target: Target) -> Value:
    """Return what a symbol stands for; its name may be none of C (``calls.0``)."""
    from rsp.target.current_scope import current_scope

    return current_scope(target, cpu=None, names={}).value(name)


def doubts(addresses: Iterable[int], target: Target) -> dict[int, str]:
    """Return at which addresses a software breakpoint would not survive, and why not.

    An int3 in memory is lost when the code is loaded over it: a kernel unpacks itself, or a program
    is mapped, only after the CPU has started. So it is compared with the image.
    """
    if not target.has_symbols:
        return {}
    addresses = tuple(addresses)
    unit = _UNIT if len(addresses) > _MANY else 1
    verdicts: dict[int, str | None] = {}
    for address in addresses:
        if address // unit not in verdicts:
            verdicts[address // unit] = _doubt(address, target, alone=unit == 1)
    found = ((address, verdicts[address // unit]) for address in addresses)
    return {address: doubt for address, doubt in found if doubt is not None}


def rearm(target: Target) -> None:
    """Insert software breakpoints of AUTO anew: the CPU may see other memory there now."""
    for point in target.points:
        if isinstance(point, Breakpoint) and point.wanted is BreakpointKind.AUTO:
            found = doubts(point.locations, target)
            target.points.rearm(point, found, lambda: held_by_stub(target))


def relocate(target: Target) -> None:
    """Move the breakpoints to where the symbols are now: their place has become known."""
    for point in target.points:
        if isinstance(point, Breakpoint) and parse_location(point.what).address is None:
            try:
                where = locate(point.what, target)
            except SymbolError as error:
                logger.warning("breakpoint %d stays where it is: %s", point.number, error)
                continue
            found = doubts(where.addresses, target)
            target.points.move(point, where, found, lambda: held_by_stub(target))


def held_by_stub(target: Target) -> bool:
    """Return whether software breakpoints are kept by the stub, and not in the target's memory.

    QEMU's own translator checks each address that it translates; under KVM it writes an int3
    (accel/kvm/kvm-all.c, kvm_arch_insert_sw_breakpoint).
    """
    if not target.stub.tells_accelerator:
        return False
    try:
        return "disabled" in target.session.monitor("info kvm")
    except StubError:
        return False


def _doubt(address: int, target: Target, *, alone: bool) -> str | None:
    """Return what is wrong with the code there; ``alone``: with that at this very address too."""
    expected = _code(address, target.symbols)
    if not expected:
        return None
    try:
        actual = target.read_memory(address, len(expected))
    except MemoryFault as fault:
        if fault.address == address:
            return "the code is not mapped yet"
        actual = fault.partial
    except StubError:
        return None
    pairs = [(one, other) for one, other in zip(expected, actual, strict=False) if one]
    if len(pairs) >= _FEWEST and 2 * sum(one == other for one, other in pairs) < len(pairs):
        return f"what is in memory is not the code of {target.symbols.path}, or not yet"
    # Under KVM, reads of memory show our own.
    ours = target.points.at(address, software=True)
    if alone and not ours and actual[:1] == _INT3 != expected[:1]:
        return "an int3 is there already that is not ours"
    return None


def _code(address: int, symbols: SymbolTable) -> bytes:
    """Return what the image has at an address; nothing where it does not say."""
    found = symbols.binary_at(address)
    if found is None:
        return b""
    binary, slide = found
    section = binary.image.section_at(address - slide)
    if section is None or not section.executable:
        return b""
    try:
        return binary.read(address - slide, _WINDOW)
    except BadImage:
        return b""
