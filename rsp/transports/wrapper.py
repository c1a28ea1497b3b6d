"""A transport that stands before another one and lets everything through.

Contents: what all wrappers have in common. What one of them does with the bytes on their way is in
a module of its own (`rsp.transports.record`, `rsp.testing.faults`).
"""

from __future__ import annotations

from rsp.transports.base import Transport


class TransportWrapper(Transport):
    """Passes everything on; a subclass overrides what it does otherwise.

    >>> from rsp.transports.memory import MemoryTransport
    >>> class Shouting(TransportWrapper):
    ...     def write(self, data: bytes, timeout: float | None = None) -> None:
    ...         super().write(data.upper(), timeout)
    >>> ours, stub = MemoryTransport.pair()
    >>> Shouting(ours).write(b"$m0,1#fa")
    >>> stub.read(100, 0)
    b'$M0,1#FA'

    Args:
        inner: the transport that is wrapped, and closed together with this one.
    """

    def __init__(self, inner: Transport) -> None:
        self.address: str = inner.address
        self.reliable: bool = inner.reliable
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """See `Transport.read`."""
        return self._inner.read(max_bytes, timeout)

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """See `Transport.write`."""
        self._inner.write(data, timeout)

    @property
    def can_break(self) -> bool:
        """See `Transport.can_break`."""
        return self._inner.can_break

    def send_break(self) -> None:
        """See `Transport.send_break`."""
        self._inner.send_break()

    def close(self) -> None:
        """See `Transport.close`."""
        self._inner.close()
