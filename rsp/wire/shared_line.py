r"""A line that a console shares with the stub: what on it is a packet, and what looks like one.

The console speaks while the target runs, and may print anything. A stub that has sent a packet
waits for its ack, so silence must follow it; a console goes on, with the end of the line at least::

    target  ls\r\n $OK#9a\r\n    text      … $T05thread:01;#07 (silence)    a stop

Silence alone proves nothing where a machine under load may stand still within a line. So a stop is
asked for once more, with ``-``: a stub sends the same packet, and nothing else, and a console goes
on with other text, at any time.

Contents: the packet that waits for its silence, and the questions which have to. There is no clock:
the time is an argument. What a packet answers is for ``connection``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.wire.events import Console
from rsp.wire.framing import FrameKind
from rsp.wire.replies import parse_error
from rsp.wire.stops import looks_like_stop

if TYPE_CHECKING:
    from rsp.wire.exchange import Exchange
    from rsp.wire.framing import Frame
    from rsp.wire.limits import Limits

# How long nothing may follow a packet until it may be one: where the console has spoken since the
# last answer, and where there has been nothing, or what Linux prints of a break-in
# (drivers/tty/sysrq.c) is right before it.
_SILENCE: Final = 0.15
_SHORT_SILENCE: Final = 0.02
_BREAK_IN: Final = b"sysrq: DEBUG\r\n"


class SharedLine:
    """What is known of the console's part in the stream.

    >>> from rsp.wire.framing import Frame
    >>> line = SharedLine(shared=True)
    >>> line.hold(Frame(FrameKind.PACKET, b"T05"), now=1.0)
    >>> line.decide(True)
    >>> line.release()
    (Frame(kind=<FrameKind.PACKET: 'packet'>, data=b'T05'), True)

    Args:
        shared: whether a console may speak now.

    Attributes:
        held: what may be a packet, and waits for silence or for a `release`.
        silent_at: when the silence behind it has been long enough.
        asked: how often it was asked for once more.
    """

    __slots__ = ("_is_packet", "_spoken", "asked", "held", "shared", "silent_at")

    def __init__(self, *, shared: bool) -> None:
        self.shared: bool = shared
        self.held: Frame | None = None
        self.silent_at: float = 0.0
        self.asked: int = 0
        self._is_packet: bool | None = None  # None until that is known
        self._spoken = b""  # the end of what the console has said since the last answer

    def share(self, shared: bool) -> None:
        """Say whether a console may speak from now on."""
        if shared != self.shared:
            self.shared = shared
            self._spoken = b""

    def said(self, data: bytes) -> Console:
        """Take what is no packet, and return it as an event."""
        if self.shared:
            self._spoken = (self._spoken + data)[-len(_BREAK_IN) :]
        return Console(data)

    def hold(self, frame: Frame, now: float) -> None:
        """Keep what may be a packet until something follows it, or nothing does."""
        told = not self._spoken or self._spoken == _BREAK_IN
        self.held, self._is_packet, self.asked = frame, None, 0
        self.silent_at = now + (_SHORT_SILENCE if told else _SILENCE)

    @property
    def spoken(self) -> bool:
        """Whether the console has said something since the last answer."""
        return bool(self._spoken)

    @property
    def waits(self) -> bool:
        """Whether it is not known yet whether what is held is a packet; nothing else counts."""
        return self.held is not None and self._is_packet is None

    def go_on(self, now: float, patience: float) -> None:
        """Note that something has come: text, but where a packet was asked for once more."""
        if self.waits and self.asked:
            self.silent_at = max(self.silent_at, now + patience)
        elif self.waits:
            self._is_packet = False

    def ask(self, now: float, patience: float) -> None:
        """Note that it is asked for once more, and again if nothing comes."""
        self.silent_at = now + patience * 2**self.asked
        self.asked += 1

    def decide(self, is_packet: bool) -> None:
        """Say what is held; nothing if nothing is."""
        self._is_packet = is_packet

    def release(self) -> tuple[Frame, bool] | None:
        """Give out what was held and whether it is a packet; None while that is not known."""
        if self.held is None or self._is_packet is None:
            return None
        frame, self.held, self.asked = self.held, None, 0
        return frame, self._is_packet


def needs_silence(frame: Frame, head: Exchange | None) -> bool:
    """Whether this is what a stub says to end a run, or a console to nobody.

    Args:
        frame: what has come.
        head: the request that is to be answered next.
    """
    kind, data = frame
    if kind is FrameKind.CORRUPT:
        return head is not None and head.command.resumes and data[1:2] in (b"T", b"S", b"O")
    if kind is not FrameKind.PACKET or (head is not None and not head.command.resumes):
        return False
    if not data:  # that a resume is not known
        return head is not None and head.acked
    return looks_like_stop(data) or (data[:1] == b"O" and data != b"OK" and len(data) % 2 == 1)


def may_answer(payload: bytes, head: Exchange, limits: Limits) -> bool:
    """Whether a packet is an answer, and not text that looks like one.

    Nothing answers before its ``+``: kgdb's banner holds a ``$3#33``. A shell prints whatever it
    likes while the target runs, so then it is a stop, or the refusal to resume.
    """
    return head.acked and (
        not head.command.resumes or parse_error(payload, limits.dialect) is not None
    )


def needs_proof(frame: Frame) -> bool:
    """Whether something that silence follows is to be asked for once more: a stop.

    What else there is does no harm where it is text after all: a console's text in a packet, and
    what came to harm, which is asked for again anyhow.
    """
    return frame.kind is FrameKind.PACKET and looks_like_stop(frame.data)
