"""What lies under a watchpoint: before the target runs, and when it has been accessed.

Here live the reading of it and the values that a stop carries. Which watchpoint a stop is at is
found out in ``stop_report``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from rsp.errors import LocalProtocolError, MemoryFault, StubError
from rsp.target.points import Watch, Watchpoint

if TYPE_CHECKING:
    from rsp.symbols.types.types import Type
    from rsp.target.target import Target
    from rsp.target.values import Space, Value
    from rsp.wire.threads import ThreadId

logger: Final = logging.getLogger("rsp.target")

_LARGEST: Final = 1 << 16
"""QEMU watches any number of bytes; of more than these, as of gdb's values, none is shown."""
_INTEGERS: Final = {1: "unsigned char", 2: "unsigned short", 4: "unsigned int", 8: "unsigned long"}


def note(target: Target, thread: ThreadId | None) -> None:
    """Read what is watched, for the target is about to run; costs nothing where it was just read.

    Args:
        target: whose.
        thread: as whom memory is seen.
    """
    for point in target.points:
        if isinstance(point, Watchpoint) and point.watch is not Watch.READ:
            target.thread_list.focus(thread)
            point.before = _read(target, point)


def compare(target: Target, thread: ThreadId | None, point: Watchpoint) -> None:
    """Read what is watched by a watchpoint that was hit."""
    target.thread_list.focus(thread)
    point.after = _read(target, point)


def values(target: Target, point: Watchpoint) -> tuple[Value | None, Value | None]:
    """Return what was there before the last hit and what is there now; None where not known."""
    from rsp.target.values import Value

    space, ctype = _space(target), point.ctype or _plain(point.length)
    old, new = (
        Value(space, ctype, address=point.locations[0], data=data) if data is not None else None
        for data in (point.before, point.after)
    )
    return old, new


def _read(target: Target, point: Watchpoint) -> bytes | None:
    if point.length > _LARGEST:
        return None
    try:
        return target.peek(point.locations[0], point.length)
    except (StubError, LocalProtocolError) as error:  # also where addresses are physical now
        logger.debug("watchpoint %d: %s", point.number, error)
        return None


def _plain(length: int) -> Type:
    from rsp.symbols.types.types import Array, Integer

    byte = Integer(_INTEGERS[1], 1, signed=False)
    if length in _INTEGERS:
        return Integer(_INTEGERS[length], length, signed=False)
    return Array(byte, length)


def _space(target: Target) -> Space:
    """Return the memory of this stop, for what the values point to."""
    from rsp.target.values import Space

    generation = target.processor.generation
    symbols = target.image_symbols if target.has_symbols else None

    def read(address: int, length: int) -> bytes:
        if generation != target.processor.generation:
            raise MemoryFault(
                f"memory at {address:#x} was not read at the stop that this value is of",
                address=address,
            )
        return target.read_memory(address, length)

    return Space(read=read, symbols=symbols, word_size=symbols.word_size if symbols else 8)
