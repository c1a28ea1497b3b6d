"""The corpus: streams of live stubs, played again through the whole stack.

Our own logs are replayed as a transport, with the session that made them. Those of gdb are fed to
the wire layer: what gdb sent must be what ours sends, byte for byte, and what came must come out
typed. tests/lab/record_corpus.py says how they are recorded.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rsp
from lab.corpus import CORPUS, GDB_LOGS, LOOK, SCRIPTS
from rsp.arch.description import parse_target_description
from rsp.recording import EntryKind, read_log
from rsp.transports.replay import ReplayTransport
from rsp.transports.wrapper import TransportWrapper
from rsp.wire import codec, commands, replies
from rsp.wire.commands import Unknown
from rsp.wire.events import NEED_DATA, Console, Reply
from rsp.wire.framing import Deframer, FrameKind
from rsp.wire.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rsp.arch.layout import RegisterLayout
    from rsp.transports.base import Transport
    from rsp.wire.events import Event

LOGS = {path.stem: path for path in sorted(CORPUS.glob("*.rsplog"))}

# gdb's questions about tracepoints, which no stub for x86 answers with more than nothing.
UNTYPED = {b"qTStatus", b"qTfV", b"qTsV", b"qTfP", b"qTsP"}


def stored(name: str) -> dict[str, Any]:
    loaded = json.loads((CORPUS / f"{name}.json").read_text(encoding="ascii"))
    assert isinstance(loaded, dict)
    return loaded


def test_the_corpus_is_whole() -> None:
    assert set(LOGS) == {*SCRIPTS, *GDB_LOGS}
    assert len(LOGS) >= 8


@pytest.mark.parametrize("name", LOGS)
def test_a_log_is_small_and_says_nothing_of_the_machine_it_was_made_on(name: str) -> None:
    text = LOGS[name].read_bytes()
    assert len(text) < 200_000
    sent = b"".join(entry.data for entry in read_log(LOGS[name]))
    found = b"".join(
        bytes.fromhex(word.decode()) for word in re.findall(rb"(?:[0-9a-f]{2}){8,}", sent)
    )
    for source in (text, sent, found, (CORPUS / f"{name}.json").read_bytes()):
        paths = re.findall(rb"/(?:work|root|home|tmp|build)\b[\w./-]*", source)
        assert set(paths) <= {b"/tmp/subject"}


# --- our own, through the whole stack ---


class Pieces(TransportWrapper):
    """A replay whose reads are cut into pieces of at most so many bytes, in turn."""

    def __init__(self, inner: ReplayTransport, sizes: Sequence[int]) -> None:
        super().__init__(inner)
        self.sizes, self.turn = sizes, 0

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        self.turn += 1
        return super().read(min(max_bytes, self.sizes[self.turn % len(self.sizes)]), timeout)


def replay(name: str, stub: str | Transport) -> None:
    expected = stored(name)
    with rsp.connect(stub) as target:
        answers = SCRIPTS[name](target, expected["symbols"])
    # What was stored has been JSON, where a tuple is a list.
    assert json.loads(json.dumps(answers)) == expected["answers"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_session_has_the_answers_that_it_had_live(name: str) -> None:
    replay(name, f"replay:{LOGS[name]}")


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("sizes", [(1,), (2, 3), (7, 1, 4096)])
def test_a_session_in_pieces(name: str, sizes: tuple[int, ...]) -> None:
    replay(name, Pieces(ReplayTransport(LOGS[name]), sizes))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_replay_is_strict(name: str) -> None:
    """Otherwise the tests above could pass with any log."""
    with pytest.raises(rsp.ReplayMismatch):
        read_elsewhere(f"replay:{LOGS[name]}")


def read_elsewhere(address: str) -> None:
    with rsp.connect(address) as target:
        target.read_memory(0x123456, 7)


# --- any log, through the wire ---


class Client:
    """A Connection that is led through a log: it sends what was sent, and is fed what came.

    Attributes:
        events: all that came out.
        annexes: the documents of the target description, as far as they have been read.
        blocks: the ``g`` replies, each with the number of LOOK commands before it.
    """

    def __init__(self, reliable: bool = True) -> None:
        self.connection = rsp.Connection(
            Limits(packet_size=1 << 16, write_all_registers=True, reliable=reliable)
        )
        self.sent = Deframer()
        self.events: list[Event] = []
        self.annexes: dict[str, bytes] = {}
        self.blocks: list[replies.RegisterBlock] = []
        self.looks: list[replies.RegisterBlock] = []
        self.looking = False

    def send(self, data: bytes) -> None:
        """Let the connection send what was sent, and compare the bytes, acks included."""
        self.sent.receive_data(data)
        while (frame := self.sent.next_frame()) is not None:
            match frame.kind:
                case FrameKind.PACKET:
                    payload = codec.decode(frame.data, 1 << 16)
                    command = commands.parse(payload)
                    assert codec.frame(command.encode()) == codec.frame(payload)
                    assert not isinstance(command, Unknown) or payload in UNTYPED
                    self.connection.send(command, now=0.0)
                case FrameKind.INTERRUPT:
                    self.connection.interrupt(now=0.0)
                case _:
                    assert frame.kind is FrameKind.ACK
        if not self.events:
            data = data.removeprefix(
                b"+"
            )  # gdb's greeting, in case a reply was left unacknowledged
        assert self.connection.data_to_send() == data

    def receive(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self.connection.receive_data(piece, now=0.0)
            while (event := self.connection.next_event()) is not NEED_DATA:
                self.keep(event)

    def keep(self, event: Event) -> None:
        self.events.append(event)
        match event:
            case Reply(command=commands.XferRead(object="features") as read, value=value):
                assert isinstance(value, replies.XferData)
                have = self.annexes.get(read.annex, b"")[: read.offset]
                self.annexes[read.annex] = have + value.data
            case Reply(value=replies.RegisterBlock() as block):
                self.blocks.append(block)


def led_through(name: str, cut: Callable[[bytes], list[bytes]] = lambda data: [data]) -> Client:
    """Return a client that has been led through a log of ours or gdb's."""
    entries = list(read_log(LOGS[name]))
    client = Client(reliable=not any(b"unreliable" in entry.data for entry in entries[:1]))
    outgoing = b""
    for entry in entries:
        if entry.kind is EntryKind.SENT:
            outgoing += entry.data
            continue
        if outgoing:
            client.send(outgoing)
            outgoing = b""
        if entry.kind is EntryKind.RECEIVED:
            client.receive(cut(entry.data))
        elif entry.kind is EntryKind.COMMENT:
            # gdb has read the registers when it stopped; what it shows is what came last.
            if client.looking:
                client.looks.append(client.blocks[-1])
            client.looking = entry.data == LOOK.encode()
    if outgoing:
        client.send(outgoing)
    return client


