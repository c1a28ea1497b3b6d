"""Values without a target: parts that are not known, computed ones, types that make no sense."""

from __future__ import annotations

from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rsp
from rsp.symbols.types.types import (
    VOID,
    Array,
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
    Union,
)
from rsp.values.c import C
from rsp.values.numbers import decode, encode, float_text
from rsp.values.text import print_text, string_text, summary_text
from rsp.values.value import OPTIMIZED_OUT, UNAVAILABLE, Hole, Space, Value

CHAR = Integer("char", 1, signed=True, encoding=Encoding.CHAR)
INT = Integer("int", 4, signed=True)
UINT = Integer("unsigned int", 4, signed=False)
LONG = Integer("long", 8, signed=True)
DOUBLE, FLOAT, LONG_DOUBLE = Float("double", 8), Float("float", 4), Float("long double", 16)
FLAGS = Enum("flags", 4, {"A": 1, "B": 2})
PAIR = Struct(
    "pair", 8, (Member(name="a", type=INT, offset=0), Member(name="b", type=INT, offset=4))
)
BASE = 0x1000
MEMORY = bytes(range(256)) + b"a string\0" + bytes(247) + bytes(0xE00)


class Memory:
    """A page of memory that notes what is read of it."""

    def __init__(self) -> None:
        self.reads: list[tuple[int, int]] = []

    def read(self, address: int, length: int) -> bytes:
        self.reads.append((address, length))
        data = MEMORY[address - BASE : address - BASE + length] if address >= BASE else b""
        if len(data) < length:
            raise rsp.MemoryFault("no memory", address=address + len(data), partial=data)
        return data


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def space(memory: Memory) -> Space:
    return Space(read=memory.read, symbols=None, word_size=8, language=C)


NOWHERE = Space(read=Memory().read, symbols=None, word_size=8, language=C)


# --- parts that are not known ---


def test_what_is_optimized_out() -> None:
    for ctype in (INT, PAIR, Pointer(PAIR, 8), Array(INT, 3), FLAGS, DOUBLE, VOID):
        value = Value.absent_value_(NOWHERE, ctype)
        assert str(value) == summary_text(value) == OPTIMIZED_OUT
        assert value.absent_ == OPTIMIZED_OUT
        assert value.all_absent_
        assert value.address_ is None
        with pytest.raises(rsp.SymbolError, match="optimized out"):
            value.bytes_()
    assert str(Value.absent_value_(NOWHERE, INT, UNAVAILABLE)) == UNAVAILABLE
    pair = Value.absent_value_(NOWHERE, PAIR)
    assert str(pair.b) == OPTIMIZED_OUT
    assert str(Value.absent_value_(NOWHERE, INT).cast_(LONG)) == OPTIMIZED_OUT


def test_pieces() -> None:
    value = Value(
        NOWHERE, PAIR, data=bytes([7, 0, 0, 0, 0, 0, 0, 0]), holes=[Hole(32, 64, UNAVAILABLE)]
    )
    assert str(value) == "{a = 7, b = <unavailable>}"
    assert value.a == 7
    assert value.absent_ == UNAVAILABLE
    assert not value.all_absent_
    assert value.b.all_absent_
    with pytest.raises(rsp.SymbolError, match="unavailable"):
        int(value.b)
    numbers = Value(
        NOWHERE,
        Array(INT, 20),
        data=bytes([5, 0, 0, 0]) + bytes(76),
        holes=[Hole(32, 640, OPTIMIZED_OUT)],
    )
    assert str(numbers) == "{5, <optimized out> <repeats 19 times>}"
    text = Value(NOWHERE, Array(CHAR, 3), data=b"abc", holes=[Hole(8, 16, OPTIMIZED_OUT)])
    assert str(text) == "{97 'a', <optimized out>, 99 'c'}"
    several = Value(NOWHERE, LONG, data=bytes(8), holes=[Hole(0, 8, "<x>"), Hole(8, 64, "<y>")])
    assert several.all_absent_


