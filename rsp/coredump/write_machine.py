"""What the core of a machine is made of: its CPUs, its physical memory, its page tables' view.

Contents: where RAM is, what the page tables of all CPUs map, and, with the symbols of a kernel, its
own page tables and its VMCOREINFO. Not here: the bytes of the notes (``write_notes``) and of the
file (``write_elf``).

Sources: QEMU dump/dump.c, softmmu/memory_mapping.c, softmmu/memory.c (``info mtree -f``).
"""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import TYPE_CHECKING, Final

from rsp.arch.flags import Efer
from rsp.arch.mapped_ranges import Mapped, mapped_ranges
from rsp.arch.modes import CpuMode
from rsp.arch.paging import NO_PAGING, paging_of_cpu
from rsp.coredump.note_layout import VMCOREINFO
from rsp.coredump.ranges import Range, parts_within, union, without
from rsp.coredump.vmcoreinfo import first_table, vmcoreinfo
from rsp.coredump.write_elf import MOST_LOADS, Core, Load, Run, note
from rsp.coredump.write_notes import float_notes, prstatus, qemu_note
from rsp.errors import MemoryFault, StubError, SymbolError, UnsupportedCommand
from rsp.inferior.page_tables import PageTables
from rsp.linux.kernel import Kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rsp.arch.modes import CpuState
    from rsp.arch.paging import Paging
    from rsp.arch.registers import Registers
    from rsp.inferior.live import LiveInferior

logger: Final = logging.getLogger("rsp.coredump")

_VIEW: Final = re.compile(r"^FlatView #\d+$", re.MULTILINE)
# RAM, and the firmware's ROM; "i/o" is devices, and "ramd" the memory of a real one.
_MEMORY: Final = re.compile(
    r"^ +([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, (?:ram|rom)\): ", re.MULTILINE
)
_USER_HALF: Final = 1 << 12  # of the page tables under page-table isolation
_UPPER_HALF: Final = 1 << 63
_UPPER_QUARTER: Final = 3 << 30


def machine_core(inferior: LiveInferior) -> Core:
    """Return the core of a machine at its stop.

    Raises:
        UnsupportedCommand: the stub does not tell where RAM is.
        StubError: it gives no registers.
    """
    runs = [Run(begin, end - begin) for begin, end in ram_ranges(inferior)]
    kernel = inferior.system if isinstance(inferior.system, Kernel) else None
    threads = inferior.threads() or (None,)
    cpus = [(inferior.registers_of(thread), inferior.processor.state(thread)) for thread in threads]
    word = 8 if any(_is_long(registers, state) for registers, state in cpus) else 4
    notes = []
    for number, (registers, _) in enumerate(cpus):
        notes.append(prstatus(registers, word, thread=number + 1))
        notes.append(float_notes(registers, word))
    notes += [qemu_note(registers, state) for registers, state in cpus if state is not None]
    views = [view for view in (_view(*cpu) for cpu in cpus) if view is not None]
    lowest = 0
    if kernel is not None and not views:
        logger.warning("the core has no VMCOREINFO, which drgn needs: no CPU has page tables yet")
    elif kernel is not None:
        paging = views[0][1]
        try:
            text = vmcoreinfo(inferior, kernel, len(paging.index_bits))
            notes.append(note(VMCOREINFO, 0, text))
            views.insert(0, (_kernel_root(inferior), paging))
            lowest = first_table(inferior) & (_UPPER_HALF if word == 8 else _UPPER_QUARTER)
        except (StubError, SymbolError) as error:
            logger.warning("the core has no VMCOREINFO, which drgn needs: %s", error)
    inferior.thread_list.focus(inferior.current)
    with inferior.physical_memory():
        loads = _loads(runs, views, lowest, _table_reader(inferior))
    return Core(word_size=word, notes=b"".join(notes), runs=runs, loads=loads, physical=True)


def ram_ranges(inferior: LiveInferior) -> list[Range]:
    """Return where RAM and ROM are in the physical address space, in order.

    Raises:
        UnsupportedCommand: the stub has no monitor, or one that does not tell.
    """
    try:
        text = inferior.session.monitor("info mtree -f")
    except StubError as error:
        raise _untold(str(error)) from error
    found = ranges_in(text)
    if not found:
        raise _untold("its answer to `info mtree -f` has no RAM")
    return found


