"""The address space of a target as a binary file, for what parses files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from rsp import arguments
from rsp.errors import ArgumentError, MemoryFault
from rsp.inferior.pages import MOST_AT_ONCE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from rsp.inferior.inferior import Inferior

_SPACE: Final = 1 << 64


class MemoryStream(io.RawIOBase):
    """The address space as a binary file, for what parses files.

    Reads and writes are at the address that ``seek`` sets; a read that meets unmapped memory
    gives what is before it, and raises MemoryFault when that is nothing.
    """

    def __init__(self, inferior: Inferior) -> None:
        super().__init__()
        self._inferior = inferior
        self._position = 0

    def readable(self) -> bool:  # noqa: D102 - see io.RawIOBase
        return True

    def writable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the address; SEEK_END counts from 2**64."""
        number = arguments.integer(offset, "offset", "a distance", lowest=None, below=None)
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: _SPACE}
        base = bases[arguments.integer(whence, "whence", "a number", below=len(bases))]
        if not 0 <= base + number <= _SPACE:
            raise ArgumentError(f"seek({number:#x}, {whence}) leaves the address space")
        self._position = base + number
        return self._position

    def tell(self) -> int:
        """Return the address."""
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return so many bytes, or as far as memory goes; -1 goes on to where it ends."""
        taken = "a number of bytes"
        wanted = -1 if size is None else size
        number = arguments.integer(wanted, "size", taken, lowest=-1, below=MOST_AT_ONCE + 1)
        found: bytes = super().read(number)
        return found

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer as far as memory goes."""
        try:
            view = memoryview(buffer).cast("B")
        except TypeError:
            raise arguments.refused("buffer", buffer, "a buffer in one piece") from None
        if view.readonly:
            raise arguments.refused("buffer", buffer, "a buffer that can be written")
        length = min(len(view), _SPACE - self._position)
        if not length:
            return 0
        try:
            data = self._inferior.read_memory(self._position, length)
        except MemoryFault as fault:
            if not fault.partial:
                raise
            data = fault.partial
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def write(self, data: ReadableBuffer) -> int:
        """Write all of the data at the address."""
        content = arguments.data(data, "data")
        self._inferior.write_memory(self._position, content)
        self._position += len(content)
        return len(content)
