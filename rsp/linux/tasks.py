"""The tasks of a running kernel: every thread, of processes and of the kernel itself.

Contents: the walk along the kernel's lists, and what ``ps`` shows of a task. Which members a
``task_struct`` has is asked of the kernel's types. Where a task's backtrace begins is the business
of ``sleeping``.

Sources: Linux include/linux/sched.h, fs/proc/array.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.errors import RspError, SymbolError
from rsp.inferior.evaluation import evaluate_at
from rsp.inferior.space import space_of
from rsp.linux.records import Record, place_of
from rsp.values.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.frames.backtrace import Backtrace
    from rsp.inferior.inferior import Inferior
    from rsp.symbols.types.types import Type
    from rsp.values.value import Space

MOST: Final = 1 << 22
"""So many tasks are believed: the largest pid_max (include/linux/threads.h)."""

# What the kernel's own task_state_to_char makes of the bits, since 4.14; they are no members and no
# enumeration, and so have no names in the types.
_STATES: Final = "RSDTtXZPI"
_REPORTED: Final = 0x7F
_IDLE: Final = 0x402
_RTLOCK_WAIT: Final = 0x1000
_KERNEL_THREAD: Final = 0x0020_0000

_MEMBERS: Final = (
    *("thread_info.cpu", "cpu", "__state", "state", "flags", "on_cpu", "stack"),
    *("tasks.next", "exit_state", "pid", "tgid", "real_parent", "group_leader", "comm"),
    *("thread_node.next", "thread_node.prev", "thread_group.next"),
)
# Bytes between two members over which one read of both costs less than two: pages are read whole;
# over a serial line it is what goes with a packet.
_GAP: Final = 4096
_SERIAL_GAP: Final = 32


class _Layout:
    """Where the members of a kernel's ``task_struct`` are, and which of them are read at once."""

    def __init__(self, inferior: Inferior) -> None:
        symbols = inferior.symbols
        self.type: Type = symbols.type("struct task_struct")
        fast = inferior.limits.reliable
        parts = Record(self.type, *_MEMBERS).parts(_GAP if fast else _SERIAL_GAP)
        self.part_of: dict[str, Record] = {path: part for part in parts for path in part.places}
        self.tasks: int = place_of(self.type, "tasks").offset
        self.by_node: bool = "thread_node.next" in self.part_of  # from 3.14
        self.node: int = place_of(
            self.type, "thread_node" if self.by_node else "thread_group"
        ).offset
        self.space: Space = space_of(inferior, symbols)
        self.cpu: str | None = next(
            (path for path in ("thread_info.cpu", "cpu") if path in self.part_of), None
        )
        if self.cpu is None:  # before 4.9: at the bottom of the stack, which ``stack`` points to
            self.info: Record = Record(symbols.type("struct thread_info"), "cpu")


