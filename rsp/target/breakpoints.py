"""Breakpoints and watchpoints: inserted, counted, removed.

Here live the handles that users hold and the table of them. Where a name's places are, and what
holds there, is the business of ``placement``; running into them, and past them, of ``execution``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from errno import EEXIST, ENOENT
from typing import TYPE_CHECKING, Any, Final, overload

from rsp.errors import (
    LocalProtocolError,
    MemoryFault,
    NoHardwareBreakpoint,
    RspError,
    StubError,
    UnsupportedCommand,
)
from rsp.target.ctrl_c import held
from rsp.wire import commands, replies
from rsp.wire.commands import BreakpointType

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rsp.symbols.locations import Location
    from rsp.target.placement import Where
    from rsp.target.session import Session


logger = logging.getLogger("rsp.target")


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


_TYPES: Final = {
    BreakpointKind.SOFTWARE: BreakpointType.SOFTWARE,
    BreakpointKind.HARDWARE: BreakpointType.HARDWARE,
    Watch.WRITE: BreakpointType.WRITE,
    Watch.READ: BreakpointType.READ,
    Watch.ACCESS: BreakpointType.ACCESS,
}
# gdb's names in its table ("info breakpoints").
_TITLES: Final = {
    BreakpointType.SOFTWARE: "breakpoint",
    BreakpointType.HARDWARE: "hw breakpoint",
    BreakpointType.WRITE: "hw watchpoint",
    BreakpointType.READ: "read watchpoint",
    BreakpointType.ACCESS: "acc watchpoint",
}
# On x86 the kind of a breakpoint is the length of its instruction, and int3 has one byte.
_INT3_LENGTH: Final = 1

DEBUG_REGISTERS: Final = 4
"""How many addresses an x86 CPU compares (Intel SDM volume 3B, section 18.2): breakpoints and
watchpoints share them."""
_WATCHED_BY_ONE: Final = 8

Condition = Callable[[Any], bool]


class Point:
    """What breakpoints and watchpoints share: where they are, their hits, their removal.

    Used as a context manager it is removed at the end.

    Attributes:
        number: counted from 1 in each target.
        what: what the user asked for.
        locations: the addresses.
        hits: how often the target has stopped here with the condition true, as gdb counts.
        condition: called with the Target at each hit; a false result lets it run on.
    """

    def __init__(
        self,
        table: Breakpoints,
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
            self.remove()
        except RspError as failure:
            if error is None:
                raise
            # The first error is the one to be seen; what is left is taken out on detaching.
            logger.warning("breakpoint %d could not be removed: %s", self.number, failure)

    def __repr__(self) -> str:
        where = ", ".join(f"{address:#x}" for address in self.locations)
        return f"<{type(self).__name__} {self.number} at {where}, {self.hits} hits>"


class Breakpoint(Point):
    """A breakpoint at one or more addresses.

    Attributes:
        wanted: the kind that was asked for.
        temporary: it is removed when the target stops at it.
        internal: it is no user's: neither listed nor numbered, and gone with the next stop.
        lasting: internal, but it stays until it is removed.
        remarks: for some addresses, why the breakpoint there is not what it would be elsewhere.
    """

    def __init__(
        self,
        table: Breakpoints,
        number: int,
        where: Where,
        condition: Condition | None,
        *,
        wanted: BreakpointKind,
        temporary: bool = False,
        internal: bool = False,
        lasting: bool = False,
    ) -> None:
        super().__init__(table, number, where.what, where.addresses, condition)
        self.wanted = wanted
        self.temporary = temporary
        self.internal = internal or lasting
        self.lasting = lasting
        self.remarks: dict[int, str] = {}
        self._where = where

    def set_where(self, where: Where) -> None:
        """Note where it is now."""
        self._where = where
        self.locations = where.addresses

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
    """

    length: int
    watch: Watch


