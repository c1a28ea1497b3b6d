"""The first words with a stub, in gdb's order, and what follows from them.

Contents: the handshake and its diagnosis when it fails. What the answers mean for the code is in
``stub``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from rsp.errors import (
    ConnectionLost,
    ProtocolError,
    RemoteProtocolError,
    RspTimeout,
    StubError,
)
from rsp.session.kgdb_line import Line
from rsp.session.stub import KGDB_THREADS, Facts, Stub, identify, is_lldb, sane_packet_size
from rsp.wire import commands, replies
from rsp.wire.features import Features
from rsp.wire.threads import ANY

if TYPE_CHECKING:
    from rsp.arch.description import TargetDescription
    from rsp.session.session import Session
    from rsp.wire.replies import Reply

logger: Final = logging.getLogger("rsp.session")

# How often a reply is asked for again on a line that may lose bytes: a long one comes whole once in
# three times where one byte in a thousand is lost.
_RETRIES: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What the handshake brought.

    Attributes:
        stub: who answers.
        description: its target description, None without one.
        stop: the answer to ``?``.
    """

    stub: Stub
    description: TargetDescription | None
    stop: Reply


def shake_hands(session: Session, line: Line | None = None, *, interrupt: bool = True) -> Greeting:
    """Introduce ourselves to a stub.

    Args:
        session: the requests.
        line: what stops a kernel that runs there.
        interrupt: whether it is to be stopped; else it is waited for.

    Raises:
        UnsupportedCommand: a kernel runs there, and cannot be stopped.
        RspTimeout: nobody answers; the message says what the reason may be.
        RemoteProtocolError: what answers is no gdb stub.
        ConnectionLost: the other side hung up.
    """
    line = line or Line(session)
    try:
        reply = line.greet(interrupt=interrupt)
        if not isinstance(reply, replies.Supported):
            # So plain a stub may be a kernel's, and a UART lose bytes whatever carries them here.
            limits = session.connection.limits
            session.connection.limits = replace(limits, reliable=False, retries=_RETRIES)
        # What sends back what it gets is found out here, at the latest.
        unknown = session.ask(commands.MustReplyEmpty())
    except (RspTimeout, ConnectionLost, ProtocolError) as error:
        raise error if line.runs else _diagnose(session, error) from error
    features = reply.features if isinstance(reply, replies.Supported) else Features({})
    connection = session.connection
    size = sane_packet_size(features)
    if size is not None:
        connection.limits = replace(connection.limits, packet_size=size)
    if is_lldb(features):
        dialect = replace(connection.limits.dialect, native_signals=True)
        connection.limits = replace(connection.limits, dialect=dialect)
    if not isinstance(unknown, replies.Unsupported):
        logger.warning("the stub answers packets that it cannot know; its answers mean little")
    # On a line that loses bytes the acks are what mends it.
    if features.supports("QStartNoAckMode") and connection.limits.reliable:
        session.ask(commands.StartNoAckMode())
    # gdbserver 13.1 dies of an assertion when the description is asked for before a thread.
    session.ask(commands.SelectThread(operation="g", thread=ANY))
    description = _description(session) if features.supports("qXfer:features:read") else None
    # Once only: QEMU and kgdb drop all breakpoints on it.
    stop = session.ask(commands.QueryStop())
    # Whose line is a UART's, and a console's, the stub itself says.
    common = replace(connection.limits, reliable=session.transport.reliable, shared_line=False)
    stub = identify(_facts(session, features, description), common)
    connection.limits = stub.limits
    if stub.stops_for_client is False and session.found_running is None:
        session.found_running = False
    session.stops.clear()  # QEMU's own report that our coming stopped it
    logger.info("connected to %s at %s", stub.name, session.transport.address)
    return Greeting(stub=stub, description=description, stop=stop)


def _facts(session: Session, features: Features, description: TargetDescription | None) -> Facts:
    step_bits = physical = runs_program = bare_thread = False
    threads: tuple[str, ...] = ()
    registers_size = None
    # A stub that knows vFile or QPassSignals is gdbserver's kind, and no QEMU.
    if not features.supports("QPassSignals"):
        step_bits = isinstance(session.ask(commands.QueryStepBits()), replies.StepBits)
    if step_bits:
        mode = session.ask(commands.QueryPhysicalMemoryMode())
        physical = isinstance(mode, replies.PhysicalMemoryMode)
        runs_program = features.supports("qXfer:auxv:read")
        if not physical and not runs_program:
            # Before 4.2 no machine has such a mode, before 6.0 no program an auxiliary vector; but
            # a program alone has sections.
            moved = session.ask(commands.QueryOffsets())
            runs_program = isinstance(moved, replies.Offsets | replies.SegmentAddresses)
    elif not features:
        first = session.ask(commands.QueryFirstThreads())
        if isinstance(first, replies.ThreadList):
            threads = tuple(str(thread) for thread in first.threads)
        # kgdb is known by its threads; all registers take 30 ms of its line.
        if not any(text.startswith(KGDB_THREADS) for text in threads):
            block = session.ask(commands.ReadRegisters())
            if isinstance(block, replies.RegisterBlock):
                registers_size = len(block.data)
                said = session.ask(commands.Unknown(payload=b"qC"))
                bare_thread = isinstance(said, replies.Raw) and said.data.isdigit()
    return Facts(
        features=features,
        architecture=description.architecture if description is not None else None,
        step_bits=step_bits,
        physical_memory=physical,
        runs_program=runs_program,
        bare_thread=bare_thread,
        threads=threads,
        registers_size=registers_size,
    )


def _description(session: Session) -> TargetDescription | None:
    from rsp.arch.description import parse_target_description

    def fetch(annex: str) -> bytes:
        document = session.transfer("features", annex)
        if document is None:
            raise StubError(f"the stub offers a target description, and has no {annex}")
        return document

    try:
        return parse_target_description(fetch)
    except (StubError, RemoteProtocolError) as error:
        if not session.usable:
            raise
        # The length of `g` still tells the layout.
        logger.warning("the target description is of no use: %s", error)
        return None


def _diagnose(session: Session, error: Exception) -> Exception:
    """Say what may be the reason that the first request was not answered."""
    address = session.transport.address
    heard = session.console.read().strip()
    said = f"; what came is {heard[:80]!r}" if heard else ""
    if isinstance(error, RspTimeout) and not heard:
        return RspTimeout(
            f"{address} took the connection, and nothing answers on it: another client may be "
            "attached (QEMU serves one and leaves the next waiting), or this is no gdb stub, or a "
            "kernel that has to be broken into",
            timeout=error.timeout,
        )
    if isinstance(error, ConnectionLost):
        return ConnectionLost(
            f"{address} hung up before it answered{said}: is this a gdb stub?", address=address
        )
    return RemoteProtocolError(
        f"{address} does not speak the remote protocol ({error}){said}: is this the port of the "
        "gdb stub?"
    )
