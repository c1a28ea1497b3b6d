"""What Debian's clang compiles: the prologues that it marks, and the names that ThinLTO makes.

The program was compiled once, and is assembled here: see its first line.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import lab.programs
from lab.command import run
from lab.gdb import QUIET, batch
from rsp.symbols.table import SymbolTable

pytestmark = pytest.mark.live("gcc", "gdb")

SOURCE = Path(lab.programs.__file__).parent / "clang" / "clang_prologues.s"


@pytest.mark.parametrize("vendor", ["Debian ", "Ubuntu ", "", "Apple "])
def test_a_breakpoint_goes_behind_the_marked_prologue(vendor: str, tmp_path: Path) -> None:
    text = SOURCE.read_text().replace("Debian clang version", f"{vendor}clang version")
    (tmp_path / "clang.s").write_text(text)
    program = tmp_path / "program"
    options = ["-nostdlib", "-static", "-no-pie"]
    subprocess.run(["gcc", *options, "-o", program, "clang.s"], cwd=tmp_path, check=True)
    names = ("visit", "other", "_start")
    asked = batch(*QUIET, f"file {program}", *(f"break {name}" for name in names))
    answer = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    expected = [int(at, 16) for at in re.findall(r"Breakpoint \d+ at (0x\w+)", answer)]
    table = SymbolTable(program)
    assert [place.address for name in names for place in table.locations(name)] == expected
    assert expected[0] > table["visit"].address
    assert expected[1] == table["other"].address  # nothing is set up in it


def test_a_name_of_thin_lto_is_found_by_the_one_in_the_source(tmp_path: Path) -> None:
    program = tmp_path / "program"
    subprocess.run(["gcc", "-nostdlib", "-static", "-no-pie", "-o", program, SOURCE], check=True)
    table = SymbolTable(program)
    step = table["step"]
    assert step.name == "step.llvm.8812"
    assert table["step.llvm.8812"].address == step.address
    (place,) = table.locations("step")
    assert place.address > step.address
    # A kernel leaves the hash out of its kallsyms, and so of an oops.
    (place,) = table.locations(f"step+0x4/{step.size:#x}")
    assert place.address == step.address + 4
    assert "ste" not in table
    assert "step.llvm" not in table
    assert run("sym", str(program), "step").out.split()[3] == "step.llvm.8812"
