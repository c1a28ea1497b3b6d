"""What bad input gets: one typed error that says what to do, in time, and nothing left behind.

Elapsed time is looked at as a guard against hanging only: the bound is many times the timeout.
"""

from __future__ import annotations

import contextlib
import functools
import random
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rsp
from rsp.errors import (
    ConnectionLost,
    LocalProtocolError,
    MemoryFault,
    RegisterUnavailable,
    RemoteProtocolError,
    RspError,
    RspTimeout,
    StubError,
    TargetAddressError,
    TransportError,
    UnsupportedCommand,
)
from rsp.testing import strategies
from rsp.testing.cpu import Cpu, State
from rsp.testing.faults import Fault, FaultyTransport
from rsp.testing.personalities import GDBSERVER, KGDB, PLAIN, QEMU, Personality
from rsp.testing.serve import StubTransport, connected, listening
from rsp.testing.stub import Stub
from rsp.transports.memory import MemoryTransport
from rsp.wire import commands, replies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rsp.transports.base import Transport

TIMEOUT = 0.3
HANGS = 240.0


@pytest.fixture(autouse=True)
def _nothing_hangs() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < HANGS


@contextlib.contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve one client behind a port with a function of the test's own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            with contextlib.suppress(OSError):
                client, _ = listener.accept()
                with client:
                    serve(client)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield "127.0.0.1:{1}".format(*listener.getsockname())
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(HANGS)
        assert not thread.is_alive()


def until_closed(client: socket.socket) -> None:
    while client.recv(4096):
        pass


def refused(address: str | Transport) -> RspError:
    """Return the error that connecting gives."""
    with pytest.raises(RspError) as caught, rsp.connect(address, timeout=TIMEOUT):
        pass
    assert len(str(caught.value)) < 1000
    return caught.value


# --- who is there ---


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "127.0.0.1:{1}".format(*listener.getsockname())
    error = refused(address)
    assert type(error) is TransportError
    assert "nothing listens at 127.0.0.1" in str(error)
    assert "QEMU started with -s" in str(error)


def test_nobody_listens_at_a_unix_socket(tmp_path: Any) -> None:
    error = refused(f"unix:{tmp_path}/gdb")
    assert type(error) is TransportError
    assert "no such" in str(error)


@pytest.mark.parametrize(
    "address", ["", "nonsense", "1234", "tcp:", ":notaport", "host:99999", "ftp://host:1", "|", ":"]
)
def test_a_wrong_form_of_address(address: str) -> None:
    error = refused(address)
    assert type(error) is TargetAddressError
    assert error.address == address
    for form in (":1234", "unix:/path", "/dev/ttyS0"):
        assert form in str(error)


def test_somebody_else_is_attached() -> None:
    """A second client of QEMU connects, and hears nothing."""
    with listening(Stub(QEMU)) as address, rsp.connect(address):
        error = refused(address)
    assert type(error) is RspTimeout
    assert "another client may be attached" in str(error)
    assert error.timeout == TIMEOUT


def test_a_silent_port() -> None:
    with server(until_closed) as address:
        error = refused(address)
    assert type(error) is RspTimeout
    assert address in str(error)


def test_a_port_that_hangs_up() -> None:
    with server(lambda client: None) as address:
        error = refused(address)
    assert isinstance(error, ConnectionLost)
    assert "is this a gdb stub" in str(error) or "connect again" in str(error)


SPEECHES = {
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
    "smtp": b"220 mail.example.org ESMTP Postfix (Debian/GNU)\r\n",
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n"
    b"<html><body><h1>400 Bad request</h1></body></html>\n",
    "vnc": b"RFB 003.008\n",
    "tls alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "mysql": b"J\0\0\0\n8.0.36\0\x0b\0\0\0" + bytes(range(1, 64)),
    "qmp": b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}}}\r\n',
    "prompt": b"\r\nlocalhost login: ",
    "monitor": b"QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ",
}


@pytest.mark.parametrize("name", SPEECHES)
def test_a_port_that_speaks_something_else(name: str) -> None:
    def speak(client: socket.socket) -> None:
        client.sendall(SPEECHES[name])
        until_closed(client)

    with server(speak) as address:
        error = refused(address)
    assert type(error) is RemoteProtocolError
    assert address in str(error)
    assert "is this the port of the gdb stub" in str(error)


