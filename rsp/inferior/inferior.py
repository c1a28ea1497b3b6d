"""What stands still at a stop: the threads, registers, memory and symbols of a target.

Contents: `Inferior`, which the other files of this room and those above it ask. Not here:
breakpoints, stops and their reasons, and what lets it run.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, SupportsIndex

from rsp import arguments
from rsp.errors import LocalProtocolError, SymbolError
from rsp.inferior.memory import Memory
from rsp.inferior.pages import Pages
from rsp.inferior.processor import Processor
from rsp.inferior.thread_list import ThreadList
from rsp.unwind.entry_code import NO_ENTRY_CODE
from rsp.wire import commands, replies
from rsp.wire.limits import InterruptWay

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import TypeAlias

    from _typeshed import ReadableBuffer

    from rsp.arch.modes import CpuMode, CpuState
    from rsp.arch.registers import Registers
    from rsp.session.handshake import Greeting
    from rsp.session.session import Session
    from rsp.session.stub import Stub
    from rsp.symbols.at_pc.source_position import Position
    from rsp.symbols.table import SymbolTable
    from rsp.unwind.entry_code import EntryCode
    from rsp.unwind.loaded_code import CodeFinder
    from rsp.unwind.resumption import Resumption
    from rsp.wire.threads import ThreadId

    ThreadUnwinder: TypeAlias = Callable[[Registers], Resumption | None]


class Inferior:
    """A machine or a process at a stop, as its stub shows it.

    Args:
        session: the requests.
        greeting: what the stub has said.
        symbols: of what runs there.

    Attributes:
        stub: who answers, and what it can take.
        session: the requests, for packets that nothing here has a method for.
        thread_list: the threads, and which of them requests are about.
        processor: the registers of each thread.
        memory: reads and writes; `pages` keeps what was read at this stop.
        pages: the memory of this stop by whole pages, virtual and physical: what tools read
            structures through.
        stopped: the thread that the last stop is about.
        selected: the thread that was chosen since.
        stepped: whether the last stop is the end of a step.
        absence: why there is nothing, for messages; None while it lives.
        closed: whether it was let go.
        runs: returns whether it runs now, for what only looks: ``Target.running``.
        take_in: takes in what has come meanwhile, does what that asks for, and returns whether it
            runs then.
        arrival: returns where in the program the last stop is; None without symbols.
        thread_unwinders: asked in turn, by the registers of a thread that the stub gives no pc of,
            where that goes on. None from one that does not know.
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

    def __init__(
        self, session: Session, greeting: Greeting, symbols: SymbolTable | None = None
    ) -> None:
        self.session = session
        self.stub: Stub = greeting.stub
        self.thread_list: ThreadList = ThreadList(session, self.stub)
        described = greeting.description.layout() if greeting.description is not None else None
        self.processor: Processor = Processor(session, self.thread_list, self.stub, described)
        self.memory: Memory = Memory(session, self.stub)
        self.pages: Pages = Pages(
            self.memory.read,
            partial(self.memory.read, physical=True),
            whole=session.connection.limits.reliable,
            focus=self.focus,
        )
        self.stopped: ThreadId | None = None
        self.selected: ThreadId | None = None
        self.absence: str | None = None
        self.closed = False
        self.runs: Callable[[], bool] = lambda: session.running
        self.take_in: Callable[[], bool] = self.runs
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

    # --- whether it can be asked ---

    @property
    def silence(self) -> str | None:
        """Why nothing can be asked now: it runs, has ended, or was let go; None where it can.

        Unlike `check` it takes nothing in that has come meanwhile.
        """
        if self.closed:
            return "the target was detached from"
        if self.session.running:
            return "the target runs"
        if self.absence is not None:
            return self.absence
        return None if self.session.usable else "the connection is lost"

    def check(self) -> None:
        """Take in what has come, and raise LocalProtocolError unless it stands still."""
        self.check_open()
        if self.take_in():
            raise LocalProtocolError(f"the target runs: {self.ways_to_stop} first")
        self._check_lives()

    def look(self) -> None:
        """Raise LocalProtocolError unless it stands still; for properties, which do nothing."""
        self.check_open()
        if self.runs():
            raise LocalProtocolError(f"the target runs: {self.ways_to_stop} first")
        self._check_lives()

    def _check_lives(self) -> None:
        if self.absence is not None:
            raise LocalProtocolError(f"{self.absence}, and connect anew")

    @property
    def ways_to_stop(self) -> str:
        """What a user can do to have it stand still, for messages."""
        listens = self.session.connection.limits.interrupt is not InterruptWay.NONE
        return "interrupt() or wait()" if listens else "wait()"

    def check_open(self) -> None:
        """Raise LocalProtocolError if it was let go."""
        if self.closed:
            raise LocalProtocolError("the target was detached from: connect again")

    @property
    def generation(self) -> int:
        """Another number whenever it has run, for what outlives its stop."""
        return self.processor.generation

    def invalidate(self) -> None:
        """Forget what was cached for this stop."""
        self.follow_anew()
        self.processor.invalidate()
        self.pages.invalidate()

    def forget(self) -> None:
        """Forget what was cached, and what was selected: it runs."""
        self.selected = None
        self._followed = False
        self.processor.resumed()
        self.pages.invalidate()

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

    def select_first(self) -> None:
        """Make the thread current that the stub means, as its stop has named none."""
        reply = self.session.ask(commands.QueryCurrentThread())
        if isinstance(reply, replies.CurrentThread):
            self.thread_list.stopped_in(reply.thread)  # Hg0 was the last word on it
            self.selected = reply.thread
        else:
            self.selected = next(iter(self.thread_list.list()), None)

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

    def write_register(self, thread: ThreadId | None, name: str, value: int) -> None:
        """Write a register of a thread, and read it back."""
        self.check()
        self.processor.write(thread, name, value)
        self.pages.invalidate()  # it may have been cr3

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

    def write_memory(self, address: int, data: ReadableBuffer, *, physical: bool = False) -> None:
        """Write memory; the errors of `read_memory`."""
        self.focus()
        self.pages.invalidate()
        self.memory.write(address, data, physical=physical)

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
        stands = not (self.closed or self.runs() or self.absence is not None)
        if self.follow is not None and stands and not self._followed:
            self._followed = True
            try:
                self.follow()
            except SymbolError as error:
                self._followed = error
        if isinstance(self._followed, SymbolError):
            raise self._followed
        return table

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
