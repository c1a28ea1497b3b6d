"""PE images with DWARF: the same answers as from the ELF file that they were made of, and gdb's."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from lab.gdb import batch
from lab.programs import build
from rsp.errors import BadImage, RspError
from rsp.symbols.elf.image import Image
from rsp.symbols.table import SymbolTable

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live("gcc", "objcopy")

FORMATS = {"subject.c": "pei-x86-64", "subject32.S": "pei-i386"}


def image_of(source: str, path: Path, *options: str) -> Path:
    command: list[str | Path] = ["objcopy", "-O", FORMATS[source], *options, build(source), path]
    subprocess.run(command, check=True)
    return path


@pytest.mark.parametrize("source", FORMATS)
def test_what_it_says(source: str, tmp_path: Path) -> None:
    table, elf = SymbolTable(image_of(source, tmp_path / "app.exe")), SymbolTable(build(source))
    assert table.word_size == elf.word_size
    code = {each.name for each in elf if each.section == ".text" and each.binding.value == "global"}
    assert len(code) >= 3
    for name in code:
        assert table[name].address == elf[name].address
        mine, theirs = table.locations(name), elf.locations(name)
        assert [(each.address, each.file, each.line) for each in mine] == [
            (each.address, each.file, each.line) for each in theirs
        ]
    assert {each.name for each in table} >= code
    binary, _ = next(table.binaries())
    ours, _ = next(elf.binaries())
    assert binary.image.entry == ours.image.entry
    address = elf[min(code)].address
    assert binary.read(address, 16) == ours.read(address, 16)


def test_types_and_variables(tmp_path: Path) -> None:
    table = SymbolTable(image_of("subject.c", tmp_path / "app.exe"))
    elf = SymbolTable(build("subject.c"))
    assert str(table.variable("watched")) == str(elf.variable("watched"))
    assert table.line(elf["visit"].address) == elf.line(elf["visit"].address)
    table.slide = 0x100000
    assert table["visit"].address == elf["visit"].address + 0x100000


@pytest.mark.live("gdb")
def test_gdb_says_the_same(tmp_path: Path) -> None:
    path = image_of("subject.c", tmp_path / "app.exe")
    commands = (f"file {path}", "info line visit", "output (long)&watched")
    said = subprocess.run(batch(*commands), capture_output=True, text=True, check=True).stdout
    table = SymbolTable(path)
    (place,) = table.locations("*visit")
    line = table.line(place.address)
    assert line is not None
    assert f"Line {line.line} of " in said
    assert f"address {place.address:#x} <visit>" in said
    assert said.endswith(f"{table['watched'].address}")


def test_one_without_anything_to_say(tmp_path: Path) -> None:
    path = image_of("subject.c", tmp_path / "app.exe", "--strip-all")
    with pytest.raises(BadImage, match=r"a PE image .* without DWARF and symbols"):
        SymbolTable(path)


def test_one_that_is_damaged(tmp_path: Path) -> None:
    """Its headers, byte for byte; and where it ends too early."""
    whole = image_of("subject.c", tmp_path / "app.exe").read_bytes()
    path = tmp_path / "damaged.exe"
    kinds = set()
    changed = [(at, whole[at] ^ (0x01, 0x80, 0xFF)[at % 3]) for at in range(0x3C, 0x500, 5)]
    for at, byte in [*changed, *((end, None) for end in range(0x80, len(whole), 1997))]:
        rest = b"" if byte is None else bytes([byte]) + whole[at + 1 :]
        path.write_bytes(whole[:at] + rest)
        try:
            kinds.add(type(SymbolTable(path).locations("visit")).__name__)
        except RspError as error:
            kinds.add(type(error).__name__)
    assert {"tuple", "BadImage"} <= kinds


def test_sections_that_overlap_are_refused(tmp_path: Path) -> None:
    whole = bytearray(image_of("subject.c", tmp_path / "app.exe").read_bytes())
    at = int.from_bytes(whole[0x3C:0x40], "little") + 24
    first = at + int.from_bytes(whole[at - 4 : at - 2], "little")
    for number in range(int.from_bytes(whole[at - 18 : at - 16], "little")):
        row = first + 40 * number
        whole[row + 8 : row + 12] = whole[row + 16 : row + 20] = len(whole).to_bytes(4, "little")
        whole[row + 20 : row + 24] = (1).to_bytes(4, "little")
    path = tmp_path / "hostile.exe"
    path.write_bytes(whole)
    with pytest.raises(BadImage, match="sections overlap"):
        Image(path)
