"""A machine or a process that stands still in a core file.

Contents: `CoreInferior`, and where its threads and registers come from. Not here: the structures of
the notes (see `core_notes`), and memory (see `core_memory`).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from rsp.arch.layouts import layout_named
from rsp.arch.modes import CpuMode, infer_mode, linear_pc
from rsp.arch.registers import Registers
from rsp.coredump.core_file import CoreFile
from rsp.coredump.core_memory import CoreMemory
from rsp.coredump.core_notes import CoreNotes
from rsp.errors import LocalProtocolError, StubError
from rsp.inferior.inferior import Inferior
from rsp.session.stub import Stub
from rsp.wire.limits import Limits
from rsp.wire.threads import ThreadId

if TYPE_CHECKING:
    from os import PathLike

    from _typeshed import ReadableBuffer

    from rsp.arch.layout import RegisterLayout
    from rsp.arch.modes import CpuState
    from rsp.coredump.core_notes import CoreThread
    from rsp.symbols.table import SymbolTable

_USER_CODE: Final = {0x33: CpuMode.LONG64, 0x23: CpuMode.COMPAT32, 0x73: CpuMode.PROTECTED32}
"""The code segments of Linux's processes (arch/x86/include/asm/segment.h)."""
_CLOSED: Final = "the core was closed"


class CoreInferior(Inferior):
    """What is in a core file.

    Args:
        path: of the file.
        symbols: of what ran there.

    Attributes:
        core: the file.
        notes: what its notes say.

    Raises:
        BadImage: it is no core, or damaged.
    """

    def __init__(self, path: str | PathLike[str], symbols: SymbolTable | None = None) -> None:
        self.core: CoreFile = CoreFile(path)
        self.notes: CoreNotes = CoreNotes(self.core)
        described = any(each.state is not None for each in self.notes.threads)
        stub = Stub(
            name="core",
            limits=Limits(packet_size=1 << 18, window=64),
            info_registers=described,
            physical_memory=self.notes.is_machine,
        )
        super().__init__(stub, symbols, whole_pages=True)
        self._memory = CoreMemory(self.core, self.notes)
        self._threads = _Threads(self.notes, self._memory)
        self._processor = _Processor(self.core.arch, self.notes, self._threads)
        self.stopped: ThreadId | None = next(iter(self._threads.list()), None)
        self._threads.focus(self.stopped)

    # --- who brings the data ---

    @property
    def memory(self) -> CoreMemory:
        """Reads."""
        return self._memory

    @property
    def processor(self) -> _Processor:
        """The registers of each thread."""
        return self._processor

    @property
    def thread_list(self) -> _Threads:
        """The threads, and which of them is read."""
        return self._threads

    @property
    def limits(self) -> Limits:
        """Those of a fast line."""
        return self.stub.limits

    @property
    def usable(self) -> bool:
        """Whether it is open."""
        return not self.closed

    @property
    def has_auxv(self) -> bool:
        """Whether the core has the auxiliary vector."""
        return self.notes.auxv is not None

    def auxv(self) -> bytes | None:
        """Return the auxiliary vector of the process; None without."""
        return self.notes.auxv

    # --- it stands ---

    @property
    def silence(self) -> str | None:
        """Why nothing can be asked: it was closed."""
        return _CLOSED if self.closed else None

    def runs(self) -> bool:
        """Return False."""
        return False

    def check(self) -> None:
        """Raise LocalProtocolError if it was closed."""
        if self.closed:
            raise LocalProtocolError(f"{_CLOSED}: open it again")

    def look(self) -> None:
        """Raise LocalProtocolError if it was closed."""
        self.check()

    def invalidate(self) -> None:
        """Forget what was cached."""
        self.follow_anew()
        self.pages.invalidate()

    def write_memory(
        self,
        address: int,
        data: ReadableBuffer,
        *,
        physical: bool = False,
    ) -> None:
        """Raise LocalProtocolError: nobody writes to a core."""
        raise LocalProtocolError("a core does not live: its memory cannot be written")


