from __future__ import annotations

import contextlib
import io
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.gdb import batch
from rsp.errors import ArgumentError, TransportError
from rsp.recording import Entry, EntryKind, Recorder, read_log

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Pieces that lie near the edges of the format, so that joining them finds what plain bytes do not.
edgy = st.lists(
    st.sampled_from(
        rb" | 2b| 053|<|<Eof>|Eof>|<Break>|<Timeout: 2 seconds>|<Error: x>|\|\x41|x41".split(b"|")
        + b"\n|\r\n|End of log|w |\xff".split(b"|")
    ),
    max_size=5,
).map(b"".join)
payloads = st.binary(max_size=30) | edgy
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
steps = st.one_of(
    st.tuples(st.just(EntryKind.SENT), payloads),
    st.tuples(st.just(EntryKind.RECEIVED), payloads),
    st.tuples(st.just(EntryKind.COMMENT), printable.map(str.encode)),
    st.tuples(st.just(EntryKind.TIMEOUT), st.integers(0, 1000).map(lambda n: str(n).encode())),
    st.tuples(
        st.just(EntryKind.ERROR), printable.map(lambda text: re.sub("[<>]", "", text).encode())
    ),
    st.tuples(st.sampled_from([EntryKind.EOF, EntryKind.BREAK]), st.just(b"")),
)


def record(recorder: Recorder, kind: EntryKind, data: bytes) -> None:
    match kind:
        case EntryKind.SENT:
            recorder.sent(data)
        case EntryKind.RECEIVED:
            recorder.received(data)
        case EntryKind.COMMENT:
            recorder.comment(data.decode())
        case EntryKind.TIMEOUT:
            recorder.timeout(int(data))
        case EntryKind.EOF:
            recorder.eof()
        case EntryKind.BREAK:
            recorder.break_sent()
        case EntryKind.ERROR:
            recorder.error(data.decode())


def written(script: Iterable[tuple[EntryKind, bytes]]) -> str:
    log = io.StringIO()
    with Recorder(log) as recorder:
        for kind, data in script:
            record(recorder, kind, data)
    return log.getvalue()


def merged(script: Iterable[tuple[EntryKind, bytes]]) -> list[tuple[EntryKind, bytes]]:
    """Join neighbours of one direction, as a log does."""
    result: list[tuple[EntryKind, bytes]] = []
    for kind, data in script:
        if kind in (EntryKind.SENT, EntryKind.RECEIVED):
            if not data:
                continue
            if result and result[-1][0] is kind:
                result[-1] = (kind, result[-1][1] + data)
                continue
        result.append((kind, data))
    return result


def plain(entries: Iterable[Entry]) -> list[tuple[EntryKind, bytes]]:
    return merged((entry.kind, entry.data) for entry in entries)


@given(st.lists(steps, max_size=12))
def test_what_is_written_is_read(script: list[tuple[EntryKind, bytes]]) -> None:
    log = written(script)
    assert log.isascii()
    expected = [
        (kind, data + b" " if kind is EntryKind.COMMENT and data.endswith(b"\\") else data)
        for kind, data in script
    ]
    assert plain(read_log(io.StringIO(log))) == merged(expected)


@given(payloads, st.sampled_from([(" %02x", "hex"), (" %03o", "octal")]))
def test_the_numeric_bases(data: bytes, base: tuple[str, str]) -> None:
    log = "\nr " + "".join(base[0] % byte for byte in data) + " <Timeout: 2 seconds>"
    expected = [(EntryKind.RECEIVED, data)] if data else []
    assert plain(read_log(io.StringIO(log))) == [*expected, (EntryKind.TIMEOUT, b"2")]


@given(st.text(st.sampled_from("wrc \n\r\\x0123af<>EofBreak:Timsd") | st.characters(), max_size=60))
def test_any_text_gives_entries_or_the_typed_error(text: str) -> None:
    lines: list[int] = []
    with contextlib.suppress(TransportError):
        lines.extend(entry.line for entry in read_log(io.StringIO(text, newline="\n")))
    assert lines == sorted(lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines)


