"""Variables that each CPU of a Linux kernel has its own of.

Here lives: where a CPU's own data is (Linux include/asm-generic/percpu.h), and which CPU the
current thread is on. Here must not live: how such a variable is found (`scope`).
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Final, SupportsIndex, overload

from rsp.errors import SymbolError
from rsp.target.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.arch.registers import Registers
    from rsp.symbols.types import Type
    from rsp.target.values import Space

_OFFSETS: Final = "__per_cpu_offset"
_CPUS: Final = "nr_cpu_ids"
_FIRST_CPUS: Final = 64
_MOST_CPUS: Final = 8192


class PerCpuValue(Value):
    """A variable that each CPU has its own of, before it is said which: ``[n]`` is CPU n's.

    Everything else is about the CPU of the current thread, where that can be told.
    """

    __slots__ = ("__offset", "__registers")

    def __init__(
        self,
        space: Space,
        ctype: Type,
        offset: int,
        registers: Callable[[], Registers] | None,
    ) -> None:
        super().__init__(space, ctype)
        self.__offset = offset
        self.__registers = registers

    def on(self, cpu: int) -> Value:
        """Return that of a CPU.

        Raises:
            SymbolError: the kernel cannot have that CPU, or this is no kernel.
            MemoryFault: its place cannot be read.
        """
        size = self.space_.word_size
        if not 0 <= cpu < self.__count():
            raise SymbolError(f"there is no CPU {cpu}: they are numbered below {self.__count()}")
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
            raise SymbolError(
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
        """Return the CPU of the current thread: the one whose offset a segment's base is.

        The kernel keeps it in GS on x86-64, where user mode has it swapped out, and in FS on i386.
        """
        size = self.space_.word_size
        bases = set()
        if self.__registers is not None:
            registers = self.__registers()
            names = ("gs_base", "k_gs_base", "fs_base")
            bases = {registers[name] for name in names if name in registers} - {None, 0}
        if bases:
            for count in dict.fromkeys((min(_FIRST_CPUS, self.__count()), self.__count())):
                data = self.space_.read(self.__offsets(), count * size)
                offsets = [
                    int.from_bytes(data[at : at + size], "little")
                    for at in range(0, len(data), size)
                ]
                found = [cpu for cpu, offset in enumerate(offsets) if offset in bases]
                if len(found) == 1:
                    return found[0]
                if found:
                    break
        raise SymbolError(
            "each CPU has its own, and nothing tells the CPU of the current thread: say which, "
            'as in value("runqueues", cpu=0) or runqueues[0]'
        )