class _Threads:
    """The threads of a core, by the ids that a stub would give them."""

    def __init__(self, notes: CoreNotes, memory: CoreMemory) -> None:
        self._memory = memory
        self._by_id: dict[ThreadId, CoreThread] = {}
        self._names: dict[ThreadId, str] = {}
        for number, each in enumerate(notes.threads, 1):
            if notes.is_machine:
                thread = ThreadId(process=1, thread=number, text=f"p{1:02x}.{number:02x}")
                self._names[thread] = f"CPU#{number - 1}"
            else:
                thread = ThreadId(process=notes.process or each.number, thread=each.number)
                self._names[thread] = notes.name if each.number == notes.process else ""
            self._by_id.setdefault(thread, each)

    def of(self, thread: ThreadId | None) -> CoreThread:
        """Return what the core has of a thread; StubError where it has none."""
        found = self._by_id.get(thread) if thread is not None else None
        if found is None:
            raise StubError(f"the core has no thread {thread}; core.threads lists them", code=None)
        return found

    def focus(self, thread: ThreadId | None) -> None:
        """Let memory be read as a thread sees it."""
        if thread is not None:
            self._memory.thread = self.of(thread)

    def list(self) -> tuple[ThreadId, ...]:
        """Return the ids."""
        return tuple(self._by_id)

    def name(self, thread: ThreadId) -> str:
        """Return the name of the program, of its first thread; which CPU it is, of a machine's."""
        self.of(thread)
        return self._names[thread]

    def known_name(self, thread: ThreadId) -> str:
        """Return the same."""
        return self._names.get(thread, "")


class _Processor:
    """The registers of each thread of a core."""

    generation: int = 0

    def __init__(self, arch: str, notes: CoreNotes, threads: _Threads) -> None:
        self._threads = threads
        self._layout = _layout(arch, notes)
        self._snapshot = cache(self._registers)

    def registers(self, thread: ThreadId | None) -> Registers:
        """Return the snapshot of a thread's registers; StubError where there are none."""
        return self._snapshot(thread)

    def mode(self, thread: ThreadId | None) -> CpuMode:
        """Return the mode; UNKNOWN where nothing tells it for certain."""
        if thread is None and not self._threads.list():
            return CpuMode.UNKNOWN
        found = self._threads.of(thread)
        if found.state is not None:
            return found.state.mode
        mode = infer_mode(found.registers)
        if mode is CpuMode.UNKNOWN:
            mode = _USER_CODE.get(found.registers["cs"], mode)
        return mode

    def state(self, thread: ThreadId | None) -> CpuState | None:
        """Return what QEMU has written of the CPU."""
        return self._threads.of(thread).state if thread is not None else None

    def _registers(self, thread: ThreadId | None) -> Registers:
        if thread is None and not self._threads.list():
            return Registers(self._layout, [None] * len(self._layout.registers))
        found = self._threads.of(thread)
        values = [found.registers.get(each.name) for each in self._layout.registers]
        state = found.state
        if state is None:
            return Registers(self._layout, values)
        pc = linear_pc(
            state.pc,
            state.mode,
            cs=state.segments["cs"].selector,
            cs_base=None if state.mode is CpuMode.LONG64 else state.segments["cs"].base,
        )
        return Registers(self._layout, values, lambda _: pc)


def _layout(arch: str, notes: CoreNotes) -> RegisterLayout:
    """Return gdb's layout of the registers that the core has."""
    if any(each.state is not None for each in notes.threads):
        return layout_named(f"qemu-{arch}")
    known = {name for each in notes.threads for name in each.registers}
    wide = "-avx512" if "k0" in known else "-avx" if "ymm0h" in known else ""
    keys = "-pkeys" if wide and "pkru" in known else ""
    return layout_named(f"gdbserver-{arch}{wide}{keys}")
