"""The page tables of a target's CPU: where linear addresses are, also of another address space.

Contents: which registers the walk takes, whose memory it reads, and memory read through page tables
that the CPU does not use now. The walk itself is `rsp.arch.paging`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from rsp.arch.paging import NotMapped, paging_of_cpu, walk
from rsp.errors import MemoryFault, UnsupportedCommand

if TYPE_CHECKING:
    from rsp.arch.paging import Paging, Translation
    from rsp.inferior.inferior import Inferior

# Entries are read in blocks of this size: those of neighbouring pages come with one request.
_BLOCK: Final = 512


class PageTables:
    """The page tables of the current thread's CPU, as long as the target stands still.

    Args:
        inferior: whose.
        root: the physical address of the first table, or a value of CR3; None for the CPU's own.

    Raises:
        UnsupportedCommand: the stub gives no control registers.
    """

    def __init__(self, inferior: Inferior, root: int | None = None) -> None:
        self._inferior = inferior
        found = paging_of_cpu(inferior.registers, None) or paging_of_cpu({}, inferior.cpu_state)
        if found is None:
            raise UnsupportedCommand(
                "this stub gives no control registers, and so no page tables; QEMU's does",
                command="g",
            )
        cr3, paging = found
        self.paging: Paging = paging
        self.root: int = cr3 if root is None else root
        self._block = cache(self._read_block)

    def translate(self, address: int) -> Translation:
        """Return where a linear address is.

        Raises:
            MemoryFault: it is not mapped.
            UnsupportedCommand: the stub cannot read physical memory.
        """
        with self._inferior.physical_memory():
            found = walk(address, self.root, self.paging, self._entry)
        if isinstance(found, NotMapped):
            raise MemoryFault(str(found), address=address)
        return found

    def read(self, address: int, length: int) -> bytes:
        """Read memory through these tables.

        Raises:
            MemoryFault: a part is not mapped; ``partial`` has what is before it.
            UnsupportedCommand: the stub cannot read physical memory.
        """
        data = bytearray()
        with self._inferior.physical_memory():
            while len(data) < length:
                at = address + len(data)
                try:
                    found = self.translate(at)
                except MemoryFault as fault:
                    fault.partial = bytes(data)
                    raise
                size = min(length - len(data), found.page_size - at % found.page_size)
                data += self._inferior.read_memory(found.physical, size, physical=True)
        return bytes(data)

    def _entry(self, physical: int, size: int) -> bytes:
        offset = physical % _BLOCK
        return self._block(physical - offset)[offset : offset + size]

    def _read_block(self, physical: int) -> bytes:
        return self._inferior.read_memory(physical, _BLOCK, physical=True)
