"""The way back: a target is left as it was found, wherever the greeting of its stub has broken off.

Contents: what a session does for that before there is a Target. How a Target leaves is its own
business.
"""

from __future__ import annotations

import logging
import re
from time import monotonic
from typing import TYPE_CHECKING, Final

from rsp.ctrl_c import held
from rsp.errors import ReplayMismatch, StubError
from rsp.wire import codec, commands, replies
from rsp.wire.features import OFFERED

if TYPE_CHECKING:
    from rsp.session.kgdb_line import Line
    from rsp.session.session import Session

logger: Final = logging.getLogger("rsp.session")

# Of the stubs that stop for a client what has run, QEMU's alone knows processes, and only this one;
# where they were not agreed upon the number means nothing.
_PROCESS: Final = 1


def leave_as_found(session: Session, line: Line) -> None:
    """Leave a target whose stub was not greeted to the end, and close the session.

    What ran when we came runs on, and what stood still goes on standing. What cannot be done is
    logged: the reason why one leaves is the error to be seen.
    """
    with held():
        try:
            _restore(session, line)
        except ReplayMismatch:
            pass  # a recording has no target
        except Exception as failure:  # noqa: BLE001 - a Transport of the user's may raise anything
            logger.warning("could not leave the target as it was found: %s", failure)
        finally:
            session.close()


def _restore(session: Session, line: Line) -> None:
    transport = session.transport
    # Behind what carries a BREAK, or loses bytes, is a serial port: connecting stops nothing there.
    stops_by_coming = transport.reliable and not transport.can_break
    if stops_by_coming and not session.heard and session.usable:
        # It may not even know that we are here.
        session.connection.send(commands.QuerySupported(features=OFFERED), monotonic())
    hears = session.recover()
    if hears:
        line.settle()
    if line.runs:
        return
    if not session.heard:
        if stops_by_coming:
            _leave_word(session)
    elif hears and _ran(session):
        if not session.answered:
            session.ask(commands.QuerySupported(features=OFFERED))  # which takes kdb to its stub
        session.let_go(_PROCESS if transport.reliable else None)


def _ran(session: Session) -> bool:
    if session.found_running is not None or not session.answered:
        return session.found_running is True
    is_qemu = isinstance(session.ask(commands.QueryStepBits()), replies.StepBits)
    return is_qemu and qemu_ran(session) is not False


def qemu_ran(session: Session) -> bool | None:
    """Return whether QEMU's machine ran when we came, None where that cannot be found out.

    Up to 8.0 QEMU reports that our coming has stopped it. Later ones say nothing: then their
    monitor has a word for a machine that stood still, but none for one that somebody had paused.
    """
    if session.found_running is None:
        try:
            status = session.monitor("info status").strip()
            if status != "VM status: paused":  # (prelaunch), (debug), (io-error), …
                return False
            version = re.match(r"\d+", session.monitor("info version"))
        except StubError:
            return False
        return None if version is not None and int(version[0]) >= 8 else False
    return session.found_running


def _leave_word(session: Session) -> None:
    """Tell a stub that has not taken up our connection to let its target run.

    QEMU serves one client. It takes the next one up when that has gone, and stops its machine for
    it, even if it has hung up meanwhile; but what that has sent is read.
    """
    packet = codec.frame(commands.Detach(process=_PROCESS).encode())
    session.transport.write(b"+" + packet, timeout=0)
