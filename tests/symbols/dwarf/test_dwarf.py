"""Units, entries, ranges and the address index, against pyelftools; and with bytes flipped."""

from __future__ import annotations

import contextlib
import random
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import BadImage
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.aranges import AddressIndex
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.leb import sleb, uleb
from rsp.symbols.dwarf.ranges import entry_pc, pc_ranges
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.units import Unit, Units
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.section_data import SectionData
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


MAIN = """
#include <stdarg.h>
struct pair { unsigned low : 3, high : 29; union { int a; char b[4]; }; struct pair *next; };
enum colour { RED = -1, GREEN = 1000000 };
extern struct pair first;
struct pair first = { 1, 2 };
typedef int (*callback)(struct pair *, ...);
static inline int twice(int n) { return n * 2; }
extern int elsewhere(int);
int __attribute__((noinline, cold)) rare(int n) { return elsewhere(n) + 1; }
int outer(int n, callback back)
{
  static volatile int counter;
  if (__builtin_expect(n > 100, 0))
    return rare(n) + twice(n);
  for (int i = 0; i < n; i++)
    counter += twice(i) + back(&first, i);
  return (int)GREEN + RED;
}
"""
OTHER = (
    "int other_value = 7; int elsewhere(int n) { return n + other_value; }\nvoid _start(void) {}\n"
)


def units_of(path: Path | str) -> Units:
    return Units(DwarfSections(Image(path)))


def tree(die: Die) -> Iterator[Die]:
    yield die
    for child in die.children():
        yield from tree(child)


def compile_program(directory: Path, *options: str) -> Path:
    (directory / "main.c").write_text(MAIN)
    (directory / "other.c").write_text(OTHER)
    program = directory / "program"
    sources = ["main.c", "other.c", "-nostdlib", "-static", "-no-pie", "-o", "program"]
    subprocess.run(["gcc", *options, *sources], cwd=directory, check=True)
    return program


def attributes_of_elftools(die: Any) -> dict[str, object]:
    return {name: attribute.value for name, attribute in die.attributes.items()}


NAMES = {number: name for name, number in vars(dw).items() if name.startswith("DW_AT_")}
OFFSETS = {  # of strings: pyelftools gives the strings themselves
    "DW_FORM_strp",
    "DW_FORM_line_strp",
    "DW_FORM_string",
}


UNIT_REFERENCES = {f"DW_FORM_ref{size}" for size in ("1", "2", "4", "8", "_udata")}


def assert_same(unit: Unit, theirs: Any) -> int:
    """Compare every entry of a unit, attribute by attribute; return how many there are."""
    expected = {die.offset: die for die in theirs.iter_DIEs() if not die.is_null()}
    count = 0
    for die in tree(Die.root_of(unit)):
        other = expected.pop(die.offset)
        count += 1
        tag = other.tag if isinstance(other.tag, int) else getattr(dw, other.tag, None)
        if tag is not None:
            assert die.tag == tag
        assert die.has_children == other.has_children
        for name, attribute in other.attributes.items():
            number = name if isinstance(name, int) else getattr(dw, name, None)
            if number is None:
                continue  # one that nothing here asks for
            value = die.get(number)
            raw = attribute.value
            form = attribute.form
            assert die.form(number) == getattr(dw, form)
            if form in OFFSETS:
                assert value == raw.decode()
            elif form in UNIT_REFERENCES:
                assert value == raw + unit.offset
            elif isinstance(raw, list):
                assert value == bytes(raw)
            else:
                assert value == raw, (hex(die.offset), name)
    assert not expected
    return count


@pytest.mark.live("gcc")
@pytest.mark.parametrize("version", [2, 3, 4, 5])
@pytest.mark.parametrize("offsets", [32, 64])
def test_every_entry_is_that_of_pyelftools(tmp_path: Path, version: int, offsets: int) -> None:
    program = compile_program(tmp_path, f"-gdwarf-{version}", f"-gdwarf{offsets}", "-O2")
    units = units_of(program)
    with program.open("rb") as stream:
        theirs = list(ELFFile(stream).get_dwarf_info().iter_CUs())
        assert [unit.offset for unit in units] == [unit.cu_offset for unit in theirs]
        count = sum(assert_same(*pair) for pair in zip(units, theirs, strict=True))
    assert count > 50
    assert {unit.version for unit in units} == {version}


def test_units_of_a_kernel_are_those_of_pyelftools(debian_kernel: Any) -> None:
    units = units_of(debian_kernel.vmlinux)
    assert len(units) > 1000
    assert units.damage is None
    picked = random.Random(3).sample(units.offsets, 4)
    with debian_kernel.vmlinux.open("rb") as stream:
        theirs = ELFFile(stream).get_dwarf_info(relocate_dwarf_sections=False)
        for offset in picked:
            assert_same(units.at(offset + 1), theirs.get_CU_at(offset))


