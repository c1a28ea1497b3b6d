"""BTF: every kind of record, written here by hand as Documentation/bpf/btf.rst has it; damage."""

from __future__ import annotations

import contextlib
import random
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsp.errors import BadImage, SymbolNotFound
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.section_data import SectionData
from rsp.symbols.types.btf import Btf
from rsp.symbols.types.text import definition
from rsp.symbols.types.types import (
    Array,
    Encoding,
    Enum,
    Float,
    Function,
    Integer,
    Pointer,
    Struct,
    Type,
    Typedef,
    Union,
)

if TYPE_CHECKING:
    from lab.kernels import DebianKernel

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)
FLAG = 1 << 31
SIGNED, CHAR, BOOL = 1 << 24, 2 << 24, 4 << 24


class Writer:
    """Writes the records and strings of a .BTF section."""

    def __init__(self, base: Writer | None = None) -> None:
        self.base = base
        self.records: list[bytes] = []
        self.names: dict[str, int] = {"": 0} if base is None else dict(base.names)
        self.strings = b"\0" if base is None else b""
        self.first_id: int = 1 if base is None else base.first_id + len(base.records)
        self.first_name: int = 0 if base is None else base.first_name + len(base.strings)

    def name(self, text: str) -> int:
        if text not in self.names:
            self.names[text] = self.first_name + len(self.strings)
            self.strings += text.encode() + b"\0"
        return self.names[text]

    def add(
        self, kind: int, name: str, value: int, *more: int, parts: int = 0, flag: int = 0
    ) -> int:
        words = (self.name(name), kind << 24 | parts | flag, value, *more)
        self.records.append(struct.pack(f"<{len(words)}I", *(word & 0xFFFFFFFF for word in words)))
        return self.first_id + len(self.records) - 1

    def integer(self, name: str, size: int, flags: int = SIGNED) -> int:
        return self.add(INT, name, size, flags | size * 8)

    def compound(
        self, kind: int, name: str, size: int, *members: tuple[str, int, int], flag: int = 0
    ) -> int:
        words = [word for text, of, at in members for word in (self.name(text), of, at)]
        return self.add(kind, name, size, *words, parts=len(members), flag=flag)

    def bytes(self) -> bytes:
        types = b"".join(self.records)
        header = (0xEB9F, 1, 0, 24, 0, len(types), len(types), len(self.strings))
        return struct.pack("<HBBIIIII", *header) + types + self.strings

    def read(self, base: Btf | None = None) -> Btf:
        return read(self.bytes(), base)


def read(data: bytes, base: Btf | None = None) -> Btf:
    return Btf(SectionData(".BTF", data, 0, len(data), path="file"), base)


def everything() -> Writer:
    w = Writer()
    number = w.integer("int", 4)
    w.integer("long unsigned int", 8, 0)
    w.integer("char", 1)
    w.integer("_Bool", 1, BOOL)
    w.add(FLOAT, "double", 8)
    pointer = w.add(PTR, "", number)
    array = w.add(ARRAY, "", 0, number, number, 4)
    node = w.first_id + len(w.records) + 2
    w.add(PTR, "", node)
    w.add(TYPE_TAG, "rcu", node)
    assert node == w.compound(
        *(STRUCT, "node", 24),
        *(("next", node - 2, 0), ("low", number, 3 << 24 | 64), ("high", number, 5 << 24 | 67)),
        *(("list", array, 128), ("tail", w.first_id + len(w.records) + 1, 192)),
        flag=FLAG,
    )
    w.add(ARRAY, "", 0, number, number, 0)
    w.compound(UNION, "node", 4, ("a", number, 0), ("b", pointer, 0))
    w.add(ENUM, "sign", 4, w.name("MINUS"), -1, w.name("PLUS"), 1, parts=2, flag=FLAG)
    w.add(ENUM, "flags", 4, w.name("ALL"), 0xFFFFFFFF, parts=1)
    w.add(ENUM64, "wide", 8, w.name("TOP"), 0, 1 << 31, w.name("ONE"), 1, 0, parts=2)
    w.add(ENUM64, "low", 8, w.name("BOTTOM"), 0, 1 << 31, parts=1, flag=FLAG)
    w.add(ENUM, "declared", 4)
    w.add(FWD, "gone", 0)
    w.add(FWD, "gone", 0, flag=FLAG)
    w.add(FWD, "node", 0)
    volatile = w.add(VOLATILE, "", number)
    const = w.add(CONST, "", volatile)
    w.add(TYPEDEF, "number_t", const)
    restrict = w.add(RESTRICT, "", pointer)
    w.add(TYPEDEF, "place_t", restrict)
    prototype = w.add(FUNC_PROTO, "", number, w.name("format"), pointer, 0, 0, parts=2)
    w.add(FUNC, "print", prototype, parts=1)
    w.add(FUNC, "nothing", w.add(FUNC_PROTO, "", 0))
    variable = w.add(VAR, "counter", number, 1)
    w.add(DATASEC, ".data", 4, variable, 0, 4, parts=1)
    w.add(DECL_TAG, "user", node, 0)
    w.add(TYPEDEF, "tagged_t", node - 1)
    return w


