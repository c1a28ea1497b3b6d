"""What the source defines outside all frames, as values: statics, functions, enumerators.

Contents: the value of a definition of which only the file has to be known. Not here: which
definition a name means (see `rsp.symbols.at_pc` and `scope`), what is in frames (see
`rsp.frames.frame`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsp.errors import MemoryFault
from rsp.values.location import value_at
from rsp.values.per_cpu import PerCpuValue
from rsp.values.value import Value

if TYPE_CHECKING:
    from rsp.symbols.at_pc.definitions import Definition
    from rsp.values.per_cpu import Bases
    from rsp.values.value import Space


def value_of(definition: Definition, space: Space, bases: Bases | None = None) -> Value | None:
    """Return the value of a definition, of a per-CPU variable a `PerCpuValue`.

    Args:
        definition: what has the value; a function without code has None.
        space: the memory.
        bases: of segments, which tell the current thread's CPU.

    Raises:
        BadImage: the file is damaged there.
    """
    if definition.is_enumerator:
        number = definition.number
        return None if number is None else Value.number_(space, definition.type, number)
    fixed = definition.fixed_address
    if fixed is not None:
        if fixed.per_cpu:
            return PerCpuValue(space, definition.type, fixed.address, bases)
        return Value(space, definition.type, address=fixed.address)
    if definition.is_function:
        return None
    context = _NoFrame(definition.binary.image.word_size, definition.slide, space)
    return value_at(definition.locate(context), definition.type, context, space)


@dataclass(frozen=True, slots=True)
class _NoFrame:
    """The context of a variable's location that needs no frame."""

    word_size: int
    slide: int
    space: Space

    def register(self, number: int) -> int | None:  # noqa: ARG002 - as the protocol has it
        return None

    def read_memory(self, address: int, size: int) -> bytes | None:
        try:
            return self.space.read(address, size)
        except MemoryFault:
            return None

    def frame_base(self) -> int | None:
        return None

    def cfa(self) -> int | None:
        return None

    def entry_value(self, what: bytes | int) -> int | None:  # noqa: ARG002 - as above
        return None
