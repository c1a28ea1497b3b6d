"""Scopes without a target: what blocks and files declare, and that no damage breaks the search."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rsp
from lab.programs import SOURCES
from rsp.symbols.at_pc.scopes import scopes_at
from rsp.symbols.elf.image import Image
from rsp.values.c import C
from rsp.values.expression import evaluate
from rsp.values.scope import Scope
from rsp.values.value import Space

if TYPE_CHECKING:
    from pathlib import Path

    from rsp.symbols.at_pc.scopes import Scopes

SLIDE = 0x10000
STOPS = ("in_block", "in_inlined", "in_second", "in_third", "in_here")
EXPRESSIONS = (
    *("&count", "RED", "only_two", "INNER", "first", "twice", "never_moved", "nothing", "a_shape"),
    *("first::kept", "first::n", "first::twofold", "inlined::kept", "'one.c'::twice::calls"),
    *(
        "'three.c'::name",
        "'scopes.h'::sink",
        "'two.c'::nothing",
        "(number)1",
        "sizeof(struct shape)",
    ),
    *("(struct shape *)0", "(count) - 1", "sizeof first::kept", "third::third", "main::global"),
)


@pytest.fixture(scope="module", params=["-gdwarf-5", "-gdwarf-4", "-m32"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output: Path = tmp_path_factory.mktemp("scopes") / "scopes"
    options = ["-g", "-O2", "-fno-ipa-cp", "-static", "-nostdlib", "-Wl,-e,main", request.param]
    sources = [str(SOURCES / "scopes" / f"{each}.c") for each in ("one", "two", "three", "main")]
    subprocess.run(["gcc", *options, "-fno-pie", "-o", str(output), *sources], check=True)
    return output


def around(table: rsp.SymbolTable, address: int) -> tuple[Scopes, ...]:
    found = scopes_at(table, address)
    return (found,) if found is not None else ()


def scope_at(table: rsp.SymbolTable, address: int) -> Scope:
    places = around(table, address)
    size = next(table.binaries())[0].image.word_size
    space = Space(read=lambda _, length: bytes(length), symbols=table, word_size=size, language=C)
    return Scope(space=space, around=lambda: places)


@pytest.mark.live("gcc")
def test_blocks_and_files_declare_names(program: Path) -> None:
    table = rsp.SymbolTable(program, slide=SLIDE, cache=False)
    (block,) = around(table, table["in_block"].address)
    assert {"kept", "nested_only", "n", "shadow", "INNER", "RED"} <= block.local_names()
    assert not {"GREEN", "count", "calls", "twofold", "local"} & block.local_names()
    (copy,) = around(table, table["in_inlined"].address)
    assert {"kept", "local", "count", "count_in"} <= copy.local_names()
    assert not {"n", "shadow", "count_of_first"} & copy.local_names()
    assert {"count", "twice", "first", "GREEN", "only_one", "never_changed"} <= copy.file_names()
    # Declarations, types and what is within functions are no names of the file.
    assert not {"second", "sink", "number", "shape", "kept", "only_two"} & copy.file_names()
    shapes = [each.type("struct shape") for each in (block, copy)]
    assert [each and each.size for each in shapes] == [1, 8 if is_32(table) else 16]
    assert copy.type("number") is not None
    assert copy.type("shape") is None
    assert copy.copy_of("inlined") is not None
    assert copy.copy_of("first") is None
    assert around(table, 0x10) == ()


def is_32(table: rsp.SymbolTable) -> bool:
    return next(table.binaries())[0].image.word_size == 4


@pytest.mark.live("gcc")
def test_names_are_of_the_file_that_the_place_is_in(program: Path) -> None:
    table = rsp.SymbolTable(program, slide=SLIDE, cache=False)
    one, two, three, nowhere = (
        scope_at(table, table[stop].address if stop else 0x10)
        for stop in ("in_inlined", "in_second", "in_third", "")
    )
    counts = [symbol.address for symbol in table.find("count")]
    assert [one.value("count").address_, two.value("count").address_] == counts
    assert nowhere.value("count").address_ == counts[0]
    assert [int(each.value("RED")) for each in (one, two)] == [1, 21]
    assert [int(each.value("only_two")) for each in (one, two, three, nowhere)] == [22] * 4
    assert int(three.value("global")) == 7
    assert one.value("global").address_ == table["global"].address
    assert three.value("hidden_global").address_ != one.value("hidden_global").address_
    assert str(three.value("never_changed")) == "<optimized out>"
    assert [int(evaluate("sizeof(number)", each)) for each in (one, three)] == [2, 2]
    assert int(evaluate("'two.c'::special + 'one.c'::special", nowhere)) == 300
    twice = evaluate("'two.c'::twice", one)
    assert twice.address_ == table.find("twice")[1].address
    with pytest.raises(rsp.SymbolNotFound, match=r"no symbol 'counts' .*nearest: count"):
        one.value("counts")
    nothing = Scope(space=Space(read=one.space.read, symbols=None, word_size=8, language=C))
    with pytest.raises(rsp.SymbolError, match="there are no symbols to find it in"):
        nothing.value("count")
    with pytest.raises(rsp.SymbolError, match=r"no symbols to find 'one\.c' in"):
        evaluate("'one.c'::x", nothing)


@pytest.mark.live("gcc")
def test_an_enumerator_needs_no_index(program: Path) -> None:
    made: list[int] = []
    table = rsp.SymbolTable(program, cache=False, progress=lambda done, _: made.append(done))
    for stop in STOPS:
        scope = scope_at(table, table[stop].address)
        assert int(scope.value("only_one")) == 3
        with pytest.raises(rsp.SymbolNotFound):
            scope.value("in_no_file_of_this_program")
    assert not made
    scope.value("never_changed")  # of which there is no symbol
    assert made


@pytest.mark.live("gcc")
@given(data=st.data())
def test_any_byte_may_be_another(
    data: st.DataObject, program: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = Image(program)
    content = bytearray(program.read_bytes())
    parts = [each for each in image.sections if each.name.startswith(".debug_") and each.size]
    for _ in range(data.draw(st.sampled_from((1, 2, 8)), label="how many")):
        part = data.draw(st.sampled_from(parts), label="part")
        at = part.offset + data.draw(st.integers(0, part.size - 1), label="offset")
        values = st.sampled_from((0, 0xFF, 0x80, 0x7F, 1)) | st.integers(0, 255)
        content[at] = data.draw(values, label="value")
    path = tmp_path_factory.getbasetemp() / "damaged-scopes"
    path.write_bytes(content)
    whole = rsp.SymbolTable(program, cache=False)
    table = rsp.SymbolTable(path, cache=False)
    for stop in STOPS:
        scope = scope_at(table, whole[stop].address)
        for each in scope.around():
            each.local_names()
        for expression in EXPRESSIONS:
            with contextlib.suppress(rsp.RspError):
                str(evaluate(expression, scope))
