"""Variables at fixed addresses, against the real gdb."""

from __future__ import annotations

import random
import re
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from lab.inlining import SOURCES, VARIANTS, compile_variant
from lab.offline import ask
from rsp.symbols.binary import Binary
from rsp.symbols.cache.cache import Cache
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.symtab import SymbolKind
from rsp.symbols.table import SymbolTable

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


def test_names_that_only_the_linker_and_assembler_have(tmp_path: Path) -> None:
    """As ``jiffies``, which Linux's linker script puts where ``jiffies_64`` is."""
    (tmp_path / "main.c").write_text(
        "unsigned long long ticks_64;\n"
        "extern volatile unsigned long ticks;\n"
        "extern const char table_begin[], table_end[];\n"
        "extern int from_assembler[4];\n"
        "extern char unsized[]; extern char unsized[5];\n"
        "int _start(void) { return ticks + from_assembler[1] + (table_end - table_begin)"
        " + unsized[1]; }\n"
    )
    (tmp_path / "data.S").write_text(
        ".data\n.globl from_assembler, unsized, never_declared, table_begin, table_end\n"
        ".type from_assembler, @object\n.size from_assembler, 16\n"
        "from_assembler: .long 1, 2, 3, 4\n"
        "table_begin: unsized: .long 5, 6\ntable_end: never_declared: .long 7\n"
    )
    options = ["-g", "-O2", "-nostdlib", "-static", "-no-pie", "-Wl,--defsym=ticks=ticks_64"]
    options += ["-Wl,--defsym=no_variable=ticks_64"]
    program = tmp_path / "program"
    command = ["gcc", *options, "-o", str(program), "main.c", "data.S"]
    subprocess.run(command, cwd=tmp_path, check=True)
    names = ("ticks", "ticks_64", "from_assembler", "unsized", "table_begin", "table_end")
    others = ("never_declared", "no_variable")
    # gdb knows declarations of the units that it has had to read.
    asked = ["info line _start", *(f"whatis {name}" for name in (*names, *others))]
    theirs = [answer.strip().removeprefix("type = ") for answer in ask(program, asked)[1:]]
    table = SymbolTable(program, cache=False)
    assert [str(table.variable(name).type) for name in names] == theirs[: len(names)]
    assert theirs[len(names) :] == ["<data variable, no debug info>"] * len(others)
    assert [table.variable(name).type for name in others] == [None, None]
    assert (table["ticks"].prototype, table["ticks"].line) == ("volatile unsigned long ticks;", 2)
    assert table["no_variable"].prototype is None


def test_types_of_a_kernels_variables(debian_kernel: DebianKernel) -> None:
    table = SymbolTable(debian_kernel.vmlinux, cache=False)
    data = (".data", ".rodata", ".bss", ".init.data", ".data..percpu")
    symbols = [each for each in table if each.section in data and each.name.isidentifier()]
    count = Counter(each.name for each in symbols)
    unique = [each for each in symbols if count[each.name] == 1]
    choice = random.Random(4)
    picked = choice.sample([each.name for each in unique if each.size], 25)
    picked += choice.sample([each.name for each in unique if not each.size and each.is_global], 10)
    theirs = ask(debian_kernel.vmlinux, [f"whatis {name}" for name in picked])
    known = 0
    for name, answer in zip(picked, theirs, strict=True):
        # gdb does not look for declarations in units that it has not read.
        if "<data variable, no debug info>" not in answer:
            assert f"type = {table.variable(name).type}" == answer.strip(), name
            known += 1
    assert known > 20


def test_per_cpu_variables_are_known_as_such(debian_kernel: DebianKernel) -> None:
    binary = Binary(Image(debian_kernel.vmlinux), cache=Cache.off())
    (runqueues,) = binary.variables.at(binary.find("runqueues")[0].address)
    assert runqueues.per_cpu
    assert runqueues.name == "runqueues"
    (init_task,) = binary.variables.at(binary.find("init_task")[0].address)
    assert not init_task.per_cpu
    assert binary.variables.at(1) == binary.variables.at(-1) == binary.variables.at(1 << 64) == ()
