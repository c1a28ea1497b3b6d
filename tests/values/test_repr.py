"""What repr shows of a value: its type and what it is, in bounds, and never an error."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rsp
from rsp.symbols.types.types import (
    VOID,
    Array,
    Compound,
    Encoding,
    Enum,
    Float,
    Function,
    Integer,
    Member,
    Pointer,
    Struct,
    Type,
    Typedef,
)
from rsp.values.c import C
from rsp.values.value import OPTIMIZED_OUT, UNTYPED, UNTYPED_CODE, Hole, Space, Value

CHAR = Integer("char", 1, signed=True, encoding=Encoding.CHAR)
INT = Integer("int", 4, signed=True)
LONG = Integer("long", 8, signed=True)
PAIR = Struct(
    "pair", 8, (Member(name="a", type=INT, offset=0), Member(name="b", type=INT, offset=4))
)
SIZE = 1 << 24


class Memory:
    """16 MB that hold a string at 0x1000, and count what is read of them."""

    def __init__(self) -> None:
        self.read_in_all = 0

    def read(self, address: int, length: int) -> bytes:
        if not 0 <= address <= address + length <= SIZE:
            raise rsp.MemoryFault("no memory", address=min(address, SIZE))
        self.read_in_all += length
        text = b"a string\0"[max(address - 0x1000, 0) :] if address >= 0x1000 else b""
        return text[:length].ljust(length, b"\0")


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def space(memory: Memory) -> Space:
    return Space(read=memory.read, symbols=None, word_size=8, language=C)


def number(ctype: Type, value: int) -> bytes:
    return value.to_bytes(ctype.size or 0, "little", signed=value < 0)


@pytest.mark.parametrize(
    ("ctype", "value", "text"),
    [
        (INT, 42, "(int)42"),
        (Typedef("pid_t", INT), -1, "(pid_t)-1"),
        (CHAR, 65, "(char)65 'A'"),
        (Pointer(PAIR, 8), 0xFFFF888003220890, "(struct pair *)0xffff888003220890"),
        (Pointer(VOID, 8), 0, "(void *)0x0"),
        (Pointer(CHAR, 8), 0x1000, '(char *)0x1000 "a string"'),
        (Pointer(CHAR, 8), SIZE, "(char *)0x1000000 <error: Cannot access memory at address "),
        (Enum("flags", 4, {"A": 1, "B": 2}), 3, "(enum flags)(A | B)"),
        (PAIR, 2 << 32 | 1, "(struct pair){a = 1, b = 2}"),
        (Array(INT, 2), 2 << 32 | 1, "(int [2]){1, 2}"),
        (Array(CHAR, 8), 0x6968, '(char [8])"hi\\000\\000\\000\\000\\000"'),
        (Float("double", 8), 0x3FF8000000000000, "(double)1.5"),
    ],
    ids=lambda what: str(what)[:20],
)
def test_the_type_and_what_it_is(space: Space, ctype: Type, value: int, text: str) -> None:
    assert repr(Value(space, ctype, data=number(ctype, value))).startswith(text)


def test_what_is_not_known_or_cannot_be_read(space: Space) -> None:
    assert repr(Value.absent_value_(space, INT)) == "(int)<optimized out>"
    assert repr(Value(space, INT)).startswith("(int)<error: this int has neither an address")
    partly = Value(space, Array(CHAR, 2), data=b"ab", holes=[Hole(8, 16, OPTIMIZED_OUT)])
    assert repr(partly) == "(char [2]){97 'a', <optimized out>}"
    fault = "<error: Cannot access memory at address 0x1000000>"
    assert repr(Value(space, INT, address=SIZE)) == f"(int){fault}"
    assert repr(Value(space, PAIR, address=SIZE)) == f"(struct pair){fault}"
    assert repr(Value(space, UNTYPED, address=0x10)).startswith(
        "(<data variable, no debug info>)<error: nothing says what type it has"
    )
    code = Value(space, UNTYPED_CODE, address=0x401136)
    assert repr(code) == (
        "(<text variable, no debug info>){<text variable, no debug info>} 0x401136"
    )
    assert "{int (void)} 0x10" in repr(Value(space, Function(INT, ()), address=0x10))
    assert repr(Value(space, Struct("far", None), address=0x10)) == "(struct far)<incomplete type>"


def broken() -> Type:
    raise rsp.BadImage("the file is damaged", path="vmlinux")


def test_a_type_that_cannot_be_read_is_no_error(space: Space) -> None:
    for ctype in (Pointer(broken, 8), Typedef("u", broken), Array(broken, 3)):
        assert "<error: the file is damaged>" in repr(Value(space, ctype, address=0x10))


@pytest.mark.parametrize(
    "ctype",
    [
        Array(INT, SIZE // 8),
        Array(Array(INT, 1024), 1024),
        Struct("big", SIZE // 2, (Member(name="a", type=Array(LONG, 1 << 19), offset=0),)),
        Struct(
            "wide",
            SIZE // 2,
            tuple(Member(name=f"m{n}", type=LONG, offset=8 * n) for n in range(10_000)),
        ),
        Array(PAIR, 1 << 20),
        Array(CHAR, SIZE // 2),
    ],
    ids=str,
)
def test_megabytes_are_neither_read_nor_shown(
    space: Space, memory: Memory, ctype: Compound
) -> None:
    shown = repr(Value(space, ctype, address=0x2000))
    assert shown.startswith(f"({ctype})")
    assert "..." in shown
    assert len(shown) < 2100
    assert memory.read_in_all <= 8192


def test_of_a_target_that_runs_nothing_is_asked(space: Space, memory: Memory) -> None:
    runs = replace(space, silence=lambda: "the target runs")
    assert repr(Value(runs, LONG, address=0x10)) == "(long)<not read: the target runs>"
    assert repr(Value(runs, PAIR, address=0x10)["a"]) == "(int)<not read: the target runs>"
    known = Value(runs, Pointer(CHAR, 8), data=number(LONG, 0x1000))
    assert repr(known) == "(char *)0x1000"  # and not the string there
    large = Value(runs, Array(INT, 1 << 16), address=0x10, data=bytes(1 << 18))
    assert repr(large) == "(int [65536]){0 <repeats 1024 times>...}"
    assert memory.read_in_all == 0


def test_members_complete(space: Space) -> None:
    inner = Struct(None, 8, (Member(name="c", type=INT, offset=0),))
    outer = Struct(
        "outer",
        16,
        (Member(name="a", type=INT, offset=0), Member(name=None, type=inner, offset=8)),
    )
    for ctype in (outer, Typedef("outer_t", outer)):
        assert ctype._ipython_key_completions_() == ["a", "c"]
        assert ctype["c"].offset == 8
        for value in (
            Value(space, ctype, address=0x10),
            Value(space, Pointer(ctype, 8), data=number(LONG, 0x10)),
        ):
            assert value._ipython_key_completions_() == ["a", "c"]
            assert {"a", "c", "type_", "bytes_"} <= set(dir(value))
    assert Value(space, INT, address=0)._ipython_key_completions_() == []
    with pytest.raises(TypeError):
        iter(outer)  # type: ignore[call-overload]


@given(st.binary(min_size=64, max_size=64), st.sampled_from([INT, LONG, PAIR, Array(CHAR, 64)]))
def test_any_bytes_have_one(data: bytes, ctype: Type) -> None:
    space = Space(read=Memory().read, symbols=None, word_size=8, language=C)
    assert repr(Value(space, ctype, data=data)).startswith(f"({ctype})")
