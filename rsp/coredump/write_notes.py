"""The notes of a core that is written: threads, the process, CPUs.

Contents: Linux's structures of a core as the bytes that gdb, drgn and the kernel agree on, made of
registers by their names. Not here: asking a target for any of it.

Sources: Linux include/linux/elfcore.h, arch/x86/include/asm/{user_64,user_32,fpu/types}.h; Intel
SDM volume 1, sections 10.5.1 (FXSAVE) and 13.4 (the XSAVE area); QEMU target/i386/arch_dump.c.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from rsp.coredump.write_elf import note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from rsp.arch.modes import CpuState, Segment

    Values: TypeAlias = Mapping[str, int | None]

NT_PRSTATUS: Final = 1
NT_FPREGSET: Final = 2
NT_PRPSINFO: Final = 3
NT_AUXV: Final = 6
NT_X86_XSTATE: Final = 0x202
NT_PRXFPREG: Final = 0x46E6_2B7F
NT_SIGINFO: Final = 0x5349_4749
NT_FILE: Final = 0x4649_4C45

_CORE: Final = "CORE"
_LINUX: Final = "LINUX"
_QEMU: Final = "QEMU"

# The order of struct user_regs_struct.
_USER_64: Final = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"),
    *("rax", "rcx", "rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss"),
    *("fs_base", "gs_base", "ds", "es", "fs", "gs"),
)
_USER_32: Final = (
    *("ebx", "ecx", "edx", "esi", "edi", "ebp", "eax", "ds", "es", "fs", "gs", "orig_eax"),
    *("eip", "cs", "eflags", "esp", "ss"),
)
# The order of QEMU's note.
_QEMU_GENERAL: Final = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"),
)
_NO_SYSTEM_CALL: Final = -1  # in orig_rax: the kernel restarts none

_PAGE: Final = 4096
_XCR0_AT: Final = 464  # where Linux tells a debugger XCR0, in bytes that the CPU does not use
_XSTATE_BV_AT: Final = 512
# The standard form of the XSAVE area as Intel's CPUs have it: component bit, and where it ends.
_X87_SSE: Final = (0b11, 576)
_AVX: Final = (1 << 2, 832)
_AVX512: Final = (0b111 << 5, 2688)
_PKRU: Final = (1 << 9, 2696)
_YMM_AT, _K_AT, _ZMM_HIGH_AT, _HIGH_ZMM_AT, _PKRU_AT = 576, 1088, 1152, 1664, 2688


def prstatus(
    values: Values, word: int, *, thread: int, parent: Sequence[int] = (), signal: int = 0
) -> bytes:
    """Return NT_PRSTATUS: the general registers of a thread, or of a CPU.

    Args:
        values: registers by name; what is not known is 0.
        word: 8 or 4, of the registers.
        thread: the number of the thread.
        parent: parent, process group and session of the process, as far as they are known.
        signal: Linux's number of the signal that it has stopped for.
    """
    code = "Q" if word == 8 else "I"
    ids = [thread, *parent, 0, 0, 0][:4]
    data = struct.pack("<iiihh", signal, 0, 0, signal, 0)
    data += struct.pack(f"<2{code}", 0, 0) + struct.pack("<4i", *ids) + bytes(8 * word)
    for name in _USER_64 if word == 8 else _USER_32:
        unknown = _NO_SYSTEM_CALL if name.startswith("orig_") else 0
        data += (_or(values.get(name), unknown) & (1 << 8 * word) - 1).to_bytes(word, "little")
    fpu = int(values.get("fctrl") is not None)
    return note(_CORE, NT_PRSTATUS, data + fpu.to_bytes(word, "little"))


def float_notes(values: Values, word: int) -> bytes:
    """Return the notes of the x87, SSE, AVX and AVX-512 registers and PKRU that are known."""
    if values.get("fctrl") is None:
        return b""
    fxsave = _fxsave(values)
    if word == 8:
        notes = note(_CORE, NT_FPREGSET, fxsave)
    else:
        notes = note(_CORE, NT_FPREGSET, _fsave(values)) + note(_LINUX, NT_PRXFPREG, fxsave)
    if values.get("ymm0h") is not None:
        notes += note(_LINUX, NT_X86_XSTATE, _xsave(values, fxsave))
    return notes


def process_note(
    word: int,
    *,
    state: str = "t",
    nice: int = 0,
    flags: int = 0,
    user: int = 0,
    group: int = 0,
    ids: Sequence[int],
    name: bytes,
    arguments: bytes,
) -> bytes:
    """Return NT_PRPSINFO.

    Args:
        word: 8 or 4, of the process.
        state: the letter of ``ps``.
        nice: its nice value.
        flags: its PF_ flags.
        user: whose it is.
        group: the same of groups.
        ids: the process, its parent, process group and session.
        name: of the program.
        arguments: its command line.
    """
    states = "RSDTtZXxKWPI"
    number = states.find(state[:1])
    data = struct.pack("<BBBb", max(number, 0), ord(state[:1] or "t"), state == "Z", nice)
    data += (
        struct.pack("<4xQII", flags, user, group)
        if word == 8
        else struct.pack("<IHH", flags & 0xFFFF_FFFF, user & 0xFFFF, group & 0xFFFF)
    )
    data += struct.pack("<4i16s80s", *[*ids, 0, 0, 0, 0][:4], name[:15], arguments[:79])
    return note(_CORE, NT_PRPSINFO, data)


def file_note(word: int, mapped: Sequence[tuple[int, int, int, bytes]]) -> bytes:
    """Return NT_FILE: begin, end, offset in bytes and path of each mapping of a file."""
    code = "Q" if word == 8 else "I"
    data = struct.pack(f"<2{code}", len(mapped), _PAGE)
    for begin, end, offset, _ in mapped:
        data += struct.pack(f"<3{code}", begin, end, offset // _PAGE)
    return note(_CORE, NT_FILE, data + b"".join(path + b"\0" for *_, path in mapped))


def qemu_note(values: Values, state: CpuState) -> bytes:
    """Return QEMU's own note of a CPU: what ``dump-guest-memory`` writes of its registers."""
    data = b"".join(
        struct.pack("<Q", _or(values.get(name), _or(values.get(_narrow(name)), 0)))
        for name in _QEMU_GENERAL
    )
    data += struct.pack("<Q", state.eflags)
    data += b"".join(
        _segment(state.segments[name]) for name in ("cs", "ds", "es", "fs", "gs", "ss")
    )
    data += _segment(state.ldt) + _segment(state.tr)
    for table in (state.gdt, state.idt):
        data += struct.pack("<IIIIQ", 0, table.limit, 0, 0, table.base)
    cr = (state.cr0, 0, state.cr2, state.cr3, state.cr4)
    data += struct.pack("<6Q", *cr, _or(values.get("k_gs_base"), 0))
    return note(_QEMU, 0, struct.pack("<II", 1, 8 + len(data)) + data)


