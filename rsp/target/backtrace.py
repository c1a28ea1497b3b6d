"""The backtrace of a thread: who called whom, down to the code that runs.

Here live: the loop over callers with its bounds, the frames that one activation shows, and the
memory that is read for it, in few requests. Here must not live: the step to a caller (`unwinder`)
and what a frame is (`frame`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Final, overload

from rsp.arch.layout import Role
from rsp.arch.modes import CpuMode, possible_modes
from rsp.errors import BadImage, MemoryFault, RspError, SymbolError
from rsp.symbols.contents import Damaged
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.table import SourceLine
from rsp.symbols.unwind import FrameKind as Saved
from rsp.target.frame import Frame, FrameKind, Place
from rsp.target.frame_context import FrameContext
from rsp.target.memory import Memory
from rsp.target.unwinder import Activation, EndOfStack, Machine, caller_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rsp.symbols.binary import Binary
    from rsp.symbols.dwarf.die import Die
    from rsp.symbols.dwarf.units import Unit
    from rsp.symbols.functions import CallSite, FunctionFrame
    from rsp.target.registers import Registers
    from rsp.target.resumption import Resumption
    from rsp.target.target import Target
    from rsp.wire.threads import ThreadId

MAX_FRAMES: Final = 4096
"""About how many frames are shown; a kernel's stack has room for some hundred."""

_BLOCK: Final = 1024
"""So many bytes of the stack are read at once: some ten frames of a kernel."""
_SERIAL_BLOCK: Final = 16
"""So many on a serial line, where each costs 0.2 ms, and a request of its own 5 ms: registers are
saved beside each other."""
_STACK: Final = 1 << 14
"""So far around a stack pointer memory is a stack, which may be read without being asked for."""
_SPACE: Final = 1 << 64
_USER_PRIVILEGE: Final = 3
_WORD_SIZES: Final = {
    CpuMode.REAL16: 2,
    CpuMode.PROTECTED16: 2,
    CpuMode.PROTECTED32: 4,
    CpuMode.COMPAT32: 4,
    CpuMode.LONG64: 8,
}

log = logging.getLogger("rsp.target")


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
        lines = [f"#{frame.level:<3}{frame}" for frame in self._frames]
        if not self.complete:
            lines.append(f"Backtrace stopped: {self.end_reason}")
        elif self._user is not None:
            lines.append(f"Backtrace ends: {self.end_reason}")
        return "\n".join(lines)


def backtrace(target: Target, thread: ThreadId | None) -> Backtrace:
    """Return the backtrace of a thread.

    Raises:
        StubError: the stub does not give its registers.
        LocalProtocolError: the target runs.
    """
    registers = target.registers_of(thread)
    if registers[registers.layout.role(Role.PC).name] is None:
        return _of_sleeping(target, thread)
    machine = machine_of(target, thread, registers)
    known = {
        name: value
        for name in machine.names.values()
        if name in registers and (value := registers[name]) is not None
    }
    activation = Activation(machine, known, registers.pc, interrupted=True)
    return _walk(activation, lambda: _not_entered(target, thread))


def _not_entered(target: Target, thread: ThreadId | None) -> int:
    """Return how many inlined copies begin at the pc, and count as not entered yet.

    As in gdb: those that a stop is just in front of, but for one that a breakpoint was set on.
    """
    from rsp.target.position import position_of

    try:
        return position_of(target, thread).hidden
    except SymbolError:
        return 0


def backtrace_from(target: Target, resumption: Resumption) -> Backtrace:
    """Return the backtrace of code that no CPU executes now.

    Args:
        target: in whose memory its stack is.
        resumption: what it will go on with.
    """
    known = resumption.registers
    arch, word_size, pc = ("x86-64", 8, "rip") if "rip" in known else ("i386", 4, "eip")
    current = target.thread
    memory = _Memory(
        target, current.thread_id if current is not None else None, begin=resumption.memory
    )
    symbols = target.symbols if target.has_symbols else None
    layout = target.registers.layout
    machine = Machine(arch, memory, symbols, layout, word_size=word_size)
    return _walk(Activation(machine, known, known[pc], interrupted=resumption.begins))


def _of_sleeping(target: Target, thread: ThreadId | None) -> Backtrace:
    """Return the backtrace of a thread that the stub gives no pc of."""
    reason = "the stub gives no pc of it, and nothing is known of where it goes on"
    found = target.thread_of(thread)
    for unwinder in target.thread_unwinders if found is not None else ():
        assert found is not None
        try:
            resumption = unwinder(found)
        except RspError as error:
            if not target.session.usable:
                raise
            reason = str(error)
            continue
        if resumption is not None:
            return backtrace_from(target, resumption)
    return Backtrace((), reason, complete=False)