@pytest.mark.parametrize("name", GDB_LOGS)
def test_gdb_s_bytes_are_ours(name: str) -> None:
    """Every request of gdb's is one of our commands, sent as gdb sent it, acks included."""
    client = led_through(name)
    answered = [event for event in client.events if isinstance(event, Reply)]
    assert len(answered) > 50
    assert not any(isinstance(event, Console) for event in client.events)
    untyped = [event for event in answered if isinstance(event.value, replies.Raw)]
    assert {event.command.encode() for event in untyped} <= UNTYPED


@pytest.mark.parametrize("name", GDB_LOGS)
def test_registers_are_what_gdb_printed(name: str) -> None:
    client = led_through(name)
    layout = parse_target_description(client.annexes.__getitem__).layout()
    assert layout is not None
    printed = stored(name)["registers"]
    assert len(client.looks) == len(printed) >= 2
    for block, shown in zip(client.looks, printed, strict=True):
        values = layout.decode(block.data, block.unavailable)
        known = {register: number for register, number in shown.items() if register in layout}
        assert len(known) > 50
        assert {register: f"{read(layout, values, register):#x}" for register in known} == known
    assert client.looks[0].data != client.looks[-1].data


def read(layout: RegisterLayout, values: dict[str, int | None], name: str) -> int:
    value = values[name] if name in values else layout.read(values, name)
    assert value is not None
    return value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(data=st.data())
@pytest.mark.parametrize("name", GDB_LOGS)
def test_any_chunking_of_gdb_s_logs_gives_the_same_events(name: str, data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 300), min_size=1, max_size=20))

    def cut(whole: bytes) -> list[bytes]:
        pieces, turn = [], 0
        while whole:
            size = sizes[turn % len(sizes)]
            pieces.append(whole[:size])
            whole, turn = whole[size:], turn + 1
        return pieces

    assert led_through(name, cut).events == led_through(name).events


def frames(name: str, sizes: Sequence[int]) -> list[tuple[FrameKind, bytes]]:
    """Return the frames of all that a stub sent, the text between packets joined."""
    stream = b"".join(e.data for e in read_log(LOGS[name]) if e.kind is EntryKind.RECEIVED)
    deframer, found, turn = Deframer(), [], 0
    while stream:
        size = sizes[turn % len(sizes)]
        deframer.receive_data(stream[:size])
        stream, turn = stream[size:], turn + 1
        while (frame := deframer.next_frame()) is not None:
            found.append((frame.kind, frame.data))
    return found


@given(sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=20))
@settings(max_examples=10)
@pytest.mark.parametrize("name", LOGS)
def test_any_chunking_gives_the_same_frames(name: str, sizes: list[int]) -> None:
    whole = frames(name, [1 << 20])
    assert frames(name, sizes) == whole
    assert {kind for kind, _ in whole} <= {FrameKind.PACKET, FrameKind.ACK}
    assert len(whole) > 30
