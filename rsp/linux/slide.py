"""Where a running kernel is: how far KASLR has moved it from its link addresses.

Contents: the ways to a guess and the one way to certainty, which is the build-id in the kernel's
own notes: it proves the place and the vmlinux at once. Code proves little: a running kernel has
patched it, and much of it is alike. Nothing is searched for in memory as long as there is a better
way: copies of vmlinux in the page cache look like the kernel itself.

Sources: Linux arch/x86/kernel/head_64.S and boot/compressed/kaslr.c (multiples of
CONFIG_PHYSICAL_ALIGN, within 1 GiB from 0xffffffff80000000; on i386 within 512 MiB from
0xc0000000), arch/x86/kernel/idt.c.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from rsp.arch.descriptors import gate
from rsp.arch.flags import Cr0
from rsp.errors import MemoryFault, RegisterUnavailable, StubError, SymbolError
from rsp.inferior.page_tables import PageTables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rsp.arch.modes import CpuState
    from rsp.arch.registers import Registers
    from rsp.inferior.inferior import Inferior
    from rsp.symbols.binary import Binary
    from rsp.symbols.table import SymbolTable

logger: Final = logging.getLogger("rsp.linux")

BANNER: Final = "linux_banner"

# What vector 0 leads to: since 5.8, before, and while the kernel starts.
_DIVIDE_ERRORS: Final = ("asm_exc_divide_error", "divide_error", "early_idt_handler_array")
_STARTS: Final = ("x86_64_start_kernel", "i386_start_kernel", "start_kernel")
# CONFIG_PHYSICAL_ALIGN is 2 MiB everywhere in practice, and at least that on x86-64.
_ALIGN: Final = 1 << 21
# Where a kernel's image may be, by the size of a word.
_RANGES: Final = {
    8: range(0xFFFFFFFF80000000, 0xFFFFFFFFC0000000),
    4: range(0xC0000000, 0xF8000000),
}
_STACK: Final = 1024
_MOST_TRIED: Final = 24
# PTI: the page tables of user mode are the second page of two (arch/x86/mm/pti.c).
_USER_HALF: Final = 1 << 12
# More than the code of kgdb_breakpoint.
_STOP_SIZE: Final = 64
# How much is looked through for the identity of a kernel that is another one.
_SEARCHED: Final = 1 << 26
_PIECE: Final = 1 << 16
_PAGE: Final = 1 << 12
_NOTE: Final = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0"
_VERSION: Final = b"Linux version "


def is_kernel(table: SymbolTable) -> bool:
    """Return whether symbols are those of a Linux kernel."""
    return BANNER in table and "init_task" in table


class SlideFinder:
    """Finds the slide of a kernel that a target runs.

    Args:
        inferior: what runs.
        table: the symbols of its vmlinux.

    Raises:
        SymbolError: the file has neither a build-id nor a banner to recognize its kernel by.
    """

    def __init__(self, inferior: Inferior, table: SymbolTable) -> None:
        self._inferior = inferior
        self._table = table
        binary, _ = next(table.binaries())
        self._range = _RANGES[table.word_size]
        self._word = table.word_size
        self._text = _bounds(binary)
        self._proof = _proof(table, binary)
        self._tried: dict[int, bool] = {}

    def find(self) -> int | None:
        """Return the slide; None where nothing of a running kernel is seen, as before it starts.

        Raises:
            SymbolError: a kernel runs, and it is another one than that of the symbols.
        """
        self._tried = {}
        seen: int | None = None
        state = self._inferior.cpu_state
        handler = self._divide_error(state) if state is not None else None
        if handler is not None:
            if _range_of(handler) is not None:
                seen = handler
            for name in _DIVIDE_ERRORS:
                if name in self._table and self._holds(handler - self._link(name)):
                    return handler - self._link(name)
        for address in self._pcs():
            if _range_of(address) is not None:
                seen = seen or address
            if address in self._range:
                for slide in self._around(address):
                    if self._holds(slide):
                        return slide
        if state is None:
            for slide in islice(self._from_stack(), _MOST_TRIED):
                if self._holds(slide):
                    return slide
        # A kernel that is its own stub is up, and so is one whose stub tells nothing of the CPU as
        # soon as its code runs; on QEMU it may be half unpacked.
        if seen is not None and (state is None or self._identity(seen) != (None, None)):
            raise self._other(seen)
        return None

    def is_still_at(self, slide: int) -> bool:
        """Return whether a kernel that was found is where it was; the errors of ``find``."""
        # One of 32 bits maps all low memory, and there what the last one has left where that was.
        found = self.find() if self._word == 4 else None
        return self._holds(slide) if found is None else found == slide

    # --- guesses ---

    def _divide_error(self, state: CpuState) -> int | None:
        """Return where the CPU would go for vector 0, None where its IDT is no kernel's."""
        size = 2 * self._word
        if not state.idt.base or state.idt.limit < size - 1:
            return None
        try:
            return gate(self._inferior.read_memory(state.idt.base, size)).offset or None
        except MemoryFault:
            return None

    def _pcs(self) -> Iterator[int]:
        inferior = self._inferior
        with suppress(RegisterUnavailable):  # of a task that sleeps, its stack tells
            yield inferior.registers.pc
        if inferior.cpu_state is None:  # of one with a monitor the tables have said more
            return
        for thread in inferior.threads():
            yield inferior.registers_of(thread).pc

    def _from_stack(self) -> Iterator[int]:
        """Yield slides by how many words of the stack may be addresses in the kernel's text."""
        registers = self._inferior.registers
        try:
            stack = self._inferior.read_memory(registers.sp & -self._word, _STACK)
        except MemoryFault as fault:
            stack = fault.partial
        except StubError:
            return
        votes: Counter[int] = Counter()
        for at in range(0, len(stack) - self._word + 1, self._word):
            word = int.from_bytes(stack[at : at + self._word], "little")
            if word in self._range:
                votes.update(self._around(word))
        for slide, _ in votes.most_common():
            yield slide

    def _around(self, address: int) -> list[int]:
        """Return the slides for which an address is in the kernel's text, the likely ones first."""
        begin, end = self._text
        first = -(-(address - end + 1) // _ALIGN) * _ALIGN
        slides = range(first, address - begin + 1, _ALIGN)
        # Where kgdb is broken into it stands in this function; and many a kernel does not slide.
        name = "kgdb_breakpoint"
        stop = self._link(name) if name in self._table else address
        return sorted(
            (slide for slide in slides if begin + slide >= self._range.start),
            key=lambda slide: (not stop <= address - slide < stop + _STOP_SIZE, slide != 0),
        )

    # --- certainty ---

    def _holds(self, slide: int) -> bool:
        if slide not in self._tried:
            address, expected = self._proof
            self._tried[slide] = self._read(address + slide, len(expected)) == expected
        return self._tried[slide]

    def _read(self, address: int, length: int) -> bytes | None:
        if not 0 <= address <= (1 << 8 * self._word) - length:
            return None
        try:
            return self._inferior.read_memory(address, length)
        except MemoryFault:
            return None

    def _link(self, name: str) -> int:
        symbol = self._table[name]
        return symbol.address - self._table.slide

    # --- another kernel ---

    def _identity(self, seen: int) -> tuple[bytes | None, bytes | None]:
        """Return the build-id and the banner of the kernel around an address."""
        if self._inferior.limits.window == 1:
            return None, None  # to read that much over a serial line takes an hour
        return identity_in(self._pieces(seen), self._is_constant)

    def _pieces(self, seen: int) -> Iterator[tuple[int, bytes]]:
        """Yield what can be read from an address on; each piece begins with the end of the last."""
        data = b""
        for address in range(seen & -_ALIGN, (_range_of(seen) or self._range).stop, _PIECE):
            if address - seen > _SEARCHED:
                return
            try:
                read = self._inferior.read_memory(address, _PIECE)
            except MemoryFault:
                data = b""
                continue
            base, data = address - len(data[-_PAGE:]), data[-_PAGE:] + read
            yield base, data

    def _is_constant(self, address: int) -> bool:
        """Whether nobody may write there, as far as the page tables are known."""
        try:
            return not PageTables(self._inferior).translate(address).writable
        except StubError:
            return True

    def _other(self, seen: int) -> SymbolError:
        build_id, banner = self._identity(seen)
        ours = self._table.build_id
        runs = f"build-id {build_id.hex()}" if build_id else "another build-id"
        if banner:
            runs += f", {banner.decode('utf-8', 'replace')}"
        return SymbolError(
            f"{self._table.path} (build-id {ours.hex() if ours else 'none'}) is not the kernel "
            f"that runs ({runs}): give the vmlinux of that build"
        )


def was_reset(inferior: Inferior, table: SymbolTable) -> bool:
    """Return whether the kernel is no longer where its symbols are: it, or another, boots anew.

    A CPU that does not page sees nothing of a kernel: it may be one that is only now started. Steps
    are not asked, since many are of one command; nor is a serial line, which does not survive this.
    """
    if inferior.stepped or not inferior.limits.reliable:
        return False
    if _pages(inferior.registers):
        return not SlideFinder(inferior, table).is_still_at(table.slide)
    return not any(_pages(inferior.registers_of(thread)) for thread in inferior.threads())


def _pages(registers: Registers) -> bool:
    cr0 = registers.get("cr0")
    return cr0 is None or bool(cr0 & Cr0.PG)


def start_places(table: SymbolTable) -> range:
    """Return all addresses that the kernel's first function in C may have."""
    binary, _ = next(table.binaries())
    name = next((name for name in _STARTS if name in table), _STARTS[-1])
    first = table[name].address - table.slide
    room = _RANGES[table.word_size].stop - _bounds(binary)[1]
    return range(first, first + room, _ALIGN)


def read_by_kernel(inferior: Inferior, address: int, length: int) -> bytes:
    """Read memory as the kernel sees it, while a CPU is in user mode with page-table isolation.

    Raises:
        MemoryFault: it is not mapped there either, or no other page tables are known.
        UnsupportedCommand: the stub cannot read physical memory.
    """
    cr3 = inferior.registers.get("cr3")
    if cr3 is None or not cr3 & _USER_HALF:
        raise MemoryFault(f"nothing is mapped at {address:#x}", address=address)
    return PageTables(inferior, cr3 & ~_USER_HALF).read(address, length)


def _range_of(address: int) -> range | None:
    """Return the range that a kernel may be in, of either width, for an address in it."""
    return next((each for each in _RANGES.values() if address in each), None)


def identity_in(
    pieces: Iterable[tuple[int, bytes]], is_constant: Callable[[int], bool]
) -> tuple[bytes | None, bytes | None]:
    """Return the build-id and the banner of a kernel in some memory; None for what is not there.

    Between a kernel's text and its data, and between them and what nobody may write, lies memory
    that was freed, and has files in it by now. A kernel's own build-id is in constant memory, since
    5.5 behind the banner.

    Args:
        pieces: memory by its addresses, in their order.
        is_constant: whether nobody may write at an address.
    """
    banner = begin = None
    in_front = behind = None
    for base, data in pieces:
        at = data.find(_VERSION)
        if banner is None and at >= 0 and data[at + len(_VERSION) :][:1].isdigit():
            begin, banner = base + at, data[at : at + 256].partition(b"\n")[0]
        for at in _build_ids(data):
            if is_constant(base + at):
                build_id = data[at : at + 20]
                if begin is not None and base + at > begin:
                    behind = behind or build_id
                else:
                    in_front = in_front or build_id
        if behind:
            break
    return behind or in_front, banner


def _build_ids(data: bytes) -> Iterator[int]:
    """Yield where build-ids are in pages of a kernel that may be its own."""
    at = data.find(_NOTE)
    while 0 <= at <= len(data) - len(_NOTE) - 20:
        # The kernel has images of the vDSO in it, which have notes of their own.
        page = at & -_PAGE
        if data[page : page + 4] != b"\x7fELF":
            yield at + len(_NOTE)
        at = data.find(_NOTE, at + 1)


def _bounds(binary: Binary) -> tuple[int, int]:
    """Return the link addresses that the kernel's code lies between."""
    sections = binary.image.sections
    code = [each for each in sections if each.executable and each.address and each.size]
    if not code:
        raise SymbolError(f"{binary.path} has no code")
    return (
        min(each.address for each in code),
        max(each.address + each.size for each in code),
    )


def _proof(table: SymbolTable, binary: Binary) -> tuple[int, bytes]:
    """Return bytes that only this kernel has, and their link address."""
    image = binary.image
    build_id, notes = image.build_id, image.named(".notes")
    if build_id and notes is not None and notes.address:
        at = image.contents(notes).find(build_id)
        if at >= 0:
            return notes.address + at, build_id
    symbol = table[BANNER]
    address = symbol.address - table.slide
    banner = binary.read(address, max(symbol.size, 16))
    if banner:
        return address, banner
    raise SymbolError(
        f"{image.path} has neither a build-id nor {BANNER}: nothing to recognize its kernel by"
    )