@pytest.mark.live("gcc", "objcopy")
@pytest.mark.parametrize("version", [4, 5])
def test_ranges_and_the_units_of_addresses(tmp_path: Path, version: int) -> None:
    program = compile_program(
        tmp_path,
        f"-gdwarf-{version}",
        "-O2",
        "-ffunction-sections",
        "-freorder-blocks-and-partition",
    )
    units = units_of(program)
    index = AddressIndex(units)
    nothing = AddressIndex(units_without_aranges(program))
    several = 0
    for unit in units:
        ranges = pc_ranges(Die.root_of(unit))
        assert ranges
        several += len(ranges) > 1
        for begin, end in ranges:
            for address in (begin, end - 1):
                for each in (index, nothing):
                    found = each.unit_at(address)
                    assert found is not None
                    assert found.name == unit.name
        for die in tree(Die.root_of(unit)):
            if die.tag == dw.DW_TAG_subprogram and (low := die.number(dw.DW_AT_low_pc)):
                assert entry_pc(die) == low
                assert any(begin <= low < end for begin, end in ranges)
    assert several
    assert index.unit_at(0) is index.unit_at(1 << 63) is nothing.unit_at(1) is None


def units_without_aranges(program: Path) -> Units:
    stripped = program.with_name("no-aranges")
    subprocess.run(["objcopy", "--remove-section=.debug_aranges", program, stripped], check=True)
    return units_of(stripped)


def test_the_ranges_of_a_kernel_are_those_of_its_aranges(debian_kernel: Any) -> None:
    """Every unit's own ranges must agree with .debug_aranges, which another writer made."""
    units = units_of(debian_kernel.vmlinux)
    index = AddressIndex(units)
    compared = 0
    for offset in random.Random(5).sample(units.offsets, 150):
        unit = units.at(offset)
        for begin, end in pc_ranges(Die.root_of(unit)):
            owner = index.unit_at(begin)
            assert owner is not None
            assert owner.offset == offset
            last = index.unit_at(end - 1)
            assert last is owner
            compared += 1
    assert compared > 150


def test_the_boot_sector() -> None:
    (unit,) = units_of(ELF)
    assert (unit.name, unit.comp_dir) == ("boot.S", "rsp/testing/boot")
    assert (unit.low_pc, unit.line_offset) == (0x7C00, 0)
    assert unit.producer.startswith("GNU AS")
    assert unit.language == 0x8001  # DW_LANG_Mips_Assembler


@given(st.integers(0, (1 << 64) - 1), st.binary(max_size=3))
def test_leb(number: int, rest: bytes) -> None:
    encoded = bytearray()
    left = number
    while left >= 0x80:
        encoded.append(left & 0x7F | 0x80)
        left >>= 7
    encoded.append(left)
    assert uleb(bytes(encoded) + rest, 0) == (number, len(encoded))
    signed = number - (1 << 7 * len(encoded) if encoded[-1] & 0x40 else 0)
    assert sleb(bytes(encoded) + rest, 0) == (signed, len(encoded))
    with pytest.raises(IndexError):
        uleb(bytes(encoded[:-1]), 0)


def test_a_leb_without_an_end() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        uleb(b"\x80" * 20, 0)


class Flipped(DwarfSections):
    """The sections of a file, one of them with other bytes."""

    def replace(self, name: str, data: bytes) -> None:
        setattr(self, name, SectionData(f".debug_{name}", data, 0, len(data)))


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return Image(compile_program(tmp_path_factory.mktemp("flip"), "-g", "-O2"))


@pytest.mark.live("gcc")
@given(st.data())
def test_a_byte_flipped_anywhere_is_damage_or_another_value(
    subject: Image, data: st.DataObject
) -> None:
    sections = Flipped(subject)
    name = data.draw(st.sampled_from(["info", "abbrev", "rnglists", "aranges", "str"]))
    content = bytearray(getattr(sections, name)[:])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    sections.replace(name, bytes(content))
    units = Units(sections)
    seen = 0
    for unit in units:
        stack = []
        try:
            stack = [Die.root_of(unit)]
            while stack and seen < 10_000:
                die = stack.pop()
                seen += 1
                for attribute in NAMES:
                    die.get(attribute)
                    die.reference(attribute)
                pc_ranges(die)
                entry_pc(die)
                stack += die.children()
        except BadImage:
            continue
    index = AddressIndex(units)
    for address in (0x401000, 0x401010, 0):
        with contextlib.suppress(BadImage):
            index.unit_at(address)
    assert seen < 10_000
