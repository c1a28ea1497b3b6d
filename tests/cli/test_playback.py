"""The stub's side of a recording, without I/O: any client that says the same hears the same."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rsp
from rsp.cli.playback import Playback
from rsp.errors import ReplayMismatch, TransportError
from rsp.recording import EntryKind, Recorder, read_log

DEMO = Path(rsp.__path__[0], "cli", "commands", "demo.rsplog")
LOG = """
c target remote :1234
w $?#3f
r +$S05#b8<Timeout: 2 seconds>
w +$g#67
r +$00#60
w +
r $O41#a8
w +$D#44
r +$OK#9a
w +
End of log
"""


def sides(log: Path) -> tuple[bytes, bytes]:
    """Return all that the client sent, and all that the stub did."""
    sent, received = bytearray(), bytearray()
    for entry in read_log(log):
        match entry.kind:
            case EntryKind.SENT:
                sent += entry.data
            case EntryKind.RECEIVED:
                received += entry.data
    return bytes(sent), bytes(received)


SENT, RECEIVED = sides(DEMO)


@given(st.lists(st.integers(0, len(SENT))))
def test_a_client_may_cut_its_bytes_as_it_likes(cuts: list[int]) -> None:
    bounds = [0, *sorted(cuts), len(SENT)]
    heard = b""
    with Playback(DEMO) as playback:
        for start, end in pairwise(bounds):
            heard += playback.data_to_send()
            playback.receive_data(SENT[start:end])
        heard += playback.data_to_send()
        assert playback.ended
        playback.receive_eof()
    assert heard == RECEIVED


@given(st.data())
def test_any_other_byte_is_told_where_it_came(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(SENT) - 1))
    wrong = data.draw(st.integers(0, 255).filter(lambda byte: byte != SENT[at]))
    with Playback(DEMO) as playback:
        playback.receive_data(SENT[:at])
        with pytest.raises(ReplayMismatch) as caught:
            playback.receive_data(bytes([wrong]) + SENT[at + 1 :])
    error = caught.value
    same = 0
    while error.expected[same : same + 1] == error.actual[same : same + 1]:
        same += 1
    assert (error.expected[same], error.actual[same]) == (SENT[at], wrong)
    assert error.expected in SENT
    assert f"line {error.line}" in str(error)
    line = DEMO.read_text("latin-1").splitlines()[error.line - 1]
    assert line.startswith("w ")


def test_the_stub_waits_for_its_turn() -> None:
    playback = Playback(io.StringIO(LOG))
    assert playback.data_to_send() == b""
    playback.receive_data(b"$?#3")
    assert playback.data_to_send() == b""
    playback.receive_data(b"f")
    assert playback.data_to_send() == b"+$S05#b8"
    assert playback.data_to_send() == b""
    playback.receive_data(b"+$g#67")
    assert playback.data_to_send() == b"+$00#60"
    # Both acks at once: what comes between them had been on its way.
    playback.receive_data(b"++$D#44+")
    assert playback.data_to_send() == b"$O41#a8+$OK#9a"
    assert playback.ended


def test_more_than_was_recorded() -> None:
    playback = Playback(io.StringIO("w $?#3f\nr +$S05#b8\n"))
    with pytest.raises(ReplayMismatch, match=r"nothing more to send, but .* b'\+'") as caught:
        playback.receive_data(b"$?#3f+")
    assert (caught.value.line, caught.value.expected, caught.value.actual) == (2, b"", b"+")


def test_less_than_was_recorded() -> None:
    playback = Playback(io.StringIO(LOG))
    playback.receive_data(b"$?#3f+$g")
    with pytest.raises(ReplayMismatch, match=r"line 5: .* closed the connection") as caught:
        playback.receive_eof()
    assert (caught.value.expected, caught.value.actual) == (b"+$g#67", b"+$g")


@pytest.mark.parametrize("end", ["<Eof>", "<Error: Connection reset by peer>", ""])
def test_a_stub_that_went_away_goes_away_again(end: str) -> None:
    playback = Playback(io.StringIO(f"w $k#6b\nr +{end}\n"))
    assert not playback.ended
    playback.receive_data(b"$k#6b")
    assert (playback.data_to_send(), playback.ended) == (b"+", True)
    playback.receive_eof()


def test_what_the_stub_says_unasked_is_said_at_once() -> None:
    playback = Playback(io.StringIO("r $T02thread:01;#04\nw +\n"))
    assert playback.data_to_send() == b"$T02thread:01;#04"


def test_nothing_was_recorded() -> None:
    playback = Playback(io.StringIO("c target remote :1234\n"))
    assert playback.ended
    playback.receive_eof()


def test_long_bytes_are_shown_short() -> None:
    log = io.StringIO()
    with Recorder(log) as recorder:
        recorder.sent(b"$M0,4000:" + b"00" * 0x4000 + b"#00")
    log.seek(0)
    with pytest.raises(ReplayMismatch) as caught:
        Playback(log).receive_data(b"x" * 70000)
    assert len(str(caught.value)) < 500


def test_what_is_no_recording(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"\x7fELF\0\0\0\n")
    for file in (junk, tmp_path / "absent", tmp_path):
        with pytest.raises(TransportError, match=str(file)):
            Playback(file)
    junk.write_text("w $?#3f\nr +$S05#b8\nnonsense\n")
    playback = Playback(junk)
    with pytest.raises(TransportError, match="line 3"):
        playback.receive_data(b"$?#3f")
