"""Line programs against readelf, addr2line and gdb, on programs of gcc; and what damage may do."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rsp.errors import BadImage
from rsp.symbols.dwarf.line_header import program_offsets
from rsp.symbols.dwarf.line_search import programs_with_file
from rsp.symbols.dwarf.lines import (
    COLUMN_SHIFT,
    END_SEQUENCE,
    FILE_SHIFT,
    IS_STMT,
    PROLOGUE_END,
    LineProgram,
)
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.units import Units
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.section_data import SectionData
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAIN = """\
#include "include/inner.h"
#include "include/deep/list.h"
int other(int);
int outer(int a)
{
  int sum = 0;
  for (int i = 0; i < a; i++) sum += inner(i) ? other(i) : tail(i);
  while (a-- > 3 && sum < 100) { sum ^= inner(a); other(sum); }
  return sum;
}
void _start(void) { outer(3); for (;;) ; }
"""
OTHER = """\
#include "include/rculist.h"
int __attribute__((noinline, section(".text.apart"))) apart(int a) { return rcu(a) * 5; }
int other(int a)
{
  return a > 2 ? apart(a) : rcu(a) - 1;
}
int unused(int a)
{
  return rcu(a) + a * 2;
}
"""
HEADERS = {
    "inner.h": "static inline int inner(int a)\n{\n  if (a & 1)\nreturn a * 3;\n  return --a;\n}\n",
    "rculist.h": "static inline int rcu(int a)\n{\n  a ^= 9;\n  return a & 12;\n}\n",
    "deep/list.h": "\n\n\nstatic inline int tail(int a)\n{\n  int b = a * a;\n  return b + 1;\n}\n",
}


def write_sources(directory: Path) -> None:
    (directory / "include" / "deep").mkdir(parents=True)
    (directory / "sub").mkdir()
    (directory / "main.c").write_text(MAIN)
    (directory / "sub" / "other.c").write_text(OTHER.replace("include/", "../include/"))
    for name, text in HEADERS.items():
        (directory / "include" / name).write_text(text)


def compile_in(directory: Path, *options: str) -> Path:
    command = ["gcc", "-nostdlib", "-static", "-no-pie", "-o", "out", *options]
    subprocess.run(command, cwd=directory, check=True)
    return directory / "out"


BUILDS = {
    **{
        f"dwarf{version}-O{level}": (f"-gdwarf-{version}", f"-O{level}")
        for version in (2, 3, 4, 5)
        for level in (0, 2)
    },
    "i386": ("-m32", "-gdwarf-4", "-O2"),
    "i386-5": ("-m32", "-gdwarf-5", "-O2"),
    "gc-sections": ("-gdwarf-5", "-O2", "-ffunction-sections", "-Wl,--gc-sections"),
    "split": ("-gdwarf-4", "-O2", "-ffunction-sections", "-Wl,-Ttext=0x7000", "-fno-inline"),
}
SIXTY_FOUR = {
    "64bit-4": ("-gdwarf-4", "-gdwarf64", "-O2"),
    "64bit-5": ("-gdwarf-5", "-gdwarf64", "-O2"),
}


@pytest.fixture(params=[*BUILDS, *SIXTY_FOUR])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    write_sources(tmp_path)
    options = (BUILDS | SIXTY_FOUR)[request.param]
    return compile_in(tmp_path, *options, "main.c", "sub/other.c")


def run(*command: str | Path, stdin: str = "") -> str:
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout


def programs(path: Path) -> list[LineProgram]:
    sections = DwarfSections(Image(path))
    return [
        LineProgram(sections, unit.line_offset, unit.comp_dir)
        for unit in Units(sections)
        if unit.line_offset is not None
    ]


def gdb(path: Path, *commands: str) -> list[str]:
    options = ["-nx", "-nh", "-batch", "-ex", "set width 0", "-ex", "set pagination off"]
    for command in commands:
        options += ["-ex", command]
    return run("gdb", *options, path).splitlines()


def gdb_tables(path: Path, *addresses: int) -> Counter[tuple[str, int, int, bool]]:
    """Return gdb's tables of the units of some addresses: path, line, address, is_stmt."""
    commands = [f"info line *{address:#x}" for address in addresses]
    rows: Counter[tuple[str, int, int, bool]] = Counter()
    file = ""
    for text in gdb(path, *commands, "maint info line-table"):
        if match := re.match(r"symtab: (.*) \(\(struct symtab", text):
            file = os.path.normpath(match[1])
        elif match := re.match(r"\d+ +(\d+) +(0x\w+) +(Y?) *Y? *$", text):
            rows[file, int(match[1]), int(match[2], 16), bool(match[3])] += 1
    return rows


