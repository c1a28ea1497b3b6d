"""A scripted stub at the end of a transport, or behind a port.

Contents: the ways of carrying bytes between a Stub and its clients. What the stub says to them is
in ``stub``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Literal

from rsp import connect
from rsp.errors import ConnectionLost, TransportError
from rsp.testing.stub import assert_harmless
from rsp.transports.base import Transport, closed_error, read_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rsp.remote.target import OnExit, Target
    from rsp.testing.stub import Stub


class StubTransport(Transport):
    """A client's end of a line to a stub in the same thread: what is written is answered at once.

    >>> import rsp
    >>> from rsp.testing.stub import Stub
    >>> with rsp.connect(StubTransport(Stub(registers={"rax": 7}))) as target:
    ...     target.registers["rax"]
    7

    Args:
        stub: who answers.
    """

    address = "stub"
    reliable = True

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._answers = bytearray(stub.connected())
        self._closed = False

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`; the stream has ended when nothing can come any more."""
        self._check_open()
        data = bytes(self._answers[:max_bytes])
        del self._answers[:max_bytes]
        if data or self._stub.dead or timeout is None:
            return data
        time.sleep(timeout)
        raise read_timeout(self.address, timeout)

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """See `Transport.write`."""
        del timeout  # a write never waits
        self._check_open()
        if self._stub.dead:
            raise ConnectionLost("the stub has ended", address=self.address)
        self._answers += self._stub.receive(data)

    def close(self) -> None:
        """See `Transport.close`."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise closed_error(self.address)


@contextlib.contextmanager
def connected(
    stub: Stub,
    *,
    timeout: float = 5.0,
    on_exit: OnExit | None = None,
    line: Callable[[Transport], Transport] | None = None,
) -> Iterator[Target]:
    """Connect to a stub as ``rsp.connect`` does, and fail at the end if it came to harm.

    Args:
        stub: whom to.
        timeout: as ``rsp.connect`` takes it.
        on_exit: as ``rsp.connect`` takes it.
        line: wraps the client's end, to make it a bad line for example.

    Raises:
        AssertionError: the stub was sent what does harm, or something is left in it.
    """
    client: Transport = StubTransport(stub)
    client = client if line is None else line(client)
    with connect(client, timeout=timeout, on_exit=on_exit) as target:
        yield target
    assert_harmless(stub)


@contextlib.contextmanager
def listening(stub: Stub, kind: Literal["tcp", "unix"] = "tcp") -> Iterator[str]:
    """Serve clients, one after the other, behind a port of its own, and yield its address.

    Raises:
        Exception: what the stub raised in its thread, at the end of the block.
    """
    with contextlib.ExitStack() as stack:
        if kind == "unix":
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="rsp-stub-"))
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            path = os.path.join(directory, "gdb")  # noqa: PTH118 - bind takes no Path
            listener.bind(path)
            address = f"unix:{path}"
        else:
            listener = stack.enter_context(socket.socket(socket.AF_INET))
            listener.bind(("127.0.0.1", 0))
            address = "127.0.0.1:{1}".format(*listener.getsockname())
        listener.listen(8)
        stack.enter_context(_thread(lambda: _accept(stub, listener)))
        try:
            yield address
        finally:
            # What waits in accept() is not woken by close(), but by this.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def serve(stub: Stub, transport: Transport) -> None:
    """Carry bytes between a stub and one client until either goes."""
    with transport, contextlib.suppress(ConnectionLost):
        _write(transport, stub.connected())
        while not stub.dead:
            data = transport.read(1 << 16, None)
            if not data:
                return
            _write(transport, stub.receive(data))


def _write(transport: Transport, data: bytes) -> None:
    if data:
        transport.write(data)


def _accept(stub: Stub, listener: socket.socket) -> None:
    from rsp.transports.descriptor import DescriptorTransport

    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # it was shut down
        with contextlib.suppress(TransportError):
            serve(stub, DescriptorTransport(client, address="client", reliable=True))


@contextlib.contextmanager
def _thread(work: Callable[[], None]) -> Iterator[None]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as failure:  # noqa: BLE001 - it is raised again by whoever waits
            failures.append(failure)

    thread = threading.Thread(target=run, name="rsp-stub", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(10)
    if failures:
        raise failures[0]
