"""Replies about threads, the process, the session, files and QEMU.

Contents: the answers to all queries but those for memory and registers. Stop replies are in
``stops``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rsp.wire.features import Features
from rsp.wire.replies.base import Reply, malformed
from rsp.wire.syntax import KINDS, THREAD, Kind, decode_text, joined
from rsp.wire.threads import ThreadId

if TYPE_CHECKING:
    from typing import Self

    from rsp.wire.replies.base import Dialect

# --- threads ---

_THREADS: Final = joined(THREAD, b",")
# A stub that writes the list in a loop may leave a comma behind the last one.
_THREAD_LIST: Final = re.compile(rb"([ml])(%b),?" % _THREADS.pattern)


class ThreadList(Reply):
    """A part of the thread list (``qfThreadInfo``, ``qsThreadInfo``).

    Attributes:
        threads: in the stub's order.
        last: whether nothing follows; the last part is usually empty.
    """

    threads: tuple[ThreadId, ...] = ()
    last: bool = False

    @classmethod
    def parse(cls, payload: bytes, dialect: Dialect) -> Self:  # noqa: ARG003, D102
        if not payload:
            return cls(last=True)
        match = _THREAD_LIST.fullmatch(payload)
        if match is None:
            raise malformed(cls, payload)
        return cls(threads=_THREADS.decode(match[2]), last=match[1] == b"l")

    def encode(self, dialect: Dialect) -> bytes:  # noqa: D102
        if self.last and not self.threads:
            return dialect.thread_list_end
        return (b"l" if self.last else b"m") + _THREADS.encode(self.threads)


# VirtualBox writes a blank behind QC.
KINDS["current"] = Kind(
    b" ?" + THREAD.pattern, lambda data: ThreadId.parse(data.strip()), ThreadId.encode
)


class CurrentThread(Reply):
    """The thread that the stub takes for the current one (``qC``)."""

    thread: ThreadId

    syntax = "QC{thread:current}"


class ThreadExtraInfo(Reply):
    """A stub's description of a thread, for people."""

    text: str

    syntax = "{text:hextext}"


# --- the process ---


class Attached(Reply):
    """Whether the stub attached to a process that was there before (``qAttached``)."""

    attached: bool

    syntax = "{attached:flag}"


class Offsets(Reply):
    """How far the sections of the program lie from their link addresses (``qOffsets``)."""

    text: int
    data: int
    bss: int | None = None

    syntax = "Text={text:x};Data={data:x}[;Bss={bss:x}]"


class SegmentAddresses(Reply):
    """Where the segments of the program lie (``qOffsets``, its other form)."""

    text_address: int
    data_address: int | None = None

    syntax = "TextSeg={text_address:x}[;DataSeg={data_address:x}]"


class SymbolRequest(Reply):
    """The stub asks for the address of a symbol; the next ``qSymbol`` tells it."""

    name: str

    syntax = "qSymbol:{name:hextext}"


class ResumeActions(Reply):
    """The actions that ``vCont`` may have, by letter (``vCont?``)."""

    actions: tuple[str, ...] = ()

    syntax = "vCont{actions:words}"


# --- the session ---


KINDS["features"] = Kind(rb".*", Features.parse, Features.encode)


class Supported(Reply):
    """What the stub can do (``qSupported``)."""

    features: Features

    syntax = "{features:features}"


class MonitorText(Reply):
    """The last, or only, part of the output of a monitor command (``qRcmd``)."""

    data: bytes

    syntax = "{data:hex}"

    @property
    def text(self) -> str:
        """The output as text."""
        return decode_text(self.data)


class XferData(Reply):
    """A part of an object (``qXfer`` read).

    Attributes:
        data: the bytes at the offset that was asked for.
        last: whether the object ends with them.
    """

    data: bytes = b""
    last: bool

    @classmethod
    def parse(cls, payload: bytes, dialect: Dialect) -> Self:  # noqa: ARG003, D102
        if payload[:1] not in (b"m", b"l"):
            raise malformed(cls, payload)
        return cls(data=payload[1:], last=payload[:1] == b"l")

    def encode(self, dialect: Dialect) -> bytes:  # noqa: ARG002, D102
        return (b"l" if self.last else b"m") + self.data


class XferWritten(Reply):
    """How many bytes of an object were written (``qXfer`` write)."""

    count: int

    syntax = "{count:x}"


# --- files of the stub's machine ---


class FileResult(Reply):
    """The result of a ``vFile`` operation.

    Attributes:
        result: a descriptor or a count of bytes, -1 on an error.
        errno: gdb's File-I/O number of the error, None where there was none.
        data: what was read, None where the operation reads nothing.
    """

    result: int
    errno: int | None = None
    data: bytes | None = None

    syntax = "F{result:signed}[,{errno:x}][;{data:bin}]"


# --- QEMU ---


class StepBits(Reply):
    """The bits of a single-step flag word (``qqemu.sstepbits``).

    Those that the accelerator has not are left out (gdbstub.c, handle_query_qemu_sstepbits): under
    KVM there is no NOTIMER.
    """

    enable: int
    no_irq: int | None = None
    no_timer: int | None = None

    syntax = "ENABLE={enable:x}[,NOIRQ={no_irq:x}][,NOTIMER={no_timer:x}]"


class StepFlags(Reply):
    """The single-step flag word in use (``qqemu.sstep``)."""

    flags: int

    syntax = "{flags:0x}"


class PhysicalMemoryMode(Reply):
    """Whether addresses are taken for physical ones (``qqemu.PhyMemMode``)."""

    enabled: bool

    syntax = "{enabled:flag}"
