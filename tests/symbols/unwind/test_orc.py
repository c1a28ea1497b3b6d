"""ORC: its formats byte for byte, a kernel's against its call frame information, and damage."""

from __future__ import annotations

import hashlib
import random
import struct
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import BadImage
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.relocation import RelocatedImage
from rsp.symbols.elf.symtab import Symtab
from rsp.symbols.unwind.orc import FORMATS, OrcFormat, OrcTable
from rsp.symbols.unwind.rules import (
    AtCfa,
    AtExpression,
    CfaExpression,
    FrameKind,
    RegisterOffset,
    SameValue,
    ValCfa,
    numbers,
)
from rsp.symbols.unwind.tables import UnwindTables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lab.kernels import DebianKernel
    from rsp.symbols.unwind.rules import UnwindRules

TEXT = 0xFFFF_FFFF_8100_0000
TABLE = 0xFFFF_FFFF_8200_0000
NUMBER = numbers("x86-64")
BY_KERNEL = {each.kernel: each for each in FORMATS}
SP, BP, DI, R10 = (NUMBER[name] for name in ("rsp", "rbp", "rdi", "r10"))

# What arch/x86/include/asm/orc_types.h had for ORC_REG_*, and for the 16 bits, from bit 0 up.
OLD = {"UNDEFINED": 0, "PREV_SP": 1, "DX": 2, "DI": 3, "BP": 4, "SP": 5, "R10": 6, "R13": 7}
OLD |= {"BP_INDIRECT": 8, "SP_INDIRECT": 9}
NEW = {"UNDEFINED": 0, "AX": 1, "DX": 2, "SP": 3, "BP": 4, "DI": 5, "R10": 6, "R13": 7}
NEW |= {"PREV_SP": 8, "SP_INDIRECT": 9, "BP_INDIRECT": 10}
OLD_TYPES = {"CALL": 0, "REGS": 1, "REGS_PARTIAL": 2}
NEW_TYPES = {"UNDEFINED": 0, "END_OF_STACK": 1, "CALL": 2, "REGS": 3, "REGS_PARTIAL": 4}
HEADERS: dict[str, tuple[Mapping[str, int], Mapping[str, int], dict[str, int]]] = {
    "4.14": (OLD, OLD_TYPES, {"type": 8, "end": 10}),
    "6.3": (OLD, OLD_TYPES, {"type": 8, "signal": 10, "end": 11}),
    "6.4": (OLD, NEW_TYPES, {"type": 8, "signal": 11}),
    "6.12 with AX": (OLD | {"AX": 10}, NEW_TYPES, {"type": 8, "signal": 11}),
    "7.1": (NEW, NEW_TYPES, {"type": 8, "signal": 11}),
}


def entry(
    kernel: str,
    sp: str = "UNDEFINED",
    sp_offset: int = 0,
    bp: str = "UNDEFINED",
    bp_offset: int = 0,
    *,
    type: str = "CALL",  # noqa: A002  # the field's name
    **bits: int,
) -> bytes:
    """Return an entry as a kernel's objtool writes it."""
    registers, types, shifts = HEADERS[kernel]
    flags = registers[sp] | registers[bp] << 4 | types[type] << shifts["type"]
    for name, value in bits.items():
        flags |= value << shifts[name]
    return struct.pack("<hhH", sp_offset, bp_offset, flags)


