"""What a stub can take, as one value.

Contents: Limits: everything that a Connection and the layers above must respect so that a stub is
neither confused nor harmed. The code asks it and never the stub's name. ``rsp.session.stub`` makes
it from what the stub says of itself; the default is what any stub can take.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from rsp.errors import RemoteProtocolError
from rsp.wire import commands
from rsp.wire.replies import Dialect

if TYPE_CHECKING:
    from rsp.wire.commands import Command


# Of a packet on a serial line, what goes with it (`$`, `#`, two digits, its request and their acks)
# is three bytes in a hundred of this. Where one byte in a thousand comes to harm, it comes whole
# one time in three, and a short one three times in four.
_LONG: Final = 1024
_SHORT: Final = 256


class InterruptWay(Enum):
    """How a running target is stopped."""

    CTRL_C = "a byte 0x03"
    BREAK_G = "a BREAK on the line, then g"
    NONE = "not at all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the stub, and the line to it, can take.

    Attributes:
        packet_size: the most characters between ``$`` and ``#`` of a packet to the stub. gdb
            assumes 400 with the NUL where the stub does not say (remote.c).
        most_read: the most bytes that one ``m`` may ask for, beyond what packet_size implies.
        window: how many requests may be under way at once.
        optimistic_ack: whether the ``+`` of a reply is sent along with its request.
        any_byte_stops: whether a byte that comes while the target runs stops it, and is lost: a
            ``+`` goes ahead of what is asked, for somebody else may have let it run.
        reliable: whether the line neither loses nor changes bytes; nothing is retransmitted by
            the clock on one that does not, but the first request.
        noisy: whether bytes have come to harm on an unreliable line lately. The checksum is a sum
            of 8 bits, and misses one pair of faults in some hundred: an answer counts then when it
            has come twice.
        shared_line: whether a console's text runs between the packets.
        write_all_registers: whether ``G`` does what it says.
        registers_size: bytes of ``g`` as the stub has sent it. It is taken to have room for a ``G``
            of as many, whatever packet_size is (so does gdb, remote.c).
        software_breakpoints: whether the stub may set software breakpoints (``Z0``): it has not
            said yet that it does not know them.
        reverse_step, reverse_continue: whether ``bs`` and ``bc`` were offered.
        interrupt: how the running target is stopped.
        escape: the byte that escapes the next one in replies.
        dialect: what differs in the text of replies.
        max_reply: the most bytes of one packet from the stub, also once it is expanded.
        timeout: seconds without progress after which a request has failed.
        retries: how often one request or reply that comes to harm is sent again.
        retransmit_after: seconds without a byte until a request is sent again for the first time,
            on a line that is not reliable.
        largest_packet: the most characters of a packet whose size is ours to choose: fewer on a
            line that is not reliable, where a long one seldom comes whole.
        largest_read: the most bytes that one ``m`` may ask for: its answer is two characters a
            byte.
    """

    packet_size: int = 399
    most_read: int | None = None
    window: int = 1
    optimistic_ack: bool = False
    any_byte_stops: bool = False
    reliable: bool = True
    noisy: bool = False
    shared_line: bool = False
    write_all_registers: bool = False
    registers_size: int = 0
    software_breakpoints: bool = True
    reverse_step: bool = False
    reverse_continue: bool = False
    interrupt: InterruptWay = InterruptWay.CTRL_C
    escape: int = 0x7D
    dialect: Dialect = field(default_factory=Dialect)
    max_reply: int = 1 << 20
    timeout: float = 5.0
    retries: int = 3
    retransmit_after: float = 1.0
    largest_packet: int = field(init=False)
    largest_read: int = field(init=False)

    def __post_init__(self) -> None:
        longest = _SHORT if self.noisy else _LONG
        most = self.packet_size if self.reliable else min(self.packet_size, longest)
        object.__setattr__(self, "largest_packet", most)
        by_packet = max(1, most // 2)
        largest = by_packet if self.most_read is None else min(by_packet, self.most_read)
        object.__setattr__(self, "largest_read", largest)

    @property
    def _most_read(self) -> int:
        """What the stub can take, however bad the line is."""
        by_packet = max(1, self.packet_size // 2)
        return by_packet if self.most_read is None else min(by_packet, self.most_read)

    @property
    def largest_write(self) -> int:
        """The most bytes that one ``M`` may carry behind an address and a length of any size."""
        return max(1, (self.largest_packet - len("M0123456789abcdef,01234567:")) // 2)

    def room_for(self, command: Command) -> int:
        """Return how many characters a packet of the command may have."""
        if isinstance(command, commands.WriteRegisters):
            return max(self.packet_size, len("G") + 2 * self.registers_size)
        return self.packet_size

    def refusal(self, command: Command) -> str | None:
        """Return why the command would harm this stub, None where it would not."""
        if type(command) not in _MAY_HARM:
            return None
        match command:
            case commands.ReadMemory(length=length) if length > self._most_read:
                return f"an m of {length} bytes: this stub takes {self._most_read} at most"
            case commands.WriteRegisters() if not self.write_all_registers:
                return "G: this stub writes wrong registers, or is not known not to; write with P"
            case commands.ReverseStep() if not self.reverse_step:
                return "bs: the stub did not offer ReverseStep"
            case commands.ReverseContinue() if not self.reverse_continue:
                return "bc: the stub did not offer ReverseContinue"
            case commands.Unknown(payload=payload):
                parsed = _parsed(payload)
                return None if parsed is None else self.refusal(parsed)
        return None


_MAY_HARM: Final = frozenset(
    {
        commands.ReadMemory,
        commands.WriteRegisters,
        commands.ReverseStep,
        commands.ReverseContinue,
        commands.Unknown,
    }
)


def _parsed(payload: bytes) -> Command | None:
    """Return the command that a packet of the caller's own making is, None where it is unknown."""
    try:
        command = commands.parse(payload)
    except RemoteProtocolError:
        return None
    return None if isinstance(command, commands.Unknown) else command