def test_a_value_in_a_register() -> None:
    value = Value(NOWHERE, PAIR, data=bytes([1, 0, 0, 0, 2, 0, 0, 0]))
    assert str(value) == "{a = 1, b = 2}"
    assert (value.address_, value.b.address_) == (None, None)
    assert repr(value) == "(struct pair){a = 1, b = 2}"
    with pytest.raises(rsp.SymbolError, match="no address"):
        value.address_of_()
    with pytest.raises(rsp.SymbolError, match="nothing at offset 8"):
        Value(NOWHERE, Array(INT, 2), data=bytes(8))[2]
    with pytest.raises(rsp.SymbolError, match="only 2 of 4 bytes"):
        int(Value(NOWHERE, INT, data=bytes(2)))


def test_arguments_of_a_backtrace() -> None:
    assert summary_text(Value(NOWHERE, PAIR, data=bytes(8))) == "..."
    assert summary_text(Value(NOWHERE, Array(CHAR, 2), data=b"ab")) == "..."
    pointer = Value.number_(NOWHERE, Pointer(PAIR, 8), 0x10)
    assert (summary_text(pointer), str(pointer)) == ("0x10", "(struct pair *) 0x10")
    assert summary_text(Value.number_(NOWHERE, FLAGS, 3)) == "(A | B)"


# --- few bytes ---


def test_only_what_is_needed_is_read(space: Space, memory: Memory) -> None:
    outer = Struct(
        None,
        512,
        (
            Member(name="pair", type=PAIR, offset=8),
            Member(name="bits", type=UINT, offset=17, bit_offset=3, bit_size=7),
            Member(name="text", type=Array(CHAR, 256), offset=256),
            Member(name="next", type=Pointer(PAIR, 8), offset=264),
        ),
    )
    value = Value(space, outer, address=BASE)
    part, bits, text = value.pair.b, value["bits"], value.text
    assert memory.reads == []
    assert part == 0x0F0E0D0C
    assert bits == (0x1211 >> 3) & 0x7F
    assert text.string_() == b"a string"
    assert memory.reads == [(BASE + 12, 4), (BASE + 17, 2), (BASE + 256, 64)]
    memory.reads.clear()
    with pytest.raises(rsp.SymbolNotFound):
        value.next["c"]
    assert memory.reads == []
    memory.reads.clear()
    assert [int(each) & 0xFF for each in Value(space, Array(INT, 60), address=BASE)] == [
        4 * n for n in range(60)
    ]
    assert memory.reads == [(BASE, 240)]
    memory.reads.clear()
    assert str(value).startswith("{pair = {a = 185207048, b = 252579084}, bits = ")
    assert memory.reads[0] == (BASE, 512)


def test_slices(space: Space, memory: Memory) -> None:
    numbers = Value(space, Array(CHAR, 200), address=BASE)
    assert [int(each) for each in numbers[10:20:3]] == [10, 13, 16, 19]
    assert [int(each) for each in numbers[0:128:120]] == [0, 120]
    pointer = Value.number_(space, Pointer(PAIR, 8), BASE)
    assert [each.address_ for each in pointer[1:4]] == [BASE + 8, BASE + 16, BASE + 24]
    assert numbers[-1].address_ == BASE - 1
    assert pointer[-1].address_ == BASE - 8
    memory.reads.clear()
    assert len(numbers[:]) == 200
    assert memory.reads == [(BASE, 200)]


def test_addresses_wrap_around() -> None:
    space = Space(read=Memory().read, symbols=None, word_size=4, language=C)
    pointer = Value.number_(space, Pointer(PAIR, 4), (1 << 32) - 4)
    assert pointer.b.address_ == 0
    assert pointer[1].address_ == 4
    with pytest.raises(rsp.MemoryFault):
        int(pointer.b)


def test_strings_end_where_memory_does(space: Space) -> None:
    end = BASE + len(MEMORY)
    pointer = Value.number_(space, Pointer(CHAR, 8), end - 4)
    assert str(pointer) == f'{end - 4:#x} ""'
    wild = Value.number_(space, Pointer(CHAR, 8), 0x20)
    assert str(wild) == "0x20 <error: Cannot access memory at address 0x20>"
    over = Value.number_(space, Pointer(CHAR, 8), BASE + 200)
    assert str(over).endswith('\\376\\377a string"')
    with pytest.raises(rsp.MemoryFault) as caught:
        wild.string_()
    assert (caught.value.address, caught.value.partial) == (0x20, b"")
    with pytest.raises(rsp.SymbolError, match="no string"):
        Value.number_(space, INT, 1).string_()
    with pytest.raises(rsp.MemoryFault):
        str(Value(space, PAIR, address=end - 4))