def test_every_kind_of_record() -> None:
    btf = everything().read()
    assert len(btf) == len(everything().records)
    number = btf.find("int")
    assert isinstance(number, Integer)
    assert (number.size, number.signed, number.encoding) == (4, True, Encoding.INT)
    assert str(btf.find("unsigned long")) == "unsigned long"
    assert btf.find("unsigned long") is btf.find("long unsigned int")
    for name, encoding in (("char", Encoding.CHAR), ("_Bool", Encoding.BOOL)):
        found = btf.find(name)
        assert isinstance(found, Integer)
        assert found.encoding is encoding
    assert isinstance(btf.find("double"), Float)
    node = btf.find("struct node")
    assert isinstance(node, Struct)
    assert definition(node) == (
        "struct node {\n    struct node *next;\n    int low : 3;\n    int high : 5;\n"
        "    int list[4];\n    int tail[];\n}"
    )
    low, high = node.member("low"), node.member("high")
    assert (low.offset, low.bit_offset, low.bit_size) == (8, 0, 3)
    assert (high.offset, high.bit_offset, high.bit_size) == (8, 3, 5)
    assert node.member("list").bit_size is None
    tail = node.member("tail").type
    assert isinstance(tail, Array)
    assert tail.count is None
    pointer = node.member("next").type
    assert isinstance(pointer, Pointer)
    assert pointer.target is node
    union = btf.find("union node")
    assert isinstance(union, Union)
    assert [str(each) for each in union.members] == ["int a", "int *b"]
    assert str(btf.find("tagged_t")) == "tagged_t"
    tagged = btf.find("tagged_t")
    assert tagged is not None
    assert tagged.resolved is node


def test_enumerations_have_their_signs() -> None:
    btf = everything().read()
    texts = {
        name: definition(found)
        for name in ("sign", "flags", "wide", "low")
        if (found := btf.find(f"enum {name}")) is not None
    }
    assert texts == {
        "sign": "enum sign {MINUS = -1, PLUS = 1}",
        "flags": "enum flags {ALL = 4294967295}",
        "wide": "enum wide {TOP = -9223372036854775808, ONE = 1}",  # as gdb has it
        "low": "enum low {BOTTOM = -9223372036854775808}",
    }
    wide = btf.find("enum wide")
    assert isinstance(wide, Enum)
    assert wide.enumerators["TOP"] == 1 << 63
    declared = btf.find("enum declared")
    assert isinstance(declared, Enum)
    assert not declared.complete


def test_qualifiers_stay_in_their_order() -> None:
    btf = everything().read()
    for name, text in (("number_t", "const volatile int"), ("place_t", "int * restrict")):
        found = btf.find(name)
        assert isinstance(found, Typedef)
        assert str(found.target) == text


def test_functions_and_variables() -> None:
    btf = everything().read()
    function = btf.function("print")
    assert isinstance(function, Function)
    assert function.declaration("print") == "int print(int *, ...)"
    assert [parameter.name for parameter in function.parameters] == ["format"]
    nothing = btf.function("nothing")
    assert nothing is not None
    assert nothing.declaration("nothing") == "void nothing(void)"
    assert str(btf.variable("counter")) == "int"
    # Names are of one kind: a variable is no function, and neither is a type.
    assert btf.function("counter") is btf.variable("print") is btf.find("print") is None


def test_a_bare_name_is_a_typedef_or_else_what_needs_a_keyword() -> None:
    w = everything()
    btf = w.read()
    assert btf.find("node") is btf.find("struct node")
    assert btf.find_all("node") == (btf.find("struct node"),)
    w.add(TYPEDEF, "node", 1)
    assert isinstance(w.read().find("node"), Typedef)


def test_all_of_a_name_are_found_and_a_declaration_only_without_them() -> None:
    w = everything()
    w.compound(STRUCT, "node", 4, ("other", 1, 0))
    btf = w.read()
    assert [found.size for found in btf.find_all("struct node")] == [24, 4]
    gone = btf.find_all("struct gone")
    assert [type(found) for found in gone] == [Struct]
    assert [type(found) for found in btf.find_all("union gone")] == [Union]
    assert gone[0].size is None
    assert definition(gone[0]) == "struct gone {\n    <incomplete type>\n}"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "struct ",
        "struct int",
        "nod",
        "ode",
        "node\0",
        "struct node\0union",
        "\udfff\ud800",
        "*",
    ],
)
def test_names_that_are_none(name: str) -> None:
    btf = everything().read()
    assert btf.find(name) is None
    assert btf.find_all(name) == ()
    assert btf.function(name) is None


def test_all_named_types() -> None:
    names = [found.name for found in everything().read().types()]
    assert {"int", "double", "struct node", "union node", "enum wide", "tagged_t"} <= set(names)
    assert None not in names