def test_the_form_is_gdbs() -> None:
    script = [
        (EntryKind.COMMENT, b"target remote :1234"),
        (EntryKind.SENT, b"+$qSupported#37"),
        (EntryKind.RECEIVED, b"+"),
        (EntryKind.RECEIVED, b"\\\b\f\n\r\t\v\0\xe9<feature>"),
        (EntryKind.TIMEOUT, b"2"),
        (EntryKind.SENT, b"\x03"),
        (EntryKind.BREAK, b""),
        (EntryKind.EOF, b""),
        (EntryKind.COMMENT, b"kill"),
        (EntryKind.COMMENT, b"quit"),
    ]
    assert written(script) == textwrap.dedent(
        r"""
        c target remote :1234
        w +$qSupported#37
        r +\\\b\f\n\r\t\v\x00\xe9<feature><Timeout: 2 seconds>
        w \x03<Break>
        r <Eof>
        c kill
        c quit
        End of log
        """
    )


def test_a_comment_of_several_lines_and_beyond_ascii() -> None:
    log = io.StringIO()
    Recorder(log).comment("first\nprix: 5 €\r")
    assert log.getvalue() == "\nc first\nc prix: 5 \\u20ac\\r"


def test_fractions_of_a_second_are_rounded_up() -> None:
    log = io.StringIO()
    Recorder(log).timeout(0.25)
    assert log.getvalue() == "\nr <Timeout: 1 seconds>"


@pytest.mark.parametrize("body", [b"\\", b"\xff", b"<Eof", b"ab<", b"\n x4", b"plain"])
@pytest.mark.parametrize("shift", range(6))
def test_a_line_without_end_is_read_in_pieces(body: bytes, shift: int) -> None:
    # Whatever token the 64 KiB boundary cuts, the bytes are the same.
    data = b"." * shift + body * (200_000 // len(body))
    entries = list(read_log(io.StringIO(written([(EntryKind.RECEIVED, data)]))))
    assert len(entries) > 1
    assert max(len(entry.data) for entry in entries) <= 1 << 17
    assert {entry.line for entry in entries} == {2}
    assert plain(entries) == [(EntryKind.RECEIVED, data)]
    numeric = "r " + "".join(f" {byte:02x}" for byte in data) + " <Eof>"
    assert plain(read_log(io.StringIO(numeric))) == [
        (EntryKind.RECEIVED, data),
        (EntryKind.EOF, b""),
    ]


def test_lines_may_end_as_on_windows() -> None:
    log = io.StringIO("\r\nw +\r\nr  2b\r\nEnd of log\r\n", newline="\n")
    assert plain(read_log(log)) == [(EntryKind.SENT, b"+"), (EntryKind.RECEIVED, b"+")]


def test_the_log_of_a_killed_process_ends_anywhere() -> None:
    assert plain(read_log(io.StringIO("\nw +$g#67\nr +$00"))) == [
        (EntryKind.SENT, b"+$g#67"),
        (EntryKind.RECEIVED, b"+$00"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hello\n", 1),
        ("\nw +\nx 1\n", 3),
        ("\nw+\n", 2),
        ("\nw a\\q\n", 2),
        ("\nw a\\x4\n", 2),
        ("\nw a\\", 2),
        ("\nr \u20ac\n", 2),
        ("\nw +\nEnd of log\nw +\n", 4),
        ("\0" * 100_000, 1),
    ],
)
def test_a_damaged_log_is_named_with_its_line(text: str, line: int) -> None:
    with pytest.raises(TransportError, match=f"line {line}: "):
        list(read_log(io.StringIO(text)))


def test_a_numeric_line_that_turns_into_something_else() -> None:
    with pytest.raises(TransportError, match="line 1: a byte is not"):
        list(read_log(io.StringIO("r " + " 41" * 100_000 + " 4\n")))


def test_paths(tmp_path: Path) -> None:
    path = tmp_path / "boot.rsplog"
    data = bytes(range(256))
    with Recorder(path) as recorder:
        recorder.sent(data)
    assert plain(read_log(path)) == [(EntryKind.SENT, data)]
    assert plain(read_log(str(path))) == [(EntryKind.SENT, data)]
    with pytest.raises(TransportError, match="exists already; remove it or choose"):
        Recorder(path)
    assert plain(read_log(path)) == [(EntryKind.SENT, data)]


def test_a_path_that_cannot_be_opened(tmp_path: Path) -> None:
    missing = tmp_path / "missing" / "x.rsplog"
    with pytest.raises(TransportError, match="cannot create the recording"):
        Recorder(missing)
    with pytest.raises(TransportError, match="cannot open the recording"):
        list(read_log(missing))


def test_what_is_no_path(tmp_path: Path) -> None:
    for wrong in (tmp_path / "nul\0", 5, None):
        with pytest.raises(ArgumentError, match="give a path"):
            Recorder(wrong)  # type: ignore[arg-type]
    with pytest.raises(TransportError, match="cannot open the recording"):
        list(read_log(tmp_path / "nul\0"))


def test_a_directory_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="Is a directory"):
        list(read_log(tmp_path))


