"""Small questions at stops of a target under test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rsp.wire import commands, replies

if TYPE_CHECKING:
    from rsp.remote.target import Target
    from rsp.run.stop import Stop


def resumed(target: Target, timeout: float = 5) -> Stop:
    """Let the target run, and return its next stop."""
    stop = target.resume(timeout=timeout)
    assert stop is not None
    return stop


def step_flags(target: Target) -> int:
    """Return what QEMU's stub does in a single step: its sstep flags."""
    reply = target.session.ask(commands.QueryStepFlags())
    assert isinstance(reply, replies.StepFlags)
    return reply.flags
