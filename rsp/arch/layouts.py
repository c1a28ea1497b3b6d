"""Who sends which registers: every ``g`` reply that the stubs in use are known to send.

Contents: the layouts, put together from the tables of ``i386`` and ``x86_64``, and the choice of
one by length. Not here: registers (the tables), and layouts that a stub describes itself
(``description``).

The length is a hint, not an identity. Trust first the stub's own target description, then what
the stub is known to be together with the length, then the caller.

Sources: QEMU target/i386/gdbstub.c in its versions; Linux arch/x86/kernel/kgdb.c; gdb
gdb/features/i386 and gdb/arch/{i386,amd64}.c; measured on QEMU 7.2.22, gdbserver 13.1 and
valgrind 3.19, and on kgdb of Linux 6.1. The lengths of Bochs, VirtualBox and of QEMU before 4 are
from source only.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from rsp.arch import i386, x86_64
from rsp.arch.layout import Kind, Register, RegisterLayout, place
from rsp.arch.x86 import SELECTOR_MASK

if TYPE_CHECKING:
    from collections.abc import Iterable

_SUB_REGISTERS = {i386.ARCH: i386.SUB_REGISTERS, x86_64.ARCH: x86_64.SUB_REGISTERS}

KNOWN = {
    i386.ARCH: {
        r.name: r
        for group in (
            i386.CORE,
            i386.X87,
            i386.SSE,
            i386.SYSTEM,
            i386.LINUX,
            i386.AVX,
            i386.AVX512,
            i386.PKEYS,
            i386.TLS_GDT,
        )
        for r in group
    },
    x86_64.ARCH: {
        r.name: r
        for group in (
            x86_64.CORE,
            x86_64.X87,
            x86_64.SSE,
            x86_64.SYSTEM,
            x86_64.LINUX,
            x86_64.AVX,
            x86_64.AVX512,
            x86_64.PKEYS,
        )
        for r in group
    },
}
"""Every register of the tables, by architecture and name, not placed in any layout."""


def make_layout(name: str, arch: str, registers: Iterable[Register]) -> RegisterLayout:
    """A layout of placed registers, with the sub-registers of its architecture."""
    return RegisterLayout(
        name=name, arch=arch, registers=tuple(registers), sub_registers=_SUB_REGISTERS[arch]
    )


def _i386(name: str, *groups: Iterable[Register]) -> RegisterLayout:
    return make_layout(name, i386.ARCH, place(r for group in groups for r in group))


def _x86_64(name: str, *groups: Iterable[Register]) -> RegisterLayout:
    return make_layout(name, x86_64.ARCH, place(r for group in groups for r in group))


# kgdb. On i386 the upper halves of the selectors are junk (0x20000060 for a cs of 0x60), and fs
# and gs are the constant 0xffff. On x86-64 ds and es are in g but never filled, and fs and gs
# answer to p only, with junk; a g that has them, as gdb's own layout does, would be no better.


def _kgdb_i386() -> RegisterLayout:
    def valid(register: Register) -> int | None:
        if register.name in {"fs", "gs"}:
            return 0
        return SELECTOR_MASK if register.kind is Kind.SELECTOR else None

    return _i386("kgdb-i386", (dataclasses.replace(r, valid=valid(r)) for r in i386.CORE))


def _kgdb_x86_64(name: str, last_in_g: str) -> RegisterLayout:
    names = [r.name for r in x86_64.CORE]
    in_g = names.index(last_in_g) + 1
    registers = (
        dataclasses.replace(
            register,
            offset=register.offset if number < in_g else None,
            valid=0 if register.name in {"ds", "es", "fs", "gs"} else None,
        )
        for number, register in enumerate(place(x86_64.CORE))
    )
    return make_layout(name, x86_64.ARCH, registers)


# VirtualBox has orders of its own (DBGFR3 gdb stub).

_VIRTUALBOX_I386 = (
    "eax ebx ecx edx esi edi ebp esp eip eflags cs ss ds es fs gs "
    "st0 st1 st2 st3 st4 st5 st6 st7 fctrl fstat ftag fop fioff fiseg fooff foseg"
)
_VIRTUALBOX_X87 = "st0 st1 st2 st3 st4 st5 st6 st7 fctrl fstat ftag fop fioff fiseg fooff foseg"


def _named(arch: str, names: str) -> list[Register]:
    return [KNOWN[arch][name] for name in names.split()]


# qemu-system-x86_64 up to 2.8 sends i386 registers outside 64-bit mode, but its numbers are those
# of x86-64, where 8 to 15 and 48 to 55 then do not exist (CPU_NB_REGS is 16 whatever the mode).


def _qemu_2_in_32_bit() -> RegisterLayout:
    registers = (*i386.CORE, *i386.X87, *i386.SSE)
    gpr, rest, xmm = 8, 32, 8  # eip to fop; then xmm0 to xmm7; then mxcsr
    numbers = [*range(gpr), *range(16, 16 + rest - gpr), *range(40, 40 + xmm), 56]
    by_name = {r.name: number for r, number in zip(registers, numbers, strict=True)}
    return make_layout("qemu-2-x86-64-in-32-bit", i386.ARCH, place(registers, numbers=by_name))


_I386_SSE = (i386.CORE, i386.X87, i386.SSE)
_X86_64_SSE = (x86_64.CORE, x86_64.X87, x86_64.SSE)
_GDBSERVER_I386 = (*_I386_SSE, i386.LINUX)
_GDBSERVER_X86_64 = (*_X86_64_SSE, x86_64.LINUX, x86_64.SEGMENT_BASES)

LAYOUTS: tuple[RegisterLayout, ...] = (
    _i386("bochs-i386", i386.CORE),
    _kgdb_i386(),
    _i386("virtualbox-i386", _named(i386.ARCH, _VIRTUALBOX_I386)),
    _i386("qemu-2-i386", *_I386_SSE),  # also gdbstub, the Rust crate
    _qemu_2_in_32_bit(),
    _i386("qemu-i386", i386.CORE, i386.SYSTEM, i386.X87, i386.SSE),
    _i386("gdbserver-i386", *_GDBSERVER_I386),  # also valgrind
    _i386("gdbserver-i386-avx", *_GDBSERVER_I386, i386.AVX),
    _i386("gdbserver-i386-avx-pkeys", *_GDBSERVER_I386, i386.AVX, i386.PKEYS),
    _i386("gdbserver-i386-avx512", *_GDBSERVER_I386, i386.AVX, i386.AVX512),
    _i386("gdbserver-i386-avx512-pkeys", *_GDBSERVER_I386, i386.AVX, i386.AVX512, i386.PKEYS),
    _kgdb_x86_64("kgdb-2.6-x86-64", last_in_g="ss"),
    _kgdb_x86_64("kgdb-x86-64", last_in_g="es"),
    _x86_64("bochs-x86-64", x86_64.CORE),
    _kgdb_x86_64("kgdb-x86-64-all", last_in_g="gs"),
    _x86_64("virtualbox-x86-64", x86_64.CORE, _named(x86_64.ARCH, _VIRTUALBOX_X87)),
    _x86_64("qemu-2-x86-64", *_X86_64_SSE),  # also gdbstub, the Rust crate
    _x86_64("qemu-4-x86-64-in-32-bit", x86_64.CORE, x86_64.SYSTEM_32_BIT, x86_64.X87, x86_64.SSE),
    _x86_64("qemu-x86-64", x86_64.CORE, x86_64.SYSTEM, x86_64.X87, x86_64.SSE),
    _x86_64("valgrind-x86-64", *_X86_64_SSE, x86_64.LINUX),  # also old gdbserver
    _x86_64("valgrind-x86-64-avx", *_X86_64_SSE, x86_64.LINUX, x86_64.AVX),
    _x86_64("gdbserver-x86-64", *_GDBSERVER_X86_64),
    _x86_64("gdbserver-x86-64-avx", *_GDBSERVER_X86_64, x86_64.AVX),
    _x86_64("gdbserver-x86-64-avx-pkeys", *_GDBSERVER_X86_64, x86_64.AVX, x86_64.PKEYS),
    _x86_64("gdbserver-x86-64-avx512", *_GDBSERVER_X86_64, x86_64.AVX, x86_64.AVX512),
    _x86_64(
        "gdbserver-x86-64-avx512-pkeys",
        *_GDBSERVER_X86_64,
        x86_64.AVX,
        x86_64.AVX512,
        x86_64.PKEYS,
    ),
)
"""Every known layout; of those of one length, the likeliest first."""


def layout_named(name: str) -> RegisterLayout:
    """Return the layout of a name.

    >>> layout_named("qemu-x86-64").size
    608
    """
    return next(each for each in LAYOUTS if each.name == name)


def layout_for_length(
    length: int, *, arch: str | None = None, stub: str | None = None
) -> RegisterLayout:
    """Choose a layout by the length of a ``g`` reply. Never fails.

    A length that no known layout has gets the amplest one that fits what is known, to be decoded
    as far as it goes: gdb's standard order, or QEMU's for QEMU.

    Args:
        length: the reply's, in bytes (not hex digits).
        arch: "i386" or "x86-64", where known.
        stub: the stub's name, where known; it decides between layouts of one length, as does
            "qemu-2-x86-64" for a QEMU up to 2.8 that has sent 536 bytes before.

    >>> layout_for_length(308).name, layout_for_length(308, stub="qemu-2-x86-64").name
    ('qemu-2-i386', 'qemu-2-x86-64-in-32-bit')
    >>> layout_for_length(64, stub="kgdb").name, layout_for_length(9999).name
    ('kgdb-i386', 'gdbserver-x86-64-avx512-pkeys')
    """
    exact = [layout for layout in LAYOUTS if layout.size == length]
    for candidates in (_of_arch(exact, arch), exact):
        if candidates:
            return (_of_stub(candidates, stub) or candidates)[0]
    if arch not in KNOWN:
        # 17 registers of 8 bytes is the least that any x86-64 stub sends.
        arch = x86_64.ARCH if length >= 17 * 8 else i386.ARCH
    same_arch = _of_arch(LAYOUTS, arch)
    return max(_of_stub(same_arch, stub) or same_arch, key=lambda layout: layout.size)


def _of_arch(layouts: Iterable[RegisterLayout], arch: str | None) -> list[RegisterLayout]:
    return [layout for layout in layouts if arch is None or layout.arch == arch]


def _of_stub(layouts: Iterable[RegisterLayout], stub: str | None) -> list[RegisterLayout]:
    return [layout for layout in layouts if stub and layout.name.startswith(f"{stub}-")]
