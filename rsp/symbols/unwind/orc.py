"""ORC, the Linux kernel's own unwinding tables, which cover its assembly too.

Contents: the formats that kernels have had, and the search for an address in a file's table. Not
here: other tables, and the choice between them (`tables`).

A table is two sections of equal length: ``.orc_unwind_ip`` has a signed 32-bit number for each
entry, its address relative to where the number itself is, and ``.orc_unwind`` has the entries::

    s16 sp_offset; s16 bp_offset; unsigned sp_reg:4, bp_reg:4, type:…, …    (16 bits)

An entry is valid up to the address of the next one. Source: Linux
arch/x86/include/asm/orc_types.h and arch/x86/kernel/unwind_orc.c (``unwind_next_frame``), by
commit:

- 4.14: ee9f8fce9964 introduces it.
- 6.3: ffb1b4a41016 adds the signal bit, in front of the end bit.
- 6.4: fb799447ae29 makes types of "undefined" and "end of the stack"; no end bit.
- 6.12 to 7.0, stable: 96f3b16a9de5 as backported adds AX as the last register.
- 7.1: 1735858caa4b numbers the registers anew, with AX.

From 6.4 on (and 6.3.10) the section ``.orc_header`` has the SHA-1 of the definitions that the
kernel was built with (scripts/orc_hash.sh); a test computes it from the tables below. Without one
(also Red Hat's 5.14.0-517.el9 and later, which are of 6.4's format), the entries tell: up to 6.3
the type of a call is 0, and every function begins with one, while in 6.4's format an entry that has
a stack pointer is never of type 0; and bit 11, the end bit of 6.3, is no field of 4.14's.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from operator import sub
from typing import TYPE_CHECKING

from rsp.symbols.unwind.rules import (
    AtCfa,
    AtExpression,
    CfaExpression,
    FrameKind,
    RegisterOffset,
    SameValue,
    UnwindRules,
    ValCfa,
    numbers,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rsp.symbols.elf.image import Image
    from rsp.symbols.unwind.rules import CfaRule, RegisterRule

_BREG0, _DEREF, _CONSTS, _PLUS = 0x70, 0x06, 0x11, 0x22  # DW_OP_*

_IP = struct.Struct("<i")
_ENTRY = struct.Struct("<hhH")
IP_SIZE, ENTRY_SIZE = _IP.size, _ENTRY.size
END = 1 << 64
"""Of the address space: how far the last entry of a table reaches."""

_REGISTERS = (
    *("UNDEFINED", "PREV_SP", "DX", "DI", "BP", "SP", "R10", "R13", "BP_INDIRECT", "SP_INDIRECT"),
)
_REGISTERS_7_1 = (
    *("UNDEFINED", "AX", "DX", "SP", "BP", "DI", "R10", "R13"),
    *("PREV_SP", "SP_INDIRECT", "BP_INDIRECT"),
)
_TYPES = ("CALL", "REGS", "REGS_PARTIAL")
_TYPES_6_4 = ("UNDEFINED", "END_OF_STACK", "CALL", "REGS", "REGS_PARTIAL")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrcFormat:
    """What the last 16 bits of an entry mean.

    Attributes:
        kernel: the first version that has it.
        registers: what each value of ``sp_reg`` and ``bp_reg`` stands for (``ORC_REG_*``).
        types: what each value of ``type`` stands for.
        fields: the bit-fields after ``sp_reg:4`` and ``bp_reg:4``, and how many bits they have.
        hash: the contents of ``.orc_header``, in hex; empty for kernels without one.
    """

    kernel: str
    registers: Sequence[str]
    types: Sequence[str]
    fields: Mapping[str, int]
    hash: str = ""

    def decode(self, flags: int) -> tuple[str, str, str, bool]:
        """Return the registers that sp and bp are found by, the type, and the signal bit.

        Raises:
            ValueError: a value that the format does not define.
        """
        values: dict[str, int] = {}
        shift = 8
        for name, bits in self.fields.items():
            values[name] = flags >> shift & (1 << bits) - 1
            shift += bits
        try:
            sp, bp = self.registers[flags & 15], self.registers[flags >> 4 & 15]
            kind = self.types[values["type"]]
        except IndexError:
            raise ValueError(f"an entry with flags {flags:#x}") from None
        if self.types is _TYPES and sp == "UNDEFINED":
            kind = "END_OF_STACK" if values["end"] else "UNDEFINED"
        # Before there was a bit for it, registers were saved for nothing but an interruption.
        signal = values.get("signal", kind in ("REGS", "REGS_PARTIAL"))
        return sp, bp, kind, bool(signal)


FORMATS = (
    OrcFormat(kernel="4.14", registers=_REGISTERS, types=_TYPES, fields={"type": 2, "end": 1}),
    OrcFormat(
        kernel="6.3",
        registers=_REGISTERS,
        types=_TYPES,
        fields={"type": 2, "signal": 1, "end": 1},
        hash="db84aed4103b31dd51e017f8f79783ca985c2c51",
    ),
    OrcFormat(
        kernel="6.4",
        registers=_REGISTERS,
        types=_TYPES_6_4,
        fields={"type": 3, "signal": 1},
        hash="fe5d32bf581bd63b2ca9a5c65ba5a625eab3fe24",
    ),
    OrcFormat(
        kernel="6.12 with AX",
        registers=(*_REGISTERS, "AX"),
        types=_TYPES_6_4,
        fields={"type": 3, "signal": 1},
        hash="edfa4d15552fdd2e1d56679728416379f2fe4534",
    ),
    OrcFormat(
        kernel="7.1",
        registers=_REGISTERS_7_1,
        types=_TYPES_6_4,
        fields={"type": 3, "signal": 1},
        hash="137c36ad7627c4dd55932176bb0ecdbd5041fc82",
    ),
)
_4_14, _6_3, _6_4 = FORMATS[:3]

_SP_REGISTERS = {
    "SP": "rsp",
    "BP": "rbp",
    "SP_INDIRECT": "rsp",
    "BP_INDIRECT": "rbp",
    "AX": "rax",
    "DX": "rdx",
    "DI": "rdi",
    "R10": "r10",
    "R13": "r13",
}
_KINDS = {
    "CALL": FrameKind.CALL,
    "REGS": FrameKind.REGS,
    "REGS_PARTIAL": FrameKind.REGS_PARTIAL,
    "END_OF_STACK": FrameKind.END,
}
# Linux arch/x86/include/asm/ptrace.h, struct pt_regs; what the CPU pushes is its end.
_PUSHED = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"),
    *("rax", "rcx", "rdx", "rsi", "rdi", "orig_rax"),
)
_IRET_FRAME = ("rip", "cs", "eflags", "rsp", "ss")


class OrcTable:
    """The ORC entries of an image; without any, it covers no address.

    >>> from rsp.symbols.elf.image import Image
    >>> from rsp.testing.boot import ELF
    >>> len(OrcTable(Image(ELF)))
    0
    """

    def __init__(self, image: Image) -> None:
        self._entries = image.contents(".orc_unwind")
        self._ips = image.contents(".orc_unwind_ip")
        self._header = image.contents(".orc_header")
        section = image.named(".orc_unwind_ip")
        self._base = section.address if section else 0

    def __len__(self) -> int:
        return min(len(self._ips) // IP_SIZE, len(self._entries) // ENTRY_SIZE)

    def rules_at(self, address: int) -> UnwindRules | None:
        """Return the rules for an address, None where no entry covers it.

        Raises:
            BadImage: the entry makes no sense, or the format is none that is known.
        """
        place = self._find(address)
        if place < 0:
            return None
        index = self._index(place)
        last = place + 1 == len(self)
        try:
            return rules_of(
                self._entries[ENTRY_SIZE * index : ENTRY_SIZE * (index + 1)],
                self.format,
                begin=self._address(index),
                end=END if last else min(END, self._address(self._index(place + 1))),
            )
        except ValueError as error:
            self._entries.fail(ENTRY_SIZE * index, str(error))

    def switches_stack(self, address: int) -> bool:
        """Return whether the frame's caller is on another stack, which code has changed from.

        Raises:
            BadImage: as `rules_at`.
        """
        place = self._find(address)
        if place < 0:
            return False
        at = ENTRY_SIZE * self._index(place)
        try:
            return self.format.decode(self._entries.unsigned(at + 4, 2))[0] == "SP_INDIRECT"
        except ValueError as error:
            self._entries.fail(at, str(error))

    @cached_property
    def format(self) -> OrcFormat:
        """The format of the entries.

        Raises:
            BadImage: ``.orc_header`` names one that is not known.
        """
        if len(self._header):
            found = self._header[:].hex()
            for each in FORMATS:
                if each.hash == found:
                    return each
            self._header.fail(0, f"ORC entries of an unknown format ({found[:40]})")
        used = set(self._flags())
        if not any(flags & 0xF and not flags & 0x700 for flags in used):
            return _6_4
        return _6_3 if any(flags & 0x800 for flags in used) else _4_14

    @cached_property
    def _order(self) -> Sequence[int] | None:
        """The entries by address, None where they are in that order already.

        That is so in a kernel from 5.6 on; modules, and kernels before, are sorted when loaded.
        """
        offsets = _numbers("i", self._ips.view[: IP_SIZE * len(self)])
        # The address of an entry is its offset plus four for each one before it.
        if min(map(sub, islice(offsets, 1, None), offsets), default=0) >= -4:
            return None
        # Of two for the same address, one fills the gap behind an object file: the other counts.
        flags = self._flags()
        gaps = {each for each in set(flags) if self._fills_gap(each)}
        return sorted(
            range(len(self)), key=lambda index: (self._address(index), flags[index] not in gaps)
        )

    def _flags(self) -> Sequence[int]:
        return _numbers("H", self._entries.view[: ENTRY_SIZE * len(self)])[2::3]

    def _fills_gap(self, flags: int) -> bool:
        try:
            return self.format.decode(flags)[2] == "UNDEFINED"
        except ValueError:
            return False

    def _index(self, place: int) -> int:
        return self._order[place] if self._order is not None else place

    def _address(self, index: int) -> int:
        offset: int = _IP.unpack_from(self._ips.view, IP_SIZE * index)[0]
        # Not cut to 64 bits: in a module, code without an address can be out of reach.
        return self._base + IP_SIZE * index + offset

    def _find(self, address: int) -> int:
        """Return the place, in the order of addresses, of the entry for an address, or -1."""
        order = self._order if self._order is not None else range(len(self))
        return bisect_right(order, address, key=self._address) - 1


def rules_of(entry: bytes, orc_format: OrcFormat, *, begin: int, end: int) -> UnwindRules | None:
    """Return what an entry says of the addresses that it is valid for, None if nothing.

    Raises:
        ValueError: it makes no sense.
    """
    sp_offset, bp_offset, flags = _ENTRY.unpack(entry)
    sp, bp, kind, signal = orc_format.decode(flags)
    if kind == "UNDEFINED":
        return None
    number = numbers("x86-64")
    cfa: CfaRule = RegisterOffset(number["rsp"], 0)
    registers: dict[int, RegisterRule] = {}
    if kind != "END_OF_STACK":
        base = _SP_REGISTERS.get(sp)
        if base is None or bp not in ("UNDEFINED", "PREV_SP", "BP"):
            raise ValueError(f"an entry with sp_reg {sp} and bp_reg {bp}")
        cfa = _cfa(sp, number[base], sp_offset, kind)
        registers = _saved(kind, base)
        if bp == "PREV_SP":
            registers[number["rbp"]] = AtCfa(bp_offset)
        elif bp == "BP":
            registers[number["rbp"]] = AtExpression(_breg(number["rbp"], bp_offset))
    return UnwindRules(
        begin=begin,
        end=end,
        cfa=cfa,
        registers=registers,
        return_address=number["rip"],
        signal_frame=signal,
        kind=_KINDS[kind],
    )


def _cfa(sp: str, base: int, offset: int, kind: str) -> CfaRule:
    if sp in ("SP", "BP"):
        return RegisterOffset(base, offset)
    if sp == "BP_INDIRECT":
        return CfaExpression(bytes((*_breg(base, offset), _DEREF)))
    if sp == "SP_INDIRECT":
        # Up to 5.11 the offset went to the pointer's address, and only entry code had such
        # entries; since 87ccc826bf1c it goes to the pointer, and only calls have them.
        if kind != "CALL":
            return CfaExpression(bytes((*_breg(base, offset), _DEREF)))
        return CfaExpression(bytes((*_breg(base, 0), _DEREF, _CONSTS, *_sleb(offset), _PLUS)))
    return RegisterOffset(base, 0)  # the kernel does not look at the offset of the others


def _saved(kind: str, base: str) -> dict[int, RegisterRule]:
    number = numbers("x86-64")
    if kind == "CALL":
        return {
            number["rip"]: AtCfa(-8),
            number["rsp"]: ValCfa(0),
            number["rbp"]: SameValue(),
        }
    rules: dict[int, RegisterRule] = {}
    on_stack: tuple[str, ...] = _IRET_FRAME
    if kind == "REGS":
        on_stack = _PUSHED + _IRET_FRAME
    else:
        # The entry code saves the others soon; until then it uses at most the one that it looks
        # at the stack through.
        unsaved = [name for name in _PUSHED if name in number and name != base]
        rules.update((number[name], SameValue()) for name in unsaved)
    for place, name in enumerate(on_stack):
        if name in number:
            rules[number[name]] = AtCfa(8 * place)
    return rules


def _numbers(code: str, data: memoryview) -> array[int]:
    numbers = array(code, data.tobytes())
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _breg(register: int, offset: int) -> bytes:
    return bytes((_BREG0 + register, *_sleb(offset)))


def _sleb(value: int) -> bytes:
    encoded = bytearray()
    while not -64 <= value < 64:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value & 0x7F)
    return bytes(encoded)
