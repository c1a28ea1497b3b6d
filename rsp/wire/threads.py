"""Thread ids, as they stand in packets.

Contents: ThreadId alone (gdb manual, "Packets", thread-id syntax). What a thread is to a stub - a
CPU to QEMU, a task or a CPU to kgdb - is not known here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rsp.errors import LocalProtocolError, RemoteProtocolError
from rsp.wire.value import Value

if TYPE_CHECKING:
    from typing import Self

_PART: Final = rb"(?:-1|[0-9a-fA-F]{1,16})"
THREAD_PATTERN: Final = rb"(?:p%b(?:\.%b)?|%b)" % (_PART, _PART, _PART)
_THREAD: Final = re.compile(rb"p(%b)(?:\.(%b))?|(%b)" % (_PART, _PART, _PART))


class ThreadId(Value):
    """A thread, a group of threads, or any thread.

    >>> ThreadId.parse(b"p01.02")
    ThreadId(process=1, thread=2, text='p01.02')
    >>> str(ThreadId(thread=-1)), str(ThreadId(process=1, thread=10))
    ('-1', 'p1.a')

    Attributes:
        process: the process, -1 for all and 0 for any; None where the stub does not say, without
            ``multiprocess+``.
        thread: the thread, -1 for all and 0 for any. Only the text ``-1`` means all: kgdb's
            ``ffffffff`` is a number like any other.
        text: the spelling, the stub's own where the stub gave it. It is what is sent, for a stub
            may compare texts; it is not compared here.
    """

    process: int | None = None
    thread: int
    text: str = ""

    def __init__(self, *, thread: int, process: int | None = None, text: str = "") -> None:
        put = object.__setattr__
        put(self, "process", process)
        put(self, "thread", thread)
        if not text:
            text = _spell(thread) if process is None else f"p{_spell(process)}.{_spell(thread)}"
        put(self, "text", text)

    @classmethod
    def parse(cls, text: bytes | str) -> Self:
        """Read a thread id; ``p1`` alone means all threads of the process.

        Raises:
            RemoteProtocolError: it is none.
        """
        data = text.encode("ascii", "replace") if isinstance(text, str) else text
        match = _THREAD.fullmatch(data)
        if match is None:
            raise RemoteProtocolError(f"not a thread id: {data[:40]!r}", data=data)
        process, thread, alone = match.groups()
        return cls(
            process=None if process is None else int(process, 16),
            thread=int(alone or thread or b"-1", 16),
            text=data.decode("ascii"),
        )

    def encode(self) -> bytes:
        """Return the id as it stands in a packet.

        Raises:
            LocalProtocolError: its text is no thread id.
        """
        data = self.text.encode("ascii", "replace")
        if _THREAD.fullmatch(data) is None:
            raise LocalProtocolError(f"not a thread id: {self.text!r}")
        return data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ThreadId):
            return NotImplemented
        return self.thread == other.thread and self.process == other.process

    def __hash__(self) -> int:
        return hash((self.process, self.thread))

    def __str__(self) -> str:
        return self.text


def _spell(number: int) -> str:
    return "-1" if number == -1 else f"{number:x}"


ALL: Final = ThreadId(thread=-1)
"""Every thread, for ``H`` and ``vCont``."""

ANY: Final = ThreadId(thread=0)
"""Whichever thread the stub likes."""
