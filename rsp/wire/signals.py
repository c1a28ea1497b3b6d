"""Signal numbers as the protocol has them.

Contents: gdb's own numbering (gdb, include/gdb/signals.def), which is no system's: SIGBUS is 10 and
SIGUSR1 is 30 on every target. A stub may send any number, so values elsewhere are plain ints.
"""

from __future__ import annotations

from enum import IntEnum


class Signal(IntEnum):
    """The signals that have names of their own, by gdb's numbers."""

    SIGHUP = 1
    SIGINT = 2
    SIGQUIT = 3
    SIGILL = 4
    SIGTRAP = 5
    SIGABRT = 6
    SIGEMT = 7
    SIGFPE = 8
    SIGKILL = 9
    SIGBUS = 10
    SIGSEGV = 11
    SIGSYS = 12
    SIGPIPE = 13
    SIGALRM = 14
    SIGTERM = 15
    SIGURG = 16
    SIGSTOP = 17
    SIGTSTP = 18
    SIGCONT = 19
    SIGCHLD = 20
    SIGTTIN = 21
    SIGTTOU = 22
    SIGIO = 23
    SIGXCPU = 24
    SIGXFSZ = 25
    SIGVTALRM = 26
    SIGPROF = 27
    SIGWINCH = 28
    SIGLOST = 29
    SIGUSR1 = 30
    SIGUSR2 = 31
    SIGPWR = 32
    SIGPOLL = 33
    SIGCANCEL = 76
    SIG32 = 77
    SIGINFO = 142
    EXC_BAD_ACCESS = 145
    EXC_BAD_INSTRUCTION = 146
    EXC_ARITHMETIC = 147
    EXC_EMULATION = 148
    EXC_SOFTWARE = 149
    EXC_BREAKPOINT = 150


def signal_name(number: int) -> str:
    """Return gdb's name of a signal.

    >>> signal_name(5), signal_name(0), signal_name(46), signal_name(143)
    ('SIGTRAP', '0', 'SIG34', 'SIG?143')
    """
    if number == 0:
        return "0"
    # The realtime signals: 45 is SIG33 and so on to SIG63, then 78 is SIG64 and so on to SIG127.
    if 45 <= number <= 75:
        return f"SIG{number - 12}"
    if 78 <= number <= 141:
        return f"SIG{number - 14}"
    try:
        return Signal(number).name
    except ValueError:
        return f"SIG?{number}"


# Linux's own numbers from 1 on, for x86 (signal(7)); 16 is SIGSTKFLT, which gdb has not.
# fmt: off
_LINUX = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU",
    "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
)
# fmt: on
_OF_LINUX = {
    number: int(Signal[f"SIG{name}"])
    for number, name in enumerate(_LINUX, 1)
    if f"SIG{name}" in Signal.__members__
} | {32: int(Signal.SIG32), **{number: number + 12 for number in range(33, 64)}, 64: 78}
_TO_LINUX = {signal: number for number, signal in _OF_LINUX.items()}


def from_linux(number: int) -> int:
    """Return gdb's number of a signal of Linux, and one that gdb does not have as it is.

    >>> signal_name(from_linux(19)), signal_name(from_linux(10)), signal_name(from_linux(34))
    ('SIGSTOP', 'SIGUSR1', 'SIG34')
    """
    return _OF_LINUX.get(number, number)


def to_linux(number: int) -> int:
    """Undo `from_linux`."""
    return _TO_LINUX.get(number, number)
