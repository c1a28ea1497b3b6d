"""Call frame information, against readelf's interpretation of it; and with bytes flipped."""

from __future__ import annotations

import random
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import BadImage
from rsp.symbols.elf.image import Image
from rsp.symbols.unwind.cfi import CallFrames
from rsp.symbols.unwind.rules import (
    AtCfa,
    AtExpression,
    CfaExpression,
    FrameKind,
    InRegister,
    RegisterOffset,
    SameValue,
    Undefined,
    UnwindRules,
    ValCfa,
    ValExpression,
    numbers,
)
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.kernels import DebianKernel

SOURCE = """
int sink(void *);
__attribute__((noinline)) int plain(int a, int b) { return a * b + sink(&a) + sink(&b); }
int alloca_in_a_loop(int n) {
  int sum = 0;
  for (int i = 1; i < n; i++) sum += sink(__builtin_alloca(i));
  return sum;
}
int realigned(int n) { int wide[8] __attribute__((aligned(64))); wide[0] = n; return sink(wide); }
__attribute__((cold, noreturn)) void stop(int n) { sink(&n); __builtin_trap(); }
int many(int a, int b, int c, int d, int e, int f, int g, int h) {
  int v = sink(&a) + sink(&b) + sink(&c) + sink(&d) + sink(&e) + sink(&f) + sink(&g) + sink(&h);
  if (v == 3) stop(v);
  return v * a + b * c - d + e * f * g * h;
}
__attribute__((noinline)) int sink(void *p) { return *(volatile char *)p; }
int main(void) { return plain(1, 2) + realigned(3) + many(1, 2, 3, 4, 5, 6, 7, 8); }
"""
# Entries that no compiler makes, but the specification has; _start has code for them to cover.
BY_HAND = """
        .globl _start
        .text
_start: .skip 64, 0x90
        .section .debug_frame, "", @progbits
wide:   .long 0xffffffff                        # 64-bit format, version 4
        .quad wide_end - wide_id
wide_id: .quad -1
        .byte 4, 0, 8, 0                        # version, augmentation, address and segment size
        .uleb128 1; .sleb128 -8; .uleb128 16
        .byte 0x0c, 7, 8                        # def_cfa rsp, 8
        .byte 0x90, 1                           # offset rip, 1
        .balign 8
wide_end:
        .long 0xffffffff
        .quad first_end - first_id
first_id: .quad wide
        .quad _start, 32
        .byte 0x41                              # advance_loc 1
        .byte 0x05, 3; .uleb128 2               # offset_extended rbx
        .byte 0x02, 1                           # advance_loc1
        .byte 0x0a                              # remember_state
        .byte 0x14, 6; .uleb128 3               # val_offset rbp
        .byte 0x12, 6; .sleb128 -2              # def_cfa_sf rbp, 16
        .byte 0x03; .short 2                    # advance_loc2
        .byte 0x15, 12; .sleb128 -3             # val_offset_sf r12
        .byte 0x11, 13; .sleb128 -4             # offset_extended_sf r13
        .byte 0x13; .sleb128 -3                 # def_cfa_offset_sf 24
        .byte 0x04; .long 2                     # advance_loc4
        .byte 0x09, 14, 15                      # register r14, r15
        .byte 0x07, 3                           # undefined rbx
        .byte 0x08, 15                          # same_value r15
        .byte 0x0d, 7                           # def_cfa_register rsp
        .byte 0x41
        .byte 0x0e, 40                          # def_cfa_offset
        .byte 0x06, 3                           # restore_extended rbx
        .byte 0x10, 3, 2, 0x76, 8               # expression rbx: breg6 8
        .byte 0x16, 12, 3, 0x77, 0x80, 1        # val_expression r12: breg7 128
        .byte 0x0f, 3, 0x77, 8, 0x06            # def_cfa_expression: breg7 8; deref
        .byte 0x41
        .byte 0x0b                              # restore_state
        .byte 0x2e, 16                          # GNU_args_size
        .byte 0x01; .quad _start + 20           # set_loc
        .byte 0x2f, 3; .uleb128 2               # GNU_negative_offset_extended
        .balign 8
first_end:
narrow: .long narrow_end - narrow_id            # 32-bit format, version 3
narrow_id: .long -1
        .byte 3, 0
        .uleb128 4; .sleb128 -8; .uleb128 16    # code counts in fours
        .byte 0x0c, 7, 8, 0x90, 1
        .byte 0x07, 16                          # the outermost frame
        .balign 4
narrow_end:
        .long second_end - second_id
second_id: .long narrow
        .quad _start + 32, 32
        .byte 0x42, 0x0e, 16
        .balign 4
second_end:
"""
BUILDS = {
    "eh_frame": ("-m64", "-fasynchronous-unwind-tables"),
    "debug_frame": ("-m64", "-fno-asynchronous-unwind-tables", "-gdwarf-5", "-fno-pie", "-no-pie"),
    "debug_frame of DWARF 4": ("-m64", "-fno-asynchronous-unwind-tables", "-gdwarf-4"),
    "i386 eh_frame": ("-m32", "-fasynchronous-unwind-tables"),
    "i386 debug_frame": ("-m32", "-fno-asynchronous-unwind-tables", "-gdwarf-4", "-fno-pie"),
}
LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")

