"""The base of all commands.

Contents: Command, what a session may ask of any of them, and how a reply finds its type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar, get_args

from rsp.errors import LocalProtocolError, RemoteProtocolError
from rsp.wire.replies.base import ErrorReply, Raw, Reply, Unsupported, parse_error
from rsp.wire.syntax import Message

if TYPE_CHECKING:
    from rsp.wire.replies.base import Dialect

R_co = TypeVar("R_co", bound=Reply, covariant=True)

_E = ord("E")
_UNSUPPORTED = Unsupported()


class Command(Message):
    """A packet to the stub.

    Attributes:
        resumes: the target runs after it, and its answer is a stop reply, whenever that comes.
        idempotent: sent twice it does no more than sent once, so that it may be repeated when its
            answer was lost.
        informational: one can do without its answer: one that makes no sense counts as none.
        answered: whether the stub answers it at all.
        replies: the types that an answer may have, beside ErrorReply and Unsupported.
    """

    resumes: ClassVar[bool] = False
    idempotent: ClassVar[bool] = False
    informational: ClassVar[bool] = False
    answered: ClassVar[bool] = True
    replies: ClassVar[tuple[type[Reply], ...]] = ()

    def encode(self) -> bytes:
        """Return the payload between ``$`` and ``#``, before any escaping.

        Raises:
            LocalProtocolError: a field's value cannot be written.
        """
        return self._syntax.encode(self)

    def parse_reply(self, payload: bytes, dialect: Dialect) -> Reply:
        """Read an answer, once run-length and escapes are undone.

        Raises:
            RemoteProtocolError: it is no answer to this command.
        """
        if not payload:
            return _UNSUPPORTED
        if payload[0] == _E:
            error = parse_error(payload, dialect)
            if error is not None:
                return error
        for form in self.replies:
            if payload.startswith(form.prefix):
                return form.parse(payload, dialect)
        raise RemoteProtocolError(
            f"{payload[:60]!r} is no answer to {type(self).__name__}", data=payload
        )

    def encode_reply(self, reply: Reply, dialect: Dialect) -> bytes:
        """Return an answer's payload, as a stub sends it.

        Raises:
            LocalProtocolError: the command has no such answer, or a field cannot be written.
        """
        if not isinstance(reply, (*self.replies, ErrorReply, Unsupported)):
            raise LocalProtocolError(
                f"{type(self).__name__} is not answered with {type(reply).__name__}"
            )
        return reply.encode(dialect)


class AnsweredBy(Command, Generic[R_co]):
    """The base of commands, by the types of their answers.

    ``class ReadMemory(AnsweredBy[MemoryData])`` is how a command says what it gets, to the type
    checker and to ``parse_reply`` alike.
    """

    replies: ClassVar[tuple[type[Reply], ...]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for base in cls.__dict__.get("__orig_bases__", ()):
            (answer,) = get_args(base)
            cls.replies = get_args(answer) or (answer,)

    if TYPE_CHECKING:

        def parse_reply(  # noqa: D102
            self, payload: bytes, dialect: Dialect
        ) -> R_co | ErrorReply | Unsupported: ...


class Unknown(AnsweredBy[Raw]):
    """A packet that the library has no class for, sent as it is; its answer is Raw always.

    >>> Unknown(payload=b"qTStatus").encode()
    b'qTStatus'
    """

    payload: bytes

    syntax = "{payload:bin}"

    def parse_reply(self, payload: bytes, dialect: Dialect) -> Raw:  # noqa: D102
        return Raw.parse(payload, dialect)
