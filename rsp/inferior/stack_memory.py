"""The memory that a backtrace reads: the stack in blocks, in few requests."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rsp.errors import MemoryFault, RspError

if TYPE_CHECKING:
    from rsp.inferior.inferior import Inferior
    from rsp.wire.threads import ThreadId

_BLOCK: Final = 1024
"""So many bytes of the stack are read at once: some ten frames of a kernel."""
_SERIAL_BLOCK: Final = 16
"""So many on a serial line, where each costs 0.2 ms, and a request of its own 5 ms: registers are
saved beside each other."""
_STACK: Final = 1 << 14
"""So far around a stack pointer memory is a stack, which may be read without being asked for."""
_SPACE: Final = 1 << 64


class StackMemory:
    """The memory as a thread sees it, the stack in blocks, at the stop that it was made at.

    What was read stays; once the target has run, nothing more is. What is below ``begin`` is
    another task's, and is not read.
    """

    def __init__(self, inferior: Inferior, thread: ThreadId | None, *, begin: int = 0) -> None:
        self._begin = begin
        self._inferior = inferior
        self._thread = thread
        self._generation = inferior.generation
        # The target's own cache is of the current thread: each CPU has its own page tables.
        self._is_current = inferior.current in (None, thread)
        limits = inferior.limits
        self._sparing = not limits.reliable
        largest = min(_SERIAL_BLOCK if self._sparing else _BLOCK, limits.largest_read)
        self._block = 1 << largest.bit_length() - 1
        self._blocks: dict[int, bytes] = {}
        self._expected: dict[int, bytes] = {}
        self._faults: dict[tuple[int, int], MemoryFault] = {}
        self._stack = range(0)

    def silence(self) -> str | None:
        """Return why nothing can be read now; None where it can."""
        if self._inferior.silence is None and self._inferior.generation != self._generation:
            return "the target has run since this backtrace was taken"
        return self._inferior.silence

    def look_at(self, stack_pointer: int) -> None:
        """Take what is around a stack pointer for a stack."""
        self._stack = range(stack_pointer - _BLOCK, stack_pointer + _STACK)

    def expect(self, address: int, size: int) -> None:
        """Read these bytes, on a line where those around them cost too much."""
        if self._sparing and address // self._block not in self._blocks:
            with suppress(MemoryFault):
                data = self._ask(address, size)
                self._expected |= {address + at: data[at : at + 4] for at in range(0, size, 4)}

    def read(self, address: int, size: int) -> bytes | None:
        """Return memory, None where it cannot be read."""
        try:
            return self.fetch(address, size)
        except MemoryFault:
            return None

    def fetch(self, address: int, size: int) -> bytes:
        """Return memory.

        Raises:
            MemoryFault: it cannot be read, or not any more.
        """
        if address < 0 or address + size > _SPACE:
            raise MemoryFault(f"there is no memory at {address:#x}", address=address % _SPACE)
        known = [self._expected.get(each, b"") for each in range(address, address + size, 4)]
        if all(known):
            return b"".join(known)[:size]
        if size > self._block or not (
            address in self._stack or address // self._block in self._blocks
        ):
            return self._ask(address, size)
        data = b""
        while len(data) < size:
            number, offset = divmod(address + len(data), self._block)
            if number not in self._blocks:
                self._blocks[number] = self._ask_block(number * self._block)
            part = self._blocks[number][offset : offset + size - len(data)]
            if not part:  # not all of the block can be read
                return self._ask(address, size)
            data += part
        return data

    def _ask_block(self, address: int) -> bytes:
        try:
            return self._ask(address, self._block)
        except MemoryFault as fault:
            return fault.partial

    def _ask(self, address: int, size: int) -> bytes:
        # What several frames have the address of is asked for once, also if it cannot be read.
        known = self._faults.get((address, size))
        if known is not None:
            raise known
        try:
            return self._request(address, size)
        except MemoryFault as fault:
            self._faults[address, size] = fault
            raise

    def _request(self, address: int, size: int) -> bytes:
        if address < self._begin:
            raise MemoryFault(f"{address:#x} is in another address space", address=address)
        inferior = self._inferior
        if inferior.generation != self._generation:
            raise MemoryFault(
                f"{address:#x}: the target has run since this backtrace was taken",
                address=address,
            )
        try:
            if self._is_current:
                inferior.thread_list.focus(inferior.current)
                return inferior.pages.read_exactly(address, size)
            inferior.thread_list.focus(self._thread)
            return inferior.memory.read_seen(address, size)
        except MemoryFault:
            raise
        except RspError as error:
            if not inferior.usable:
                raise
            raise MemoryFault(str(error), address=address) from error
