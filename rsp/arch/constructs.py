"""The declarations in construct: the one place that imports it, and itself imported late.

Contents: x86 structures of memory as construct declarations, and the making of one from a list of
integers. Not here: what the fields mean (``descriptors``, ``layout``).

Descriptors and table entries are declared from the highest bit down, as the figures of Intel's
SDM draw them, and byte-swapped as a whole: x86 stores the lowest byte first.

Sources: Intel SDM volume 3A, figures 3-8 (segment descriptor), 6-2 and 6-8 (gates), 8-4 (64-bit
TSS descriptor), 4-4, 4-7 and 4-11 (paging entries); Linux arch/x86/include/asm/ptrace.h.
"""

# construct says nothing of its types: to pyright its declarations are the classes that they are of.
# pyright: reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from construct import (
    BitsInteger,
    BitStruct,
    BytesInteger,
    ByteSwapped,
    Flag,
    Int8ul,
    Int16ul,
    Int32ul,
    Int64ul,
    Padding,
    Struct,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNSIGNED = {1: Int8ul, 2: Int16ul, 4: Int32ul, 8: Int64ul}


def _unsigned(size: int) -> Any:
    return _UNSIGNED.get(size) or BytesInteger(size, swapped=True)


def integers(fields: Iterable[tuple[str, int, int | None]]) -> Any:
    """Integers one behind the other as a Struct.

    Args:
        fields: of each its name, its size in bytes, and the mask of its bits that have a meaning;
            None for all of them, 0 for padding.
    """
    declared = []
    for name, size, valid in fields:
        if valid == 0:
            declared.append(Padding(size))
        elif valid is None:
            declared.append(name / _unsigned(size))
        else:
            used = valid.bit_length() // 8
            assert valid == (1 << used * 8) - 1
            declared.append(name / _unsigned(used))
            declared.append(Padding(size - used))
    return Struct(*declared)


def _bits(*fields: Any) -> Any:
    return ByteSwapped(BitStruct(*fields))


_DESCRIPTOR = (
    "base_high" / BitsInteger(8),
    "granularity" / Flag,
    "default_big" / Flag,
    "long" / Flag,
    "available" / Flag,
    "limit_high" / BitsInteger(4),
    "present" / Flag,
    "dpl" / BitsInteger(2),
    "code_or_data" / Flag,
    "type" / BitsInteger(4),
    "base_low" / BitsInteger(24),
    "limit_low" / BitsInteger(16),
)

SEGMENT_DESCRIPTOR = _bits(*_DESCRIPTOR)
"""An entry of the GDT or an LDT, 8 bytes."""

LONG_SYSTEM_DESCRIPTOR = _bits(Padding(32), "base_upper" / BitsInteger(32), *_DESCRIPTOR)
"""A TSS or LDT descriptor in long mode, 16 bytes."""

_GATE = (
    "present" / Flag,
    "dpl" / BitsInteger(2),
    Padding(1),
    "type" / BitsInteger(4),
)

GATE_32 = _bits(
    "offset_high" / BitsInteger(16),
    *_GATE,
    Padding(8),
    "selector" / BitsInteger(16),
    "offset_low" / BitsInteger(16),
)
"""An entry of the IDT outside long mode, 8 bytes."""

GATE_64 = _bits(
    Padding(32),
    "offset_high" / BitsInteger(48),
    *_GATE,
    Padding(5),
    "ist" / BitsInteger(3),
    "selector" / BitsInteger(16),
    "offset_low" / BitsInteger(16),
)
"""An entry of the IDT in long mode, 16 bytes."""

_ENTRY_FLAGS = (
    "global_" / Flag,
    "page_size" / Flag,
    "dirty" / Flag,
    "accessed" / Flag,
    "cache_disable" / Flag,
    "write_through" / Flag,
    "user" / Flag,
    "writable" / Flag,
    "present" / Flag,
)

PAGE_ENTRY_32 = _bits("frame" / BitsInteger(20), "software" / BitsInteger(3), *_ENTRY_FLAGS)
"""An entry of 32-bit paging, 4 bytes."""

PAGE_ENTRY_64 = _bits(
    "no_execute" / Flag,
    "protection_key" / BitsInteger(4),
    "software_high" / BitsInteger(7),
    "frame" / BitsInteger(40),
    "software" / BitsInteger(3),
    *_ENTRY_FLAGS,
)
"""An entry of PAE, 4-level or 5-level paging, 8 bytes."""

PT_REGS_I386: Any = Struct(
    *(
        name / Int32ul
        for name in (
            *("ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs"),
            *("orig_eax", "eip", "cs", "eflags", "esp", "ss"),
        )
    )
)
"""Linux's ``struct pt_regs`` on i386, 68 bytes, by the names of registers."""

PT_REGS_X86_64: Any = Struct(
    *(
        name / Int64ul
        for name in (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"),
            *("rax", "rcx", "rdx", "rsi", "rdi", "orig_rax"),
            *("rip", "cs", "eflags", "rsp", "ss"),
        )
    )
)
"""Linux's ``struct pt_regs`` on x86-64, 168 bytes, by the names of registers."""