def _narrow(name: str) -> str:
    """Return the name of a 64-bit register's lower half, as a 32-bit CPU has it."""
    return "e" + name[1:]


def _segment(segment: Segment) -> bytes:
    return struct.pack(
        "<IIIIQ", segment.selector, segment.limit, segment.attributes, 0, segment.base
    )


def _or(value: int | None, unknown: int) -> int:
    return unknown if value is None else value


def _known(values: Values, name: str) -> int:
    return _or(values.get(name), 0)


def _fxsave(values: Values) -> bytes:
    """Return the 512 bytes of FXSAVE."""
    area = bytearray(512)
    # Two bits a register become one: whether it is not empty.
    tags = _known(values, "ftag")
    full = sum(1 << n for n in range(8) if tags >> 2 * n & 3 != 3)
    struct.pack_into(
        *("<HHBxHIHxxIHxxI", area, 0),
        _known(values, "fctrl") & 0xFFFF,
        _known(values, "fstat") & 0xFFFF,
        full,
        _known(values, "fop") & 0x7FF,
        _known(values, "fioff"),
        _known(values, "fiseg") & 0xFFFF,
        _known(values, "fooff"),
        _known(values, "foseg") & 0xFFFF,
        _known(values, "mxcsr"),
    )
    for n in range(8):
        area[32 + 16 * n : 42 + 16 * n] = _known(values, f"st{n}").to_bytes(10, "little")
    for n in range(16):
        area[160 + 16 * n : 176 + 16 * n] = _known(values, f"xmm{n}").to_bytes(16, "little")
    return bytes(area)


def _fsave(values: Values) -> bytes:
    """Return the 108 bytes of FSAVE; Linux sets the upper halves of the first three words."""
    data = struct.pack(
        "<7I",
        *(0xFFFF_0000 | _known(values, name) & 0xFFFF for name in ("fctrl", "fstat", "ftag")),
        _known(values, "fioff"),
        _known(values, "fiseg") & 0xFFFF | (_known(values, "fop") & 0x7FF) << 16,
        _known(values, "fooff"),
        _known(values, "foseg"),
    )
    return data + b"".join(_known(values, f"st{n}").to_bytes(10, "little") for n in range(8))


def _xsave(values: Values, fxsave: bytes) -> bytes:
    """Return the XSAVE area, as long as what is known of it takes."""
    parts = [_X87_SSE, _AVX]
    if values.get("k0") is not None:
        parts.append(_AVX512)
    if values.get("pkru") is not None:
        parts.append(_PKRU)
    enabled = sum(bits for bits, _ in parts)
    area = bytearray(parts[-1][1])
    area[: len(fxsave)] = fxsave
    struct.pack_into("<Q", area, _XCR0_AT, enabled)
    struct.pack_into("<Q", area, _XSTATE_BV_AT, enabled)

    def put(at: int, name: str, size: int) -> None:
        area[at : at + size] = _known(values, name).to_bytes(size, "little")

    for n in range(16):
        put(_YMM_AT + 16 * n, f"ymm{n}h", 16)
    if _AVX512 in parts:
        for n in range(8):
            put(_K_AT + 8 * n, f"k{n}", 8)
        for n in range(16):
            put(_ZMM_HIGH_AT + 32 * n, f"zmm{n}h", 32)
            high = _HIGH_ZMM_AT + 64 * n
            put(high, f"xmm{16 + n}", 16)
            put(high + 16, f"ymm{16 + n}h", 16)
            put(high + 32, f"zmm{16 + n}h", 32)
    if _PKRU in parts:
        put(_PKRU_AT, "pkru", 4)
    return bytes(area)
