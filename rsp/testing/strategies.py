"""Hypothesis strategies for what is said on the wire.

Contents: strategies for commands, replies, stop replies, thread ids, features, payloads and
packets, for users' tests as for this library's own. It is the one place that imports Hypothesis.
What a strategy gives for a field follows from the kind of the field in the packet's syntax.
"""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rsp.wire import commands as _commands
from rsp.wire import replies as _replies
from rsp.wire import stops as _stops
from rsp.wire.codec import frame
from rsp.wire.commands import Action, ActionKind, BreakpointType, Command
from rsp.wire.features import Features
from rsp.wire.replies import Dialect, Reply
from rsp.wire.stops import Stopped, StopReason
from rsp.wire.syntax import decode_text
from rsp.wire.threads import ThreadId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy

    from rsp.wire.stops import StopReply
    from rsp.wire.syntax import Message

_M = TypeVar("_M", bound="Message")

_ALL_COMMANDS: Final[tuple[type[Command], ...]] = (*_commands.COMMANDS, _commands.Unknown)
_ALL_REPLIES: Final[list[type[Reply]]] = sorted(
    {
        _replies.ErrorReply,
        _replies.Unsupported,
        *(reply for command in _ALL_COMMANDS for reply in command.replies),
    },
    key=lambda cls: cls.__name__,
)


def register() -> None:
    """Teach ``st.from_type`` the public types; Hypothesis calls it by the entry point.

    It does so whenever it is imported, which may be by the import below, when nothing else of this
    module is there yet: so the strategies are made when they are first asked for.
    """
    from hypothesis.strategies import one_of, register_type_strategy

    register_type_strategy(ThreadId, lambda _: thread_ids())
    register_type_strategy(Features, lambda _: features())
    register_type_strategy(Command, lambda _: commands())
    register_type_strategy(Reply, lambda _: one_of([*map(_replies_of, _ALL_REPLIES)]))
    for command in _ALL_COMMANDS:
        register_type_strategy(command, lambda cls: commands(types=[cls]))
    for reply in _ALL_REPLIES:
        register_type_strategy(reply, lambda cls: _replies_of(cls))


from hypothesis import strategies as st  # noqa: E402 - it calls `register`

_UNSIGNED: Final = st.integers(0, 2**64 - 1)
_TEXT: Final = st.binary(max_size=20).map(decode_text)


def _text_without(characters: str, *, min_size: int = 0) -> SearchStrategy[str]:
    alphabet = st.characters(exclude_characters=characters, exclude_categories=["Cs"])
    return st.text(alphabet, min_size=min_size, max_size=12)


def _tuples(items: SearchStrategy[Any]) -> SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=4).map(tuple)


# --- the parts ---


@st.composite
def thread_ids(draw: DrawFn) -> ThreadId:
    """Thread ids with and without a process, in the spellings of several stubs."""
    parts = st.one_of(st.sampled_from([-1, 0, 1, 0xFFFFFFFE]), st.integers(0, 2**64 - 1))
    process = draw(st.none() | parts)
    thread = draw(parts)
    width = draw(st.sampled_from([1, 2, 16]))
    text = "-1" if thread == -1 else f"{thread:0{width}x}"
    if process is not None:
        text = f"p-1.{text}" if process == -1 else f"p{process:0{width}x}.{text}"
    return ThreadId(process=process, thread=thread, text=text)


def features() -> SearchStrategy[Features]:
    """Lists of features, as both sides of ``qSupported`` send them."""
    names = st.from_regex(r"[A-Za-z][A-Za-z0-9:_-]{0,10}[A-Za-z0-9]", fullmatch=True)
    values = st.one_of(st.booleans(), st.none(), _text_without(";"))
    return st.builds(
        lambda others, size: Features({**others, **size}),
        st.dictionaries(names, values, max_size=5),
        st.fixed_dictionaries({}, optional={"PacketSize": _UNSIGNED.map("{:x}".format)}),
    )


