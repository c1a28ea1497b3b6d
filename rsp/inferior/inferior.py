"""What stands still: threads, registers, memory and symbols, of a live target or of a core.

Contents: `Inferior`, which the other files of this room and those above it ask, and what it asks of
those that bring the data. Not here: the one that a stub shows (see `live`), the one of a core file
(see `rsp.coredump`), breakpoints, stops and their reasons, and what lets it run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol, SupportsIndex

from rsp import arguments
from rsp.errors import SymbolError
from rsp.inferior.pages import Pages
from rsp.unwind.entry_code import NO_ENTRY_CODE

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from _typeshed import ReadableBuffer

    from rsp.arch.modes import CpuMode, CpuState
    from rsp.arch.registers import Registers
    from rsp.session.stub import Stub
    from rsp.symbols.at_pc.source_position import Position
    from rsp.symbols.table import SymbolTable
    from rsp.unwind.entry_code import EntryCode
    from rsp.unwind.loaded_code import CodeFinder
    from rsp.unwind.resumption import Resumption
    from rsp.wire.limits import Limits
    from rsp.wire.threads import ThreadId

    ThreadUnwinder: TypeAlias = Callable[[Registers], Resumption | None]


class MemorySource(Protocol):
    """Who reads memory, as the thread sees it that was chosen last."""

    fallback: Callable[[int, int], bytes] | None
    """Reads what the CPU does not see; None where nobody can."""

    def read(self, address: int, length: SupportsIndex, *, physical: bool = False) -> bytes:
        """Return memory; the errors of ``Target.read_memory``."""
        ...

    def read_seen(self, address: int, length: int) -> bytes:
        """Return what the CPU itself sees, without the fallback."""
        ...

    def physical(self) -> AbstractContextManager[None]:
        """Let several reads of physical memory share what each costs."""
        ...


class ProcessorSource(Protocol):
    """Who knows the registers of each thread."""

    @property
    def generation(self) -> int:
        """Another number whenever the target has run, for what outlives its stop."""
        ...

    def registers(self, thread: ThreadId | None) -> Registers:
        """Return the snapshot of a thread's registers; StubError where there are none."""
        ...

    def mode(self, thread: ThreadId | None) -> CpuMode:
        """Return the mode of a thread's CPU; UNKNOWN where nothing tells it for certain."""
        ...

    def state(self, thread: ThreadId | None) -> CpuState | None:
        """Return the descriptors as well, None where nobody knows them."""
        ...


class ThreadSource(Protocol):
    """Who knows the threads."""

    def focus(self, thread: ThreadId | None) -> None:
        """Let what is read next be about a thread; StubError where there is none."""
        ...

    def list(self) -> tuple[ThreadId, ...]:
        """Return the ids."""
        ...

    def name(self, thread: ThreadId) -> str:
        """Return what is said of a thread; StubError where there is none."""
        ...

    def known_name(self, thread: ThreadId) -> str:
        """Return the same where it costs no request, else an empty text."""
        ...


