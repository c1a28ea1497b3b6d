"""A backtrace: who called whom, down to the code that runs.

Contents: the loop over callers with its bounds, and the frames that one activation shows. Not here:
where it begins, the step to a caller (`rsp.unwind`) and what a frame is (`frame`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final, overload

from rsp.errors import BadImage
from rsp.frames.frame import Frame, FrameKind, Place
from rsp.frames.frame_context import FrameContext
from rsp.symbols.at_pc.scopes import scopes_in
from rsp.symbols.table import SourceLine, source_line
from rsp.symbols.unwind.rules import FrameKind as Saved
from rsp.unwind.activation import Activation, EndOfStack
from rsp.unwind.caller import caller_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rsp.arch.registers import Registers
    from rsp.symbols.at_pc.blocks import Block
    from rsp.symbols.binary import Binary, FunctionFrame
    from rsp.unwind.entry_code import EntryCode

MAX_FRAMES: Final = 4096
"""About how many frames are shown; a kernel's stack has room for some hundred."""

MAX_DEPTH: Final = 1 << 20
"""About how many frames are gone through for the outermost ones: 8 MiB of stack have half of it."""

_USER_PRIVILEGE: Final = 3

logger: Final = logging.getLogger("rsp.frames")


class Backtrace(Sequence[Frame]):
    """The frames of a thread, the innermost first; ``str()`` is what gdb's ``backtrace`` shows.

    Attributes:
        end_reason: why there are no more.
        complete: whether that is as it should be: the program's ``main``, the outermost frame, user
            space. Otherwise the rest of the stack is damaged, or nothing says how to read it.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        end_reason: str,
        *,
        complete: bool,
        user: Activation | None = None,
    ) -> None:
        self._frames = tuple(frames)
        self.end_reason = end_reason
        self.complete = complete
        self._user = user

    @cached_property
    def user_registers(self) -> Registers | None:
        """Where a kernel was entered from user space, the registers there; read when asked for."""
        return self._user.snapshot() if self._user is not None else None

    @overload
    def __getitem__(self, key: int) -> Frame: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Frame, ...]: ...
    def __getitem__(self, key: int | slice) -> Frame | tuple[Frame, ...]:
        return self._frames[key]

    def __len__(self) -> int:
        return len(self._frames)

    def __repr__(self) -> str:
        return f"<Backtrace of {len(self)} frames, {self.end_reason}>"

    def __str__(self) -> str:
        lines = [f"#{frame.level:<2} {frame}" for frame in self._frames]
        if not self.complete:
            lines.append(f"Backtrace stopped: {self.end_reason}")
        elif self._user is not None:
            lines.append(f"Backtrace ends: {self.end_reason}")
        return "\n".join(lines)


def walk(
    activation: Activation,
    entry_code: EntryCode,
    not_entered: Callable[[], int] = int,
    *,
    limit: int | None = None,
    outermost: int | None = None,
) -> Backtrace:
    """Return the frames from an activation on.

    Args:
        activation: the innermost one.
        entry_code: of the kernel that it may be in.
        not_entered: returns how many inlined copies begin at its pc and count as not entered yet.
        limit: about how many frames are gone through.
        outermost: how many of them are kept, those at the outer end; None for all.
    """
    limit = limit or (MAX_FRAMES if outermost is None else MAX_DEPTH)
    frames: deque[Frame] = deque(maxlen=outermost)
    level = 0
    below: FrameContext | None = None
    above: FrameContext | None = None
    seen: set[tuple[int, int | None]] = set()
    user: Activation | None = None
    while True:
        reason, complete, caller = "", False, None
        try:
            caller = caller_of(activation, entry_code)
            _check(activation, caller, seen)
            if level + 1 >= limit:
                raise EndOfStack(f"there are more than {limit} frames")
        except EndOfStack as end:
            reason, complete, caller = str(end), end.complete, None
        except BadImage as damage:
            reason, caller = str(damage), None
        if caller is not None and caller.interrupted and _is_user(caller):
            reason, complete = f"user space at {caller.pc:#x}", True
            user, caller = caller, None
        context = above or context_of(activation)
        if below is not None:
            below.caller = context
        kind, hidden = _kind(activation, caller), 0
        if not level and len(context.blocks) > 1:
            hidden = not_entered()
        shown = frames_of(context, kind, level - hidden)[hidden:]
        frames += shown
        level += len(shown)
        below, above = context, None
        if not reason and frames[-1].function == "main":
            # Where a program begins for who wrote it, as in gdb without `backtrace past-main`.
            reason, complete = "main", True
        if reason:
            return Backtrace(tuple(frames), reason, complete=complete, user=user)
        assert caller is not None
        above = context_of(caller)
        for skipped in jumps_between(context, above):
            below.caller = skipped
            shown = frames_of(skipped, FrameKind.TAIL_CALL, level)
            frames += shown
            level += len(shown)
            below = skipped
        activation = caller


def _check(activation: Activation, caller: Activation, seen: set[tuple[int, int | None]]) -> None:
    if caller.pc == 0:
        raise EndOfStack("the return address is 0", complete=True)
    here = activation.pc, activation.registers.get(activation.machine.sp)
    if here in seen:
        raise EndOfStack("this frame is the same as one before it (corrupt stack?)")
    seen.add(here)


def _is_user(activation: Activation) -> bool:
    return activation.registers.get("cs", 0) & _USER_PRIVILEGE == _USER_PRIVILEGE


def context_of(activation: Activation) -> FrameContext:
    """Return what is known of the function of an activation."""
    binary, slide = activation.binary, activation.slide
    if binary is None:
        return FrameContext(activation, None)
    return FrameContext(activation, scopes_in(binary, slide, activation.lookup_pc))


def jumps_between(context: FrameContext, caller: FrameContext) -> Iterator[FrameContext]:
    """Yield the functions between two that ended in a jump to the next one, innermost first.

    They have the registers of the caller, and the stack where that had called.
    """
    below, above = context.activation, caller.activation
    try:
        call = caller.call
        if call is None or context.function is None or below.rules is None:
            return
        jumps = below.machine.tail_calls.between(call, context.function)
    except BadImage as error:
        logger.debug("%s", error)
        return
    for pc in jumps:
        yield context_of(
            Activation(
                below.machine,
                {**above.registers, below.machine.pc: pc},
                pc,
                interrupted=False,
                unsaved=above.unsaved,
                cfa=below.cfa(),
            )
        )


def frames_of(context: FrameContext, kind: FrameKind, level: int) -> list[Frame]:
    """Return the frames of an activation, those of inlined copies first."""
    activation, scopes = context.activation, context.scopes
    place = Place(None, is_start=False)
    if scopes is not None:
        try:
            place = _place(scopes.binary, activation)
        except BadImage as error:
            logger.debug("%s", error)
    innermost = place
    frames: list[Frame] = []
    for inner in scopes.functions() if scopes is not None else ():
        function = _describe(inner.blocks[0])
        frames.append(
            Frame(
                level=level + len(frames),
                kind=FrameKind.INLINED if inner.blocks[0].is_inlined else kind,
                activation=activation,
                function=function.name if function is not None else None,
                place=place,
                context=context,
                scopes=inner,
            )
        )
        place = _call(function, innermost)
    if not frames:
        frames.append(Frame(level=level, kind=kind, activation=activation, place=place))
    return frames


def _describe(function: Block) -> FunctionFrame | None:
    try:
        return function.describe()
    except BadImage as error:
        logger.debug("%s", error)
        return None


def _place(binary: Binary, activation: Activation) -> Place:
    row = binary.row(activation.link_pc)
    if row is None:
        return Place(None, is_start=False)
    is_start = row.is_statement and row.begin == activation.pc - activation.slide
    return Place(source_line(row.place), is_start=is_start)


def _call(copy: FunctionFrame | None, innermost: Place) -> Place:
    """Return the place of a frame that an inlined copy is in; gdb shows no address there."""
    call = copy.call if copy is not None else None
    if call is None or call.file is None or not call.line:
        return Place(None, is_start=False)
    directory = innermost.line.directory if innermost.line is not None else ""
    line = SourceLine(file=call.file, line=call.line, column=call.column, directory=directory)
    return Place(line, is_start=True)


def _kind(activation: Activation, caller: Activation | None) -> FrameKind:
    rules = activation.rules
    if rules is not None and rules.signal_frame and rules.kind is Saved.CALL:
        return FrameKind.SIGNAL
    if caller is not None and caller.interrupted:
        return FrameKind.ENTRY
    return FrameKind.FUNCTION
