"""The model of types: what it answers, and that no damaged graph of types can hang it."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from rsp.errors import SymbolNotFound
from rsp.symbols.types.spelling import canonical, spellings, split_name
from rsp.symbols.types.types import (
    MAX_CHAIN,
    VOID,
    Array,
    Encoding,
    Enum,
    Float,
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
CHAR = Integer("char", 1, signed=True, encoding=Encoding.CHAR)


def member(name: str | None, of: Type, offset: int) -> Member:
    return Member(name=name, type=of, offset=offset)


def nested() -> Struct:
    """`struct outer { int a; union { int b; struct { char c, d; }; }; struct outer *next; }`."""
    pair = Struct(None, 2, (member("c", CHAR, 0), member("d", CHAR, 1)))
    union = Union(None, 4, (member("b", INT, 0), member(None, pair, 0)))

    def members() -> tuple[Member, ...]:
        return (
            member("a", INT, 0),
            member(None, union, 4),
            member("next", Pointer(outer, 8), 8),
        )

    outer = Struct("outer", 16, members)
    return outer


def test_members_refer_to_the_structure_itself() -> None:
    outer = nested()
    found = outer.member("next").type
    assert isinstance(found, Pointer)
    assert found.target is outer
    assert outer.members is outer.members
    assert str(found) == "struct outer *"


def test_a_member_is_found_through_anonymous_ones_with_its_whole_offset() -> None:
    outer = nested()
    assert outer.member("d") == member("d", CHAR, 5)
    assert outer.member("b").offset == 4
    assert Typedef("outer_t", Qualified(outer, Qualifier.CONST)).member("c").offset == 4


def test_an_unknown_member_names_the_nearest() -> None:
    with pytest.raises(SymbolNotFound, match=r"'nextt' \(nearest: next\)") as caught:
        nested().member("nextt")
    assert caught.value.name == "nextt"
    with pytest.raises(SymbolNotFound, match="int has no member 'x'"):
        INT.member("x")


@pytest.mark.parametrize("attribute", ["name", "size", "tag", "_members", "anything"])
def test_a_type_does_not_change(attribute: str) -> None:
    outer = nested()
    with pytest.raises(AttributeError):
        setattr(outer, attribute, None)
    with pytest.raises(AttributeError):
        delattr(outer, attribute)


def test_enumerators_do_not_change() -> None:
    values = Enum("e", 4, {"A": 1}).enumerators
    assert isinstance(values, MappingProxyType)
    assert values == {"A": 1}


@pytest.mark.parametrize(
    ("of", "name", "size"),
    [
        (VOID, "void", None),
        (INT, "int", 4),
        (Float("long double", 16), "long double", 16),
        (Pointer(VOID, 4), None, 4),
        (Array(INT, 3), None, 12),
        (Array(Array(INT, 3), 2), None, 24),
        (Array(INT, None), None, None),
        (Array(Struct("s", None), 2), None, None),
        (Struct("s", None), "struct s", None),
        (Struct(None, 8), None, 8),
        (Union("u", 8), "union u", 8),
        (Enum("e", 4), "enum e", 4),
        (Typedef("t", Array(INT, 2)), "t", 8),
        (Qualified(INT, Qualifier.CONST), "const int", 4),
        (Qualified(Pointer(INT, 8), Qualifier.CONST), None, 8),
        (Function(VOID, ()), None, None),
    ],
    ids=str,
)
def test_names_and_sizes(of: Type, name: str | None, size: int | None) -> None:
    assert of.name == name
    assert of.size == size


def test_the_size_of_a_member_is_that_of_its_type() -> None:
    assert member("data", Array(CHAR, None), 8).size == 0
    assert Member(name="x", type=INT, offset=0, bit_offset=3, bit_size=2).size == 4
    assert str(Member(name="x", type=INT, offset=0, bit_offset=3, bit_size=2)) == "int x : 2"


def test_looking_through_typedefs_and_qualifiers() -> None:
    volatile = Qualified(Typedef("a", Qualified(INT, Qualifier.CONST)), Qualifier.VOLATILE)
    assert volatile.resolved is INT
    assert INT.resolved is INT


def test_a_declaration_is_completed_by_its_definition() -> None:
    whole = nested()
    asked = []

    def definition() -> Struct:
        asked.append(1)
        return whole

    declared = Struct("outer", None, definition=definition)
    assert str(declared) == "struct outer"
    assert asked == []
    assert declared.complete
    assert (declared.size, declared.members) == (16, whole.members)
    assert asked == [1]
    assert Enum("e", None, definition=lambda: Enum("e", 4, {"A": 1})).enumerators == {"A": 1}
    assert Struct("nowhere", None).members == ()
    assert not Struct("nowhere", None).complete


def test_a_function_tells_its_parameters() -> None:
    function = Function(INT, lambda: (Parameter("format", Pointer(CHAR, 8)),), variadic=True)
    assert [parameter.name for parameter in function.parameters] == ["format"]
    assert function.declaration("printf") == "int printf(char *, ...)"


LOOPS = 3 * MAX_CHAIN


def loop(kind: str) -> Type:
    """Return a type that is made of itself, as only a damaged file has it."""

    def itself() -> Type:
        return found

    declared = Struct("s", None, definition=lambda: declared)
    kinds: dict[str, Type] = {
        "typedef": Typedef("t", itself),
        "qualified": Qualified(itself, Qualifier.CONST),
        "array": Array(itself, 3),
        "pointer": Pointer(itself, 8),
        "returns": Function(itself, ()),
        "parameter": Function(VOID, lambda: (Parameter(None, found), Parameter(None, found))),
        "anonymous": Struct(None, 8, lambda: (member(None, found, 0), member(None, found, 4))),
        "union": Union("u", 8, lambda: (member("x", found, 0),)),
        "declared": declared,
    }
    found = kinds[kind]
    return found


@pytest.mark.parametrize(
    "kind",
    [
        *("typedef", "qualified", "array", "pointer", "returns", "parameter"),
        *("anonymous", "union", "declared"),
    ],
)
def test_a_type_made_of_itself_has_an_end(kind: str) -> None:
    found = loop(kind)
    assert isinstance(str(found), str)
    assert isinstance(found.declaration("x"), str)
    assert isinstance(found.name, str | None)
    assert found.size in (None, 8)
    assert isinstance(found.resolved, Type)
    assert isinstance(repr(found), str)
    assert len(found.members) <= 2
    with pytest.raises(SymbolNotFound):
        found.member("nothing")


def test_a_chain_of_pointers_is_cut() -> None:
    found: Type = INT
    for _ in range(LOOPS):
        found = Pointer(found, 8)
    assert str(found) == "... " + "*" * MAX_CHAIN


@pytest.mark.parametrize(
    ("written", "short", "in_files"),
    [
        ("unsigned", "unsigned int", ("unsigned int",)),
        ("long unsigned int", "unsigned long", ("long unsigned int", "unsigned long")),
        ("int long long", "long long", ("long long int", "long long")),
        ("signed short", "short", ("short int", "short")),
        ("signed", "int", ("int",)),
        ("signed char", "signed char", ("signed char",)),
        ("u32", "u32", ("u32",)),
        ("__int128 unsigned", "__int128 unsigned", ("__int128 unsigned",)),
        ("", "", ("",)),
    ],
)
def test_integers_have_one_name(written: str, short: str, in_files: tuple[str, ...]) -> None:
    assert canonical(written) == short
    assert canonical(short) == short
    assert spellings(written) == in_files


def test_a_name_may_have_a_keyword() -> None:
    assert split_name(" struct   page ") == ("struct", "page")
    assert split_name("unsigned  int") == ("", "unsigned int")
    assert split_name("struct") == ("", "struct")
    assert split_name("class x") == ("", "class x")
    assert split_name("") == ("", "")
