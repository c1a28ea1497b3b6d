"""The CPU as a stub shows it: registers, the layout they are sent in, and the mode.

Contents: reading and writing registers, deriving the layout anew at every stop, and finding the
mode. The snapshot is in ``registers``, the tables are in ``rsp.arch``.
"""

from __future__ import annotations

import logging
from errno import EINVAL
from functools import partial
from typing import TYPE_CHECKING, Final

from rsp.arch.layout import Kind, Register, RegisterLayout, Role
from rsp.arch.layouts import layout_for_length
from rsp.arch.modes import (
    CpuMode,
    CpuState,
    infer_mode,
    linear_pc,
    parse_info_registers,
    possible_modes,
)
from rsp.arch.registers import Registers
from rsp.errors import (
    LocalProtocolError,
    RegisterWriteError,
    RemoteProtocolError,
    StubError,
    UnsupportedCommand,
)
from rsp.wire import commands, replies

if TYPE_CHECKING:
    from rsp.inferior.thread_list import ThreadList
    from rsp.session.session import Session
    from rsp.session.stub import Stub
    from rsp.wire.threads import ThreadId

logger: Final = logging.getLogger("rsp.inferior")

# QEMU up to 2.8: the 64-bit one, as the layouts call it, and the length of its 64-bit `g`.
_OLD_QEMU = "qemu-2-x86-64"
_LENGTH_OF_OLD_QEMU = 536

# Of an instruction in its segment, in real mode.
_MOST_OFFSET = 0xFFFF

_PRIVILEGE = 3  # of a selector (Intel SDM volume 3A, section 3.4.2)


