"""The notes of a core that is written: threads, the process, CPUs.

Contents: Linux's structures of a core as the bytes that gdb, drgn and the kernel agree on, made of
registers by their names. Not here: asking a target for any of it, and where what is in a note (see
`note_layout`).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from rsp.arch.modes import DescriptorTable
from rsp.coredump.note_layout import (
    AVX512_BITS,
    AVX_BIT,
    CORE,
    FXSAVE,
    FXSAVE_SIZE,
    INTEL_PARTS,
    LINUX,
    NT_FILE,
    NT_FPREGSET,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_PRXFPREG,
    NT_X86_XSTATE,
    PKRU_BIT,
    QEMU,
    QEMU_REGISTERS,
    QEMU_SEGMENT,
    QEMU_SEGMENTS,
    SSE_BIT,
    ST_AT,
    USER_REGISTERS,
    X87_BIT,
    XCR0_AT,
    XMM_AT,
    XSTATE_BV_AT,
    YMM_AT,
)
from rsp.coredump.write_elf import note

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from rsp.arch.modes import CpuState, Segment

    Values: TypeAlias = Mapping[str, int | None]

_NO_SYSTEM_CALL: Final = -1  # in orig_rax: the kernel restarts none

_PAGE: Final = 4096


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
    for name in USER_REGISTERS[word]:
        unknown = _NO_SYSTEM_CALL if name.startswith("orig_") else 0
        data += (_or(values.get(name), unknown) & (1 << 8 * word) - 1).to_bytes(word, "little")
    fpu = int(values.get("fctrl") is not None)
    return note(CORE, NT_PRSTATUS, data + fpu.to_bytes(word, "little"))


def float_notes(values: Values, word: int) -> bytes:
    """Return the notes of the x87, SSE, AVX and AVX-512 registers and PKRU that are known."""
    if values.get("fctrl") is None:
        return b""
    fxsave = _fxsave(values)
    if word == 8:
        notes = note(CORE, NT_FPREGSET, fxsave)
    else:
        notes = note(CORE, NT_FPREGSET, _fsave(values)) + note(LINUX, NT_PRXFPREG, fxsave)
    if values.get("ymm0h") is not None:
        notes += note(LINUX, NT_X86_XSTATE, _xsave(values, fxsave))
    return notes


def process_note(
    word: int,
    *,
    state: str = "t",
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
        flags: its PF_ flags.
        user: whose it is.
        group: the same of groups.
        ids: the process, its parent, process group and session.
        name: of the program.
        arguments: its command line.
    """
    states = "RSDTtZXxKWPI"
    number = states.find(state[:1])
    data = struct.pack("<BBBx", max(number, 0), ord(state[:1] or "t"), state == "Z")
    data += (
        struct.pack("<4xQII", flags, user, group)
        if word == 8
        else struct.pack("<IHH", flags & 0xFFFF_FFFF, user & 0xFFFF, group & 0xFFFF)
    )
    data += struct.pack("<4i16s80s", *[*ids, 0, 0, 0, 0][:4], name[:15], arguments[:79])
    return note(CORE, NT_PRPSINFO, data)


def file_note(word: int, mapped: Sequence[tuple[int, int, int, bytes]]) -> bytes:
    """Return NT_FILE: begin, end, offset in bytes and path of each mapping of a file."""
    code = "Q" if word == 8 else "I"
    data = struct.pack(f"<2{code}", len(mapped), _PAGE)
    for begin, end, offset, _ in mapped:
        data += struct.pack(f"<3{code}", begin, end, offset // _PAGE)
    return note(CORE, NT_FILE, data + b"".join(path + b"\0" for *_, path in mapped))


def qemu_note(values: Values, state: CpuState) -> bytes:
    """Return QEMU's own note of a CPU: what ``dump-guest-memory`` writes of its registers."""
    data = b"".join(
        struct.pack("<Q", _or(values.get(name), _or(values.get(_narrow(name)), 0)))
        for name in QEMU_REGISTERS
    )
    data += struct.pack("<Q", state.eflags)
    known: dict[str, Segment | DescriptorTable] = {**state.segments}
    known |= {"ldt": state.ldt, "tr": state.tr, "gdt": state.gdt, "idt": state.idt}
    data += b"".join(_segment(known[name]) for name in QEMU_SEGMENTS)
    cr = (state.cr0, 0, state.cr2, state.cr3, state.cr4)
    data += struct.pack("<6Q", *cr, _or(values.get("k_gs_base"), 0))
    return note(QEMU, 0, struct.pack("<II", 1, 8 + len(data)) + data)


def _narrow(name: str) -> str:
    """Return the name of a 64-bit register's lower half, as a 32-bit CPU has it."""
    return "e" + name[1:]


def _segment(segment: Segment | DescriptorTable) -> bytes:
    if isinstance(segment, DescriptorTable):
        return QEMU_SEGMENT.pack(0, segment.limit, 0, 0, segment.base)
    return QEMU_SEGMENT.pack(segment.selector, segment.limit, segment.attributes, 0, segment.base)


def _or(value: int | None, unknown: int) -> int:
    return unknown if value is None else value


def _known(values: Values, name: str) -> int:
    return _or(values.get(name), 0)


def _fxsave(values: Values) -> bytes:
    """Return the 512 bytes of FXSAVE."""
    area = bytearray(FXSAVE_SIZE)
    # Two bits a register become one: whether it is not empty.
    tags = _known(values, "ftag")
    full = sum(1 << n for n in range(8) if tags >> 2 * n & 3 != 3)
    FXSAVE.pack_into(
        *(area, 0),
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
    for at, kind, count, size in ((ST_AT, "st", 8, 10), (XMM_AT, "xmm", 16, 16)):
        for n in range(count):
            begin = at + 16 * n
            area[begin : begin + size] = _known(values, f"{kind}{n}").to_bytes(size, "little")
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
    """Return the XSAVE area as Intel's CPUs have it, as long as what is known of it takes."""
    enabled = X87_BIT | SSE_BIT | AVX_BIT
    masks_at, upper_at, more_at, keys_at = INTEL_PARTS
    end = YMM_AT + 16 * 16
    if values.get("k0") is not None:
        enabled |= AVX512_BITS
        end = keys_at
    if values.get("pkru") is not None:
        enabled |= PKRU_BIT
        end = keys_at + 8
    area = bytearray(end)
    area[: len(fxsave)] = fxsave
    struct.pack_into("<Q", area, XCR0_AT, enabled)
    struct.pack_into("<Q", area, XSTATE_BV_AT, enabled)

    def put(at: int, name: str, size: int) -> None:
        area[at : at + size] = _known(values, name).to_bytes(size, "little")

    for n in range(16):
        put(YMM_AT + 16 * n, f"ymm{n}h", 16)
    if enabled & AVX512_BITS:
        for n in range(8):
            put(masks_at + 8 * n, f"k{n}", 8)
        for n in range(16):
            put(upper_at + 32 * n, f"zmm{n}h", 32)
            high = more_at + 64 * n
            put(high, f"xmm{16 + n}", 16)
            put(high + 16, f"ymm{16 + n}h", 16)
            put(high + 32, f"zmm{16 + n}h", 32)
    if enabled & PKRU_BIT:
        put(keys_at, "pkru", 4)
    return bytes(area)
