"""The bytes of a section, where they lie in the mapped file.

Contents: access to them without a copy of the whole, and the error for bytes that do not follow
their format. Not here: what the bytes mean.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NoReturn

from rsp.errors import BadImage

if TYPE_CHECKING:
    import mmap

MAX_STRING = 1 << 16
"""The longest name that is believed; the kernel's longest has some hundreds of bytes."""

_FORMS = {1: struct.Struct("<B"), 2: struct.Struct("<H"), 4: struct.Struct("<I")}
_FORMS[8] = struct.Struct("<Q")


class SectionData:
    r"""A section's bytes; every offset counts from the section's begin.

    A slice is a copy of that slice; `view` is none of anything.

    Attributes:
        name: the section's name, for messages.
        path: the file that it is of, for messages; empty for bytes of no file.
        view: all of it, as a memoryview of unsigned bytes.

    >>> line = SectionData(".comment", b"\0\0GCC: 12\0", 2, 8)
    >>> line.find(b"12"), line[:3], line.c_string(0), len(line)
    (5, b'GCC', b'GCC: 12', 8)
    """

    __slots__ = ("_buffer", "_size", "_start", "name", "path", "view")

    def __init__(
        self, name: str, buffer: mmap.mmap | bytes, start: int, size: int, *, path: str = ""
    ) -> None:
        self.name: str = name
        self.path: str = path
        self._buffer = buffer
        self._start = start
        self._size = size
        self.view: memoryview = memoryview(buffer)[start : start + size]

    @classmethod
    def empty(cls, name: str, *, path: str = "") -> SectionData:
        """Return the contents of a section that is not there."""
        return cls(name, b"", 0, 0, path=path)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        begin, end, _ = part.indices(self._size)
        return self._buffer[self._start + begin : self._start + max(begin, end)]

    def find(self, needle: bytes, begin: int = 0, end: int | None = None) -> int:
        """Return where the bytes begin first, at or after ``begin`` and before ``end``, or -1."""
        stop = self._size if end is None else min(end, self._size)
        found = self._buffer.find(needle, self._start + begin, self._start + stop)
        return -1 if found < 0 else found - self._start

    def unsigned(self, offset: int, size: int) -> int:
        """Return a little-endian number of 1, 2, 4 or 8 bytes.

        Raises:
            BadImage: the section ends before.
        """
        if not 0 <= offset <= self._size - size:
            self.fail(offset, "it ends within a number")
        number: int = _FORMS[size].unpack_from(self.view, offset)[0]
        return number

    def c_string(self, offset: int) -> bytes:
        """Return the bytes up to the next NUL.

        Raises:
            BadImage: there is none within reach.
        """
        end = self.find(b"\0", offset, offset + MAX_STRING) if 0 <= offset < self._size else -1
        if end < 0:
            self.fail(offset, "a string without an end")
        return self[offset:end]

    def text(self, offset: int) -> str:
        """Return the string at an offset; bytes that are no UTF-8 survive as surrogates."""
        return self.c_string(offset).decode(errors="surrogateescape")

    def damage(self, offset: int, what: str) -> BadImage:
        """Return the error that says what is wrong at an offset."""
        file = f"{self.path}: " if self.path else ""
        return BadImage(
            f"{file}{self.name} is damaged at {offset:#x}: {what}",
            path=self.path,
            section=self.name,
            offset=offset,
        )

    def fail(self, offset: int, what: str) -> NoReturn:
        """Raise that error."""
        raise self.damage(offset, what)
