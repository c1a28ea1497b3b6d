"""How packets are spelled: one line of syntax for each, which both writes and reads it.

Contents: the kinds of fields and Message, the base of commands and replies. A syntax follows the
templates of the gdb manual: text stands for itself, ``{address:x}`` is the field ``address`` of the
kind ``x``, and ``[;{process:x}]`` is left out when its field is None or empty. What the packets
mean is not known here.

    m{address:x},{length:x}         ReadMemory(address=0x1000, length=64)  <->  m1000,40
    D[;{process:x}]                 Detach()  <->  D        Detach(process=1)  <->  D;1
"""

from __future__ import annotations

import re
from binascii import hexlify, unhexlify
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from rsp.arguments import data, shown
from rsp.errors import ArgumentError, LocalProtocolError
from rsp.wire.threads import THREAD_PATTERN, ThreadId
from rsp.wire.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self


class Kind(NamedTuple):
    """What may stand in a field.

    Attributes:
        pattern: a regular expression of all of it, without groups.
        decode: the value of a text that matches.
        encode: the text of a value; LocalProtocolError where it has none.
    """

    pattern: bytes
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


def decode_text(data: bytes) -> str:
    """Return the text of some bytes; none are lost, whatever they are."""
    return data.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """Undo ``decode_text``.

    Raises:
        LocalProtocolError: the text has a lone surrogate.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"text that has no bytes: {text!r}") from error


def _number(template: bytes, bits: int) -> Callable[[int], bytes]:
    def encode(value: int) -> bytes:
        if value >> bits:
            raise LocalProtocolError(f"{value:#x} is not in the range 0 to 2**{bits} - 1")
        return template % value

    return encode


def _hex_number(data: bytes) -> int:
    return int(data, 16)


def _signed(value: int) -> bytes:
    if abs(value) >> 64:
        raise LocalProtocolError(f"{value:#x} has more than 64 bits")
    return b"%x" % value


def _flag(value: bool) -> bytes:
    return b"1" if value else b"0"


def _text(pattern: bytes) -> Kind:
    def encode(text: str) -> bytes:
        data = encode_text(text)
        if re.fullmatch(pattern, data, re.DOTALL) is None:
            raise LocalProtocolError(f"{text!r} cannot stand in this place of a packet")
        return data

    return Kind(pattern, decode_text, encode)


def joined(kind: Kind, separator: bytes) -> Kind:
    """Return the kind of a tuple of items with a separator between them; it may be empty."""
    item = kind.pattern
    return Kind(
        b"(?:%b(?:%b%b)*)?" % (item, separator, item),
        lambda data: tuple(kind.decode(part) for part in data.split(separator)) if data else (),
        lambda items: separator.join(kind.encode(part) for part in items),
    )


def led(kind: Kind, separator: bytes) -> Kind:
    """Return the kind of a tuple of items with a separator before each; it may be empty."""
    return Kind(
        b"(?:%b%b)*" % (separator, kind.pattern),
        lambda data: tuple(kind.decode(part) for part in data.split(separator)[1:]),
        lambda items: b"".join(separator + kind.encode(part) for part in items),
    )


_DIGIT: Final = rb"[0-9a-fA-F]"
X: Final = Kind(rb"%b{1,16}" % _DIGIT, _hex_number, _number(b"%x", 64))
SIGNAL: Final = Kind(rb"%b{1,2}" % _DIGIT, _hex_number, _number(b"%02x", 8))
HEX: Final = Kind(rb"(?:%b{2})*" % _DIGIT, unhexlify, hexlify)
HEXTEXT: Final = Kind(
    HEX.pattern, lambda data: decode_text(unhexlify(data)), lambda text: hexlify(encode_text(text))
)
THREAD: Final = Kind(THREAD_PATTERN, ThreadId.parse, ThreadId.encode)
# gdb puts a semicolon behind the last one as well (remote.c), the manual does not.
SIGNALS: Final = Kind(
    rb"(?:%b(?:;%b)*;?)?" % (SIGNAL.pattern, SIGNAL.pattern),
    lambda data: tuple(int(part, 16) for part in data.split(b";") if part),
    lambda signals: b"".join(map(_number(b"%x;", 8), signals)),
)
WORD: Final = _text(rb"[^:;,\[\]{}=]+")

KINDS: Final[dict[str, Kind]] = {
    "x": X,  # a number in hex, of at most 64 bits
    "0x": Kind(rb"(?:0[xX])?%b" % X.pattern, _hex_number, _number(b"0x%x", 64)),
    "signed": Kind(rb"-?%b" % X.pattern, _hex_number, _signed),
    "signal": SIGNAL,  # two digits when written
    "flag": Kind(rb"[01]", lambda data: data == b"1", _flag),
    "hex": HEX,  # bytes, two digits each
    "hextext": HEXTEXT,  # text, in hex
    "bin": Kind(
        rb".*", bytes, lambda given: data(given, "the data")
    ),  # bytes as they are; the framing escapes them
    "text": _text(rb".*"),
    "annex": _text(rb"[^:]*"),
    "word": WORD,
    "letter": _text(rb"[a-zA-Z]"),
    "thread": THREAD,
    "signals": SIGNALS,
    "arguments": led(HEXTEXT, b";"),
    "words": led(WORD, b";"),
}
"""The kinds by name. A module whose packets have a kind of their own adds it here."""

_FIELD: Final = re.compile(r"([^\[{]*)(\[?)([^\[{]*)\{(\w+):(\w+)\}\]?")


class _Piece(NamedTuple):
    fixed: bytes  # text before the field, always there
    lead: bytes  # text before the field, there when the field is
    name: str
    kind: Kind
    optional: bool


class Syntax:
    """One packet's spelling, compiled when it is first used.

    Attributes:
        prefix: the text before the first field.
    """

    __slots__ = ("_getter", "_pieces", "_regex", "_tail", "_template", "_text", "prefix")

    def __init__(self, text: str) -> None:
        self._text = text
        self._pieces: tuple[_Piece, ...] | None = None
        self._regex: re.Pattern[bytes] | None = None
        self._template: bytes | None = None
        self._tail = b""
        self.prefix: bytes = text.partition("{")[0].partition("[")[0].encode()

    @property
    def pieces(self) -> tuple[_Piece, ...]:
        """The fields in their order."""
        if self._pieces is None:
            self._compile()
            assert self._pieces is not None
        return self._pieces

    def _compile(self) -> None:
        pieces, end = [], 0
        for match in _FIELD.finditer(self._text):
            fixed, bracket, lead, name, kind = match.groups()
            end = match.end()
            pieces.append(_Piece(fixed.encode(), lead.encode(), name, KINDS[kind], bool(bracket)))
        self._tail = self._text[end:].encode()
        # Numbers and nothing else - memory reads, breakpoints - are what is sent by the thousand.
        if len(pieces) > 1 and all(piece.kind is X and not piece.optional for piece in pieces):
            self._template = b"".join(piece.fixed + b"%x" for piece in pieces) + self._tail
            self._getter = attrgetter(*(piece.name for piece in pieces))
        self._pieces = tuple(pieces)

    def encode(self, value: object) -> bytes:
        """Return the payload of a value.

        Raises:
            LocalProtocolError: a field's value cannot be written; ArgumentError where it is of
                another type.
        """
        if self._template is not None:
            numbers = self._getter(value)
            try:
                for number in numbers:
                    if number >> 64:
                        raise LocalProtocolError(f"{number:#x} is not in the range 0 to 2**64 - 1")
                return self._template % numbers
            except (TypeError, ValueError):
                pass  # and which field it is comes out below
        out = []
        for fixed, lead, name, kind, optional in self.pieces:
            out.append(fixed)
            item: object = None
            try:
                item = getattr(value, name)
                if not (optional and (item is None or item == ())):
                    out += (lead, kind.encode(item))
            except (TypeError, ValueError, AttributeError, OverflowError, BytesWarning) as error:
                raise ArgumentError(
                    f"{name} of {type(value).__name__} is {shown(item)}, which cannot stand in its "
                    f"packet, {self._text}"
                ) from error
        out.append(self._tail)
        return b"".join(out)

    def match(self, payload: bytes) -> dict[str, Any] | None:
        """Return the fields of a payload by name, None where it is spelled otherwise.

        Raises:
            RemoteProtocolError: it is not, but a field's value makes no sense.
        """
        if self._regex is None:
            pattern = b""
            for fixed, lead, name, kind, optional in self.pieces:
                field = re.escape(lead) + b"(?P<%b>%b)" % (name.encode(), kind.pattern)
                pattern += re.escape(fixed) + (b"(?:%b)?" % field if optional else field)
            self._regex = re.compile(pattern + re.escape(self._tail), re.DOTALL)
        match = self._regex.fullmatch(payload)
        if match is None:
            return None
        return {
            piece.name: piece.kind.decode(match[piece.name])
            for piece in self.pieces
            if match[piece.name] is not None
        }


class Message(Value):
    """A value with a spelling.

    A name in the syntax that is no field is an attribute that follows from the fields (the length
    of written data); a payload that contradicts it is malformed.
    """

    syntax: ClassVar[str]
    _syntax: ClassVar[Syntax]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "syntax" in cls.__dict__:
            cls._syntax = Syntax(cls.syntax)

    @classmethod
    def kinds(cls) -> dict[str, str]:
        """Return the name of the kind of each field that the syntax has."""
        return {
            match[4]: match[5] for match in _FIELD.finditer(cls.syntax) if match[4] in cls._fields
        }

    @classmethod
    def match(cls, payload: bytes) -> Self | None:
        """Read a payload by the syntax; None where it is spelled otherwise."""
        values = cls._syntax.match(payload)
        if values is None:
            return None
        derived = values.keys() - cls._fields
        message = cls(**{name: value for name, value in values.items() if name not in derived})
        if any(getattr(message, name) != values[name] for name in derived):
            return None
        return message
