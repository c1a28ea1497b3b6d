"""Replies: what a stub answers, as frozen values.

Contents: one class for every form of answer but stop replies, which are in ``stops``, and Dialect.
Payloads come here after run-length and escapes have been undone. Which command gets which reply is
said by the command.
"""

from __future__ import annotations

from rsp.wire.replies.base import (
    Dialect,
    ErrorReply,
    Ok,
    Raw,
    Reply,
    Unsupported,
    parse_error,
)
from rsp.wire.replies.memory import (
    BinaryData,
    Crc,
    MemoryData,
    MemoryRegion,
    RegisterBlock,
    SearchResult,
)
from rsp.wire.replies.process import (
    Attached,
    CurrentThread,
    FileResult,
    MonitorText,
    Offsets,
    PhysicalMemoryMode,
    ResumeActions,
    SegmentAddresses,
    StepBits,
    StepFlags,
    Supported,
    SymbolRequest,
    ThreadExtraInfo,
    ThreadList,
    XferData,
    XferWritten,
)

__all__ = [
    "Attached",
    "BinaryData",
    "Crc",
    "CurrentThread",
    "Dialect",
    "ErrorReply",
    "FileResult",
    "MemoryData",
    "MemoryRegion",
    "MonitorText",
    "Offsets",
    "Ok",
    "PhysicalMemoryMode",
    "Raw",
    "RegisterBlock",
    "Reply",
    "ResumeActions",
    "SearchResult",
    "SegmentAddresses",
    "StepBits",
    "StepFlags",
    "Supported",
    "SymbolRequest",
    "ThreadExtraInfo",
    "ThreadList",
    "Unsupported",
    "XferData",
    "XferWritten",
    "parse_error",
]
