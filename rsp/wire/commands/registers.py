"""Commands that read and write registers.

Contents: ``g G p P`` (gdb manual, "Packets"). Which bytes are which register is for ``rsp.arch``.
"""

from __future__ import annotations

from rsp.wire.commands.base import AnsweredBy
from rsp.wire.replies.base import Ok
from rsp.wire.replies.memory import RegisterBlock


class ReadRegisters(AnsweredBy[RegisterBlock]):
    """Read all registers (``g``)."""

    syntax = "g"
    idempotent = True


class WriteRegisters(AnsweredBy[Ok]):
    """Write all registers, in target byte order (``G``)."""

    data: bytes

    syntax = "G{data:hex}"
    idempotent = True


class ReadRegister(AnsweredBy[RegisterBlock]):
    """Read one register, by its number in the stub's order (``p``)."""

    number: int

    syntax = "p{number:x}"
    idempotent = True
    informational = True


class WriteRegister(AnsweredBy[Ok]):
    """Write one register, in target byte order (``P``)."""

    number: int
    data: bytes

    syntax = "P{number:x}={data:hex}"
    idempotent = True
