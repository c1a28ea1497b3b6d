"""Declarations and definitions as C text. That they are gdb's is in test_types_live.py."""

from __future__ import annotations

import pytest

from rsp.symbols.types.text import definition
from rsp.symbols.types.types import (
    VOID,
    Array,
    Enum,
    Function,
    Integer,
    Member,
    Parameter,
    Pointer,
    Qualified,
    Qualifier,
    Struct,
    Type,
    Typedef,
    Union,
)

INT = Integer("int", 4, signed=True)
CONST = Qualifier.CONST


def pointer(to: Type) -> Pointer:
    return Pointer(to, 8)


def function(returns: Type, *parameters: Type) -> Function:
    return Function(returns, tuple(Parameter(None, each) for each in parameters))


@pytest.mark.parametrize(
    ("of", "unnamed", "named"),
    [
        (INT, "int", "int x"),
        (pointer(pointer(INT)), "int **", "int **x"),
        (Array(Array(INT, 3), 2), "int [2][3]", "int x[2][3]"),
        (Array(pointer(INT), 2), "int *[2]", "int *x[2]"),
        (pointer(Array(INT, 2)), "int (*)[2]", "int (*x)[2]"),
        (Array(INT, None), "int []", "int x[]"),
        (function(INT), "int (void)", "int x(void)"),
        (pointer(function(VOID, INT, INT)), "void (*)(int, int)", "void (*x)(int, int)"),
        (
            Array(pointer(function(pointer(INT), pointer(function(VOID)))), 4),
            "int *(*[4])(void (*)(void))",
            "int *(*x[4])(void (*)(void))",
        ),
        (Function(INT, (), prototyped=False), "int ()", "int x()"),
        (pointer(Qualified(INT, CONST)), "const int *", "const int *x"),
        (Qualified(pointer(INT), CONST), "int * const", "int * const x"),
        (pointer(Qualified(pointer(INT), CONST)), "int * const *", "int * const *x"),
        (Qualified(Array(INT, 2), CONST), "const int [2]", "const int x[2]"),
        (
            Qualified(Qualified(pointer(INT), Qualifier.RESTRICT), CONST),
            "int * const restrict",
            "int * const restrict x",
        ),
        (Qualified(INT, Qualifier.ATOMIC), "_Atomic int", "_Atomic int x"),
        (
            Array(INT, 4, vector=True),
            "int __attribute__ ((vector_size(4)))",
            "int x __attribute__ ((vector_size(4)))",
        ),
        (Struct("s", None), "struct s", "struct s x"),
        (pointer(Union(None, 4)), "union {...} *", "union {...} *x"),
        (Enum(None, 4, {"A": 0}), "enum {...}", "enum {...} x"),
        (pointer(Typedef("t", Struct("s", None))), "t *", "t *x"),
    ],
    ids=str,
)
def test_declarations(of: Type, unnamed: str, named: str) -> None:
    assert of.declaration("") == str(of) == unnamed
    assert of.declaration("x") == named


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (Struct("s", 0), "struct s {\n    <no data fields>\n}"),
        (Struct("s", None), "struct s {\n    <incomplete type>\n}"),
        (
            Enum("e", 8, {"A": 1, "B": 2, "C": -4, "D": -3, "E": (1 << 64) - 1}),
            "enum e {A = 1, B, C = -4, D, E = -1}",
        ),
        (Typedef("t", Typedef("u", INT)), "int"),
        (Typedef("t", pointer(Typedef("u", INT))), "int *"),
    ],
)
def test_definitions(of: Type, text: str) -> None:
    assert definition(of) == text


def test_text_of_hostile_types_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each structure has 20 of the next, and so would the text 20 ** 64 lines.
    monkeypatch.setattr("rsp.symbols.types.types.MAX_TEXT", 1 << 16)
    inner: Type = INT
    for depth in range(64):
        inner = Struct(
            f"s{depth}",
            8,
            tuple(Member(name=f"m{i}", type=inner, offset=0) for i in range(20)),
        )
    text = definition(inner, offsets=True)
    assert "..." in text
    assert len(text) < 4 << 16

    callback: Type = function(VOID)
    for _ in range(64):
        callback = function(VOID, *[pointer(callback)] * 20)
    assert "..." in str(callback)
    assert len(str(callback)) < 4 << 16


def test_a_structure_within_itself_is_cut() -> None:
    itself = Struct("s", 8, lambda: (Member(name="m", type=itself, offset=0),))
    assert "..." in definition(itself, offsets=True)
    assert definition(itself) == "struct s {\n    struct s m;\n}"