class Breakpoints(Sequence[Point]):
    """All that is inserted; ``str()`` is gdb's table.

    Args:
        session: where to.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._points: list[Point] = []
        self._internal: list[Point] = []
        self._last_number = 0
        self._users: dict[tuple[BreakpointType, int, int], int] = {}

    # --- for the target ---

    def add(
        self,
        where: Where,
        kind: BreakpointKind,
        condition: Condition | None = None,
        *,
        temporary: bool = False,
        internal: bool = False,
        lasting: bool = False,
        doubts: Mapping[int, str] | None = None,
        held_by_stub: Callable[[], bool] = bool,
    ) -> Breakpoint:
        """Insert a breakpoint at every location, or at none.

        Args:
            where: what was asked for.
            kind: how.
            condition: see Point.
            temporary: see Breakpoint.
            internal: see Breakpoint.
            lasting: see Breakpoint.
            doubts: where a software breakpoint would not survive, and why not.
            held_by_stub: whether this stub's software breakpoints survive even there; asked where
                the debug registers do not suffice.

        Raises:
            NoHardwareBreakpoint, MemoryFault, UnsupportedCommand: the stub refuses one.
        """
        point = Breakpoint(
            self,
            0 if internal or lasting else self._last_number + 1,
            where,
            condition,
            wanted=kind,
            temporary=temporary,
            internal=internal,
            lasting=lasting,
        )
        doubts = doubts or {}
        kept = self._kept(doubts, held_by_stub)
        with self._whole(point):
            for address in where.addresses:
                self._place(point, address, doubts.get(address), kept)
        return point

    def rearm(
        self, point: Breakpoint, doubts: Mapping[int, str], held_by_stub: Callable[[], bool]
    ) -> None:
        """Insert a breakpoint anew where it is by software: its addresses may mean other memory.

        What cannot be inserted any more is logged, and not raised: the target has stopped for
        another reason.
        """
        software = BreakpointType.SOFTWARE
        addresses = [address for address, kind in point.types.items() if kind is software]
        kept = self._kept([each for each in addresses if each in doubts], held_by_stub)
        for address in addresses:
            try:
                self._delete(software, address, _INT3_LENGTH)
            except StubError as error:
                logger.debug("breakpoint %d: %s", point.number, error)
            del point.types[address]
            point.remarks.pop(address, None)
            try:
                self._place(point, address, doubts.get(address), kept)
            except StubError as error:
                logger.warning("breakpoint %d is not armed any more: %s", point.number, error)

    def move(
        self,
        point: Breakpoint,
        where: Where,
        doubts: Mapping[int, str],
        held_by_stub: Callable[[], bool],
    ) -> None:
        """Take a breakpoint from its addresses to others.

        What cannot be inserted there is logged, and not raised, as in ``rearm``.
        """
        if where.addresses == point.locations:
            return
        for address, kind in list(point.types.items()):
            try:
                self._delete(kind, address, _INT3_LENGTH)
            except StubError as error:
                logger.debug("breakpoint %d: %s", point.number, error)
            del point.types[address]
        point.remarks.clear()
        point.set_where(where)
        kept = self._kept(doubts, held_by_stub)
        for address in where.addresses:
            try:
                self._place(point, address, doubts.get(address), kept)
            except StubError as error:
                logger.warning("breakpoint %d is not armed any more: %s", point.number, error)

    def add_watch(
        self, address: int, length: int, watch: Watch, condition: Condition | None
    ) -> Watchpoint:
        """Insert a watchpoint.

        Raises:
            NoHardwareBreakpoint, UnsupportedCommand: the stub refuses it.
        """
        if length < 1:
            raise LocalProtocolError(f"a watchpoint on {length} bytes: at least 1 is watched")
        if not 0 <= address <= (1 << 64) - length:
            raise LocalProtocolError(f"a watchpoint at {address:#x}: not within 64 bits")
        what = f"*{address:#x}@{length}"
        point = Watchpoint(self, self._last_number + 1, what, (address,), condition)
        point.length, point.watch = length, watch
        with self._whole(point):
            point.types[address] = self._insert((_TYPES[watch],), address, length)
        return point

    def remove(self, point: Point) -> None:
        """Take a point out of the target and out of the table.

        Raises:
            StubError: the stub refuses; the point is out of the table all the same.
        """
        refusal = None
        with held():
            for address in list(point.types):
                try:
                    self._delete(point.types[address], address, _size(point))
                except StubError as error:
                    refusal = error
                del point.types[address]
            for points in (self._points, self._internal):
                if point in points:
                    points.remove(point)
        if refusal is not None:
            raise refusal

    def remove_all(self) -> None:
        """Take everything out; the errors of ``remove``, once all has been tried."""
        refusal = None
        for point in [*self._points, *self._internal]:
            try:
                self.remove(point)
            except StubError as error:
                refusal = error
        if refusal is not None:
            raise refusal

    def remove_internal(self) -> None:
        """Take out what a step has set: it ends with the first stop, whatever that is."""
        for point in list(self._internal):
            if isinstance(point, Breakpoint) and point.lasting:
                continue
            try:
                self.remove(point)
            except StubError as error:
                logger.warning("%s", error)

    def forget_all(self) -> None:
        """Note that the target has ended, and everything in it."""
        for point in [*self._points, *self._internal]:
            point.types.clear()
        self._points.clear()
        self._internal.clear()
        self._users.clear()

    def at(self, address: int, *, software: bool = False) -> list[Breakpoint]:
        """Return the breakpoints at an address; with ``software`` only those made so."""
        return [
            point
            for point in [*self._points, *self._internal]
            if isinstance(point, Breakpoint)
            and (kind := point.types.get(address)) is not None
            and (kind is BreakpointType.SOFTWARE or not software)
        ]

    def watching(self, address: int, kinds: Sequence[Watch]) -> list[Watchpoint]:
        """Return the watchpoints of certain kinds whose range an address is in."""
        return [
            point
            for point in self._points
            if isinstance(point, Watchpoint)
            and point.watch in kinds
            and 0 <= address - point.locations[0] < point.length
        ]

    @property
    def any(self) -> bool:
        """Whether anything is inserted, for users or within."""
        return bool(self._points or self._internal)

    def lift(self, address: int) -> list[tuple[BreakpointType, int, int]]:
        """Take out what would stop an instruction before it begins; ``put_back`` undoes it."""
        lifted = [
            key for key in self._users
            if key[1] == address and key[0] in (BreakpointType.SOFTWARE, BreakpointType.HARDWARE)
        ]  # fmt: skip
        for kind, at, size in lifted:
            self._ask(commands.RemoveBreakpoint(type=kind, address=at, kind=size))
        return lifted

    def lift_all(self) -> list[tuple[BreakpointType, int, int]]:
        """Take out everything; ``put_back`` undoes it."""
        lifted = list(self._users)
        for kind, at, size in lifted:
            self._ask(commands.RemoveBreakpoint(type=kind, address=at, kind=size))
        return lifted

    def put_back(self, lifted: list[tuple[BreakpointType, int, int]]) -> None:
        """Insert again what ``lift`` took out, but for what was removed meanwhile."""
        for key in lifted:
            if key in self._users:
                kind, at, size = key
                self._ask(commands.InsertBreakpoint(type=kind, address=at, kind=size))

    # --- the table ---

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | Sequence[Point]:
        return self._points[index]

    def __len__(self) -> int:
        return len(self._points)

    def __str__(self) -> str:
        if not self._points:
            return "No breakpoints or watchpoints."
        # gdb's column is as wide as "read watchpoint" only where there is one.
        wide = max([14, *(len(_TITLES[kind]) for point in self for kind in point.types.values())])
        digits = max((each.digits for each in self if isinstance(each, Breakpoint)), default=16)
        lines = [f"{'Num':<8}{'Type':<{wide}} {'Disp':<5}{'Enb':<4}{'Address':<{digits + 3}}What"]
        for point in self._points:
            lines += _rows(point, wide, digits)
        return "\n".join(lines)

    # --- in packets ---

    @contextmanager
    def _whole(self, point: Point) -> Iterator[None]:
        """Take a point in, unless one of its locations fails: then none is left in the target."""
        internal = isinstance(point, Breakpoint) and point.internal
        (self._internal if internal else self._points).append(point)
        with held():
            try:
                yield
            except BaseException:
                if self._session.usable and not self._session.running:
                    self.remove(point)
                raise
            self._last_number = max(self._last_number, point.number)

    def _kept(self, doubtful: Collection[int], held_by_stub: Callable[[], bool]) -> bool:
        """Return whether doubtful addresses are for software breakpoints that the stub keeps."""
        return len(doubtful) > DEBUG_REGISTERS - self.debug_registers_used and held_by_stub()

    def _place(self, point: Breakpoint, address: int, doubt: str | None, kept: bool) -> None:
        """Insert one location of a breakpoint."""
        software, hardware = BreakpointType.SOFTWARE, BreakpointType.HARDWARE
        order: tuple[BreakpointType, ...]
        match point.wanted:
            case BreakpointKind.SOFTWARE:
                order = (software,)
            case BreakpointKind.HARDWARE:
                order = (hardware,)
            case _ if doubt is None:
                order = (software, hardware)
            case _:
                order = (software if kept else hardware,)
        kind = point.types[address] = self._insert(order, address, _INT3_LENGTH)
        if kind is software and doubt is not None:
            point.remarks[address] = (
                f"{_TITLES[kind]} by software, although {doubt}: this stub keeps it out of memory, "
                f"and there are not enough of the {DEBUG_REGISTERS} debug registers left"
            )
        elif kind is not order[0] or doubt is not None:
            doubt = doubt or "the stub refuses a software breakpoint there"
            point.remarks[address] = f"{_TITLES[kind]}, because {doubt}"

    @property
    def debug_registers_used(self) -> int:
        """How many debug registers our breakpoints and watchpoints take."""
        return sum(
            -(-size // _WATCHED_BY_ONE)
            for kind, _, size in self._users
            if kind is not BreakpointType.SOFTWARE
        )

    def _insert(self, order: tuple[BreakpointType, ...], address: int, size: int) -> BreakpointType:
        refused: list[tuple[BreakpointType, replies.ErrorReply | replies.Unsupported]] = []
        for kind in order:
            key = (kind, address, size)
            if key in self._users:
                self._users[key] += 1
                return kind
            try:
                reply = self._session.ask(
                    commands.InsertBreakpoint(type=kind, address=address, kind=size)
                )
            except KeyboardInterrupt:
                # It may have been set before its answer was taken.
                self._session.ask(commands.RemoveBreakpoint(type=kind, address=address, kind=size))
                raise
            if isinstance(reply, replies.Ok) or self._was_done(reply, EEXIST):
                self._users[key] = 1
                return kind
            refused.append((kind, reply))
        kind, reply = refused[-1]
        raise self._refusal(kind, address, reply)

    def _delete(self, kind: BreakpointType, address: int, size: int) -> None:
        key = (kind, address, size)
        left = self._users.get(key, 0) - 1
        if left > 0:
            self._users[key] = left
            return
        reply = self._session.ask(commands.RemoveBreakpoint(type=kind, address=address, kind=size))
        self._users.pop(key, None)
        if not (isinstance(reply, replies.Ok) or self._was_done(reply, ENOENT)):
            raise StubError(
                f"the stub refuses to remove the {_TITLES[kind]} at {address:#x}",
                code=reply.code if isinstance(reply, replies.ErrorReply) else None,
            )

    def _ask(self, command: commands.InsertBreakpoint | commands.RemoveBreakpoint) -> None:
        reply = self._session.ask(command)
        if not (isinstance(reply, replies.Ok) or self._was_done(reply, EEXIST, ENOENT)):
            raise self._refusal(command.type, command.address, reply)

    def _was_done(self, reply: replies.ErrorReply | replies.Unsupported, *already: int) -> bool:
        """Whether a request is refused because it was carried out when it came for the first time.

        On a bad line it may come twice; who counts errors in decimal says errno.
        """
        errno = self._session.connection.limits.dialect.error_radix == 10
        return errno and isinstance(reply, replies.ErrorReply) and reply.code in already

    def _refusal(
        self,
        kind: BreakpointType,
        address: int,
        reply: replies.ErrorReply | replies.Unsupported,
    ) -> StubError:
        title = _TITLES[kind]
        code = reply.code if isinstance(reply, replies.ErrorReply) else None
        if kind is not BreakpointType.SOFTWARE:
            why = "the stub has none"
            if isinstance(reply, replies.ErrorReply):
                why = f"{self._spent()}, or the stub or the range does not allow it"
                if kind is BreakpointType.READ:
                    why += "; x86 watches no reads alone, but Watch.ACCESS reads and writes"
            return NoHardwareBreakpoint(
                f"no {title} at {address:#x}: {why}", address=address, code=code
            )
        if isinstance(reply, replies.Unsupported):
            return UnsupportedCommand(
                "this stub sets no software breakpoints (Z0); ask for kind=BreakpointKind.HARDWARE",
                command="Z0",
            )
        return MemoryFault(
            f"no {title} at {address:#x}: nothing is mapped there, or it cannot be written; "
            "ask for kind=BreakpointKind.HARDWARE",
            address=address,
            code=code,
        )

    def _spent(self) -> str:
        """Say who has the debug registers."""
        users = ", ".join(
            f"{point.number or 'a step'} ({point.what})"
            for point in [*self._points, *self._internal]
            if any(kind is not BreakpointType.SOFTWARE for kind in point.types.values())
        )
        return (
            f"x86 has {DEBUG_REGISTERS} debug registers, for breakpoints and watchpoints together, "
            + (f"and these use {self.debug_registers_used}: {users}" if users else "none ours")
        )


def _rows(point: Point, wide: int, digits: int) -> list[str]:
    """Return what gdb's table has of a point: its row, its hits, and a row for each location."""
    title = _TITLES[next(iter(point.types.values()))] if point.types else ""
    keep, where = "keep", [" " * (digits + 3) + point.what]
    if isinstance(point, Breakpoint):
        title = _TITLES[_TYPES[point.kind]]
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


def _size(point: Point) -> int:
    return point.length if isinstance(point, Watchpoint) else _INT3_LENGTH
