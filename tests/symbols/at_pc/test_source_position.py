"""Where a pc is in the source: copies that begin there are not entered yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.inlining import compile_variant
from rsp.symbols.at_pc.source_position import Position
from rsp.symbols.table import SymbolKind, SymbolTable

if TYPE_CHECKING:
    from pathlib import Path

SLIDE = 0x20_0000


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SymbolTable:
    program: Path = compile_variant("O2-dwarf4", tmp_path_factory.mktemp("position"))
    return SymbolTable(program, slide=SLIDE, cache=False)


def addresses(table: SymbolTable) -> list[int]:
    return [
        address
        for symbol in table
        if symbol.kind is SymbolKind.FUNCTION
        for address in range(symbol.address, symbol.address + symbol.size)
    ]


@pytest.mark.live("gcc")
def test_within_a_function_it_is_the_line_and_the_innermost_copy(table: SymbolTable) -> None:
    seen = 0
    for pc in addresses(table):
        position, chain = Position(table, pc), table.inline_chain(pc)
        if position.hidden or not chain:
            continue
        seen += 1
        assert position.function == chain[0].function
        assert position.line == table.line(pc)
        assert len(position.copies) == len(chain) - 1
        bounds, row = position.bounds, position.row
        assert bounds is not None
        assert row is not None
        assert bounds.name == chain[-1].function
        assert bounds.begin <= pc < bounds.end
        assert row.begin <= pc < row.end
        assert position.key == row.key == Position(table, row.begin, hidden=0).key
    assert seen > 200


@pytest.mark.live("gcc")
def test_where_a_copy_begins_it_is_its_call(table: SymbolTable) -> None:
    hidden = [pc for pc in addresses(table) if Position(table, pc).hidden]
    assert len(hidden) > 3
    for pc in hidden:
        position, chain = Position(table, pc), table.inline_chain(pc)
        assert position.function == chain[position.hidden].function
        assert position.line == chain[position.hidden].line
        inner = position.revealed()
        assert inner.hidden == position.hidden - 1
        assert len(inner.copies) == len(position.copies) + 1
        assert Position(table, pc, entered=frozenset({chain[0].function})).hidden == 0


@pytest.mark.live("gcc")
def test_a_function_has_a_type_and_an_end_of_its_prologue(table: SymbolTable) -> None:
    position = Position(table, table["many"].address)
    assert str(position.function_type) == "int (int, int, int)"
    assert position.after_prologue() >= position.pc
    nowhere = Position(table, 0x10)
    assert nowhere.function_type is None
    assert [nowhere.line, nowhere.function, nowhere.bounds] == [None] * 3
    assert nowhere.after_prologue() == nowhere.pc