def _walk(activation: Activation, not_entered: Callable[[], int] = int) -> Backtrace:
    frames: list[Frame] = []
    below: FrameContext | None = None
    above: FrameContext | None = None
    seen: set[tuple[int, int | None]] = set()
    user: Activation | None = None
    while True:
        reason, complete, caller = "", False, None
        try:
            caller = caller_of(activation)
            _check(activation, caller, seen)
            if len(frames) >= MAX_FRAMES:
                raise EndOfStack(f"there are more than {MAX_FRAMES} frames")
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
        if not frames and len(context.blocks) > 1:
            hidden = not_entered()
        frames += frames_of(context, kind, len(frames) - hidden)[hidden:]
        below, above = context, None
        if not reason and frames[-1].function == "main":
            # Where a program begins for who wrote it, as in gdb without `backtrace past-main`.
            reason, complete = "main", True
        if reason:
            return Backtrace(frames, reason, complete=complete, user=user)
        assert caller is not None
        above = context_of(caller)
        for skipped in jumps_between(context, above):
            below.caller = skipped
            frames += frames_of(skipped, FrameKind.TAIL_CALL, len(frames))
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
    binary = activation.binary
    unit: Unit | None = None
    blocks: Sequence[Die] = ()
    if binary is not None:
        try:
            unit = binary.unit_at(activation.link_pc)
            if unit is not None:
                blocks = binary.functions.blocks(unit, activation.link_pc)
        except (BadImage, Damaged) as error:
            log.debug("%s: %s", binary.path, error)
    return FrameContext(activation, unit, blocks)


def jumps_between(context: FrameContext, caller: FrameContext) -> Iterator[FrameContext]:
    """Yield the functions between two that ended in a jump to the next one, innermost first.

    They have the registers of the caller, and the stack where that had called.
    """
    below, above = context.activation, caller.activation
    try:
        site = caller.call_site
        if site is None or context.function is None or below.rules is None:
            return
        jumps = below.machine.tail_calls.between(site, caller.slide, context.function)
    except (BadImage, Damaged) as error:
        log.debug("%s", error)
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
    activation, blocks = context.activation, context.blocks
    binary = activation.binary
    place = Place(None, is_start=False)
    if binary is not None and context.unit is not None:
        try:
            place = _place(binary, context.unit, activation)
        except (BadImage, Damaged) as error:
            log.debug("%s: %s", binary.path, error)
    innermost = place
    frames: list[Frame] = []
    for inner in _functions(blocks):
        inlined = inner[0].tag == dw.DW_TAG_inlined_subroutine
        function = _describe(context, inner[0])
        frames.append(
            Frame(
                level=level + len(frames),
                kind=FrameKind.INLINED if inlined else kind,
                activation=activation,
                function=function.name if function is not None else None,
                place=place,
                context=context,
                blocks=inner,
            )
        )
        place = _call(function.call if function is not None else None, innermost)
    if not frames:
        frames.append(Frame(level=level, kind=kind, activation=activation, place=place))
    return frames


def _describe(context: FrameContext, die: Die) -> FunctionFrame | None:
    try:
        return context.binary.functions.describe(die)
    except (BadImage, Damaged) as error:
        log.debug("%s: %s", context.binary.path, error)
        return None


def _functions(blocks: Sequence[Die]) -> Iterator[Sequence[Die]]:
    """Yield the function and its inlined copies, innermost first, each with its blocks."""
    end = len(blocks)
    for begin in reversed(range(end)):
        if blocks[begin].tag != dw.DW_TAG_lexical_block:
            yield blocks[begin:end]
            end = begin


def _place(binary: Binary, unit: Unit, activation: Activation) -> Place:
    program = binary.program(unit)
    row = program.table.row_at(activation.link_pc) if program is not None else None
    if program is None or row is None:
        return Place(None, is_start=False)
    header = program.header
    line = SourceLine(
        file=header.name(row.file), line=row.line, column=row.column, directory=header.directory
    )
    is_start = row.is_stmt and row.address == activation.pc - activation.slide
    return Place(line, is_start=is_start)


def _call(call: CallSite | None, innermost: Place) -> Place:
    """Return the place of a frame that an inlined copy is in; gdb shows no address there."""
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


