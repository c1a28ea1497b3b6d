"""How big a symbol is to a Linux kernel, which prints that behind a place: ``vfs_read+0x10/0x2f0``.

Contents: the rule of kallsyms, by which a symbol reaches to the next one, padding included (kernel
kernel/kallsyms.c, get_symbol_pos; kernel/module/kallsyms.c, find_kallsyms_symbol), from a file.
Not here: what the file says of sizes (`symtab`), and the text (``rsp.location_spec``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.symbols.elf.image import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE

if TYPE_CHECKING:
    from rsp.symbols.elf.image import Image, Section
    from rsp.symbols.elf.symtab import ElfSymbol, Symtab

_LEFT_OUT: Final = ("$", ".L")
"""Symbols that kallsyms does not have (scripts/mksysmap; is_mapping_symbol())."""
_PAGE: Final = 0x1000


def has_size(symbol: ElfSymbol, size: int, image: Image, symtab: Symtab) -> bool:
    """Return whether a symbol is the one of that size: as the kernel counts it, or the file."""
    if size == symbol.size:
        return True
    after = symtab.next_after(symbol.address)
    while after is not None and after.name.startswith(_LEFT_OUT):
        after = symtab.next_after(after.address)
    if not image.relocatable or (after is not None and after.section == symbol.section):
        return after is not None and size == after.address - symbol.address
    own = image.named(symbol.section)
    return own is not None and size == _end(own, image, symtab) - (symbol.address - own.address)


def _end(own: Section, image: Image, symtab: Symtab) -> int:
    """Return where the last symbol of a module's section ends, from the begin of the section.

    That is the first one of the sections that the kernel lays out behind it, or the end of the
    last page of them (kernel/module/main.c, layout_sections).
    """
    offset = begin = 0
    for section in image.sections:
        if not _laid_out_together(section, own):
            continue
        offset = -(-offset // section.alignment) * section.alignment
        if section.number == own.number:
            begin = offset
        elif section.number > own.number and (
            values := [each.address for each in symtab if each.section == section.name]
        ):
            return offset + min(values) - section.address - begin
        offset += section.size
    return -(-offset // _PAGE) * _PAGE - begin


def _laid_out_together(section: Section, other: Section) -> bool:
    flags = SHF_ALLOC | SHF_EXECINSTR | SHF_WRITE
    is_init = section.name.startswith(".init") == other.name.startswith(".init")
    return is_init and section.flags & flags == other.flags & flags
