"""Every state and every input of a Connection, against a stub that is modelled in twenty lines."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rsp.errors import LocalProtocolError, RemoteProtocolError, RspTimeout
from rsp.wire import commands, replies, stops
from rsp.wire.codec import frame
from rsp.wire.connection import Connection
from rsp.wire.events import NEED_DATA, Closed, Notification, Output, Reply, Unsolicited
from rsp.wire.framing import Deframer, FrameKind
from rsp.wire.limits import Limits
from rsp.wire.states import TRANSITIONS, State, Trigger


def contents(address: int) -> bytes:
    """Return what the model stub has at an address: no two are the same."""
    return address.to_bytes(4, "big")


class ModelStub:
    """Answers `m`, `?` and resumes; notes bytes that it must not get."""

    def __init__(self, *, acks: bool) -> None:
        self.to_client = bytearray()
        self.running = False
        self.harm: list[bytes] = []
        self._acks = acks
        self._deframer = Deframer()
        self._last = b""

    def receive(self, data: bytes) -> None:
        if self.running:
            # Acks of what was sent before do no harm in the model.
            rest = data.replace(b"+", b"")
            self.harm += [rest] if rest.strip(b"\x03") else []
            if b"\x03" in rest:
                self.stop(b"T02thread:01;")
            return
        self._deframer.receive_data(data)
        while not self._runs() and (found := self._deframer.next_frame()) is not None:
            if found.kind is FrameKind.NAK:
                self.to_client += self._last
            elif found.kind is FrameKind.PACKET:
                if self._acks:
                    self.to_client += b"+"
                self._answer(commands.parse(found.data))
        if behind := self._deframer.reset():
            self.harm.append(behind)

    def _runs(self) -> bool:
        return self.running

    def stop(self, payload: bytes) -> None:
        self.running = False
        self.send(payload)

    def send(self, payload: bytes) -> None:
        self._last = frame(payload)
        self.to_client += self._last

    def _answer(self, command: commands.Command) -> None:
        match command:
            case commands.ReadMemory(address=address):
                self.send(contents(address).hex().encode())
            case commands.Continue() | commands.Step():
                self.running = True
            case commands.Detach():
                self.send(b"E01")
            case _:
                self.send(b"")


class ConnectionMachine(RuleBasedStateMachine):
    """Sends, receives, waits and fails in any order."""

    @initialize(
        limits=st.sampled_from(
            [
                Limits(),
                Limits(window=4),
                Limits(window=4, optimistic_ack=True),
                Limits(reliable=False),
            ]
        ),
        acks=st.booleans(),
    )
    def start(self, limits: Limits, acks: bool) -> None:
        self.connection = Connection(limits)
        self.now = 0.0
        self.asked: list[commands.Command] = []
        self.resumed = False
        self.failed: Exception | None = None
        self.closed = False
        self.faults = 0
        self.spoiled = False
        self.unasked = 0
        if not acks:
            self.connection.send(commands.StartNoAckMode(), self.now)
            self.connection.receive_data(b"+$OK#9a", self.now)
            self.connection.next_event()
            self.connection.data_to_send()
        self.acks = acks
        self.stub = ModelStub(acks=acks)

    # --- what the caller does ---

    @rule(address=st.integers(0, 2**32 - 1))
    def read(self, address: int) -> None:
        self.send(commands.ReadMemory(address=address, length=4))

    @rule(command=st.sampled_from([commands.Detach(), commands.QueryOffsets()]))
    def ask(self, command: commands.Command) -> None:
        self.send(command)

    @rule(command=st.sampled_from([commands.Continue(), commands.Step()]))
    def resume(self, command: commands.Command) -> None:
        self.send(command)

    def send(self, command: commands.Command) -> None:
        allowed = self.failed is None and not self.resumed and not self.closed
        if not allowed:
            expected = (LocalProtocolError, RemoteProtocolError, RspTimeout)
            with pytest.raises(expected):
                self.connection.send(command, self.now)
            return
        self.connection.send(command, self.now)
        self.asked.append(command)
        self.resumed = command.resumes
        self.flush()

    @rule()
    def interrupt(self) -> None:
        if self.connection.state is State.RUNNING:
            self.connection.interrupt(self.now)
            self.flush()
        else:
            with pytest.raises((LocalProtocolError, RemoteProtocolError, RspTimeout)):
                self.connection.interrupt(self.now)

    @rule()
    def wait(self) -> None:
        deadline = self.connection.next_deadline()
        if deadline is None:
            return
        # While an answer is on its way, only what is due at once is done.
        if self.stub.to_client and deadline > self.now + 0.5:
            return
        self.now = max(self.now, deadline)
        try:
            self.connection.handle_timeout(self.now)
        except (RemoteProtocolError, RspTimeout) as error:
            self.fail(error)
        self.flush()

    def flush(self) -> None:
        data = self.connection.data_to_send()
        assert self.connection.data_to_send() == b""
        if data and not self.closed:
            self.stub.receive(data)

    # --- what the stub and the line do ---

    @rule(size=st.integers(1, 40))
    def deliver(self, size: int) -> None:
        data = bytes(self.stub.to_client[:size])
        del self.stub.to_client[:size]
        self.spoiled = self.spoiled and bool(self.stub.to_client)
        if data and not self.closed:
            self.receive(data)

    @rule()
    def deliver_all(self) -> None:
        self.deliver(1 << 20)

    def receive(self, data: bytes) -> None:
        self.connection.receive_data(data, self.now)
        try:
            while (event := self.connection.next_event()) is not NEED_DATA:
                self.check(event)
                if isinstance(event, Closed):
                    break
        except (RemoteProtocolError, RspTimeout) as error:
            self.fail(error)
        self.flush()

    @precondition(lambda self: self.stub.running)
    @rule()
    def stop(self) -> None:
        self.stub.stop(b"T05thread:01;")

    @precondition(lambda self: not self.stub.running and self.unasked < 2)
    @rule()
    def stop_unasked(self) -> None:
        self.unasked += 1
        # In front of all that is under way, and not amid a packet.
        if not self.stub.to_client:
            self.stub.to_client += frame(b"T05thread:01;")
            if not (self.acks and self.connection.limits.reliable):
                self.deliver_all()  # a resume that was sent meanwhile would seem answered

    @rule()
    def notify(self) -> None:
        if not self.stub.to_client:
            self.stub.to_client += b"%Stop:T05#99"

    @precondition(lambda self: self.faults < 3 and not self.spoiled)
    @rule(place=st.integers(0, 60))
    def corrupt(self, place: int) -> None:
        """Change a digit, so that the framing stays and the checksum is wrong.

        Two such faults in one packet may hide each other from the sum.
        """
        data = self.stub.to_client
        if place < len(data) and chr(data[place]) in "0123456789abcdef" and b"T05" not in data:
            self.faults += 1
            self.spoiled = True
            data[place] ^= 1

    @precondition(lambda self: not self.closed)
    @rule()
    def close(self) -> None:
        self.closed = True
        if self.failed is None:
            self.receive(b"")

    # --- what must be so ---

    def check(self, event: object) -> None:
        match event:
            case Reply(command=command, value=value):
                assert command is self.asked.pop(0), "replies out of order"
                match command:
                    case commands.ReadMemory(address=address):
                        assert value == replies.MemoryData(data=contents(address))
                    case commands.Detach():
                        assert value == replies.ErrorReply(code=1)
                    case commands.QueryOffsets():
                        assert value == replies.Unsupported()
                    case _:
                        assert isinstance(value, stops.Stopped)
                        self.resumed = False
            case Unsolicited(value=value):
                assert isinstance(value, stops.Stopped)
            case Closed(unanswered=unanswered):
                assert unanswered == len(self.asked)
            case Output():
                raise AssertionError("nobody printed anything")
            case Notification(name=name):
                assert name == "Stop"

    def fail(self, error: Exception) -> None:
        # Without a fault on the line nothing may fail.
        assert self.faults, error
        self.failed = error

    @invariant()
    def the_stub_is_not_harmed(self) -> None:
        assert not self.stub.harm

    @invariant()
    def the_state_is_right(self) -> None:
        state = self.connection.state
        if self.failed is not None:
            assert state is State.ERROR
        elif self.closed:
            assert state is State.CLOSED
        else:
            assert state in (State.STOPPED, State.RUNNING)
            assert self.connection.unanswered == len(self.asked)
            if state is State.RUNNING:
                assert self.resumed


TestConnectionMachine = ConnectionMachine.TestCase
TestConnectionMachine.settings = settings(stateful_step_count=40)


def test_every_state_has_its_transitions_and_the_last_ones_have_none() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.ERROR] == TRANSITIONS[State.CLOSED] == {}
    for state in (State.STOPPED, State.RUNNING):
        assert TRANSITIONS[state][Trigger.CLOSE] is State.CLOSED
        assert TRANSITIONS[state][Trigger.FAULT] is State.ERROR
    reached = {State.STOPPED} | {to for row in TRANSITIONS.values() for to in row.values()}
    assert reached == set(State)
