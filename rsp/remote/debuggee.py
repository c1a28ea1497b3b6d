"""What can be asked of a target that stands still, be it alive or a core.

Contents: threads, registers, memory, values, symbols and backtraces, each handed to the part of
`rsp.inferior` that answers it. Not here: what needs a live one (see `target`), and what is said of
a core alone (see `core`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, SupportsIndex

from rsp import arguments
from rsp.errors import ArgumentError, RemoteProtocolError
from rsp.inferior.locations import address_of, locate
from rsp.inferior.memory_stream import MemoryStream
from rsp.inferior.pages import MOST_AT_ONCE
from rsp.run.stop import Thread
from rsp.values.strings import read_string
from rsp.wire.threads import ThreadId

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rsp.arch.modes import CpuMode, CpuState
    from rsp.arch.paging import Translation
    from rsp.arch.registers import Registers
    from rsp.frames.backtrace import Backtrace
    from rsp.inferior.disassembly import Instruction
    from rsp.inferior.inferior import Inferior
    from rsp.inferior.pages import Pages
    from rsp.linux.kernel import Kernel
    from rsp.run.breakpoints import Breakpoints
    from rsp.run.stop import Stop
    from rsp.session.stub import Stub
    from rsp.symbols.table import SymbolTable
    from rsp.values.value import Value

MOST_FRAMES: Final = 1 << 24
"""No stack of a thread has room for more."""

_ID_EXAMPLES: Final = "1, p01.02, fffffffe (rsp info lists them)"


@dataclass(frozen=True, slots=True)
class Architecture:
    """The architecture of the register layout in use.

    Attributes:
        name: ``i386`` or ``x86-64``. QEMU from 2.9 says x86-64 in every mode of an x86-64 CPU;
            the mode is ``Target.mode``.
    """

    name: str


class Debuggee(ABC):
    """A machine or a process that is debugged: a Target, which lives, or a Core."""

    @property
    @abstractmethod
    def inferior(self) -> Inferior:
        """What stands still; what other parts of the library read from."""

    @property
    @abstractmethod
    def points(self) -> Breakpoints | None:
        """The breakpoints and watchpoints; None of what does not run any more."""

    @property
    @abstractmethod
    def stop(self) -> Stop:
        """The last stop."""

    @abstractmethod
    def write_register_of(self, thread: ThreadId | None, name: str, value: SupportsIndex) -> None:
        """Write a register of a thread."""

    @abstractmethod
    def step_thread(self, thread: ThreadId | None, *, timeout: float | None = None) -> Stop:
        """Execute one instruction of a thread."""

    # --- what it is ---

    @property
    def stub(self) -> Stub:
        """Who answers, and what it can take."""
        return self.inferior.stub

    @property
    def pages(self) -> Pages:
        """The memory of this stop by whole pages: what tools read structures through."""
        return self.inferior.pages

    @property
    def kernel(self) -> Kernel:
        """The Linux kernel that runs there: its modules, tasks, log and per-CPU data.

        Raises:
            SymbolError: there are no symbols, or they are not those of a kernel.
        """
        from rsp.linux.kernel import Kernel

        return Kernel(self)

    @property
    def arch(self) -> Architecture:
        """The architecture of the register layout in use; the errors of ``registers``."""
        return Architecture(self.registers.layout.arch)

    @property
    def mode(self) -> CpuMode:
        """The mode of the current thread's CPU, UNKNOWN where nothing tells it for certain.

        QEMU tells it exactly, through its monitor; elsewhere it follows from cr0, efer and eflags
        (Intel SDM volume 3A, section 2.2) as far as the stub gives them.
        """
        return self.inferior.mode

    @property
    def cpu_state(self) -> CpuState | None:
        """Segment descriptors, GDT and IDT of the current thread's CPU; None but on QEMU."""
        return self.inferior.cpu_state

    @property
    def silence(self) -> str | None:
        """Why nothing can be asked now: it runs, has ended, or was let go; None where it can.

        Unlike ``running`` it takes nothing in that has come meanwhile.
        """
        return self.inferior.silence

    @property
    def symbols(self) -> SymbolTable:
        """The symbols of the image given to ``connect``, where the program lies at this stop.

        Raises:
            SymbolError: none was given, or they are those of another program than runs.
        """
        return self.inferior.symbols

    @property
    def image_symbols(self) -> SymbolTable:
        """The symbols as they are, without finding out where the program lies.

        Raises:
            SymbolError: none was given.
        """
        return self.inferior.image_symbols

    @property
    def has_symbols(self) -> bool:
        """Whether symbols were given to ``connect``."""
        return self.inferior.has_symbols

    # --- threads ---

    @property
    def threads(self) -> tuple[Thread, ...]:
        """The threads; of a machine, its CPUs."""
        return tuple(Thread(self, thread) for thread in self.inferior.threads())

    @property
    def thread(self) -> Thread | None:
        """The current thread: the one that stopped, or was selected since; None without any."""
        return self.thread_of(self.inferior.current)

    def select(self, thread: Thread | ThreadId | str) -> Thread:
        """Make a thread the current one, until the target has run again.

        Args:
            thread: a Thread, or an id as the stub spells it.

        Raises:
            StubError: the stub does not know it.
            ArgumentError: it is no thread id, or one of another target.

        >>> target.select("p01.01")
        Thread(p01.01)
        """
        thread_id = self._thread_id(thread)
        self.inferior.select(thread_id)
        return Thread(self, thread_id)

    def thread_of(self, thread: ThreadId | None) -> Thread | None:
        """Return the Thread of an id.

        >>> target.thread_of(target.thread.thread_id) == target.thread
        True
        """
        return None if thread is None else Thread(self, self._thread_id(thread))

    def thread_name(self, thread: ThreadId) -> str:
        """Return what the stub says of a thread; empty where it says nothing.

        >>> target.thread_name(target.thread.thread_id)
        'CPU#0 [running]'
        """
        self.inferior.check()
        return self.inferior.thread_list.name(self._thread_id(thread))

    # --- registers ---

    @property
    def registers(self) -> Registers:
        """A snapshot of the current thread's registers.

        Raises:
            StubError: the stub gives none.
            LocalProtocolError: the target runs.
        """
        return self.inferior.registers

    def registers_of(self, thread: ThreadId | None) -> Registers:
        """Return a snapshot of a thread's registers.

        >>> hex(target.registers_of(target.thread.thread_id)["rip"])
        '0x7d12'
        """
        return self.inferior.registers_of(self._id_or_none(thread))

    # --- memory ---

    def read_memory(
        self, address: str | SupportsIndex, length: SupportsIndex, *, physical: bool = False
    ) -> bytes:
        """Read memory.

        Args:
            address: linear, or physical; with symbols also a name (``init_task``) or a distance
                from one (``init_task+0x10``). A per-CPU variable is the current CPU's. Of a Value,
                what a pointer or a number has in it, and where an array or a structure is.
            length: in bytes, at most 4 GiB at once.
            physical: whether the address is physical (QEMU from 4.2). QEMU answers physical reads
                of nothing, too: they never fail there.

        Raises:
            MemoryFault: a part cannot be read; ``address`` is the first bad byte's, ``partial``
                what is before it.
            UnsupportedCommand: the stub cannot.
            SymbolNotFound, SymbolError: there is no such name, or there are no symbols.
            ArgumentError: the address, or the length, is none, or leaves the 64-bit address space.

        >>> target.read_memory("greeting", 10)
        b'16, 32, 64'
        """
        at = address_of(address, self.inferior)
        return self.inferior.read_memory(at, length, physical=physical)

    def physical_memory(self) -> AbstractContextManager[None]:
        """Let several reads and writes of physical memory share the switch to it and back.

        Each alone costs a stub three requests more. Only ``physical=True`` is allowed meanwhile.

        Raises:
            UnsupportedCommand: the stub cannot reach physical memory.

        >>> with target.physical_memory():
        ...     target.read_memory(0x7C00, 2, physical=True).hex()
        ...     target.read_memory(0x7DFE, 2, physical=True).hex()
        ...
        'ea05'
        '55aa'
        """
        return self.inferior.physical_memory()

    def read_u8(self, address: str | SupportsIndex) -> int:
        """Read an unsigned byte; the errors of ``read_memory``.

        >>> chr(target.read_u8("greeting"))
        '1'
        """
        return self._read_unsigned(address, 1)

    def read_u16(self, address: str | SupportsIndex) -> int:
        """Read a 16-bit little-endian unsigned integer; the errors of ``read_memory``.

        >>> hex(target.read_u16(0x7DFE))
        '0xaa55'
        """
        return self._read_unsigned(address, 2)

    def read_u32(self, address: str | SupportsIndex) -> int:
        """Read a 32-bit little-endian unsigned integer; the errors of ``read_memory``.

        >>> target.read_u32("counter")
        0
        """
        return self._read_unsigned(address, 4)

    def read_u64(self, address: str | SupportsIndex) -> int:
        """Read a 64-bit little-endian unsigned integer; the errors of ``read_memory``.

        >>> hex(target.read_u64("gdt+24"))
        '0xaf9a000000ffff'
        """
        return self._read_unsigned(address, 8)

    def read_c_string(self, address: str | SupportsIndex, max_size: SupportsIndex = 4096) -> bytes:
        """Read bytes up to a NUL, which is not returned, or ``max_size`` of them.

        Raises:
            MemoryFault: memory ends before the string does; ``partial`` has what there is.
            SymbolNotFound, SymbolError, ArgumentError: as ``read_memory``.

        >>> target.read_c_string("greeting")
        b'16, 32, 64: here we are'
        """
        most = arguments.integer(max_size, "max_size", "a number of bytes", below=MOST_AT_ONCE + 1)
        return read_string(self.inferior.read_memory, address_of(address, self.inferior), most)

    def virtual_to_physical(
        self, address: str | SupportsIndex, root: SupportsIndex | None = None
    ) -> Translation:
        """Follow the page tables of the current thread's CPU to a physical address.

        Many addresses, and memory of another address space, are for `rsp.inferior.page_tables`.

        Args:
            address: linear, or a name, as ``read_memory`` takes it.
            root: the physical address of the first table, or a value of CR3; None for the CPU's
                own. Linux with page-table isolation sets bit 12 of CR3 in user mode: without it,
                that is the kernel's own table.

        Returns:
            ``physical``, ``page_size`` and the rights of the page.

        Raises:
            MemoryFault: it is not mapped; the message says in which table.
            UnsupportedCommand: the stub gives no control registers, or no physical memory.

        >>> page = target.virtual_to_physical("greeting")
        >>> hex(page.physical), hex(page.page_size), page.writable
        ('0x7d1b', '0x200000', True)
        """
        from rsp.inferior.page_tables import PageTables

        at = address_of(address, self.inferior)
        table = None if root is None else arguments.integer(root, "root", "a physical address")
        return PageTables(self.inferior, table).translate(at)

    @property
    def memory(self) -> MemoryStream:
        """The address space as a binary file, for ``construct.parse_stream`` and its like."""
        return MemoryStream(self.inferior)

    def value(
        self, expression: str, *, cpu: int | None = None, names: Mapping[str, Value] | None = None
    ) -> Value:
        """Return what an expression of C comes to; memory is read when it is needed.

        Args:
            expression: ``init_task.comm``, ``((struct task_struct *)0xffff…)->pid``, ``*ptr``,
                ``runqueues[0]``, which of a per-CPU variable is CPU 0's; ``'file.c'::name`` and
                ``function::name`` for what others have for themselves.
            cpu: whose per-CPU data is meant; without, the current thread's CPU if it can be told.
            names: what is found before the symbols; without, what the code that the current thread
                is in knows: the arguments and variables of its innermost frame, and its file.

        Raises:
            SymbolNotFound: a name stands for nothing.
            SymbolError: it is no expression, or C has no such operation.
            MemoryFault: a pointer in it cannot be read.

        >>> target.value("*(unsigned short *)0x7dfe == 0xaa55")
        (int)1
        """
        from rsp.inferior.evaluation import evaluate_at

        number = None if cpu is None else arguments.integer(cpu, "cpu", "the number of a CPU")
        if not isinstance(names, Mapping | None):
            raise arguments.refused("names", names, "values by name")
        self.inferior.check()
        return evaluate_at(self.inferior, expression, cpu=number, names=names)

    # --- the stack and the code ---

    def backtrace(
        self, *, limit: SupportsIndex | None = None, outermost: SupportsIndex | None = None
    ) -> Backtrace:
        """Return who called whom in the current thread, the innermost frame first.

        It ends where it can go no further, and says why; what cannot be read is no error.

        Args:
            limit: about how many frames are gone through; 4096, or a million for the outermost.
            outermost: how many are returned, those at the outer end, as of gdb's ``bt -3``; all
                without it.

        Raises:
            StubError: the stub gives no registers.
            LocalProtocolError: the target runs.

        >>> print(target.backtrace())
        #0  tick () at rsp/testing/boot/boot.S:178
        #1  0x0000000000007d10 in long_start () at rsp/testing/boot/boot.S:171
        """
        self.inferior.check()
        return self._backtrace(self.inferior.current, limit, outermost)

    def backtrace_of(
        self,
        thread: ThreadId | None,
        *,
        limit: SupportsIndex | None = None,
        outermost: SupportsIndex | None = None,
    ) -> Backtrace:
        """Return the backtrace of a thread; see ``backtrace``.

        >>> len(target.backtrace_of(target.thread.thread_id))
        2
        """
        self.inferior.check()
        return self._backtrace(self._id_or_none(thread), limit, outermost)

    def disassemble(
        self, where: str | SupportsIndex, count: SupportsIndex = 16
    ) -> tuple[Instruction, ...]:
        """Return machine code as text, in the mode of the current thread's CPU.

        Args:
            where: an address, or what ``breakpoint`` takes; a function from its very begin.
            count: how many instructions; fewer where memory ends.

        Raises:
            MemoryFault: nothing can be read there.
            UnsupportedCommand: capstone is not installed (the extra ``disasm``).
            SymbolNotFound: no such name.

        >>> for instruction in target.disassemble("tick", 2):
        ...     print(instruction)
        ...
        0x7d12 <tick>:    incq 0x4000
        0x7d1a <tick+8>:  retq
        """
        from rsp.inferior.disassembly import disassemble

        self.inferior.check()
        if isinstance(where, str) and self.has_symbols and where.strip() in self.symbols:
            return disassemble(self.inferior, address_of(where, self.inferior), count)
        return disassemble(self.inferior, locate(where, self.inferior).addresses[0], count)

    def current_line(self) -> str:
        r"""Return what the current thread is about to execute, as gdb shows it at a stop.

        That is the source line, ``414\t{``, where its file is found (``symbols.source_map`` says
        where sources are), and else the instruction, ``=> 0x7d0b <long_start+68>:\tcallq 0x7d12``;
        its address alone where capstone is not installed or memory cannot be read.

        Raises:
            StubError: the stub gives no registers.
            LocalProtocolError: the target runs.

        >>> target.current_line()
        '=> 0x7d12 <tick>:\tincq 0x4000'
        """
        from rsp.inferior.position import current_line

        return current_line(self.inferior, self.inferior.current)

    # --- small parts ---

    def invalidate(self) -> None:
        """Forget what was cached for this stop.

        >>> target.invalidate()  # another client has written to its memory
        """
        self.inferior.invalidate()

    def _backtrace(
        self,
        thread: ThreadId | None,
        limit: SupportsIndex | None,
        outermost: SupportsIndex | None,
    ) -> Backtrace:
        from rsp.inferior.backtraces import backtrace

        return backtrace(
            self.inferior,
            thread,
            limit=_frames(limit, "limit"),
            outermost=_frames(outermost, "outermost"),
        )

    def _id_or_none(self, given: object) -> ThreadId | None:
        return None if given is None else self._thread_id(given)

    def _thread_id(self, given: object) -> ThreadId:
        if isinstance(given, ThreadId):
            return given
        if isinstance(given, Thread) and given.target is self:
            return given.thread_id
        if isinstance(given, str):
            with suppress(RemoteProtocolError):
                return ThreadId.parse(given)
        raise ArgumentError(
            f"{arguments.shown(given)} is no thread id of this target; they are spelled as the "
            f"stub does: {_ID_EXAMPLES}"
        )

    def _read_unsigned(self, address: str | SupportsIndex, size: int) -> int:
        return int.from_bytes(self.read_memory(address, size), "little")


def _frames(given: SupportsIndex | None, name: str) -> int | None:
    if given is None:
        return None
    return arguments.integer(given, name, "a number of frames", lowest=1, below=MOST_FRAMES + 1)
