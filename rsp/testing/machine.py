"""A machine for tests: threads, memory, breakpoints and a program, as the stub in front shows them.

Contents: Machine: what commands do to it, given as the replies. The packets, and what may be sent,
are in ``stub``; the CPUs are in ``cpu``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from rsp.arch.layout import Role
from rsp.arch.modes import CpuMode
from rsp.testing.cpu import Cpu, State
from rsp.testing.memory import SparseMemory
from rsp.testing.personalities import Unreadable
from rsp.wire import commands, replies, stops
from rsp.wire.commands import ActionKind, BreakpointType, Command
from rsp.wire.replies import ErrorReply, Ok, Reply, Unsupported
from rsp.wire.signals import Signal
from rsp.wire.threads import ThreadId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rsp.arch.layout import Register, RegisterLayout
    from rsp.testing.personalities import Personality

Running: TypeAlias = "list[Reply | bytes] | Reply | None"
"""What is said of a resume now: output, then the stop; nothing while it runs."""

# Linux's EINVAL, EFAULT and EEXIST.
INVALID: Final = ErrorReply(code=22)
_FAULT: Final = ErrorReply(code=14)
_EXISTS: Final = ErrorReply(code=17)
# A program that comes round this often without a stop is taken to run for ever.
_MOST_STEPS: Final = 10_000
_WATCHED: Final = {
    BreakpointType.WRITE: stops.StopReason.WATCH,
    BreakpointType.ACCESS: stops.StopReason.AWATCH,
}
# What G and P may be spelled with in 32-bit layouts.
_HALVES: Final = {
    **{f"e{name}": f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip")},
}


class Machine:
    """What a `Stub` is in front of; the arguments and attributes are told there."""

    def __init__(
        self,
        personality: Personality,
        *,
        registers: Mapping[str, int] | None,
        mode: CpuMode,
        memory: Mapping[int, bytes] | None,
        program: Sequence[State],
        threads: Mapping[str, Cpu] | None,
        thread: str,
        end: Reply | None,
        loop: int | None,
    ) -> None:
        self.personality = personality
        self.cpu: Cpu = Cpu(registers, mode=mode)
        self.memory: SparseMemory = SparseMemory(dict(memory or {}))
        self.physical_memory: SparseMemory = SparseMemory()
        self.threads: dict[str, Cpu] = {thread: self.cpu, **(threads or {})}
        self.breakpoints: dict[tuple[BreakpointType, int], int] = {}
        self.running: bool = False
        self.violations: list[str] = []
        self._at_breakpoint = False  # whether the last stop was one
        self._behind_int3: int | None = None  # where an int3 in memory has left the pc
        self.physical = False
        self._program = tuple(program)
        self._at = -1
        self._loop = loop
        self._end = end
        self._stopped_in = thread
        self._focus = {"g": thread, "c": "-1"}
        self._multiprocess = False
        self._list_at = 0
        self._last_stop: Reply = stops.Stopped(signal=int(Signal.SIGTRAP))

    # --- threads ---

    def _select(self, operation: str, thread: ThreadId) -> Reply:
        key = self._key(thread)
        if thread.thread in (0, -1):
            self._focus[operation] = self._stopped_in if thread.thread == 0 else "-1"
        elif key not in self.threads:
            return INVALID
        else:
            self._focus[operation] = key
        return Ok()

    def _thread_list(self) -> Reply:
        ids = list(self.threads)[self._list_at : self._list_at + self.personality.threads_in_list]
        self._list_at += len(ids)
        return replies.ThreadList(threads=tuple(self._id(key) for key in ids), last=not ids)

    def _id(self, key: str) -> ThreadId:
        return ThreadId.parse(f"p01.{key}" if self._multiprocess else key)

    def _key(self, thread: ThreadId) -> str:
        return thread.text.rpartition(".")[2]

    # --- registers ---

    @property
    def layout(self) -> RegisterLayout:
        """How ``g`` is laid out now."""
        return self.personality.register_layout(long_mode=self._long_mode)

    @property
    def _long_mode(self) -> bool:
        return self._focused.mode is CpuMode.LONG64

    @property
    def _focused(self) -> Cpu:
        return self.threads.get(self._focus["g"], self.cpu)

    def _block(self) -> replies.RegisterBlock:
        layout, cpu = self.layout, self._focused
        data = bytearray(layout.size)
        for register in layout.registers:
            if register.offset is not None:
                at = register.offset
                data[at : at + register.size] = self._register_bytes(cpu, register)
        if self._at_breakpoint and (behind := self.personality.pc_behind_in_g):
            pc = layout.role(Role.PC)
            assert pc.offset is not None
            value = int.from_bytes(data[pc.offset : pc.offset + pc.size], "little") + behind
            data[pc.offset : pc.offset + pc.size] = value.to_bytes(pc.size, "little")
        return replies.RegisterBlock(data=bytes(data))

    def _register_bytes(self, cpu: Cpu, register: Register) -> bytes:
        value = cpu.registers.get(_HALVES.get(register.name, register.name), 0)
        halves = self.personality.write_all_in_64_only and cpu.mode is not CpuMode.LONG64
        if halves and register.name[:1] == "r" and register.bits == 64:
            # So QEMU shows the general registers then, and none of r8 to r15.
            value = 0 if register.name[1:].isdigit() else value & 0xFFFFFFFF
        return (value & ((1 << register.bits) - 1)).to_bytes(register.size, "little")

    def _set_register(self, cpu: Cpu, register: Register, data: bytes) -> None:
        name = _HALVES.get(register.name, register.name)
        value = int.from_bytes(data, "little")
        if cpu.mode is not CpuMode.LONG64 and register.name[:1] in "re":
            value &= 0xFFFFFFFF
        cpu.registers[name] = value

    def _by_number(self, number: int) -> Register | None:
        return next((r for r in self.layout.registers if r.number == number), None)

    def _read_register(self, number: int) -> Reply:
        register = self._by_number(number)
        if register is None:
            return _FAULT
        return replies.RegisterBlock(data=self._register_bytes(self._focused, register))

    def _write_register(self, number: int, data: bytes) -> Reply:
        register = self._by_number(number)
        if register is None or self._is_refused(self._focus["g"]):
            return INVALID
        if register.name not in self.personality.unwritable:
            self._set_register(self._focused, register, data)
        return Ok()

    def _write_all(self, data: bytes) -> Reply:
        layout, cpu = self.layout, self._focused
        if len(data) != layout.size or self._is_refused(self._focus["g"]):
            return INVALID
        for register in layout.registers:
            if register.offset is not None:
                at = register.offset
                self._set_register(cpu, register, data[at : at + register.size])
        return Ok()

    def _is_refused(self, thread: str) -> bool:
        return self.personality.only_current_thread and thread not in (self._stopped_in, "-1")

    # --- memory ---

    @property
    def _space(self) -> SparseMemory:
        return self.physical_memory if self.physical else self.memory

    def _read_memory(self, address: int, length: int) -> Reply:
        data = self._space.read(address, length)
        if len(data) == length:
            return replies.MemoryData(data=data)
        match self.personality.unreadable:
            case Unreadable.PREFIX if data:
                return replies.MemoryData(data=data)
            case Unreadable.GARBAGE:
                return replies.MemoryData(data=data.ljust(length, b"\xcc"))
        return _FAULT

    def _write_memory(self, address: int, data: bytes) -> Reply:
        return Ok() if self._space.write(address, data) else _FAULT

    # --- breakpoints ---

    def _set_breakpoint(
        self, command: commands.InsertBreakpoint | commands.RemoveBreakpoint
    ) -> Reply:
        who = self.personality
        if "Z" not in who.commands:
            return Unsupported()
        key = (command.type, command.address)
        if isinstance(command, commands.RemoveBreakpoint):
            found = self.breakpoints.pop(key, None)
            return Ok() if found is not None else INVALID
        used = sum(kind is not BreakpointType.SOFTWARE for kind, _ in self.breakpoints)
        if command.type is BreakpointType.SOFTWARE:
            if not self.memory.read(command.address, 1):
                return _FAULT
        elif used >= who.slots or command.type is BreakpointType.READ:
            return INVALID
        if key in self.breakpoints:
            return _EXISTS
        self.breakpoints[key] = command.kind
        return Ok()

    # --- running ---

    def _resume(self, command: Command) -> Running:
        step, thread = False, self._focus["c"]
        match command:
            case commands.Step() | commands.StepWithSignal():
                step = True
            case commands.Continue() | commands.ContinueWithSignal():
                pass
            case commands.VCont(actions=actions) if actions and self.personality.actions:
                first = actions[0]
                step = first.kind is ActionKind.STEP
                thread = self._key(first.thread) if first.thread is not None else "-1"
            case _:
                return Unsupported()
        if self._is_refused(thread):
            return INVALID
        if thread not in ("-1", "0") and thread in self.threads:
            self._stopped_in = self._focus["g"] = thread
        return self._run(step=step)

    def _run(self, *, step: bool) -> Running:
        self._at_breakpoint = False
        if self._behind_int3 == self.threads[self._stopped_in].pc:
            self.violations.append(f"goes on at {self._behind_int3:#x}, behind an int3 of ours")
        self._behind_int3 = None
        out: list[Reply | bytes] = []
        for _ in range(_MOST_STEPS):
            cpu = self.threads[self._stopped_in]
            if self._breakpoint_at(cpu.pc) is not None:
                # It is hit again before anything is executed.
                return [*out, self._stopped_at_breakpoint(cpu)]
            watched = None
            if cpu is self.cpu:
                if not self._advance():
                    break
                state = self._program[self._at]
                if state.output:
                    out.append(stops.Output(data=state.output))
                watched = self._watch(state)
                if state.signal:
                    return [*out, self._stop_reply(state.signal)]
            else:
                cpu.registers["rip"] = cpu.registers.get("rip", 0) + 1
            if watched is not None:
                return [*out, watched]
            if step:
                # The trap of a step comes before the int3 that lies there.
                return [*out, self._stop_reply(int(Signal.SIGTRAP))]
            if self._breakpoint_at(cpu.pc) is not None:
                return [*out, self._stopped_at_breakpoint(cpu)]
        if self._at + 1 >= len(self._program) and self._loop is None and self._end is not None:
            self._last_stop = self._end
            self.breakpoints.clear()
            return [*out, self._end]
        self.running = True
        return out or None

    def _advance(self) -> bool:
        """Execute one instruction of the program; False at its end."""
        following = self._at + 1
        if following >= len(self._program):
            if self._loop is None:
                return False
            following = self._loop
        self._at = following
        state = self._program[following]
        if state.mode is not None:
            self.cpu.switch(state.mode)
        self.cpu.registers.update(state.registers)
        for address, data in state.writes.items():
            self.memory.map(address, data)
        return True

    def _breakpoint_at(self, pc: int) -> BreakpointType | None:
        for kind in (BreakpointType.SOFTWARE, BreakpointType.HARDWARE):
            if (kind, pc) in self.breakpoints:
                return kind
        is_written = "Z" not in self.personality.commands and self.memory.read(pc, 1) == b"\xcc"
        return BreakpointType.SOFTWARE if is_written else None

    def _stopped_at_breakpoint(self, cpu: Cpu) -> Reply:
        self._at_breakpoint = True
        software = self._breakpoint_at(cpu.pc) is BreakpointType.SOFTWARE
        if software:
            behind = self.personality.pc_after_breakpoint
            if (BreakpointType.SOFTWARE, cpu.pc) not in self.breakpoints:
                behind = 1  # the CPU has executed it
                self._behind_int3 = cpu.pc + behind
            cpu.registers["rip"] = cpu.registers.get("rip", 0) + behind
        reason = stops.StopReason.SIGNAL
        if self.personality.says_swbreak:
            reason = stops.StopReason.SWBREAK if software else stops.StopReason.HWBREAK
        return self._stop_reply(int(Signal.SIGTRAP), reason=reason)

    def _watch(self, state: State) -> Reply | None:
        for (kind, start), length in self.breakpoints.items():
            for address, data in state.writes.items():
                hit = max(start, address)
                if kind in _WATCHED and hit < min(start + length, address + len(data)):
                    if not self.personality.says_watch:
                        return self._stop_reply(int(Signal.SIGTRAP))
                    return self._stop_reply(int(Signal.SIGTRAP), reason=_WATCHED[kind], address=hit)
        return None

    def _stop_reply(
        self,
        signal: int,
        *,
        reason: stops.StopReason = stops.StopReason.SIGNAL,
        address: int | None = None,
    ) -> Reply:
        self._last_stop = stops.Stopped(signal=signal, reason=reason, address=address)
        self._focus["g"] = self._stopped_in
        return self._with_thread(self._last_stop)

    def _with_thread(self, stop: Reply) -> Reply:
        if not isinstance(stop, stops.Stopped) or not self.personality.thread_in_stop:
            return stop
        return stops.Stopped(
            signal=stop.signal,
            reason=stop.reason,
            address=stop.address,
            thread=self._id(self._stopped_in),
        )
