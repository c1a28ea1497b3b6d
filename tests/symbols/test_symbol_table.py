"""Symbols and lines, against nm, addr2line and readelf; and what damage to a file may do."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.offline import ask_python
from rsp.errors import ArgumentError, BadImage, SymbolNotFound
from rsp.symbols.table import SourceLine, SymbolKind, SymbolTable
from rsp.testing.boot import ELF, SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# nm's letters for what another file defines: a symbol, a weak one, a weak object.
UNDEFINED = set("Uwv")


@pytest.fixture(params=["boot.elf", "subject.c", "subject32.S"])
def program(request: pytest.FixtureRequest, build_program: Callable[[str], Path]) -> Path:
    return ELF if request.param == "boot.elf" else build_program(request.param)


def run(*command: str | Path, stdin: str = "") -> str:
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout


@pytest.mark.live("nm", "gcc")
def test_the_symbols_are_those_of_nm(program: Path) -> None:
    expected: Counter[tuple[str, int, int, bool]] = Counter()
    for line in run("nm", "--format=posix", program).splitlines():
        name, letter, *numbers = line.split(" ")
        if letter not in UNDEFINED:
            address, size = (int(number, 16) if number else 0 for number in numbers)
            is_global = letter.isupper() or letter == "u"  # unique global
            expected[name, address, size, is_global] += 1
    table = SymbolTable(program)
    found = Counter((each.name, each.address, each.size, each.is_global) for each in table)
    assert found == expected
    assert len(table) == expected.total() >= 8


@pytest.mark.live("readelf", "gcc")
def test_the_kinds_are_those_of_readelf(program: Path) -> None:
    kinds = {"FUNC": SymbolKind.FUNCTION, "OBJECT": SymbolKind.OBJECT, "NOTYPE": SymbolKind.LABEL}
    rows = re.findall(
        r"^ *\d+: (\w+) +\S+ +(FUNC|OBJECT|NOTYPE) +\S+ +\S+ +\d+ (\S+)$",
        run("readelf", "--symbols", "--wide", program).partition("'.symtab'")[2],
        re.MULTILINE,
    )
    expected = Counter((name, int(address, 16), kinds[kind]) for address, kind, name in rows)
    assert expected
    assert (
        Counter((each.name, each.address, each.kind) for each in SymbolTable(program)) == expected
    )


LINE = re.compile(r'^Line (\d+) of "(.*)" (?:starts at|is at) address', re.MULTILINE)


def lines_of_gdb(program: Path, addresses: list[int]) -> list[tuple[str, int] | None]:
    """Return gdb's file and line of each address."""
    questions = [argument for at in addresses for argument in ("-ex", f"info line *{at:#x}")]
    answers = run("gdb", "-nx", "-batch", *questions, program).splitlines()
    assert len(answers) == len(addresses)
    found = [LINE.match(answer) for answer in answers]
    return [(match[2], int(match[1])) if match else None for match in found]


@pytest.mark.live("gdb", "gcc")
def test_every_address_has_the_line_of_gdb(program: Path) -> None:
    table = SymbolTable(program)
    sizes = [(each.address, each.size) for each in table if each.kind is SymbolKind.FUNCTION]
    addresses = sorted({at for start, size in sizes for at in range(start, start + size + 1)})
    assert addresses
    ours = [table.line(address) for address in addresses]
    found = [(line.file, line.line) if line else None for line in ours]
    assert found == lines_of_gdb(program, addresses)


@pytest.mark.live("gcc", "gdb")
@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_every_version_of_dwarf(tmp_path: Path, version: int) -> None:
    inner = "static int inner(int a)\n{\n  return a * 3;\n}\n"
    main = (
        "int outer(int a)\n{\n  return inner(a) + 1;\n}\nint _start(int a) { return outer(a); }\n"
    )
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "inner.h").write_text(inner)
    (tmp_path / "main.c").write_text(f'#include "include/inner.h"\n{main}')
    options = [f"-gdwarf-{version}", "-O1", "-nostdlib", "-static", "-no-pie", "main.c"]
    for width in ("32", "64"):
        subprocess.run(["gcc", *options, f"-gdwarf{width}", "-o", width], cwd=tmp_path, check=True)
        test_every_address_has_the_line_of_gdb(tmp_path / width)


