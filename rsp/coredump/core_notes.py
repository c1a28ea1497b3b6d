"""What the notes of a core say: threads with their registers, the process, the machine's CPUs.

Contents: the structures of the kernel, and of QEMU, as values. Not here: finding the notes in the
file (see `core_file`), where what is in a note (see `note_layout`), and memory (see `core_memory`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rsp.arch.flags import Cr4
from rsp.arch.modes import CpuState, DescriptorTable, Segment, exact_mode
from rsp.coredump.note_layout import (
    AMD_PARTS,
    AVX512_BITS,
    AVX_BIT,
    CORE,
    FXSAVE,
    FXSAVE_SIZE,
    INTEL_PARTS,
    LINUX,
    MASKS_BIT,
    MORE_BIT,
    NT_AUXV,
    NT_FILE,
    NT_FPREGSET,
    NT_PRPSINFO,
    NT_PRSTATUS,
    NT_PRXFPREG,
    NT_SIGINFO,
    NT_X86_XSTATE,
    PKRU_BIT,
    QEMU,
    QEMU_REGISTERS,
    QEMU_SEGMENT,
    QEMU_SEGMENTS,
    SSE_BIT,
    ST_AT,
    UPPER_BIT,
    USER_REGISTERS,
    VMCOREINFO,
    X87_BIT,
    XCR0_AT,
    XMM_AT,
    XSTATE_BV_AT,
    YMM_AT,
)
from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rsp.coredump.core_file import CoreFile

_STATUS: Final = {
    8: struct.Struct("<12xhxx16xi"),  # pr_cursig, pr_pid
    4: struct.Struct("<12xhxx8xi"),
}
_REGISTERS_AT: Final = {8: 112, 4: 72}
_SELECTORS: Final = frozenset(("cs", "ds", "es", "fs", "gs", "ss"))
_NAME: Final = {8: slice(40, 56), 4: slice(28, 44)}  # pr_fname
_PROCESS_AT: Final = {8: 24, 4: 12}  # pr_pid

_FSAVE: Final = struct.Struct("<HxxHxxHxxIHHIHxx")
_CPU: Final = struct.Struct("<II18Q")  # version, size, general registers, rip, rflags
_CPU_CONTROL: Final = struct.Struct("<5Q")
_ATTRIBUTES: Final = 0xFFFF00  # what is beside them in a descriptor is part of the base
_LONG: Final = 1 << 21  # of a segment's attributes


@dataclass(kw_only=True)
class CoreThread:
    """A thread of the process, or a CPU of the machine.

    Attributes:
        number: of the thread in Linux; of a CPU what the writer put there.
        signal: what stopped it, in Linux's numbering; 0 for none.
        registers: by name; what is not in the core is missing.
        siginfo: the structure that came with the signal; None without.
        state: of a CPU, what is not in a process's registers; None where nobody wrote it.
    """

    number: int
    signal: int
    registers: dict[str, int] = field(default_factory=dict)
    siginfo: bytes | None = None
    state: CpuState | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedFile:
    """A part of a file that the process had mapped.

    Attributes:
        begin, end: where in memory.
        offset: where in the file, in bytes.
        path: of the file.
    """

    begin: int
    end: int
    offset: int
    path: str

    def __repr__(self) -> str:
        return hex_repr(self)


class CoreNotes:
    """The notes of a core.

    Args:
        core: the file.

    Attributes:
        threads: those of the process, the first of them the one that the signal was for; of a
            machine its CPUs.
        process: the number of the process; None of a machine.
        name: of the program; empty where nobody wrote it.
        auxv: the auxiliary vector; None without.
        files: the files that were mapped.
        vmcoreinfo: what a kernel says of itself, by its keys; empty without.
        is_machine: whether it is the core of a machine.
    """

    def __init__(self, core: CoreFile) -> None:
        self.threads: list[CoreThread] = []
        self.process: int | None = None
        self.name: str = ""
        self.auxv: bytes | None = None
        self.files: tuple[MappedFile, ...] = ()
        self.vmcoreinfo: dict[str, str] = {}
        word = core.word_size
        states = []
        for note in core.notes:
            data = note.data
            thread = self.threads[-1] if self.threads else None
            if note.owner == QEMU:
                states.append(_cpu(data))
            elif note.owner == VMCOREINFO:
                text = data.rstrip(b"\0").decode("utf-8", "replace")
                pairs = (line.partition("=") for line in text.splitlines())
                self.vmcoreinfo = {key: value for key, equals, value in pairs if equals}
            elif note.owner not in (CORE, LINUX):
                continue
            elif note.type == NT_PRSTATUS:
                if (found := _status(data, word)) is not None:
                    self.threads.append(found)
            elif note.type == NT_PRPSINFO and self.process is None:
                at = _PROCESS_AT[word]
                self.process = int.from_bytes(data[at : at + 4], "little")
                self.name = data[_NAME[word]].partition(b"\0")[0].decode("utf-8", "replace")
            elif note.type == NT_AUXV:
                self.auxv = data
            elif note.type == NT_FILE:
                self.files = tuple(_files(data, word))
            elif thread is None:
                continue
            elif note.type == NT_SIGINFO:
                thread.siginfo = data
            elif note.type == NT_FPREGSET:
                thread.registers |= _fxsave(data, 16) if word == 8 else _fsave(data)
            elif note.type == NT_PRXFPREG and word == 4:
                thread.registers |= _fxsave(data, 8)
            elif note.type == NT_X86_XSTATE:
                thread.registers |= _xsave(data, 16 if word == 8 else 8)
        self.is_machine: bool = bool(
            states or self.vmcoreinfo or any(each.physical for each in core.segments)
        )
        if self.is_machine:
            self.process = None
            # kcore has one of the process that reads it, without registers.
            self.threads = [each for each in self.threads if any(each.registers.values())]
        for thread, (registers, state) in zip(self.threads, filter(None, states), strict=False):
            thread.registers |= registers
            thread.state = state

    @property
    def slide(self) -> int | None:
        """How far the kernel lay from its link addresses; None where nobody wrote it."""
        try:
            return int(self.vmcoreinfo["KERNELOFFSET"], 16)
        except (KeyError, ValueError):
            return None


def _status(data: bytes, word: int) -> CoreThread | None:
    names, at = USER_REGISTERS[word], _REGISTERS_AT[word]
    if len(data) < at + word * len(names):
        return None
    signal, number = _STATUS[word].unpack_from(data)
    values = struct.unpack_from(f"<{len(names)}{'Q' if word == 8 else 'I'}", data, at)
    registers = dict(zip(names, values, strict=True))
    for name in _SELECTORS:
        registers[name] &= 0xFFFF
    registers["eflags"] &= 0xFFFFFFFF
    return CoreThread(number=number, signal=signal, registers=registers)


def _files(data: bytes, word: int) -> Iterator[MappedFile]:
    count = int.from_bytes(data[:word], "little")
    page = int.from_bytes(data[word : 2 * word], "little")
    table = 2 * word
    paths = data[table + 3 * word * count :].split(b"\0")
    for number in range(min(count, len(paths))):
        begin, end, offset = struct.unpack_from(
            "<3Q" if word == 8 else "<3I", data, table + 3 * word * number
        )
        path = paths[number].decode("utf-8", "surrogateescape")
        yield MappedFile(begin=begin, end=end, offset=offset * page, path=path)


# --- floating point and vectors ---


def _fxsave(data: bytes, vectors: int) -> dict[str, int]:
    """Read FXSAVE's area, as the 64-bit kernel and gdb fill it."""
    if len(data) < FXSAVE_SIZE:
        return {}
    control, status, tags, opcode, ip, cs, dp, ds, mxcsr = FXSAVE.unpack_from(data)
    stack = [data[ST_AT + 16 * n : ST_AT + 10 + 16 * n] for n in range(8)]
    found = {f"st{n}": int.from_bytes(each, "little") for n, each in enumerate(stack)}
    found |= _x87(control, status, _full_tags(tags, status, stack), opcode, (ip, cs), (dp, ds))
    found["mxcsr"] = mxcsr
    for n in range(vectors):
        at = XMM_AT + 16 * n
        found[f"xmm{n}"] = int.from_bytes(data[at : at + 16], "little")
    return found


