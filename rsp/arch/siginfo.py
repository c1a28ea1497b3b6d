"""What Linux tells of a signal: ``struct siginfo`` of x86.

Contents: the layouts of 64-bit and 32-bit processes and the names of the codes. Asking a stub for
the bytes is not for here.

Sources: Linux include/uapi/asm-generic/siginfo.h, and kernel/signal.c, siginfo_layout, for which
fields a code has; sigaction(2).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

from rsp.errors import RemoteProtocolError
from rsp.reprs import hex_repr

_SIGILL, _SIGTRAP, _SIGBUS, _SIGFPE, _SIGSEGV, _SIGCHLD, _SIGSYS = 4, 5, 7, 8, 11, 17, 31
_SI_USER, _SI_TIMER, _SI_SIGIO, _SI_KERNEL = 0, -2, -5, 0x80


def _numbered(prefix: str, names: str) -> dict[int, str]:
    return {number: prefix + name for number, name in enumerate(names.split(), 1)}


_CODES: Final = {
    _SIGILL: _numbered("ILL_", "ILLOPC ILLOPN ILLADR ILLTRP PRVOPC PRVREG COPROC BADSTK BADIADDR"),
    _SIGTRAP: _numbered("TRAP_", "BRKPT TRACE BRANCH HWBKPT UNK PERF"),
    _SIGBUS: _numbered("BUS_", "ADRALN ADRERR OBJERR MCEERR_AR MCEERR_AO"),
    _SIGFPE: _numbered("FPE_", "INTDIV INTOVF FLTDIV FLTOVF FLTUND FLTRES FLTINV FLTSUB"),
    _SIGSEGV: _numbered(
        "SEGV_", "MAPERR ACCERR BNDERR PKUERR ACCADI ADIDERR ADIPERR MTEAERR MTESERR CPERR"
    ),
    _SIGCHLD: _numbered("CLD_", "EXITED KILLED DUMPED TRAPPED STOPPED CONTINUED"),
    _SIGSYS: _numbered("SYS_", "SECCOMP USER_DISPATCH"),
}
_SENT: Final = {
    _SI_USER: "SI_USER",
    -1: "SI_QUEUE",
    _SI_TIMER: "SI_TIMER",
    -3: "SI_MESGQ",
    -4: "SI_ASYNCIO",
    _SI_SIGIO: "SI_SIGIO",
    -6: "SI_TKILL",
    -7: "SI_DETHREAD",
    -60: "SI_ASYNCNL",
    _SI_KERNEL: "SI_KERNEL",
}
# Whose address is that of the access or the instruction.
_FAULTS: Final = frozenset({_SIGILL, _SIGTRAP, _SIGBUS, _SIGFPE, _SIGSEGV, _SIGSYS})


@dataclass(frozen=True, slots=True, kw_only=True)
class SigInfo:
    r"""What the kernel says of the signal that stopped a process.

    >>> import struct
    >>> data = struct.pack("<iiiiQ", 11, 0, 1, 0, 0x10).ljust(128, b"\0")
    >>> print(SigInfo.parse(data, word_size=8))
    at 0x10 (SEGV_MAPERR)

    Attributes:
        number: the signal, in Linux's numbering (``Stop.signal`` is in gdb's).
        code: why, ``si_code``.
        code_name: its name in sigaction(2), ``SEGV_MAPERR``; empty for one without.
        address: of SIGSEGV and SIGBUS the address that was accessed, of SIGILL, SIGFPE and SIGTRAP
            that of the instruction. None where the CPU tells none: SIGSEGV with SI_KERNEL, for an
            address that is not canonical, say.
        pid, uid: the process that sent the signal and its user, or the child that SIGCHLD is of;
            None where the kernel sent it.
        status: of SIGCHLD the child's exit status, or the signal that it has.
        data: all of it as it came.
    """

    number: int
    code: int
    code_name: str
    address: int | None = None
    pid: int | None = None
    uid: int | None = None
    status: int | None = None
    data: bytes = field(repr=False)

    @classmethod
    def parse(cls, data: bytes, word_size: int) -> SigInfo:
        """Read the structure of a process.

        Args:
            data: as ``qXfer:siginfo:read`` has it.
            word_size: 8 of a 64-bit process, 4 of a 32-bit one.

        Raises:
            RemoteProtocolError: the data is too short.
        """
        at = 12 if word_size == 4 else 16
        try:
            number, _, code = struct.unpack_from("<iii", data)
            pid, uid, status = struct.unpack_from("<iIi", data, at)
            (address,) = struct.unpack_from("<I" if word_size == 4 else "<Q", data, at)
        except struct.error as error:
            raise RemoteProtocolError(
                f"a siginfo of {len(data)} bytes: Linux has 128", data=data
            ) from error
        known: dict[str, int] = {}
        if code <= _SI_USER and code not in (_SI_TIMER, _SI_SIGIO):
            known = {"pid": pid, "uid": uid}
        elif _SI_USER < code < _SI_KERNEL and number in _FAULTS:
            known = {"address": address}
        elif _SI_USER < code < _SI_KERNEL and number == _SIGCHLD:
            known = {"pid": pid, "uid": uid, "status": status}
        name = _SENT.get(code) or _CODES.get(number, {}).get(code, "")
        return cls(number=number, code=code, code_name=name, data=data, **known)

    def __str__(self) -> str:
        name = self.code_name or f"si_code {self.code}"
        if self.address is not None:
            return f"at {self.address:#x} ({name})"
        if self.pid is not None and self.number == _SIGCHLD:
            return f"of process {self.pid} ({name})"
        return f"from process {self.pid} ({name})" if self.pid is not None else f"({name})"

    def __repr__(self) -> str:
        return hex_repr(self)
