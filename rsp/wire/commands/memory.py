"""Commands that read, write and describe memory.

Contents: ``m M x X`` and the queries about ranges of addresses (gdb manual, "Packets" and "General
Query Packets"; lldb's ``qMemoryRegionInfo``). How much one packet may ask for is in ``limits``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.errors import RemoteProtocolError
from rsp.wire.commands.base import AnsweredBy
from rsp.wire.replies.base import ErrorReply, Ok, Unsupported, parse_error
from rsp.wire.replies.memory import BinaryData, Crc, MemoryData, MemoryRegion, SearchResult

if TYPE_CHECKING:
    from rsp.wire.replies.base import Dialect


class ReadMemory(AnsweredBy[MemoryData]):
    """Read ``length`` bytes at ``address`` (``m``).

    Nothing is read with an empty answer, which is Unsupported for any other length.

    >>> ReadMemory(address=0x1000, length=64).encode()
    b'm1000,40'
    """

    address: int
    length: int

    syntax = "m{address:x},{length:x}"
    idempotent = True

    def parse_reply(  # noqa: D102
        self, payload: bytes, dialect: Dialect
    ) -> MemoryData | ErrorReply | Unsupported:
        if not payload and not self.length:
            return MemoryData(data=b"")
        reply = super().parse_reply(payload, dialect)
        if isinstance(reply, MemoryData):
            _check(reply.data, self.length)
        return reply


class ReadMemoryBinary(AnsweredBy[Ok | BinaryData]):
    """Read ``length`` bytes at ``address``, sent as they are (``x``).

    gdb 16 sends it where ``binary-upload+`` was offered, and its answer begins with ``b``. lldb's
    older form has no such prefix (``Dialect.binary_prefix``) and is probed with ``x0,0``, which is
    answered with OK; three bytes of data that spell an error cannot be told from one there.
    """

    address: int
    length: int

    syntax = "x{address:x},{length:x}"
    idempotent = True

    def parse_reply(  # noqa: D102
        self, payload: bytes, dialect: Dialect
    ) -> Ok | BinaryData | ErrorReply | Unsupported:
        if dialect.binary_prefix or not self.length or not payload:
            reply = super().parse_reply(payload, dialect)
        elif len(payload) == self.length != len(b"E00"):
            reply = BinaryData(data=payload)
        else:
            reply = parse_error(payload, dialect) or BinaryData(data=payload)
        if isinstance(reply, BinaryData):
            _check(reply.data, self.length)
        return reply


def _check(data: bytes, length: int) -> None:
    # A stub that is one answer behind shows itself here first.
    if len(data) > length:
        raise RemoteProtocolError(
            f"{len(data)} bytes of memory came where {length} were asked for: the answer is to "
            "another request, or the stub is broken",
            data=data,
        )


class WriteMemory(AnsweredBy[Ok]):
    """Write ``data`` at ``address``, in hex (``M``)."""

    address: int
    data: bytes

    syntax = "M{address:x},{length:x}:{data:hex}"
    idempotent = True

    @property
    def length(self) -> int:
        """How many bytes are written."""
        return len(self.data)


class WriteMemoryBinary(AnsweredBy[Ok]):
    """Write ``data`` at ``address``, as it is (``X``); without data it asks whether X is known."""

    address: int
    data: bytes = b""

    syntax = "X{address:x},{length:x}:{data:bin}"
    idempotent = True

    @property
    def length(self) -> int:
        """How many bytes are written."""
        return len(self.data)


class QueryCrc(AnsweredBy[Crc]):
    """Ask for the CRC-32 of a range of memory (``qCRC``): polynomial 0x04c11db7, start ~0."""

    address: int
    length: int

    syntax = "qCRC:{address:x},{length:x}"
    idempotent = True


class SearchMemory(AnsweredBy[SearchResult]):
    """Look for ``pattern`` in ``length`` bytes from ``address`` (``qSearch:memory``)."""

    address: int
    length: int
    pattern: bytes

    syntax = "qSearch:memory:{address:x};{length:x};{pattern:bin}"
    idempotent = True


class QueryMemoryRegion(AnsweredBy[MemoryRegion]):
    """Ask what is mapped around ``address`` (lldb's ``qMemoryRegionInfo``)."""

    address: int

    syntax = "qMemoryRegionInfo:{address:x}"
    idempotent = True
