"""A core file as users hold it.

Contents: `Core`, and opening one. Not here: what it has in common with a live target (see
`debuggee`), and the file (see `rsp.coredump`).
"""

from __future__ import annotations

import logging
from functools import cache, partial
from typing import TYPE_CHECKING, Final, NoReturn

from rsp.arch.siginfo import SigInfo
from rsp.coredump.core_inferior import CoreInferior
from rsp.errors import LocalProtocolError
from rsp.remote.debuggee import Debuggee
from rsp.run.stop import Stop, StopReason
from rsp.symbols.at_pc.source_position import Position
from rsp.wire.signals import from_linux

if TYPE_CHECKING:
    from os import PathLike
    from types import TracebackType
    from typing import Self, SupportsIndex

    from rsp.symbols.table import SymbolTable
    from rsp.wire.threads import ThreadId

logger: Final = logging.getLogger("rsp.remote")

_DEAD: Final = "a core does not live: nothing of it can be written or executed"


class Core(Debuggee):
    """A process or a machine in a core file; made by ``rsp.open_core``.

    It answers what a stopped `Target` answers: threads, registers, memory, values, backtraces, and
    of a kernel ``core.kernel`` with its tasks, modules and log.

    Args:
        path: of the file.
        symbols: of what ran there.
    """

    def __init__(self, path: str | PathLike[str], symbols: SymbolTable | None = None) -> None:
        self._inferior = CoreInferior(path, symbols)
        if self._inferior.core.truncated:
            logger.warning("%s ends before its memory does: some is missing", self.path)
        self._inferior.arrival = cache(self._arrival)

    def __repr__(self) -> str:
        return f"<Core {self.path}, {self.silence or self.stop.summary}>"

    @property
    def inferior(self) -> CoreInferior:
        """What the file has; what other parts of the library read from."""
        return self._inferior

    @property
    def path(self) -> str:
        """Where the file is."""
        return self._inferior.core.path

    @property
    def points(self) -> None:
        """None: nothing runs into breakpoints."""
        return

    @property
    def vmcoreinfo(self) -> dict[str, str]:
        """What a kernel has written down of itself for those who read its cores, by its keys.

        ``OSRELEASE``, ``KERNELOFFSET``, ``SYMBOL(swapper_pg_dir)`` … (Documentation/admin-guide/
        kdump/vmcoreinfo.rst); empty of a process, and where nobody has kept it.
        """
        return dict(self._inferior.notes.vmcoreinfo)

    @property
    def stop(self) -> Stop:
        """Why it stood still when the core was written: the signal that ended a process."""
        thread = self.thread_of(self._inferior.stopped)
        first = next(iter(self._inferior.notes.threads), None)
        signal = from_linux(first.signal) if first is not None else 0
        return Stop(
            reason=StopReason.SIGNAL if signal else StopReason.ATTACHED,
            signal=signal,
            thread=thread,
            _find=self._inferior.arrival,
            _fetch=partial(_siginfo, self._inferior),
        )

    def close(self) -> None:
        """Close the file; nothing can be asked any more."""
        self._inferior.closed = True
        self._inferior.core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        inferior = getattr(self, "_inferior", None)  # it may not have opened
        if inferior is not None:
            inferior.core.close()

    # --- what only a live one can do ---

    def write_register_of(
        self,
        thread: ThreadId | None,
        name: str,
        value: SupportsIndex,
    ) -> NoReturn:
        """Raise LocalProtocolError."""
        raise LocalProtocolError(_DEAD)

    def step_thread(
        self,
        thread: ThreadId | None,
        *,
        timeout: float | None = None,
    ) -> NoReturn:
        """Raise LocalProtocolError."""
        raise LocalProtocolError(_DEAD)

    # --- small parts ---

    def _arrival(self) -> Position | None:
        inferior = self._inferior
        if not inferior.has_symbols or inferior.stopped is None:
            return None
        return Position(inferior.symbols, inferior.registers_of(inferior.stopped).pc, hidden=0)


def _siginfo(inferior: CoreInferior) -> SigInfo | None:
    first = next(iter(inferior.notes.threads), None)
    if first is None or first.siginfo is None:
        return None
    return SigInfo.parse(first.siginfo, inferior.core.word_size)
