r"""The remote session log of gdb (``set remotelogfile``), read and written.

Contents: the `Recorder`, which writes such a log, and `read_log`, which gives its entries. What
makes a log from a connection, and what plays one, are transports (`rsp.transports.record`,
`rsp.transports.replay`); nothing here knows packets.

The format is that of gdb/serial.c, so that any gdb session is a recording and gdbreplay can play
ours. A line begins with ``w`` (sent), ``r`` (received) or ``c`` (a command, here also metadata) and
a space, and a new one is begun when that letter changes; newlines stand *before* lines::

    c target remote :1234
    w +$qSupported#37
    r +$PacketSize=1000#fd<Timeout: 2 seconds>
    End of log

In data ``\\ \b \f \n \r \t \v`` and ``\xNN`` are escapes. After ``set remotelogbase hex`` (or
octal) each byte is a space and two (three) digits instead, and so is what an event begins with.
gdb does not escape ``<``, so a log of its own cannot tell ``<Eof>`` sent as text from the event.
The Recorder escapes it there (gdbreplay takes that), so what it wrote reads back byte for byte.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Self, TextIO

from rsp import arguments
from rsp.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# A line is read in pieces of this many characters, so that a log without newlines stays bounded.
_PIECE = 1 << 16
# The longest event that is known; more text than this without its ">" is data.
_EVENT_MAX = 200

_NAMED_ESCAPES = {
    "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip
_ESCAPE = str.maketrans(
    {chr(byte): f"\\x{byte:02x}" for byte in (*range(0x20), *range(0x7F, 0x100))} | _NAMED_ESCAPES
)
_UNESCAPE = {escape[1]: char for char, escape in _NAMED_ESCAPES.items()}

_EVENT = rf"<(?:Timeout: -?[0-9]{{1,9}} seconds|Eof|Break|Error: [^<>\n]{{0,{_EVENT_MAX - 10}}})>"
_EVENT_PATTERN = re.compile(_EVENT)
_ESCAPE_PATTERN = re.compile(r"\\(?:x([0-9a-fA-F]{2})|([\\bfnrtv])|(.?))", re.DOTALL)
_HEX_PATTERN = re.compile(rf"(?: (?:[0-9a-f]{{2}}|{_EVENT}))+")
_OCTAL_PATTERN = re.compile(rf"(?: (?:[0-3][0-7]{{2}}|{_EVENT}))+")
# Where the end of a piece may cut a token: an event, the last token in hex or octal, an escape.
_CUT_EVENT_PATTERN = re.compile(rf"<[^<>]{{0,{_EVENT_MAX}}}\Z")
_CUT_NUMBER_PATTERN = re.compile(r" [0-9a-f]{0,3}\Z")
_CUT_ESCAPE_PATTERN = re.compile(r"(\\+)(?:x[0-9a-fA-F]?)?\Z")
# Received text that a reader would take for (the start of) an event.
_FALSE_EVENT_PATTERN = re.compile(r"<(?=[TEB]|\Z)")


class EntryKind(Enum):
    """What an entry of a log is; the value is the letter or the word that stands for it there."""

    SENT = "w"
    RECEIVED = "r"
    COMMENT = "c"
    TIMEOUT = "Timeout"
    EOF = "Eof"
    BREAK = "Break"
    ERROR = "Error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a log.

    Attributes:
        kind: what happened.
        data: the bytes sent or received; the text of a comment or an error; the seconds of a
            timeout in decimal; else empty.
        line: the number of the line in the log, from 1.
    """

    kind: EntryKind
    data: bytes = b""
    line: int


