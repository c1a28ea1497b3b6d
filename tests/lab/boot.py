"""The boot sector under test: its labels, the modes on its way, and whether it still runs.

Contents: what the live tests and the recorder of the corpus know of `rsp.testing.boot`; the address
of each label is read from its ELF. Not here: how a machine is started.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from rsp.arch.modes import CpuMode
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from rsp.testing.qemu import QemuMachine


def _labels() -> dict[str, int]:
    with ELF.open("rb") as image:
        table = ELFFile(image).get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        return {
            symbol.name: int(symbol["st_value"]) for symbol in table.iter_symbols() if symbol.name
        }


LABELS = _labels()

# Each label of the way, in its order, and the mode that the CPU is in there (boot.S).
STATIONS = {
    "qemu-system-x86_64": {
        "real_start": CpuMode.REAL16,
        "real_based": CpuMode.REAL16,
        "protected16": CpuMode.PROTECTED16,
        "protected_start": CpuMode.PROTECTED32,
        "compat_start": CpuMode.COMPAT32,
        "long_start": CpuMode.LONG64,
        "tick": CpuMode.LONG64,
    },
    "qemu-system-i386": {
        "real_start": CpuMode.REAL16,
        "real_based": CpuMode.REAL16,
        "protected16": CpuMode.PROTECTED16,
        "protected_start": CpuMode.PROTECTED32,
        "no_long_mode": CpuMode.PROTECTED32,
    },
}

MAPPED = 0x200000
"""In the 64-bit modes the first address that is not mapped."""


def counter(machine: QemuMachine) -> int:
    """Return the guest's counter, read through QEMU's monitor."""
    return int(machine.monitor(f"xp/gx {LABELS['counter']:#x}").split(":")[1], 16)


def wait_until_it_counts(machine: QemuMachine) -> None:
    """Wait until the counter has moved three times: the guest runs, and meets no breakpoint."""
    deadline = time.monotonic() + 120
    before = counter(machine)
    for _ in range(3):
        while (now := counter(machine)) == before:
            assert time.monotonic() < deadline, machine.monitor("info status")
            time.sleep(0.005)
        before = now
