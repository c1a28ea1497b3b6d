"""QEMU's own commands.

Contents: the ``qqemu`` and ``Qqemu`` packets (QEMU, docs/system/gdb, and gdbstub.c of 7.2).
"""

from __future__ import annotations

from rsp.wire.commands.base import AnsweredBy
from rsp.wire.replies.base import Ok
from rsp.wire.replies.process import PhysicalMemoryMode, StepBits, StepFlags


class QueryStepBits(AnsweredBy[StepBits]):
    """Ask what the bits of the single-step flags are (``qqemu.sstepbits``)."""

    syntax = "qqemu.sstepbits"
    idempotent = True
    informational = True


class QueryStepFlags(AnsweredBy[StepFlags]):
    """Ask for the single-step flags (``qqemu.sstep``)."""

    syntax = "qqemu.sstep"
    idempotent = True
    informational = True


class SetStepFlags(AnsweredBy[Ok]):
    """Set the single-step flags (``Qqemu.sstep=``)."""

    flags: int

    syntax = "Qqemu.sstep={flags:0x}"
    idempotent = True


class QueryPhysicalMemoryMode(AnsweredBy[PhysicalMemoryMode]):
    """Ask whether addresses are taken for physical ones (``qqemu.PhyMemMode``)."""

    syntax = "qqemu.PhyMemMode"
    idempotent = True
    informational = True


class SetPhysicalMemoryMode(AnsweredBy[Ok]):
    """Take addresses for physical ones, or no longer (``Qqemu.PhyMemMode``).

    It holds for the whole machine, beyond this connection.
    """

    enabled: bool

    syntax = "Qqemu.PhyMemMode:{enabled:flag}"
    idempotent = True
