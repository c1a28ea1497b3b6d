"""Variables at fixed addresses, against the real gdb."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest

from lab.inlining import SOURCES, VARIANTS, compile_variant
from lab.offline import ask
from rsp.symbols.binary import Binary
from rsp.symbols.cache import Cache
from rsp.symbols.image import Image
from rsp.symbols.symtab import SymbolKind

if TYPE_CHECKING:
    from pathlib import Path

    from lab.kernels import DebianKernel

pytestmark = pytest.mark.live("gcc", "gdb")

FILE = re.compile(r"^File (.+):$")
ENTRY = re.compile(r"^(\d+):\t(.+?);?$")
END = re.compile(r"^\} (\w+);$")

Row = tuple[str | None, int, str]


def listed(answer: str) -> set[Row]:
    """Return the file, line and declaration of each variable that ``info variables`` prints."""
    found: set[Row] = set()
    file, open_entry = "", (0, "")
    for row in answer.splitlines():
        if match := FILE.match(row):
            file = match[1].removeprefix(f"{SOURCES}/")
        elif match := ENTRY.match(row):
            if match[2].endswith("{"):
                open_entry = int(match[1]), match[2]  # without a tag: the members follow
            else:
                found.add((file, int(match[1]), match[2]))
        elif match := END.match(row):
            line, begin = open_entry
            found.add((file, line, f"{begin}...}} {match[1]}"))
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variable_of_a_program(variant: str, tmp_path: Path) -> None:
    program = compile_variant(variant, tmp_path)
    binary = Binary(Image(program), cache=Cache.off())
    answers = ask(program, ["info variables -n .", "info line main", "print &'main.c'::counter"])
    theirs = listed(answers[0])
    symbols = [each for each in binary.symtab if each.kind is SymbolKind.OBJECT]
    mine: set[Row] = set()
    locals_ = {}
    for symbol in symbols:
        (found,) = binary.variables.at(symbol.address)
        assert symbol.name.partition(".")[0] == found.name
        assert found.address == symbol.address
        declaration = binary.types.type_of(found.die).declaration(found.name)
        if "." in symbol.name:
            locals_[found.name] = found
            continue
        static = "" if found.external else "static "
        mine.add((found.file, found.line, f"{static}{declaration}"))
    assert mine == theirs
    # A static within a function has no place in gdb's list.
    assert {"first", "second"} <= set(locals_)
    assert all(not found.external for found in locals_.values())
    counters = [each for each in symbols if each.name == "counter"]
    assert len(counters) == 2
    files = {binary.variables.at(each.address)[0].file: each.address for each in counters}
    assert f"{files['main.c']:#x}" in answers[2]


def test_variables_of_a_kernel(debian_kernel: DebianKernel) -> None:
    binary = Binary(Image(debian_kernel.vmlinux), cache=Cache.off())
    objects = [
        symbol
        for symbol in binary.symtab
        if symbol.kind is SymbolKind.OBJECT and "." not in symbol.name and symbol.size
    ]
    picked = random.Random(12).sample(objects, 60)
    picked += [binary.find(name)[0] for name in ("init_task", "runqueues", "tcp_prot")]
    names = "\\|".join({each.name for each in picked})
    # One pattern: gdb walks over everything for each.
    theirs = listed(ask(debian_kernel.vmlinux, [f"info variables -n ^\\({names}\\)$"])[0])
    compared = set()
    for symbol in picked:
        for found in binary.variables.at(symbol.address):
            if found.name == symbol.name:
                static = "" if found.external else "static "
                declaration = binary.types.type_of(found.die).declaration(found.name)
                file = found.file and found.file.replace("//", "/")
                row = file, found.line, f"{static}{declaration}"
                if row not in theirs:
                    # gdb 13 names the unit where no code comes of the header that declares it.
                    row = found.die.unit.name, *row[1:]
                assert row in theirs
                compared.add(row)
    # What gdb knows beyond is declared only, or has the name of another one that was picked.
    unique = {each.name for each in picked if len(binary.find(each.name)) == 1}
    for row in theirs - compared:
        assert not any(row[2].endswith(f" {name}") for name in unique), row
    assert len(compared) > 30


def test_per_cpu_variables_are_known_as_such(debian_kernel: DebianKernel) -> None:
    binary = Binary(Image(debian_kernel.vmlinux), cache=Cache.off())
    (runqueues,) = binary.variables.at(binary.find("runqueues")[0].address)
    assert runqueues.per_cpu
    assert runqueues.name == "runqueues"
    (init_task,) = binary.variables.at(binary.find("init_task")[0].address)
    assert not init_task.per_cpu
    assert binary.variables.at(1) == binary.variables.at(-1) == binary.variables.at(1 << 64) == ()