def test_a_module_goes_on_where_its_kernel_ends() -> None:
    kernel = everything()
    w = Writer(kernel)
    own = w.compound(STRUCT, "own", 16, ("kernel", 10, 0), ("number", 1, 64))
    w.add(PTR, "", own)
    w.add(FWD, "sign_of_kernel", 0)
    w.add(FWD, "node", 0)
    base = kernel.read()
    module = w.read(base)
    assert len(module) == 4
    found = module.find("struct own")
    assert found is not None
    assert [str(member) for member in found.members] == ["struct node kernel", "int number"]
    assert found.member("kernel").type is base.find("struct node")
    assert module.find("enum wide") is base.find("enum wide")
    assert base.find("struct own") is None
    assert module.function("print") is base.function("print")
    assert str(module.type(own + 1)) == "struct own *"
    declared = module.type(own + 3)
    assert declared.size == 24
    assert module.find("struct node") is base.find("struct node")


def test_a_name_of_the_kernel_is_that_of_a_type_of_the_module() -> None:
    kernel = Writer()
    kernel.integer("int", 4)
    shared = kernel.name("shared")
    w = Writer(kernel)
    w.add(STRUCT, "", 8)
    w.records[0] = struct.pack("<III", shared, STRUCT << 24, 8)
    module = w.read(kernel.read())
    found = module.find("struct shared")
    assert found is not None
    assert found.size == 8


@pytest.mark.parametrize(
    "data",
    [
        b"",
        everything().bytes()[:23],
        b"\xeb\x9f" + everything().bytes()[2:],
        everything().bytes()[:-1],
    ],
)
def test_what_is_no_btf(data: bytes) -> None:
    with pytest.raises(BadImage):
        read(data)


def test_damage_within_is_told_when_it_is_reached() -> None:
    w = Writer()
    w.compound(STRUCT, "good", 4, ("x", 0, 0))
    bad = w.compound(STRUCT, "bad", 4, ("x", 77, 0))
    w.add(31, "unknown", 0)
    w.compound(STRUCT, "behind", 4)
    btf = w.read()
    good = btf.find("struct good")
    assert good is not None
    assert str(good.members[0]) == "void x"
    found = btf.type(bad)
    with pytest.raises(BadImage, match=r"file: \.BTF is damaged at 0x[0-9a-f]+: ") as caught:
        _ = found.members
    assert caught.value.path == "file"
    with pytest.raises(BadImage, match="unknown kind"):
        btf.find("struct behind")


def test_a_record_without_an_end() -> None:
    w = Writer()
    w.add(STRUCT, "long", 4, parts=0xFFFF)
    with pytest.raises(BadImage, match="no end"):
        w.read().find("struct long")


def examine(found: Type) -> None:
    str(found)
    definition(found, offsets=True)
    with contextlib.suppress(SymbolNotFound):
        found.member("nothing")
    for member in found.members:
        assert isinstance(member.size, int)


def exercise(btf: Btf) -> None:
    """Ask everything; only the errors of damage may come of it."""
    for name in ("struct node", "union node", "enum wide", "number_t", "node", "int"):
        with contextlib.suppress(BadImage):
            for found in btf.find_all(name):
                examine(found)
    for question in (btf.function, btf.variable):
        for name in ("print", "counter"):
            with contextlib.suppress(BadImage):
                question(name)
    with contextlib.suppress(BadImage):
        for number in range(len(btf) + 2):
            with contextlib.suppress(BadImage):
                examine(btf.type(number))
    with contextlib.suppress(BadImage):
        list(btf.types())


@settings(max_examples=400)
@given(st.data())
def test_flipped_bytes_raise_nothing_else(data: st.DataObject) -> None:
    damaged = bytearray(everything().bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadImage):
        exercise(read(bytes(damaged)))


@given(st.binary(max_size=400))
def test_any_bytes_behind_a_header(data: bytes) -> None:
    half = len(data) // 8 * 4
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, half, half, len(data) - half)
    exercise(read(header + data))


def test_a_slice_of_a_kernel_with_flipped_bytes(debian_kernel: DebianKernel) -> None:
    whole = Image(debian_kernel.vmlinux).contents(".BTF")
    _, _, _, header, types_at, types_size, strings_at, strings_size = struct.unpack_from(
        "<HBBIIIII", whole.view
    )
    types = whole[header + types_at : header + types_at + types_size][: 1 << 14]
    strings = whole[header + strings_at : header + strings_at + strings_size][: 1 << 16]
    fields = (0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    sound = struct.pack("<HBBIIIII", *fields) + types + strings
    chance = random.Random(20)
    for _ in range(12):
        damaged = bytearray(sound)
        for _ in range(8):
            damaged[chance.randrange(24, 24 + len(types))] ^= 1 << chance.randrange(8)
        btf = read(bytes(damaged))
        with contextlib.suppress(BadImage):
            for number in range(400):
                with contextlib.suppress(BadImage):
                    examine(btf.type(number))
