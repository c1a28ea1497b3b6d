"""Objects and kernel modules that nobody has loaded: what gdb says of such a file is said here."""

from __future__ import annotations

import random
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.command import run
from lab.gdb import QUIET, batch
from lab.inlining import BASE, FILES, SOURCES
from rsp.symbols.table import SymbolKind, SymbolTable

if TYPE_CHECKING:
    from pathlib import Path

    from lab.kernels import DebianKernel

pytestmark = pytest.mark.live("gcc", "gdb")

SECTIONS = """
struct pair { int a; long b; } pairs[2];
static int counter = 3;
int helper(int);
static __attribute__((noinline)) int local(int x) { counter += x; return helper(x) + counter; }
__attribute__((section(".init.text"))) int setup(void) { return local(2) + pairs[1].a; }
int work(struct pair *p) { return local(p->a); }
"""


def gdb(path: Path, *commands: str) -> str:
    return subprocess.run(
        batch(*QUIET, f"file {path}", *commands), capture_output=True, text=True, check=True
    ).stdout


def compare(path: Path, names: list[str]) -> None:
    """Compare symbols, places and lines of functions with those that gdb has."""
    table = SymbolTable(path, cache=False)
    asked = (f"info address {name}\nbreak {name}\ninfo line *{name}" for name in names)
    answer = gdb(path, *(command for each in asked for command in each.split("\n")))
    found = re.findall(
        r'Symbol "(.+)" is a function at address (0x\w+)\.\n'
        r"Breakpoint \d+ at (0x\w+): file (.+), line (\d+)\.\n"
        r'Line (\d+) of "(.+)" starts at address',
        answer,
    )
    assert len(found) > 0.8 * len(names), answer
    for name, begin, place, file, line, first, _ in found:
        assert table[name].address == int(begin, 16)
        at = [each for each in table.locations(name) if each.address == int(place, 16)]
        assert [(each.file, each.line) for each in at] == [(file, int(line))], name
        row = table.line(table[name].address)
        assert row is not None
        assert row.line == int(first)


@pytest.mark.parametrize("options", [("-O0", "-g"), ("-O2", "-gdwarf-4"), ("-m32", "-O1", "-g")])
def test_an_object_of_several_sections(options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "o.c").write_text(SECTIONS)
    made = tmp_path / "o.o"
    subprocess.run(["gcc", *BASE, *options, "-c", "o.c", "-o", made], cwd=tmp_path, check=True)
    compare(made, ["local", "setup", "work"])
    table = SymbolTable(made)
    answer = gdb(made, "print &pairs", "print &counter", "ptype /o struct pair")
    pairs, counter = (int(each, 16) for each in re.findall(r"\) (0x\w+) <", answer))
    assert (table["pairs"].address, table["counter"].address) == (pairs, counter)
    (work,) = table.locations("work+0x2")
    assert (work.address, work.line) == (table["work"].address + 2, 7)
    (init,) = table.locations(".init.text+0x1")
    assert (init.address, init.function) == (table["setup"].address + 1, "setup")
    assert run("type", str(made), "struct pair").out.strip() in answer.replace("type = ", "")
    assert run("sym", str(made), "work").out.splitlines()[1].strip().startswith("o.c:7 ")


@pytest.mark.parametrize("file", [each for each in FILES if each.endswith(".c")])
def test_an_object_with_inlined_copies(file: str, tmp_path: Path) -> None:
    made = tmp_path / "o.o"
    command = ["gcc", *BASE, "-O2", "-gdwarf-5", "-ffunction-sections", "-c", file, "-o", made]
    subprocess.run([str(each) for each in command], cwd=SOURCES, check=True)
    functions = [each for each in SymbolTable(made) if each.kind is SymbolKind.FUNCTION]
    names = [each.name for each in functions if "." not in each.name]
    assert len(names) > 2
    compare(made, names)


@pytest.mark.parametrize("name", ["dummy", "xfs"])
def test_a_module(name: str, debian_kernel: DebianKernel) -> None:
    path = debian_kernel.module(name)
    table = SymbolTable(path)
    functions = [
        each.name
        for each in table
        if each.kind is SymbolKind.FUNCTION
        and re.fullmatch(r"[a-z]\w+", each.name)
        and len(table.find(each.name)) == 1
    ]
    names = random.Random(5).sample(functions, min(30, len(functions)))
    names.remove("init_module") if "init_module" in names else None
    names.remove("cleanup_module") if "cleanup_module" in names else None
    compare(path, names)
    some = table[names[0]]
    (place,) = table.locations(f"{some.name}+0x0/{some.size:#x} [{name}]")
    assert place.address == some.address
    with pytest.raises(rsp.SymbolNotFound, match="no file of the module 'other'"):
        table.locations(f"{some.name}+0x0/{some.size:#x} [other]")


def test_a_module_that_was_not_loaded_is_no_program(debian_kernel: DebianKernel) -> None:
    with pytest.raises(rsp.BadImage, match="open the kernel"):
        rsp.connect(":1", symbols=debian_kernel.module("dummy"))
