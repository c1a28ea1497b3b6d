"""Stop replies: why and where a target stopped.

Contents: the typed forms of ``S T W X N O F`` (gdb manual, "Stop Reply Packets"), both ways, and
the test that tells an unsolicited stop reply from an answer. What a stop means for breakpoints and
registers is for ``rsp.run``.
"""

from __future__ import annotations

import re
from binascii import hexlify, unhexlify
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from rsp.errors import RemoteProtocolError
from rsp.wire.replies.base import Reply, encode_pairs, malformed, parse_pairs
from rsp.wire.signals import from_linux, signal_name, to_linux
from rsp.wire.syntax import HEX, HEXTEXT, SIGNAL, THREAD, WORD, X, decode_text, encode_text

if TYPE_CHECKING:
    from typing import Self

    from rsp.wire.replies.base import Dialect
    from rsp.wire.syntax import Kind
    from rsp.wire.threads import ThreadId


class StopReason(Enum):
    """Why a thread stopped. The values are the keys of a T packet."""

    SIGNAL = ""
    SWBREAK = "swbreak"
    HWBREAK = "hwbreak"
    WATCH = "watch"
    RWATCH = "rwatch"
    AWATCH = "awatch"
    LIBRARY = "library"
    REPLAYLOG = "replaylog"
    FORK = "fork"
    VFORK = "vfork"
    VFORKDONE = "vforkdone"
    CLONE = "clone"
    EXEC = "exec"
    CREATE = "create"
    SYSCALL_ENTRY = "syscall_entry"
    SYSCALL_RETURN = "syscall_return"


# For each reason, the field of Stopped that its value goes to; the manual says to ignore the
# others' values.
_DETAILS: Final[dict[StopReason, tuple[str, Kind]]] = {
    StopReason.WATCH: ("address", X),
    StopReason.RWATCH: ("address", X),
    StopReason.AWATCH: ("address", X),
    StopReason.REPLAYLOG: ("position", WORD),
    StopReason.FORK: ("child", THREAD),
    StopReason.VFORK: ("child", THREAD),
    StopReason.CLONE: ("child", THREAD),
    StopReason.EXEC: ("path", HEXTEXT),
    StopReason.SYSCALL_ENTRY: ("syscall", X),
    StopReason.SYSCALL_RETURN: ("syscall", X),
}
_REASONS: Final = {reason.value.encode(): reason for reason in StopReason if reason.value}
_NAMED: Final[dict[bytes, tuple[str, Kind]]] = {b"thread": ("thread", THREAD), b"core": ("core", X)}
_REGISTER: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
_DIGITS: Final = re.compile(HEX.pattern)


class Stopped(Reply):
    """The target has stopped (``S``, ``T``).

    Attributes:
        signal: gdb's number, 0 for none.
        thread: the thread that stopped, None where the stub does not say.
        reason: what the stub says beyond the signal.
        address: the data address of a watchpoint.
        child: the new thread of a fork, vfork or clone.
        path: the program that was executed.
        syscall: the number of the system call.
        position: ``begin`` or ``end`` of a replay log.
        core: the CPU core.
        registers: pairs of a register's number and its bytes in target order; None for the bytes
            of a register that is unavailable.
        other: the pairs with other keys, as they came.
    """

    signal: int
    thread: ThreadId | None = None
    reason: StopReason = StopReason.SIGNAL
    address: int | None = None
    child: ThreadId | None = None
    path: str | None = None
    syscall: int | None = None
    position: str | None = None
    core: int | None = None
    registers: tuple[tuple[int, bytes | None], ...] = ()
    other: tuple[tuple[str, str], ...] = ()

    prefix: ClassVar[bytes | tuple[bytes, ...]] = (b"T", b"S")

    @property
    def signal_name(self) -> str:
        """The name that gdb has for the signal."""
        return signal_name(self.signal)

    @classmethod
    def parse(cls, payload: bytes, dialect: Dialect) -> Self:  # noqa: D102
        digits = payload[1:3]
        if payload[:1] not in (b"S", b"T") or len(digits) != 2 or not _DIGITS.fullmatch(digits):
            raise malformed(cls, payload)
        signal = int(digits, 16)
        fields: dict[str, object] = {
            "signal": from_linux(signal) if dialect.native_signals else signal
        }
        if payload[:1] == b"T":
            fields |= _parse_keys(payload)
        elif len(payload) > 3:
            raise malformed(cls, payload)
        return cls(**fields)  # type: ignore[arg-type]  # by the tables above

    def encode(self, dialect: Dialect) -> bytes:  # noqa: D102
        signal = to_linux(self.signal) if dialect.native_signals else self.signal
        pairs = [
            (b"%02x" % number, b"xx" if data is None else hexlify(data))
            for number, data in self.registers
        ]
        for key, (field, kind) in _NAMED.items():
            value = getattr(self, field)
            if value is not None:
                pairs.append((key, kind.encode(value)))
        if self.reason is not StopReason.SIGNAL:
            field, detail = _DETAILS.get(self.reason, ("", None))
            text = detail.encode(getattr(self, field)) if detail else b""
            pairs.append((self.reason.value.encode(), text))
        pairs += [(encode_text(key), encode_text(value)) for key, value in self.other]
        return (b"T" if pairs else b"S") + SIGNAL.encode(signal) + encode_pairs(pairs)


