"""Location lists, against readelf; those that gcc does not make by hand; and with bytes flipped."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from elftools.dwarf.dwarf_expr import DWARFExprParser
from elftools.dwarf.structs import DWARFStructs
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import BadImage
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.loclists import LocationEntry, expression_at, location_list
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.units import Units
from rsp.symbols.elf.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


SOURCE = """
struct pair { long a, b; };
extern volatile int sink;
volatile int sink;
static __attribute__((noinline)) int leaf(int n, struct pair p) {
  int doubled = n * 2;
  sink = doubled;
  struct pair q = { p.b, p.a + doubled };
  sink = (int)q.a;
  n = 7;
  sink = n + (int)q.b;
  return sink + doubled;
}
int loop(int count, char *text) {
  int sum = 0;
  for (int i = 0; i < count; i++) {
    int each = text[i] - 'a';
    if (each < 0) continue;
    sum += leaf(each, (struct pair){ i, sum });
  }
  return sum;
}
int main(int argc, char **argv) { return loop(argc, argv[0]) + leaf(argc, (struct pair){ 1, 2 }); }
"""
# A unit with an address index and a list of every kind; DW_AT_location by index and by offset.
BY_HAND = """
        .section .debug_abbrev, "", @progbits
        .uleb128 1, 0x11; .byte 1               # compile unit, with children
        .uleb128 0x11, 0x01                     # low_pc addr
        .uleb128 0x73, 0x17                     # addr_base sec_offset
        .uleb128 0x8c, 0x17                     # loclists_base sec_offset
        .uleb128 0, 0
        .uleb128 2, 0x34; .byte 0               # variable
        .uleb128 2, 0x22                        # location loclistx
        .uleb128 0, 0
        .uleb128 3, 0x34; .byte 0
        .uleb128 2, 0x17                        # location sec_offset
        .uleb128 0, 0
        .byte 0
        .section .debug_addr, "", @progbits
        .long 2f - 1f
1:      .short 5; .byte 8, 0
addresses:
        .quad 0x401000, 0x402000, 0x403000
2:
        .section .debug_loclists, "", @progbits
        .long 2f - 1f
1:      .short 5; .byte 8, 0; .long 2
lists:  .long first - lists, second - lists
first:  .byte 5; .uleb128 1; .byte 0x30         # default_location lit0
        .byte 4; .uleb128 0x10, 0x20, 1; .byte 0x31     # offset_pair from the unit's low_pc
        .byte 1; .uleb128 1                     # base_addressx
        .byte 9; .uleb128 3, 4                  # view_pair
        .byte 4; .uleb128 0, 8, 1; .byte 0x32
        .byte 6; .quad 0x500000                 # base_address
        .byte 4; .uleb128 0, 8, 1; .byte 0x33
        .byte 2; .uleb128 0, 1, 1; .byte 0x34   # startx_endx
        .byte 3; .uleb128 2, 4, 1; .byte 0x35   # startx_length
        .byte 7; .quad 0x600000, 0x600010; .uleb128 1; .byte 0x36       # start_end
        .byte 8; .quad 0x700000; .uleb128 16, 1; .byte 0x37             # start_length
        .byte 0
second: .byte 8; .quad 0x700000; .uleb128 0, 1; .byte 0x38      # for no bytes: on entry
        .byte 8; .quad 0x700008; .uleb128 8, 0                  # an empty expression
        .byte 0
2:
        .section .debug_info, "", @progbits
        .long 2f - 1f
1:      .short 5; .byte 1, 8; .long 0
        .uleb128 1; .quad 0x800000; .long addresses - .debug_addr_begin, lists - .debug_loc_begin
        .uleb128 2, 0
        .uleb128 2, 1
        .uleb128 3; .long second - .debug_loc_begin
        .byte 0
