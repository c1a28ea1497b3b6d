"""Machine code as text.

Contents: the only use of capstone: from bytes in the target's memory to instructions, in the mode
of the CPU, spelled as gdb does (AT&T syntax). Where the code is, is for others to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, SupportsIndex

from rsp import arguments
from rsp.arch.modes import CpuMode
from rsp.errors import MemoryFault, UnsupportedCommand
from rsp.reprs import hex_repr
from rsp.symbols.at_pc.symbolize import name_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rsp.inferior.inferior import Inferior
    from rsp.symbols.table import SymbolTable

LONGEST: Final = 15
"""Bytes of an x86 instruction, at most (Intel SDM volume 2A, section 2.3.11)."""
MOST: Final = 1 << 16
"""So many instructions are decoded at once, at most."""

_BITS: Final = {
    CpuMode.REAL16: 16,
    CpuMode.PROTECTED16: 16,
    CpuMode.PROTECTED32: 32,
    CpuMode.COMPAT32: 32,
    CpuMode.LONG64: 64,
}
_BAD: Final = "(bad)"
_TARGET: Final = re.compile(r"(?:.* )?\*?0x([0-9a-f]+)")
_RELATIVE: Final = re.compile(r"(-?(?:0x)?[0-9a-f]+)?\(%rip\)")
_MASK: Final = (1 << 64) - 1
_BRANCHES: Final = ("call", "j", "loop", "xbegin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """An instruction.

    Attributes:
        address: of its first byte.
        bytes: its code.
        text: in AT&T syntax; ``(bad)`` for a byte that begins none. A branch has the symbol that it
            leads to behind its address, ``callq 0x401136 <main>``, and an operand relative to rip
            its address: ``movq 0x2ee4(%rip), %rax  # 0x404028 <counter>``.
        symbol: where it is: ``main+4``; None where there is no symbol.
    """

    address: int
    bytes: bytes
    text: str
    symbol: str | None

    def __str__(self) -> str:
        place = f" <{self.symbol}>" if self.symbol is not None else ""
        return f"{self.address:#x}{place}:\t{self.text}"

    def __repr__(self) -> str:
        return hex_repr(self)


def disassemble(inferior: Inferior, address: int, count: SupportsIndex) -> tuple[Instruction, ...]:
    """Return the instructions from an address on, fewer where memory ends.

    Args:
        inferior: whose memory, whose current thread's mode.
        address: linear.
        count: how many.

    Raises:
        MemoryFault: nothing can be read there.
        UnsupportedCommand: capstone is not installed.
        ArgumentError: the count makes no sense.
    """
    most = arguments.integer(count, "count", "a number of instructions", lowest=1, below=MOST + 1)
    size = min(LONGEST * most, _MASK + 1 - address)
    try:
        code = inferior.read_memory(address, size)
    except MemoryFault as fault:
        if not fault.partial:
            raise
        code = fault.partial
    symbols = inferior.symbols if inferior.has_symbols else None
    found = decode(code, address, _bits(inferior), symbols)
    return tuple(instruction for _, instruction in zip(range(most), found, strict=False))


def decode(
    code: bytes, address: int, bits: int, symbols: SymbolTable | None = None
) -> Iterator[Instruction]:
    """Yield the instructions of some code; what is cut off at its end is left out.

    Args:
        code: the bytes.
        address: of the first of them.
        bits: 16, 32 or 64.
        symbols: what names places, None for no names.

    Raises:
        UnsupportedCommand: capstone is not installed.
    """
    engine = _engine(bits)
    at = 0
    while at < len(code):
        # One by one: it ends at the first byte that begins no instruction.
        for where, length, name, operands in engine.disasm_lite(
            code[at : at + LONGEST], address + at, 1
        ):
            text = f"{name} {operands}".strip()
            yield Instruction(
                address=where,
                bytes=code[at : at + length],
                text=text + _remark(name, operands, where + length, symbols),
                symbol=name_at(symbols, where),
            )
            at += length
            break
        else:
            if len(code) - at < LONGEST:
                return
            yield Instruction(
                address=address + at,
                bytes=code[at : at + 1],
                text=_BAD,
                symbol=name_at(symbols, address + at),
            )
            at += 1


def _engine(bits: int) -> Any:
    try:
        import capstone  # type: ignore[import-untyped]  # it comes without types
    except ImportError:
        raise UnsupportedCommand(
            "disassembling needs capstone: pip install 'gdb-rsp[disasm]'", command="disassemble"
        ) from None
    modes = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}
    engine = capstone.Cs(capstone.CS_ARCH_X86, modes[bits])
    engine.syntax = capstone.CS_OPT_SYNTAX_ATT
    return engine


def _bits(inferior: Inferior) -> int:
    bits = _BITS.get(inferior.mode)
    if bits is None:
        bits = 64 if inferior.registers.layout.arch == "x86-64" else 32
    return bits


def _remark(name: str, operands: str, end: int, symbols: SymbolTable | None) -> str:
    """Return what gdb adds: the name of where a branch leads to, or a rip-relative address."""
    relative = _RELATIVE.search(operands)
    if relative is not None:
        address = end + int(relative[1] or "0", 0) & _MASK
        place = name_at(symbols, address)
        return f"  # {address:#x}" + (f" <{place}>" if place is not None else "")
    found = _TARGET.fullmatch(operands) if name.startswith(_BRANCHES) else None
    place = name_at(symbols, int(found[1], 16)) if found is not None else None
    return f" <{place}>" if place is not None else ""
