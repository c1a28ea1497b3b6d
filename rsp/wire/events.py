"""What a Connection gives out: one frozen value for each thing that happened.

Contents: the events only. The values inside them (typed replies, stop replies) are those of
``replies`` and ``stops``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from rsp.wire.commands import Command
    from rsp.wire.replies import Reply as ReplyValue
    from rsp.wire.stops import StopReply


class _NeedData(Enum):
    NEED_DATA = "need data"

    def __repr__(self) -> str:
        return "NEED_DATA"


NEED_DATA: Final = _NeedData.NEED_DATA
"""No whole event is buffered; receive more, or wait for ``next_deadline``."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a command.

    Attributes:
        command: the request, as it was sent.
        value: the typed reply; ErrorReply and Unsupported are replies too.
    """

    command: Command
    value: ReplyValue


@dataclass(frozen=True, slots=True)
class Unsolicited:
    """A stop reply that answers no request: QEMU on connecting, kgdb on a break-in."""

    value: StopReply


@dataclass(frozen=True, slots=True)
class Output:
    """Text from the target (an ``O`` packet): what it printed, or a part of a monitor's answer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Notification:
    """A ``%name:data`` packet (gdb manual, "Notification Packets"); it is not acknowledged."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Console:
    """Bytes between packets: a console that shares the line, or noise."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The other side has closed the stream.

    Attributes:
        unanswered: how many requests were without an answer.
    """

    unanswered: int


Event: TypeAlias = Reply | Unsolicited | Output | Notification | Console | Closed
NeedData: TypeAlias = Literal[_NeedData.NEED_DATA]
