"""The lines of real kernels, against gdb and addr2line: DWARF 5 on x86-64, DWARF 4 on i386."""

from __future__ import annotations

import os
import random
import re
import subprocess
from bisect import bisect_right
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pytest

from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.line_header import program_offsets
from rsp.symbols.dwarf.line_search import programs_with_file
from rsp.symbols.dwarf.lines import FILE_SHIFT, LineProgram, Row
from rsp.symbols.dwarf.ranges import pc_ranges
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.units import Units
from rsp.symbols.elf.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.kernels import BuiltKernel, DebianKernel

UNITS, ADDRESSES = 120, 30

TableRow = tuple[str, int, int, bool]


class Sample(NamedTuple):
    """A seeded choice of units of a kernel, and of addresses in them."""

    path: Path
    sections: DwarfSections
    programs: list[LineProgram]
    addresses: list[tuple[int, LineProgram]]
    covered: list[tuple[int, int]]

    def covers(self, address: int) -> bool:
        index = bisect_right(self.covered, (address, 1 << 64)) - 1
        return index >= 0 and address < self.covered[index][1]


@cache
def sample_of(path: Path) -> Sample:
    rng = random.Random(6)
    sections = DwarfSections(Image(path))
    units = [unit for unit in Units(sections) if unit.line_offset is not None]
    programs: list[LineProgram] = []
    addresses: list[tuple[int, LineProgram]] = []
    covered: list[tuple[int, int]] = []
    for unit in rng.sample(units, UNITS):
        ranges = pc_ranges(Die.root_of(unit))
        if not ranges or unit.line_offset is None:
            continue
        program = LineProgram(sections, unit.line_offset, unit.comp_dir)
        programs.append(program)
        covered += ranges
        chosen = [rng.randrange(*rng.choice(ranges)) for _ in range(ADDRESSES)]
        addresses += [(address, program) for address in chosen]
    return Sample(path, sections, programs, addresses, sorted(covered))


@pytest.fixture(params=["debian", "i386"])
def sample(
    request: pytest.FixtureRequest,
    debian_kernel: DebianKernel,
    built_kernel: Callable[[str], BuiltKernel],
) -> Sample:
    kernel = debian_kernel if request.param == "debian" else built_kernel(request.param)
    return sample_of(kernel.vmlinux)


def gdb(path: Path, commands: list[str], script: Path) -> list[str]:
    script.write_text("\n".join(["set width 0", "set pagination off", *commands]) + "\n")
    command = ["gdb", "-nx", "-nh", "-batch", "-x", str(script), str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.live("gdb")
def test_the_tables_are_those_of_gdb(sample: Sample, tmp_path: Path) -> None:
    ours: Counter[TableRow] = Counter(
        (os.path.normpath(program.header.path(row.file)), row.line, row.address, row.is_stmt)
        for program in sample.programs
        for row in program.table
        if sample.covers(row.address)
    )
    asked = {program.header.offset: address for address, program in sample.addresses}
    commands = [f"info line *{address:#x}" for address in asked.values()]
    theirs: Counter[TableRow] = Counter()
    file = ""
    for text in gdb(sample.path, [*commands, "maint info line-table"], tmp_path / "commands"):
        if match := re.match(r"symtab: (.*) \(\(struct symtab", text):
            file = os.path.normpath(match[1])
        elif match := re.match(r"\d+ +(\d+) +(0x\w+) +(Y?) *Y? *$", text):
            theirs[file, int(match[1]), int(match[2], 16), bool(match[3])] += 1
    # gdb has read more units than those that it was asked for.
    assert ours == Counter({row: n for row, n in theirs.items() if sample.covers(row[2])})
    assert ours.total() > 10_000


@pytest.mark.live("gdb")
def test_random_addresses_have_the_row_of_gdb(sample: Sample, tmp_path: Path) -> None:
    commands = [f"info line *{address:#x}" for address, _ in sample.addresses]
    said = gdb(sample.path, commands, tmp_path / "commands")
    ends = 0
    for (address, program), text in zip(sample.addresses, said, strict=True):
        row = program.table.row_at(address)
        match = re.match(
            r'Line (\d+) of "(.*)" starts at address (\w+)(?: <[^>]*>)? and ends at (\w+)', text
        )
        if row is None or match is None:
            assert row is None, text
            assert match is None, text
            continue
        expected = match[2], int(match[1]), int(match[3], 16)
        assert (program.header.name(row.file), row.line, row.address) == expected, text
        # gdb 13 forgets to end the rows of a file where another one was ignored in between (it has
        # no statement, at an address that has one): it says a later end then.
        assert row.end <= int(match[4], 16), text
        ends += row.end == int(match[4], 16)
    assert ends > 0.99 * len(said) > 1000


@pytest.mark.live("addr2line")
def test_addr2line_names_a_row_of_the_same_address(sample: Sample) -> None:
    # binutils takes the last row of an address where gdb takes the last statement, so that one
    # answer in ten differs; the row is there all the same. And in version 5 binutils 2.40 takes
    # file 0 for file 1 where a sequence begins.
    numbers = "\n".join(hex(address) for address, _ in sample.addresses)
    command = ["addr2line", "--exe", str(sample.path)]
    finished = subprocess.run(command, input=numbers, capture_output=True, text=True, check=True)
    same = 0
    for (_, program), row, text in zip(
        sample.addresses,
        [program.table.row_at(address) for address, program in sample.addresses],
        finished.stdout.splitlines(),
        strict=True,
    ):
        if row is None:
            continue
        said = text.partition(" (discriminator")[0]
        assert said in written_at(program, row)
        same += said == f"{program.header.path(row.file)}:{row.line}"
    assert same > 0.85 * len(sample.addresses)


def written_at(program: LineProgram, row: Row) -> set[str]:
    rows, header = program.rows, program.header
    written = set()
    for address, line, state in zip(rows.addresses, rows.lines, rows.states, strict=True):
        if row.address <= address < row.end:
            file = state >> FILE_SHIFT
            written.add(f"{header.path(file)}:{line}")
            if header.version >= 5 and file == 1:
                written.add(f"{header.path(0)}:{line}")
    return written


def test_the_programs_that_know_a_file(sample: Sample) -> None:
    sections = sample.sections
    comp_dirs = {unit.line_offset: unit.comp_dir for unit in Units(sections)}
    everything = [
        (offset, file, f"/{header.path(file)}")
        for offset in program_offsets(sections)
        if (header := LineProgram(sections, offset, comp_dirs[offset]).header)
        for file in range(header.first_file, header.first_file + len(header.files.entries))
    ]
    for suffix in ("list.h", "include/linux/list.h", "main.c", "init/main.c", "core.c", "t.h"):
        expected: dict[int, list[int]] = {}
        for offset, file, path in everything:
            if path.endswith(f"/{suffix}"):
                expected.setdefault(offset, []).append(file)
        found = programs_with_file(sections, suffix, lambda offset: comp_dirs[offset])
        assert {program.header.offset: files for program, files in found} == expected
        assert bool(found) == (suffix != "t.h")


def test_the_addresses_of_a_line_are_those_of_the_table(sample: Sample) -> None:
    checked = 0
    for program in sample.programs:
        header = program.header
        wanted: dict[tuple[int, int], set[int]] = {}
        for row in program.table:
            if row.is_stmt:
                wanted.setdefault((row.file, row.line), set()).add(row.address)
        fresh = LineProgram(sample.sections, header.offset, header.comp_dir).table
        for (file, line), addresses in sorted(wanted.items())[:60]:
            assert fresh.addresses([file], line) == sorted(addresses)
            checked += 1
    assert checked > 1000
