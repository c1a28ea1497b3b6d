"""Breakpoints and watchpoints: inserted, counted, removed.

Here live the handles that users hold and the table of them. Running into them, and past them, is
the business of ``execution``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum
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
    """A breakpoint at one or more addresses."""

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
        self._last_number = 0
        self._users: dict[tuple[BreakpointType, int, int], int] = {}

    # --- for the target ---

    def add(
        self,
        what: str,
        locations: tuple[int, ...],
        kind: BreakpointKind,
        condition: Condition | None,
    ) -> Breakpoint:
        """Insert a breakpoint at every location, or at none.

        Raises:
            NoHardwareBreakpoint, MemoryFault, UnsupportedCommand: the stub refuses one.
        """
        point = Breakpoint(self, self._last_number + 1, what, locations, condition)
        order = {
            BreakpointKind.AUTO: (BreakpointType.SOFTWARE, BreakpointType.HARDWARE),
            BreakpointKind.SOFTWARE: (BreakpointType.SOFTWARE,),
            BreakpointKind.HARDWARE: (BreakpointType.HARDWARE,),
        }[kind]
        self._insert_all(point, dict.fromkeys(locations, (order, _INT3_LENGTH)))
        return point

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
        self._insert_all(point, {address: ((_TYPES[watch],), length)})
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
            if point in self._points:
                self._points.remove(point)
        if refusal is not None:
            raise refusal

    def remove_all(self) -> None:
        """Take everything out; the errors of ``remove``, once all has been tried."""
        refusal = None
        for point in list(self._points):
            try:
                self.remove(point)
            except StubError as error:
                refusal = error
        if refusal is not None:
            raise refusal

    def forget_all(self) -> None:
        """Note that the target has ended, and everything in it."""
        for point in self._points:
            point.types.clear()
        self._points.clear()
        self._users.clear()

    def at(self, address: int, *, software: bool = False) -> list[Breakpoint]:
        """Return the breakpoints at an address; with ``software`` only those made so."""
        return [
            point
            for point in self._points
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

    def lift(self, address: int) -> list[tuple[BreakpointType, int, int]]:
        """Take out what would stop an instruction before it begins; ``put_back`` undoes it."""
        lifted = [
            key for key in self._users
            if key[1] == address and key[0] in (BreakpointType.SOFTWARE, BreakpointType.HARDWARE)
        ]  # fmt: skip
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
        lines = [f"{'Num':<8}{'Type':<{wide}} {'Disp':<5}{'Enb':<4}{'Address':<19}What"]
        for point in self._points:
            for place, (address, kind) in enumerate(point.types.items(), 1):
                number = str(point.number) if place == 1 else f"{point.number}.{place}"
                where = f"{address:#018x} " if isinstance(point, Breakpoint) else " " * 19
                lines.append(f"{number:<8}{_TITLES[kind]:<{wide}} keep y   {where}{point.what}")
            if point.hits:
                times = "time" if point.hits == 1 else "times"
                lines.append(f"\tbreakpoint already hit {point.hits} {times}")
        return "\n".join(lines)

    # --- in packets ---

    def _insert_all(
        self, point: Point, wanted: dict[int, tuple[tuple[BreakpointType, ...], int]]
    ) -> None:
        self._points.append(point)
        with held():
            try:
                for address, (order, size) in wanted.items():
                    point.types[address] = self._insert(order, address, size)
            except BaseException:
                if self._session.usable and not self._session.running:
                    self.remove(point)
                raise
            self._last_number = point.number

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
            if isinstance(reply, replies.Ok):
                self._users[key] = 1
                return kind
            refused.append((kind, reply))
        kind, reply = refused[-1]
        raise _refusal(kind, address, reply)

    def _delete(self, kind: BreakpointType, address: int, size: int) -> None:
        key = (kind, address, size)
        left = self._users.get(key, 0) - 1
        if left > 0:
            self._users[key] = left
            return
        reply = self._session.ask(commands.RemoveBreakpoint(type=kind, address=address, kind=size))
        self._users.pop(key, None)
        if not isinstance(reply, replies.Ok):
            raise StubError(
                f"the stub refuses to remove the {_TITLES[kind]} at {address:#x}",
                code=reply.code if isinstance(reply, replies.ErrorReply) else None,
            )

    def _ask(self, command: commands.InsertBreakpoint | commands.RemoveBreakpoint) -> None:
        reply = self._session.ask(command)
        if not isinstance(reply, replies.Ok):
            raise _refusal(command.type, command.address, reply)


def _size(point: Point) -> int:
    return point.length if isinstance(point, Watchpoint) else _INT3_LENGTH


def _refusal(
    kind: BreakpointType, address: int, reply: replies.ErrorReply | replies.Unsupported
) -> Exception:
    title = _TITLES[kind]
    if kind is not BreakpointType.SOFTWARE:
        why = "the stub has none" if isinstance(reply, replies.Unsupported) else (
            "no debug register is left (x86 has 4), or the stub or the range does not allow it"
        )  # fmt: skip
        code = reply.code if isinstance(reply, replies.ErrorReply) else None
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
        code=reply.code,
    )
