"""Packet contents as bytes: checksum, escapes, run-length.

Contents: the encodings of "Overview" in appendix E of the gdb manual, both ways, as pure functions.
Where packets begin and end in a stream is the business of ``framing``.
"""

from __future__ import annotations

import re
from zlib import adler32

from rsp.errors import RemoteProtocolError

ESCAPE = 0x7D  # }
_ESCAPE_XOR = 0x20

# `n` in `X*n` stands for n - 29 further copies of X.
_RUN_BIAS = 29
_LONGEST_RUN = 126 - _RUN_BIAS
# A count that would read as one of these may not be sent.
_RUN_FORBIDDEN = frozenset(b"#$+-")

# What the receiver would take for framing or for a run.
_MUST_ESCAPE = re.compile(rb"[#$*}]")
_RUNS = re.compile(rb"(.)\1{3,}", re.DOTALL)

# adler32's low half is one more than the plain sum of the bytes, at C speed, as long as that does
# not reach the modulus 65521: up to 512 bytes below 0x80, 256 of any.
_ASCII_SLICE = 512
_ANY_SLICE = 256


def checksum(data: bytes) -> int:
    """Return the sum of the bytes modulo 256, as it stands behind the ``#``.

    >>> f"{checksum(b'OK'):02x}"
    '9a'
    """
    step = _ASCII_SLICE if data.isascii() else _ANY_SLICE
    if len(data) <= step:
        return (adler32(data) - 1) & 0xFF
    total = 0
    for start in range(0, len(data), step):
        total += (adler32(data[start : start + step]) & 0xFFFF) - 1
    return total & 0xFF


def escape(data: bytes) -> bytes:
    r"""Escape what would be taken for framing or for a run-length.

    >>> escape(b"a}b#")
    b'a}]b}\x03'
    """
    if not _MUST_ESCAPE.search(data):
        return data
    return _MUST_ESCAPE.sub(lambda m: bytes((ESCAPE, m[0][0] ^ _ESCAPE_XOR)), data)


def unescape(data: bytes, escape_byte: int = ESCAPE) -> bytes:
    """Undo ``escape``; a stub may use another escape byte (VirtualBox).

    Raises:
        RemoteProtocolError: the data ends within an escape.
    """
    pieces = data.split(bytes((escape_byte,)))
    if len(pieces) == 1:
        return data
    out = bytearray(pieces[0])
    rest = iter(pieces[1:])
    for piece in rest:
        if piece:
            out.append(piece[0] ^ _ESCAPE_XOR)
            out += piece[1:]
            continue
        # Two escape bytes in a row: the second is the escaped one, what follows it is plain.
        plain = next(rest, None)
        if plain is None:
            raise RemoteProtocolError("a packet ends within an escape", data=data)
        out.append(escape_byte ^ _ESCAPE_XOR)
        out += plain
    return bytes(out)


def expand_runs(data: bytes, limit: int) -> bytes:
    r"""Expand run-length encoding, in at most ``limit`` bytes.

    >>> expand_runs(b'0* 1', 100)
    b'00001'

    Raises:
        RemoteProtocolError: a run of nothing, without a count, or beyond the limit.
    """
    star = data.find(b"*")
    if star < 0:
        return data
    out = bytearray()
    start = 0
    while star >= 0:
        out += data[start:star]
        repeats = data[star + 1] - _RUN_BIAS if star + 1 < len(data) else 0
        if not out or repeats < 1:
            raise RemoteProtocolError("a malformed run-length in a packet", data=data)
        # The byte before `*` is the last one put out: after `0*~` another `*~` goes on with 0.
        last = out[-1:]
        start = star + 2
        alike = last + data[star:start]
        size = repeats
        while data.startswith(alike, start):  # zeros of gdbserver: 85 such runs are a page
            size += 1 + repeats
            start += 3
        if len(out) + size > limit:
            raise RemoteProtocolError(f"a packet expands to more than {limit} bytes", data=data)
        out += last * size
        star = data.find(b"*", start)
    out += data[start:]
    return bytes(out)


def collapse_runs(data: bytes) -> bytes:
    """Run-length encode already escaped data, as a stub may do in its replies.

    >>> collapse_runs(b"00001")
    b'0* 1'
    """
    return _RUNS.sub(_collapse, data)


def _collapse(match: re.Match[bytes]) -> bytes:
    byte, left = match[1], len(match[0])
    out = bytearray()
    while left:
        repeats = min(left - 1, _LONGEST_RUN)
        while repeats + _RUN_BIAS in _RUN_FORBIDDEN:
            repeats -= 1
        if repeats < 3:
            out += byte * left
            break
        out += byte + b"*" + bytes((repeats + _RUN_BIAS,))
        left -= 1 + repeats
    return bytes(out)


def decode(raw: bytes, limit: int, escape_byte: int = ESCAPE) -> bytes:
    """Return the payload of a packet: runs expanded first, then escapes undone.

    The order matters, for a run may repeat the second byte of an escape (gdb, ``read_frame``).

    Raises:
        RemoteProtocolError: the encoding is malformed, or expands beyond ``limit`` bytes.
    """
    if b"*" in raw:
        raw = expand_runs(raw, limit)
    return unescape(raw, escape_byte)


def frame(payload: bytes) -> bytes:
    """Return the packet for a payload, ready to send.

    >>> frame(b"qC")
    b'$qC#b4'
    """
    raw = escape(payload)
    return b"$%b#%02x" % (raw, checksum(raw))
