"""The base of all replies, and those that any command may get: an error, nothing, ``OK``.

Contents: also Dialect and what several replies are read with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from rsp.errors import LocalProtocolError, RemoteProtocolError
from rsp.wire.syntax import Message, decode_text, encode_text

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What differs between stubs in the text of replies.

    Attributes:
        error_radix: of the two digits of an error. kgdb writes errno in decimal (``E22``), all
            others in hex (``E16``).
        native_signals: whether signals have Linux's numbers (lldb-server), not gdb's.
        binary_prefix: what stands before the data in a reply to ``x``: ``b`` in gdb 16's form,
            nothing in lldb's.
        thread_list_end: what ends a thread list: ``l``, or kgdb's empty packet. Only ``encode``
            asks; both are understood always.
    """

    error_radix: int = 16
    native_signals: bool = False
    binary_prefix: bytes = b"b"
    thread_list_end: bytes = b"l"


class Reply(Message):
    """The base of all replies.

    A class with a ``syntax`` is read and written by it; the others bring their own ``parse`` and
    ``encode``.
    """

    prefix: ClassVar[bytes | tuple[bytes, ...]] = b""
    """How the reply begins; where a command may get several, this tells which one it is."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "syntax" in cls.__dict__:
            cls.prefix = cls._syntax.prefix

    @classmethod
    def parse(cls, payload: bytes, dialect: Dialect) -> Self:  # noqa: ARG003 - for subclasses
        """Read a payload.

        Raises:
            RemoteProtocolError: it is malformed.
        """
        reply = cls.match(payload)
        if reply is None:
            raise malformed(cls, payload)
        return reply

    def encode(self, dialect: Dialect) -> bytes:  # noqa: ARG002 - for subclasses
        """Return the payload, as a stub sends it.

        Raises:
            LocalProtocolError: a field's value cannot be written.
        """
        return self._syntax.encode(self)


def malformed(cls: type[Reply], payload: bytes) -> RemoteProtocolError:
    """Return the error for a payload that should have been a certain reply."""
    return RemoteProtocolError(f"not a {cls.__name__} reply: {payload[:60]!r}", data=payload)


class ErrorReply(Reply):
    """``E NN``, or ``E.`` and a text.

    Attributes:
        code: the number, None where there is only a text. gdbserver and QEMU send errno values.
        text: what stands behind ``E.``.
    """

    code: int | None = None
    text: str = ""

    @classmethod
    def parse(cls, payload: bytes, dialect: Dialect) -> Self:  # noqa: D102
        error = parse_error(payload, dialect)
        if error is None:
            raise malformed(cls, payload)
        return cls(code=error.code, text=error.text)

    def encode(self, dialect: Dialect) -> bytes:  # noqa: D102
        if self.code is None:
            return b"E." + encode_text(self.text)
        digits = b"%02d" % self.code if dialect.error_radix == 10 else b"%02x" % self.code
        if len(digits) != 2 or self.code < 0 or self.text:
            raise LocalProtocolError(f"an error that has no two digits: {self!r}")
        return b"E" + digits


_ERROR: Final = re.compile(rb"E(?:([0-9a-fA-F]{2})|\.(.*))", re.DOTALL)


def parse_error(payload: bytes, dialect: Dialect) -> ErrorReply | None:
    """Return the error that a payload is, None where it is data.

    Only ``E`` with exactly two hex digits, or ``E.``, is an error: data may begin with E too.

    >>> parse_error(b"E14", Dialect()), parse_error(b"E0140000", Dialect())
    (ErrorReply(code=20, text=''), None)
    """
    match = _ERROR.fullmatch(payload)
    if match is None:
        return None
    digits, text = match.groups()
    if digits is None:
        return ErrorReply(text=decode_text(text))
    try:
        return ErrorReply(code=int(digits, dialect.error_radix))
    except ValueError:  # hex digits from a stub of decimal errors
        return ErrorReply(text=digits.decode())


class Unsupported(Reply):
    """The empty reply: the stub does not know the command."""

    syntax = ""


class Ok(Reply):
    """``OK``."""

    syntax = "OK"


class Raw(Reply):
    """The reply to a command that the library does not know, as it came."""

    data: bytes

    syntax = "{data:bin}"


def parse_pairs(payload: bytes) -> list[tuple[bytes, bytes]]:
    """Split ``key:value;key:value;``.

    Raises:
        RemoteProtocolError: a pair has no colon.
    """
    pairs = []
    for item in payload.split(b";"):
        key, colon, value = item.partition(b":")
        if colon:
            pairs.append((key, value))
        elif item:
            raise RemoteProtocolError(f"a pair without a colon: {item[:40]!r}", data=payload)
    return pairs


def encode_pairs(pairs: list[tuple[bytes, bytes]]) -> bytes:
    """Undo ``parse_pairs``.

    Raises:
        LocalProtocolError: a key or a value has a separator in it.
    """
    for key, value in pairs:
        if b":" in key or b";" in key + value:
            raise LocalProtocolError(f"a pair that cannot be sent: {key!r}: {value!r}")
    return b"".join(key + b":" + value + b";" for key, value in pairs)
