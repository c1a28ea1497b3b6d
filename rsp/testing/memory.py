"""Memory for a machine in a test: sparse, with holes of any size.

Contents: SparseMemory. The stub that answers from it is in ``stub``.
"""

from __future__ import annotations

from typing import Final

_PAGE: Final = 4096


class SparseMemory:
    """Bytes by address; what was never mapped cannot be read or written.

    >>> memory = SparseMemory({0x1000: b"abc"})
    >>> memory.read(0x1001, 10), memory.read(0x1000, 2), memory.read(0x2000, 1)
    (b'bc', b'ab', b'')

    Args:
        contents: what lies where.
    """

    def __init__(self, contents: dict[int, bytes] | None = None) -> None:
        self._pages: dict[int, tuple[bytearray, int]] = {}
        for address, data in (contents or {}).items():
            self.map(address, data)

    def map(self, address: int, data: bytes) -> None:
        """Map bytes, and give them their values."""
        for at, part in _by_page(address, data):
            base, offset = at - at % _PAGE, at % _PAGE
            content, mapped = self._pages.get(base) or (bytearray(_PAGE), 0)
            content[offset : offset + len(part)] = part
            self._pages[base] = (content, mapped | _mask(offset, len(part)))

    def unmap(self, address: int, length: int) -> None:
        """Make a hole."""
        for at, part in _by_page(address, bytes(length)):
            base, offset = at - at % _PAGE, at % _PAGE
            if base in self._pages:
                content, mapped = self._pages[base]
                self._pages[base] = (content, mapped & ~_mask(offset, len(part)))

    def read(self, address: int, length: int) -> bytes:
        """Return the bytes up to the first that is not mapped, at most ``length``."""
        out = bytearray()
        while len(out) < length:
            at = address + len(out)
            content, mapped = self._pages.get(at - at % _PAGE, (b"", 0))
            offset = at % _PAGE
            # The lowest 0 of the mask from here on is the first byte that is not mapped.
            ahead = ~(mapped >> offset)
            run = (ahead & -ahead).bit_length() - 1
            size = min(run, _PAGE - offset, length - len(out))
            if size <= 0:
                break
            out += content[offset : offset + size]
        return bytes(out)

    def write(self, address: int, data: bytes) -> bool:
        """Write all of the data, or nothing where a part is not mapped; tell which."""
        if len(self.read(address, len(data))) != len(data):
            return False
        self.map(address, data)
        return True


def _mask(offset: int, size: int) -> int:
    return ((1 << size) - 1) << offset


def _by_page(address: int, data: bytes) -> list[tuple[int, bytes]]:
    parts = []
    while data:
        size = min(len(data), _PAGE - address % _PAGE)
        parts.append((address, data[:size]))
        address, data = address + size, data[size:]
    return parts
