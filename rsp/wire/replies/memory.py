"""Replies that carry memory or registers.

Contents: the answers to the commands of ``commands.memory`` and ``commands.registers``.
"""

from __future__ import annotations

import re
from binascii import Error as NotHexError
from binascii import hexlify, unhexlify
from typing import TYPE_CHECKING, ClassVar, Final

from rsp.errors import LocalProtocolError
from rsp.wire.replies.base import Reply, encode_pairs, malformed, parse_pairs
from rsp.wire.syntax import HEXTEXT, X, decode_text, encode_text

if TYPE_CHECKING:
    from typing import Self

    from rsp.wire.replies.base import Dialect


class MemoryData(Reply):
    """Memory, as ``m`` sends it; fewer bytes than were asked for where the rest is unreadable."""

    data: bytes

    @classmethod
    def parse(cls, payload: bytes, dialect: Dialect) -> Self:  # noqa: ARG003, D102
        try:
            return cls(data=unhexlify(payload))
        except (NotHexError, ValueError) as error:
            raise malformed(cls, payload) from error

    def encode(self, dialect: Dialect) -> bytes:  # noqa: ARG002, D102
        return hexlify(self.data)


class BinaryData(Reply):
    """Memory, as ``x`` sends it."""

    data: bytes

    @classmethod
    def parse(cls, payload: bytes, dialect: Dialect) -> Self:  # noqa: D102
        prefix = dialect.binary_prefix
        if not payload.startswith(prefix):
            raise malformed(cls, payload)
        return cls(data=payload[len(prefix) :])

    def encode(self, dialect: Dialect) -> bytes:  # noqa: D102
        return dialect.binary_prefix + self.data


_IS_X: Final = bytes(c in b"xX" for c in range(256))
_X_TO_ZERO: Final = bytes.maketrans(b"xX", b"00")


class RegisterBlock(Reply):
    """One register (``p``) or all of them in the stub's order (``g``), in target byte order.

    Attributes:
        data: the bytes; 0 where unavailable.
        unavailable: None, or as many bytes, 1 for each that was sent as ``xx``.
    """

    data: bytes
    unavailable: bytes | None = None

    @classmethod
    def parse(cls, payload: bytes, dialect: Dialect) -> Self:  # noqa: ARG003, D102
        try:
            return cls(data=unhexlify(payload))
        except (NotHexError, ValueError):
            unavailable = payload[0::2].translate(_IS_X)
            if unavailable != payload[1::2].translate(_IS_X):
                raise malformed(cls, payload) from None
        try:
            data = unhexlify(payload.translate(_X_TO_ZERO))
        except (NotHexError, ValueError) as error:
            raise malformed(cls, payload) from error
        return cls(data=data, unavailable=unavailable)

    def encode(self, dialect: Dialect) -> bytes:  # noqa: ARG002, D102
        if self.unavailable is None:
            return hexlify(self.data)
        if len(self.unavailable) != len(self.data):
            raise LocalProtocolError("unavailable must have one byte for each of data")
        return b"".join(
            b"xx" if missing else b"%02x" % byte
            for byte, missing in zip(self.data, self.unavailable, strict=True)
        )


class Crc(Reply):
    """A checksum of memory (``qCRC``)."""

    crc: int

    syntax = "C{crc:x}"


class SearchResult(Reply):
    """Where a pattern was found, None where nowhere (``qSearch:memory``)."""

    address: int | None = None

    @classmethod
    def parse(cls, payload: bytes, dialect: Dialect) -> Self:  # noqa: ARG003, D102
        if payload == b"0":
            return cls()
        match = re.fullmatch(rb"1,(%b)" % X.pattern, payload)
        if match is None:
            raise malformed(cls, payload)
        return cls(address=int(match[1], 16))

    def encode(self, dialect: Dialect) -> bytes:  # noqa: ARG002, D102
        return b"0" if self.address is None else b"1," + X.encode(self.address)


class MemoryRegion(Reply):
    """A range of addresses with one set of permissions (lldb's ``qMemoryRegionInfo``).

    Attributes:
        start_address: where it begins.
        size: its length in bytes.
        permissions: letters of ``rwx``; None where nothing is mapped.
        name: the file or the purpose, None where it has none.
        error: what the stub has to say instead.
        other: the pairs with further keys, as they came.
    """

    start_address: int | None = None
    size: int | None = None
    permissions: str | None = None
    name: str | None = None
    error: str | None = None
    other: tuple[tuple[str, str], ...] = ()

    _KEYS: ClassVar = {
        b"start": ("start_address", X),
        b"size": ("size", X),
        b"permissions": ("permissions", None),
        b"name": ("name", HEXTEXT),
        b"error": ("error", HEXTEXT),
    }

    @classmethod
    def parse(cls, payload: bytes, dialect: Dialect) -> Self:  # noqa: ARG003, D102
        fields: dict[str, object] = {}
        other = []
        for key, value in parse_pairs(payload):
            name, kind = cls._KEYS.get(key, ("", None))
            if not name or name in fields:
                other.append((decode_text(key), decode_text(value)))
            elif kind is None:
                fields[name] = decode_text(value)
            elif re.fullmatch(kind.pattern, value):
                fields[name] = kind.decode(value)
            else:
                raise malformed(cls, payload)
        if not fields:
            raise malformed(cls, payload)
        return cls(**fields, other=tuple(other))  # type: ignore[arg-type]  # by the table above

    def encode(self, dialect: Dialect) -> bytes:  # noqa: ARG002, D102
        pairs = []
        for key, (name, kind) in self._KEYS.items():
            value = getattr(self, name)
            if value is not None:
                pairs.append((key, kind.encode(value) if kind else encode_text(value)))
        pairs += [(encode_text(key), encode_text(value)) for key, value in self.other]
        return encode_pairs(pairs)