def _fsave(data: bytes) -> dict[str, int]:
    """Read FSAVE's area, which 32-bit processes have."""
    if len(data) < 108:
        return {}
    control, status, tags, ip, cs, opcode, dp, ds = _FSAVE.unpack_from(data)
    found = _x87(control, status, tags, opcode & 0x7FF, (ip, cs), (dp, ds))
    for n in range(8):
        at = _FSAVE.size + 10 * n
        found[f"st{n}"] = int.from_bytes(data[at : at + 10], "little")
    return found


def _xsave(data: bytes, vectors: int) -> dict[str, int]:
    """Read XSAVE's area in its standard form; a part in its initial state is all zeros."""
    if len(data) < YMM_AT:
        return {}
    found = _fxsave(data, vectors)
    enabled = int.from_bytes(data[XCR0_AT : XCR0_AT + 8], "little")
    present = int.from_bytes(data[XSTATE_BV_AT : XSTATE_BV_AT + 8], "little")
    if not present & SSE_BIT:
        found |= {f"xmm{n}": 0 for n in range(vectors)}
    if enabled & AVX_BIT and len(data) >= YMM_AT + 16 * vectors:
        for n in range(vectors):
            at = YMM_AT + 16 * n
            high = int.from_bytes(data[at : at + 16], "little")
            found[f"ymm{n}h"] = high if present & AVX_BIT else 0
    *parts, keys_at = INTEL_PARTS if len(data) >= INTEL_PARTS[-1] else AMD_PARTS
    if enabled & AVX512_BITS == AVX512_BITS and len(data) >= keys_at:
        found |= _avx512(data, present, vectors, parts)
    if enabled & PKRU_BIT and len(data) >= keys_at + 4:
        found["pkru"] = _number(data, keys_at, 4) if present & PKRU_BIT else 0
    if not present & X87_BIT:  # it was never used
        clear = {f"st{n}": 0 for n in range(8)}
        found |= clear | _x87(0x37F, 0, 0xFFFF, 0, (0, 0), (0, 0))
    return found


