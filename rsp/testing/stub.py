"""A stub to test clients with: a machine of a few registers and pages, and its packets.

Contents: Stub, which takes bytes and returns bytes; ``serve`` puts it on a transport or a port. It
reads commands with ``commands.parse`` and writes replies with ``encode_reply``, the tables that the
client reads and writes with too, and it is strict: what would harm the stub that it plays is noted
in ``violations``. The machine behind it is in ``machine``, whom it can play in ``personalities``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from rsp.arch.modes import CpuMode
from rsp.errors import RemoteProtocolError
from rsp.testing.machine import INVALID, Machine
from rsp.testing.personalities import PLAIN, Personality, UntilAck, describe
from rsp.wire import codec, commands, replies, stops
from rsp.wire.commands import Command
from rsp.wire.framing import Deframer, FrameKind
from rsp.wire.replies import ErrorReply, Ok, Reply, Unsupported
from rsp.wire.signals import Signal
from rsp.wire.syntax import encode_text

if TYPE_CHECKING:
    from rsp.testing.cpu import Cpu, State

Answer: TypeAlias = Reply | bytes | Sequence["Reply | bytes"]
"""A reply, or a payload as it is, or several of them."""
Hook: TypeAlias = Callable[["Stub", Command], Answer | None]

_INTERRUPT: Final = 0x03


class Stub(Machine):
    """A scripted stub; sans I/O.

    >>> stub = Stub(registers={"rax": 0x1234, "rip": 0x1000}, memory={0x1000: b"code"})
    >>> stub.receive(b"$m1000,2#8c")
    b'+$636f#05'

    Args:
        personality: whom it plays.
        registers: of the first thread, by their names in x86-64.
        mode: its mode.
        memory: what lies where.
        program: the states that the first thread goes through, one for each instruction. At the
            end it stays in the last one, running.
        threads: further threads by their id.
        thread: the id of the first.
        end: what is reported at the end of the program: a process exits.
        loop: the index in the program that follows the last one.

    Attributes:
        violations: what was sent to it that does harm; the test asserts that there is nothing.
        received: the payloads of all packets, in order.
        answers: payloads, and what they are answered with instead; an iterator is used up.
        hooks: called for each command; the first that does not return None gives the answer.
        breakpoints: what is set now, with the length.
        threads: by id as it is spelled.
        running: whether the target runs.
        physical: whether addresses are physical (QEMU).
        detached: whether ``D`` came.
        dead: the stub has crashed, or ended with its target.
    """

    running: bool

    def __init__(
        self,
        personality: Personality = PLAIN,
        *,
        registers: Mapping[str, int] | None = None,
        mode: CpuMode = CpuMode.LONG64,
        memory: Mapping[int, bytes] | None = None,
        program: Sequence[State] = (),
        threads: Mapping[str, Cpu] | None = None,
        thread: str = "01",
        end: Reply | None = None,
        loop: int | None = None,
    ) -> None:
        super().__init__(
            personality,
            registers=registers,
            mode=mode,
            memory=memory,
            program=program,
            threads=threads,
            thread=thread,
            end=end,
            loop=loop,
        )
        self.received: list[bytes] = []
        self.answers: dict[bytes, Answer | Iterator[Answer]] = {}
        self.hooks: list[Hook] = []
        self.detached: bool = False
        self.dead: bool = False
        self._first = thread
        self._thread_chosen = False
        self._xml = describe(personality.register_layout(long_mode=True))
        # The line.
        self._acks = True
        self._unacked = False
        self._last_sent = b""
        self._input = bytearray()
        self._deframer = Deframer()
        self._out = bytearray()

    # --- the line ---

    def connected(self) -> bytes:
        """Return what the stub sends to a new client."""
        self._acks, self._unacked, self._last_sent = True, False, b""
        self._input.clear()
        self._deframer.reset()
        if self.personality.stopped_by_any_byte and self.running:
            self.running = False
            if self.personality.greeting:
                self._send(self._stop_reply(int(Signal.SIGINT)))
        return self._take_out()

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the client, and return the answer's."""
        self._input += data
        while self._input and not self.dead:
            if self.running:
                self._while_running(self._input[0])
            else:
                self._read_packets()
        return self._take_out()

    def stop(self, signal: int = int(Signal.SIGINT)) -> bytes:
        """Stop the target by itself, and return what the client hears of it."""
        self.running = False
        self._send(self._stop_reply(signal))
        return self._take_out()

    def _read_packets(self) -> None:
        self._deframer.receive_data(bytes(self._input))
        self._input.clear()
        while not (self.running or self.dead):
            frame = self._deframer.next_frame()
            if frame is None:
                return
            self._on_frame(*frame)
        self._input += self._deframer.reset()

    def _while_running(self, byte: int) -> None:
        who = self.personality
        del self._input[0]
        if self._unacked and byte == ord("+"):
            self._unacked = False  # of an O packet
        elif byte == _INTERRUPT and who.interrupted_by is not None:
            self.running = False
            self._send(self._stop_reply(who.interrupted_by))
        else:
            self.violations.append(f"a byte {byte:#04x} while the target runs")
            if who.stopped_by_any_byte:
                self.running = False
                self._send(self._stop_reply(int(Signal.SIGINT)))

    def _on_frame(self, kind: FrameKind, data: bytes) -> None:
        who = self.personality
        if kind is FrameKind.ACK:
            self._unacked = False
        elif kind is FrameKind.NAK:
            if who.understands_nak and self._last_sent:
                self._out += self._last_sent
        elif kind is FrameKind.CORRUPT:
            if self._acks:
                self._out += b"-"
        elif kind is FrameKind.PACKET:
            if self._unacked and not self._is_taken(data):
                return
            self._unacked = False
            if self._acks:
                self._out += b"+"
            self._on_packet(codec.decode(data, 1 << 20))
        elif self._unacked and who.until_ack is UntilAck.RESENDS:
            self._out += self._last_sent * len(data)

    def _is_taken(self, raw: bytes) -> bool:
        """Whether a packet is read that comes where a ``+`` should."""
        who = self.personality
        if who.until_ack is UntilAck.REFUSES:
            self.violations.append(f"{raw[:20]!r} before the + of the last reply")
            self._unacked = False
            self._out += b"-"
            return False
        if who.until_ack is UntilAck.RESENDS:
            self.violations.append(f"{raw[:20]!r} before the + of the last reply")
            self._out += self._last_sent * (len(raw) + 4)
            return False
        if raw[:1] in (b"c", b"s", b"C", b"S") or raw.startswith(b"vCont;"):
            self.violations.append(f"{raw[:20]!r} before the + of the last reply")
        return True

    def _on_packet(self, payload: bytes) -> None:
        self.received.append(payload)
        canned = self.answers.get(payload)
        if isinstance(canned, Iterator):
            canned = next(canned, None)
        try:
            command = commands.parse(payload)
        except RemoteProtocolError:
            self.violations.append(f"a malformed packet: {payload[:60]!r}")
            command = commands.Unknown(payload=payload)
        self._check(command, payload)
        if self.dead:
            return
        answer: Answer | None = canned
        for hook in self.hooks:
            answer = hook(self, command) if answer is None else answer
        if answer is None:
            answer = self._answer(command)
        if answer is None:
            return
        for part in [answer] if isinstance(answer, Reply | bytes) else answer:
            self._send(part, command)
        if isinstance(command, commands.StartNoAckMode):
            self._acks = self._unacked = False

    def _send(self, reply: Reply | bytes, command: Command | None = None) -> None:
        who = self.personality
        payload = reply if isinstance(reply, bytes) else self._encode(reply, command)
        if who.upper_case and isinstance(reply, replies.MemoryData | replies.RegisterBlock):
            payload = payload.upper()
        raw = codec.escape(payload) if who.escape == codec.ESCAPE else _escape(payload, who.escape)
        if who.run_length:
            raw = codec.collapse_runs(raw)
        digits = b"%02X" if who.upper_case else b"%02x"
        self._last_sent = b"$%b#" % raw + digits % codec.checksum(raw)
        self._out += self._last_sent
        self._unacked = self._acks

    def _encode(self, reply: Reply, command: Command | None) -> bytes:
        dialect = self.personality.dialect
        if command is None or isinstance(reply, ErrorReply | Unsupported):
            return reply.encode(dialect)
        return command.encode_reply(reply, dialect)

    def _take_out(self) -> bytes:
        out = bytes(self._out)
        self._out.clear()
        return out

    # --- the rules ---

    def _check(self, command: Command, payload: bytes) -> None:
        who = self.personality
        wrong = ""
        match command:
            case commands.Kill() | commands.KillProcess():
                wrong = "ends the target"
            case commands.ReverseStep() | commands.ReverseContinue() if not self._offers_reverse():
                wrong, self.dead = "was not offered", True
            case commands.ReadMemory(length=length) if length > (who.most_read or 1 << 20):
                wrong = f"overruns a buffer for {who.most_read} bytes"
            case commands.ReadMemory(length=length) if length * 2 > who.packet_size:
                wrong = f"asks for more than a packet of {who.packet_size} can hold"
            case commands.WriteRegisters() if who.write_all_in_64_only and not self._long_mode:
                wrong = "writes wrong registers outside 64-bit mode"
            case commands.WriteRegisters(data=data) if len(data) != self.layout.size:
                wrong = f"has {len(data)} bytes of registers, not {self.layout.size}"
            case commands.XferRead(object="features") if (
                who.first_thread_then_xml and not self._thread_chosen
            ):
                wrong, self.dead = "fails an assertion before Hg", True
            case commands.QueryStop() if who.drops_points_on_query and self.breakpoints:
                wrong = "removes the breakpoints"
        if len(payload) > who.packet_size:
            wrong = f"is longer than {who.packet_size}"
        if wrong:
            self.violations.append(f"{payload[:40]!r} {wrong}")

    def _offers_reverse(self) -> bool:
        features = self.personality.features
        return features is not None and features.supports("ReverseStep")

    # --- answers ---

    def _answer(self, command: Command) -> Answer | None:
        who = self.personality
        match command:
            case commands.QuerySupported(features=offered):
                self._multiprocess = offered.supports("multiprocess") and bool(
                    who.features and who.features.supports("multiprocess")
                )
                return Unsupported() if who.features is None else replies.Supported(
                    features=who.features
                )  # fmt: skip
            case commands.StartNoAckMode() if who.features and who.features.supports(
                "QStartNoAckMode"
            ):
                return Ok()
            case commands.QueryStop():
                if who.drops_points_on_query:
                    self.breakpoints.clear()
                self._thread_chosen = True
                return self._with_thread(self._last_stop)
            case commands.SelectThread(operation=operation, thread=thread):
                self._thread_chosen = True
                return self._select(operation, thread)
            case commands.IsThreadAlive(thread=thread):
                return Ok() if self._key(thread) in self.threads else INVALID
            case commands.Detach() if "D" in who.commands:
                self.breakpoints.clear()
                self.detached = True
                self.running = True
                return Ok()
        return self._answer_about_state(command)

    def _answer_about_state(self, command: Command) -> Answer | None:
        who = self.personality
        match command:
            case commands.ReadRegisters():
                return self._block()
            case commands.WriteRegisters(data=data) if "G" in who.commands:
                return self._write_all(data)
            case commands.ReadRegister(number=number) if "p" in who.commands:
                return self._read_register(number)
            case commands.WriteRegister(number=number, data=data) if "P" in who.commands:
                return self._write_register(number, data)
            case commands.ReadMemory(address=address, length=length):
                return self._read_memory(address, length)
            case commands.WriteMemory(address=address, data=data):
                return self._write_memory(address, data)
            case commands.WriteMemoryBinary(address=address, data=data) if "X" in who.commands:
                return self._write_memory(address, data)
            case commands.InsertBreakpoint() | commands.RemoveBreakpoint():
                return self._set_breakpoint(command)
        return self._answer_to_query(command)

    def _answer_to_query(self, command: Command) -> Answer | None:
        who = self.personality
        match command:
            case commands.QueryVCont() if who.actions:
                return replies.ResumeActions(actions=who.actions)
            case commands.QueryFirstThreads():
                self._list_at = 0
                return self._thread_list()
            case commands.QueryNextThreads():
                return self._thread_list()
            case commands.QueryCurrentThread() if not who.names_current_thread:
                return b"0000000000000001"
            case commands.QueryCurrentThread():
                return replies.CurrentThread(thread=self._id(self._first))
            case commands.QueryThreadExtraInfo(thread=thread):
                cpu = self.threads.get(self._key(thread))
                return replies.ThreadExtraInfo(text=cpu.name) if cpu and cpu.name else Unsupported()
            case commands.XferRead(object="features", annex="target.xml") if who.described:
                part = self._xml[command.offset : command.offset + command.length]
                last = command.offset + command.length >= len(self._xml)
                return replies.XferData(data=part, last=last)
            case commands.QueryStepBits() if "qqemu.sstepbits" in who.queries:
                return replies.StepBits(enable=1, no_irq=2, no_timer=4)
            case commands.QueryPhysicalMemoryMode() if "qqemu.PhyMemMode" in who.queries:
                return replies.PhysicalMemoryMode(enabled=self.physical)
            case commands.SetPhysicalMemoryMode(enabled=enabled) if (
                "Qqemu.PhyMemMode" in who.queries
            ):
                self.physical = enabled
                return Ok()
            case commands.Monitor(command=text) if "qRcmd" in who.queries:
                said = self.monitor(text)
                return [stops.Output(data=encode_text(said)), Ok()] if said else Ok()
        if command.resumes:
            return self._resume(command)
        return Unsupported()

    def monitor(self, command: str) -> str:
        """Return what the monitor prints; a subclass gives it words."""
        return f"unknown command: '{command}'\n"


def _escape(payload: bytes, escape: int) -> bytes:
    special = (*b"$#*", escape)
    return b"".join(
        bytes((escape, byte ^ 0x20)) if byte in special else bytes((byte,)) for byte in payload
    )


def assert_harmless(stub: Stub) -> None:
    """Fail when a stub was sent what does harm, or something of the client's is left in it.

    Raises:
        AssertionError: it was; the message says what.
    """
    left = [f"a breakpoint {key} is left" for key in stub.breakpoints]
    if stub.physical:
        left.append("physical addresses are left on")
    if stub.violations or left:
        raise AssertionError("; ".join([*stub.violations, *left]))