@pytest.mark.live("gcc", "gdb")
def test_compressed_sections(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("int _start(int a)\n{\n  return a * 7;\n}\n")
    options = ["-g", "-gz", "-nostdlib", "-static", "-no-pie"]
    subprocess.run(["gcc", *options, "-o", "out", "main.c"], cwd=tmp_path, check=True)
    test_every_address_has_the_line_of_gdb(tmp_path / "out")


def test_a_symbol_by_name_and_by_address() -> None:
    table = SymbolTable(ELF)
    symbol = table["long_start"]
    assert (symbol.address, symbol.size, symbol.kind) == (0x7CC7, 75, SymbolKind.FUNCTION)
    assert "long_start" in table
    assert "longstart" not in table
    assert {table.lookup(at) for at in range(0x7CC7, 0x7CC7 + 75)} == {symbol}
    assert table.lookup(0x4000) == table.lookup(0x4007) == table["counter"]
    first = 1 + next(n for n, line in enumerate(SOURCE.read_text().splitlines()) if "ljmp" in line)
    line = table.line(0x7C00)
    file = "rsp/testing/boot/boot.S"
    assert line == SourceLine(file=file, line=first, directory="rsp/testing/boot")
    assert (str(line), line.path) == (f"{file}:{first}", file)


@pytest.mark.live("gcc")
@pytest.mark.parametrize(("option", "size"), [("-m32", 4), ("-m64", 8)])
def test_the_size_of_an_address(option: str, size: int, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("struct s { int x; } it; int main(void) { return it.x; }\n")
    command = ["gcc", "-g", option, "-nostdlib", "-static", "-Wl,-emain", "-o", "out", "main.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    table = SymbolTable(tmp_path / "out", cache=False)
    assert table.word_size == table.type("struct s *").size == size


def test_addresses_of_nothing() -> None:
    table = SymbolTable(ELF)
    for address in (0, 0x3FFF, 0x4008, 0x7BFF, 0x8000, 0xFFFFFFFFFFFFFFFF, 1 << 64, -1):
        assert table.lookup(address) is None
        assert table.line(address) is None


def test_a_label_without_a_size_reaches_to_the_end_of_its_section() -> None:
    table = SymbolTable(ELF)
    assert table["gdt_pointer"].size == 0
    assert table.lookup(0x7DFF) == table["gdt_pointer"]


def test_a_name_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(SymbolNotFound, match=r"'longstart'.*nearest: long_start") as caught:
        SymbolTable(ELF)["longstart"]
    assert caught.value.name == "longstart"
    assert isinstance(caught.value, KeyError)


@pytest.mark.live("gcc")
def test_a_stripped_file_has_no_symbols_and_says_so(tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text("int _start(void) { return 0; }\n")
    stripped = tmp_path / "stripped"
    options = ["-s", "-nostdlib", "-static", "-no-pie"]
    subprocess.run(["gcc", *options, "-o", stripped, source], check=True)
    table = SymbolTable(stripped)
    assert len(table) == 0
    assert table.lookup(0x401000) is None
    assert table.line(0x401000) is None
    with pytest.raises(SymbolNotFound, match="stripped"):
        table["_start"]


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"\x7fELF" + bytes(60), b"#!/bin/sh\n", bytes(4096)]
)
def test_what_is_not_elf_is_a_bad_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(BadImage) as caught:
        SymbolTable(path)
    assert caught.value.path == str(path)


def test_a_file_that_cannot_be_read_is_a_bad_image(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="No such file"):
        SymbolTable(tmp_path / "nothing")
    with pytest.raises(BadImage, match="directory"):
        SymbolTable(tmp_path)
    with pytest.raises(ArgumentError, match="path is"):
        SymbolTable("a\0b")
    with pytest.raises(BadImage, match="no file"):
        SymbolTable("/dev/zero")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BadImage, match="no file"):
        SymbolTable(tmp_path / "fifo")


def ask_everything(path: Path) -> None:
    """Ask all there is to ask; only BadImage may come out."""
    try:
        table = SymbolTable(path)
        for symbol in table:
            assert symbol.name in table
        for address in (0, 0x4000, 0x7C00, 0x7CC7, 0x7D12, 0x7DFF, 0xFFFFFFFF):
            table.lookup(address)
            table.line(address)
    except BadImage as error:
        assert error.path == str(path)  # noqa: PT017 - or no error at all


WHOLE = ELF.read_bytes()


@given(length=st.integers(0, len(WHOLE)))
def test_a_truncated_file(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "truncated.elf"
    path.write_bytes(WHOLE[:length])
    ask_everything(path)


@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, len(WHOLE) - 1),
            st.sampled_from([b"\0", b"\xff", b"\x80", b"\x7f", b"\xff" * 8, bytes(8)])
            | st.binary(min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_damaged_file(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, bytes]]
) -> None:
    data = bytearray(WHOLE)
    for offset, value in changes:
        data[offset : offset + len(value)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.elf"
    path.write_bytes(data)
    ask_everything(path)


@given(st.binary(max_size=600).map(lambda tail: WHOLE[:64] + tail))
def test_a_header_followed_by_anything(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "header.elf"
    path.write_bytes(content)
    ask_everything(path)


def test_a_slide_moves_every_place_and_no_absolute_number() -> None:
    linked, slid = SymbolTable(ELF), SymbolTable(ELF, slide=0x200000)
    for symbol in linked:
        absolute = symbol.kind is SymbolKind.ABSOLUTE
        assert slid[symbol.name].address - symbol.address == (0 if absolute else 0x200000)
        if absolute or not symbol.size:
            continue
        found = slid.lookup(symbol.address + 0x200000)
        was = linked.lookup(symbol.address)
        assert found is not None
        assert was is not None
        assert found.name == was.name
        assert slid.line(symbol.address + 0x200000) == linked.line(symbol.address)
    assert slid.line(linked["tick"].address) is None


@pytest.mark.live("gcc", "gdb")
def test_blocks_whose_names_only_the_origin_has(tmp_path: Path) -> None:
    """A static variable in a block of an inlined function: the copies do not repeat it."""
    (tmp_path / "main.c").write_text(
        "static int *volatile last;\n"
        "static inline __attribute__((always_inline)) void init(int n)\n"
        "{\n"
        "  { static int k; last = &k; *last = n; } { static int k; last = &k; *last = n; }\n"
        "}\n"
        "int _start(int n) { init(n); init(n + 1); return n; }\n"
    )
    options = ["-g", "-O2", "-nostdlib", "-static", "-no-pie", "-o", "program"]
    subprocess.run(["gcc", *options, "main.c"], cwd=tmp_path, check=True)
    theirs = ask_python([f"file {tmp_path}/program"], {"places": ["main.c:4"]})["places"][0]
    places = SymbolTable(tmp_path / "program", cache=False).locations("main.c:4")
    assert [[place.address, place.file, place.line] for place in places] == theirs
    assert len(theirs) == 4
