"""The grammar of expressions: what is understood, what is refused, and that it always ends."""

from __future__ import annotations

import contextlib
import operator
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rsp
from rsp.symbols.types.types import Array, Integer, Member, Pointer, Struct
from rsp.testing.boot import ELF
from rsp.values.c import C
from rsp.values.expression import MAX_DEPTH, MAX_LENGTH, evaluate, parse_type
from rsp.values.scope import Scope
from rsp.values.value import Space, Value

INT = Integer("int", 4, signed=True)
PAIR = Struct(
    "pair", 8, (Member(name="a", type=INT, offset=0), Member(name="b", type=INT, offset=4))
)
BASE = 0x1000


def read(address: int, length: int) -> bytes:
    """Return memory in which each byte is the low byte of its address."""
    if not BASE <= address <= BASE + 0x1000 - length:
        raise rsp.MemoryFault("no memory", address=address)
    return bytes((address + n) % 256 for n in range(length))


SPACE = Space(read=read, symbols=None, word_size=8, language=C)
SPACE32 = Space(read=read, symbols=None, word_size=4, language=C)
NAMES = {
    "pair": Value(SPACE, PAIR, address=BASE),
    "where": Value.number_(SPACE, Pointer(PAIR, 8), BASE),
    "list": Value(SPACE, Array(INT, 4), address=BASE + 16),
    "null": Value.number_(SPACE, Pointer(PAIR, 8), 0),
    "$pc": Value.number_(SPACE, INT, 7),
}
SCOPE = Scope(space=SPACE, names=NAMES)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pair.a", "50462976"),
        ("where->b == pair.b", "1"),
        ("(*where).b - where->b", "0"),
        ("list[1]", "387323156"),
        ("*(list + 1) == list[1] && &list[1] == list + 1", "1"),
        ("*&list[2] == 2[list] || 1", None),
        ("&pair.b", "(int *) 0x1004"),
        ("&where[1]", "(struct pair *) 0x1008"),
        ("where + 2 - where", "2"),
        ("$pc + 1", "8"),
        ("sizeof *null + sizeof(null->a)", "12"),
        ("null && null->a", "0"),
        ("!null || null->a / 0", "1"),
        ("sizeof(1 / 0)", "4"),
        ("(char)pair.a", "0 '\\000'"),
        ("(unsigned char)(1 + 2) << 2", "12"),
        ("(const volatile unsigned long int *)where", "(const volatile unsigned long *) 0x1000"),
        ("(int **)0", "(int **) 0x0"),
        ("sizeof(long [3])", "24"),
        ("sizeof(char *[2][3])", "48"),
        (" 1+ 2 *3 ", "7"),
        ("2 * 3 - -1", "7"),
        ("10 - 2 - 3", "5"),
        ("1 << 2 << 3", "32"),
        ("7 & 3 == 3", "1"),
        ("0x7fffffffffffffff + 1", "-9223372036854775808"),
        ("'\\t'", "9 '\\t'"),
        ("1.5 * 2", "3"),
    ],
)
def test_expressions(text: str, shown: str | None) -> None:
    if shown is None:
        with pytest.raises(rsp.SymbolError):
            evaluate(text, SCOPE)
    else:
        assert str(evaluate(text, SCOPE)) == shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "something is missing at the end (column 1)"),
        ("   ", "something is missing at the end"),
        ("1 +", "something is missing at the end (column 4)"),
        ("1 2", "an operator should be where '2' is (column 3)"),
        ("where(1)", "functions of the target are not called: an operator should be where '(' is"),
        ("(1", "')' should be at the end (column 3)"),
        ("list[1", "']' should be at the end"),
        ("pair.", "a member should be at the end"),
        ("pair.5", "where '.5' is"),
        ("pair->$pc", "a member should be where '$pc' is"),
        ("(struct)1", "a tag should be where ')' is"),
        ("1 $ 2", "'$' is nothing of C (column 3)"),
        ("main()", "no symbols to find it in"),
        ("'", '"\'" is nothing of C'),
        ("'ab'", "is nothing of C"),
        ("0x", "'0x' is no number"),
        ("1uul", "'1uul' is no number"),
        ("08", "'08' is no number"),
        ("18446744073709551616", "larger than any integer"),
        ("nul", "(nearest: null)"),
        ("$nothing", "no registers"),
        ("list[1](2)", "an operator should be where '(' is"),
        ("1 ? 2 : 3", "'?' is nothing of C"),
        ("list = 5", "'=' is nothing of C"),
        ("(int[-1])1", "an array cannot be like that"),
        ("(unsigned float)1", "no symbols to find the type"),
    ],
)
def test_errors_say_where(text: str, said: str) -> None:
    with pytest.raises(rsp.RspError) as caught:
        evaluate(text, SCOPE)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 10_000,
        "-" * 10_000,
        "(" * 1000 + "1" + ")" * 1000,
        "*" * 5000 + "list",
        "sizeof " * 1200 + "1",
        "(int)" * 1900 + "1",
        "list[" * 1900,
        "1" + "+1" * 4999 + "+1" * 4999,
        "(int" + "*" * 9000 + ")1",
        "(int" + "[1]" * 3000 + ")1",
        "&&" * 5000,
        "1 << 99999999999",
        "9" * 9999,
    ],
)
def test_what_is_too_much_is_refused(text: str) -> None:
    with contextlib.suppress(rsp.SymbolError):
        assert len(str(evaluate(text, SCOPE))) < 20_000


