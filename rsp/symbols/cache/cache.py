"""What took long to compute, kept in the user's cache directory for the next process.

Contents: files that are whole or are not there, whoever else writes, and a bound on their size. Not
here: what is in them, and what they were computed from.

Nothing that goes wrong here is an error of the user's: without a directory that can be written,
every process computes for itself, and the log (`rsp.symbols`, DEBUG) says why.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import struct
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

logger: Final = logging.getLogger("rsp.symbols")

FORMAT_VERSION = 2
"""Raised whenever anything that is kept changes its form, or the answer to the same question
changes; what older versions wrote is let die."""

MAX_BYTES = 512 << 20
"""How much is kept by default; the index of a kernel has some 6 MB."""

_WORD = re.compile(r"[0-9a-z-]+")
# KEY.KIND.vVERSION, and while it is written .PROCESS-TIME behind that. Nothing else is removed.
_FILE = re.compile(r"[0-9a-z-]+\.[0-9a-z-]+\.v\d+(\.\d+-\d+)?")
_ABANDONED = 3600.0  # seconds after which whoever was writing a file has died

# Magic, format version, CRC-32 of the data, size of the data, size of the file's name, which
# follows the header; the data are last.
_HEADER = struct.Struct("<8sIIQQ")
_MAGIC = b"\x7frspkept"


class Cache:
    """A directory of files, each found by a key and a kind; safe with any number of processes.

    A file is written beside its place and moved there in one step. What is read is checked to the
    last byte, and is a copy, which nobody can change any more. After each write the files that were
    not used for the longest time are removed, as many as it takes.

    Args:
        directory: where; None for ``gdb-rsp/symbols`` below ``$XDG_CACHE_HOME``, which is
            ``~/.cache`` where it is not set (XDG Base Directory Specification).
        max_bytes: how large all files together may become; 0 keeps nothing and looks nothing up.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     cache = Cache(directory)
    ...     cache.store("2f0e", "index", b"names")
    ...     bytes(cache.load("2f0e", "index") or b""), cache.load("2f0e", "lines")
    (b'names', None)
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self.max_bytes = max_bytes
        self.directory: Path | None = (
            Path(directory) if directory is not None else _default_directory()
        )

    @classmethod
    def off(cls) -> Cache:
        """Return one that keeps nothing."""
        return cls(os.devnull, max_bytes=0)

    def __repr__(self) -> str:
        return f"Cache({str(self.directory)!r}, max_bytes={self.max_bytes})"

    def load(self, key: str, kind: str) -> memoryview | None:
        """Return what was stored last under a key and a kind; None if there is nothing whole.

        Args:
            key: what it was computed from (`Image.cache_key`): digits, small letters and hyphens.
            kind: what it is; of the same letters.
        """
        path = self._path(key, kind)
        if path is None:
            return None
        try:
            data = self._read(path)
            payload = _verified(data, path.name)
            if payload is None:
                logger.debug("%s is damaged, and is not used", path)
            else:
                os.utime(path)  # it was used just now: the last to be removed
            return payload
        except FileNotFoundError:
            return None
        except OSError as error:
            logger.debug("the cache cannot be read: %s", error)
            return None

    def store(self, key: str, kind: str, data: bytes | memoryview) -> None:
        """Keep bytes under a key and a kind, instead of what is there."""
        path = self._path(key, kind)
        if path is None:
            return
        name = path.name.encode()
        header = _HEADER.pack(_MAGIC, FORMAT_VERSION, zlib.crc32(data), len(data), len(name))
        if len(header) + len(name) + len(data) > self.max_bytes:
            return
        temporary = path.with_name(f"{path.name}.{os.getpid()}-{time.monotonic_ns()}")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with temporary.open("xb") as file:
                    file.writelines((header, name, data))
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            self._evict(path.parent)
        except OSError as error:
            logger.debug("the cache cannot be written: %s", error)

    def _path(self, key: str, kind: str) -> Path | None:
        if not (_WORD.fullmatch(key) and _WORD.fullmatch(kind)):
            raise ValueError(f"a cache has no key {key!r} with kind {kind!r}")
        if self.directory is None or self.max_bytes <= 0:
            return None
        return self.directory / f"{key}.{kind}.v{FORMAT_VERSION}"

    def _read(self, path: Path) -> bytes:
        # Without waiting for who writes to a FIFO, which would be nothing of ours.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > self.max_bytes:
                return b""
            return file.read()

    def _evict(self, directory: Path) -> None:
        """Remove what was not used for the longest time, and what nobody will finish."""
        now, total = time.time(), 0
        kept: list[tuple[float, str, int]] = []
        with os.scandir(directory) as entries:
            for entry in entries:
                match = _FILE.fullmatch(entry.name)
                # Other processes may be removing the same.
                with suppress(OSError):
                    if not match or not entry.is_file(follow_symlinks=False):
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if not match[1]:
                        kept.append((status.st_mtime, entry.path, status.st_size))
                        total += status.st_size
                    elif status.st_mtime < now - _ABANDONED:
                        Path(entry.path).unlink()
        for _, path, size in sorted(kept):
            if total <= self.max_bytes:
                break
            with suppress(OSError):
                Path(path).unlink()
            total -= size


def _default_directory() -> Path | None:
    # What is not absolute is to be ignored (XDG Base Directory Specification).
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            logger.debug("there is no place for a cache: %s", error)
            return None
    return base / "gdb-rsp" / "symbols"


def _verified(data: bytes, name: str) -> memoryview | None:
    """Return what a file holds, None where it is not what was written under that name."""
    if len(data) < _HEADER.size:
        return None
    magic, version, checksum, size, name_size = _HEADER.unpack_from(data)
    begin = _HEADER.size + len(name)
    if (magic, version, size, name_size) != (_MAGIC, FORMAT_VERSION, len(data) - begin, len(name)):
        return None
    payload = memoryview(data)[begin:]
    if data[_HEADER.size : begin] != name.encode() or zlib.crc32(payload) != checksum:
        return None
    return payload