# --- types that make no sense, as a damaged file has them ---


def cyclic(kind: type[Struct | Union], name: str | None, size: int) -> Type:
    made: list[Type] = []
    made.append(kind(None, size, lambda: (Member(name=name, type=made[0], offset=0),) * 2))
    return made[0]


@pytest.mark.parametrize("size", [0, 8])
@pytest.mark.parametrize("name", [None, "again"])
@pytest.mark.parametrize("kind", [Struct, Union])
def test_a_type_within_itself_ends(
    space: Space, kind: type[Struct | Union], name: str | None, size: int
) -> None:
    text = str(Value(space, cyclic(kind, name, size), address=BASE))
    assert "{...}" in text
    assert len(text) < 1 << 26


def test_sizes_that_cannot_be(space: Space) -> None:
    endless: list[Type] = []
    endless.append(Typedef("endless", lambda: endless[0]))
    shapes = [
        Array(INT, 1 << 60),
        Array(Array(INT, 1 << 60), 1 << 60),
        Array(Struct("none", 0), 1 << 60),
        Struct("large", 1 << 50, (Member(name="far", type=INT, offset=1 << 49),)),
        Integer("integer", 1 << 40, signed=True),
        Float("float", 3),
        Pointer(INT, 1 << 30),
        Enum("enum", 1 << 40, {}),
        endless[0],
        Struct("declared", None),
        Struct("bits", 4, (Member(name="b", type=INT, offset=0, bit_offset=0, bit_size=99),)),
        Struct("beyond", 4, (Member(name="b", type=INT, offset=400),)),
        VOID,
    ]
    for ctype in shapes:
        value = Value(space, ctype, address=BASE)
        for question in (str, int, float, bool, list, hash, Value.bytes_, Value.string_):
            try:
                question(value)
            except rsp.RspError:
                continue
    assert str(Value(space, Struct("declared", None), address=BASE)) == "<incomplete type>"
    with pytest.raises(rsp.SymbolError, match="only declared"):
        Value(space, Struct("declared", None), address=BASE)["member"]
    assert str(Value(space, Array(INT, 1 << 60), address=BASE)[5]) == "387323156"


def test_what_c_does_not_allow(space: Space) -> None:
    pair = Value(space, PAIR, address=BASE)
    number = Value.number_(space, INT, 5)
    for misuse in (
        lambda: int(pair),
        lambda: float(pair),
        lambda: bool(pair),
        lambda: pair.cast_(INT),
        lambda: number.cast_(PAIR),
        lambda: number.deref_(),
        lambda: number[0],
        lambda: len(number),
        lambda: list(number),
        lambda: pair[0],
        lambda: number.address_of_(),
        lambda: Value.number_(space, Pointer(VOID, 8), BASE).deref_(),
        lambda: Value.number_(space, Pointer(INT, 8), BASE)[:],
        lambda: Value.number_(space, Pointer(INT, 8), BASE)[-1:3],
        lambda: Value.number_(space, DOUBLE, 1.0).__index__(),
        lambda: int(Value.number_(space, DOUBLE, float("nan"))),
        lambda: number.cast_("struct page"),
        lambda: number.cast_("not a type"),
    ):
        with pytest.raises(rsp.SymbolError):
            misuse()
    with pytest.raises(AttributeError):
        _ = number.member
    assert not hasattr(pair, "c")
    assert pair != 5
    assert number == 5 == Value.number_(space, LONG, 5)
    assert number != 6
    assert 4 < number <= 5.5
    assert number < Value.number_(space, LONG, 6)