def our_tables(found: list[LineProgram]) -> Counter[tuple[str, int, int, bool]]:
    return Counter(
        (os.path.normpath(each.header.path(row.file)), row.line, row.address, row.is_stmt)
        for each in found
        for row in each.table
    )


def gdb_line(text: str) -> tuple[str, int, int, int] | None:
    """Return what gdb says of an address: file, line, begin, end."""
    match = re.match(
        r'Line (\d+) of "(.*)" starts at address (\w+)(?: <[^>]*>)? and ends at (\w+)', text
    )
    return match and (match[2], int(match[1]), int(match[3], 16), int(match[4], 16))


@pytest.mark.live("gcc", "readelf")
def test_the_rows_are_those_of_readelf(program: Path) -> None:
    expected: Counter[tuple[str, int | None, int, bool]] = Counter()
    for text in run("readelf", "--debug-dump=decodedline", "--wide", program).splitlines():
        if match := re.match(r"(\S+) +(\d+|-) +(0x\w+|0)(?: +\d+)?( +x)?(?: +END)?\s*$", text):
            line = None if match[2] == "-" else int(match[2])
            name = match[1].rpartition("/")[2]
            expected[name, line, int(match[3], 16), bool(match[4])] += 1
    found: Counter[tuple[str, int | None, int, bool]] = Counter()
    for each in programs(program):
        addresses, lines, states, _, damage = each.rows
        assert damage is None
        for address, line, state in zip(addresses, lines, states, strict=True):
            name = each.header.path(state >> FILE_SHIFT).rpartition("/")[2]
            ended = bool(state & END_SEQUENCE)
            found[name, None if ended else line, address, bool(state & IS_STMT)] += 1
    # The statement mark of an end of sequence is not shown.
    assert plain(found) == plain(expected)
    assert expected.total() > 20


def plain(
    rows: Counter[tuple[str, int | None, int, bool]],
) -> Counter[tuple[str, int | None, int, bool]]:
    return Counter(
        (name, line, address, statement and line is not None)
        for name, line, address, statement in rows.elements()
    )


@pytest.mark.live("gcc", "gdb")
def test_the_tables_are_those_of_gdb(program: Path) -> None:
    found = programs(program)
    addresses = [next(iter(each.table)).address for each in found]
    assert our_tables(found) == gdb_tables(program, *addresses)


@pytest.mark.live("gcc", "gdb")
def test_every_address_has_the_row_of_gdb(program: Path) -> None:
    found = programs(program)
    checked = 0
    for each in found:
        rows = list(each.table)
        begin, end = min(rows).address, max(row.end for row in rows)
        addresses = range(begin, min(end, begin + 0x200))
        said = gdb(program, *(f"info line *{address:#x}" for address in addresses))
        for address, text in zip(addresses, said, strict=True):
            row = each.table.row_at(address)
            if row is None and gdb_line(text):  # another unit's code lies between
                assert any(other.table.row_at(address) for other in found)
                continue
            ours = row and (each.header.name(row.file), row.line, row.address, row.end)
            assert ours == gdb_line(text), text
            checked += row is not None
    assert checked > 50


@pytest.mark.live("gcc", "addr2line")
@pytest.mark.parametrize("build", ["dwarf2-O0", "dwarf3-O0", "dwarf4-O0", "i386"])
def test_every_address_has_the_line_of_addr2line(tmp_path: Path, build: str) -> None:
    # At -O2 binutils and gdb choose among several rows of an address by different rules; and
    # addr2line of binutils 2.40 takes file 0 of version 5 for file 1 where a sequence begins.
    options = [option for option in BUILDS[build] if option != "-O2"]
    write_sources(tmp_path)
    program = compile_in(tmp_path, *options, "main.c", "sub/other.c")
    found = programs(program)
    addresses = [at for each in found for row in each.table for at in range(row.address, row.end)]
    said = run("addr2line", "--exe", program, stdin="\n".join(map(hex, addresses))).splitlines()
    for address, text in zip(addresses, said, strict=True):
        each, row = next(
            (each, row) for each in found if (row := each.table.row_at(address)) is not None
        )
        expected = text.partition(" (discriminator")[0]
        assert f"{each.header.path(row.file)}:{row.line}" == expected


