"""Compressed sections and compressed files, unpacked.

Contents: the choice of the library for each method, and the bounds. What is unpacked goes into a
temporary file that is mapped, so that the system can drop its pages as it does those of the
original; it is gone with the process.
"""

from __future__ import annotations

import mmap
import os
import zlib
from functools import partial
from typing import TYPE_CHECKING

from rsp.errors import BadImage
from rsp.symbols.elf.section_data import SectionData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_RATIO = 256
MIN_BOUND = 64 << 20
"""How far something may grow: that much always, beyond it by that factor; debug sections of a
kernel grow 3 to 10 times."""

MAX_DICTIONARY = 256 << 20
"""What xz may use to unpack; ``xz -9`` asks for 65 MB, zstandard's own bound is 128 MB."""

_PIECE = 1 << 20
_INPUT = 1 << 12  # a piece of this makes at most 4 MB (zlib's ratio is 1032 at most)


def _zlib(packed: memoryview, *, wbits: int = zlib.MAX_WBITS) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(wbits)
    for offset in range(0, len(packed), _INPUT):
        yield decompressor.decompress(packed[offset : offset + _INPUT])
        if decompressor.eof:
            return
    raise EOFError("it ends too soon")


def _gzip(packed: memoryview) -> Iterator[bytes]:
    return _zlib(packed, wbits=16 + zlib.MAX_WBITS)


def _xz(packed: memoryview) -> Iterator[bytes]:
    import lzma  # 4 ms, which is a tenth of a question about a kernel that is not compressed

    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_DICTIONARY)
    try:
        for offset in range(0, len(packed), _PIECE):
            piece = packed[offset : offset + _PIECE]
            yield decompressor.decompress(piece, _PIECE)
            while not decompressor.needs_input and not decompressor.eof:
                yield decompressor.decompress(b"", _PIECE)
            if decompressor.eof:
                return
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from error
    raise EOFError("it ends too soon")


def _zstd(packed: memoryview) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise ValueError("install the Python package zstandard, which is needed for it") from error
    reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
    try:
        while piece := reader.read(_PIECE):
            yield piece
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


# ELFCOMPRESS_ZLIB and ELFCOMPRESS_ZSTD; and by how the file begins.
_SECTIONS: dict[int, Callable[[memoryview], Iterator[bytes]]] = {1: _zlib, 2: _zstd}
_FILES: dict[bytes, Callable[[memoryview], Iterator[bytes]]] = {
    b"\xfd7zXZ\0": _xz,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x1f\x8b": _gzip,
}


def inflate_section(packed: SectionData, method: int, size: int, begin: int) -> SectionData:
    """Return what a compressed section holds.

    Args:
        packed: the section as it is in the file.
        method: ``ch_type``: 1 for zlib, 2 for zstd.
        size: what it claims to hold, in bytes.
        begin: where the compressed bytes begin.

    Raises:
        BadImage: it does not decompress to that size.
    """
    if method not in _SECTIONS:
        packed.fail(0, f"compressed by a method that is not known ({method})")
    if size > _bound(len(packed)):
        packed.fail(0, f"it claims to hold {size} bytes")
    if size == 0:
        return SectionData.empty(packed.name, path=packed.path)
    descriptor = _unpack(_SECTIONS[method](packed.view[begin:]), partial(packed.damage, 0), size)
    try:
        if os.fstat(descriptor).st_size != size:
            packed.fail(begin, "it does not hold as much as it claims")
        unpacked = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        return SectionData(packed.name, unpacked, 0, size, path=packed.path)
    finally:
        os.close(descriptor)


def inflate_file(descriptor: int, path: str) -> int | None:
    """Return a descriptor of what a compressed file holds, or None if it is not compressed.

    Args:
        descriptor: the file.
        path: its name, for the error.

    Raises:
        BadImage: it does not decompress, or to more than is believable.
    """
    head = os.pread(descriptor, 6, 0)
    for magic, method in _FILES.items():
        if head.startswith(magic):
            size = os.fstat(descriptor).st_size
            packed = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
            return _unpack(
                method(packed), lambda what: BadImage(f"{path}: {what}", path=path), _bound(size)
            )
    return None


def _bound(size: int) -> int:
    return max(MIN_BOUND, MAX_RATIO * size)


def _unpack(pieces: Iterator[bytes], damage: Callable[[str], BadImage], limit: int) -> int:
    """Write what comes out into a temporary file, and return its descriptor."""
    import tempfile  # 2 ms

    with tempfile.TemporaryFile(prefix="rsp-") as spool:
        try:
            for piece in pieces:
                if spool.tell() + len(piece) > limit:
                    raise damage(f"it unpacks to more than {limit} bytes")
                spool.write(piece)
        except (zlib.error, EOFError, ValueError) as error:
            raise damage(f"it does not decompress: {error}") from error
        spool.flush()
        return os.dup(spool.fileno())