def elf(path: Path, sections: Mapping[str, tuple[int, bytes]]) -> Image:
    """Write a file with these sections, each at its address."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in sections) + b".shstrtab\0"
    body, headers = b"", [bytes(64)]
    for name, (address, data) in {**sections, ".shstrtab": (0, names)}.items():
        kind, flags = (3, 0) if name == ".shstrtab" else (1, 2)
        place = 64 + len(body), len(data)
        name_at = names.index(b"\0" + name.encode() + b"\0") + 1
        headers.append(
            struct.pack("<IIQQQQIIQQ", name_at, kind, flags, address, *place, 0, 0, 1, 0)
        )
        body += data
    ident = b"\x7fELF\2\1\1" + bytes(9)
    count = len(headers)
    fields = (2, 62, 1, 0, 0, 64 + len(body), 0, 64, 56, 0, 64, count, count - 1)
    path.write_bytes(ident + struct.pack("<HHIQQQIHHHHHH", *fields) + body + b"".join(headers))
    return Image(path)


def table(
    directory: Path, entries: Mapping[int, bytes] | list[tuple[int, bytes]], header: str = ""
) -> OrcTable:
    """Return the table of entries at distances from TEXT, in the order given."""
    pairs = entries.items() if not isinstance(entries, list) else entries
    ips = (TEXT + at - (TABLE + 4 * place) for place, (at, _) in enumerate(pairs))
    sections = {
        ".orc_unwind_ip": (TABLE, b"".join(struct.pack("<i", ip) for ip in ips)),
        ".orc_unwind": (TABLE + 0x10000, b"".join(each for _, each in pairs)),
    }
    if header:
        sections[".orc_header"] = (TABLE + 0x20000, bytes.fromhex(header))
    return OrcTable(elf(directory / "vmlinux", sections))


def as_orc_hash_reads(kernel: OrcFormat) -> str:
    """Return what scripts/orc_hash.sh takes the SHA-1 of: the definitions, as in the header."""

    def definition(name: str, value: int) -> str:
        line = f"#define ORC_{name}"
        return line + "\t" * (5 - len(line) // 8) + f"{value}\n"

    bits = {"sp_reg": 4, "bp_reg": 4, **kernel.fields}
    other_end = {"bp_reg": 4, "sp_reg": 4, "unused": 16 - sum(bits.values())}
    other_end |= dict(reversed(tuple(kernel.fields.items())))
    lines = [definition(f"REG_{name}", value) for value, name in enumerate(kernel.registers)]
    lines.append(definition("REG_MAX", 15))
    if kernel.types[0] != "CALL":
        lines += [definition(f"TYPE_{name}", value) for value, name in enumerate(kernel.types)]
    lines += ["struct orc_entry {\n", "\ts16\t\tsp_offset;\n", "\ts16\t\tbp_offset;\n"]
    lines += ["#if defined(__LITTLE_ENDIAN_BITFIELD)\n"]
    lines += [f"\tunsigned\t{name}:{size};\n" for name, size in bits.items()]
    lines += ["#elif defined(__BIG_ENDIAN_BITFIELD)\n"]
    lines += [f"\tunsigned\t{name}:{size};\n" for name, size in other_end.items()]
    return "".join([*lines, "#endif\n", "} __packed;\n"])


@pytest.mark.parametrize("kernel", [each for each in FORMATS if each.hash], ids=lambda k: k.kernel)
def test_the_tables_are_what_a_kernel_takes_the_hash_of(kernel: OrcFormat) -> None:
    text = as_orc_hash_reads(kernel)
    assert hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() == kernel.hash


@pytest.mark.parametrize("kernel", HEADERS)
def test_entries_are_read_in_every_format(kernel: str, tmp_path: Path) -> None:
    old = "end" in HEADERS[kernel][2]
    make = partial(entry, kernel)
    signalled = make if kernel == "4.14" else partial(make, signal=1)
    undefined = make() if old else make(type="UNDEFINED")
    end = make(end=1) if old else make(type="END_OF_STACK")
    entries = {
        0x00: make("SP", 8),
        0x01: make("SP", 16, "PREV_SP", -16),
        0x04: make("BP", 16, "PREV_SP", -16),
        0x08: make("BP_INDIRECT", -8, "BP"),
        0x0C: make("R10", 0, "PREV_SP", -16),
        0x10: make("SP_INDIRECT", 8, "PREV_SP", -16),
        0x14: signalled("SP", 0, type="REGS_PARTIAL"),
        0x18: signalled("SP", 8, type="REGS"),
        0x1C: signalled("DI", 0, type="REGS"),
        0x20: signalled("SP_INDIRECT", 8, type="REGS"),
        0x24: end,
        0x28: undefined,
    }
    found = table(tmp_path, entries, BY_KERNEL[kernel].hash)
    assert found.format == BY_KERNEL[kernel]
    rules: dict[int, UnwindRules | None] = {at: found.rules_at(TEXT + at) for at in entries}
    assert rules.pop(0x28) is None
    assert found.rules_at(TEXT - 1) is None
    assert found.rules_at(TEXT + 0x1000) is None

    places = [*entries]
    cfas, kinds = {}, {}
    for at, each in rules.items():
        assert each is not None
        assert (each.begin, each.end) == (TEXT + at, TEXT + places[places.index(at) + 1])
        assert each == found.rules_at(each.end - 1)
        assert each.return_address == NUMBER["rip"]
        assert each.signal_frame == (each.kind in (FrameKind.REGS, FrameKind.REGS_PARTIAL))
        cfas[at], kinds[at] = each.cfa, each.kind
        if each.kind is FrameKind.CALL:
            assert each.registers[NUMBER["rip"]] == AtCfa(-8)
            assert each.registers[SP] == ValCfa(0)
            assert NUMBER["rbx"] not in each.registers
        elif each.kind is FrameKind.REGS:  # struct pt_regs
            saved = {"r15": 0, "rbp": 32, "rbx": 40, "rax": 80, "rdi": 112, "rip": 128, "rsp": 152}
            for name, offset in saved.items():
                assert each.registers[NUMBER[name]] == AtCfa(offset)
    assert cfas == {
        0x00: RegisterOffset(SP, 8),
        0x01: RegisterOffset(SP, 16),
        0x04: RegisterOffset(BP, 16),
        0x08: CfaExpression(b"\x76\x78\x06"),  # breg6 -8; deref
        0x0C: RegisterOffset(R10, 0),
        0x10: CfaExpression(b"\x77\x00\x06\x11\x08\x22"),  # breg7 0; deref; consts 8; plus
        0x14: RegisterOffset(SP, 0),
        0x18: RegisterOffset(SP, 8),
        0x1C: RegisterOffset(DI, 0),
        0x20: CfaExpression(b"\x77\x08\x06"),
        0x24: RegisterOffset(SP, 0),
    }
    assert [kind.name for kind in kinds.values()] == [
        *(["CALL"] * 6),
        *("REGS_PARTIAL", "REGS", "REGS", "REGS", "END"),
    ]
    partial_frame = rules[0x14]
    assert partial_frame is not None
    assert partial_frame.registers[NUMBER["rip"]] == AtCfa(0)
    assert partial_frame.registers[SP] == AtCfa(24)
    assert partial_frame.registers[NUMBER["rbx"]] == SameValue()
    assert [rules[at].registers[BP] for at in (0, 1, 8)] == [  # type: ignore[union-attr]  # above
        SameValue(),
        AtCfa(-16),
        AtExpression(b"\x76\x00"),
    ]
    stack = [at for at in entries if found.switches_stack(TEXT + at)]
    assert stack == [0x10, 0x20]


@pytest.mark.parametrize("kernel", ["4.14", "6.3", "6.4"])
def test_the_format_is_told_by_the_entries_where_no_header_is(kernel: str, tmp_path: Path) -> None:
    make = partial(entry, kernel)
    call = make("SP", 8)
    if kernel == "6.4":  # Red Hat's 5.14
        entries = [call, make("SP", 0, type="REGS", signal=1), make(type="END_OF_STACK")]
    else:
        entries = [make("SP", 8, type="REGS_PARTIAL"), call, make(end=1), make()]
    found = table(tmp_path, {16 * place: each for place, each in enumerate(entries)})
    assert found.format.kernel == kernel
    kinds = [rules.kind for at in range(0, 48, 16) if (rules := found.rules_at(TEXT + at))]
    assert kinds[-1] is FrameKind.END
    assert FrameKind.CALL in kinds


def test_a_table_is_sorted_where_it_is_not(tmp_path: Path) -> None:
    make = partial(entry, "6.4")
    gap = make(type="UNDEFINED")
    entries = [(at, make("SP", at)) for at in range(0, 0x1000, 8)] + [(0x1000, gap)]
    shuffled = [*entries, (0x40, gap), (0x48, gap)]  # ends of object files where others begin
    random.Random(1).shuffle(shuffled)
    found = table(tmp_path, shuffled, BY_KERNEL["6.4"].hash)
    for at in range(0x1000):
        rules = found.rules_at(TEXT + at)
        assert rules is not None
        assert rules.cfa == RegisterOffset(SP, at & ~7)
        assert rules.begin <= TEXT + at < rules.end
    assert found.rules_at(TEXT + 0x1000) is None


def test_an_unknown_format_is_damage(tmp_path: Path) -> None:
    found = table(tmp_path, {0: entry("6.4", "SP", 8)}, header="ab" * 20)
    with pytest.raises(BadImage, match="unknown format"):
        found.rules_at(TEXT)


def test_an_entry_that_the_format_does_not_define_is_damage(tmp_path: Path) -> None:
    for flags in (0x20B, 0x705, 0x285, 0x201):  # registers 11 and 8 for bp, type 7, sp by PREV_SP
        found = table(tmp_path, {0: struct.pack("<hhH", 8, 0, flags)}, BY_KERNEL["6.4"].hash)
        with pytest.raises(BadImage):
            found.rules_at(TEXT)


def test_one_table_stands_in_for_the_other_that_is_damaged(tmp_path: Path) -> None:
    # A CIE, and an FDE for 16 bytes of code that begins with an instruction that does not exist.
    cie = struct.pack("<IIBBBbB", 12, 0xFFFFFFFF, 1, 0, 1, 0x78, 16) + bytes((0x0C, 7, 8))
    fde = struct.pack("<IIQQ", 24, 0, TEXT, 16) + bytes((0x3F, 0, 0, 0))
    frames = {".debug_frame": (0, cie + fde)}
    call = {
        ".orc_unwind_ip": (TABLE, struct.pack("<i", TEXT - TABLE)),
        ".orc_unwind": (TABLE + 0x10000, entry("6.4", "SP", 8)),
    }
    unknown = {".orc_header": (TABLE + 0x20000, bytes(20))}
    both = UnwindTables(elf(tmp_path / "both", {**frames, **call}))
    rules = both.rules_at(TEXT)
    assert rules is not None
    assert rules.cfa == RegisterOffset(SP, 8)
    for sections in (frames, {**frames, **call, **unknown}):
        with pytest.raises(BadImage, match="unknown instruction, 0x3f"):
            UnwindTables(elf(tmp_path / "one", sections)).rules_at(TEXT)
    good = {".debug_frame": (0, cie + fde.replace(b"\x3f", b"\0"))}
    rules = UnwindTables(elf(tmp_path / "other", {**good, **call, **unknown})).rules_at(TEXT)
    assert rules is not None
    assert rules.registers[BP] == SameValue()
    with pytest.raises(BadImage, match="unknown format"):
        UnwindTables(elf(tmp_path / "none", {**good, **call, **unknown})).rules_at(TEXT + 16)


@given(
    ips=st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=20),
    entries=st.binary(max_size=130),
    header=st.sampled_from(["", "00", *(each.hash for each in FORMATS)]),
    address=st.integers(-(1 << 31), 1 << 31),
)
def test_any_bytes_do_no_harm(
    ips: list[int],
    entries: bytes,
    header: str,
    address: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    sections = {
        ".orc_unwind_ip": (TABLE, b"".join(struct.pack("<i", ip) for ip in ips)),
        ".orc_unwind": (TABLE + 0x10000, entries),
        ".orc_header": (TABLE + 0x20000, bytes.fromhex(header)),
    }
    directory = tmp_path_factory.getbasetemp()
    found = OrcTable(elf(directory / "any.orc", sections))
    begins = (TABLE + 4 * place + ip for place, ip in enumerate(ips))
    for each in (min(at, (1 << 64) - 1) for at in (TABLE + address, *begins)):
        try:
            rules = found.rules_at(each)
            found.switches_stack(each)
        except BadImage:
            continue
        assert rules is None or rules.begin <= each < rules.end


def test_orc_and_cfi_agree_on_a_kernel(debian_kernel: DebianKernel) -> None:
    """A CFA that differs is one that objtool knows better: see `explained`."""
    image = Image(debian_kernel.vmlinux)
    tables = UnwindTables(image)
    rng = random.Random(11)
    text = image.named(".text")
    assert text is not None
    seen: Counter[str] = Counter()
    for _ in range(15_000):
        address = rng.randrange(text.address, text.address + text.size)
        ours, orc = tables.call_frames[0].rules_at(address), tables.orc.rules_at(address)
        if ours is not None:
            seen[explained(tables, address, ours, orc)] += 1
    assert not seen["different"], seen
    assert seen["same"] / seen.total() > 0.999, seen


def explained(
    tables: UnwindTables, address: int, ours: UnwindRules, orc: UnwindRules | None
) -> str:
    """Return how CFI and ORC of an address relate."""
    if orc is None:
        return "never executed"  # an int3 behind a jump, padding
    if tables.orc.switches_stack(address):
        return "another stack"
    if (ours.cfa, ours.registers[BP]) == (orc.cfa, orc.registers[BP]):
        return "same"
    match ours.cfa, orc.cfa:
        # What inline assembly, or an alternative that is patched in, has pushed meanwhile.
        case RegisterOffset(7, before), RegisterOffset(7, after) if after > before:
            return "pushed by inline assembly"
        # The prologue of a function that aligns its stack: both are right until it does.
        case RegisterOffset(10, 0), RegisterOffset(7, 8):
            return "aligned stack"
    return "different"


def test_entry_code_of_a_kernel_has_rules(debian_kernel: DebianKernel) -> None:
    image = Image(debian_kernel.vmlinux)
    tables = UnwindTables(image)
    entries = [each for each in Symtab(image) if each.name.startswith("asm_exc_")]
    assert len(entries) > 15
    with_error_code = 0
    for each in entries:
        assert tables.call_frames[0].rules_at(each.address) is None
        rules = tables.rules_at(each.address)
        assert rules is not None
        assert rules.kind is FrameKind.REGS_PARTIAL, each.name
        assert rules.signal_frame
        # The CPU pushes an error code below its frame for some (Intel SDM, volume 3, table 6-1).
        assert rules.cfa in (RegisterOffset(SP, 0), RegisterOffset(SP, 8)), each.name
        with_error_code += rules.cfa == RegisterOffset(SP, 8)
    names = "double_fault invalid_tss segment_not_present stack_segment general_protection"
    expected = {f"asm_exc_{name}" for name in [*names.split(), "page_fault", "alignment_check"]}
    assert with_error_code >= len(expected & {each.name for each in entries}) == len(expected)


def test_the_stack_of_interrupts_is_left_by_orc(debian_kernel: DebianKernel) -> None:
    image = Image(debian_kernel.vmlinux)
    tables = UnwindTables(image)
    handler = next(each for each in Symtab(image) if each.name == "sysvec_apic_timer_interrupt")
    inside = range(handler.address, handler.address + handler.size)
    switched = [address for address in inside if tables.orc.switches_stack(address)]
    assert switched
    for address in inside:
        rules = tables.rules_at(address)
        by = tables.orc if address in switched else tables.call_frames[0]
        assert rules == by.rules_at(address)


@pytest.mark.parametrize("name", ["dummy", "xfs"])
def test_a_module_has_rules_at_its_addresses(name: str, debian_kernel: DebianKernel) -> None:
    base = 0xFFFF_FFFF_C060_0000
    image = RelocatedImage(debian_kernel.module(name), {".text": base})
    tables = UnwindTables(image)
    text = image.named(".text")
    assert text is not None
    assert text.address == base
    rng = random.Random(2)
    addresses = [rng.randrange(base, base + text.size) for _ in range(2000)]
    seen: Counter[str] = Counter()
    for address in addresses:
        ours, orc = tables.call_frames[0].rules_at(address), tables.orc.rules_at(address)
        if ours is not None:
            assert ours.begin <= address < ours.end
            seen[explained(tables, address, ours, orc)] += 1
    assert not seen["different"], seen
    assert seen["same"] / seen.total() > 0.99, seen
    assert seen.total() > 1000