def test_functions_and_casts(space: Space) -> None:
    function = Value(space, Function(INT, ()), address=BASE)
    assert str(function) == f"{{int (void)}} {BASE:#x}"
    assert str(function.address_of_()) == f"(int (*)(void)) {BASE:#x}"
    assert function.deref_() is function
    assert int(function) == BASE
    pointer = Value.number_(space, Pointer(INT, 8), BASE)
    assert str(pointer.cast_("unsigned char")) == "0 '\\000'"
    assert str(pointer.cast_("long")) == "4096"
    assert str(pointer.cast_("void *const")) == "(void * const) 0x1000"
    assert str(Value(space, INT, address=BASE).cast_(Array(CHAR, 4))) == '"\\000\\001\\002\\003"'


# --- numbers and text ---


@given(st.floats(width=64), st.sampled_from([DOUBLE, LONG_DOUBLE, Float("_Float128", 16)]))
def test_floats_come_back(number: float, ctype: Float) -> None:
    back = decode(ctype, encode(ctype, number))
    assert back == number or (back != back and number != number)
    text = float_text(DOUBLE, encode(DOUBLE, number))
    if number == number:
        assert text == f"{number:.17g}"


@given(st.floats(width=32))
def test_single_floats(number: float) -> None:
    assert decode(FLOAT, encode(FLOAT, number)) == number or number != number
    if number == number:
        assert float_text(FLOAT, encode(FLOAT, number)) == f"{number:.9g}"


@given(st.binary(min_size=16, max_size=16), st.sampled_from([2, 4, 8, 12, 16]))
def test_any_bytes_are_some_number(data: bytes, size: int) -> None:
    text = float_text(Float("real", size), data[:size])
    assert text
    decode(Float("real", size), data[:size])


@given(st.integers(), st.sampled_from([CHAR, INT, UINT, LONG]))
def test_integers_are_cut_off_as_by_a_cast(number: int, ctype: Integer) -> None:
    back = decode(ctype, encode(ctype, number))
    assert (back - number) % (1 << 8 * ctype.size) == 0
    assert -(1 << 8 * ctype.size - 1) <= back < 1 << 8 * ctype.size


@given(st.binary(max_size=300))
def test_any_bytes_are_a_string(data: bytes) -> None:
    text = string_text(data, CHAR)
    assert text[0] in "\"'<"
    assert not any(category(each) in ("Cc", "Cn", "Cs") for each in text)


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "Zs"]), max_size=150))
def test_plain_text_is_shown_as_it_is(text: str) -> None:
    shown = string_text(text.encode() + b"\0", CHAR)
    if "repeats" not in shown:
        assert shown == f'"{text}"'


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_arrays_say_all_that_they_have(numbers: list[int]) -> None:
    data = b"".join(encode(INT, number) for number in numbers)
    text = print_text(Value(NOWHERE, Array(INT, len(numbers)), data=data))
    said: list[int] = []
    for part in text.strip("{}").split(", "):
        number, _, repeats = part.partition(" <repeats ")
        said += [int(number)] * int(repeats.split()[0] if repeats else 1)
    assert said == numbers


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (1, "A"),
        (2, "B"),
        (3, "(A | B)"),
        (4, "(unknown: 0x4)"),
        (9, "(A | unknown: 0x8)"),
    ],
)
def test_flags(number: int, text: str) -> None:
    value = Value.number_(NOWHERE, FLAGS, number)
    assert str(value) == text
    assert value.enumerator_() == (text if number in (1, 2) else None)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"ab\xe2\x82", '"ab", <incomplete sequence \\342\\202>'),
        (b"a\xe0\x80", '"a", <incomplete sequence \\340\\200>'),  # too long, to others than glibc
        (b"a\xfd\x80\x80", '"a", <incomplete sequence \\375\\200\\200>'),
        (b"a\xfe", '"a\\376"'),
        (b"a\xc1", '"a\\301"'),
        (b"\xe0\x80b", '"\\340\\200b"'),
        (b"\xee\x84\xbb \xc2\xa0", '"\ue13b \xa0"'),
        (b"\xc2\x83\xef\xbf\xbf", '"\\302\\203\\357\\277\\277"'),
    ],
)
def test_bytes_that_are_hardly_text(data: bytes, text: str) -> None:
    """As gdb 13.1 prints them where the locale is C.UTF-8."""
    assert string_text(data, CHAR, whole=True) == text
