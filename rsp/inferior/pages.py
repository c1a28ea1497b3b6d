"""The memory of a stop, kept by pages.

Contents: what was read since the target stopped, virtual and physical, and reads of whole pages,
which is how structures and stacks are best read. Not here: packets (see `memory`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, SupportsIndex

from rsp import arguments
from rsp.errors import ArgumentError, MemoryFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE: Final = 4096
MOST_AT_ONCE: Final = 1 << 32
"""The most bytes of one read: what is a slip of the pen is not to fill this machine's memory."""
_MOST_PAGES: Final = 4096  # 16 MiB
_MOST_CACHED: Final = 1 << 16
"""A read of more than this is for a file or a scan, which asks for no byte twice."""


class Pages:
    """The memory of a stop: each page is asked for once, also by several tools.

    Use it to read structures; what it reads may be more than what is asked for, up to the page's
    end on both sides. ``Target.read_memory`` asks for no other bytes than those that it returns:
    use that for the registers of devices. What was read is dropped when the target runs, is written
    to, or another thread is selected.

    Args:
        fetch: returns virtual memory by address and length, or raises MemoryFault.
        fetch_physical: the same for physical memory.
        whole: whether whole pages are read; on a serial line each byte costs time.
        focus: called before a read: checks that the target stands still, and selects whose memory
            it is.

    >>> reads = []
    >>> def fetch(address, length):
    ...     reads.append(f"{length} bytes at {address:#x}")
    ...     return bytes(length)
    >>> pages = Pages(fetch, fetch, whole=True, focus=lambda: None)
    >>> len(pages.read(0x1010, 4)), len(pages.read(0x1FFE, 2)), reads
    (4, 2, ['4096 bytes at 0x1000'])
    """

    def __init__(
        self,
        fetch: Callable[[int, int], bytes],
        fetch_physical: Callable[[int, int], bytes],
        *,
        whole: bool,
        focus: Callable[[], None],
    ) -> None:
        self._fetch = fetch
        self._fetch_physical = fetch_physical
        self._whole = whole
        self._focus = focus
        self._virtual = _Cache()
        self._physical = _Cache()

    def read(self, address: int, length: SupportsIndex, *, physical: bool = False) -> bytes:
        """Return memory.

        Args:
            address: of the first byte, linear or physical.
            length: in bytes.
            physical: whether the address is physical.

        Raises:
            MemoryFault: a part cannot be read; it carries the first bad address and the bytes
                before it.
            UnsupportedCommand: physical memory is asked for, and the stub cannot read it.
            LocalProtocolError: the target runs.
            ArgumentError: the range leaves the address space, or is longer than 4 GiB.
        """
        length = checked_length(address, length)
        arguments.flag(physical, "physical")
        self._focus()
        cache = self._physical if physical else self._virtual
        fetch = self._fetch_physical if physical else self._fetch
        if self._whole and 0 < length <= _MOST_CACHED and not cache.has(address, length):
            begin, end = address - address % PAGE, address + length
            with suppress(MemoryFault):  # the pages that can be read are kept
                _kept(cache, fetch, begin, end + -end % PAGE - begin)
        return _kept(cache, fetch, address, length)

    def read_exactly(self, address: int, length: SupportsIndex) -> bytes:
        """Return virtual memory of whom the stub has in focus, asking for no other bytes.

        Raises:
            MemoryFault, LocalProtocolError, ArgumentError: as ``read``.
        """
        length = checked_length(address, length)
        return _kept(self._virtual, self._fetch, address, length)

    def invalidate(self) -> None:
        """Forget what was read."""
        self._virtual = _Cache()
        self._physical = _Cache()


def _kept(cache: _Cache, fetch: Callable[[int, int], bytes], address: int, length: int) -> bytes:
    """Return memory from the cache; fetch what is missing and keep it, also what a fault spares."""
    if length > _MOST_CACHED:
        return fetch(address, length)
    out = bytearray()
    for at, size, known in cache.runs(address, length):
        if known is not None:
            out += known
            continue
        try:
            data = fetch(at, size)
        except MemoryFault as fault:
            cache.put(at, fault.partial)
            fault.partial = bytes(out) + fault.partial
            raise
        cache.put(at, data)
        out += data
    return bytes(out)


def checked_length(address: int, length: SupportsIndex) -> int:
    """Return the length of a range that can be read at once.

    Raises:
        ArgumentError: it cannot.
    """
    size = arguments.integer(length, "length", "a number of bytes", below=MOST_AT_ONCE + 1)
    if not 0 <= address <= arguments.END - size:
        raise ArgumentError(
            f"{size} bytes at {address:#x}: the range is not within 64 bits of address"
        )
    return size


class _Cache:
    """The bytes known since the target stopped: of each page, which and what."""

    def __init__(self) -> None:
        self._pages: dict[int, tuple[bytearray, int]] = {}

    def runs(self, address: int, length: int) -> Iterator[tuple[int, int, bytes | None]]:
        """Divide a range into what is known, with its bytes, and what is missing, with None.

        Neighbouring pages of which something is missing are one run.
        """
        missing = 0
        for at, size in _by_page(address, length):
            if not self._knows(at, size):
                missing += size
                continue
            if missing:
                yield at - missing, missing, None
                missing = 0
            content, _ = self._pages[at - at % PAGE]
            yield at, size, bytes(content[at % PAGE : at % PAGE + size])
        if missing:
            yield address + length - missing, missing, None

    def has(self, address: int, length: int) -> bool:
        """Return whether all of a range is known."""
        return all(self._knows(at, size) for at, size in _by_page(address, length))

    def _knows(self, address: int, size: int) -> bool:
        """Return whether a part of one page is known."""
        _, known = self._pages.get(address - address % PAGE, (b"", 0))
        wanted = (1 << size) - 1
        return (known >> address % PAGE) & wanted == wanted

    def put(self, address: int, data: bytes) -> None:
        if len(self._pages) > _MOST_PAGES:
            self._pages.clear()
        for at, size in _by_page(address, len(data)):
            base, offset = at - at % PAGE, at % PAGE
            content, known = self._pages.get(base) or (bytearray(PAGE), 0)
            content[offset : offset + size] = data[at - address : at - address + size]
            self._pages[base] = (content, known | ((1 << size) - 1) << offset)


def _by_page(address: int, length: int) -> Iterator[tuple[int, int]]:
    end = address + length
    while address < end:
        size = min(end - address, PAGE - address % PAGE)
        yield address, size
        address += size