@pytest.mark.parametrize("name", ["http", "ssh"])
def test_a_port_that_speaks_something_else_and_hangs_up(name: str) -> None:
    def speak(client: socket.socket) -> None:
        client.recv(1000)
        client.sendall(SPEECHES[name])

    with server(speak) as address:
        error = refused(address)
    assert type(error) in (ConnectionLost, RemoteProtocolError)
    assert address in str(error)


def test_a_port_that_sends_everything_back() -> None:
    def echo(client: socket.socket) -> None:
        while data := client.recv(4096):
            client.sendall(data)

    with server(echo) as address:
        error = refused(address)
    assert type(error) is RemoteProtocolError
    assert "does not speak the remote protocol" in str(error)


@pytest.mark.parametrize("seed", range(4))
def test_a_port_that_sends_noise(seed: int) -> None:
    def speak(client: socket.socket) -> None:
        noise = random.Random(seed)
        with contextlib.suppress(OSError):
            while True:
                client.sendall(noise.randbytes(4096))

    with server(speak) as address:
        error = refused(address)
    assert isinstance(error, RemoteProtocolError | RspTimeout)


@pytest.mark.parametrize(
    "forever", [b"+", b"-", b"$", b"#", b"x\n", b"$O6f#ff", b"$T05#b9", b"$#00"]
)
def test_a_port_that_never_stops_talking(forever: bytes) -> None:
    def speak(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client.sendall(forever * 1000)

    with server(speak) as address, contextlib.suppress(RspError):
        rsp.connect(address, timeout=TIMEOUT).detach()


# --- answers that are none ---


def answering(reply: Callable[[bytes], bytes]) -> contextlib.AbstractContextManager[Transport]:
    """Return a client's end whose other end answers each write with what a function makes of it."""

    @contextlib.contextmanager
    def pair() -> Iterator[Transport]:
        client, end = MemoryTransport.pair()

        def run() -> None:
            with contextlib.suppress(RspError), end:
                while data := end.read(1 << 16, None):
                    end.write(reply(data))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield client
        client.close()
        thread.join(HANGS)
        assert not thread.is_alive()

    return pair()


def test_a_wrong_checksum_for_ever() -> None:
    with answering(lambda data: b"+$OK#00" if b"#" in data else b"$OK#00") as client:
        error = refused(client)
    assert type(error) is RemoteProtocolError
    assert "no answer came whole" in str(error)


def test_a_nak_for_ever() -> None:
    with answering(lambda data: b"-") as client:
        error = refused(client)
    assert type(error) is RemoteProtocolError


def test_an_ack_and_nothing_more() -> None:
    with answering(lambda data: b"+") as client:
        error = refused(client)
    assert type(error) is RspTimeout


@pytest.mark.parametrize("answer", [b"+$OK", b"+$PacketSize=1000#f", b"+$", b"$Pack"])
def test_a_truncated_packet(answer: bytes) -> None:
    with answering(lambda data: answer) as client:
        error = refused(client)
    assert isinstance(error, RspTimeout | RemoteProtocolError)


def test_a_packet_without_end() -> None:
    started = []

    def flood(data: bytes) -> bytes:
        started.append(data)
        return b"+$" + bytes(1 << 22) if len(started) == 1 else b"a" * (1 << 20)

    with answering(flood) as client:
        error = refused(client)
    assert type(error) is RemoteProtocolError
    assert "more than 1048576 bytes" in str(error)


@pytest.mark.parametrize(
    "payload",
    [
        b"PacketSize=zz",
        b"PacketSize=-1",
        b"PacketSize=",
        b"PacketSize=ffffffffffffffff",
        b"PacketSize=1",
        b";;;=;+;-",
        b"\xff\xfe" * 100,
        b"T05",
        b"OK",
        b"E01",
    ],
)
def test_odd_answers_to_the_first_request(payload: bytes) -> None:
    """Each is a session or one typed error."""
    stub = Stub(PLAIN, registers={"rip": 0x1000}, memory={0x1000: bytes(100)})
    stub.hooks.append(
        lambda _, command: payload if isinstance(command, commands.QuerySupported) else None
    )
    with contextlib.suppress(RspError), rsp.connect(StubTransport(stub), timeout=0.1) as target:
        assert target.read_memory(0x1000, 100) == bytes(100)
    assert all(len(payload) < 1 << 18 for payload in stub.received)


def test_a_small_packet_size_is_kept() -> None:
    stub = Stub(PLAIN, registers={"rip": 0x1000}, memory={0x1000: bytes(1000)})
    stub.answers[rsp.commands.QuerySupported(features=rsp_features()).encode()] = b"PacketSize=40"
    with rsp.connect(StubTransport(stub), timeout=TIMEOUT) as target:
        assert target.read_memory(0x1000, 1000) == bytes(1000)
        target.write_memory(0x1000, bytes(1000))
        assert max(map(len, stub.received[1:])) <= 0x40


def rsp_features() -> Any:
    from rsp.wire.features import OFFERED

    return OFFERED


# --- a stub that dies ---


def serving(**more: Any) -> Stub:
    return Stub(
        more.pop("personality", QEMU),
        registers={"rip": 0x1000},
        memory={0x1000: bytes(range(256)) * 16},
        program=more.pop("program", [State(registers={"rip": 0x1001 + i}) for i in range(20)]),
        **more,
    )


@pytest.mark.parametrize("place", [*range(40), 200, 400, 3000])
def test_a_stub_that_dies_in_the_middle_of_anything(place: int) -> None:
    """Cut off at any byte, it is one ConnectionLost, or the session was over before."""
    stub = serving()
    transport = StubTransport(stub)
    client = FaultyTransport(transport, received={place: Fault.CUT}, reliable=True)
    with pytest.raises(ConnectionLost) as caught:
        talk(client)
    assert "stub" in str(caught.value)


def talk(client: Transport) -> None:
    with rsp.connect(client, timeout=TIMEOUT) as target, target.breakpoint(0x1010):
        while True:
            target.read_memory(0x1000, 256)
            target.invalidate()


def test_a_stub_that_dies_while_the_target_runs() -> None:
    stub = serving(program=[])
    transport = StubTransport(stub)
    client = FaultyTransport(transport, reliable=True)
    target = rsp.connect(client, timeout=TIMEOUT)
    target.breakpoint(0x1008)
    stub.hooks.append(_die)
    with pytest.raises(ConnectionLost):
        target.resume()
    target.detach()


def _die(stub: Stub, command: commands.Command) -> None:
    stub.dead = command.resumes


def test_what_is_asked_after_the_loss_gets_the_same_error() -> None:
    stub = serving()
    transport = StubTransport(stub)
    target = rsp.connect(transport, timeout=TIMEOUT)
    stub.hooks.append(lambda stub, _: setattr(stub, "dead", True))
    for _ in range(3):
        with pytest.raises(ConnectionLost):
            target.read_memory(0x1000, 1)
    target.detach()
    with pytest.raises(LocalProtocolError, match="connect again"):
        target.read_memory(0x1000, 1)


def test_no_answer_in_the_middle_of_a_session() -> None:
    stub = serving()
    transport = StubTransport(stub)
    target = rsp.connect(transport, timeout=TIMEOUT)
    target.breakpoint(0x1008)
    stub.hooks.append(lambda stub, command: [])
    for _ in range(2):
        with pytest.raises(RspTimeout, match="no answer to ReadMemory"):
            target.read_memory(0x1000, 1)
    with pytest.raises(RspTimeout, match="no answer to RemoveBreakpoint"):
        target.detach()


@settings(max_examples=60)
@given(st.binary(max_size=24), st.integers(0, 30))
def test_any_payload_in_place_of_any_answer(payload: bytes, place: int) -> None:
    """A stub may answer anything to anything."""
    stub = serving()
    counted = iter(range(1 << 30))

    def instead(_: Stub, command: commands.Command) -> bytes | None:
        return payload if next(counted) == place else None

    stub.hooks.append(instead)
    with contextlib.suppress(RspError), rsp.connect(StubTransport(stub), timeout=0.01) as target:
        use(target)


@functools.cache
def asked(personality: Personality) -> Sequence[commands.Command]:
    """What a stub is asked while nothing goes wrong."""
    stub = serving(personality=personality)
    heard: list[commands.Command] = []
    stub.hooks.append(lambda _, command: heard.append(command))
    with connected(stub) as target:
        use(target)
    return heard


@st.composite
def another_answer(
    draw: st.DrawFn,
) -> tuple[Personality, int, type[commands.Command], replies.Reply]:
    """Draw a stub, and what it replies to one command, by type and how many of that are before."""
    personality = draw(st.sampled_from([QEMU, GDBSERVER, KGDB, PLAIN]))
    heard = asked(personality)
    place = draw(st.integers(0, len(heard) - 1))
    command = heard[place]
    before = sum(type(each) is type(command) for each in heard[:place])
    return personality, before, type(command), draw(strategies.replies(command))


@settings(max_examples=40)
@given(another_answer())
def test_any_reply_that_is_well_formed_in_place_of_any_answer(
    answer: tuple[Personality, int, type[commands.Command], replies.Reply],
) -> None:
    personality, before, kind, reply = answer
    stub = serving(personality=personality)
    counted = iter(range(1 << 30))

    def instead(_: Stub, command: commands.Command) -> replies.Reply | None:
        return reply if type(command) is kind and next(counted) == before else None

    stub.hooks.append(instead)
    with contextlib.suppress(RspError), rsp.connect(StubTransport(stub), timeout=0.01) as target:
        use(target)


def use(target: Any) -> None:
    assert target.threads is not None
    assert target.registers.pc >= 0
    target.read_memory(0x1000, 300)
    target.write_register("rbx", 1)
    with target.breakpoint(0x1008):
        target.resume(timeout=TIMEOUT)
        target.step(timeout=TIMEOUT)
    assert target.mode is not None


# --- wrong requests ---


def test_unmapped_memory() -> None:
    stub = serving()
    with connected(stub) as target:
        with pytest.raises(MemoryFault, match="0x2000") as caught:
            target.read_memory(0x1FF0, 0x40)
        assert caught.value.address == 0x2000
        assert caught.value.partial == bytes(range(0xF0, 0x100))
        with pytest.raises(MemoryFault, match="cannot write memory at 0x9000") as caught:
            target.write_memory(0x9000, b"x")
        assert caught.value.address == 0x9000


@pytest.mark.parametrize(
    ("address", "length"), [(-1, 4), (1 << 64, 1), ((1 << 64) - 2, 4), (0, -1)]
)
def test_memory_that_cannot_be(address: int, length: int) -> None:
    with connected(serving()) as target:
        with pytest.raises(LocalProtocolError, match=r"64 bits|length is -1"):
            target.read_memory(address, length)
        with pytest.raises(LocalProtocolError):
            target.watchpoint(address, length)
        assert len(target.breakpoints) == 0


def test_a_register_that_does_not_exist() -> None:
    with connected(serving()) as target:
        with pytest.raises(RegisterUnavailable, match="nearest: rax") as caught:
            target.registers["raxx"]
        assert caught.value.register == "raxx"
        with pytest.raises(RegisterUnavailable):
            target.write_register("xyzzy", 1)
        with pytest.raises(LocalProtocolError, match="does not fit"):
            target.write_register("al", 256)
        assert "xyzzy" not in target.registers


def test_a_thread_that_does_not_exist() -> None:
    with connected(serving()) as target:
        with pytest.raises(StubError, match=r"no thread p01\.99"):
            target.select("p01.99")
        with pytest.raises(LocalProtocolError, match="no thread id"):
            target.select("nonsense")
        assert target.registers.pc == 0x1000


def test_what_a_stub_does_not_have() -> None:
    with connected(serving(personality=PLAIN)) as target:
        with pytest.raises(UnsupportedCommand, match="no monitor"):
            target.monitor("help")
        with pytest.raises(UnsupportedCommand, match="QEMU"):
            target.read_memory(0, 1, physical=True)


@pytest.mark.parametrize("where", ["0xzz", "*", "start_kernel", "1x", "name+0xg"])
def test_a_breakpoint_at_no_place(where: str) -> None:
    with connected(serving()) as target:
        with pytest.raises(RspError):
            target.breakpoint(where)
        assert len(target.breakpoints) == 0


def test_a_file_of_symbols_that_is_none(tmp_path: Any) -> None:
    stub = serving()
    with pytest.raises(RspError):
        rsp.connect(StubTransport(stub), symbols=tmp_path / "vmlinux")
    assert stub.received == []


# --- lists without end ---


def test_a_list_of_threads_without_end() -> None:
    stub = serving(personality=PLAIN)
    stub.answers[b"qfThreadInfo"] = stub.answers[b"qsThreadInfo"] = b"m" + b",".join([b"1"] * 4096)
    with connected(stub) as target:
        assert [thread.id for thread in target.threads] == ["1"]


@pytest.mark.parametrize("end", [b"m", b"m1", b"", b"l", b"E01", b"m1,"])
def test_the_ends_that_a_list_of_threads_may_have(end: bytes) -> None:
    """A comma or an empty packet at the end: lldb had both as bugs."""
    stub = serving(personality=PLAIN)
    stub.answers[b"qfThreadInfo"] = b"m1,2,"
    stub.answers[b"qsThreadInfo"] = end
    with connected(stub) as target:
        assert [thread.id for thread in target.threads] == ["1", "2"]


def test_a_description_without_end() -> None:
    stub = serving(personality=GDBSERVER)

    def endless(_: Stub, command: commands.Command) -> bytes | None:
        return b"m<!--" + b"x" * 8000 if isinstance(command, commands.XferRead) else None

    stub.hooks.append(endless)
    with connected(stub) as target:
        assert target.registers.pc == 0x1000


def test_a_description_in_pieces_of_a_byte_without_end() -> None:
    stub = serving(personality=GDBSERVER)
    stub.hooks.append(lambda _, c: b"mx" if isinstance(c, commands.XferRead) else None)
    with connected(stub) as target:
        assert target.registers.pc == 0x1000


# --- Ctrl-C ---


class Interrupted(FaultyTransport):
    """Once armed, it raises KeyboardInterrupt in front of the n-th read."""

    def __init__(self, inner: Transport, *, at: int) -> None:
        super().__init__(inner, reliable=True)
        self.left = at
        self.armed = False

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        if self.armed:
            self.left -= 1
            if self.left == -1:
                raise KeyboardInterrupt
        return super().read(max_bytes, timeout)


@contextlib.contextmanager
def interruptible(stub: Stub, *, at: int) -> Iterator[tuple[rsp.Target, Interrupted]]:
    """Connect to a stub over such a line."""
    lines: list[Interrupted] = []

    def line(inner: Transport) -> Transport:
        lines.append(Interrupted(inner, at=at))
        return lines[0]

    with connected(stub, line=line) as target:
        yield target, lines[0]


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("personality", [QEMU, GDBSERVER, PLAIN], ids=lambda who: who.name)
def test_ctrl_c_leaves_nothing_behind(personality: Personality, at: int) -> None:
    stub = serving(personality=personality)
    stub.physical_memory.map(0, bytes(4096))

    def work(target: rsp.Target, line: Interrupted) -> None:
        line.armed = True
        if personality is QEMU:
            target.read_memory(0, 4096, physical=True)
        target.breakpoint(0x1010)
        target.watchpoint(0x1000, 4)
        target.read_memory(0x1000, 4096)
        raise AssertionError("it was not interrupted")

    with pytest.raises(KeyboardInterrupt), interruptible(stub, at=at) as (target, line):
        work(target, line)
    assert stub.detached
    assert stub.breakpoints == {}
    assert not stub.physical


@pytest.mark.parametrize("personality", [QEMU, GDBSERVER, PLAIN], ids=lambda who: who.name)
def test_ctrl_c_while_it_runs_stops_it(personality: Personality) -> None:
    stub = serving(personality=personality, program=[])
    with interruptible(stub, at=0) as (target, line):
        target.resume(wait=False)
        line.armed = True
        with pytest.raises(KeyboardInterrupt):
            target.wait()
        assert not target.running
        assert target.stop.reason is rsp.StopReason.INTERRUPT
        assert target.registers.pc == 0x1000


def test_ctrl_c_that_cannot_stop_it_is_still_ctrl_c() -> None:
    stub = Stub(
        KGDB,
        registers={"rip": 0x1000},
        memory={0x1000: bytes(16)},
        thread="fffffffe",
        threads={"fffffffd": Cpu()},
    )
    with interruptible(stub, at=0) as (target, line):
        target.resume(wait=False)
        line.armed = True
        with pytest.raises(KeyboardInterrupt):
            target.wait()
