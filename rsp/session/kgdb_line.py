"""Getting the attention of a kernel that may be running: kgdb on a serial line.

Contents: the ways to stop a running kernel through its line, and the first request that each of the
states it may be found in answers. Linux's own words for them are those of drivers/tty/sysrq.c,
kernel/debug/debug_core.c and kernel/debug/kdb/kdb_main.c (6.1).

A kernel with kgdb on a line is in one of these states, and only the first of them goes on its own::

    running           what is sent is typed on the console; BREAK, then g, stops it
    at [0]kdb>        $qSupported turns kdb into the stub
    silent            it waits for a packet (kgdbwait, another client has detached)
    not acknowledged  it has said $T05…, which it repeats at any byte but +, and waits

BREAK and g stop the first, are a character at the second's prompt, nothing to the third, and let
the last repeat itself. So they come first where the line has a BREAK, and where it has none, the
first request does: if what comes is text, a shell on the console can stop the kernel.
"""

from __future__ import annotations

import logging
import re
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from rsp.errors import RemoteProtocolError, RspTimeout, UnsupportedCommand
from rsp.wire import commands
from rsp.wire.features import OFFERED
from rsp.wire.replies import Supported

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.session.session import Session
    from rsp.wire.replies import ErrorReply, Unsupported

logger: Final = logging.getLogger("rsp.session")

# Seconds that a kernel has at first to say that it has heard a BREAK and g, or a request, and a
# shell to show its prompt. A machine under load takes longer: each time that it is asked again it
# has twice as long, until the time that the caller gives is over.
_SILENCE: Final = 0.6
_PROMPT_WITHIN: Final = 2.0
# A look at what has come, every so often.
_GLANCE: Final = 0.02

_TRIGGER: Final = b"echo g > /proc/sysrq-trigger\r"
SYSRQ_G: Final = b"g"
_KILL_LINE: Final = b"\x15"  # Ctrl-U, in a shell and at a login prompt

_ENTERS: Final = b"sysrq: DEBUG"
# Either would do; on a bad line one may come garbled.
_STOPPED: Final = re.compile(rb"sysrq: DEBUG|Entering kdb \(")
_KDB: Final = re.compile(rb"\[\d+\]kdb> \Z")
_AT_KDB: Final = re.compile(rb"\[\d+\]kdb> [^\r\n]*\Z")
_CALL_STUB: Final = b"$?#3f"
# The last is the answer to a request that was thought to be lost.
_WAITS: Final = re.compile(
    rb"KGDB or \$3#33 for KDB|Entering KGDB|Waiting for connection from remote gdb|\$#00"
)
_ANSI: Final = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_LOGIN: Final = re.compile(rb"(?:login|[Pp]assword): ?\Z")
_PROMPT: Final = re.compile(rb"[#$%>] ?\Z")

_REFUSALS: Final = (
    (
        re.compile(rb"This sysrq operation is disabled"),
        (
            "sysrq is disabled for it: set kernel.sysrq=1 (sysctl, or sysrq_always_enabled on the "
            "kernel's command line)"
        ),
    ),
    (
        re.compile(rb"sysrq: HELP :"),
        (
            "the kernel has no sysrq g: it is built without CONFIG_KGDB, or kgdboc= names no port "
            "(cat /sys/module/kgdboc/parameters/kgdboc)"
        ),
    ),
    (
        re.compile(rb"No KGDB I/O module available"),
        (
            "kgdb has no port: give the kernel kgdboc=ttyS0,115200, or write that to "
            "/sys/module/kgdboc/parameters/kgdboc"
        ),
    ),
)
_SHELL_REFUSALS: Final = (
    (
        re.compile(rb"ermission denied"),
        "the shell on the console is not root's: only root may write to /proc/sysrq-trigger",
    ),
    (
        re.compile(rb"(?:nonexistent directory|No such file or directory)"),
        (
            "there is no /proc/sysrq-trigger: the kernel is built without CONFIG_MAGIC_SYSRQ, or "
            "/proc is not mounted"
        ),
    ),
)


_TYPED: Final = (
    "a BREAK and g were taken for typing: sysrq over the line is off (kernel.sysrq is 0, or "
    "CONFIG_MAGIC_SYSRQ_SERIAL is not set), or the port has no console=, and so hears no BREAK"
)


class _Refusal(NamedTuple):
    """Why the kernel was not stopped.

    Attributes:
        reason: what is to be done about it.
        final: whether it runs for certain.
    """

    reason: str
    final: bool = True