@st.composite
def _actions(draw: DrawFn) -> Action:
    kind = draw(st.sampled_from(ActionKind))
    ranged = kind is ActionKind.RANGE_STEP
    signals = kind in (ActionKind.CONTINUE, ActionKind.STEP)
    return Action(
        kind=kind,
        signal=draw(st.none() | st.integers(0, 255)) if signals else None,
        start=draw(_UNSIGNED) if ranged else None,
        end=draw(_UNSIGNED) if ranged else None,
        thread=draw(st.none() | thread_ids()),
    )


_KINDS: Final[dict[str, SearchStrategy[Any]]] = {
    "x": _UNSIGNED,
    "0x": _UNSIGNED,
    "signed": st.integers(1 - 2**64, 2**64 - 1),
    "signal": st.integers(0, 255),
    "flag": st.booleans(),
    "hex": st.binary(max_size=64),
    "hextext": _TEXT,
    "bin": st.binary(max_size=64),
    "text": _TEXT,
    "annex": _text_without(":"),
    "word": _text_without(":;,[]{}=", min_size=1),
    "letter": st.sampled_from("gc"),
    "thread": thread_ids(),
    "current": thread_ids(),
    "signals": _tuples(st.integers(0, 255)),
    "arguments": _tuples(_TEXT),
    "words": _tuples(_text_without(":;,[]{}=", min_size=1)),
    "features": features(),
    "breakpoint": st.sampled_from(BreakpointType),
    "actions": _tuples(_actions()),
}


def _by_syntax(cls: type[_M]) -> SearchStrategy[_M]:
    """Return objects of a class with a syntax; a field that defaults to None may be None."""
    defaults = {name: field.default for name, field in signature(cls).parameters.items()}
    fields = {
        name: st.none() | _KINDS[kind] if defaults[name] is None else _KINDS[kind]
        for name, kind in cls.kinds().items()
    }
    return st.builds(cls, **fields)


# --- commands ---


def commands(*, types: Sequence[type[Command]] | None = None) -> SearchStrategy[Command]:
    """Commands.

    Args:
        types: the classes that they may have; all of the vocabulary, and Unknown, by default.
    """
    # No packet of the vocabulary begins with q_.
    unknown = st.binary(max_size=16).map(lambda tail: _commands.Unknown(payload=b"q_" + tail))
    strategies: list[SearchStrategy[Command]] = [
        unknown if cls is _commands.Unknown else _by_syntax(cls)
        for cls in (_ALL_COMMANDS if types is None else types)
    ]
    return st.one_of(strategies)


# --- replies ---


@st.composite
def _stopped(draw: DrawFn) -> Stopped:
    reason = draw(st.sampled_from(StopReason))
    details: dict[str, Any] = {}
    match reason:
        case StopReason.WATCH | StopReason.RWATCH | StopReason.AWATCH:
            details["address"] = draw(_UNSIGNED)
        case StopReason.FORK | StopReason.VFORK | StopReason.CLONE:
            details["child"] = draw(thread_ids())
        case StopReason.EXEC:
            details["path"] = draw(_TEXT)
        case StopReason.SYSCALL_ENTRY | StopReason.SYSCALL_RETURN:
            details["syscall"] = draw(_UNSIGNED)
        case StopReason.REPLAYLOG:
            details["position"] = draw(st.sampled_from(["begin", "end"]))
    registers = st.tuples(st.integers(0, 2**32 - 1), st.none() | st.binary(max_size=16))
    # Keys of nobody: no stub's begin with an underscore, and it is no hex digit.
    others = st.tuples(_text_without(":;").map("_{}".format), _text_without(";"))
    fields: dict[str, Any] = {
        "signal": draw(st.integers(0, 255)),
        "thread": draw(st.none() | thread_ids()),
        "core": draw(st.none() | _UNSIGNED),
        "registers": draw(_tuples(registers)),
        "other": draw(_tuples(others)),
    }
    return Stopped(reason=reason, **fields, **details)


def stop_replies() -> SearchStrategy[StopReply]:
    """Stop replies of every form."""
    return st.one_of(
        _stopped(),
        _by_syntax(_stops.Exited),
        _by_syntax(_stops.Terminated),
        _by_syntax(_stops.NoResumed),
        _by_syntax(_stops.Output),
        _by_syntax(_stops.FileRequest),
    )


