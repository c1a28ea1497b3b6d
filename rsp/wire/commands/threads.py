"""Commands about threads.

Contents: ``H T qC qfThreadInfo qsThreadInfo qThreadExtraInfo`` (gdb manual, "Packets" and "General
Query Packets").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.wire.commands.base import AnsweredBy
from rsp.wire.replies.base import ErrorReply, Ok, Unsupported
from rsp.wire.replies.process import CurrentThread, ThreadExtraInfo, ThreadList

if TYPE_CHECKING:
    from rsp.wire.replies.base import Dialect
    from rsp.wire.threads import ThreadId


class SelectThread(AnsweredBy[Ok]):
    """Choose the thread of the commands that follow (``H``).

    >>> from rsp.wire.threads import ThreadId
    >>> SelectThread(operation="g", thread=ThreadId.parse("p01.02")).encode()
    b'Hgp01.02'

    Attributes:
        operation: ``g`` for registers and memory, ``c`` for continue and step.
        thread: the thread, spelled as the stub does.
    """

    operation: str
    thread: ThreadId

    syntax = "H{operation:letter}{thread:thread}"
    idempotent = True


class IsThreadAlive(AnsweredBy[Ok]):
    """Ask whether a thread still exists (``T``): OK, or an error where it does not."""

    thread: ThreadId

    syntax = "T{thread:thread}"
    idempotent = True


class QueryCurrentThread(AnsweredBy[CurrentThread]):
    """Ask for the current thread (``qC``). QEMU names the first CPU always."""

    syntax = "qC"
    idempotent = True
    informational = True


class QueryFirstThreads(AnsweredBy[ThreadList]):
    """Ask for the first part of the thread list (``qfThreadInfo``)."""

    syntax = "qfThreadInfo"
    idempotent = True
    informational = True


class QueryNextThreads(AnsweredBy[ThreadList]):
    """Ask for the next part of the thread list (``qsThreadInfo``).

    An empty packet ends the list here, as kgdb has it: a stub that gave a first part knows the
    command.
    """

    syntax = "qsThreadInfo"
    informational = True

    def parse_reply(  # noqa: D102
        self, payload: bytes, dialect: Dialect
    ) -> ThreadList | ErrorReply | Unsupported:
        return super().parse_reply(payload, dialect) if payload else ThreadList(last=True)


class QueryThreadExtraInfo(AnsweredBy[ThreadExtraInfo]):
    """Ask for a description of a thread (``qThreadExtraInfo``)."""

    thread: ThreadId

    syntax = "qThreadExtraInfo,{thread:thread}"
    idempotent = True
    informational = True
