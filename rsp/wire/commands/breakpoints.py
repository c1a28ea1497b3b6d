"""Commands that set and remove breakpoints and watchpoints.

Contents: ``Z`` and ``z`` (gdb manual, "Packets"). They are to be idempotent, says the manual, but
kgdb refuses to set a software breakpoint twice, and for a hardware one spends another slot.
"""

from __future__ import annotations

from enum import IntEnum

from rsp.wire.commands.base import AnsweredBy
from rsp.wire.replies.base import Ok
from rsp.wire.syntax import KINDS, Kind


class BreakpointType(IntEnum):
    """The digit behind ``Z``."""

    SOFTWARE = 0
    HARDWARE = 1
    WRITE = 2
    READ = 3
    ACCESS = 4


KINDS["breakpoint"] = Kind(
    rb"[0-4]", lambda data: BreakpointType(int(data)), lambda value: b"%d" % BreakpointType(value)
)


class InsertBreakpoint(AnsweredBy[Ok]):
    """Set a breakpoint or watchpoint (``Z``).

    >>> InsertBreakpoint(type=BreakpointType.HARDWARE, address=0x7C00, kind=1).encode()
    b'Z1,7c00,1'

    Attributes:
        type: which sort of breakpoint.
        address: where; linear.
        kind: for a watchpoint how many bytes are watched; for a breakpoint the architecture's
            own, on x86 the length of the instruction that is patched in: 1.
        conditions: agent expressions that the stub evaluates, not decoded.
    """

    type: BreakpointType
    address: int
    kind: int
    conditions: bytes | None = None

    syntax = "Z{type:breakpoint},{address:x},{kind:x}[;{conditions:bin}]"


class RemoveBreakpoint(AnsweredBy[Ok]):
    """Remove a breakpoint or watchpoint (``z``); the fields are those it was set with."""

    type: BreakpointType
    address: int
    kind: int

    syntax = "z{type:breakpoint},{address:x},{kind:x}"
