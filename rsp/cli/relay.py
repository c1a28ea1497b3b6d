"""Passing bytes between two streams, both ways, and recording them.

Contents: the loop of ``rsp proxy``. It knows no packets: it passes on the bytes that were sent.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from rsp.errors import ConnectionLost, RspTimeout
from rsp.transports.record import mark_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.recording import Recorder
    from rsp.transports.base import Transport

_SIZE = 1 << 16
_POLL = 0.2
"""Seconds; what one side still says so long after the other has closed is passed on."""


def relay(client: Transport, target: Transport, recorder: Recorder) -> None:
    """Pass bytes both ways until either side closes.

    A side that has closed may still listen (a TCP half-close), so what the other has to say then
    is passed on, until it is silent. Each transport is read by one thread and written by another.

    Args:
        client: a gdb, or anything else that speaks to a stub.
        target: the stub.
        recorder: where both are recorded, in the order in which a client would have seen it.

    Raises:
        TransportError: the line to the target broke, or the recording cannot be written.
    """
    recorder.comment(mark_of(target))
    over = threading.Event()
    lock = threading.Lock()  # the recorder's
    failures: list[BaseException] = []

    def pump(source: Transport, sink: Transport, record: Callable[[bytes], None]) -> bool:
        """Return whether the source closed, rather than falling silent after the other did."""
        while True:
            try:
                data = source.read(_SIZE, _POLL)
            except RspTimeout:
                if over.is_set():
                    return False
                continue
            if not data:
                return True
            with lock:
                record(data)
            try:
                sink.write(data)
            except ConnectionLost:  # told by who reads from there
                return False

    def answers() -> None:
        try:
            if pump(target, client, recorder.received):
                with lock:
                    recorder.eof()
        except ConnectionLost as error:
            with lock:
                recorder.error(str(error))
            failures.append(error)
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            failures.append(error)
        finally:
            over.set()

    # A daemon, for it may wait to write to a client that reads nothing, and Ctrl-C must end that.
    thread = threading.Thread(target=answers, name="rsp proxy: answers", daemon=True)
    thread.start()
    try:
        with contextlib.suppress(ConnectionLost):  # a client that was killed has closed, too
            pump(client, target, recorder.sent)
    except BaseException:
        over.set()
        thread.join(2 * _POLL)
        raise
    over.set()
    thread.join()
    if failures:
        raise failures[0]
