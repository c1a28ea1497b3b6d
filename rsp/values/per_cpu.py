"""Variables that each CPU of a Linux kernel has its own of.

Contents: where a CPU's own data is (Linux include/asm-generic/percpu.h), and which CPU the current
thread is on. Not here: how such a variable is found (`scope`).

The kernel keeps the offset of a CPU's own data in the base of a segment: GS on x86-64, where user
mode has it swapped out, FS on i386. On i386 FS is user mode's own until the kernel's entry code has
loaded another, and the CPU's GDT has the descriptor at all times.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Final, SupportsIndex, overload

from rsp.errors import ValueUnavailable
from rsp.values.value import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rsp.arch.registers import Registers
    from rsp.symbols.types.types import Type
    from rsp.values.value import Space

    Bases = Callable[[], Iterable[set[int]]]
    """Returns the bases of segments that may be a CPU's offset, the likelier ones first."""

_OFFSETS: Final = "__per_cpu_offset"
_CPUS: Final = "nr_cpu_ids"
_FIRST_CPUS: Final = 64
_MOST_CPUS: Final = 8192


def bases_in(registers: Registers) -> set[int]:
    """Return the bases of segments among registers."""
    names = ("gs_base", "k_gs_base", "fs_base")
    return {base for name in names if (base := registers.get(name))}


class PerCpuValue(Value):
    """A variable that each CPU has its own of, before it is said which: ``[n]`` is CPU n's.

    Everything else is about the CPU of the current thread, where that can be told.
    """

    __slots__ = ("__bases", "__offset")

    def __init__(
        self,
        space: Space,
        ctype: Type,
        offset: int,
        bases: Bases | None,
    ) -> None:
        super().__init__(space, ctype)
        self.__offset = offset
        self.__bases = bases

    def on(self, cpu: int) -> Value:
        """Return that of a CPU.

        Raises:
            ValueUnavailable: the kernel cannot have that CPU, or this is no kernel.
            MemoryFault: its place cannot be read.
        """
        size = self.space_.word_size
        if not 0 <= cpu < self.__count():
            raise ValueUnavailable(
                f"there is no CPU {cpu}: they are numbered below {self.__count()}"
            )
        where = self.__offsets() + cpu * size
        offset = int.from_bytes(self.space_.read(where, size), "little")
        address = (self.__offset + offset) % (1 << 8 * size)
        return Value(self.space_, self.type_, address=address)

    def _place_(self) -> int:
        return self.on(self.__current())._place_() or 0

    @overload
    def __getitem__(self, key: str | SupportsIndex) -> Value: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Value, ...]: ...
    def __getitem__(self, key: str | SupportsIndex | slice) -> Value | tuple[Value, ...]:
        if isinstance(key, str | slice):
            return super().__getitem__(key)
        return self.on(index(key))

    def __offsets(self) -> int:
        symbols = self.space_.symbols
        if symbols is None or _OFFSETS not in symbols:
            raise ValueUnavailable(
                f"a per-CPU variable, and no {_OFFSETS} that says where each CPU's is"
            )
        return symbols[_OFFSETS].address

    def __count(self) -> int:
        symbols, where = self.space_.symbols, self.__offsets()
        assert symbols is not None
        room = symbols[_OFFSETS].size // self.space_.word_size or _MOST_CPUS
        if _CPUS in symbols and where:
            room = min(room, int.from_bytes(self.space_.read(symbols[_CPUS].address, 4), "little"))
        return min(room, _MOST_CPUS)

    def __current(self) -> int:
        """Return the CPU of the current thread: the one whose offset a segment's base is."""
        for bases in self.__bases() if self.__bases is not None else ():
            found = self.__cpus_at(bases)
            if len(found) == 1:
                return found[0]
        raise ValueUnavailable(
            "each CPU has its own, and nothing tells the CPU of the current thread: say which, "
            'as in value("runqueues", cpu=0) or runqueues[0]'
        )

    def __cpus_at(self, bases: set[int]) -> list[int]:
        if not bases:
            return []
        size, count = self.space_.word_size, self.__count()
        for most in dict.fromkeys((min(_FIRST_CPUS, count), count)):
            data = self.space_.read(self.__offsets(), most * size)
            offsets = [
                int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)
            ]
            if found := [cpu for cpu, offset in enumerate(offsets) if offset in bases]:
                return found
        return []