class Recorder:
    r"""Writes a log, in the ascii form of gdb 13 (gdb/serial.c).

    The log is plain ASCII whatever the locale is, and is handed to the operating system after
    every call, so that a process that is killed loses nothing that it had recorded.

    >>> import io
    >>> log = io.StringIO()
    >>> with Recorder(log) as recorder:
    ...     recorder.sent(b"$g#67")
    ...     recorder.received(b"+$\xff\n#09")
    >>> log.getvalue()
    '\nw $g#67\nr +$\\xff\\n#09\nEnd of log\n'

    Args:
        target: a text stream, which stays open when the recorder is closed, or the path of a file
            to create.

    Raises:
        TransportError: the file exists already or cannot be created; or, from any method, the log
            cannot be written.
    """

    def __init__(self, target: TextIO | str | os.PathLike[str]) -> None:
        self._owned = isinstance(target, str | os.PathLike)
        self._line = ""  # the letter of the line that is being written
        self._closed = False
        if isinstance(target, str | os.PathLike):
            self.name: str = arguments.path(target, "target")
            try:
                self._stream: TextIO = Path(target).open(  # noqa: SIM115 - closed by close()
                    "x", encoding="ascii", newline="\n"
                )
            except FileExistsError as error:
                raise TransportError(
                    f"the recording {self.name} exists already; remove it or choose another name",
                    address=self.name,
                ) from error
            except (OSError, ValueError) as error:
                raise _file_error("cannot create the recording", self.name, error) from error
        elif not callable(getattr(target, "write", None)):
            raise arguments.refused("target", target, "a path, or a text stream")
        else:
            self.name = _stream_name(target)
            self._stream = target

    def sent(self, data: bytes) -> None:
        """Record bytes that go to the stub."""
        self._put("w", _escape(data))

    def received(self, data: bytes) -> None:
        """Record bytes that came from the stub."""
        self._put("r", _escape(data))

    def timeout(self, seconds: float) -> None:
        """Record that nothing came for so many seconds (written rounded up, as a whole number)."""
        self._put("r", f"<Timeout: {math.ceil(seconds)} seconds>")

    def eof(self) -> None:
        """Record that the stub closed the stream."""
        self._put("r", "<Eof>")

    def error(self, message: str) -> None:
        """Record that the stream broke, with the reason in words."""
        shown = re.sub(r"[<>]", "'", _printable(message))
        self._put("r", f"<Error: {shown[: _EVENT_MAX - 10]}>")

    def break_sent(self) -> None:
        """Record that a BREAK was sent."""
        self._put("w", "<Break>")

    def comment(self, text: str) -> None:
        """Record metadata: a ``c`` line for each line of the text.

        Characters outside printable ASCII are written as Python escapes. A trailing backslash gets
        a space after it, because gdbreplay would join the next line to it.
        """
        for line in text.split("\n"):
            shown = _printable(line)
            self._line = ""
            self._put("c", shown + " " if shown.endswith("\\") else shown, keep_empty=True)

    def close(self) -> None:
        """Write the last line; close the file if it was opened here. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            self._write("\nEnd of log\n")
        finally:
            if self._owned:
                with contextlib.suppress(OSError):  # told by _write already
                    self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, letter: str, text: str, *, keep_empty: bool = False) -> None:
        if not text and not keep_empty:
            return
        if self._closed:
            raise TransportError(f"the recording {self.name} is closed", address=self.name)
        if letter != self._line:
            if letter != "c" and text.startswith(" "):
                # A line of data that begins with a space could be read as hex.
                text = "\\x20" + text[1:]
            text = f"\n{letter} {text}"
            self._line = letter
        self._write(text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError) as error:
            raise _file_error("cannot write the recording", self.name, error) from error


def read_log(source: TextIO | str | os.PathLike[str]) -> Generator[Entry, None, None]:
    r"""Read a log in any of gdb's three bases, entry by entry.

    Data without an event or a change of direction in between is one entry, or several where it is
    longer than 64 KiB. The log may end anywhere but inside an escape: that of a killed process has
    no ``End of log``.

    >>> import io
    >>> for entry in read_log(io.StringIO("\nw +$?#3f\nr  24 53 <Eof>\nEnd of log\n")):
    ...     entry.line, entry.kind.name, entry.data
    (2, 'SENT', b'+$?#3f')
    (3, 'RECEIVED', b'$S')
    (3, 'EOF', b'')

    Args:
        source: a text stream, or the path of a log.

    Raises:
        TransportError: the file cannot be read, or is not such a log; the message has the number
            of the line.
    """
    if isinstance(source, str | os.PathLike):
        name = os.fspath(source)
        try:
            stream = open(  # noqa: SIM115 - Path has no opener; closed below
                source, encoding="latin-1", newline="\n", opener=_open_at_once
            )
        except (OSError, ValueError) as error:
            raise _file_error("cannot open the recording", name, error) from error
        with stream:
            yield from _entries(stream, name)
    else:
        yield from _entries(source, _stream_name(source))


def _entries(stream: TextIO, name: str) -> Iterator[Entry]:
    number = 0
    reader: _LineReader | None = None
    held = ""  # the end of the last piece, where it may have cut a token in two
    finished = False
    while piece := _read_piece(stream, name):
        ended = piece.endswith("\n")
        text = held + piece.replace("\n", "").replace("\r", "")
        held = ""
        if reader is None:
            number += 1
            if not text and ended:
                continue
            if finished:
                raise _malformed(name, number, "there is text after 'End of log'")
            if text == "End of log":
                finished = True
                continue
            if text[1:2] != " " or text[0] not in "wrc":
                raise _malformed(name, number, "the line begins with none of 'w ', 'r ', 'c '")
            reader = _LineReader(kind=EntryKind(text[0]), name=name, number=number)
            text = text[2:]
        if not ended:
            text, held = reader.cut(text)
        yield from reader.entries(text)
        if ended:
            reader = None
    if reader is not None and held:
        yield from reader.entries(held)


class _LineReader:
    """Reads one line of a log, which may come in pieces."""

    def __init__(self, *, kind: EntryKind, name: str, number: int) -> None:
        self._kind = kind
        self._name = name
        self._number = number
        self._pattern: re.Pattern[str] | None = None  # of the line, if it is in hex or octal
        self._base_known = kind is EntryKind.COMMENT

    def cut(self, text: str) -> tuple[str, str]:
        """Split off the end of the text if more of the same token may follow."""
        if self._kind is EntryKind.COMMENT:
            return text, ""
        at = len(text)
        if match := _CUT_EVENT_PATTERN.search(text):
            at = match.start()
            if text[at - 1 : at] == " ":
                at -= 1  # which in hex and octal belongs to the event
        elif match := _CUT_NUMBER_PATTERN.search(text):
            at = match.start()
        elif (match := _CUT_ESCAPE_PATTERN.search(text)) and len(match[1]) % 2:
            at = match.end(1) - 1
        return text[:at], text[at:]

    def entries(self, text: str) -> Iterator[Entry]:
        if self._kind is EntryKind.COMMENT:
            yield self._entry(self._kind, _encode(text, self._name, self._number))
            return
        if not self._base_known and text:
            self._base_known = True
            for pattern in (_HEX_PATTERN, _OCTAL_PATTERN):
                if pattern.fullmatch(text):
                    self._pattern = pattern
        if self._pattern and text and not self._pattern.fullmatch(text):
            raise _malformed(self._name, self._number, "a byte is not a space and its digits")
        at = 0
        for event in _EVENT_PATTERN.finditer(text):
            yield from self._data(text[at : event.start()])
            word, _, detail = event[0][1:-1].partition(": ")
            kind = EntryKind(word)
            if kind is EntryKind.TIMEOUT:
                detail = detail.removesuffix(" seconds")
            yield self._entry(kind, _encode(detail, self._name, self._number))
            at = event.end()
        yield from self._data(text[at:])

    def _data(self, text: str) -> Iterator[Entry]:
        match self._pattern:
            case None:
                if "\\" in text:
                    text = _ESCAPE_PATTERN.sub(self._unescape, text)
                data = _encode(text, self._name, self._number)
            case pattern if pattern is _HEX_PATTERN:
                data = bytes.fromhex(text)
            case _:
                data = bytes(int(digits, 8) for digits in text.split())
        if data:
            yield self._entry(self._kind, data)

    def _unescape(self, match: re.Match[str]) -> str:
        digits, letter, wrong = match.groups()
        if digits:
            return chr(int(digits, 16))
        if letter:
            return _UNESCAPE[letter]
        raise _malformed(self._name, self._number, f"'\\{wrong}' is no escape")

    def _entry(self, kind: EntryKind, data: bytes) -> Entry:
        return Entry(kind=kind, data=data, line=self._number)


def _escape(data: bytes) -> str:
    text = data.decode("latin-1").translate(_ESCAPE)
    return _FALSE_EVENT_PATTERN.sub(r"\\x3c", text) if "<" in text else text


def _printable(text: str) -> str:
    """Return the text in printable ASCII, the rest as Python escapes; backslashes stay single."""
    return "".join(
        char if " " <= char <= "~" else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def _encode(text: str, name: str, number: int) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeError as error:
        raise _malformed(name, number, "there is a character that is no byte") from error


def _read_piece(stream: TextIO, name: str) -> str:
    try:
        return stream.readline(_PIECE)
    except (OSError, ValueError) as error:
        raise _file_error("cannot read the recording", name, error) from error


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for who writes to a FIFO; where nobody does, it is empty."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor


def _stream_name(stream: TextIO) -> str:
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) else "<stream>"


def _file_error(what: str, name: str, error: Exception) -> TransportError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return TransportError(f"{what} {name}: {reason}", address=name)


def _malformed(name: str, number: int, problem: str) -> TransportError:
    return TransportError(
        f"{name}, line {number}: {problem}; it is no session log of gdb (set remotelogfile), or it "
        "is damaged there",
        address=name,
    )
