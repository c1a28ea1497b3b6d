"""Commands: what a client asks of a stub, as frozen values.

Contents: one class for every packet of the vocabulary, by subject, and ``parse``, which reads them
as a stub does. What a command costs or harms is in ``limits``; how it is sent is in ``connection``.
"""

from __future__ import annotations

import re
from typing import Final

from rsp.errors import RemoteProtocolError
from rsp.wire.commands.base import AnsweredBy, Command, Unknown
from rsp.wire.commands.breakpoints import BreakpointType, InsertBreakpoint, RemoveBreakpoint
from rsp.wire.commands.execution import (
    Action,
    ActionKind,
    Attach,
    Continue,
    ContinueWithSignal,
    Detach,
    EnterKdb,
    Interrupt,
    Kill,
    KillProcess,
    NextStop,
    QueryStop,
    QueryVCont,
    Restart,
    ReverseContinue,
    ReverseStep,
    Run,
    Step,
    StepWithSignal,
    VCont,
)
from rsp.wire.commands.memory import (
    QueryCrc,
    QueryMemoryRegion,
    ReadMemory,
    ReadMemoryBinary,
    SearchMemory,
    WriteMemory,
    WriteMemoryBinary,
)
from rsp.wire.commands.qemu import (
    QueryPhysicalMemoryMode,
    QueryStepBits,
    QueryStepFlags,
    SetPhysicalMemoryMode,
    SetStepFlags,
)
from rsp.wire.commands.registers import (
    ReadRegister,
    ReadRegisters,
    WriteRegister,
    WriteRegisters,
)
from rsp.wire.commands.session import (
    EnableExtendedMode,
    Monitor,
    MustReplyEmpty,
    OfferSymbol,
    PassSignals,
    ProgramSignals,
    QueryAttached,
    QueryOffsets,
    QuerySupported,
    SetDisableRandomization,
    SetNonStop,
    SetThreadEvents,
    StartNoAckMode,
)
from rsp.wire.commands.threads import (
    IsThreadAlive,
    QueryCurrentThread,
    QueryFirstThreads,
    QueryNextThreads,
    QueryThreadExtraInfo,
    SelectThread,
)
from rsp.wire.commands.transfer import (
    FileClose,
    FileOpen,
    FileRead,
    FileReadLink,
    FileSetFilesystem,
    FileStat,
    FileUnlink,
    FileWrite,
    XferRead,
    XferWrite,
)

__all__ = [
    "Action",
    "ActionKind",
    "AnsweredBy",
    "Attach",
    "BreakpointType",
    "Command",
    "Continue",
    "ContinueWithSignal",
    "Detach",
    "EnableExtendedMode",
    "EnterKdb",
    "FileClose",
    "FileOpen",
    "FileRead",
    "FileReadLink",
    "FileSetFilesystem",
    "FileStat",
    "FileUnlink",
    "FileWrite",
    "InsertBreakpoint",
    "Interrupt",
    "IsThreadAlive",
    "Kill",
    "KillProcess",
    "Monitor",
    "MustReplyEmpty",
    "NextStop",
    "OfferSymbol",
    "PassSignals",
    "ProgramSignals",
    "QueryAttached",
    "QueryCrc",
    "QueryCurrentThread",
    "QueryFirstThreads",
    "QueryMemoryRegion",
    "QueryNextThreads",
    "QueryOffsets",
    "QueryPhysicalMemoryMode",
    "QueryStepBits",
    "QueryStepFlags",
    "QueryStop",
    "QuerySupported",
    "QueryThreadExtraInfo",
    "QueryVCont",
    "ReadMemory",
    "ReadMemoryBinary",
    "ReadRegister",
    "ReadRegisters",
    "RemoveBreakpoint",
    "Restart",
    "ReverseContinue",
    "ReverseStep",
    "Run",
    "SearchMemory",
    "SelectThread",
    "SetDisableRandomization",
    "SetNonStop",
    "SetPhysicalMemoryMode",
    "SetStepFlags",
    "SetThreadEvents",
    "StartNoAckMode",
    "Step",
    "StepWithSignal",
    "Unknown",
    "VCont",
    "WriteMemory",
    "WriteMemoryBinary",
    "WriteRegister",
    "WriteRegisters",
    "XferRead",
    "XferWrite",
    "parse",
]

COMMANDS: Final[tuple[type[Command], ...]] = tuple(
    value
    for value in list(globals().values())
    if isinstance(value, type)
    and issubclass(value, Command)
    and value not in (Command, AnsweredBy, Unknown)
)
"""Every command with a syntax of its own."""

# What names a packet: a word behind q, Q or v, with its operation where these are commands of their
# own, or a single character.
_NAME: Final = re.compile(rb"(?:vFile|qSearch):\w+|[qQv][\w.]+\??|b[cs]|.", re.DOTALL)
_by_name: dict[bytes, list[type[Command]]] = {}


def parse(payload: bytes) -> Command:
    """Read a command, as a stub does.

    >>> parse(b"m1000,40"), parse(b"qTStatus")
    (ReadMemory(address=0x1000, length=64), Unknown(payload=b'qTStatus'))

    Raises:
        RemoteProtocolError: a known command is malformed.
    """
    if not _by_name:
        for command in COMMANDS:
            _by_name.setdefault(_name(command.syntax.encode()), []).append(command)
    forms = _by_name.get(_name(payload))
    if forms is None:
        return Unknown(payload=payload)
    for form in forms:
        parsed = form.match(payload)
        if parsed is not None:
            return parsed
    raise RemoteProtocolError(f"a malformed {forms[0].__name__}: {payload[:60]!r}", data=payload)


def _name(payload: bytes) -> bytes:
    match = _NAME.match(payload)
    return match[0] if match else b""
