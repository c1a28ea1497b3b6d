"""The registers of a caller: those that lie on the stack are read when they are asked for.

Contents: what makes an unwound frame cheap: of all that a function has saved, a backtrace needs the
return address, and now and then a register that an argument is in. On a serial line the others cost
milliseconds each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_UNREAD: Final = -1


class Saved:
    """A register in memory.

    Args:
        read: returns it, None where it cannot be read; called once.
    """

    __slots__ = ("_read", "_value")

    def __init__(self, read: Callable[[], int | None]) -> None:
        self._read = read
        self._value: int | None = _UNREAD

    def value(self) -> int | None:
        """Return it, None where it cannot be read."""
        if self._value == _UNREAD:
            self._value = self._read()
        return self._value


class SavedRegisters(Mapping[str, int]):
    """Registers by name, as far as they are known; one that cannot be read is not there.

    >>> registers = SavedRegisters({"rip": 5, "rbx": Saved(lambda: 7), "rbp": Saved(lambda: None)})
    >>> registers["rbx"], registers.get("rbp"), sorted(registers)
    (7, None, ['rbx', 'rip'])
    """

    __slots__ = ("unread",)

    def __init__(self, values: Mapping[str, int | Saved]) -> None:
        self.unread: Mapping[str, int | Saved] = values
        """As it was given: to make another of it, without reading."""

    def __getitem__(self, name: str) -> int:
        value = self.unread[name]
        if isinstance(value, Saved):
            read = value.value()
            if read is None:
                raise KeyError(name)
            return read
        return value

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.unread if self.get(name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def unread(registers: Mapping[str, int]) -> Mapping[str, int | Saved]:
    """Return what is known of registers without reading any."""
    return registers.unread if isinstance(registers, SavedRegisters) else registers
