"""Addresses by name, as gdb writes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from lab.inlining import compile_variant
from lab.offline import ask
from rsp.symbols.at_pc.symbolize import symbolic
from rsp.symbols.table import SymbolTable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.live("gcc", "gdb")
# Not with -O2 here: the assembler keeps the cold part of a function within the size of its symbol.
@pytest.mark.parametrize("variant", ["O0", "Og-clones", "Os", "m32-O0"])
def test_every_address_of_a_program_as_gdb_writes_it(variant: str, tmp_path: Path) -> None:
    program = compile_variant(variant, tmp_path)
    table = SymbolTable(program, cache=False)
    sections = next(table.binaries())[0].image.sections
    addresses = [
        address
        for section in sections
        if section.loaded and section.name in (".text", ".data", ".bss")
        for address in range(section.address, section.address + section.size, 3)
    ]
    assert len(addresses) > 200
    answers = ask(program, [f"output/a {address:#x}" for address in addresses])
    expected = [re.sub(r"^0x[0-9a-f]+ ?", "", answer) for answer in answers]
    assert [symbolic(table, address) for address in addresses] == expected
    moved = SymbolTable(program, slide=0x10_0000, cache=False)
    assert [symbolic(moved, address + 0x10_0000) for address in addresses] == expected
    assert symbolic(None, addresses[0]) == symbolic(table, 0x10) == ""
