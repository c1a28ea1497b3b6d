"""The separate file that has the debug information of another.

Contents: where it is searched, as gdb does it (gdb manual, "Debugging Information in Separate
Files"), and what proves that it belongs to the file. Not here: what is in it.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from rsp.errors import BadImage

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from rsp.symbols.elf.image import Image

DIRECTORIES = ("/usr/lib/debug",)
"""Where distributions install debug files."""

_PIECE = 1 << 20


def find_debug_file(
    image: Image, directories: Sequence[str | os.PathLike[str]] = DIRECTORIES
) -> Image | None:
    """Return the debug file of an image, opened as the image was, or None.

    It is the one of the same build-id, else the one that the image names (.gnu_debuglink) if its
    checksum is right: beside the image, in ``.debug`` there, or below a debug directory.

    Args:
        image: what was stripped.
        directories: the debug directories, the first one first.

    >>> from rsp.symbols.elf.image import Image
    >>> from rsp.testing.boot import ELF
    >>> find_debug_file(Image(ELF)) is None
    True
    """
    for path in _by_build_id(image, directories):
        if (found := _opened(image, path)) and found.build_id == image.build_id:
            return found
    for path, checksum in _by_link(image, directories):
        found = _opened(image, path)
        if found is None:
            continue
        if found.build_id and image.build_id:
            if found.build_id == image.build_id:
                return found
        elif _crc32(path) == checksum:
            return found
    return None


def _by_build_id(image: Image, directories: Sequence[str | os.PathLike[str]]) -> Iterator[Path]:
    if image.build_id and len(image.build_id) > 1:
        name = image.build_id.hex()
        for directory in directories:
            yield Path(directory, ".build-id", name[:2], f"{name[2:]}.debug")


def _by_link(
    image: Image, directories: Sequence[str | os.PathLike[str]]
) -> Iterator[tuple[Path, int]]:
    try:
        link = image.contents(".gnu_debuglink")
        if not len(link):
            return
        name = link.text(0)
        checksum = link.unsigned(len(name.encode(errors="surrogateescape")) + 4 & ~3, 4)
    except BadImage:
        return
    if "/" in name or name in ("", ".", ".."):  # a file's name, not a way out of the directories
        return
    home = Path(image.path).resolve().parent
    for directory in (
        home,
        home / ".debug",
        *(Path(each, *home.parts[1:]) for each in directories),
    ):
        yield directory / name, checksum


def _opened(image: Image, path: Path) -> Image | None:
    """Return the file as an image of the same kind, if it is one and not the image itself."""
    try:
        if not path.is_file() or path.samefile(image.path):
            return None
        found = image.open_beside(path)
    except (BadImage, OSError):
        return None
    same = (found.machine, found.relocatable) == (image.machine, image.relocatable)
    return found if same else None


def _crc32(path: Path) -> int | None:
    checksum = 0
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                checksum = zlib.crc32(piece, checksum)
    except OSError:
        return None
    return checksum