@pytest.mark.live("gcc", "gdb")
@pytest.mark.parametrize("seed", range(6))
def test_rows_that_no_compiler_writes(tmp_path: Path, seed: int) -> None:
    # Several rows at one address, files that come back, statements or not, discriminators, line 0.
    rng = random.Random(seed)
    body = ['.file 2 "a.h"', '.file 3 "b.h"', '.file 4 "c.h"']
    for _ in range(300):
        options = ""
        if rng.random() < 0.4:
            options += f" is_stmt {rng.randrange(2)}"
        if rng.random() < 0.3:
            options += f" discriminator {rng.randrange(3)}"
        if rng.random() < 0.1:
            options += " prologue_end"
        body.append(f".loc {rng.randrange(2, 5)} {rng.choice([0, 5, 5, 6, 7])} 1{options} view .V")
        body += ["nop"] * rng.choice([0, 0, 1, 2])
    # A view makes the assembler write a row where it would put two together.
    lines = [re.sub("[.]V$", f".V{number}", text) for number, text in enumerate(body)]
    assembly = "".join("  asm volatile(" + json.dumps(text) + ");\n" for text in lines)
    (tmp_path / "odd.c").write_text("void _start(void)\n{\n" + assembly + "}\n")
    program = compile_in(tmp_path, "-gdwarf-5", "-O2", "odd.c")
    (found,) = programs(program)
    assert len(list(found.table)) > 100
    assert our_tables([found]) == gdb_tables(program, next(iter(found.table)).address)


def test_the_rows_of_the_boot_sector() -> None:
    (found,) = programs(ELF)
    row = found.table.row_at(0x7CC7)
    assert row is not None
    assert (row.address, row.end, row.line, row.is_stmt) == (0x7CC7, 0x7CD1, 155, True)
    assert found.table.row_at(0x7BFF) is None
    assert found.table.row_at(1 << 70) is None
    assert found.table.row_at(-1) is None
    assert found.table.addresses([1], 155) == [0x7CC7]
    assert found.table.addresses([77], 155) == []
    assert found.table.addresses([1], 0) == found.table.addresses([1], -1) == []


@pytest.mark.live("gcc")
def test_the_nearest_line(program: Path) -> None:
    for each in programs(program):
        by_line: dict[tuple[int, int], set[int]] = {}
        for row in each.table:
            if row.is_stmt:
                by_line.setdefault((row.file, row.line), set()).add(row.address)
        fresh = LineProgram(each.header.sections, each.header.offset).table
        for file in {file for file, _ in by_line}:
            for line in range(1, 15):
                expected = sorted(by_line.get((file, line), ()))
                # Once with the whole table made, and once without.
                assert each.table.addresses([file], line) == expected
                assert fresh.addresses([file], line) == expected
                after = [number for name, number in by_line if name == file and number >= line]
                assert each.table.nearest_line([file], line) == min(after, default=None)
                assert fresh.nearest_line([file], line) == min(after, default=None)


@pytest.mark.live("gcc")
def test_programs_with_a_file(program: Path) -> None:
    sections = DwarfSections(Image(program))
    comp_dirs = {unit.line_offset: unit.comp_dir for unit in Units(sections)}
    first, second = sorted(offset for offset in comp_dirs if offset is not None)
    here = str(program.parent)

    def search(suffix: str) -> dict[int, set[str]]:
        found = programs_with_file(sections, suffix, lambda offset: comp_dirs[offset])
        return {
            each.header.offset: {each.header.path(file) for file in files} for each, files in found
        }

    assert search("main.c").keys() == {first}
    assert search("other.c") == search("sub/other.c") == {second: {f"{here}/sub/other.c"}}
    assert search("inner.h").keys() == search("include/inner.h").keys() == {first}
    # Merged by their ends in the string section, and still two names.
    assert search("list.h") == {first: {f"{here}/include/deep/list.h"}}
    assert search("rculist.h").keys() == {second}
    assert search("deep/list.h").keys() == {first}
    assert search(f"{here}/include/deep/list.h").keys() == {first}
    for absent in (
        "\ud800.h",
        "ist.h",
        "eep/list.h",
        "/list.h",
        "x/list.h",
        "include/list.h",
        "",
        "/",
        "no.c",
    ):
        assert search(absent) == {}
    assert search(f"/x{here}/main.c") == {}


