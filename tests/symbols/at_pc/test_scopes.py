"""Blocks, what they declare, and what the names of a file stand for; gdb tells where that is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from lab.offline import ask
from rsp.symbols.at_pc.definitions import defined_in, function_of
from rsp.symbols.at_pc.function_names import FunctionNames
from rsp.symbols.at_pc.scopes import Scopes, scopes_at, scopes_in, scopes_of, scopes_of_file
from rsp.symbols.at_pc.variable_location import InMemory, OptimizedOut, Value
from rsp.symbols.table import SymbolTable

SOURCES = Path(__file__).parents[2] / "lab" / "programs" / "scopes"
SLIDE = 0x1000

pytestmark = pytest.mark.live("gcc", "gdb")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output: Path = tmp_path_factory.mktemp("scopes") / "scopes"
    options = ["-g", "-O2", "-fno-ipa-cp", "-static", "-nostdlib", "-Wl,-e,main", "-fno-pie"]
    sources = [SOURCES / f"{each}.c" for each in ("one", "two", "three", "main")]
    subprocess.run(["gcc", *options, "-o", output, *sources], check=True)
    return output


@pytest.fixture
def table(program: Path) -> SymbolTable:
    return SymbolTable(program, slide=SLIDE, cache=False)


class Nowhere:
    """The context of a variable that needs no frame."""

    word_size, slide = 8, SLIDE

    def register(self, number: int) -> None:
        raise AssertionError(number)

    def read_memory(self, address: int, size: int) -> None:
        raise AssertionError(address, size)

    def frame_base(self) -> None:
        raise AssertionError

    def cfa(self) -> None:
        raise AssertionError

    def entry_value(self, what: bytes | int) -> None:
        raise AssertionError(what)


def at(table: SymbolTable, name: str) -> Scopes:
    found = scopes_at(table, table[name].address)
    assert found is not None
    return found


def gdb_address(program: Path, expression: str) -> int:
    (answer,) = ask(program, [f"output/x (long) &{expression}"])
    return int(re.findall("0x[0-9a-f]+", answer)[-1], 16)


def test_the_blocks_of_a_pc_are_of_functions_and_copies(table: SymbolTable) -> None:
    pc = table["in_inlined"].address
    binary, _ = next(table.binaries())
    whole = scopes_in(binary, SLIDE, pc)
    names = [each.blocks[0].name for each in whole.functions()]
    assert names == ["inlined", "first"]
    assert names == [frame.name for frame in binary.frames(pc - SLIDE)]
    copy, function = whole.functions()
    assert [block.is_inlined for block in (copy.blocks[0], function.blocks[0])] == [True, False]
    assert all(block.is_lexical for each in (copy, function) for block in each.blocks[1:])
    assert [each.blocks[0].name for each in (whole.innermost(), at(table, "in_inlined"))] == [
        "inlined"
    ] * 2
    assert whole.innermost(hidden=1) == function
    assert whole.innermost(hidden=2).blocks == ()
    assert scopes_at(table, 0x10) is None


def test_a_block_has_variables_with_types(table: SymbolTable) -> None:
    block = at(table, "in_block").blocks[0]
    found = {each.name: each for each in block.variables()}
    assert {"n", "shadow", "kept", "count_of_first"} <= found.keys()
    assert [found[name].is_parameter for name in ("n", "shadow")] == [True, False]
    assert str(found["n"].type) == "int"
    assert not any(each.is_declaration for each in found.values())
    assert isinstance(found["kept"].locate(Nowhere(), 0, None), InMemory)
    assert block.describe().name == block.name == "first"
    assert block.origin() is None


@pytest.mark.parametrize("name", ["count", "a_shape", "twice", "first"])
def test_what_a_file_defines_is_where_gdb_has_it(
    name: str, table: SymbolTable, program: Path
) -> None:
    found = at(table, "in_block").in_file(name)
    assert found is not None
    place = found.fixed_address
    assert place is not None
    assert not place.per_cpu
    assert place.address - SLIDE == gdb_address(program, f"'one.c'::{name}")
    assert found.is_function == (name in ("twice", "first"))
    assert found.is_static
    assert found.external == (name in ("a_shape", "first"))
    assert found.number is None


def test_constants_have_no_address(table: SymbolTable) -> None:
    around = at(table, "in_block")
    red, inner = around.in_file("RED"), around.local("RED")
    assert red is not None
    assert inner is not None
    assert [each.number for each in (red, inner)] == [1, 9]
    assert red.is_enumerator
    assert inner.is_enumerator
    (only_two,) = defined_in(around.binary, SLIDE, "only_two")
    assert only_two.number == 22
    folded = around.in_file("never_changed")
    assert folded is not None
    assert folded.fixed_address is None
    assert isinstance(folded.locate(Nowhere()), Value | OptimizedOut)


def test_a_function_declares_names_of_its_own(table: SymbolTable, program: Path) -> None:
    binary, _ = next(table.binaries())
    (symbol,) = binary.find("first")
    function = function_of(binary, SLIDE, symbol)
    assert function is not None
    names = FunctionNames(function)
    assert {"n", "kept", "nested_only", "INNER"} <= set(names)
    assert not {"twice", "only_two", "local_of_nobody"} & set(names)
    (kept,) = names.find("kept")
    place = kept.fixed_address
    assert place is not None
    assert place.address - SLIDE == gdb_address(program, "first::kept")
    (nested,) = names.find("nested_only")
    assert nested.is_static
    assert names.find("nothing") == ()
    begin = table["first"].address
    assert [names.covers(pc) for pc in (begin - 1, begin, begin + 4)] == [False, True, True]
    (sink,) = binary.find("sink")
    assert function_of(binary, SLIDE, sink) is None


def test_files_are_scopes_too(table: SymbolTable) -> None:
    (one,) = scopes_of_file(table, "one.c")
    assert one.file.endswith("one.c")
    assert one.local_names() == frozenset()
    assert {"count", "twice", "RED"} <= one.file_names()
    count = one.in_file("count")
    assert count is not None
    assert scopes_of(count).file == one.file
    assert scopes_of_file(table, "none.c") == ()
    assert one.type("struct shape") is not None
    assert one.type("struct nothing") is None
