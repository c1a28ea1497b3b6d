r"""Where packets begin and end in a stream of bytes.

Contents: the Deframer: it cuts what was received into frames and checks their checksums, nothing
more. What a payload means, and what is answered to a corrupt one, is decided above.

::

    console text   +   $ T05thread:01; # 7a   %Stop:T05#xx
    `--- TEXT --' ACK    `-- PACKET --'        `NOTIFICATION'
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

from rsp.wire.codec import checksum

_DOLLAR, _PERCENT, _PLUS, _MINUS, _CTRL_C = b"$%+-\x03"

_CHECKSUMS: Final = {
    digits: value
    for value in range(256)
    for text in [f"{value:02x}"]
    for digits in {bytes(first + second, "ascii") for first in {text[0], text[0].upper()}
                   for second in {text[1], text[1].upper()}}
}  # fmt: skip

# What ends a run of text. On a line shared with a console `%` is text, and `+` and `-` are acks
# only in front of a packet, or at the end of what has come.
_MARK: Final = re.compile(rb"[$%+\-\x03]")
_MARK_SHARED: Final = re.compile(rb"\$|[+-](?=[+-]{0,3}(?:\$|\Z))")

# A stub's replies hold no blanks or control characters but in qXfer, which the only stub that
# shares its line with a console (kgdb) does not have.
_NOT_IN_PACKET: Final = re.compile(rb"[^!-~]")


class FrameKind(Enum):
    """What a stretch of the stream is."""

    PACKET = "packet"
    NOTIFICATION = "notification"
    ACK = "ack"
    NAK = "nak"
    INTERRUPT = "interrupt"
    TEXT = "text"
    CORRUPT = "corrupt"
    """A packet whose checksum is wrong, or that another packet's start cut off."""
    OVERLONG = "overlong"
    """The start of a packet that has gone on beyond the bound."""


class Frame(NamedTuple):
    """A stretch of the stream: the bytes between ``$`` and ``#``, still encoded, or the text."""

    kind: FrameKind
    data: bytes


ACK: Final = Frame(FrameKind.ACK, b"+")
NAK: Final = Frame(FrameKind.NAK, b"-")
INTERRUPT: Final = Frame(FrameKind.INTERRUPT, b"\x03")


class Deframer:
    """Cuts a stream into frames; serves both ends of a line.

    >>> deframer = Deframer()
    >>> deframer.receive_data(b"+$OK#9a")
    >>> deframer.next_frame().kind, deframer.next_frame().data, deframer.next_frame()
    (<FrameKind.ACK: 'ack'>, b'OK', None)

    Args:
        max_packet: the most bytes that one packet may have; more is an OVERLONG frame.
        shared: whether a console's text runs on the same line.
    """

    def __init__(self, max_packet: int = 1 << 24, *, shared: bool = False) -> None:
        self.max_packet = max_packet
        self.shared = shared
        self._buffer = bytearray()
        self._start = 0  # of what has not been given out
        self._no_hash = 0  # the buffer has no `#` up to here
        self._scanned = 0  # the packet at _start has nothing that ends it early up to here

    @property
    def buffered(self) -> bool:
        """Whether there is something that has not been given out."""
        return self._start < len(self._buffer)

    def receive_data(self, data: bytes) -> None:
        """Buffer what was received."""
        if self._start:
            del self._buffer[: self._start]
            self._no_hash = max(0, self._no_hash - self._start)
            self._scanned = max(0, self._scanned - self._start)
            self._start = 0
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """Return the next whole frame, None when more bytes are needed."""
        start = self._start
        if start == len(self._buffer):
            return None
        byte = self._buffer[start]
        if byte == _DOLLAR:
            return self._packet(FrameKind.PACKET)
        if byte == _PLUS and (not self.shared or _MARK_SHARED.match(self._buffer, start)):
            self._start = start + 1
            return ACK
        if byte == _PERCENT and not self.shared:
            return self._packet(FrameKind.NOTIFICATION)
        if byte == _MINUS and (not self.shared or _MARK_SHARED.match(self._buffer, start)):
            self._start = start + 1
            return NAK
        if byte == _CTRL_C and not self.shared:
            self._start = start + 1
            return INTERRUPT
        mark = (_MARK_SHARED if self.shared else _MARK).search(self._buffer, start + 1)
        return self._cut(FrameKind.TEXT, start, mark.start() if mark else len(self._buffer))

    def reset(self) -> bytes:
        """Forget what is buffered, and return it."""
        left = bytes(self._buffer[self._start :])
        self._buffer.clear()
        self._start = self._no_hash = self._scanned = 0
        return left

    def _packet(self, kind: FrameKind) -> Frame | None:
        buffer, start = self._buffer, self._start
        first = start + 1
        hash_at = buffer.find(b"#", max(first, self._no_hash))
        if hash_at < 0:
            self._no_hash = len(buffer)
        end = hash_at if hash_at >= 0 else len(buffer)
        scan = max(first, self._scanned)
        # A `$` is never sent within a packet, so here the rest of one was lost.
        restart = buffer.find(b"$", scan, end)
        if (end if restart < 0 else restart) - first > self.max_packet:
            return self._cut(FrameKind.OVERLONG, start, first + self.max_packet + 1)
        if self.shared and (restart >= 0 or _NOT_IN_PACKET.search(buffer, scan, end)):
            # A prompt; what is behind it is looked at anew, for it may end with the `+` of a reply.
            return self._cut(FrameKind.TEXT, start, first)
        if restart >= 0:
            return self._cut(FrameKind.CORRUPT, start, restart)
        self._scanned = end
        if hash_at < 0 or len(buffer) < end + 3:
            # `$abc#$…`: the checksum was lost and the next packet has begun.
            if buffer[end + 1 : end + 2] == b"$":
                return self._cut(FrameKind.CORRUPT, start, end + 1)
            return None
        digits = bytes(buffer[end + 1 : end + 3])
        data = bytes(buffer[first:end])
        if _CHECKSUMS.get(digits) == checksum(data):
            self._start = end + 3
            return Frame(kind, data)
        # Do not swallow the start of the next packet where the checksum was lost.
        cut_off = digits.find(b"$")
        return self._cut(FrameKind.CORRUPT, start, end + 3 if cut_off < 0 else end + 1 + cut_off)

    def _cut(self, kind: FrameKind, start: int, end: int) -> Frame:
        self._start = self._scanned = end
        return Frame(kind, bytes(self._buffer[start:end]))
