"""What would become of a breakpoint at an address, and what follows where that changes.

Contents: the comparison of the code in memory with that of the image, and breakpoints that are
inserted anew or moved. Not here: which addresses a user means (see ``rsp.inferior.locations``), and
inserting (see ``breakpoints``).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from rsp.errors import BadImage, MemoryFault, StubError, SymbolError
from rsp.inferior.int3 import INT3
from rsp.inferior.live import LiveInferior
from rsp.inferior.locations import locate
from rsp.location_spec import parse_location
from rsp.run.points import Breakpoint, BreakpointKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rsp.inferior.inferior import Inferior
    from rsp.inferior.locations import Where
    from rsp.run.breakpoints import Breakpoints
    from rsp.run.points import Condition
    from rsp.symbols.table import SymbolTable

logger: Final = logging.getLogger("rsp.run")

_WINDOW: Final = 64
"""How many bytes of code are compared. A running kernel has patched single instructions of them:
calls of __fentry__, alternatives, static branches, returns; never most."""
_FEWEST: Final = 8
"""Of fewer bytes that are not 0 nothing is concluded."""
_MANY: Final = 16
_UNIT: Final = 1 << 21
"""Of many locations one is compared in each 2 MB, which is the size of the pages that a kernel maps
its own code by, and speaks for the others: code is loaded in one piece."""


def doubts(addresses: Iterable[int], inferior: Inferior, points: Breakpoints) -> dict[int, str]:
    """Return at which addresses a software breakpoint would not survive, and why not.

    An int3 in memory is lost when the code is loaded over it: a kernel unpacks itself, or a program
    is mapped, only after the CPU has started. So it is compared with the image.
    """
    if not inferior.has_symbols:
        return {}
    addresses = tuple(addresses)
    unit = _UNIT if len(addresses) > _MANY else 1
    verdicts: dict[int, str | None] = {}
    for address in addresses:
        if address // unit not in verdicts:
            verdicts[address // unit] = _doubt(address, inferior, points, alone=unit == 1)
    found = ((address, verdicts[address // unit]) for address in addresses)
    return {address: doubt for address, doubt in found if doubt is not None}


def insert(
    inferior: Inferior,
    points: Breakpoints,
    where: Where,
    kind: BreakpointKind = BreakpointKind.AUTO,
    condition: Condition | None = None,
    *,
    temporary: bool = False,
) -> Breakpoint:
    """Insert a breakpoint, so that it holds there; the errors of ``Breakpoints.add``."""
    return points.add(
        where,
        kind,
        condition,
        temporary=temporary,
        doubts=doubts(where.addresses, inferior, points) if kind is BreakpointKind.AUTO else None,
        held_by_stub=lambda: held_by_stub(inferior),
    )


def rearm(inferior: Inferior, points: Breakpoints) -> None:
    """Insert software breakpoints of AUTO anew: the CPU may see other memory there now."""
    for point in points:
        if isinstance(point, Breakpoint) and point.wanted is BreakpointKind.AUTO:
            found = doubts(point.locations, inferior, points)
            points.rearm(point, found, lambda: held_by_stub(inferior))


def relocate(inferior: Inferior, points: Breakpoints) -> None:
    """Move the breakpoints to where the symbols are now: their place has become known."""
    for point in points:
        if isinstance(point, Breakpoint) and parse_location(point.asked).address is None:
            try:
                where = locate(point.asked, inferior)
            except SymbolError as error:
                logger.warning("breakpoint %d stays where it is: %s", point.number, error)
                continue
            found = doubts(where.addresses, inferior, points)
            points.move(point, where, found, lambda: held_by_stub(inferior))


def held_by_stub(inferior: Inferior) -> bool:
    """Return whether software breakpoints are kept by the stub, and not in the target's memory.

    QEMU's own translator checks each address that it translates; under KVM it writes an int3
    (accel/kvm/kvm-all.c, kvm_arch_insert_sw_breakpoint).
    """
    if not (isinstance(inferior, LiveInferior) and inferior.stub.tells_accelerator):
        return False
    try:
        return "disabled" in inferior.session.monitor("info kvm")
    except StubError:
        return False


def _doubt(address: int, inferior: Inferior, points: Breakpoints, *, alone: bool) -> str | None:
    """Return what is wrong with the code there; ``alone``: with that at this very address too."""
    expected = _code(address, inferior.symbols)
    if not expected:
        return None
    try:
        actual = inferior.read_memory(address, len(expected))
    except MemoryFault as fault:
        if fault.address == address:
            return "the code is not mapped yet"
        actual = fault.partial
    except StubError:
        return None
    pairs = [(one, other) for one, other in zip(expected, actual, strict=False) if one]
    if len(pairs) >= _FEWEST and 2 * sum(one == other for one, other in pairs) < len(pairs):
        return f"what is in memory is not the code of {inferior.symbols.path}, or not yet"
    # Under KVM, reads of memory show our own.
    ours = points.at(address, software=True)
    if alone and not ours and actual[:1] == INT3 != expected[:1]:
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