class Processor:
    """Reads and writes registers through a session.

    Args:
        session: where to.
        threads: the focus.
        stub: what it can do.
        described: the layout of the target description, None without one.

    Attributes:
        generation: another number whenever the target has run, for what outlives its stop.
    """

    def __init__(
        self,
        session: Session,
        threads: ThreadList,
        stub: Stub,
        described: RegisterLayout | None,
    ) -> None:
        self._session = session
        self._threads = threads
        self._stub = stub
        self._described = described
        self._family = stub.name
        self._snapshots: dict[ThreadId | None, Registers] = {}
        self._states: dict[ThreadId | None, CpuState] = {}
        self._asks_one = True  # whether the stub may know `p`
        # Whether the pc that the stub gives was seen to be linear where the CPU's is an offset.
        self._linear = stub.linear_pc
        # At this stop: whose pc is behind its place in `g`, and where a pc was found to be.
        self._behind: set[ThreadId | None] = set()
        self._found_at: dict[ThreadId | None, tuple[int, int]] = {}
        self.generation: int = 0

    def invalidate(self) -> None:
        """Forget what was read: somebody may have changed it."""
        self._snapshots.clear()
        self._states.clear()

    def resumed(self) -> None:
        """Forget what was read, and what snapshots in users' hands might still ask for."""
        self.invalidate()
        self._found_at.clear()
        self._behind.clear()
        self.generation += 1

    def registers(self, thread: ThreadId | None) -> Registers:
        """Return the snapshot of a thread's registers, from the stub once a stop.

        Raises:
            StubError: the stub gives none.
        """
        snapshot = self._snapshots.get(thread)
        if snapshot is None:
            block = self._read_block(thread)
            layout = self._layout(len(block.data))
            values = layout.decode_values(block.data, block.unavailable)
            if thread in self._behind:
                place = layout.positions[layout.role(Role.PC).name]
                values[place] = (values[place] or 0) - self._stub.pc_behind_in_g
            if self._stub.tasks:
                values = _known_of_task(layout, values)
            snapshot = Registers(
                layout,
                values,
                partial(self._pc, thread, self.generation),
                ask=partial(self._ask_one, thread, self.generation),
                unasked=self._not_sent(layout, len(block.data)),
            )
            self._snapshots[thread] = snapshot
        return snapshot

    def write(self, thread: ThreadId | None, name: str, value: int) -> None:
        """Write a register or sub-register, and read it back.

        Raises:
            RegisterUnavailable: no such register.
            LocalProtocolError: the value does not fit.
            RegisterWriteError: the stub refused, or the register has another value afterwards.
        """
        before = self.registers(thread)
        for whole, new in before.layout.write(before, name, value).items():
            self._threads.focus(thread)
            self.invalidate()
            reply = self._write_whole(thread, before, whole, new)
            code = reply.code if isinstance(reply, replies.ErrorReply) else None
            if not isinstance(reply, replies.Ok):
                why = (
                    "this stub writes registers of no thread but the one that stopped, and not "
                    f"of {thread}: let it run to a breakpoint in that thread"
                    if self._stub.only_stopped_thread and code == EINVAL
                    else f"the stub does not let {whole} be written"
                    + (f" (error {code})" if code is not None else "")
                )
                raise RegisterWriteError(
                    why,
                    register=whole,
                    value=new,
                    code=code,
                )
            actual = self.registers(thread)[whole]
            if actual != new:
                now = "unavailable" if actual is None else f"{actual:#x}"
                why = (
                    "kgdb leaves the stack pointer as it is, and what it does not show"
                    if self._stub.only_stopped_thread
                    else "QEMU cuts values to 32 bits outside 64-bit mode, and no stub writes "
                    "reserved bits"
                )
                raise RegisterWriteError(
                    f"{whole} did not take {new:#x}: it is {now} now. {why}",
                    register=whole,
                    value=new,
                    actual=actual,
                )

    def mode(self, thread: ThreadId | None) -> CpuMode:
        """Return the mode of a thread's CPU; UNKNOWN where nothing tells it for certain."""
        registers = self.registers(thread)
        mode = self._certain_mode(registers)
        if mode is CpuMode.UNKNOWN and (state := self.state(thread)) is not None:
            return state.mode
        return mode

    def is_in_mode(self, thread: ThreadId | None, mode: CpuMode) -> bool:
        """Whether a thread's CPU is in a mode; asks for no more than it takes to know."""
        certain = self._certain_mode(self.registers(thread))
        if certain is CpuMode.UNKNOWN and mode in possible_modes(self.registers(thread)):
            return self.mode(thread) is mode
        return certain is mode

    def state(self, thread: ThreadId | None) -> CpuState | None:
        """Return the descriptors as well, None where the stub cannot show them."""
        if not self._stub.info_registers:
            return None
        state = self._states.get(thread)
        if state is None:
            state = self._ask_state(thread)
            if state is not None:
                self._states[thread] = state
        return state

    def places(self, thread: ThreadId | None) -> tuple[int, ...]:
        """Return where the next instruction may be, the likeliest first.

        Where neither the mode nor the base of CS is told, a stub may give the pc as an offset in
        the segment, or as a linear address.
        """
        registers = self.registers(thread)
        pc, cs = registers.role(Role.PC), registers.get("cs")
        found = [registers.pc]
        may_be_real = CpuMode.REAL16 in possible_modes(registers) and pc <= _MOST_OFFSET
        if may_be_real and cs is not None and not self._stub.info_registers:
            found += [pc, linear_pc(pc, CpuMode.REAL16, cs=cs)]
        return tuple(dict.fromkeys(found))

    def is_behind(self, thread: ThreadId | None) -> None:
        """Note that ``g`` has the pc behind its place, as long as the target stands."""
        self._behind.add(thread)
        self._snapshots.pop(thread, None)

    def found_at(self, thread: ThreadId | None, address: int) -> None:
        """Note where the next instruction is: a breakpoint that was hit has told."""
        registers = self.registers(thread)
        if registers.pc != address:
            self._found_at[thread] = registers.role(Role.PC), address
            self._snapshots.pop(thread, None)

    # --- registers ---

    def _not_sent(self, layout: RegisterLayout, length: int) -> list[str]:
        """Return the registers that the stub describes and ``g`` did not have."""
        if layout is not self._described or not self._asks_one:
            return []
        return [
            each.name
            for each in layout.registers
            if each.number is not None
            and each.valid != 0
            and (each.offset is None or each.offset + each.size > length)
        ]

    def _ask_one(self, thread: ThreadId | None, generation: int, register: Register) -> int | None:
        session = self._session
        stands = session.usable and not session.running and generation == self.generation
        if not stands or not self._asks_one or self._described is None:
            return None
        assert register.number is not None
        self._threads.focus(thread)
        reply = session.ask(commands.ReadRegister(number=register.number))
        self._asks_one = not isinstance(reply, replies.Unsupported)
        if not isinstance(reply, replies.RegisterBlock) or reply.unavailable is not None:
            return None
        return self._described.from_bytes(register.name, reply.data)

    def _read_block(self, thread: ThreadId | None) -> replies.RegisterBlock:
        self._threads.focus(thread)
        reply = self._session.ask(commands.ReadRegisters())
        if isinstance(reply, replies.RegisterBlock):
            return reply
        if isinstance(reply, replies.Unsupported):
            raise UnsupportedCommand("this stub gives no registers (g)", command="g")
        raise StubError(
            f"the stub refused to give the registers of thread {thread}", code=reply.code
        )

    def _layout(self, length: int) -> RegisterLayout:
        """Choose the layout by what has come: with QEMU up to 2.8 it follows the CPU's mode."""
        described = self._described
        if described is not None:
            return described
        if self._stub.layout_follows_mode and length == _LENGTH_OF_OLD_QEMU:
            # It has shown that it is the 64-bit one; its 32-bit layout has two numberings.
            self._family = _OLD_QEMU
        return layout_for_length(length, stub=self._family)

    def _write_whole(
        self, thread: ThreadId | None, before: Registers, name: str, value: int
    ) -> replies.Ok | replies.ErrorReply | replies.Unsupported:
        layout = before.layout
        register = layout[name]
        assert isinstance(register, Register)
        reply: replies.Ok | replies.ErrorReply | replies.Unsupported = replies.Unsupported()
        number = self._number(before, register)
        if number is not None:
            reply = self._session.ask(
                commands.WriteRegister(number=number, data=layout.to_bytes(name, value))
            )
        limits = self._session.connection.limits
        if isinstance(reply, replies.Unsupported) and limits.write_all_registers:
            block = self._read_block(thread)
            start = register.offset
            if block.unavailable is None and start is not None:
                data = bytearray(block.data)
                data[start : start + register.size] = layout.to_bytes(name, value)
                reply = self._session.ask(commands.WriteRegisters(data=bytes(data)))
        return reply

    def _number(self, before: Registers, register: Register) -> int | None:
        """Return the number that ``P`` takes, None where ``P`` must not be sent.

        Where the layout follows the mode, the numbers may, too, and it is not known to which of two
        tables (QEMU's own up to 2.8 answers neither ``p`` nor ``P``): only one is taken for which
        ``p`` gives what ``g`` gave.
        """
        if not self._stub.layout_follows_mode:
            return register.number
        value = before[register.name]
        if value is None:
            return None
        layout = before.layout
        tables = (
            layout_for_length(layout.size, arch=layout.arch, stub=stub)
            for stub in (_OLD_QEMU, None)
        )
        for number in dict.fromkeys(_number_in(table, register.name) for table in tables):
            if number is not None:
                reply = self._session.ask(commands.ReadRegister(number=number))
                if isinstance(reply, replies.Unsupported):
                    return None
                if reply == replies.RegisterBlock(data=layout.to_bytes(register.name, value)):
                    return number
        return None

    # --- the mode ---

    def _pc(self, thread: ThreadId | None, generation: int, registers: Registers) -> int:
        pc = registers.role(Role.PC)
        found = self._found_at.get(thread)
        if found is not None and generation == self.generation and found[0] == pc:
            return found[1]
        mode = self._certain_mode(registers)
        base = None
        # In 64-bit mode CS has no base; elsewhere only the descriptor tells it.
        if mode is not CpuMode.LONG64 and self._stub.info_registers:
            if generation != self.generation:
                raise LocalProtocolError(
                    "this snapshot is of an earlier stop, and the base of CS that its pc needs was "
                    "not asked for then: take .pc before the target runs on"
                )
            if (state := self.state(thread)) is not None:
                mode, base = state.mode, state.segments["cs"].base
        if base is None and mode is CpuMode.REAL16:
            self._linear = self._linear or pc > _MOST_OFFSET
            if self._linear:
                return pc
        cs = registers.get("cs")
        return linear_pc(pc, mode, cs=cs, cs_base=base)

    def _certain_mode(self, registers: Registers) -> CpuMode:
        if self._stub.layout_follows_mode and registers.layout.arch == "x86-64":
            return CpuMode.LONG64
        mode = infer_mode(registers)
        if mode is CpuMode.UNKNOWN and not (registers.get("cs") or 0) & _PRIVILEGE:
            return self._stub.modes.get(registers.layout.arch, mode)
        return mode

    def _ask_state(self, thread: ThreadId | None) -> CpuState | None:
        number = thread.thread - 1 if thread is not None and thread.thread > 0 else 0
        try:
            if number == 0:
                state = parse_info_registers(self._session.monitor("info registers"))
                # The monitor has a current CPU of its own, which its `cpu` changes for good.
                if _is_of(state, self.registers(thread)):
                    return state
            blocks = self._session.monitor("info registers -a").split("CPU#")
            wanted = [block for block in blocks if block.split(maxsplit=1)[:1] == [str(number)]]
            return parse_info_registers(f"CPU#{wanted[0]}") if wanted else None
        except (StubError, RemoteProtocolError) as error:
            if not self._session.usable:
                raise
            logger.debug("no info registers: %s", error)
            return None


def _known_of_task(layout: RegisterLayout, values: list[int | None]) -> list[int | None]:
    """Drop what is not true of a task that no CPU executes; kgdb sends zeros for most of it.

    A kernel that has called a null pointer has a pc of 0, too, but not all others 0.
    """
    pairs = list(zip(layout.registers, values, strict=True))
    if any(value for each, value in pairs if each.kind in (Kind.INTEGER, Kind.CODE_POINTER)):
        return values
    return [value if each.role in (Role.SP, Role.FP) else None for each, value in pairs]


def _is_of(state: CpuState, registers: Registers) -> bool:
    shown = (state.pc, state.segments["cs"].selector, state.cr0)
    given = (registers.role(Role.PC), registers.get("cs"), registers.get("cr0"))
    return all(value is None or value == seen for value, seen in zip(given, shown, strict=True))


def _number_in(layout: RegisterLayout, name: str) -> int | None:
    found = layout[name]
    return found.number if isinstance(found, Register) else None