class Line:
    """The line to a kernel, and what it knows of stopping it.

    Args:
        session: the requests.
        send_break: sends a BREAK by another way than the line, where the user has given one.
        key: what is typed behind it; nothing where who carries the line types it.

    Attributes:
        runs: whether a kernel was found to run, and has not stopped.

    Whether a kernel ran is noted in ``session.found_running`` when it has stopped: at a BREAK it
    says so, and what stood there already does not.
    """

    def __init__(
        self,
        session: Session,
        send_break: Callable[[], None] | None = None,
        *,
        key: bytes = SYSRQ_G,
    ) -> None:
        self._session = session
        self._break = send_break
        self._key = key
        if send_break is None and session.transport.can_break:
            self._break = session.transport.send_break
        self._shell = False  # whether a shell has stopped it, and nothing else could
        self._breaking = False  # what stops it is on its way, and has not been heard of
        self._asking = False  # a request may have been typed on its console
        self._sent = False  # what stops it was sent,
        self._said_so = False  # and it has said that it stops
        self.runs: bool = False
        self._litter = False  # whether a g may have been typed on the console
        session.break_in = self.interrupt
        session.resumed = self._clean_up

    # --- when nobody knows yet who is there ---

    def greet(self, *, interrupt: bool) -> Supported | ErrorReply | Unsupported:
        """Return the answer to the first request, having stopped what had to be stopped.

        Args:
            interrupt: whether a running kernel is stopped; else a stop is waited for.

        Raises:
            UnsupportedCommand: a kernel runs there, and cannot be stopped; the message says why.
            RspTimeout, RemoteProtocolError, ConnectionLost: nobody answers.
        """
        session = self._session
        request = commands.QuerySupported(features=OFFERED)
        end = monotonic() + session.connection.limits.timeout
        patience = _SILENCE
        while True:
            refusal = None
            if self._break is not None and interrupt:
                refusal = self._by_break(patience)
            if refusal is None or not refusal.final:
                self._forget_recent()
                self._asking = True
                if session.connection.limits.reliable:
                    session.connection.acknowledge()
                answer = session.ask_unless(request, patience, self._is_console, _is_echo)
                if answer is not None:
                    self._asking = False
                    self._note_stop()
                    return answer
                self._unask()
            if not interrupt:
                self._wait_for_stop()
                break
            may_break = self._break is not None and not (refusal and refusal.final)
            until = monotonic() + 3 * patience
            if not may_break:
                until = max(until, end)
            still = self._by_shell(refusal, until)
            if still is None:
                break
            if still.final or monotonic() >= end:
                raise self._cannot(still)
            patience *= 2
        return session.ask(request)

    def settle(self) -> None:
        """See what a greeting that was cut off has begun to its end."""
        if self._breaking:
            self._await(_REFUSALS + _SHELL_REFUSALS, self._session.connection.limits.timeout)
        if self._asking and self._is_console():
            self._unask()

    def _unask(self) -> None:
        """Take back the request that was typed on a console."""
        self._asking = False
        self._type(_KILL_LINE)

    def _is_console(self) -> bool:
        """Whether what has come is a terminal's echo of what was sent, or a kernel's messages."""
        recent = self._session.console.recent
        return b"$qSupported" in recent or (self._break is not None and b"\n" in recent)

    # --- while it runs ---

    def interrupt(self) -> None:
        """Stop the running kernel; its stop is then there, or about to be.

        Raises:
            UnsupportedCommand: there is no way, or the kernel refuses; the message says why.
            RspTimeout: nothing comes of it.
        """
        session = self._session
        session.drain()
        if _AT_KDB.search(session.console.recent):
            self._forget_recent()
            self._type(_CALL_STUB)
            is_last_way = self._break is None and not self._shell
            self._await((), session.connection.limits.timeout if is_last_way else _SILENCE)
            if session.stops:
                return
        if self._break is None and not self._shell:
            raise self._no_way()
        timeout = session.connection.limits.timeout
        end = monotonic() + timeout
        # A BREAK overtakes what is sent before it (QEMU's telnet), and its NUL is none to the
        # checksum of a packet that it lands in: `$c#63` would be another command.
        while not session.connection.resume_acknowledged and (now := monotonic()) < end:
            session.next_event(now + _GLANCE)
            if session.stops:
                return
        for attempt in count():
            # A UART may lose the mark of a BREAK while it sends (measured on QEMU's, with a console
            # that never rests); and of two BREAKs in a row Linux heeds the first only.
            self._litter = attempt > 0 and not self._shell and bool(self._key)
            if self._shell:
                self._sent = self._breaking = True
                self._type(_KILL_LINE + _TRIGGER)
                refusal = self._await(_REFUSALS + _SHELL_REFUSALS, end - monotonic())
            else:
                refusal = self._by_break(_SILENCE * 2**attempt)
            if session.stops:
                return
            if refusal is not None and refusal.final:
                raise self._cannot(refusal)
            if monotonic() > end:
                if refusal is not None:
                    raise self._cannot(refusal)
                way = "a shell" if self._shell else "a BREAK and g"
                raise RspTimeout(
                    f"{way} did not stop the kernel within {timeout:g} s: it hangs, or does not "
                    "listen to its line",
                    timeout=timeout,
                )

    # --- the ways ---

    def _by_break(self, patience: float) -> _Refusal | None:
        """Send a BREAK and g; return what is against it, None where nothing is known to be."""
        session = self._session
        while not session.stops and session.next_event(monotonic()) is not None:
            pass  # what was said before this says nothing of it
        self._forget_recent()
        assert self._break is not None
        self._sent = self._breaking = True
        self._break()
        self._type(self._key)
        return self._await(_REFUSALS, patience)

    def _by_shell(self, before: _Refusal | None, end: float) -> _Refusal | None:
        """Let a shell on the console stop the kernel; return what is against it.

        Args:
            before: what was against another way.
            end: until when a prompt is waited for, of a shell that may be about to start.
        """
        session = self._session
        self._forget_recent()
        last, again, patience = b"", 0.0, _PROMPT_WITHIN
        while not (_PROMPT.search(last) or _LOGIN.search(last)) and (now := monotonic()) < end:
            if self._stands():
                return None  # it has heard the BREAK, or the request, late
            if now >= again:
                self._type(_KILL_LINE + b"\r")
                again, patience = now + patience, 2 * patience
            session.next_event(now + _GLANCE)
            recent = session.console.recent
            if _KILL_LINE in recent:
                raise RemoteProtocolError("it sends back what it gets")  # which no terminal does
            last = _ANSI.sub(b"", recent).rpartition(b"\n")[2].strip(b"\r")
        against = f"; {before.reason}" if before else ""
        if _LOGIN.search(last):
            return _Refusal("log in as root on its console first" + against)
        if not _PROMPT.search(last):
            reason = "its console shows no prompt of a shell that could do it" + against
            return _Refusal(reason, final=False)
        self._forget_recent()
        self._sent = self._breaking = True
        self._type(_TRIGGER)
        refusal = self._await(_REFUSALS + _SHELL_REFUSALS, session.connection.limits.timeout)
        self._shell = refusal is None
        return refusal

    # --- signs of a stop ---

    def _await(
        self, refusals: tuple[tuple[re.Pattern[bytes], str], ...], seconds: float
    ) -> _Refusal | None:
        """Wait for a sign that the kernel stands still; return the reason why there is none.

        Nothing at all is no reason: what stands still already says nothing.
        """
        session = self._session
        now = monotonic()
        end, most = now + seconds, now + session.connection.limits.timeout
        while not self._stands():
            recent = session.console.recent
            for pattern, reason in refusals:
                if pattern.search(recent):
                    self._breaking = False
                    return _Refusal(reason)
            now = monotonic()
            if now >= (most if _ENTERS in recent else end):
                self._breaking = False
                return _Refusal(_TYPED, final=False) if recent else None
            session.next_event(now + _GLANCE)
        return None

    def _stands(self) -> bool:
        """Whether the kernel has said that it stands still."""
        session = self._session
        recent = session.console.recent
        stands = bool(session.stops or _KDB.search(recent) or _WAITS.search(recent))
        if stands:
            self._note_stop()
        if session.stops:
            return True
        if stands and session.running:
            # What waits for an answer is the resume, and its answer is a stop.
            self._forget_recent()
            self._type(_CALL_STUB)
            return False
        return stands

    def _note_stop(self) -> None:
        """Note that the kernel stands still, and whether it says that it did not before."""
        self._breaking = False
        self._heed()
        if self._said_so and self._session.found_running is None:
            self._session.found_running = True

    def _heed(self) -> None:
        heard = self._sent and _STOPPED.search(self._session.console.recent)
        self._said_so = self._said_so or bool(heard)

    def _forget_recent(self) -> None:
        self._heed()
        self._session.console.forget_recent()

    def _wait_for_stop(self) -> None:
        """Wait until a kernel stops by itself.

        Raises:
            RspTimeout: it does not.
        """
        session = self._session
        timeout = session.connection.limits.timeout
        end = monotonic() + timeout
        self.runs = True
        while (now := monotonic()) < end:
            if self._stands():
                self.runs = False
                session.found_running = True
                return
            session.next_event(now + _GLANCE)
        raise RspTimeout(
            f"the kernel behind {session.transport.address} runs, and did not stop within "
            f"{timeout:g} s; with interrupt=True it is stopped",
            timeout=timeout,
        )

    # --- small parts ---

    def _clean_up(self) -> None:
        if self._litter:
            self._litter = False
            self._type(_KILL_LINE)

    def _type(self, data: bytes) -> None:
        session = self._session
        if data:
            session.transport.write(data, timeout=session.connection.limits.timeout)

    def _no_way(self) -> UnsupportedCommand:
        return UnsupportedCommand(
            f"nothing on {self._session.transport.address} stops a running kernel: it carries no "
            "BREAK, and no shell is known there. In the guest, echo g > /proc/sysrq-trigger stops "
            "it (then wait() returns), or a breakpoint; a serial port, telnet:// and rfc2217:// "
            'carry a BREAK, and so does QEMU\'s monitor (interrupt="unix:/path/of/monitor"); '
            'interrupt="ctrl-c" sends 0x03, which agent-proxy makes a BREAK and g of',
            command="interrupt",
        )

    def _cannot(self, refusal: _Refusal) -> UnsupportedCommand:
        return UnsupportedCommand(
            f"the kernel behind {self._session.transport.address} runs and was not stopped: "
            f"{refusal.reason}",
            command="interrupt",
        )


def _is_echo(answer: Supported | ErrorReply | Unsupported) -> bool:
    # The line editor of a shell writes a long line twice, and an ack that is echoed in between.
    return isinstance(answer, Supported) and any(
        name.startswith("qSupported") for name in answer.features
    )
