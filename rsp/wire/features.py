"""What each side of a session can do, as ``qSupported`` says it.

Contents: Features, the list that both sides send (gdb manual, "General Query Packets", qSupported),
and what this client offers. What follows from a feature is decided in ``rsp.session``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from rsp.errors import LocalProtocolError, RemoteProtocolError
from rsp.wire.syntax import decode_text, encode_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNS: Final = {"+": True, "-": False, "?": None}
_SUFFIXES: Final = {value: sign for sign, value in _SIGNS.items()}
_NAME: Final = re.compile(r"[^;=]*[^;=+?-]")
_SIZE: Final = re.compile(r"[0-9a-fA-F]{1,16}")


class Features(Mapping[str, str | bool | None]):
    """A frozen mapping of feature names, in the order in which they were sent.

    The value is True for ``name+``, False for ``name-``, None for ``name?`` (may be supported, ask)
    and the text behind the ``=`` of ``name=value``.

    >>> features = Features.parse(b"PacketSize=1000;vContSupported+;qXfer:memory-map:read-")
    >>> features.packet_size, features.supports("vContSupported"), features.supports("QNonStop")
    (4096, True, False)
    >>> features.encode()
    b'PacketSize=1000;vContSupported+;qXfer:memory-map:read-'
    """

    __slots__ = ("_features",)

    def __init__(self, features: Mapping[str, str | bool | None]) -> None:
        self._features = dict(features)

    @classmethod
    def parse(cls, payload: bytes) -> Features:
        """Read a list of features; as in gdb, an item of no known form is passed over.

        Raises:
            RemoteProtocolError: PacketSize is not a number.
        """
        features: dict[str, str | bool | None] = {}
        for item in decode_text(payload).split(";"):
            name, equals, value = item.partition("=")
            if not equals and name[-1:] in _SIGNS and _NAME.fullmatch(name[:-1]):
                features[name[:-1]] = _SIGNS[name[-1]]
            elif equals and _NAME.fullmatch(name):
                features[name] = value
        size = features.get("PacketSize")
        if isinstance(size, str) and _SIZE.fullmatch(size) is None:
            raise RemoteProtocolError(
                f"PacketSize is not a hex number: {size[:40]!r}", data=payload
            )
        return cls(features)

    def encode(self) -> bytes:
        """Return the list as it is sent.

        Raises:
            LocalProtocolError: a name or a value cannot be written.
        """
        items = []
        for name, value in self._features.items():
            if _NAME.fullmatch(name) is None or (isinstance(value, str) and ";" in value):
                raise LocalProtocolError(f"a feature that cannot be sent: {name!r}: {value!r}")
            items.append(f"{name}={value}" if isinstance(value, str) else name + _SUFFIXES[value])
        return encode_text(";".join(items))

    @property
    def packet_size(self) -> int | None:
        """The most characters that a packet to the stub may have, None where it does not say."""
        size = self._features.get("PacketSize")
        return int(size, 16) if isinstance(size, str) and _SIZE.fullmatch(size) else None

    def supports(self, name: str) -> bool:
        """Whether a feature was said to be there, with ``+`` or with a value."""
        value = self._features.get(name)
        return value is True or isinstance(value, str)

    def __getitem__(self, name: str) -> str | bool | None:
        return self._features[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def __hash__(self) -> int:
        return hash(frozenset(self._features.items()))

    def __repr__(self) -> str:
        return f"Features({self._features!r})"


OFFERED: Final = Features(
    {
        "multiprocess": True,
        "swbreak": True,
        "hwbreak": True,
        "qRelocInsn": True,
        "fork-events": True,
        "vfork-events": True,
        "exec-events": True,
        "vContSupported": True,
        "QThreadEvents": True,
        "no-resumed": True,
        "memory-tagging": True,
        "xmlRegisters": "i386",
    }
)
"""What this client offers, in gdb's order. For ``xmlRegisters`` gdbserver sends a target.xml.

What follows from the events of processes is in ``rsp.run``. Some of it answers questions that are
never asked here: then no stub makes anything of it. But gdb's first packet has some 175 bytes, and
winedbg waits for more of one of 64 to 127.
"""
