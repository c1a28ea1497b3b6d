"""Where a breakpoint goes, and what would become of it there.

Here live: from what a user asks for (a name, a source line, an address) to all of its addresses,
how gdb's table shows each, the comparison of the code in memory with that of the image, and what
follows where one of them has changed. Inserting is the business of ``breakpoints``.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING, Final

from rsp.errors import BadImage, LocalProtocolError, MemoryFault, StubError, SymbolError
from rsp.target.points import Breakpoint, BreakpointKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rsp.symbols.table import Location, SymbolTable
    from rsp.target.target import Target

logger: Final = logging.getLogger("rsp.target")

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
        return tuple(
            place for address in self.addresses for place in table.locations(f"{address:#x}")
        )

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


def locate(what: int | str, target: Target) -> Where:
    """Return what a user means by a place.

    Args:
        what: an address, also as text (``0x7c00``, ``*0x7c00``), or with symbols a name
            (``tcp_init_sock``), a line (``tcp.c:414``) or a distance (``start_kernel+0x10``).
        target: whose symbols are asked.

    Raises:
        SymbolNotFound, SymbolError: there is no such place, or there are no symbols.
        LocalProtocolError: the text is neither.
    """
    symbols = target.symbols if target.has_symbols else None
    if isinstance(what, int):
        return Where(f"*{what:#x}", (what,), symbols)
    text = what.strip()
    if text[:1] == "*" or (text[:1].isdigit() and ":" not in text):
        try:
            return Where(what, (int(text.lstrip("*"), 0),), symbols)
        except ValueError:
            raise LocalProtocolError(
                f"{what!r} is neither an address nor a name; addresses are spelled 0x…"
            ) from None
    _, plus, offset = text.rpartition("+")
    if plus and ":" not in text:
        try:
            int(offset, 0)
        except ValueError:
            raise LocalProtocolError(f"{what!r}: {offset!r} is no offset") from None
    places = target.symbols.locations(text)
    return Where(what, (place.address for place in places), symbols, places)


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
        if isinstance(point, Breakpoint) and not point.what.startswith("*"):
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
