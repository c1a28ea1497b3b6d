"""Commands that move whole objects and files.

Contents: ``qXfer`` (gdb manual, "General Query Packets") and ``vFile`` ("Host I/O Packets").
"""

from __future__ import annotations

from rsp.wire.commands.base import AnsweredBy
from rsp.wire.replies.process import FileResult, XferData, XferWritten


class XferRead(AnsweredBy[XferData]):
    """Read a part of an object (``qXfer:…:read``).

    >>> XferRead(object="features", annex="target.xml", offset=0, length=0xffb).encode()
    b'qXfer:features:read:target.xml:0,ffb'

    Attributes:
        object: what is read: features, auxv, memory-map, threads, exec-file, …
        annex: which one of them; often empty.
        offset: where in it.
        length: how many bytes at most.
    """

    object: str
    annex: str = ""
    offset: int
    length: int

    syntax = "qXfer:{object:word}:read:{annex:annex}:{offset:x},{length:x}"
    idempotent = True
    informational = True


class XferWrite(AnsweredBy[XferWritten]):
    """Write a part of an object (``qXfer:…:write``)."""

    object: str
    annex: str = ""
    offset: int
    data: bytes

    syntax = "qXfer:{object:word}:write:{annex:annex}:{offset:x}:{data:bin}"


class FileOpen(AnsweredBy[FileResult]):
    """Open a file (``vFile:open``); flags and mode are gdb's File-I/O numbers."""

    path: str
    flags: int
    mode: int

    syntax = "vFile:open:{path:hextext},{flags:x},{mode:x}"


class FileClose(AnsweredBy[FileResult]):
    """Close a file (``vFile:close``)."""

    descriptor: int

    syntax = "vFile:close:{descriptor:x}"


class FileRead(AnsweredBy[FileResult]):
    """Read ``count`` bytes at ``offset`` of a file (``vFile:pread``)."""

    descriptor: int
    count: int
    offset: int

    syntax = "vFile:pread:{descriptor:x},{count:x},{offset:x}"
    idempotent = True


class FileWrite(AnsweredBy[FileResult]):
    """Write at ``offset`` of a file (``vFile:pwrite``)."""

    descriptor: int
    offset: int
    data: bytes

    syntax = "vFile:pwrite:{descriptor:x},{offset:x},{data:bin}"
    idempotent = True


class FileStat(AnsweredBy[FileResult]):
    """Ask for the File-I/O ``struct stat`` of an open file (``vFile:fstat``)."""

    descriptor: int

    syntax = "vFile:fstat:{descriptor:x}"
    idempotent = True


class FileUnlink(AnsweredBy[FileResult]):
    """Remove a file (``vFile:unlink``)."""

    path: str

    syntax = "vFile:unlink:{path:hextext}"


class FileReadLink(AnsweredBy[FileResult]):
    """Read a symbolic link (``vFile:readlink``)."""

    path: str

    syntax = "vFile:readlink:{path:hextext}"
    idempotent = True


class FileSetFilesystem(AnsweredBy[FileResult]):
    """See files as a process does, 0 for the stub itself (``vFile:setfs``)."""

    process: int

    syntax = "vFile:setfs:{process:x}"
    idempotent = True
