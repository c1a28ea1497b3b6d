"""The memory of a core: virtual as a thread sees it, and physical.

Contents: which segment has an address, the page tables of a machine's CPUs, and the files of which
a process had mapped what the core leaves out. Not here: the cache (see `rsp.inferior.pages`).
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, SupportsIndex

from rsp import arguments
from rsp.arch.flags import Cr0, Cr4, Efer
from rsp.arch.paging import NotMapped, paging_of, paging_of_cpu, walk
from rsp.errors import LocalProtocolError, MemoryFault
from rsp.inferior.pages import checked_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from rsp.arch.paging import Paging
    from rsp.coredump.core_file import CoreFile, Segment
    from rsp.coredump.core_notes import CoreNotes, CoreThread, MappedFile

_PAGE: Final = 4096
_BLOCK: Final = 4096
# What Linux links its kernels to: __START_KERNEL_map, and __PAGE_OFFSET of i386.
_KERNEL_MAPS: Final = {8: 0xFFFFFFFF80000000, 4: 0xC0000000}


class _Range:
    """Where a part of memory comes from: a file, at an offset; or nobody has kept it."""

    __slots__ = ("begin", "end", "offset", "read")

    def __init__(
        self, begin: int, end: int, offset: int, read: Callable[[int, int], bytes]
    ) -> None:
        self.begin = begin
        self.end = end
        self.offset = offset
        self.read = read


class _Map:
    """Parts of memory by their addresses; some cores have a part several times."""

    def __init__(self, ranges: Iterable[_Range]) -> None:
        self._ranges: list[_Range] = []
        end = 0
        for each in sorted(ranges, key=lambda each: each.begin):
            known = max(0, end - each.begin)
            if each.begin + known < each.end:
                self._ranges.append(
                    _Range(each.begin + known, each.end, each.offset + known, each.read)
                )
                end = each.end
        self._begins = [each.begin for each in self._ranges]

    def read(self, address: int, length: int) -> bytes:
        """Return memory, as much as there is in one piece."""
        parts = []
        at, end = address, address + length
        while at < end:
            number = bisect_right(self._begins, at) - 1
            found = self._ranges[number] if number >= 0 else None
            if found is None or at >= found.end:
                break
            size = min(end, found.end) - at
            data = found.read(found.offset + at - found.begin, size)
            parts.append(data)
            at += len(data)
            if len(data) < size:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)


class CoreMemory:
    """Reads the memory of a core.

    Args:
        core: the file.
        notes: what its notes say.

    Attributes:
        thread: whose memory is read: each CPU has its own page tables.
    """

    def __init__(self, core: CoreFile, notes: CoreNotes) -> None:
        self.thread: CoreThread | None = None
        self.fallback: Callable[[int, int], bytes] | None = None
        self._core = core
        self._is_machine = notes.is_machine
        segments = core.segments
        self._files = _Map(_mapped(notes.files, core))
        virtual = [each for each in segments if each.virtual or not notes.is_machine]
        self._virtual = _Map(self._ranges(virtual, lambda each: each.virtual))
        physical = [each for each in segments if each.physical is not None and notes.is_machine]
        self._physical = _Map(self._ranges(physical, lambda each: each.physical or 0))
        self._kernel = _kernel_tables(notes.vmcoreinfo, core.word_size)
        self._block = lru_cache(maxsize=1 << 12)(self._read_block)

    def _ranges(
        self, segments: Iterable[Segment], begin_of: Callable[[Segment], int]
    ) -> Iterator[_Range]:
        for each in segments:
            if each.in_file:
                begin = begin_of(each)
                yield _Range(begin, begin + each.in_file, each.offset, self._core.at)

    def read(self, address: int, length: SupportsIndex, *, physical: bool = False) -> bytes:
        """Return memory.

        Raises:
            MemoryFault: a part of it is not in the core.
            LocalProtocolError: physical memory of a process is asked for.
            ArgumentError: the range leaves the 64-bit address space.
        """
        size = checked_length(address, length)
        if arguments.flag(physical, "physical"):
            self._check_physical()
            return _whole(self._physical.read(address, size), address, size, "physical ")
        data = self._seen(address, size)
        if len(data) < size and self.fallback is not None:
            at = address + len(data)
            try:
                data += self.fallback(at, size - len(data))
            except MemoryFault as fault:
                data += fault.partial
        return _whole(data, address, size)

    def read_seen(self, address: int, length: int) -> bytes:
        """Return what the CPU itself sees; the errors of `read`."""
        size = checked_length(address, length)
        return _whole(self._seen(address, size), address, size)

    def physical(self) -> AbstractContextManager[None]:
        """Share nothing, as nothing is switched; LocalProtocolError of a process."""
        self._check_physical()
        return nullcontext()

    def _check_physical(self) -> None:
        if not self._is_machine:
            raise LocalProtocolError("the core of a process has no physical memory")

    # --- virtual memory ---

    def _seen(self, address: int, size: int) -> bytes:
        state = self.thread.state if self.thread is not None else None
        if not self._is_machine:
            data = self._virtual.read(address, size)
            while len(data) < size:
                at = address + len(data)
                # Linux leaves out what is in the files, gdb's gcore does not.
                more = self._files.read(at, size - len(data)) or self._virtual.read(
                    at, size - len(data)
                )
                if not more:
                    break
                data += more
            return data
        if (view := paging_of_cpu({}, state)) is not None:
            return self._walked(address, size, *view)
        data = self._virtual.read(address, size)
        if len(data) < size and self._kernel is not None:
            root, paging = self._kernel
            data += self._walked(address + len(data), size - len(data), root, paging)
        return data

    def _walked(self, address: int, size: int, root: int, paging: Paging) -> bytes:
        parts = []
        at, end = address, address + size
        while at < end:
            found = walk(at, root, paging, self._entry)
            if isinstance(found, NotMapped):
                break
            length = min(end - at, found.page_size - at % found.page_size)
            data = self._physical.read(found.physical, length)
            parts.append(data)
            at += len(data)
            if len(data) < length:
                break
        return b"".join(parts)

    def _entry(self, physical: int, size: int) -> bytes:
        offset = physical % _BLOCK
        data = self._block(physical - offset)[offset : offset + size]
        return data if len(data) == size else bytes(size)  # not present

    def _read_block(self, physical: int) -> bytes:
        return self._physical.read(physical, _BLOCK)


def _whole(data: bytes, address: int, size: int, kind: str = "") -> bytes:
    if len(data) < size:
        raise MemoryFault(
            f"cannot read {kind}memory at {address + len(data):#x}: the core does not have it",
            address=address + len(data),
            partial=data,
        )
    return data


def _kernel_tables(info: dict[str, str], word: int) -> tuple[int, Paging] | None:
    """Return the kernel's own page tables by VMCOREINFO, None where that does not say."""
    try:
        root = int(info["SYMBOL(swapper_pg_dir)"], 16) - _KERNEL_MAPS[word]
        root += int(info.get("NUMBER(phys_base)", "0"), 0)
        cr4 = Cr4.LA57 if int(info.get("NUMBER(pgtable_l5_enabled)", "0")) else Cr4(0)
    except (KeyError, ValueError):
        return None
    if word == 8 or info.get("CONFIG_X86_PAE") == "y":
        cr4 |= Cr4.PAE
    efer = Efer.LMA if word == 8 else 0
    return root, paging_of(cr0=Cr0.PG | Cr0.PE, cr4=cr4, efer=efer)


def _mapped(files: tuple[MappedFile, ...], core: CoreFile) -> Iterator[_Range]:
    """Yield what can be read of the files that a process had mapped, where they are unchanged."""
    kept = _Map(
        _Range(each.virtual, each.virtual + each.in_file, each.offset, core.at)
        for each in core.segments
        if each.in_file
    )
    reads: dict[str, Callable[[int, int], bytes] | None] = {}
    for each in files:
        if each.path not in reads:
            reads[each.path] = _reader(each, kept)
        read = reads[each.path]
        if read is not None:
            yield _Range(each.begin, each.end, each.offset, read)


def _reader(mapped: MappedFile, kept: _Map) -> Callable[[int, int], bytes] | None:
    """Return what reads a file, None where it is not here, or another one by now."""
    path = Path(mapped.path)
    if not path.is_absolute() or not path.is_file():
        return None

    def read(offset: int, size: int) -> bytes:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError:
            return b""

    # Linux keeps the first page of each ELF file, for its build-id.
    head = kept.read(mapped.begin, _PAGE)
    return read if not head or read(mapped.offset, len(head)) == head else None