@st.composite
def _register_blocks(draw: DrawFn) -> _replies.RegisterBlock:
    data = draw(st.binary(min_size=1, max_size=64))
    size = len(data)
    missing = draw(st.none() | st.binary(min_size=size, max_size=size))
    if missing is None or not any(byte & 1 for byte in missing):
        return _replies.RegisterBlock(data=data)
    missing = bytes(byte & 1 for byte in missing)
    data = bytes(0 if gone else byte for byte, gone in zip(data, missing, strict=True))
    return _replies.RegisterBlock(data=data, unavailable=missing)


def _memory_regions() -> SearchStrategy[_replies.MemoryRegion]:
    keys = _text_without(":;").map("_{}".format)
    return st.builds(
        _replies.MemoryRegion,
        start_address=_UNSIGNED,
        size=st.none() | _UNSIGNED,
        permissions=st.none() | st.sampled_from(["r", "rx", "rw", "rwx", ""]),
        name=st.none() | _TEXT,
        error=st.none() | _TEXT,
        other=_tuples(st.tuples(keys, _text_without(";"))),
    )


def _replies_of(cls: type[Reply], length: int = 64) -> SearchStrategy[Any]:
    """Return the replies of one class, with at most ``length`` bytes of memory.

    An empty payload means Unsupported, so that none of the others encodes to one.
    """
    if cls in (_replies.MemoryData, _replies.BinaryData):
        return st.builds(cls, data=st.binary(min_size=min(length, 1), max_size=min(length, 64)))
    if cls is _replies.RegisterBlock:
        return _register_blocks()
    if cls is _replies.SearchResult:
        return st.builds(cls, address=st.none() | _UNSIGNED)
    if cls is _replies.MemoryRegion:
        return _memory_regions()
    if cls is _replies.ThreadList:
        return st.builds(cls, threads=_tuples(thread_ids()), last=st.booleans())
    if cls is _replies.XferData:
        return st.builds(cls, data=st.binary(max_size=64), last=st.booleans())
    if cls is Stopped:
        return _stopped()
    if cls is _replies.ErrorReply:
        return error_replies()
    strategy = _by_syntax(cls)
    if cls in (_replies.MonitorText, _replies.ThreadExtraInfo, _replies.Supported):
        return strategy.filter(lambda reply: reply.encode(Dialect()) != b"")
    return strategy


def error_replies() -> SearchStrategy[_replies.ErrorReply]:
    """Errors with a number below 100, which every dialect can write, and errors with a text."""
    return st.one_of(
        st.builds(_replies.ErrorReply, code=st.integers(0, 99)),
        st.builds(_replies.ErrorReply, text=_TEXT),
    )


def replies(command: Command) -> SearchStrategy[Reply]:
    """Everything that a stub may answer to a command."""
    length = getattr(command, "length", 64)
    own = [_replies_of(cls, length) for cls in command.replies]
    if isinstance(command, _commands.Unknown):
        return st.one_of(own)
    match command:
        case _commands.QueryNextThreads() | _commands.ReadMemory(length=0):
            return st.one_of(*own, error_replies())  # an empty payload says something else here
        case _:
            return st.one_of(*own, error_replies(), st.just(_replies.Unsupported()))


# --- bytes ---


@st.composite
def payloads(draw: DrawFn) -> bytes:
    """Payloads of packets, in either direction: sound ones, damaged ones and noise."""
    command = draw(commands())
    payload = draw(
        st.one_of(
            st.just(command.encode()),
            replies(command).map(lambda reply: command.encode_reply(reply, Dialect())),
            stop_replies().map(lambda stop: stop.encode(Dialect())),
            st.binary(max_size=64),
        )
    )
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(payload)))
        end = draw(st.integers(start, min(start + 4, len(payload))))
        payload = payload[:start] + draw(st.binary(max_size=3)) + payload[end:]
    return payload


def packets() -> SearchStrategy[bytes]:
    """Whole packets, ``$`` to checksum."""
    return payloads().map(frame)