def test_names_that_are_ends_of_others() -> None:
    # In .debug_line_str: a name may be any end of a string; here 'fs/x.c' is one of 'xfs/x.c'.
    strings = b"\0/home\0xfs/x.c\0"
    header = header_of_5([1], [(7, 0), (8, 0), (11, 0)])
    sections = sections_of(header, line_str=strings)
    for suffix, files in {
        "x.c": [0, 1, 2],
        "fs/x.c": [1],
        "xfs/x.c": [0],
        "/home/x.c": [2],
        "/home/fs/x.c": [1],
    }.items():
        assert [found[1] for found in programs_with_file(sections, suffix)] == [files], suffix
    assert programs_with_file(sections, "home") == []
    (found,) = programs_with_file(sections, "xfs/x.c")
    assert (found[0].header.name(0), found[0].header.path(0)) == ("xfs/x.c", "/home/xfs/x.c")


def test_a_prologue_end_and_a_column() -> None:
    # set_address 0x1000, advance_line 4, set_column 300, set_prologue_end, copy, a special opcode.
    code = b"\0\x09\x02\x00\x10\0\0\0\0\0\0\x03\x04\x05\xac\x02\x0a\x01\x4b\x02\x02\0\x01\x01"
    program = LineProgram(sections_of(header_of_5([1], [(7, 0)] * 2, code)), 0)
    addresses, lines, states, ends, damage = program.rows
    assert damage is None
    assert list(addresses) == [0x1000, 0x1004, 0x1006]
    assert list(lines) == [5, 6, 6]
    assert [state >> COLUMN_SHIFT & 0xFFFFFF for state in states] == [300] * 3
    assert [bool(state & PROLOGUE_END) for state in states] == [True, False, False]
    assert list(ends) == [3]
    assert program.table.row_at(0x1005) == (0x1004, 0x1006, 0, 6, 300, True)


def test_what_is_before_the_damage_is_there() -> None:
    code = b"\0\x09\x02\x00\x10\0\0\0\0\0\0\x01\x4b\x4b\x02"
    program = LineProgram(sections_of(header_of_5([1], [(7, 0)] * 2, code)), 0)
    damage = program.rows.damage
    assert damage is not None
    assert (damage.section, damage.offset) == (".debug_line", program.header.end)
    row = program.table.row_at(0x1002)
    assert row is not None
    assert (row.address, row.end, row.line) == (0x1000, 0x1004, 1)
    # How far the last one goes was never said.
    assert program.table.row_at(0x1008) is None


def test_what_has_no_length_is_no_row() -> None:
    # Three rows, the last two of them where the sequence ends.
    code = b"\0\x09\x02\x00\x10\0\0\0\0\0\0\x01\x4b\x01\0\x01\x01"
    program = LineProgram(sections_of(header_of_5([1], [(7, 0)] * 2, code)), 0)
    assert [tuple(row)[:4] for row in program.table] == [(0x1000, 0x1004, 0, 1)]
    assert program.table.addresses([0], 2) == []
    assert program.table.nearest_line([0], 2) is None
    assert len(program.rows.lines) == 4


@pytest.mark.parametrize(
    ("position", "value"), [(0, 2), (4, 9), (8, 0xFF), (16, 0), (17, 0), (17, 99)], ids=str
)
def test_damaged_headers(position: int, value: int) -> None:
    header = bytearray(header_of_5([1], [(7, 0)]))
    header[position] = value
    with pytest.raises(BadImage) as caught:
        LineProgram(sections_of(bytes(header)), 0)
    assert caught.value.section == ".debug_line"


def test_a_number_of_a_file_that_is_not_there() -> None:
    program = LineProgram(sections_of(header_of_5([1], [(7, 0)])), 0)
    with pytest.raises(BadImage, match="no file 5"):
        program.header.name(5)


