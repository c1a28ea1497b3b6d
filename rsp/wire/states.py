"""What a Connection may do when: the states and the table of transitions.

Contents: tables only; ``connection`` acts on them. The diagram in docs/architecture.md is drawn
from TRANSITIONS.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class State(Enum):
    """The condition of a Connection."""

    STOPPED = "stopped"
    """The target is stopped, or not known to run: requests may be sent."""
    RUNNING = "running"
    """A resume is under way: nothing may be sent but an interrupt."""
    CLOSED = "closed"
    """The other side has closed the stream."""
    ERROR = "error"
    """A fault has made the stream meaningless; this state stays."""


class Trigger(Enum):
    """What moves a Connection from one state to another."""

    RESUME = "a resume is sent"
    STOP = "a stop reply comes"
    REFUSAL = "the stub refuses the resume"
    CLOSE = "the stream ends"
    FAULT = "a fault that cannot be mended"


TRANSITIONS: Final[dict[State, dict[Trigger, State]]] = {
    State.STOPPED: {
        Trigger.RESUME: State.RUNNING,
        Trigger.STOP: State.STOPPED,
        Trigger.CLOSE: State.CLOSED,
        Trigger.FAULT: State.ERROR,
    },
    State.RUNNING: {
        Trigger.STOP: State.STOPPED,
        Trigger.REFUSAL: State.STOPPED,
        Trigger.CLOSE: State.CLOSED,
        Trigger.FAULT: State.ERROR,
    },
    State.CLOSED: {},
    State.ERROR: {},
}