def test_long_ones_that_are_not_deep() -> None:
    assert evaluate("+".join(["1"] * 4000), SCOPE) == 4000
    assert evaluate("(" * (MAX_DEPTH - 1) + "1" + ")" * (MAX_DEPTH - 1), SCOPE) == 1
    with pytest.raises(rsp.SymbolError, match="deeper than"):
        evaluate("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH, SCOPE)
    with pytest.raises(rsp.SymbolError, match="are allowed"):
        evaluate(" " * MAX_LENGTH + "1", SCOPE)


WORDS = [
    *("pair", "where", "list", "null", "$pc", "nothing", "struct", "int", "unsigned", "const"),
    *("sizeof", "1", "0x10", "'a'", "1.5", "7u", "08", "(", ")", "[", "]", ".", "->", "*", "&"),
    *(
        "+",
        "-",
        "!",
        "~",
        "/",
        "%",
        "<<",
        ">>",
        "==",
        "<",
        "&&",
        "||",
        "|",
        "^",
        "a",
        "b",
        " ",
        "::",
    ),
    *("'a.c'", "''", "pair::a", "'a.c'::a"),
]


@given(st.lists(st.sampled_from(WORDS), max_size=30))
def test_any_words_are_a_value_or_a_typed_error(words: list[str]) -> None:
    for joint in ("", " "):
        try:
            value = evaluate(joint.join(words), SCOPE)
            assert isinstance(value, Value)
            str(value)
            sizeof = evaluate(f"sizeof({joint.join(words)})", SCOPE)
            assert int(sizeof) >= 0
        except rsp.RspError:
            pass


@given(st.text(max_size=40))
def test_any_text_is_a_value_or_a_typed_error(text: str) -> None:
    for question in (lambda: evaluate(text, SCOPE), lambda: parse_type(text, SPACE)):
        with contextlib.suppress(rsp.RspError):
            question()


# --- arithmetic, beside Python's ---

INTEGERS = st.integers(-(1 << 31), (1 << 31) - 1)
PYTHON = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<": operator.lt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@given(st.integers(), st.integers(), st.sampled_from([*PYTHON, "/", "%"]), st.booleans())
def test_arithmetic(left: int, right: int, symbol: str, narrow: bool) -> None:
    bits, name = (32, "int") if narrow else (64, "long")

    def wrapped(number: int) -> int:
        return (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)

    left, right = wrapped(left), wrapped(right)
    names = {
        "x": Value.number_(SPACE, parse_type(name, SPACE), left),
        "y": Value.number_(SPACE, parse_type(name, SPACE), right),
    }
    scope = Scope(space=SPACE, names=names)
    if symbol in "/%" and right == 0:
        with pytest.raises(rsp.SymbolError, match="division by zero"):
            evaluate(f"x {symbol} y", scope)
        return
    if symbol in "/%":
        quotient = abs(left) // abs(right) * (1 if left * right >= 0 else -1)
        expected = quotient if symbol == "/" else left - right * quotient
    else:
        expected = int(PYTHON[symbol](left, right))
    assert evaluate(f"x {symbol} y", scope) == wrapped(expected)


@given(st.recursive(
    st.integers(0, 1000).map(str),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(
        lambda each: f"({each[0]} {each[1]} {each[2]})"
    ),
    max_leaves=8,
))  # fmt: skip
def test_parentheses_and_precedence(text: str) -> None:
    bare = re.sub(r"[()]", "", text)
    for each in (text, bare):
        # Python has the same precedence for these.
        wrapped = (eval(each) + (1 << 63)) % (1 << 64) - (1 << 63)
        assert evaluate(each.replace("0 ", "0L ").replace("(", "(0L + "), SCOPE) is not None
        assert (int(evaluate(each, SCOPE)) - wrapped) % (1 << 32) == 0


# --- types ---


@pytest.mark.parametrize(
    ("text", "shown", "size"),
    [
        ("unsigned long int", "unsigned long", 8),
        ("long unsigned", "unsigned long", 8),
        ("unsigned", "unsigned int", 4),
        ("char const *", "const char *", 8),
        ("const char *const", "const char * const", 8),
        ("signed char", "signed char", 1),
        ("long double", "long double", 16),
        ("long long", "long long", 8),
        ("short unsigned int *[3]", "unsigned short *[3]", 24),
        ("_Bool", "_Bool", 1),
        ("void **", "void **", 8),
        ("unsigned __int128", "unsigned __int128", 16),
    ],
)
def test_types(text: str, shown: str, size: int) -> None:
    found = parse_type(text, SPACE)
    assert (str(found), found.size) == (shown, size)


def test_types_of_32_bits() -> None:
    assert parse_type("long", SPACE32).size == 4
    assert parse_type("char *", SPACE32).size == 4
    assert parse_type("long double", SPACE32).size == 12
    scope = Scope(space=SPACE32)
    assert evaluate("2147483647 + 1", scope) == -(1 << 31)
    assert evaluate("4294967296", scope) == 1 << 32
    assert str(evaluate("(void *)-1", scope)) == "(void *) 0xffffffff"


# --- names of a program without types ---


def test_symbols_without_debug_information() -> None:
    table = rsp.SymbolTable(ELF)
    scope = Scope(space=Space(read=read, symbols=table, word_size=8, language=C))
    untyped = "<text variable, no debug info>"
    # As gdb shows them.
    assert str(evaluate("gdt_pointer", scope)) == f"{{{untyped}}} 0x7d58 <gdt_pointer>"
    assert str(evaluate("&gdt_pointer", scope)) == f"({untyped} *) 0x7d58 <gdt_pointer>"
    assert str(evaluate("*gdt_pointer", scope)) == f"{{{untyped}}} 0x7d58 <gdt_pointer>"
    assert str(evaluate("(long)gdt_pointer", scope)) == str(0x7D58)
    assert str(evaluate("sizeof(gdt_pointer)", scope)) == "1"
    # An object, in the section of the code: gdb takes it for code.
    assert str(evaluate("&greeting", scope)) == (
        "(<data variable, no debug info> *) 0x7d1b <greeting>"
    )
    assert str(evaluate("(long)&tick + 2", scope)) == str(0x7D14)
    assert str(evaluate("(void *)0x7d14", scope)) == "(void *) 0x7d14 <tick+2>"
    counter = evaluate("counter", scope)
    assert counter.address_ == 0x4000
    for question in (int, str):
        with pytest.raises(rsp.SymbolError, match="what type"):
            question(counter)
    assert str(evaluate("&counter", scope)) == (
        "(<data variable, no debug info> *) 0x4000 <counter>"
    )
    with pytest.raises(rsp.MemoryFault):
        int(evaluate("(int)counter", scope))
    with pytest.raises(rsp.SymbolNotFound, match="nearest: tick"):
        evaluate("tic + tik", scope)
    with pytest.raises(rsp.SymbolNotFound, match="struct tick"):
        evaluate("(struct tick *)0", scope)


def test_errors_tell_what_is_wrong_from_what_is_not_known() -> None:
    table = rsp.SymbolTable(ELF)
    scope = Scope(space=Space(read=read, symbols=table, word_size=8, language=C))
    for text in ("1 +", "1 / 0", "~1.5", "(struct", "1 2", "0x"):
        with pytest.raises(rsp.ExpressionError) as caught:
            evaluate(text, scope)
        assert isinstance(caught.value, ValueError)
    with pytest.raises(rsp.ValueUnavailable, match="what type"):
        int(evaluate("counter", scope))
    with pytest.raises(rsp.SymbolNotFound):
        evaluate("nothing_of_that_name", scope)