def header_of_5(directories: list[int], files: list[tuple[int, int]], code: bytes = b"") -> bytes:
    """Return a program of version 5 whose names are offsets in .debug_line_str."""
    tables = b"\x01\x01\x1f" + bytes([len(directories)])
    tables += b"".join(offset.to_bytes(4, "little") for offset in directories)
    tables += b"\x02\x01\x1f\x02\x0b" + bytes([len(files)])
    tables += b"".join(name.to_bytes(4, "little") + bytes([at]) for name, at in files)
    fields = b"\x01\x01\x01\xfb\x0e\x0d" + b"\0\1\1\1\1\0\0\0\1\0\0\1" + tables
    body = b"\x05\x00\x08\x00" + len(fields).to_bytes(4, "little") + fields + code
    return len(body).to_bytes(4, "little") + body


def sections_of(line: bytes, line_str: bytes = b"\0/home\0x.c\0") -> DwarfSections:
    sections = DwarfSections(Image(ELF))
    sections.line = SectionData(".debug_line", line, 0, len(line))
    sections.line_str = SectionData(".debug_line_str", line_str, 0, len(line_str))
    return sections


def ask_everything(sections: DwarfSections) -> None:
    """Ask what there is to ask: nothing may come out of it but BadImage, and soon."""
    for offset in program_offsets(sections):
        try:
            each = LineProgram(sections, offset)
        except BadImage:
            continue
        addresses, lines, states, ends, _ = each.rows
        size = each.header.end - each.header.begin
        assert len(addresses) == len(lines) == len(states) <= size + 1
        assert len(ends) <= len(lines)
        numbers = sorted({state >> FILE_SHIFT for state in states})
        near = [each.table.addresses(numbers, line) for line in sorted(set(lines))[:20]]
        assert all(found == sorted(set(found)) for found in near)
        each.table.nearest_line(numbers, 1)
        rows = list(each.table)
        assert [row.address for row in rows] == sorted(row.address for row in rows)
        for row in rows[:50]:
            assert row.line > 0
            if row.end > row.address:
                found = each.table.row_at(row.address)
                assert found is not None
                assert found.address == row.address
        for number in numbers[:20]:
            try:
                each.header.path(number)
            except BadImage:
                continue
    for name in ("boot.S", "main.c", "list.h"):
        programs_with_file(sections, name)


def small_programs() -> Iterator[tuple[str, bytes, bytes]]:
    image = Image(ELF)
    line, strings = image.contents(".debug_line"), image.contents(".debug_line_str")
    yield "boot", line[:], strings[:]
    code = b"\0\x09\x02\x00\x10\0\0\0\0\0\0\x01\x04\x00\x4b\x0a\x06\x4c\0\x02\x04\x03\x4b\0\x01\x01"
    five = header_of_5([1], [(7, 0)] * 3, code)
    yield "five", five, b"\0/home\0list.h\0"
    fields = b"\x01\x01\x01\xfb\x0e\x0d" + b"\0\1\1\1\1\0\0\0\1\0\0\1"
    fields += b"include\0\0main.c\0\0\0\0list.h\0\x01\0\0\0"
    body = b"\x04\x00" + len(fields).to_bytes(4, "little") + fields + code
    yield "four", len(body).to_bytes(4, "little") + body + five, b"\0/home\0list.h\0"


SMALL = list(small_programs())


@given(
    which=st.sampled_from(SMALL),
    changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), max_size=4),
    cut=st.none() | st.integers(0, 1 << 16),
)
@example(which=SMALL[0], changes=[], cut=None)
def test_a_damaged_section_gives_rows_or_damaged(
    which: tuple[str, bytes, bytes], changes: list[tuple[int, int]], cut: int | None
) -> None:
    _, line, strings = which
    data = bytearray(line)
    for position, value in changes:
        data[position % len(data)] = value
    if cut is not None:
        del data[cut % len(data) :]
    ask_everything(sections_of(bytes(data), strings))


@given(st.binary(max_size=200))
def test_any_opcodes_give_rows(code: bytes) -> None:
    ask_everything(sections_of(header_of_5([1], [(7, 0)] * 3, code)))