def test_a_pipe_is_read_and_not_waited_for(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert list(read_log(fifo)) == []  # nobody writes
    reading, writing = os.pipe()
    entries = read_log(f"/dev/fd/{reading}")
    os.write(writing, b"w $g#67\n")
    first = next(entries)
    os.write(writing, b"r +\n")
    os.close(writing)
    assert plain(iter([first, *entries])) == [
        (EntryKind.SENT, b"$g#67"),
        (EntryKind.RECEIVED, b"+"),
    ]
    os.close(reading)


def test_a_full_disk(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "x.rsplog")
    recorder.sent(b"$g#67")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))
    try:
        with pytest.raises(TransportError, match=r"cannot write the recording .*File too large"):
            recorder.received(b"+")
        with pytest.raises(TransportError, match="cannot write the recording"):
            recorder.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert plain(read_log(tmp_path / "x.rsplog")) == [(EntryKind.SENT, b"$g#67")]


def test_closing_twice_and_writing_after(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "x.rsplog")
    recorder.close()
    recorder.close()
    assert (tmp_path / "x.rsplog").read_text() == "\nEnd of log\n"
    with pytest.raises(TransportError, match="is closed"):
        recorder.sent(b"+")


def test_a_process_that_is_killed_has_recorded_everything(tmp_path: Path) -> None:
    path = tmp_path / "killed.rsplog"
    program = (
        "import os, sys; from rsp.recording import Recorder; r = Recorder(sys.argv[1]);"
        "r.sent(b'$g#67'); r.received(b'+$00'); os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", program, path], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert plain(read_log(path)) == [(EntryKind.SENT, b"$g#67"), (EntryKind.RECEIVED, b"+$00")]


# Against gdb: it records a session with gdbserver, in which it reads the program's libraries, so
# that every byte value occurs in packets that carry a checksum.


def gdb_log(path: Path, base: str, *commands: str) -> Path:
    settings = [f"set remotelogfile {path}", f"set remotelogbase {base}", "set remotetimeout 1"]
    subprocess.run(
        batch(*settings, *commands),
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=os.environ | {"DEBUGINFOD_URLS": ""},
    )
    return path


def packets(data: bytes) -> list[bytes]:
    """Return the payloads, and check the checksum of each."""
    found = re.findall(rb"\$([^#$]*)#([0-9a-f]{2})", data)
    for payload, checksum in found:
        assert sum(payload) % 256 == int(checksum, 16)
    return [payload for payload, _ in found]


@pytest.mark.live("gdb", "gdbserver")
@pytest.mark.parametrize("base", ["ascii", "hex", "octal"])
def test_a_session_that_gdb_recorded(tmp_path: Path, base: str) -> None:
    path = gdb_log(tmp_path / "gdb.rsplog", base, "target remote | gdbserver - /bin/true", "kill")
    entries = list(read_log(path))
    sent = packets(b"".join(e.data for e in entries if e.kind is EntryKind.SENT))
    received = packets(b"".join(e.data for e in entries if e.kind is EntryKind.RECEIVED))
    assert sent[0].startswith(b"qSupported:")
    assert sent[-1].startswith(b"vKill;")
    assert received[0].startswith(b"PacketSize=")
    assert received[-1] == b"OK"
    assert len(set(b"".join(received))) > 250
    assert [e.data for e in entries if e.kind is EntryKind.COMMENT][-1] == b"kill"
    if base == "ascii":
        assert written((e.kind, e.data) for e in entries) == path.read_text("ascii")


@pytest.mark.live("gdb", "gdbserver")
@pytest.mark.parametrize("base", ["ascii", "hex", "octal"])
def test_the_timeouts_and_the_end_that_gdb_records(tmp_path: Path, base: str) -> None:
    path = gdb_log(tmp_path / "gdb.rsplog", base, "target remote | sleep 1.5")
    kinds = [entry.kind for entry in read_log(path)]
    assert kinds[:2] == [EntryKind.SENT, EntryKind.TIMEOUT]
    assert kinds[-1] in (EntryKind.ERROR, EntryKind.EOF)
