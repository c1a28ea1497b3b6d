"""Commands that settle what client and stub can do, and ask about the process.

Contents: ``qSupported vMustReplyEmpty QStartNoAckMode !`` and the simple queries and settings (gdb
manual, "General Query Packets").
"""

from __future__ import annotations

from rsp.wire.commands.base import AnsweredBy
from rsp.wire.features import Features
from rsp.wire.replies.base import Ok
from rsp.wire.replies.process import (
    Attached,
    MonitorText,
    Offsets,
    SegmentAddresses,
    Supported,
    SymbolRequest,
)
from rsp.wire.stops import Output

# --- settling ---


class QuerySupported(AnsweredBy[Supported]):
    """Say what this client can do, and ask what the stub can (``qSupported``)."""

    features: Features = Features({})

    syntax = "qSupported[:{features:features}]"
    idempotent = True


class MustReplyEmpty(AnsweredBy[Ok]):
    """A command that no stub knows (``vMustReplyEmpty``): Unsupported is the right answer.

    A stub that says OK takes any ``v`` packet for one it knows.
    """

    syntax = "vMustReplyEmpty"
    idempotent = True
    informational = True


class StartNoAckMode(AnsweredBy[Ok]):
    """Do without acknowledgements from the answer on (``QStartNoAckMode``)."""

    syntax = "QStartNoAckMode"


class EnableExtendedMode(AnsweredBy[Ok]):
    """Let the stub live on when the target ends (``!``)."""

    syntax = "!"
    idempotent = True


# --- the process ---


class QueryAttached(AnsweredBy[Attached]):
    """Ask whether the process was there before the stub (``qAttached``)."""

    process: int | None = None

    syntax = "qAttached[:{process:x}]"
    idempotent = True
    informational = True


class QueryOffsets(AnsweredBy[Offsets | SegmentAddresses]):
    """Ask how far the program was moved (``qOffsets``)."""

    syntax = "qOffsets"
    idempotent = True
    informational = True


class OfferSymbol(AnsweredBy[Ok | SymbolRequest]):
    """Tell the address of a symbol that the stub asked for (``qSymbol``).

    Without fields it offers to look symbols up; with a name alone the symbol is not known.

    >>> OfferSymbol().encode(), OfferSymbol(name="main", address=0x1139).encode()
    (b'qSymbol::', b'qSymbol:1139:6d61696e')
    """

    name: str = ""
    address: int | None = None

    syntax = "qSymbol:[{address:x}]:{name:hextext}"


class Monitor(AnsweredBy[Ok | Output | MonitorText]):
    """Run a command of the stub's own (``qRcmd``).

    The answer is any number of Output, then Ok or MonitorText.
    """

    command: str

    syntax = "qRcmd,{command:hextext}"


# --- settings ---


class PassSignals(AnsweredBy[Ok]):
    """Name the signals that go to the program without a stop (``QPassSignals``)."""

    signals: tuple[int, ...]

    syntax = "QPassSignals:{signals:signals}"
    idempotent = True


class ProgramSignals(AnsweredBy[Ok]):
    """Name the signals that may be delivered to the program (``QProgramSignals``)."""

    signals: tuple[int, ...]

    syntax = "QProgramSignals:{signals:signals}"
    idempotent = True


class SetThreadEvents(AnsweredBy[Ok]):
    """Report the beginning and end of threads (``QThreadEvents``)."""

    enabled: bool

    syntax = "QThreadEvents:{enabled:flag}"
    idempotent = True


class SetNonStop(AnsweredBy[Ok]):
    """Choose non-stop or all-stop mode (``QNonStop``)."""

    enabled: bool

    syntax = "QNonStop:{enabled:flag}"
    idempotent = True


class SetDisableRandomization(AnsweredBy[Ok]):
    """Start programs at fixed addresses (``QDisableRandomization``)."""

    disabled: bool

    syntax = "QDisableRandomization:{disabled:flag}"
    idempotent = True
