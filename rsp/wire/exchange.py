"""A request on its way.

Contents: the record only. What makes progress, and when it is tried again, is for ``connection``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsp.wire.commands import Command


class Exchange:
    """A request and how far it has got.

    Args:
        command: the request.
        packet: its bytes on the line.
        timeout: seconds without progress after which it has failed.

    Attributes:
        acked: whether its ``+`` has come.
        doubled: whether its answer may come twice.
        odd: the last answer that made no sense.
        tries: how often it, or its reply, was asked for again because it came to harm.
        repeats: how often because nothing came.
        output: the bytes of its ``O`` packets so far.
    """

    __slots__ = (
        "acked",
        "command",
        "doubled",
        "odd",
        "output",
        "packet",
        "repeats",
        "timeout",
        "tries",
    )

    def __init__(self, command: Command, packet: bytes, timeout: float) -> None:
        self.command: Command = command
        self.packet: bytes = packet
        self.timeout: float = timeout
        self.acked: bool = False
        self.doubled: bool = False
        self.odd: bytes | None = None
        self.tries: int = 0
        self.repeats: int = 0
        self.output: int = 0