def machine_of(target: Target, thread: ThreadId | None, registers: Registers) -> Machine:
    """Return how the code that runs uses the stack: 64, 32 or 16 bits, and from which base."""
    symbols = target.symbols if target.has_symbols else None
    memory = _Memory(target, thread)
    mode = CpuMode.UNKNOWN
    state = None
    if target.stub.info_registers and not registers.pc >> 32:
        mode = target.processor.mode(thread)
        state = target.processor.state(thread)
    found = symbols.binary_at(registers.pc) if symbols is not None else None
    if mode in _WORD_SIZES:
        word_size = _WORD_SIZES[mode]
    elif possible_modes(registers) == {CpuMode.PROTECTED16, CpuMode.PROTECTED32}:
        word_size = 4
    elif found is not None:
        word_size = found[0].image.word_size
    else:
        word_size = 8 if registers.layout.arch == "x86-64" else 4
    code_base = stack_base = 0
    if word_size == 2:
        code_base = registers.pc - (registers.role(Role.PC) & 0xFFFF)
        stack_base = state.segments["ss"].base if state is not None else 16 * (registers["ss"] or 0)
    return Machine(
        "x86-64" if word_size == 8 else "i386",
        memory,
        symbols,
        registers.layout,
        word_size=word_size,
        code_base=code_base,
        stack_base=stack_base,
    )


class _Memory:
    """The memory as a thread sees it, the stack in blocks, at the stop that it was made at.

    What was read stays; once the target has run, nothing more is. What is below ``begin`` is
    another task's, and is not read.
    """

    def __init__(self, target: Target, thread: ThreadId | None, *, begin: int = 0) -> None:
        self._begin = begin
        self._target = target
        self._thread = thread
        self._stop = target.stop
        current = target.thread
        # The target's own cache is of the current thread: each CPU has its own page tables.
        is_current = current is None or current.thread_id == thread
        self._other = None if is_current else Memory(target.session, target.stub)
        limits = target.session.connection.limits
        self._sparing = not limits.reliable
        largest = min(_SERIAL_BLOCK if self._sparing else _BLOCK, limits.largest_read)
        self._block = 1 << largest.bit_length() - 1
        self._blocks: dict[int, bytes] = {}
        self._expected: dict[int, bytes] = {}
        self._faults: dict[tuple[int, int], MemoryFault] = {}
        self._stack = range(0)

    def look_at(self, stack_pointer: int) -> None:
        """Take what is around a stack pointer for a stack."""
        self._stack = range(stack_pointer - _BLOCK, stack_pointer + _STACK)

    def expect(self, address: int, size: int) -> None:
        """Read these bytes, on a line where those around them cost too much."""
        if self._sparing and address // self._block not in self._blocks:
            with suppress(MemoryFault):
                data = self._ask(address, size)
                self._expected |= {address + at: data[at : at + 4] for at in range(0, size, 4)}

    def read(self, address: int, size: int) -> bytes | None:
        """Return memory, None where it cannot be read."""
        try:
            return self.fetch(address, size)
        except MemoryFault:
            return None

    def fetch(self, address: int, size: int) -> bytes:
        """Return memory.

        Raises:
            MemoryFault: it cannot be read, or not any more.
        """
        if address < 0 or address + size > _SPACE:
            raise MemoryFault(f"there is no memory at {address:#x}", address=address % _SPACE)
        known = [self._expected.get(each, b"") for each in range(address, address + size, 4)]
        if all(known):
            return b"".join(known)[:size]
        if size > self._block or not (
            address in self._stack or address // self._block in self._blocks
        ):
            return self._ask(address, size)
        data = b""
        while len(data) < size:
            number, offset = divmod(address + len(data), self._block)
            if number not in self._blocks:
                self._blocks[number] = self._ask_block(number * self._block)
            part = self._blocks[number][offset : offset + size - len(data)]
            if not part:  # not all of the block can be read
                return self._ask(address, size)
            data += part
        return data

    def _ask_block(self, address: int) -> bytes:
        try:
            return self._ask(address, self._block)
        except MemoryFault as fault:
            return fault.partial

    def _ask(self, address: int, size: int) -> bytes:
        # What several frames have the address of is asked for once, also if it cannot be read.
        known = self._faults.get((address, size))
        if known is not None:
            raise known
        try:
            return self._request(address, size)
        except MemoryFault as fault:
            self._faults[address, size] = fault
            raise

    def _request(self, address: int, size: int) -> bytes:
        if address < self._begin:
            raise MemoryFault(f"{address:#x} is in another address space", address=address)
        target = self._target
        if target.running or target.stop is not self._stop:
            raise MemoryFault(
                f"{address:#x}: the target has run since this backtrace was taken",
                address=address,
            )
        try:
            if self._other is None:
                return target.read_memory(address, size)
            target.thread_list.focus(self._thread)
            return self._other.read(address, size)
        except MemoryFault:
            raise
        except RspError as error:
            if not target.session.usable:
                raise
            raise MemoryFault(str(error), address=address) from error
