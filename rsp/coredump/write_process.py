"""What the core of a process is made of: its threads, its memory map, what the kernel tells of it.

Contents: the questions, in gdb's order for ``gcore``. Not here: the bytes of the notes
(``write_notes``) and of the file (``write_elf``).
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from rsp.coredump.guessed_map import AT_EXECFN, auxiliary, guessed_map
from rsp.coredump.memory_map import Region, memory_map
from rsp.coredump.note_layout import CORE, NT_AUXV, NT_SIGINFO
from rsp.coredump.write_elf import EXECUTE, MOST_LOADS, READ, WRITE, Core, Load, Run, note
from rsp.coredump.write_notes import file_note, float_notes, process_note, prstatus
from rsp.errors import MemoryFault, StubError
from rsp.session.remote_file import read_file
from rsp.values.strings import read_string

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.inferior.live import LiveInferior
    from rsp.wire.threads import ThreadId

logger: Final = logging.getLogger("rsp.coredump")

_SIGINFO: Final = 128
_MOST_STATUS: Final = 1 << 14
_MOST_PATH: Final = 4096


def process_core(inferior: LiveInferior, signal: int) -> Core:
    """Return the core of a process at its stop.

    Args:
        inferior: the process.
        signal: Linux's number of the signal that it has stopped for.

    Raises:
        StubError: the stub gives no registers.
    """
    stopped = inferior.stopped if inferior.stopped is not None else inferior.current
    others = [thread for thread in inferior.threads() if thread != stopped]
    threads: list[ThreadId | None] = [stopped, *others]
    first = inferior.registers_of(stopped)
    word = 8 if first.layout.arch == "x86-64" else 4
    numbers = _numbers(stopped)
    process, regions = memory_map(inferior, numbers, first.pc)
    vector = inferior.auxv()
    status = _Status(inferior, process, auxiliary(vector, word).get(AT_EXECFN, 0))
    if not regions:
        every = [inferior.registers_of(thread) for thread in threads]
        regions = guessed_map(inferior, vector, every, word)
        logger.warning(
            "the stub does not tell the memory map of this process: the core has the program, its "
            "libraries, the stacks and what lies behind the program; other memory is left out "
            "(gdbserver tells the map, and qemu-user from 8.1)"
        )
    regions = regions[: MOST_LOADS - 1]
    leader = process if process is not None else numbers[0]
    notes = [
        process_note(
            word,
            ids=[leader, *status.parents],
            state=status.state,
            flags=status.flags,
            user=status.user,
            group=status.group,
            name=status.name,
            arguments=status.arguments,
        )
    ]
    for thread in threads:
        registers = inferior.registers_of(thread)
        number = _numbers(thread)[-1] if thread is not None else leader
        info = _siginfo(inferior, thread)
        own = int.from_bytes(info[:4], "little") if info else signal * (thread == stopped)
        notes.append(prstatus(registers, word, thread=number, parent=status.parents, signal=own))
        notes.append(float_notes(registers, word))
        if info:
            notes.append(note(CORE, NT_SIGINFO, info))
    inferior.thread_list.focus(inferior.current)
    if vector:
        notes.append(note(CORE, NT_AUXV, vector))
    if files := [region for region in regions if region.is_file]:
        mapped = [(each.begin, each.end, each.offset, each.path) for each in files]
        notes.append(file_note(word, mapped))
    loads = _loads(inferior, regions)
    return Core(
        word_size=word,
        notes=b"".join(notes),
        runs=[load.run for load in loads if load.run is not None],
        loads=loads,
    )


def _loads(inferior: LiveInferior, regions: Sequence[Region]) -> list[Load]:
    """Return a segment for each region, with a run where its memory is saved."""
    images: dict[bytes, bool] = {}
    loads = []
    for region in regions:
        size = region.end - region.begin
        saved = region.is_memory
        if saved and region.is_file and region.permissions == "r--" and not region.shared:
            # Of files that nobody writes to, those that code is in: the tables for unwinding.
            if region.path not in images:
                images[region.path] = _is_image(inferior, region)
            saved = images[region.path]
        flags = sum(
            bit
            for letter, bit in zip(region.permissions, (READ, WRITE, EXECUTE), strict=True)
            if letter != "-"
        )
        run = Run(region.begin, size) if saved else None
        loads.append(Load(address=region.begin, size=size, run=run, flags=flags))
    return loads


def _is_image(inferior: LiveInferior, region: Region) -> bool:
    try:
        return inferior.read_memory(region.begin, 4) == b"\x7fELF"
    except MemoryFault:
        return False


def _numbers(thread: ThreadId | None) -> list[int]:
    """Return the numbers that may be those of the process, that of the thread last."""
    if thread is None:
        return [1]
    found = [thread.process or 0, thread.thread]
    return [number for number in found if 0 < number < 1 << 31] or [1]


def _object(inferior: LiveInferior, name: str) -> bytes | None:
    """Return an object of qXfer that the stub offers."""
    if inferior.stub.features.get(f"qXfer:{name}:read") is not True:
        return None
    return inferior.session.transfer(name)


def _siginfo(inferior: LiveInferior, thread: ThreadId | None) -> bytes:
    inferior.thread_list.focus(thread)
    data = _object(inferior, "siginfo") or b""
    return data if len(data) == _SIGINFO else b""


def _text(inferior: LiveInferior, address: int) -> bytes:
    try:
        return read_string(inferior.read_memory, address, _MOST_PATH) if address else b""
    except StubError:
        return b""


class _Status:
    """What the kernel says of a process as a whole, as far as the stub lets it be read.

    Args:
        inferior: the process.
        process: its number on the stub's machine, None where that is not known.
        path: where its auxiliary vector says that the program's name is.
    """

    def __init__(self, inferior: LiveInferior, process: int | None, path: int) -> None:
        self.state = "t"
        self.parents: tuple[int, ...] = ()
        self.flags = self.user = self.group = 0
        program = _object(inferior, "exec-file") or _text(inferior, path)
        self.name = program.rpartition(b"/")[2]
        self.arguments = program
        if process is None:
            return

        def read(name: str) -> bytes:
            path = f"/proc/{process}/{name}"
            return read_file(inferior.session, path, most=_MOST_STATUS) or b""

        # pid (comm) state ppid pgrp session tty tpgid flags; a comm may have blanks and brackets.
        before, _, behind = read("stat").rpartition(b") ")
        fields = behind.split()
        if len(fields) > 6 and all(re.fullmatch(rb"-?\d+", each) for each in fields[1:7]):
            self.name = before.partition(b" (")[2]
            self.state = fields[0].decode("ascii", "replace")
            self.parents = tuple(map(int, fields[1:4]))
            self.flags = int(fields[6])
        status = read("status")
        for name, pattern in (("user", rb"^Uid:\s+(\d+)"), ("group", rb"^Gid:\s+(\d+)")):
            if found := re.search(pattern, status, re.MULTILINE):
                setattr(self, name, int(found[1]) & 0xFFFF_FFFF)
        self.arguments = read("cmdline").rstrip(b"\0").replace(b"\0", b" ") or self.arguments
