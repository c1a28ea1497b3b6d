"""A breakpoint and a watchpoint, as users hold them.

Contents: the handles: where they are, what they count, and how gdb's table shows each. Inserting
and removing them is the business of ``breakpoints``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from rsp.errors import LocalProtocolError, RspError, StubError
from rsp.wire.commands import BreakpointType

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rsp.inferior.locations import Where
    from rsp.symbols.table import Location
    from rsp.symbols.types.types import Type

logger: Final = logging.getLogger("rsp.run")


class BreakpointKind(Enum):
    """How a breakpoint is made."""

    AUTO = "auto"
    """By software where that holds, else by hardware."""
    SOFTWARE = "software"
    HARDWARE = "hardware"


class Watch(Enum):
    """Which accesses a watchpoint stops at."""

    WRITE = "write"
    READ = "read"
    ACCESS = "access"


TYPES: Final[dict[BreakpointKind | Watch, BreakpointType]] = {
    BreakpointKind.SOFTWARE: BreakpointType.SOFTWARE,
    BreakpointKind.HARDWARE: BreakpointType.HARDWARE,
    Watch.WRITE: BreakpointType.WRITE,
    Watch.READ: BreakpointType.READ,
    Watch.ACCESS: BreakpointType.ACCESS,
}
TITLES: Final = {
    BreakpointType.SOFTWARE: "breakpoint",
    BreakpointType.HARDWARE: "hw breakpoint",
    BreakpointType.WRITE: "hw watchpoint",
    BreakpointType.READ: "read watchpoint",
    BreakpointType.ACCESS: "acc watchpoint",
}
"""gdb's names in its table ("info breakpoints")."""

_MOST_READ: Final = 1 << 16
"""QEMU watches any number of bytes; of more than these, as of gdb's values, none is shown."""

_MOST_SHOWN: Final = 3

INT3_LENGTH: Final = 1
"""On x86 the kind of a breakpoint is the length of its instruction, and int3 has one byte."""

Condition = Callable[[Any], bool]


class _Table(Protocol):
    """What a point is in, and is taken out of."""

    def remove(self, point: Point) -> None: ...
    def leave(self, point: Point) -> None: ...


class Point:
    """What breakpoints and watchpoints share: where they are, their hits, their removal.

    Used as a context manager it is removed at the end of the block. A target that runs then is
    stopped for it and runs on: after the timeout of a ``resume``, say. If it cannot be stopped, the
    point is removed at its next stop.

    Attributes:
        number: counted from 1 in each target.
        what: what the user asked for.
        locations: the addresses.
        hits: how often the target has stopped here with the condition true, as gdb counts.
        condition: called with the Target at each hit; a false result lets it run on.
        retired: it is taken out at the next stop, and nothing stops at it any more.
    """

    def __init__(
        self,
        table: _Table,
        number: int,
        what: str,
        locations: tuple[int, ...],
        condition: Condition | None,
    ) -> None:
        self._table = table
        self.number = number
        self.what = what
        self.locations = locations
        self.condition = condition
        self.hits = 0
        self.retired = False
        self.types: dict[int, BreakpointType] = {}

    @property
    def inserted(self) -> bool:
        """Whether it is still there."""
        return bool(self.types)

    def remove(self) -> None:
        """Take it out of the target. May be called twice.

        Raises:
            LocalProtocolError: the target runs; stop it first.
        """
        self._table.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._table.leave(self)
        except RspError as failure:
            if error is None:
                raise
            # The first error is the one to be seen; what is left is taken out on detaching.
            logger.warning("breakpoint %d could not be removed: %s", self.number, failure)
            return
        if self.retired and error is not None:
            error.add_note(
                f"breakpoint {self.number} ({self.what}) is in the target until its next stop, for "
                "it cannot be stopped now"
            )

    def __repr__(self) -> str:
        where = ", ".join(f"{address:#x}" for address in self.locations[:_MOST_SHOWN])
        if len(self.locations) > _MOST_SHOWN:
            where += f" and {len(self.locations) - _MOST_SHOWN} more"
        what = self._described
        hits = f"hit {self.hits} time{'s' * (self.hits != 1)}"
        gone = "" if self.inserted else ", removed"
        return f"<{type(self).__name__} {self.number} {what}at {where}, {hits}{gone}>"

    @property
    def _described(self) -> str:
        """What stands in ``repr`` between the number and the places."""
        return "" if self.what.startswith("*0x") else f"({self.what}) "