def ranges_in(text: str) -> list[Range]:
    r"""Read what QEMU's monitor prints for ``info mtree -f``: RAM and ROM of the system's memory.

    >>> ranges_in(
    ...     'FlatView #1\n AS "memory", root: system\n Root memory region: system\n'
    ...     "  0000000000000000-000000000009ffff (prio 0, ram): pc.ram\n"
    ...     "  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem\n"
    ... )
    [Range(begin=0x0, end=0xa0000)]
    """
    views = _VIEW.split(text)
    named = [view for view in views if ' AS "memory"' in view]
    return union(
        Range(int(begin, 16), int(last, 16) + 1)
        for view in named[:1]
        for begin, last in _MEMORY.findall(view)
    )


def _untold(why: str) -> UnsupportedCommand:
    return UnsupportedCommand(
        f"where RAM is cannot be found out ({why}): QEMU's monitor tells it from 2.11. Read the "
        "ranges that you know with read_memory(…, physical=True) (`rsp read --physical`)",
        command="info mtree -f",
    )


def _is_long(registers: Registers, state: CpuState | None) -> bool:
    efer = registers.get("efer")
    if efer is None and state is not None:
        return state.mode in (CpuMode.LONG64, CpuMode.COMPAT32)
    return bool((efer or 0) & Efer.LMA)


def _view(registers: Registers, state: CpuState | None) -> tuple[int, Paging] | None:
    """Return CR3 and the paging mode of a CPU; None where it does not page, or nothing tells."""
    view = paging_of_cpu(registers, state)
    return None if view is None or view[1] is NO_PAGING else view


def _kernel_root(inferior: LiveInferior) -> int:
    """Return the physical address of the kernel's own first page table."""
    address = first_table(inferior)
    try:
        return PageTables(inferior).translate(address).physical
    except MemoryFault:
        tables = PageTables(inferior)
        return PageTables(inferior, tables.root & ~_USER_HALF).translate(address).physical


def _table_reader(inferior: LiveInferior) -> Callable[[int, int], bytes]:
    @cache
    def read(physical: int, size: int) -> bytes:
        return inferior.read_memory(physical, size, physical=True)

    return read


def _loads(
    runs: list[Run],
    views: list[tuple[int, Paging]],
    lowest: int,
    read: Callable[[int, int], bytes],
) -> list[Load]:
    """Return segments by linear address, and behind them what of RAM has none.

    Args:
        runs: RAM.
        views: the first tables; where two map an address, the first counts.
        lowest: the first linear address that is taken. Of a kernel it is the kernel's half: the
            other is that of whatever process runs, and drgn would unwind into it.
        read: returns physical memory by address and length.
    """
    ram = [Range(run.address, run.address + run.size) for run in runs]
    run_of = dict(zip(ram, runs, strict=True))
    taken = [Range(0, lowest)] if lowest else []
    pieces: list[tuple[Mapped, Range]] = []
    for root, paging in dict.fromkeys(views):
        new = list(_new_in(mapped_ranges(root, paging, read), taken))
        pieces += [piece for each in new for piece in _in_ram(each, ram)]
        taken = union([*taken, *(Range(each.address, each.address + each.size) for each in new)])
    room = MOST_LOADS - len(ram)
    if len(pieces) > room:
        pieces.sort(key=lambda piece: -piece[0].size)
        logger.warning(
            "the page tables map %d ranges, and a core has room for %d: the smallest are left out",
            len(pieces),
            room,
        )
        del pieces[room:]
    loads = [
        Load(
            address=each.address,
            physical=each.physical,
            size=each.size,
            run=run_of[area],
            offset=each.physical - area.begin,
        )
        for each, area in sorted(pieces)
    ]
    seen = union(Range(each.physical, each.physical + each.size) for each, _ in pieces)
    for part in without(ram, seen):
        for (begin, end), area in parts_within(part, ram):
            loads.append(
                Load(
                    address=0 if views else begin,
                    physical=begin,
                    size=end - begin,
                    run=run_of[area],
                    offset=begin - area.begin,
                )
            )
    return loads


def _new_in(mapped: Iterator[Mapped], taken: list[Range]) -> Iterator[Mapped]:
    """Yield what is at linear addresses that are not taken."""
    for each in mapped:
        for begin, end in without([Range(each.address, each.address + each.size)], taken):
            yield Mapped(begin, each.physical + begin - each.address, end - begin)


def _in_ram(each: Mapped, ram: list[Range]) -> Iterator[tuple[Mapped, Range]]:
    """Yield the parts of a mapping that are in RAM, each with the range."""
    wanted = Range(each.physical, each.physical + each.size)
    for (begin, end), area in parts_within(wanted, ram):
        yield Mapped(each.address + begin - each.physical, begin, end - begin), area
