"""The sections that DWARF is spread over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import builtins

    from rsp.symbols.contents import Contents
    from rsp.symbols.image import Image


class DwarfSections:
    """The debug sections of an image, each looked up when it is first asked for.

    Args:
        image: the file, or a module that has been given its addresses.

    >>> from rsp.symbols.image import Image
    >>> from rsp.testing.boot import ELF
    >>> DwarfSections(Image(ELF)).line.name
    '.debug_line'
    """

    abbrev: Contents
    addr: Contents
    aranges: Contents
    frame: Contents
    info: Contents
    line: Contents
    line_str: Contents
    loc: Contents
    loclists: Contents
    ranges: Contents
    rnglists: Contents
    str: Contents
    str_offsets: Contents

    def __init__(self, image: Image) -> None:
        self._image = image
        self.word_size = image.word_size

    # Called for what is not there yet.
    def __getattr__(self, name: builtins.str) -> Contents:
        if name not in DwarfSections.__annotations__:
            raise AttributeError(name)
        contents = self._image.contents(f".debug_{name}")
        setattr(self, name, contents)
        return contents
