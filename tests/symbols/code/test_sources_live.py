"""Source lines, against gdb's list and set substitute-path."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from lab.inlining import SOURCES
from lab.offline import ask
from rsp.symbols.table import SymbolTable

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.live("gcc", "gdb")


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("moved", ["whole", "prefix"])
def test_a_moved_tree_is_listed_as_gdb_lists_it(tmp_path: Path, version: int, moved: str) -> None:
    built, here = tmp_path / "build" / "x", tmp_path / "here"
    shutil.copytree(SOURCES, built)
    options = [f"-gdwarf-{version}", "-O1", "-nostdlib", "-static", "-fno-stack-protector"]
    files = ["main.c", "other.c", "code.S", "-o", "program"]
    subprocess.run(["gcc", *options, *files], cwd=built, check=True)
    built.rename(here)
    old = built if moved == "whole" else built.parent
    new = here if moved == "whole" else tmp_path / "link"
    if moved == "prefix":
        new.mkdir()
        (new / "x").symlink_to(here)
    table = SymbolTable(here / "program", cache=False)
    assert table.source("main.c:30")[0].text is None
    table.source_map(old, new)
    for spec, line in (("main.c", 30), ("other.c", 14), ("code.S", 12)):
        rows = table.source(f"{spec}:{line}", around=2)
        assert [row.line for row in rows] == list(range(line - 2, line + 3))
        rule = f"set substitute-path {old} {new}"
        answer = ask(here / "program", [rule, f"list {spec}:{line - 2},{line + 2}"])[1]
        assert re.findall(r"^(\d+)(?:\t(.*))?$", answer, re.MULTILINE) == [
            (str(row.line), row.text) for row in rows
        ]