class Inferior(ABC):
    """A machine or a process that stands still.

    Args:
        stub: who answers, and what it can take; of a core what it has.
        symbols: of what runs there.
        whole_pages: whether memory is read by whole pages, which costs too much on a serial line.

    Attributes:
        stub: who answers, and what it can take.
        pages: the memory of this stop by whole pages, virtual and physical: what tools read
            structures through.
        stopped: the thread that the last stop is about.
        selected: the thread that was chosen since.
        stepped: whether the last stop is the end of a step.
        absence: why there is nothing, for messages; None while it lives.
        closed: whether it was let go.
        arrival: returns where in the program the last stop is; None without symbols.
        thread_unwinders: asked in turn, by the registers of a thread without a pc, where that goes
            on. None from one that does not know.
        await_program: called when a breakpoint was set by name; where the program is not in place
            yet, it arranges for the breakpoint to be moved as soon as that is. None where it is.
        follow: called once at each stop, before symbols are used at it: finds out where the program
            lies now, and what it has loaded. It only reads. None where it lies where it was linked.
        prepare: called before it is let run: does what has turned out to be due, such as moving
            breakpoints to where the program lies.
        find_code: asked, for a backtrace, for code that no file of the symbols has. None where
            nobody knows of any.
        system: what knows the operating system that runs there, once it is plugged in.
        find_entry_code: returns what knows the entry code of the kernel that runs there, for a
            backtrace.
    """

    def __init__(self, stub: Stub, symbols: SymbolTable | None, *, whole_pages: bool) -> None:
        self.stub: Stub = stub
        self.pages: Pages = Pages(
            lambda address, length: self.memory.read(address, length),
            lambda address, length: self.memory.read(address, length, physical=True),
            whole=whole_pages,
            focus=self.focus,
        )
        self.stopped: ThreadId | None = None
        self.selected: ThreadId | None = None
        self.absence: str | None = None
        self.closed = False
        self.arrival: Callable[[], Position | None] = lambda: None
        self.thread_unwinders: list[ThreadUnwinder] = []
        self.await_program: Callable[[], None] | None = None
        self.follow: Callable[[], None] | None = None
        self.prepare: Callable[[], None] = lambda: None
        self.find_code: CodeFinder | None = None
        self.find_entry_code: Callable[[], EntryCode] = lambda: NO_ENTRY_CODE
        self.system: object = None
        self.stepped = False
        self._symbols = symbols
        self._followed: SymbolError | bool = False  # at this stop, and what came of it

    # --- who brings the data ---

    @property
    @abstractmethod
    def memory(self) -> MemorySource:
        """Who reads memory; `pages` keeps what was read at this stop."""

    @property
    @abstractmethod
    def processor(self) -> ProcessorSource:
        """Who knows the registers of each thread."""

    @property
    @abstractmethod
    def thread_list(self) -> ThreadSource:
        """Who knows the threads."""

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """What the line can take now."""

    @property
    @abstractmethod
    def usable(self) -> bool:
        """Whether questions are answered at all: the connection is there."""

    @property
    @abstractmethod
    def has_auxv(self) -> bool:
        """Whether the auxiliary vector of a process is told."""

    @abstractmethod
    def auxv(self) -> bytes | None:
        """Return the auxiliary vector of a process; None where nobody tells it."""

    @property
    @abstractmethod
    def silence(self) -> str | None:
        """Why nothing can be asked now: it runs, has ended, or was let go; None where it can.

        Unlike `check` it takes nothing in that has come meanwhile.
        """

    @abstractmethod
    def runs(self) -> bool:
        """Return whether it runs now; for what only looks."""

    @abstractmethod
    def check(self) -> None:
        """Take in what has come, and raise LocalProtocolError unless it stands still."""

    @abstractmethod
    def look(self) -> None:
        """Raise LocalProtocolError unless it stands still; for properties, which do nothing."""

    @abstractmethod
    def invalidate(self) -> None:
        """Forget what was cached for this stop."""

    @property
    def generation(self) -> int:
        """Another number whenever it has run, for what outlives its stop."""
        return self.processor.generation

    # --- threads ---

    @property
    def current(self) -> ThreadId | None:
        """The thread that questions are about; None of a stub without any."""
        return self.selected if self.selected is not None else self.stopped

    def select(self, thread: ThreadId) -> None:
        """Make a thread the current one, until it has run again.

        Raises:
            StubError: the stub does not know it.
        """
        self.check()
        self.thread_list.focus(thread)
        if thread != self.selected:
            self.pages.invalidate()  # another CPU may have other page tables
        self.selected = thread

    def threads(self) -> tuple[ThreadId, ...]:
        """Return all threads; of a stub without a list the current one."""
        self.look()
        found = self.thread_list.list()
        return found if found or self.current is None else (self.current,)

    def focus(self) -> None:
        """Let what follows be about the current thread: each CPU has its own page tables."""
        self.check()
        self.thread_list.focus(self.current)

    # --- registers ---

    @property
    def registers(self) -> Registers:
        """A snapshot of the current thread's registers; the errors of `registers_of`."""
        self.look()  # first: a stop that is taken in now may be another thread's
        return self.processor.registers(self.current)

    def registers_of(self, thread: ThreadId | None) -> Registers:
        """Return a snapshot of a thread's registers.

        Raises:
            StubError: the stub gives none.
            LocalProtocolError: it runs.
        """
        self.look()
        return self.processor.registers(thread)

    @property
    def mode(self) -> CpuMode:
        """The mode of the current thread's CPU, UNKNOWN where nothing tells it for certain."""
        self.look()
        return self.processor.mode(self.current)

    @property
    def cpu_state(self) -> CpuState | None:
        """Segment descriptors, GDT and IDT of the current thread's CPU; None but on QEMU."""
        self.look()
        return self.processor.state(self.current)

    # --- memory ---

    def read_memory(self, address: int, length: SupportsIndex, *, physical: bool = False) -> bytes:
        """Read memory as the current thread sees it, or physical memory.

        Raises:
            MemoryFault: a part cannot be read.
            UnsupportedCommand: the stub cannot.
            ArgumentError: the range leaves the 64-bit address space.
        """
        self.focus()
        if arguments.flag(physical, "physical"):
            return self.memory.read(address, length, physical=True)
        return self.pages.read_exactly(address, length)

    @abstractmethod
    def write_memory(self, address: int, data: ReadableBuffer, *, physical: bool = False) -> None:
        """Write memory; the errors of `read_memory`, and UnsupportedCommand of a core."""

    def physical_memory(self) -> AbstractContextManager[None]:
        """Let several reads and writes of physical memory share the switch to it and back."""
        self.check()
        return self.memory.physical()

    # --- symbols ---

    @property
    def symbols(self) -> SymbolTable:
        """The symbols, where the program lies at this stop.

        Raises:
            SymbolError: there are none, or they are those of another program than runs.
        """
        table = self.image_symbols
        if self.follow is not None and not self._followed and self._stands():
            self._followed = True
            try:
                self.follow()
            except SymbolError as error:
                self._followed = error
        if isinstance(self._followed, SymbolError):
            raise self._followed
        return table

    def _stands(self) -> bool:
        return not (self.closed or self.runs() or self.absence is not None)

    def follow_anew(self) -> None:
        """Find out once more, before symbols are used, where the program lies."""
        self._followed = False

    @property
    def image_symbols(self) -> SymbolTable:
        """The symbols as they are, without finding out where the program lies.

        Raises:
            SymbolError: there are none.
        """
        if self._symbols is None:
            raise SymbolError(
                'no symbols: give connect(…, symbols="vmlinux"), or --symbols vmlinux to a command'
            )
        return self._symbols

    @property
    def has_symbols(self) -> bool:
        """Whether there are symbols."""
        return self._symbols is not None
