"""The target's memory: reads and writes of any size, in packets that the stub takes.

Contents: splitting, pipelining, the search for the first bad byte, physical memory. Not here: what
was read before (see `pages`), typed values (see `rsp.values`).
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, SupportsIndex

from rsp import arguments
from rsp.errors import (
    LocalProtocolError,
    MemoryFault,
    RemoteProtocolError,
    StubError,
    UnsupportedCommand,
)
from rsp.inferior.int3 import Int3s
from rsp.inferior.pages import PAGE, checked_length
from rsp.wire import commands, replies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from _typeshed import ReadableBuffer

    from rsp.session.session import Session
    from rsp.session.stub import Stub
    from rsp.wire.replies import Reply

logger: Final = logging.getLogger("rsp.inferior")

_SPACE: Final = 1 << 64


class Memory:
    """Reads and writes memory through a session.

    Args:
        session: where to.
        stub: what it can do.

    Attributes:
        int3s: the breakpoints that are written into it, which reads and writes do not notice.
        fallback: reads what the CPU does not see.
    """

    def __init__(self, session: Session, stub: Stub) -> None:
        self.int3s: Int3s = Int3s(self._fetch, self._store)
        self._session = session
        self._stub = stub
        self._is_physical = False
        self._was_physical = False  # before we came
        self.fallback: Callable[[int, int], bytes] | None = None

    def read(self, address: int, length: SupportsIndex, *, physical: bool = False) -> bytes:
        """Read ``length`` bytes at ``address``.

        Raises:
            MemoryFault: a part cannot be read; it carries the first bad address and the bytes
                before it.
            UnsupportedCommand: physical memory is asked for, and the stub cannot read it.
            ArgumentError: the range leaves the 64-bit address space, or is longer than 4 GiB.
        """
        length = checked_length(address, length)
        if arguments.flag(physical, "physical"):
            with self.physical():
                return self._fetch(address, length)
        self._check_mode()
        try:
            return self.int3s.hidden(address, self._fetch_all(address, length))
        except MemoryFault as fault:
            fault.partial = self.int3s.hidden(address, fault.partial)
            raise

    def read_seen(self, address: int, length: int) -> bytes:
        """Return what the CPU itself sees, without the fallback; the errors of `read`."""
        self._check_mode()
        return self.int3s.hidden(address, self._fetch(address, checked_length(address, length)))

    def write(self, address: int, data: ReadableBuffer, *, physical: bool = False) -> None:
        """Write ``data`` at ``address``.

        Raises:
            MemoryFault: a part cannot be written; what lies before its address was.
            UnsupportedCommand: physical memory is asked for, and the stub cannot write it.
            ArgumentError: the range leaves the 64-bit address space, or it is no data.
        """
        content = arguments.data(data, "data")
        checked_length(address, len(content))
        arguments.flag(physical, "physical")
        if physical:
            with self.physical():
                self._store(address, content)
        else:
            self._check_mode()
            self.int3s.write(address, content)

    def _fetch_all(self, address: int, length: int) -> bytes:
        """Fetch, and have the fallback read what the CPU does not see."""
        try:
            return self._fetch(address, length)
        except MemoryFault as fault:
            if self.fallback is None:
                raise
            known = fault.partial
            try:
                return known + self.fallback(address + len(known), length - len(known))
            except MemoryFault as second:
                fault.partial, fault.address = known + second.partial, second.address
            except StubError as error:
                logger.debug("no other way to read %#x: %s", fault.address, error)
            raise

    # --- in packets ---

    def _fetch(self, address: int, length: int) -> bytes:
        out: list[bytes] = []
        position, end = address, address + length
        while position < end:
            largest = min(self._session.connection.limits.largest_read, PAGE)
            requests = (
                commands.ReadMemory(address=at, length=size)
                for at, size in _split(position, end - position, largest)
            )
            for answer in self._session.ask_all(requests):
                size = _piece(position, end, largest)
                if isinstance(answer, replies.MemoryData) and len(answer.data) == size:
                    shorter = self._session.connection.limits.largest_read
                    if size > shorter:
                        break  # the line has become bad: in pieces that are asked for twice
                    out.append(answer.data)
                    position += size
                    if largest == min(shorter, PAGE):
                        continue
                    break
                data = self._fetch_part(position, size, answer)
                out.append(data)
                position += len(data)
                if len(data) < size:
                    raise self._fault("read", position, answer, b"".join(out))
                break  # what was asked for behind this piece was dropped meanwhile
        return b"".join(out)

    def _fetch_part(self, address: int, length: int, answer: Reply) -> bytes:
        """Return as many bytes as can be read of a range that did not come whole."""
        data = b""
        if isinstance(answer, replies.MemoryData):
            if not answer.data or len(answer.data) > length:
                raise RemoteProtocolError(
                    f"{length} bytes of memory were asked for, {len(answer.data)} came",
                    data=answer.data,
                )
            data = answer.data
        elif self._stub.faults_by_page:
            return b""
        # Stubs fail a range as a whole, or answer the readable part of it (gdbserver).
        bad = length
        while len(data) < bad:
            middle = min(bad - len(data), max(1, (bad - len(data)) // 2)) if data else 1
            reply = self._session.ask(
                commands.ReadMemory(address=address + len(data), length=middle)
            )
            if isinstance(reply, replies.MemoryData) and 0 < len(reply.data) <= middle:
                data += reply.data
            elif middle == 1:
                break
            else:
                bad = len(data) + middle
        return data

    def _store(self, address: int, data: bytes) -> None:
        largest = min(self._session.connection.limits.largest_write, PAGE)
        for at, size in _split(address, len(data), largest):
            part = data[at - address : at - address + size]
            reply = self._write(at, part)
            if not isinstance(reply, replies.Ok):
                raise self._fault("write", at, reply, b"")

    def _write(self, address: int, data: bytes) -> Reply:
        """Write until it is there: a bad line may change a request so that its sum is right."""
        connection = self._session.connection
        for _ in range(connection.limits.retries):
            reply = self._session.ask(commands.WriteMemory(address=address, data=data))
            is_ok = isinstance(reply, replies.Ok) and connection.limits.noisy
            if not is_ok or self._fetch(address, len(data)) == data:
                return reply
        raise RemoteProtocolError(
            f"{len(data)} bytes at {address:#x} were written {connection.limits.retries} times, "
            "and others are there: the line is bad, or what is there is no memory"
        )

    def _fault(self, verb: str, address: int, reply: Reply, partial: bytes) -> Exception:
        if isinstance(reply, replies.Unsupported):
            return UnsupportedCommand(
                f"this stub cannot {verb} memory", command="m" if verb == "read" else "M"
            )
        code = reply.code if isinstance(reply, replies.ErrorReply) else None
        detail = f" ({reply.text})" if isinstance(reply, replies.ErrorReply) and reply.text else ""
        return MemoryFault(
            f"cannot {verb} memory at {address:#x}{detail}: nothing is mapped there, or it is "
            "protected",
            address=address,
            partial=partial,
            code=code,
        )

    @contextmanager
    def physical(self) -> Iterator[None]:
        """Let addresses be physical; the mode is the whole machine's, so it is always put back.

        Within it other reads and writes of physical memory cost no more than those of any memory.

        Raises:
            UnsupportedCommand: the stub cannot reach physical memory.
        """
        if self._is_physical:
            yield
            return
        if not self._stub.physical_memory:
            raise UnsupportedCommand(
                "this stub cannot reach physical memory; QEMU's can, from 4.2",
                command="Qqemu.PhyMemMode",
            )
        before = self._session.ask(commands.QueryPhysicalMemoryMode())
        self._was_physical = isinstance(before, replies.PhysicalMemoryMode) and before.enabled
        try:
            self._is_physical = True
            reply = self._session.ask(commands.SetPhysicalMemoryMode(enabled=True))
            if not isinstance(reply, replies.Ok):
                raise UnsupportedCommand(
                    "the stub refuses to switch to physical memory", command="Qqemu.PhyMemMode:1"
                )
            yield
        finally:
            self.leave_physical()

    def leave_physical(self) -> None:
        """Let addresses be linear again, as they were before."""
        if self._is_physical and self._session.usable:
            self._session.ask(commands.SetPhysicalMemoryMode(enabled=self._was_physical))
            self._is_physical = False

    def _check_mode(self) -> None:
        if self._is_physical:
            raise LocalProtocolError("addresses are physical here: give physical=True")


def _split(address: int, length: int, largest: int) -> Iterator[tuple[int, int]]:
    """Cut a range into pieces that cross no page: a stub fails a piece as a whole."""
    end = address + length
    while address < end:
        size = _piece(address, end, largest)
        yield address, size
        address += size


def _piece(address: int, end: int, largest: int) -> int:
    return min(largest, end - address, PAGE - address % PAGE)