class Task:
    """A thread, of a process or of the kernel, as it is at this stop.

    Args:
        inferior: whose.
        value: its ``struct task_struct``.
    """

    def __init__(self, inferior: Inferior, value: Value, layout: _Layout | None = None) -> None:
        self._inferior = inferior
        self._layout = layout or _Layout(inferior)
        self.address: int = value.address_ or 0
        """Of its ``struct task_struct``."""
        self._data: dict[int, bytes] = {}

    def __repr__(self) -> str:
        what = self._inferior.silence  # of a target that runs nothing is asked
        try:
            if what is None:
                return f"<Task {self.pid} {self.comm!r} at {self.address:#x}>"
        except RspError as error:
            what = str(error)
        return f"<Task at {self.address:#x}: {what}>"

    @property
    def value(self) -> Value:
        """Its ``struct task_struct``: ``task.value["mm"]``."""
        return Value(self._layout.space, self._layout.type, address=self.address)

    @property
    def pid(self) -> int:
        """The thread's number; 0 for the idle tasks."""
        return self.number("pid")

    @property
    def tgid(self) -> int:
        """The number of the process, that of its first thread."""
        return self.number("tgid")

    @property
    def comm(self) -> str:
        """``task->comm``: 15 bytes of its name at most."""
        part = self._layout.part_of["comm"]
        return part.text("comm", self._read(part)).decode("utf-8", "backslashreplace")

    @property
    def state(self) -> str:
        """The letter that ``ps`` has for it.

        ``R`` running or ready, ``S`` sleeping, ``D`` in uninterruptible sleep, ``T`` stopped, ``t``
        traced, ``X`` and ``Z`` ended, ``P`` parked, ``I`` idle.
        """
        state = self.number("__state" if "__state" in self._layout.part_of else "state")
        if state & _IDLE == _IDLE:
            return "I"
        if state & _RTLOCK_WAIT:
            return "D"
        return _STATES[((state | self.number("exit_state")) & _REPORTED).bit_length()]

    @property
    def cpu(self) -> int:
        """The CPU that it runs on, or ran on last."""
        if self._layout.cpu is not None:
            return self.number(self._layout.cpu)
        info = self._layout.info
        return info.number("cpu", info.read(self._inferior, self.number("stack")))

    @property
    def is_running(self) -> bool:
        """Whether a CPU executes it now."""
        return bool(self.number("on_cpu"))

    @property
    def is_kernel_thread(self) -> bool:
        """Whether it belongs to the kernel, and has no memory of its own."""
        return bool(self.number("flags") & _KERNEL_THREAD)

    @property
    def parent(self) -> Task | None:
        """Who waits for it; None for the first task."""
        address = self.number("real_parent")
        return self.at(address) if address not in (0, self.address) else None

    def backtrace(self) -> Backtrace:
        """Return who called whom in it, whether it runs or sleeps; see `backtrace_of_task`."""
        from rsp.linux.sleeping import backtrace_of_task

        cpu = self.cpu if self.is_running else None
        return backtrace_of_task(self._inferior, self.value, cpu=cpu)

    def at(self, address: int) -> Task:
        """Return the task whose ``task_struct`` is at an address."""
        value = Value(self._layout.space, self._layout.type, address=address)
        return Task(self._inferior, value, self._layout)

    def threads(self) -> Iterator[Task]:
        """Yield the threads of its process, itself the first."""
        yield self
        layout = self._layout
        # A list with a head, which a lone thread alone is in; before 3.14 a ring without one.
        if layout.by_node and self.number("thread_node.next") == self.number("thread_node.prev"):
            return
        head: Value | None = None
        name = "thread_group.next"
        if layout.by_node:
            name = "thread_node.next"
            head = self.value["signal"]["thread_head"]
        seen = {self.address}
        task = self
        while True:
            node = task.number(name)
            if head is not None and node == head.address_:
                node = int(head["next"])
            address = node - layout.node
            if address in seen or len(seen) > MOST:
                return
            seen.add(address)
            task = self.at(address)
            yield task

    def number(self, member: str) -> int:
        """Return a member's number, from what is read at once of the ``task_struct``."""
        part = self._layout.part_of[member]
        return part.number(member, self._read(part))

    def _read(self, part: Record) -> bytes:
        """Return the bytes of a part; they are as at the stop, however long this lives."""
        data = self._data.get(part.begin)
        if data is None:
            data = self._data[part.begin] = part.read(self._inferior, self.address)
        return data


def list_tasks(inferior: Inferior) -> tuple[Task, ...]:
    """Return all threads, in the order in which the kernel has them: by their start.

    The idle tasks, which have no number of their own, are left out; `Kernel.current` shows one
    where a CPU idles.

    Raises:
        MemoryFault: a list cannot be read.
        SymbolError: a list makes no sense.
    """
    layout = _Layout(inferior)
    first = Task(inferior, evaluate_at(inferior, "init_task", names={}), layout)
    found: list[Task] = []
    seen = {first.address}
    task = first
    while True:
        address = task.number("tasks.next") - layout.tasks
        if address == first.address:
            return tuple(found)
        if address in seen or len(found) >= MOST:
            raise SymbolError(
                f"the list of tasks makes no sense at {address:#x}: it is not set up yet, or being "
                "changed"
            )
        seen.add(address)
        task = first.at(address)
        found += task.threads()