Rows = dict[int, dict[str, str]]  # by address: columns of readelf, "CFA" and registers


def run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frames")


@cache
def build(directory: Path, *options: str) -> Path:
    source, program = directory / "frames.c", directory / "-".join(("program", *options))
    source.write_text(SOURCE)
    run("gcc", "-O2", "-nostdlib", "-static", "-e", "main", *options, "-o", program, source)
    return program


@cache
def by_hand(directory: Path) -> Path:
    source, program = directory / "frames.S", directory / "by_hand"
    source.write_text(BY_HAND)
    run("gcc", "-nostdlib", "-static", "-no-pie", "-o", program, source)
    return program


def interpreted(path: Path) -> Iterator[tuple[int, int, Rows]]:
    """Yield what readelf has for each FDE: the addresses that it covers, and the rules there."""
    # Its exit code speaks of other sections, such as a link to a debug file that is not there.
    command = ["readelf", "--debug-dump=frames-interp", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    sizes: dict[str, Rows] = {}
    for block in re.split(r"\n\n+", text):
        lines = block.strip("\n").splitlines() or [""]
        entry = re.match(r"([0-9a-f]+) [0-9a-f]+ [0-9a-f]+ (CIE|FDE cie=([0-9a-f]+))", lines[0])
        if not entry:
            continue
        offset, kind, cie = entry.groups()
        rows: Rows = {}
        if len(lines) > 1:
            names = lines[1].split()[1:]
            for line in lines[2:]:
                location, *cells = re.sub(r" \(\w+\)", "", line).split()
                rows[int(location, 16)] = dict(zip(names, cells, strict=True))
        if kind == "CIE":
            sizes[offset.lstrip("0")] = rows
            continue
        begin, end = (int(each, 16) for each in re.findall(r"pc=(\w+)\.\.(\w+)", lines[0])[0])
        # Without instructions of its own an FDE has what its CIE begins with.
        yield begin, end, rows or {begin: next(iter(sizes[cie.lstrip("0")].values()))}


def shown(rules: UnwindRules, column: str, machine: str) -> str:
    """Return rules as readelf shows them."""
    names = {number: name for name, number in numbers(machine).items()}
    if column == "CFA":
        match rules.cfa:
            case RegisterOffset(register, offset):
                return f"{names[register]}{offset:+d}"
            case CfaExpression():
                return "exp"
    number = rules.return_address if column == "ra" else numbers(machine)[column]
    match rules.registers.get(number, Undefined()):
        case AtCfa(offset):
            return f"c{offset:+d}"
        case ValCfa(offset):
            return f"v{offset:+d}"
        case InRegister(register):
            return f"r{register}"
        case AtExpression():
            return "exp"
        case ValExpression():
            return "vexp"
        case SameValue():
            return "s"
    return "u"


def compare(frames: CallFrames, machine: str, begin: int, end: int, rows: Rows) -> None:
    found = {rules.begin: rules for rules in frames.rows_at(begin)}
    assert max(rules.end for rules in found.values()) == end
    # One that sets rules for no bytes of code is not seen.
    expected = {location: cells for location, cells in rows.items() if location < end}
    assert found.keys() == expected.keys(), hex(begin)
    for location, cells in expected.items():
        rules = found[location]
        assert frames.rules_at(location) == rules
        assert frames.rules_at(rules.end - 1) == rules
        for column, cell in cells.items():
            ours = shown(rules, column, machine)
            # A register that nothing is said of has the rule of the ABI.
            assert ours == cell or (cell == "u" and ours in ("s", "v+0")), (hex(location), column)


@pytest.mark.live("gcc", "readelf")
@pytest.mark.parametrize("name", BUILDS)
def test_programs_are_read_as_by_readelf(name: str, directory: Path) -> None:
    program = build(directory, *BUILDS[name])
    image = Image(program)
    frames = CallFrames(image)
    entries = list(interpreted(program))
    assert len(frames) == len(entries) >= 7
    assert frames.damage is None
    for begin, end, rows in entries:
        compare(frames, image.machine, begin, end, rows)


@pytest.mark.live("gcc", "readelf")
def test_every_instruction_is_run_as_by_readelf(directory: Path) -> None:
    program = by_hand(directory)
    image = Image(program)
    frames = CallFrames(image)
    entries = list(interpreted(program))
    assert len(entries) == len(frames) == 2
    for begin, end, rows in entries:
        compare(frames, image.machine, begin, end, rows)
    begin = entries[0][0]
    at = {rules.begin - begin: rules for rules in frames.rows_at(begin)}
    assert at[7].cfa == CfaExpression(b"\x77\x08\x06")
    assert at[6].registers[14] == InRegister(15)
    assert at[7].registers[3] == AtExpression(b"\x76\x08")
    assert at[7].registers[12] == ValExpression(b"\x77\x80\x01")
    assert at[8].registers[3] == AtCfa(-16)
    assert at[20].registers[3] == AtCfa(16)
    assert at[20].kind is FrameKind.CALL
    assert {rules.kind for rules in frames.rows_at(begin + 32)} == {FrameKind.END}
    assert frames.rules_at(begin - 1) is frames.rules_at(begin + 64) is None


@pytest.mark.live("readelf")
@pytest.mark.skipif(not LIBC.exists(), reason="the C library of x86-64 is elsewhere")
def test_a_library_is_read_as_by_readelf() -> None:
    # Signal frames, personality routines, expressions of the PLT, and code by hand.
    image = Image(LIBC)
    frames = CallFrames(image)
    entries = list(interpreted(LIBC))
    assert len(frames) == len(entries) > 1000
    for begin, end, rows in random.Random(5).sample(entries, 1000):
        compare(frames, image.machine, begin, end, rows)
    signals = [begin for begin, *_ in entries if (r := frames.rules_at(begin)) and r.signal_frame]
    assert signals


@pytest.mark.live("readelf")
def test_a_kernel_is_read_as_by_readelf(debian_kernel: DebianKernel) -> None:
    image = Image(debian_kernel.vmlinux)
    frames = CallFrames(image)
    entries = list(interpreted(debian_kernel.vmlinux))
    assert len(frames) == len(entries) > 40_000
    for begin, end, rows in random.Random(3).sample(entries, 5000):
        compare(frames, image.machine, begin, end, rows)


def test_what_nothing_covers_has_no_rules() -> None:
    frames = CallFrames(Image(ELF))
    assert [frames.rules_at(address) for address in (0, 1, 0x7C00, 1 << 64)] == [None] * 4


def flipped(path: Path, section: str, position: int, bit: int, to: Path) -> Image:
    """Return a copy of a file with one bit of a section changed."""
    place = Image(path).named(section)
    assert place is not None
    data = bytearray(path.read_bytes())
    data[place.offset + position % place.size] ^= 1 << bit
    to.write_bytes(data)
    return Image(to)


@pytest.mark.live("gcc")
@pytest.mark.parametrize("name", ["eh_frame", "debug_frame", "by hand"])
@given(position=st.integers(0, 4000), bit=st.integers(0, 7))
def test_a_bit_flipped_does_no_harm(name: str, position: int, bit: int, directory: Path) -> None:
    program = by_hand(directory) if name == "by hand" else build(directory, *BUILDS[name])
    section = ".eh_frame" if name == "eh_frame" else ".debug_frame"
    image = flipped(program, section, position, bit, directory / "flipped")
    frames = CallFrames(image)
    text = image.named(".text")
    assert text is not None
    for address in range(text.address, text.address + text.size, 5):
        try:
            rules = frames.rules_at(address)
        except BadImage:
            continue
        assert rules is None or rules.begin <= address < rules.end


@pytest.mark.live("gcc")
@given(data=st.binary(max_size=200))
def test_a_section_of_anything_does_no_harm(data: bytes, directory: Path) -> None:
    program = by_hand(directory)
    place = Image(program).named(".debug_frame")
    assert place is not None
    content = bytearray(program.read_bytes())
    content[place.offset : place.offset + place.size] = data.ljust(place.size, b"\0")[: place.size]
    (directory / "other").write_bytes(content)
    frames = CallFrames(Image(directory / "other"))
    assert len(frames) <= 200
    for begin in range(0, 1 << 12, 64):
        try:
            frames.rules_at(begin)
        except BadImage:
            continue
