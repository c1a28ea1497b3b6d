"""VMCOREINFO: what a Linux kernel says of itself for those that read its core.

Contents: the kernel's own text, or one made up of its symbols where it has not written its own yet,
or is built without. Not here: the note that it is put into.

Sources: Linux kernel/crash_core.c, arch/x86/kernel/machine_kexec_64.c; drgn, linux_kernel.c, for
what is used of it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from rsp.errors import StubError, SymbolError
from rsp.inferior.evaluation import evaluate_at

if TYPE_CHECKING:
    from rsp.inferior.live import LiveInferior
    from rsp.linux.kernel import Kernel

logger: Final = logging.getLogger("rsp.coredump")

_BEGIN: Final = b"OSRELEASE="
_MOST: Final = 1 << 16
_FIVE_LEVELS: Final = 5
_TABLES: Final = ("swapper_pg_dir", "init_top_pgt", "init_level4_pgt")


def vmcoreinfo(inferior: LiveInferior, kernel: Kernel, levels: int) -> bytes:
    """Return the text.

    Args:
        inferior: the machine.
        kernel: which runs there.
        levels: of its page tables.

    Raises:
        SymbolError: the kernel is not in place yet, or its symbols lack what the text needs.
        StubError: its memory cannot be read.
    """
    _ = kernel.slide
    try:
        own = _own(inferior)
        if own.startswith(_BEGIN):
            return own
    except (StubError, SymbolError) as error:
        logger.debug("the kernel has no vmcoreinfo of its own: %s", error)
    return _made_up(inferior, kernel, levels)


def first_table(inferior: LiveInferior) -> int:
    """Return the linear address of the kernel's own first page table.

    Raises:
        SymbolError: the symbols do not say.
    """
    symbols = inferior.symbols
    for name in _TABLES:
        if name in symbols:
            return symbols[name].address
    raise SymbolError(f"{symbols.path} has none of {', '.join(_TABLES)}: where its page tables are")


def _own(inferior: LiveInferior) -> bytes:
    symbols = inferior.symbols
    word = symbols.word_size

    def number(name: str) -> int:
        return int.from_bytes(inferior.read_memory(symbols[name].address, word), "little")

    data, size = number("vmcoreinfo_data"), number("vmcoreinfo_size")
    return inferior.read_memory(data, min(size, _MOST)) if data and size else b""


def _made_up(inferior: LiveInferior, kernel: Kernel, levels: int) -> bytes:
    symbols = inferior.symbols
    release = evaluate_at(inferior, "init_uts_ns.name.release", names={}).string_()
    lines = {"OSRELEASE": release.decode("ascii", "replace")}
    if symbols.build_id:
        lines["BUILD-ID"] = symbols.build_id.hex()
    lines["PAGESIZE"] = "4096"
    for name in ("init_uts_ns", "_stext"):
        if name in symbols:
            lines[f"SYMBOL({name})"] = f"{symbols[name].address:x}"
    lines["SYMBOL(swapper_pg_dir)"] = f"{first_table(inferior):x}"
    lines["KERNELOFFSET"] = f"{kernel.slide:x}"
    if "phys_base" in symbols:
        data = inferior.read_memory(symbols["phys_base"].address, symbols.word_size)
        base = int.from_bytes(data, "little", signed=True)
        lines["NUMBER(phys_base)"] = str(base)
        lines["NUMBER(pgtable_l5_enabled)"] = str(int(levels == _FIVE_LEVELS))
    return "".join(f"{name}={value}\n" for name, value in lines.items()).encode()
