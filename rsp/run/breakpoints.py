"""The breakpoints and watchpoints of a target: inserted, counted, removed.

Contents: the table of them, and the packets. What each is to its user is in ``points``; where a
name's places are, and what holds there, in ``arming``; running into them, and past them, in
``execution``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from errno import EEXIST, ENOENT
from typing import TYPE_CHECKING, Final, TypeAlias, overload

from rsp.ctrl_c import held
from rsp.errors import (
    LocalProtocolError,
    MemoryFault,
    NoHardwareBreakpoint,
    RspTimeout,
    StubError,
    UnsupportedCommand,
)
from rsp.run.points import (
    INT3_LENGTH,
    TITLES,
    TYPES,
    Breakpoint,
    BreakpointKind,
    Condition,
    Point,
    Watch,
    Watchpoint,
    rows_of,
    size_of,
)
from rsp.wire import commands, replies
from rsp.wire.commands import BreakpointType

if TYPE_CHECKING:
    from rsp.inferior.locations import Where
    from rsp.inferior.memory import Memory
    from rsp.session.session import Session
    from rsp.symbols.types.types import Type

logger: Final = logging.getLogger("rsp.run")

DEBUG_REGISTERS: Final = 4
"""How many addresses an x86 CPU compares (Intel SDM volume 3B, section 18.2): breakpoints and
watchpoints share them."""
_WATCHED_BY_ONE: Final = 8

Inserted: TypeAlias = tuple[BreakpointType, int, int]
"""What is in the target, as packets have it: how, at which address, and its kind or length."""


class Breakpoints(Sequence[Point]):
    """All that is inserted; ``str()`` is gdb's table.

    Args:
        session: where to.
        memory: where software breakpoints are written to if the stub sets none.

    Attributes:
        paused: in its block the target stands still, and behind it runs on if it ran.
    """

    def __init__(self, session: Session, memory: Memory) -> None:
        self.paused: Callable[[], AbstractContextManager[None]] = nullcontext
        self._session = session
        self._memory = memory
        self._points: list[Point] = []
        self._internal: list[Point] = []
        self._last_number = 0
        self._users: dict[Inserted, int] = {}

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
        stays: bool = False,
        event: str = "",
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
            stays: see Breakpoint.
            event: see Breakpoint.
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
            stays=stays,
            event=event,
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
            self._drop(point, address)
            self._replace(point, address, doubts, kept)

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
        for address in list(point.types):
            self._drop(point, address)
        point.set_where(where)
        kept = self._kept(doubts, held_by_stub)
        for address in where.addresses:
            self._replace(point, address, doubts, kept)

    def add_watch(
        self,
        address: int,
        length: int,
        watch: Watch,
        condition: Condition | None,
        ctype: Type | None = None,
    ) -> Watchpoint:
        """Insert a watchpoint; ``ctype`` is the type of what is there, where that is known.

        Raises:
            NoHardwareBreakpoint, UnsupportedCommand: the stub refuses it.
        """
        if length < 1:
            raise LocalProtocolError(f"a watchpoint on {length} bytes: at least 1 is watched")
        if not 0 <= address <= (1 << 64) - length:
            raise LocalProtocolError(f"a watchpoint at {address:#x}: not within 64 bits")
        point = Watchpoint(self, self._last_number + 1, address, length, watch, condition, ctype)
        with self._whole(point):
            point.types[address] = self._insert((TYPES[watch],), address, length)
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
                    self._delete(point.types[address], address, size_of(point))
                except StubError as error:
                    refusal = error
                del point.types[address]
            for points in (self._points, self._internal):
                if point in points:
                    points.remove(point)
        if refusal is not None:
            raise refusal

    def leave(self, point: Point) -> None:
        """Take a point out also while the target runs; where that cannot be stopped, retire it.

        Raises:
            The same as ``remove``.
        """
        if not point.inserted:
            return
        with held():
            try:
                with self.paused():
                    self.remove(point)
            except (RspTimeout, UnsupportedCommand) as error:
                if not (self._session.usable and self._session.running):
                    raise
                logger.info("breakpoint %d stays until the next stop: %s", point.number, error)
                point.retired = True

    def remove_retired(self) -> None:
        """Take out what should have gone while the target ran: it stands still now."""
        for point in [point for point in self._points if point.retired]:
            try:
                self.remove(point)
            except StubError as error:
                logger.warning("%s", error)

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
            if isinstance(point, Breakpoint) and point.stays:
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
        self._memory.int3s.forget()

    @property
    def in_memory(self) -> bool:
        """Whether some are int3 instructions in the target's memory, written by us."""
        return len(self._memory.int3s) > 0

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

    def note_watched(self, peek: Callable[[int, int], bytes]) -> None:
        """Note what is watched, for the target is about to run."""
        for point in self._points:
            if isinstance(point, Watchpoint) and point.watch is not Watch.READ:
                point.before = point.read(peek)

    @property
    def by_software(self) -> list[Breakpoint]:
        """The breakpoints that have an int3 somewhere, for users or within."""
        return [
            point
            for point in [*self._points, *self._internal]
            if isinstance(point, Breakpoint) and BreakpointType.SOFTWARE in point.types.values()
        ]

    @property
    def any(self) -> bool:
        """Whether anything is inserted, for users or within."""
        return bool(self._points or self._internal)

    @property
    def are_plain(self) -> bool:
        """Whether a stop at any of them is one, and takes none of them out."""
        return not self._internal and not any(
            point.condition is not None
            or point.retired
            or (isinstance(point, Breakpoint) and point.temporary)
            for point in self._points
        )

    def lift(self, address: int) -> list[Inserted]:
        """Take out what would stop an instruction before it begins; ``put_back`` undoes it."""
        lifted = [
            key for key in self._users
            if key[1] == address and key[0] in (BreakpointType.SOFTWARE, BreakpointType.HARDWARE)
        ]  # fmt: skip
        for kind, at, size in lifted:
            self._ask(commands.RemoveBreakpoint(type=kind, address=at, kind=size))
        return lifted

    def lift_all(self, *, but: Collection[Inserted] = ()) -> list[Inserted]:
        """Take out everything that is not out already; ``put_back`` undoes it."""
        lifted = [key for key in self._users if key not in but]
        for kind, at, size in lifted:
            self._ask(commands.RemoveBreakpoint(type=kind, address=at, kind=size))
        return lifted

    def remove_copies(self, *, but: Collection[Inserted]) -> list[int]:
        """Take everything out of a copy of the target, which the stub has in focus.

        Args:
            but: what was out already when it was made.

        Returns:
            The addresses where the stub refuses.
        """
        left = []
        for kind, at, size in self._users:
            if (kind, at, size) in but:
                continue
            if kind is BreakpointType.SOFTWARE and self._are_ours:
                try:
                    self._memory.int3s.remove(at, of_copy=True)
                except MemoryFault:
                    left.append(at)
                continue
            reply = self._session.ask(commands.RemoveBreakpoint(type=kind, address=at, kind=size))
            if not isinstance(reply, replies.Ok):
                left.append(at)
        return left

    def put_back(self, lifted: list[Inserted]) -> None:
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

    def __repr__(self) -> str:
        return f"<Breakpoints {self._points!r}>"

    def __str__(self) -> str:
        if not self._points:
            return "No breakpoints or watchpoints."
        # gdb's column is as wide as "read watchpoint" only where there is one.
        wide = max([14, *(len(TITLES[kind]) for point in self for kind in point.types.values())])
        digits = max((each.digits for each in self if isinstance(each, Breakpoint)), default=16)
        lines = [f"{'Num':<8}{'Type':<{wide}} {'Disp':<5}{'Enb':<4}{'Address':<{digits + 3}}What"]
        for point in self._points:
            lines += rows_of(point, wide, digits)
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

    def _drop(self, point: Breakpoint, address: int) -> None:
        """Take out one location, which may be gone with the memory that it was in."""
        try:
            self._delete(point.types.pop(address), address, INT3_LENGTH)
        except StubError as error:
            logger.debug("breakpoint %d: %s", point.number, error)
        point.remarks.pop(address, None)

    def _replace(
        self, point: Breakpoint, address: int, doubts: Mapping[int, str], kept: bool
    ) -> None:
        """Insert one location at a stop of another reason."""
        try:
            self._place(point, address, doubts.get(address), kept)
        except StubError as error:
            logger.warning("breakpoint %d is not armed any more: %s", point.number, error)

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
        kind = point.types[address] = self._insert(order, address, INT3_LENGTH)
        if kind is software and doubt is not None:
            point.remarks[address] = (
                f"{TITLES[kind]} by software, although {doubt}: this stub keeps it out of memory, "
                f"and there are not enough of the {DEBUG_REGISTERS} debug registers left"
            )
        elif kind is software and self._are_ours:
            point.remarks[address] = "an int3 in memory, because the stub sets no breakpoints (Z0)"
        elif kind is not order[0] or doubt is not None:
            doubt = doubt or "the stub refuses a software breakpoint there"
            point.remarks[address] = f"{TITLES[kind]}, because {doubt}"

    @property
    def debug_registers_used(self) -> int:
        """How many debug registers our breakpoints and watchpoints take."""
        return sum(
            -(-size // _WATCHED_BY_ONE)
            for kind, _, size in self._users
            if kind is not BreakpointType.SOFTWARE
        )

    def _insert(self, order: tuple[BreakpointType, ...], address: int, size: int) -> BreakpointType:
        software = BreakpointType.SOFTWARE
        refused: list[tuple[BreakpointType, replies.ErrorReply | replies.Unsupported]] = []
        for kind in order:
            key = (kind, address, size)
            if key in self._users:
                self._users[key] += 1
                return kind
            if kind is software and self._are_ours:
                continue  # after the debug registers, which change no memory
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
            if kind is software and isinstance(reply, replies.Unsupported):
                connection = self._session.connection
                connection.limits = replace(connection.limits, software_breakpoints=False)
            refused.append((kind, reply))
        if software in order and self._are_ours:
            self._memory.int3s.insert(address)
            self._users[software, address, size] = 1
            return software
        kind, reply = refused[-1]
        raise self._refusal(kind, address, reply)

    @property
    def _are_ours(self) -> bool:
        """Whether software breakpoints are for us to write, as the stub sets none."""
        return not self._session.connection.limits.software_breakpoints

    def _delete(self, kind: BreakpointType, address: int, size: int) -> None:
        key = (kind, address, size)
        left = self._users.get(key, 0) - 1
        if left > 0:
            self._users[key] = left
            return
        if kind is BreakpointType.SOFTWARE and self._are_ours:
            self._users.pop(key, None)
            self._memory.int3s.remove(address)
            return
        reply = self._session.ask(commands.RemoveBreakpoint(type=kind, address=address, kind=size))
        self._users.pop(key, None)
        if not (isinstance(reply, replies.Ok) or self._was_done(reply, ENOENT)):
            raise StubError(
                f"the stub refuses to remove the {TITLES[kind]} at {address:#x}",
                code=reply.code if isinstance(reply, replies.ErrorReply) else None,
            )

    def _ask(self, command: commands.InsertBreakpoint | commands.RemoveBreakpoint) -> None:
        if command.type is BreakpointType.SOFTWARE and self._are_ours:
            int3s = self._memory.int3s
            inserts = isinstance(command, commands.InsertBreakpoint)
            (int3s.insert if inserts else int3s.remove)(command.address)
            return
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
        title = TITLES[kind]
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
