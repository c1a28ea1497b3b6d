"""``rsp print``: JSON and text, against a live program and its gdb."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from lab.command import run
from lab.gdb import Gdb
from lab.programs import SOURCES
from lab.servers import gdbserver_tcp

if TYPE_CHECKING:
    from collections.abc import Iterator

STAY = "--leave-stopped"
OUTER = {
    "first": 1,
    "x": 2,
    "y": 3,
    "deep": ord("d"),
    "inner": {"a": 5, "b": 6},
    "list": [{"a": 7, "b": 8}, {"a": 9, "b": 10}],
    "none": "0x0",
    "nothing": {},
    "state": 2,
    "ratio": 0.5,
    "set": True,
    "mac": [0, 0x1B, 0x21, 0xFF, 1, 2],
    "last": 99,
}
VALUES: list[tuple[str, str, object]] = [
    ("text_padded", "char [64]", "hi"),
    ("numbers", "int [5]", [1, 2, 3, 4, 5]),
    ("matrix", "int [2][3]", [[1, 2, 3], [4, 5, 6]]),
    ("bytes", "u8 [8]", [1, 2, 3, 0x80, 0xFF, 0, 65, 66]),
    ("blue", "enum color", 6),
    ("ulonglong", "unsigned long long", str((1 << 64) - 1)),
    ("int_minus", "int", -(1 << 31)),
    ("to_null", "int *", "0x0"),
    ("yes", "_Bool", True),
    ("d_third", "double", 1 / 3),
    ("d_minus_inf", "double", "-inf"),
    ("c_a", "char", 65),
    ("outer.inner", "struct pair", {"a": 5, "b": 6}),
    ("sizeof(int) * 2", "int", 8),
]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gdb]:
    program = tmp_path_factory.mktemp("print") / "values"
    source = str(SOURCES / "values.c")
    subprocess.run(["gcc", "-g", "-O0", "-no-pie", "-o", str(program), source], check=True)
    with gdbserver_tcp(program) as address:
        gdb = Gdb(
            address=address,
            symbols=program,
            settings=("set print elements 200", "set print repeats 10"),
        )
        gdb.run("break here", "continue")
        yield gdb


def shown(stopped: Gdb, expression: str, *options: str) -> Any:
    return run(
        "print", stopped.address, expression, "--symbols", str(stopped.symbols), STAY, *options
    )


@pytest.mark.live("gdb", "gdbserver", "gcc")
def test_json(stopped: Gdb) -> None:
    theirs = stopped.run(*(f"output {expression}" for expression, _, _ in VALUES))
    for (expression, ctype, value), text in zip(VALUES, theirs, strict=True):
        assert shown(stopped, expression, "--json").json == {
            "expression": expression,
            "type": ctype,
            "value": value,
            "text": text,
        }


@pytest.mark.live("gdb", "gdbserver", "gcc")
def test_a_structure(stopped: Gdb) -> None:
    address, text = stopped.run("output/x (long)&outer", "output outer")
    found = shown(stopped, "outer", "--json").json
    assert {name: found["value"][name] for name in OUTER} == OUTER
    assert found["value"]["next"] == address
    assert found["text"] == text
    people = shown(stopped, "outer")
    assert people.out == f"{text}\n"
    assert shown(stopped, "outer_pointer").out == f"(struct outer *) {address} <outer>\n"


@pytest.mark.live("gdb", "gdbserver", "gcc")
def test_errors(stopped: Gdb) -> None:
    shown(stopped, "*to_null").fails("0x0")
    shown(stopped, "numbrs").fails("numbrs", "nearest: numbers")
    shown(stopped, "outer.lst").fails("nearest: list, last")
    shown(stopped, "1 +").fails("column 4")
    run("print", stopped.address, "outer", STAY).fails("--symbols", "outer")
    without = run("print", stopped.address, "2 * 3", STAY)
    assert without.out == "6\n"
