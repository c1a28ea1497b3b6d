"""The sections that DWARF is spread over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import builtins

    from rsp.symbols.elf.image import Image
    from rsp.symbols.elf.section_data import SectionData


class DwarfSections:
    """The debug sections of an image, each looked up when it is first asked for.

    Args:
        image: the file, or a module that has been given its addresses.

    >>> from rsp.symbols.elf.image import Image
    >>> from rsp.testing.boot import ELF
    >>> DwarfSections(Image(ELF)).line.name
    '.debug_line'
    """

    abbrev: SectionData
    addr: SectionData
    aranges: SectionData
    frame: SectionData
    info: SectionData
    line: SectionData
    line_str: SectionData
    loc: SectionData
    loclists: SectionData
    ranges: SectionData
    rnglists: SectionData
    str: SectionData
    str_offsets: SectionData

    def __init__(self, image: Image) -> None:
        self._image = image
        self.word_size: int = image.word_size
        first = image.section_at(0)
        self.has_code_at_0: bool = first is not None and first.executable

    # Called for what is not there yet.
    def __getattr__(self, name: builtins.str) -> SectionData:
        if name not in DwarfSections.__annotations__:
            raise AttributeError(name)
        contents = self._image.contents(f".debug_{name}")
        setattr(self, name, contents)
        return contents
