"""Recording a transport, and playing the recording."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsp.errors import ConnectionLost, ReplayMismatch, RspTimeout, TransportError
from rsp.recording import EntryKind, Recorder, read_log
from rsp.transports import open_transport
from rsp.transports.base import Transport
from rsp.transports.memory import MemoryTransport
from rsp.transports.record import RecordingTransport
from rsp.transports.replay import ReplayTransport

if TYPE_CHECKING:
    from pathlib import Path


class Line(MemoryTransport):
    """A serial line in memory: it carries a BREAK."""

    reliable = False

    def send_break(self) -> None:
        self.write(b"(break)")


class Broken(Transport):
    """A line that is lost whenever it is read."""

    address = "broken"
    reliable = True

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        raise ConnectionLost("reset <by> peer", address=self.address)

    def write(self, data: bytes, timeout: float | None = None) -> None:
        raise AssertionError

    def close(self) -> None: ...


def replay(tmp_path: Path, text: str) -> Transport:
    path = tmp_path / "x.rsplog"
    path.write_text(text)
    return open_transport(f"replay:{path}", timeout=5)


# A session as steps: who does what. The same steps are taken with the recording.
# A poll stands only before a write: it is not recorded, so that before a read the replay would have
# the bytes already.
steps = st.one_of(
    st.tuples(st.sampled_from(["write", "poll and write"]), st.binary(min_size=1, max_size=6)),
    st.tuples(st.just("read"), st.binary(min_size=1, max_size=6)),
    st.tuples(st.sampled_from(["wait", "break", "poll and break"]), st.just(b"")),
)


def take(client: Transport, stub: MemoryTransport | None, step: tuple[str, bytes]) -> bytes:
    action, data = step
    received = b""
    if action.startswith("poll"):
        with pytest.raises(RspTimeout):
            client.read(1, 0)
    match action.removeprefix("poll and "):
        case "write":
            client.write(data)
        case "read":
            if stub:
                stub.write(data)
            while len(received) < len(data):
                piece = client.read(min(2, len(data) - len(received)), 5)
                assert piece
                received += piece
        case "wait":
            with pytest.raises(RspTimeout):
                client.read(1, 0.001)
        case "break":
            client.send_break()
    return received


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, max_size=12))
def test_a_client_that_does_the_same_gets_the_same(
    tmp_path: Path, script: list[tuple[str, bytes]]
) -> None:
    path = tmp_path / "x.rsplog"
    path.unlink(missing_ok=True)
    client, stub = Line.pair()
    with RecordingTransport(client, Recorder(path)) as recording:
        first = [take(recording, stub, step) for step in script]
        stub.close()
        assert recording.read(1, 5) == b""
        assert recording.read(1, 5) == b""
    with ReplayTransport(path) as played:
        assert played.reliable is False
        assert [take(played, None, step) for step in script] == first
        assert played.read(1, 5) == b""
        assert played.read(1, None) == b""


def test_what_is_recorded() -> None:
    log = io.StringIO()
    client, stub = Line.pair()
    with RecordingTransport(client, Recorder(log)) as transport:
        assert transport.address == "memory:left"
        assert not transport.reliable
        transport.write(b"$?#3f")
        stub.write(b"+$S05#b8")
        transport.read(1, 5)
        transport.read(100, 5)
        transport.send_break()
        for timeout in (0.01, 0):
            with pytest.raises(RspTimeout):
                transport.read(1, timeout)
    assert log.getvalue() == (
        "\nc transport unreliable memory:left\nw $?#3f\nr +$S05#b8\nw <Break>"
        "\nr <Timeout: 1 seconds>\nEnd of log\n"
    )


def test_a_loss_is_recorded_once_and_played(tmp_path: Path) -> None:
    path = tmp_path / "x.rsplog"
    with RecordingTransport(Broken(), Recorder(path)) as transport:
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                transport.read(1, 5)
    kinds = [entry.kind for entry in read_log(path)]
    assert kinds == [EntryKind.COMMENT, EntryKind.ERROR]
    with ReplayTransport(path) as played:
        assert played.reliable
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="reset 'by' peer"):
                played.read(1, 5)
        with pytest.raises(ConnectionLost, match="had gone"):
            played.write(b"+")


def test_other_pieces_than_when_it_was_recorded(tmp_path: Path) -> None:
    with replay(tmp_path, "\nw +$g#67$?#3f\nr ++$00#60\nw +\nr $S05#b8") as transport:
        transport.write(b"+$g#6")
        with pytest.raises(RspTimeout):
            transport.read(1, 0)
        transport.write(b"")
        transport.write(b"7$?#3f")
        assert transport.read(3, 5) == b"++$"
        assert transport.read(100, 5) == b"00#60"
        transport.write(b"+")
        assert transport.read(100, None) == b"$S05#b8"
        assert transport.read(100, None) == b""


@pytest.mark.parametrize(
    ("written", "expected", "actual", "message"),
    [
        (b"$p#70", b"$g#67", b"$p#70", r"line 2: .* to send b'\$g#67', but it sends b'\$p#70'"),
        (b"$g#67+", b"", b"+", r"line 3: the recording ends here, but it sends b'\+'"),
    ],
)
def test_other_bytes(
    tmp_path: Path, written: bytes, expected: bytes, actual: bytes, message: str
) -> None:
    with (
        replay(tmp_path, "\nw $g#67\nr +$00#60\n") as transport,
        pytest.raises(ReplayMismatch, match=message) as caught,
    ):
        transport.write(written)
    assert (caught.value.expected, caught.value.actual) == (expected, actual)
    assert caught.value.line == (2 if expected else 3)


@pytest.mark.parametrize("timeout", [1, None])
def test_a_read_before_the_client_has_sent(tmp_path: Path, timeout: float | None) -> None:
    with replay(tmp_path, "\nw $g#67\nr +\nw <Break>\nr +") as transport:
        with pytest.raises(ReplayMismatch, match=r"send b'\$g#67', but it reads") as caught:
            transport.read(1, timeout)
        assert caught.value.expected == b"$g#67"
        transport.write(b"$g#67")
        transport.read(1, timeout)
        with pytest.raises(ReplayMismatch, match="to send a BREAK, but it reads"):
            transport.read(1, timeout)
        with pytest.raises(RspTimeout):
            transport.read(1, 0)
        with pytest.raises(ReplayMismatch, match="to send a BREAK, but it sends b'x'"):
            transport.write(b"x")
        transport.send_break()
        assert transport.read(1, timeout) == b"+"
        with pytest.raises(ReplayMismatch, match="the recording ends here, but it sends a BREAK"):
            transport.send_break()
        with pytest.raises(ReplayMismatch, match="the recording ends here, but it sends b'x'"):
            transport.write(b"x")


LOG = "\nw $g#67\nr <Timeout: 2 seconds><Timeout: 2 seconds>\nw $g#67\nr <Timeout: 2 seconds>+"


def test_recorded_timeouts(tmp_path: Path) -> None:
    with replay(tmp_path, LOG) as transport:
        transport.write(b"$g#67")
        for timeout in (0, 0.01, 0, 0.01, 0):
            with pytest.raises(RspTimeout) as caught:
                transport.read(1, timeout)
            assert caught.value.timeout == timeout
        with pytest.raises(ReplayMismatch):
            transport.read(1, 0.01)


def test_timeouts_are_skipped_by_a_write_and_by_a_read_that_waits_for_ever(tmp_path: Path) -> None:
    with replay(tmp_path, LOG) as transport:
        transport.write(b"$g#67")
        transport.write(b"$g#67")
        assert transport.read(1, None) == b"+"


def test_the_recorded_end(tmp_path: Path) -> None:
    with replay(tmp_path, "\nw +\nr <Eof>\nEnd of log\n") as transport:
        transport.write(b"+")
        assert transport.read(1, 5) == b""
        assert transport.read(1, 5) == b""
        with pytest.raises(ConnectionLost, match="the stub had gone"):
            transport.write(b"+")


def test_a_long_packet_is_shortened_in_the_message(tmp_path: Path) -> None:
    with (
        replay(tmp_path, "\nw $" + "0" * 10_000) as transport,
        pytest.raises(ReplayMismatch, match="10001 bytes") as caught,
    ):
        transport.read(1, 5)
    assert len(str(caught.value)) < 400


def test_use_after_close(tmp_path: Path) -> None:
    transport = replay(tmp_path, "\nr +")
    transport.close()
    transport.close()
    for use in (lambda: transport.read(1, 0), lambda: transport.write(b"+"), transport.send_break):
        with pytest.raises(TransportError, match="has been closed here"):
            use()


def test_what_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="line 1"):
        replay(tmp_path, "hello")
    with pytest.raises(TransportError, match="No such file"):
        open_transport("replay:/nonexistent/x", timeout=5)
    transport = replay(tmp_path, "\nr +\nw \\q")
    with transport, pytest.raises(TransportError, match="line 3"):
        # The entry after the one that is read is looked at ahead.
        transport.read(1, 5)


def test_a_recording_that_exists_already(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(TransportError, match="exists already"):
        Recorder(tmp_path / "x")


def test_a_client_with_several_requests_under_way_may_send_before_it_has_read_all(
    tmp_path: Path,
) -> None:
    # Replies come in other pieces than they did, so the next requests leave at another moment.
    with replay(tmp_path, "\nw ab\nr 123\nw c\nr 4\n") as transport:
        transport.write(b"ab")
        assert transport.read(1, 1.0) == b"1"
        transport.write(b"c")
        assert transport.read(10, 1.0) == b"23"
        assert transport.read(10, 1.0) == b"4"
