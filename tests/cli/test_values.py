"""Values of C as JSON has them."""

from __future__ import annotations

import pytest

from rsp.cli.values import bare_value
from rsp.symbols.types.types import Array, Enum, Float, Integer, Member, Pointer, Struct, Union
from rsp.values.c import C
from rsp.values.value import Hole, Space, Value

CHAR = Integer("char", 1, signed=True)
LONG = Integer("long", 8, signed=True)


def nothing(address: int, length: int) -> bytes:
    raise AssertionError("all is at hand")


SPACE = Space(read=nothing, symbols=None, word_size=8, language=C)


def test_what_is_not_known_is_null() -> None:
    pair = Struct(
        "pair", 16, (Member(name="a", type=LONG, offset=0), Member(name="b", type=LONG, offset=8))
    )
    value = Value(SPACE, pair, data=bytes([1]) + bytes(15), holes=[Hole(64, 128, "<unavailable>")])
    assert bare_value(value) == {"a": 1, "b": None}
    assert bare_value(Value.absent_value_(SPACE, pair)) is None
    assert bare_value(Value.absent_value_(SPACE, LONG)) is None
    assert bare_value(Value(SPACE, Struct("declared", None), data=b"")) is None


@pytest.mark.parametrize(
    ("number", "bare"),
    [(1 << 53, 1 << 53), ((1 << 53) + 1, str((1 << 53) + 1)), (-(1 << 60), str(-(1 << 60)))],
)
def test_large_integers_are_text(number: int, bare: object) -> None:
    assert bare_value(Value.number_(SPACE, LONG, number)) == bare


def test_forms() -> None:
    anonymous = Union(
        None, 8, (Member(name="c", type=LONG, offset=0), Member(name="d", type=CHAR, offset=0))
    )
    outer = Struct(
        None,
        8,
        (
            Member(name=None, type=anonymous, offset=0),
            Member(name="rest", type=Array(LONG, None), offset=8),
        ),
    )
    assert bare_value(Value(SPACE, outer, data=b"A" + bytes(7))) == {"c": 65, "d": 65, "rest": []}
    assert bare_value(Value(SPACE, Array(CHAR, 4), data=b"a\xffb\0")) == "a\\xffb"
    assert bare_value(Value(SPACE, Array(CHAR, 0), data=b"")) == ""
    assert bare_value(Value.number_(SPACE, Pointer(LONG, 8), 0x10)) == "0x10"
    assert bare_value(Value.number_(SPACE, Enum("e", 4, {"A": 3}), 3)) == 3
    assert (
        bare_value(Value.number_(SPACE, Float("double", 8), float("nan"))) == "nan(0x8000000000000)"
    )
    assert bare_value(Value(SPACE, Float("complex double", 16), data=bytes(16))) == "0 + 0i"