class Breakpoint(Point):
    """A breakpoint at one or more addresses.

    Attributes:
        wanted: the kind that was asked for.
        temporary: it is removed when the target stops at it.
        internal: it is no user's: neither listed nor numbered, and gone with the next stop.
        lasting: internal, but it stays until it is removed, and the target stops at it only where
            it would at another one there.
        stays: internal, but it stays until it is removed.
        event: internal, and what a stop at it is: ``Stop.event``; empty where it ends a step.
        remarks: for some addresses, why the breakpoint there is not what it would be elsewhere.
    """

    def __init__(
        self,
        table: _Table,
        number: int,
        where: Where,
        condition: Condition | None,
        *,
        wanted: BreakpointKind,
        temporary: bool = False,
        internal: bool = False,
        lasting: bool = False,
        stays: bool = False,
        event: str = "",
    ) -> None:
        super().__init__(table, number, where.what, where.addresses, condition)
        self.wanted = wanted
        self.temporary = temporary
        self.internal: bool = internal or lasting
        self.lasting = lasting
        self.stays: bool = stays or lasting
        self.event = event
        self.remarks: dict[int, str] = {}
        self._where = where

    @property
    def asked(self) -> str:
        """The location that was asked for; ``what`` may be another word for it."""
        return self._where.what

    def set_where(self, where: Where) -> None:
        """Note where it is now."""
        self._where = where
        self.locations: tuple[int, ...] = where.addresses

    @property
    def places(self) -> tuple[Location, ...]:
        """What the symbols say of the locations: function, file and line; empty without symbols."""
        return self._where.places

    @property
    def digits(self) -> int:
        """How many digits gdb writes its addresses with."""
        return self._where.digits

    def shown(self, address: int) -> str:
        """Return how gdb's table shows a location."""
        return self._where.shown(address)

    @property
    def reason(self) -> str:
        """Why AUTO chose hardware somewhere, and what else is unusual there; mostly empty."""
        where: dict[str, list[int]] = {}
        for address, remark in self.remarks.items():
            where.setdefault(remark, []).append(address)
        return "; ".join(
            f"{addresses[0]:#x}"
            + (f" and {len(addresses) - 1} more" if len(addresses) > 1 else "")
            + f": {remark}"
            for remark, addresses in where.items()
        )

    @property
    def kind(self) -> BreakpointKind:
        """How it was made; HARDWARE as soon as one of its locations is."""
        hardware = BreakpointType.HARDWARE in self.types.values()
        return BreakpointKind.HARDWARE if hardware else BreakpointKind.SOFTWARE


class Watchpoint(Point):
    """A watchpoint on a range of memory.

    Attributes:
        length: how many bytes are watched.
        watch: which accesses.
        ctype: the type of what is there; None where only an address was given.
        before, after: what was there when the target was last let run, and at the last hit; None
            where that is not known.
    """

    def __init__(
        self,
        table: _Table,
        number: int,
        address: int,
        length: int,
        watch: Watch,
        condition: Condition | None,
        ctype: Type | None = None,
    ) -> None:
        super().__init__(table, number, f"*{address:#x}@{length}", (address,), condition)
        self.length = length
        self.watch = watch
        self.ctype = ctype
        self.before: bytes | None = None
        self.after: bytes | None = None

    @property
    def _described(self) -> str:
        return f"{super()._described}({self.watch.value}) on {self.length} bytes "

    def read(self, peek: Callable[[int, int], bytes]) -> bytes | None:
        """Return what is there; None where it cannot be read, or is more than a value has."""
        if self.length > _MOST_READ:
            return None
        try:
            return peek(self.locations[0], self.length)
        except (StubError, LocalProtocolError) as error:  # also where addresses are physical now
            logger.debug("watchpoint %d: %s", self.number, error)
            return None


def rows_of(point: Point, wide: int, digits: int) -> list[str]:
    """Return what gdb's table has of a point: its row, its hits, and a row for each location."""
    title = TITLES[next(iter(point.types.values()))] if point.types else ""
    keep, where = "keep", [" " * (digits + 3) + point.what]
    if isinstance(point, Breakpoint):
        title = TITLES[TYPES[point.kind]]
        keep = "del" if point.temporary else "keep"
        size = digits + 2
        where = [f"{address:#0{size}x} {point.shown(address)}" for address in point.types]
    many = len(where) > 1
    first = "<MULTIPLE>" if many else (where or [""])[0]
    rows = [f"{point.number:<8}{title:<{wide}} {keep:<5}y   {first}".rstrip()]
    if point.condition is not None:
        name = getattr(point.condition, "__qualname__", repr(point.condition))
        rows.append(f"\tstop only if {name}")
    if point.hits:
        rows.append(f"\tbreakpoint already hit {point.hits} time{'s' * (point.hits > 1)}")
    if many:
        for count, each in enumerate(where, 1):
            number = f"{point.number}.{count}"
            rows.append(f"{number:<8}{'':<{wide}} {'':<5}y   {each}".rstrip())
    return rows


def size_of(point: Point) -> int:
    """Return how many bytes each of its locations has in packets."""
    return point.length if isinstance(point, Watchpoint) else INT3_LENGTH