def _parse_keys(payload: bytes) -> dict[str, object]:
    """Return the fields that a T packet's pairs fill; of a repeated key, the first counts."""
    fields: dict[str, object] = {}
    registers: list[tuple[int, bytes | None]] = []
    other = []

    def fill(field: str, kind: Kind, value: bytes) -> None:
        if re.fullmatch(kind.pattern, value) is None:
            raise RemoteProtocolError(
                f"a stop reply with a malformed {field}: {value[:40]!r}", data=payload
            )
        fields[field] = kind.decode(value)

    for key, value in parse_pairs(payload[3:]):
        reason = _REASONS.get(key)
        if key in _NAMED and _NAMED[key][0] not in fields:
            fill(*_NAMED[key], value)
        elif reason is not None and "reason" not in fields:
            fields["reason"] = reason
            if reason in _DETAILS:
                fill(*_DETAILS[reason], value)
        elif reason is None and _REGISTER.fullmatch(key):
            if value and not value.strip(b"xX"):
                registers.append((int(key, 16), None))
            elif _DIGITS.fullmatch(value):
                registers.append((int(key, 16), unhexlify(value)))
            else:
                raise RemoteProtocolError(
                    f"a stop reply with a malformed register: {value[:40]!r}", data=payload
                )
        else:
            other.append((decode_text(key), decode_text(value)))
    return {**fields, "registers": tuple(registers), "other": tuple(other)}


class Exited(Reply):
    """The process has exited (``W``)."""

    status: int
    process: int | None = None

    syntax = "W{status:x}[;process:{process:x}]"


class Terminated(Reply):
    """The process was ended by a signal (``X``)."""

    signal: int
    process: int | None = None

    syntax = "X{signal:x}[;process:{process:x}]"

    @classmethod
    def parse(cls, payload: bytes, dialect: Dialect) -> Self:  # noqa: D102
        reply = super().parse(payload, dialect)
        if not dialect.native_signals:
            return reply
        return cls(signal=from_linux(reply.signal), process=reply.process)

    def encode(self, dialect: Dialect) -> bytes:  # noqa: D102
        signal = to_linux(self.signal) if dialect.native_signals else self.signal
        return self._syntax.encode(Terminated(signal=signal, process=self.process))


class NoResumed(Reply):
    """No resumed thread is left (``N``)."""

    syntax = "N"


class Output(Reply):
    """Text that the target, or a monitor command, printed (``O``); the answer is yet to come."""

    data: bytes

    syntax = "O{data:hex}"

    @property
    def text(self) -> str:
        """The output as text."""
        return decode_text(self.data)


class FileRequest(Reply):
    """The target asks for a system call on this machine (``F``, gdb manual, "File-I/O").

    It stays stopped until it is answered. The library answers none; ``Unknown(payload=b"F-1,58")``
    refuses (58 is hex for ENOSYS).
    """

    request: str

    syntax = "F{request:text}"


StopReply: TypeAlias = Stopped | Exited | Terminated | NoResumed | Output | FileRequest
"""Any of the replies above. After Output and FileRequest another one follows."""

_FORMS: Final[dict[bytes, type[StopReply]]] = {
    b"S": Stopped,
    b"T": Stopped,
    b"W": Exited,
    b"X": Terminated,
    b"N": NoResumed,
    b"O": Output,
    b"F": FileRequest,
}


def parse_stop(payload: bytes, dialect: Dialect) -> StopReply:
    """Read a stop reply.

    >>> from rsp.wire.replies import Dialect
    >>> stop = parse_stop(b"T05thread:01;swbreak:;", Dialect())
    >>> stop.signal_name, str(stop.thread), stop.reason
    ('SIGTRAP', '01', <StopReason.SWBREAK: 'swbreak'>)

    Raises:
        RemoteProtocolError: it is none, or malformed.
    """
    form = _FORMS.get(payload[:1])
    if form is None:
        raise RemoteProtocolError(f"not a stop reply: {payload[:60]!r}", data=payload)
    return form.parse(payload, dialect)


def parse_output(payload: bytes) -> bytes:
    """Return the text that an ``O`` packet carries.

    Raises:
        RemoteProtocolError: it is none.
    """
    if payload[:1] != b"O" or len(payload) % 2 == 0 or not _DIGITS.fullmatch(payload, 1):
        raise malformed(Output, payload)
    return unhexlify(payload[1:])


_STOP: Final = re.compile(
    rb"S[0-9a-fA-F]{2}"
    rb"|T[0-9a-fA-F]{2}(?:[^:;]*:[^;]*(?:;|\Z))*"
    rb"|[WX]%b(?:;process:%b)?"
    rb"|N" % (X.pattern, X.pattern),
    re.DOTALL,
)


def looks_like_stop(payload: bytes) -> bool:
    """Whether a payload is a stop reply of the forms ``S T W X N``.

    No other textual reply looks like one: hex has none of these letters, and no feature of
    ``qSupported`` is spelled so. The bytes of a binary reply may be anything; ask only where none
    is awaited.

    >>> looks_like_stop(b"T02thread:01;"), looks_like_stop(b"Text=0;Data=0")
    (True, False)
    """
    return _STOP.fullmatch(payload) is not None