def _avx512(data: bytes, present: int, vectors: int, parts: Sequence[int]) -> dict[str, int]:
    masks_at, upper_at, more_at = parts
    masks, upper, more = (bool(present & bit) for bit in (MASKS_BIT, UPPER_BIT, MORE_BIT))
    found = {f"k{n}": masks * _number(data, masks_at + 8 * n, 8) for n in range(8)}
    for n in range(vectors):
        found[f"zmm{n}h"] = upper * _number(data, upper_at + 32 * n, 32)
    for n in range(16, 32) if vectors == 16 else ():
        at = more_at + 64 * (n - 16)
        found[f"xmm{n}"] = more * _number(data, at, 16)
        found[f"ymm{n}h"] = more * _number(data, at + 16, 16)
        found[f"zmm{n}h"] = more * _number(data, at + 32, 32)
    return found


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _x87(
    control: int, status: int, tags: int, opcode: int, ip: tuple[int, int], dp: tuple[int, int]
) -> dict[str, int]:
    return {
        "fctrl": control,
        "fstat": status,
        "ftag": tags,
        "fiseg": ip[1],
        "fioff": ip[0],
        "foseg": dp[1],
        "fooff": dp[0],
        "fop": opcode,
    }


def _full_tags(abridged: int, status: int, stack: list[bytes]) -> int:
    """Return the tag word of FSAVE: FXSAVE's has one bit for each register, which is not empty."""
    top = status >> 11 & 7
    tags = 0
    for physical in range(8):
        tag = 3
        if abridged >> physical & 1:
            value = int.from_bytes(stack[(physical - top) % 8], "little")
            exponent, fraction = value >> 64 & 0x7FFF, value & (1 << 64) - 1
            if exponent == 0x7FFF:
                tag = 2
            elif exponent == 0:
                tag = 2 if fraction else 1
            else:
                tag = 0 if fraction >> 63 else 2
        tags |= tag << 2 * physical
    return tags


# --- a CPU of QEMU ---


def _cpu(data: bytes) -> tuple[dict[str, int], CpuState] | None:
    """Read QEMUCPUState."""
    at = _CPU.size
    if len(data) < at + len(QEMU_SEGMENTS) * QEMU_SEGMENT.size + _CPU_CONTROL.size:
        return None
    _, _, *values = _CPU.unpack_from(data)
    registers = dict(zip((*QEMU_REGISTERS, "eflags"), values, strict=True))
    segments: dict[str, Segment] = {}
    for name in QEMU_SEGMENTS:
        selector, limit, attributes, _, base = QEMU_SEGMENT.unpack_from(data, at)
        segments[name] = Segment(
            selector=selector & 0xFFFF, base=base, limit=limit, attributes=attributes & _ATTRIBUTES
        )
        at += QEMU_SEGMENT.size
    cr0, _, cr2, cr3, cr4 = _CPU_CONTROL.unpack_from(data, at)
    gdt, idt = segments.pop("gdt"), segments.pop("idt")
    ldt, tr = segments.pop("ldt"), segments.pop("tr")
    # EFER is not there. Only in long mode CS.L can be set, or a table be above 4 GiB.
    is_long = bool(
        cr4 & Cr4.PAE and (segments["cs"].attributes & _LONG or (gdt.base | idt.base) >> 32)
    )
    mode = exact_mode(cr0, registers["eflags"], is_long, segments["cs"].attributes)
    state = CpuState(
        mode=mode,
        pc=registers["rip"],
        eflags=registers["eflags"],
        cpl=segments["ss"].attributes >> 13 & 3,
        halted=False,
        segments=segments,
        ldt=ldt,
        tr=tr,
        gdt=DescriptorTable(base=gdt.base, limit=gdt.limit),
        idt=DescriptorTable(base=idt.base, limit=idt.limit),
        cr0=cr0,
        cr2=cr2,
        cr3=cr3,
        cr4=cr4,
        efer=None,
    )
    registers |= {name: each.selector for name, each in segments.items()}
    registers |= {"fs_base": segments["fs"].base, "gs_base": segments["gs"].base}
    registers |= {"cr0": cr0, "cr2": cr2, "cr3": cr3, "cr4": cr4}
    end = at + _CPU_CONTROL.size
    if len(data) >= end + 8:
        registers["k_gs_base"] = int.from_bytes(data[end : end + 8], "little")
    return registers, state