OPCODES = st.one_of(
    st.sampled_from([b"\x01", b"\x06", b"\x0a", b"\0\x02\x04\x01"]),
    st.integers(0, 3).map(lambda file: bytes([4, file])),
    # The line by -1, 0 or 1, the address by 0 or 1: rows that are of one line, or at one place.
    st.sampled_from([b"\x11", b"\x12", b"\x13", b"\x1f", b"\x20", b"\x21"]),
)


@given(st.lists(OPCODES, max_size=60))
def test_a_line_is_found_without_the_whole_table(opcodes: list[bytes]) -> None:
    code = b"\0\x09\x02\x00\x10\0\0\0\0\0\0" + b"".join(opcodes) + b"\0\x01\x01"
    sections = sections_of(header_of_5([1], [(7, 0), (7, 0), (8, 0)], code))
    whole = LineProgram(sections, 0).table
    rows = list(whole)
    for file in (0, 2):
        for line in {row.line for row in rows} | {1, 2}:
            fresh = LineProgram(sections, 0).table
            at = {row.address for row in rows if row[2:4] == (file, line) and row.is_stmt}
            assert fresh.addresses([file], line) == whole.addresses([file], line) == sorted(at)


@given(st.lists(OPCODES, max_size=200))
def test_an_address_is_found_without_the_whole_table(opcodes: list[bytes]) -> None:
    code = b"\0\x09\x02\x00\x10\0\0\0\0\0\0" + b"".join(opcodes) + b"\0\x01\x01"
    sections = sections_of(header_of_5([1], [(7, 0), (7, 0), (8, 0)], code))
    whole = LineProgram(sections, 0).table
    list(whole)  # makes all of it
    for address in range(0xFFF, 0x1000 + len(opcodes) + 2):
        assert LineProgram(sections, 0).table.row_at(address) == whole.row_at(address)


@pytest.mark.live("gcc")
def test_every_address_of_a_program_is_found_without_the_whole_table(program: Path) -> None:
    for offset in program_offsets(DwarfSections(Image(program))):
        sections = DwarfSections(Image(program))
        whole = LineProgram(sections, offset).table
        rows = list(whole)
        for row in rows:
            for address in (row.address - 1, row.address, row.end - 1, row.end):
                fresh = LineProgram(sections, offset).table
                assert fresh.row_at(address) == whole.row_at(address)


@pytest.mark.parametrize(
    ("opcodes", "expected"),
    [
        # In file 2 no statement, which is ignored, and then one: the first that counts there.
        (b"\x01\x04\x02\x06\0\x02\x04\x01\x01\x06\0\x02\x04\x01\x01\x20", [0x1000]),
        # File 9 is not in the header: file 2 has not changed, and a discriminator adds no row.
        (b"\x04\x02\x01\x04\x09\x20\x04\x02\0\x02\x04\x01\x20\x02\x03", [0x1000]),
    ],
)
def test_where_a_look_around_must_begin(opcodes: bytes, expected: list[int]) -> None:
    code = b"\0\x09\x02\x00\x10\0\0\0\0\0\0" + opcodes + b"\0\x01\x01"
    sections = sections_of(header_of_5([1], [(7, 0), (7, 0), (8, 0)], code))
    whole = LineProgram(sections, 0).table
    assert sorted({row.address for row in whole if row.file == 2 and row.is_stmt}) == expected
    assert LineProgram(sections, 0).table.addresses([2], 1) == expected


def test_a_hostile_program_is_bounded() -> None:
    # Rows without end at one address, numbers without end, and a table that claims to be large.
    for code in (b"\x01" * 200_000, b"\x04" + b"\x80" * 200_000, b"\x02" + b"\xff" * 200_000):
        ask_everything(sections_of(header_of_5([1], [(7, 0)] * 2, code)))
    header = header_of_5([1], [])
    ask_everything(sections_of(header[:-1] + b"\xff\xff\xff\xff\x0f"))
    # A sequence in one file, each row of the same line.
    code = b"\0\x09\x02\x00\x10\0\0\0\0\0\0" + b"\x20\x01\x12" * 50_000 + b"\0\x01\x01"
    ask_everything(sections_of(header_of_5([1], [(7, 0)] * 2, code)))