2:
"""
BUILDS = {
    "DWARF 5": ("-gdwarf-5",),
    "DWARF 5, 64-bit": ("-gdwarf-5", "-gdwarf64"),
    "DWARF 5, views in the lists": ("-gdwarf-5", "-gvariable-location-views=incompat5"),
    "DWARF 4": ("-gdwarf-4",),
    "DWARF 4, no views": ("-gdwarf-4", "-gno-variable-location-views"),
    "DWARF 3": ("-gdwarf-3", "-gstrict-dwarf"),
    "i386 DWARF 5": ("-gdwarf-5", "-m32"),
    "i386 DWARF 4": ("-gdwarf-4", "-m32"),
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists")


def run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@cache
def build(directory: Path, *options: str) -> Path:
    source, program = directory / "lists.c", directory / "-".join(("program", *options))
    source.write_text(SOURCE)
    flags = ("-O2", "-nostdlib", "-static", "-no-pie", "-fno-pie", "-e", "main")
    run("gcc", *flags, *options, "-o", program, source)
    return program


@cache
def by_hand(directory: Path) -> Path:
    source, program = directory / "lists.S", directory / "by_hand"
    begins = '.section .debug_addr, "", @progbits\n.Laddr:\n.section .debug_loclists, "", @progbits'
    text = f"{begins}\n.Lloc:\n{BY_HAND}".replace(".debug_addr_begin", ".Laddr")
    source.write_text(text.replace(".debug_loc_begin", ".Lloc"))
    run("gcc", "-c", "-o", directory / "lists.o", source)
    run("ld", "-e", "0", "-o", program, directory / "lists.o")
    return program


def entries_of(path: Path) -> Iterator[Die]:
    units = Units(DwarfSections(Image(path)))
    for unit in units:
        waiting = [Die.root_of(unit)]
        while waiting:
            die = waiting.pop()
            yield die
            waiting.extend(die.children())


def of_readelf(path: Path) -> dict[int, list[tuple[int, int, list[str]]]]:
    """Return readelf's lists by where they begin: addresses, and the operations' names."""
    lists: dict[int, list[tuple[int, int, list[str]]]] = {}
    current: list[tuple[int, int, list[str]]] = []
    begun = None
    pattern = r"^ {4}( {8}|[0-9a-f]{8}) (?:v\w+ v\w+ (location view pair|views at))?(.*)$"
    text = run("readelf", "--debug-dump=loc", path)
    for where, views, rest in re.findall(pattern, text, re.MULTILINE):
        if views == "location view pair":
            continue  # in front of their list, unless they are inside it
        if where.strip() and begun is None:
            begun, current = int(where, 16), []
        if "<End of list>" in rest:
            assert begun is not None
            lists[begun] = current
            begun = None
        elif found := re.match(r" *(\w+) (\w+) \((.*)\)", rest):
            begin, end, expression = found.groups()
            names = re.findall(r"DW_OP_\w+", expression)
            current.append((int(begin, 16), int(end, 16), names))
    return lists


def names_of(expression: bytes, word_size: int) -> list[str]:
    structs = DWARFStructs(little_endian=True, dwarf_format=32, address_size=word_size)

    def names(operations: list[Any]) -> Iterator[str]:
        for operation in operations:
            yield operation.op_name
            for argument in operation.args:
                if isinstance(argument, list) and argument and hasattr(argument[0], "op_name"):
                    yield from names(argument)

    return list(names(DWARFExprParser(structs).parse_expr(expression)))


@pytest.mark.live("gcc", "readelf")
@pytest.mark.parametrize("name", BUILDS)
def test_lists_are_those_of_readelf(name: str, directory: Path) -> None:
    program = build(directory, *BUILDS[name])
    expected = of_readelf(program)
    assert len(expected) >= 8
    seen = set()
    for die in entries_of(program):
        found = location_list(die, dw.DW_AT_location)
        if found is None:
            continue
        offset = die.number(dw.DW_AT_location)
        assert offset is not None
        word_size = die.unit.word_size
        ours = [(each.begin, each.end, names_of(each.expression, word_size)) for each in found]
        assert ours == expected[offset], hex(die.offset)
        seen.add(offset)
        assert_found(die, found)
    assert seen == expected.keys()


def assert_found(die: Die, entries: tuple[LocationEntry, ...]) -> None:
    """Ask for a location at the edges of every entry."""
    for entry in entries:
        for pc in (entry.begin - 1, entry.begin, entry.end - 1, entry.end):
            valid = [each.expression for each in entries if each.begin <= pc < each.end]
            assert expression_at(die, dw.DW_AT_location, pc) == (valid[0] if valid else None)


@pytest.mark.live("gcc")
def test_every_kind_of_entry_is_read(directory: Path) -> None:
    first, second, third = [
        die for die in entries_of(by_hand(directory)) if die.tag == dw.DW_TAG_variable
    ][::-1]
    entries = location_list(first, dw.DW_AT_location)
    assert entries is not None
    assert [(each.begin, each.end, each.expression) for each in entries[1:]] == [
        (0x800010, 0x800020, b"\x31"),
        (0x402000, 0x402008, b"\x32"),
        (0x500000, 0x500008, b"\x33"),
        (0x401000, 0x402000, b"\x34"),
        (0x403000, 0x403004, b"\x35"),
        (0x600000, 0x600010, b"\x36"),
        (0x700000, 0x700010, b"\x37"),
    ]
    assert entries[0].default
    assert expression_at(first, dw.DW_AT_location, 0x500007) == b"\x33"
    assert expression_at(first, dw.DW_AT_location, 0x500008) == b"\x30"  # the default
    for each in (second, third):
        assert expression_at(each, dw.DW_AT_location, 0x700000) is None
        assert expression_at(each, dw.DW_AT_location, 0x700000, entry_pc=0x700000) == b"\x38"
        assert expression_at(each, dw.DW_AT_location, 0x700008) == b""
    assert expression_at(second, dw.DW_AT_frame_base, 0x700000) is None


@pytest.mark.live("gcc")
def test_an_expression_is_valid_everywhere(directory: Path) -> None:
    dies = [
        die
        for die in entries_of(build(directory, *BUILDS["DWARF 5"]))
        if isinstance(die.get(dw.DW_AT_location), bytes)
    ]
    assert dies
    for die in dies:
        assert expression_at(die, dw.DW_AT_location, 0) == die.get(dw.DW_AT_location)
        assert location_list(die, dw.DW_AT_location) is None


@pytest.mark.live("gcc")
@pytest.mark.parametrize("name", ["DWARF 5", "DWARF 4", "by hand"])
@given(position=st.integers(0, 1000), bit=st.integers(0, 7))
def test_a_bit_flipped_does_no_harm(name: str, position: int, bit: int, directory: Path) -> None:
    program = by_hand(directory) if name == "by hand" else build(directory, *BUILDS[name])
    section = Image(program).named(".debug_loc" if name == "DWARF 4" else ".debug_loclists")
    assert section is not None
    data = bytearray(program.read_bytes())
    data[section.offset + position % section.size] ^= 1 << bit
    flipped = directory / "flipped"
    flipped.write_bytes(data)
    for die in entries_of(flipped):
        try:
            entries = location_list(die, dw.DW_AT_location)
            expression_at(die, dw.DW_AT_location, 0x401010)
        except BadImage:
            continue
        assert sum(len(each.expression) for each in entries or ()) <= section.size
