"""Breakpoint places, against the real gdb: every name and every line of programs and a kernel."""

from __future__ import annotations

import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from lab.inlining import FILES, SOURCES, VARIANTS, compile_variant, line_count
from lab.offline import Place, breakpoints
from rsp.errors import SymbolNotFound
from rsp.symbols.table import SymbolKind, SymbolTable

if TYPE_CHECKING:
    from pathlib import Path

    from lab.kernels import DebianKernel

pytestmark = pytest.mark.live("gcc", "gdb")

NAMES = ("add_node", "link_nodes", "twice", "helper")  # which may have been inlined everywhere
HERE = f"{SOURCES}/"


def ours(table: SymbolTable, spec: str) -> list[Place]:
    try:
        found = table.locations(spec)
    except SymbolNotFound:
        return []
    places = [Place(each.address, each.function, each.file, each.line) for each in found]
    return [place for place in places if has_code(table, place)]


def has_code(table: SymbolTable, place: Place) -> bool:
    """Return whether the function has code there: gdb 13 takes no other copy, and gdb 18 does."""
    functions = [frame.function for frame in table.inline_chain(place.address)]
    return not functions or place.function in functions


def tidied(place: Place, *, named: bool) -> Place:
    # gdb has a path without its doubled slashes, and no function where there are only symbols.
    file = place.file and place.file.removeprefix(HERE).replace("//", "/")
    return place._replace(file=file, function=place.function if named else None)


def compared(mine: list[Place], theirs: list[Place]) -> tuple[list[Place], list[Place]]:
    named = all(place.function for place in theirs)
    return [tidied(place, named=named) for place in mine], [
        tidied(place, named=named) for place in theirs
    ]


def is_cold(table: SymbolTable, address: int) -> bool:
    symbol = table.lookup(address)
    return symbol is not None and symbol.name.endswith(".cold")


@pytest.mark.parametrize("assembler", [True, False], ids=["lines", "symbols"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_name_and_line_of_a_program(variant: str, assembler: bool, tmp_path: Path) -> None:
    program = compile_variant(variant, tmp_path, assembler=assembler)
    table = SymbolTable(program, cache=False)
    functions = [symbol.name for symbol in table if symbol.kind is SymbolKind.FUNCTION]
    specs = sorted({*functions, *NAMES, *(f"other.c:{name}" for name in ("helper", "work"))})
    if assembler:
        for file in (*FILES, "common.h"):
            specs += [f"{file}:{line}" for line in range(1, line_count(file) + 3)]
    answers = breakpoints(program, specs)
    differ = {}
    for spec in specs:
        mine, theirs = compared(ours(table, spec), answers[spec])
        if mine != theirs:
            differ[spec] = mine, theirs
    # A part of a function that lies below its entry has no prologue, but gdb 13 takes everything
    # below the end of the prologue for one, and goes to that end.
    for spec, (mine, theirs) in list(differ.items()):
        cold = [place for place in mine if is_cold(table, place.address)]
        if cold and all(place in theirs for place in mine if place not in cold):
            assert all(place.address > cold[0].address for place in theirs)
            del differ[spec]
    assert not differ
    assert sum(bool(places) for places in answers.values()) > len(specs) * 3 // 4


@pytest.fixture(scope="module")
def kernel(debian_kernel: DebianKernel) -> SymbolTable:
    return SymbolTable(debian_kernel.vmlinux, cache=False)


def test_names_and_lines_of_a_kernel(kernel: SymbolTable) -> None:
    picked = random.Random(21)
    functions = [symbol.name for symbol in kernel if symbol.kind is SymbolKind.FUNCTION]
    clones = [name for name in functions if "." in name]
    specs = picked.sample(functions, 120) + picked.sample(clones, 30)
    specs += [name.partition(".")[0] for name in picked.sample(clones, 30)]
    specs += ["list_add", "tcp_init_sock", "start_kernel", "get_current", "nothing_like_this"]
    specs += ["entry_SYSCALL_64", "asm_exc_page_fault", "ret_from_fork", "startup_64"]
    files = ["init/main.c", "tcp.c", "kernel/sched/core.c", "mm/slub.c", "fs/namei.c", "rbtree.h"]
    specs += [f"{picked.choice(files)}:{picked.randrange(1, 2500)}" for _ in range(40)]
    answers = breakpoints(kernel.path, specs)
    differ = {
        spec: (mine, theirs)
        for spec in specs
        for mine, theirs in [compared(ours(kernel, spec), answers[spec])]
        if mine != theirs and spec != "get_current"
    }
    assert not differ
    assert len(answers["list_add"]) > 300
    # gdb 18.1 has this one, too: a copy with a place to enter it, and no code.
    assert len(kernel.locations("list_add")) == len(answers["list_add"]) + 1
    # A copy of some thousands: gdb and we may not differ in one place of a hundred.
    addresses, known = (
        {place.address for place in places}
        for places in (ours(kernel, "get_current"), answers["get_current"])
    )
    assert len(known) > 1000
    assert len(addresses ^ known) * 100 < len(known)


@pytest.mark.live("nm")
def test_an_offset_and_an_address_are_where_nm_says(tmp_path: Path) -> None:
    program = compile_variant("O2", tmp_path)
    listed = subprocess.run(["nm", program], check=True, capture_output=True, text=True).stdout
    address = next(int(line[:16], 16) for line in listed.splitlines() if line.endswith(" T many"))
    table = SymbolTable(program, cache=False)
    for spec in ("many+0x1", "many+1", "*many+1", f"{address + 1:#x}", f"*{address + 1:#x}"):
        assert [place.address for place in table.locations(spec)] == [address + 1]
    assert table.locations("many+1")[0].function == "many"
