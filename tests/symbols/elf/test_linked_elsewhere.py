"""Linked files that were loaded elsewhere, as EFI images are: gdb's add-symbol-file for each."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from lab.command import run
from lab.gdb import QUIET, batch
from rsp.errors import BadImage
from rsp.symbols.elf.image import Image
from rsp.symbols.table import SymbolTable

pytestmark = pytest.mark.live("gcc", "gdb")

SOURCE = """
int {name}_data = 7;
int {name}_bss[64];
__attribute__((noinline)) int {name}_work(int n) {{ return n + {name}_data; }}
int {name}_main(void) {{ return {name}_work({name}_bss[1]); }}
"""
SLIDES = {"first": 0x7EA8_0000, "second": 0x6D5F_3000, "third": -0x1000}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("images")
    made = {}
    for name in SLIDES:
        (directory / f"{name}.c").write_text(SOURCE.format(name=name))
        made[name] = directory / f"{name}.so"
        options = ["-g", "-O1", "-shared", "-fPIC", "-nostdlib", "-Wl,-Bsymbolic"]
        command = ["gcc", *options, "-o", str(made[name]), f"{name}.c"]
        subprocess.run(command, cwd=directory, check=True)
    return made


def add_symbol_file(path: Path, slide: int, *sections: str) -> str:
    image = Image(path)
    at = {each.name: each.address + slide for each in image.sections}
    others = " ".join(f"-s {name} {at[name]:#x}" for name in sections)
    return f"add-symbol-file {path} {at['.text']:#x} {others}"


def test_each_image_has_a_place_of_its_own(images: dict[str, Path], tmp_path: Path) -> None:
    lines = [
        add_symbol_file(images["first"], SLIDES["first"], ".data", ".bss"),
        add_symbol_file(images["second"], SLIDES["second"]),
        f"add-symbol-file {images['third']} -o {SLIDES['first'] * 2:#x}",
    ]
    script = tmp_path / "lines.gdb"
    script.write_text("\n".join(lines) + "\n")
    table = SymbolTable(images["first"])
    assert table.add_symbol_script(script) == ("first.so", "second.so", "third.so")
    assert table.slide == SLIDES["first"]
    names = [f"{name}_{what}" for name in SLIDES for what in ("work", "main", "data", "bss")]
    asked = [command for name in names for command in (f"print/x (long)&{name}",)]
    code = [f"info line {name}_work" for name in SLIDES]
    answer = subprocess.run(
        batch(*QUIET, *lines, *asked, *code), capture_output=True, text=True, check=True
    ).stdout
    expected = [int(at, 16) for at in re.findall(r"^\$\d+ = (0x\w+)", answer, re.MULTILINE)]
    # gdb leaves .bss where it was linked if its address is not given; what is linked moves whole.
    known = dict(zip(names, expected, strict=True))
    del known["second_bss"], known["second_data"]
    assert {name: table[name].address for name in known} == known
    assert table["second_data"].address == (
        SymbolTable(images["second"])["second_data"].address + SLIDES["second"]
    )
    at = [int(begin, 16) for begin in re.findall(r"starts at address (0x\w+)", answer)]
    for name, begin in zip(SLIDES, at, strict=True):
        line = table.line(begin)
        assert line is not None
        assert (Path(line.file).name, line.line) == (f"{name}.c", 4)
        assert table.lookup(begin) == table[f"{name}_work"]
        assert table.locations(f"{name}_work")[0].address == begin
    shown = run(
        *("sym", str(images["first"]), "--symbol-script", str(script), "second_work", "--json")
    )
    assert shown.json["matches"][0]["address"] == f"{known['second_work']:#x}"
    table.remove_module("second.so")
    assert "second_work" not in table


def test_sections_that_do_not_agree_are_refused(images: dict[str, Path]) -> None:
    table = SymbolTable(images["first"])
    text = next(each for each in Image(images["second"]).sections if each.name == ".text")
    with pytest.raises(BadImage, match=r"one distance: \.text by 0x1000, \.data by "):
        table.add_module(images["second"], {".text": text.address + 0x1000, ".data": 0x19000})
    with pytest.raises(BadImage, match=r"no section \.texd .*nearest: \.text"):
        table.add_module(images["second"], {".texd": 0x1000})
    with pytest.raises(BadImage, match="none given"):
        table.add_module(images["second"], {})


def test_a_pe_image_names_the_file_that_it_was_made_of(
    images: dict[str, Path], tmp_path: Path
) -> None:
    header = b"MZ" + bytes(0x3A) + (0x80).to_bytes(4, "little") + bytes(0x40) + b"PE\0\0"
    header += struct.pack("<HHIIIHHH", 0x8664, 0, 0, 0, 0, 0xF0, 0x22, 0x20B)
    image = tmp_path / "app.efi"
    image.write_bytes(header + bytes(512))
    with pytest.raises(BadImage, match=r"a PE image .* by its name"):
        SymbolTable(image)
    (tmp_path / "app.debug").write_bytes(images["first"].read_bytes())
    (tmp_path / "app.txt").write_text("no image")
    with pytest.raises(BadImage, match=re.escape(f"has them: {tmp_path / 'app.debug'}") + "$"):
        SymbolTable(image)
