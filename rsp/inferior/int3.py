"""Breakpoints of a stub that sets none: an int3 in the target's memory, as gdb's own.

Contents: what was where an int3 is now (gdb's shadow contents), and the reads and writes that do
not notice the difference. Not here: who wants a breakpoint (see ``rsp.run.breakpoints``).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rsp.errors import MemoryFault, RspError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INT3: Final = b"\xcc"


class Int3s:
    r"""The int3 instructions that we have written.

    Args:
        fetch: reads what is really there, by address and length.
        store: writes it.

    >>> memory = bytearray(b"\x55\x90")
    >>> def store(address, data):
    ...     memory[address : address + len(data)] = data
    >>> int3s = Int3s(lambda address, length: bytes(memory[address : address + length]), store)
    >>> int3s.insert(0)
    >>> memory.hex(), int3s.hidden(0, bytes(memory)).hex()
    ('cc90', '5590')
    >>> int3s.remove(0)
    >>> memory.hex()
    '5590'
    """

    def __init__(
        self, fetch: Callable[[int, int], bytes], store: Callable[[int, bytes], None]
    ) -> None:
        self._fetch = fetch
        self._store = store
        self._shadows: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._shadows)

    def insert(self, address: int) -> None:
        """Write one.

        Raises:
            MemoryFault: nothing can be read or written there, or what was written is not kept.
            UnsupportedCommand: the stub writes no memory.
        """
        original = self._fetch(address, len(INT3))
        self._shadows[address] = original
        try:
            self._store(address, INT3)
            is_kept = self._fetch(address, len(INT3)) == INT3
        except BaseException:  # Ctrl-C, too: whether it has been written is not known
            with suppress(RspError):
                self.remove(address)
            raise
        if not is_kept:
            del self._shadows[address]
            raise MemoryFault(
                f"no breakpoint at {address:#x}: what is written there is not kept (read-only "
                "memory, or a device), and this stub has no other breakpoints",
                address=address,
            )

    def remove(self, address: int, *, of_copy: bool = False) -> None:
        """Write back what was there, unless something else is there by now.

        Args:
            address: where it is.
            of_copy: whether the memory is a child's, and the target itself keeps its own.

        Raises:
            MemoryFault: it cannot be written, and the int3 stays.
        """
        original = self._shadows.get(address)
        if original is None:
            return
        if not of_copy:
            del self._shadows[address]
        try:
            there = self._fetch(address, len(INT3))
        except MemoryFault:  # the memory has gone, and ours with it
            return
        if there != INT3:
            return
        self._store(address, original)
        if self._fetch(address, len(INT3)) != original:
            raise MemoryFault(
                f"the int3 at {address:#x} cannot be removed: what is written there is not kept",
                address=address,
            )

    def forget(self) -> None:
        """Note that the target has ended, and its memory."""
        self._shadows.clear()

    def hidden(self, address: int, data: bytes) -> bytes:
        """Return what was read at an address as if no int3 of ours were there."""
        within = list(self._within(address, len(data)))
        if not within:
            return data
        changed = bytearray(data)
        for at in within:
            changed[at - address : at - address + 1] = self._shadows[at]
        return bytes(changed)

    def write(self, address: int, data: bytes) -> None:
        """Write memory around those that are there; what is written over them is theirs to hide."""
        changed = bytearray(data)
        within = list(self._within(address, len(data)))
        for at in within:
            changed[at - address : at - address + 1] = INT3
        written = address + len(data)
        try:
            self._store(address, bytes(changed))
        except MemoryFault as fault:
            written = fault.address
            raise
        finally:
            for at in within:
                if at < written:
                    self._shadows[at] = data[at - address : at - address + 1]

    def _within(self, address: int, length: int) -> Iterator[int]:
        return (at for at in self._shadows if address <= at < address + length)
