"""The names of a frame in an expression: arguments and variables of the code that runs.

Here lives: which names the innermost frame has, told without a look at the stack, so that an
expression about anything else costs no more. Here must not live: where their values are (`frame`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from rsp.errors import RegisterUnavailable, StubError, SymbolError
from rsp.symbols.contents import Damaged
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.origins import attribute, origins
from rsp.target.values import Value

if TYPE_CHECKING:
    from rsp.symbols.dwarf.die import Die
    from rsp.target.target import Target


class LocalNames(Mapping[str, Value]):
    """The arguments and variables of the current thread's innermost frame, at this stop."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def __getitem__(self, name: str) -> Value:
        value = self._target.backtrace()[0].variable(name) if name in self._names else None
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def _names(self) -> frozenset[str]:
        """What is declared where the pc is, as far in as a copy that was inlined there."""
        target = self._target
        if not target.has_symbols:
            return frozenset()
        try:
            pc = target.registers.pc
            found = target.symbols.binary_at(pc)
            if found is None:
                return frozenset()
            binary, slide = found
            unit = binary.unit_at(pc - slide)
            names: list[str | None] = []
            for block in reversed(binary.functions.blocks(unit, pc - slide) if unit else ()):
                for origin in origins(block):
                    names += map(_name, binary.functions.variables(origin))
                if block.tag != dw.DW_TAG_lexical_block:
                    break
        except (StubError, RegisterUnavailable, SymbolError, Damaged):
            return frozenset()
        return frozenset(name for name in names if name is not None)


def _name(die: Die) -> str | None:
    name = attribute(die, dw.DW_AT_name)
    return name if isinstance(name, str) and not attribute(die, dw.DW_AT_declaration) else None
