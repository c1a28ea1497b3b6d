"""Made-up stacks, code and rules for the step from a frame to its caller.

Contents: memory with holes, the table of one file, and a machine of both. What the file is, a test
says itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from rsp.arch.layouts import layout_for_length
from rsp.errors import MemoryFault, SymbolNotFound
from rsp.symbols.unwind.rules import RegisterOffset, UnwindRules, numbers
from rsp.testing.memory import SparseMemory
from rsp.unwind.activation import Machine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rsp.symbols.table import SymbolTable
    from rsp.symbols.unwind.rules import CfaRule, RegisterRule

N = numbers("x86-64")
STACK = 0xFFFF_8000_0000_1000
CODE = 0xFFFF_FFFF_8100_0000
TWO_WORDS = RegisterOffset(N["rsp"], 16)
"""The CFA of a frame of a word and the return address."""


@dataclass
class Symbol:
    """A name and its place."""

    name: str
    address: int
    size: int = 0x100


class Binary(Protocol):
    """What an unwinder asks a file first."""

    def unwind_rules(self, address: int) -> UnwindRules | None:
        """Return the rules of the code at an address, None where it has none."""


class Symbols:
    """The table of one file with all code from `CODE` on, and that of a 32-bit kernel.

    Args:
        binary: the file.
        slide: how far from its link addresses it lies.
        entries: where a kernel's code for entries begins and ends, the only names there are.
    """

    def __init__(
        self, binary: Binary, slide: int = 0, entries: tuple[int, int] | None = None
    ) -> None:
        self._binary = binary
        self._slide = slide
        self._entries = entries

    def binary_at(self, address: int) -> tuple[Binary, int] | None:
        """Return the file, where it has code."""
        there = address >= CODE or address >> 28 == 0xC
        return (self._binary, self._slide) if there else None

    def __getitem__(self, name: str) -> Symbol:
        if self._entries is None:
            raise SymbolNotFound(f"no {name}", name=name)
        return Symbol(name, self._entries[name.endswith("end")])


class Memory:
    """Memory with holes."""

    def __init__(self, parts: Mapping[int, bytes]) -> None:
        self._memory = SparseMemory(dict(parts))

    def read(self, address: int, size: int) -> bytes | None:
        """Return memory, None where there is a hole."""
        data = self._memory.read(address, size)
        return data if len(data) == size else None

    def fetch(self, address: int, size: int) -> bytes:
        """Return memory; MemoryFault where there is a hole."""
        data = self.read(address, size)
        if data is None:
            raise MemoryFault("a hole", address=address)
        return data

    def look_at(self, stack_pointer: int) -> None:
        """Do nothing: all is at hand."""

    def silence(self) -> str | None:
        """Return that it can be read."""
        return None

    def expect(self, address: int, size: int) -> None:
        """Do nothing: all is at hand."""


def words(*values: int, size: int = 8) -> bytes:
    """Return numbers as they lie on a stack."""
    return b"".join(value.to_bytes(size, "little") for value in values)


def machine_of(
    memory: Mapping[int, bytes],
    binary: Binary | None = None,
    arch: str = "x86-64",
    slide: int = 0,
    entries: tuple[int, int] | None = None,
) -> Machine:
    """Return a machine with this memory and the symbols of this file."""
    symbols = Symbols(binary, slide, entries) if binary is not None else None
    return Machine(
        arch,
        Memory(memory),
        cast("SymbolTable | None", symbols),
        layout_for_length(608),
        word_size=8 if arch == "x86-64" else 4,
    )


def rules_of(
    registers: Mapping[str, RegisterRule],
    cfa: CfaRule = TWO_WORDS,
    **more: Any,
) -> UnwindRules:
    """Return rules that hold everywhere; registers are given by their names in x86-64."""
    return UnwindRules(
        begin=0,
        end=1 << 64,
        cfa=cfa,
        registers={N[name]: rule for name, rule in registers.items()},
        return_address=N["rip"],
        **more,
    )
