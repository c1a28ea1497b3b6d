"""The exceptions of the library, all under one root.

Contents: every type of error that leaves the library because of what a stub, a file, a line or a
user did. Anything else that comes out of it is a bug. Each error carries its datum as an attribute,
and its message says what to do next.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a clause naming the closest known names, or an empty string.

    >>> nearest("raxx", ["rax", "rbx", "eflags"])
    ' (nearest: rax)'
    """
    close = get_close_matches(name, list(known), n=3, cutoff=0.7)
    return f" (nearest: {', '.join(close)})" if close else ""


class RspError(Exception):
    """The root of every error that the library raises."""

    # KeyError's own __str__ would show the repr of the message.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class TargetAddressError(RspError, ValueError):
    """The text is none of the address forms that ``connect`` takes.

    Attributes:
        address: the text as it was given.
    """

    def __init__(self, message: str, *, address: str) -> None:
        super().__init__(message)
        self.address = address


class TransportError(RspError, OSError):
    """The byte stream to the stub could not be opened or used.

    Attributes:
        address: where the stream leads, as the user wrote it.
    """

    def __init__(self, message: str, *, address: str = "") -> None:
        super().__init__(message)
        self.address = address


class ConnectionLost(TransportError):
    """The other side closed the stream, or it broke. Call ``connect`` again."""


class RspTimeout(RspError, TimeoutError):
    """Nothing came within the time allowed.

    Attributes:
        timeout: the seconds that were allowed.
    """

    def __init__(self, message: str, *, timeout: float) -> None:
        super().__init__(message)
        self.timeout = timeout


class ProtocolError(RspError):
    """One side broke the rules of the remote protocol."""


class LocalProtocolError(ProtocolError):
    """The caller asked for what the protocol does not allow now; nothing was sent."""


class ArgumentError(LocalProtocolError, ValueError, TypeError):
    """An argument is not of what a function takes; nothing was done.

    It is a ValueError and a TypeError at once: which of them depends on how one looks at it.
    """


class RemoteProtocolError(ProtocolError):
    """The stub sent what the protocol does not allow.

    Attributes:
        data: the bytes in question, shortened.
    """

    def __init__(self, message: str, *, data: bytes = b"") -> None:
        super().__init__(message)
        self.data: bytes = data[:200]


class StubError(RspError):
    """The stub answered a well-formed request with an error.

    Attributes:
        code: the stub's error number, None where it sent text or nothing.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class MemoryFault(StubError):
    """A part of the range cannot be read or written.

    Attributes:
        address: the first address that failed.
        partial: the bytes before it (for a read).
    """

    def __init__(
        self, message: str, *, address: int, partial: bytes = b"", code: int | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.address = address
        self.partial = partial


class UnsupportedCommand(StubError):
    """The stub, or the line to it, has no such command; the message says what could do it.

    Attributes:
        command: the packet's or the operation's name.
    """

    def __init__(self, message: str, *, command: str) -> None:
        super().__init__(message)
        self.command = command


class RegisterWriteError(StubError):
    """A register did not take the value.

    Attributes:
        register: its name.
        value: what was to be written.
        actual: what is there now, None where unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        register: str,
        value: int,
        actual: int | None = None,
        code: int | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.register = register
        self.value = value
        self.actual = actual


class NoHardwareBreakpoint(StubError):
    """No debug register is left, or the stub has no such kind of breakpoint.

    Attributes:
        address: where the breakpoint was wanted.
    """

    def __init__(self, message: str, *, address: int, code: int | None = None) -> None:
        super().__init__(message, code=code)
        self.address = address


class SymbolError(RspError):
    """A question about symbols has no answer."""


class SymbolNotFound(SymbolError, KeyError):
    """No symbol, line or type of that name.

    Attributes:
        name: what was asked for.
    """

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.name = name


class ExpressionError(SymbolError, ValueError):
    """An expression of C is wrong, or an operation that the type of a value does not have."""


class ValueUnavailable(SymbolError):
    """A value cannot be had: it is optimized out, not known in this frame, or of no known type."""


class BadImage(SymbolError):
    """The file is not an image that symbols can be taken from, or a part of it is damaged.

    Attributes:
        path: the file.
        section: the section that is damaged, empty where it is the file as a whole.
        offset: where in that section, None where it is the file as a whole.
    """

    def __init__(
        self, message: str, *, path: str, section: str = "", offset: int | None = None
    ) -> None:
        super().__init__(message)
        self.path = path
        self.section = section
        self.offset = offset


class RegisterUnavailable(RspError, KeyError):
    """The layout in use has no such register, or the stub does not give its value.

    Attributes:
        register: the name that was asked for.
    """

    def __init__(self, message: str, *, register: str) -> None:
        super().__init__(message)
        self.register = register


class ModeNotReached(RspError):
    """The CPU did not come to the mode within the steps or the time allowed.

    Attributes:
        mode: the mode it is in now (a ``CpuMode``).
    """

    def __init__(self, message: str, *, mode: object) -> None:
        super().__init__(message)
        self.mode = mode


class ReplayMismatch(RspError):
    """What was sent is not what the recording has at this place.

    Attributes:
        line: the line number in the recording.
        expected: the recorded bytes.
        actual: the bytes that came.
    """

    def __init__(self, message: str, *, line: int, expected: bytes, actual: bytes) -> None:
        super().__init__(message)
        self.line = line
        self.expected = expected
        self.actual = actual
