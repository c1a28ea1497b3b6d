"""DWARF expressions: every operation; a program's variables against gdb; and any bytes."""

from __future__ import annotations

import json
import math
import struct
import subprocess
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf import expressions
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.location_description import (
    ImplicitPointer,
    InMemory,
    InRegister,
    Location,
    OptimizedOut,
    Piece,
    Pieces,
    Unavailable,
    Value,
)
from rsp.symbols.dwarf.loclists import expression_at
from rsp.symbols.dwarf.ranges import pc_ranges
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.units import Unit, Units
from rsp.symbols.elf.image import Image
from rsp.symbols.unwind.rules import RegisterOffset, numbers
from rsp.symbols.unwind.tables import UnwindTables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


MASK = (1 << 64) - 1


@dataclass
class Frame:
    """A frame made up: register n holds 0x1000 + n, memory the low byte of its address.

    It goes with the unit of the expressions that are evaluated in it.
    """

    word_size: int = 8
    slide: int = 0
    unit: Unit | None = None
    registers: dict[int, int] | None = None
    entry_values: dict[bytes | int, int] = field(default_factory=dict)

    def register(self, number: int) -> int | None:
        return 0x1000 + number if self.registers is None else self.registers.get(number)

    def read_memory(self, address: int, size: int) -> bytes | None:
        if address >= 1 << 32:
            return None
        return bytes((address + each) & 0xFF for each in range(size))

    def frame_base(self) -> int | None:
        return 0x7000

    def cfa(self) -> int | None:
        return 0x8000

    def entry_value(self, what: bytes | int) -> int | None:
        return self.entry_values.get(what)


def evaluate(expression: bytes, frame: Frame, *, stack: Iterable[int] = ()) -> Location:
    return expressions.evaluate(expression, frame, unit=frame.unit, stack=stack)


def number(
    expression: bytes, frame: Frame, *, stack: Iterable[int] = ()
) -> int | Unavailable | OptimizedOut:
    return expressions.number(expression, frame, unit=frame.unit, stack=stack)


def b(text: str, **operands: int) -> bytes:
    """Assemble: names of operations without DW_OP_, and numbers as single bytes.

    >>> b("lit1 const1s -2 plus").hex()
    '3109fe22'
    """
    out = bytearray()
    for word in text.split():
        if word.lstrip("-").isdigit() or word.startswith("0x"):
            out.append(int(word, 0) & 0xFF)
        elif hasattr(dw, f"DW_OP_{word}"):
            out.append(getattr(dw, f"DW_OP_{word}"))
        else:
            base = {"lit": 0x30, "reg": 0x50, "breg": 0x70}[word.rstrip("0123456789")]
            out.append(base + int("".join(filter(str.isdigit, word))))
    return bytes(out)


# What is computed, in the order of DWARF 5, section 2.5.1; the examples there are among them.
COMPUTED: list[tuple[str, int]] = [
    ("lit0", 0),
    ("lit31", 31),
    ("const1u 0xff", 255),
    ("const1s 0xff", -1),
    ("const2u 0xfe 0xff", 0xFFFE),
    ("const2s 0xfe 0xff", -2),
    ("const4u 1 0 0 0x80", 0x80000001),
    ("const4s 1 0 0 0x80", -0x7FFFFFFF),
    ("const8u 1 0 0 0 0 0 0 0x80", 0x8000000000000001),
    ("const8s 1 0 0 0 0 0 0 0x80", -0x7FFFFFFFFFFFFFFF),
    ("constu 0x80 1", 128),
    ("consts 0x80 0x7f", -128),
    ("addr 8 7 6 5 4 3 2 1", 0x0102030405060708),
    ("fbreg 0x68", 0x7000 - 24),
    ("breg31 1", 0x1000 + 32),
    ("bregx 0x80 1 2", 0x1000 + 130),
    ("call_frame_cfa", 0x8000),
    ("lit17 lit29 dup minus swap drop", 0),
    ("lit17 lit29 lit3 drop", 29),
    ("lit17 lit29 over", 17),
    ("lit17 lit29 lit9 pick 2", 17),
    ("lit17 lit29 swap", 17),
    ("lit17 lit29 lit9 rot", 29),
    ("lit17 lit29 lit9 rot drop drop", 9),
    ("const1u 0x20 deref", 0x2726252423222120),
    ("const1u 0x20 deref_size 2", 0x2120),
    ("const1s 0xfb abs", 5),
    ("lit12 lit10 and", 8),
    ("const1s 0xf9 lit2 div", -3),
    ("lit7 const1s 0xfe div", -3),
    ("lit3 lit5 minus", -2),
    ("lit7 lit4 mod", 3),
    ("const1s -1 lit16 mod", 15),  # of the generic type it is unsigned
    ("const1s -3 lit5 mul", -15),
    ("lit5 neg", -5),
    ("lit5 not", -6),
    ("lit12 lit3 or", 15),
    ("lit12 lit3 plus", 15),
    ("lit12 plus_uconst 0x80 1", 140),
    ("lit1 const1u 63 shl", 1 << 63),
    ("lit1 const1u 64 shl", 0),
    ("const1s -1 const1u 60 shr", 15),
    ("const1s -16 lit2 shra", -4),
    ("const1s -16 const1u 200 shra", -1),
    ("lit12 lit10 xor", 6),
    ("lit1 lit2 le", 1),
    ("lit1 lit2 ge", 0),
    ("const1s -1 lit2 lt", 1),  # signed
    ("const1s -1 lit2 gt", 0),
    ("lit2 lit2 eq", 1),
    ("lit2 lit2 ne", 0),
    ("lit5 skip 1 0 lit6 lit7 plus", 12),
    ("lit5 lit1 bra 1 0 lit6 lit7 plus", 12),
    ("lit5 lit0 bra 1 0 lit6 lit7 plus", 13),
    ("lit10 lit0 swap lit1 minus dup bra 0xfa 0xff swap drop nop", 0),  # a loop
]


@pytest.mark.parametrize(("text", "result"), COMPUTED, ids=[text for text, _ in COMPUTED])
def test_what_operations_compute(text: str, result: int) -> None:
    assert evaluate(b(text), Frame()) == InMemory(result & MASK)
    assert number(b(text), Frame()) == result & MASK
    value = (result & MASK).to_bytes(8, "little")
    assert evaluate(b(text + " stack_value"), Frame()) == Value(value)


def test_addresses_are_of_the_word_size() -> None:
    assert evaluate(b("lit0 not"), Frame(word_size=4)) == InMemory(0xFFFF_FFFF)
    assert evaluate(b("addr 4 3 2 1"), Frame(word_size=4)) == InMemory(0x01020304)
    assert evaluate(b("lit8 deref stack_value"), Frame(word_size=4)) == Value(b"\x08\x09\x0a\x0b")


def test_the_slide_goes_to_addresses_only() -> None:
    frame = Frame(slide=0x20_0000)
    assert evaluate(b("addr 0 0 0 1 0 0 0 0"), frame) == InMemory(0x0120_0000)
    assert evaluate(b("const4u 0 0 0 1"), frame) == InMemory(0x0100_0000)


LOCATIONS: dict[str, Location] = {
    "": OptimizedOut(),
    "reg5": InRegister(5),
    "regx 0x85 1": InRegister(133),
    "reg5 GNU_uninit": InRegister(5),
    "implicit_value 2 0xab 0xcd": Value(b"\xab\xcd"),
    "reg3 piece 4 reg10 piece 2": Pieces((Piece(InRegister(3), 32), Piece(InRegister(10), 16))),
    "reg0 piece 4 piece 4 fbreg 0x68 piece 1": Pieces(
        (
            Piece(InRegister(0), 32),
            Piece(OptimizedOut(), 32),
            Piece(InMemory(0x7000 - 24), 8),
        )
    ),
    "reg0 bit_piece 3 5 lit1 stack_value bit_piece 29 0": Pieces(
        (Piece(InRegister(0), 3, 5), Piece(Value(bytes([1, 0, 0, 0, 0, 0, 0, 0])), 29))
    ),
    # What cannot be told.
    "entry_value 1 reg5 stack_value": OptimizedOut(),
    "GNU_entry_value 1 reg5": OptimizedOut(),
    "const8u 0 0 0 0 1 0 0 0 deref": Unavailable("memory at 0x100000000 cannot be read"),
    "lit8 GNU_push_tls_address": Unavailable("thread-local storage is not looked up"),
    "lit8 form_tls_address": Unavailable("thread-local storage is not looked up"),
    "push_object_address": Unavailable("the address of the object is not known"),
    "lit1 lit1 xderef": Unavailable("other address spaces are not looked into"),
    "lit1 lit0 div": Unavailable("a division by zero"),
    "lit1 lit0 mod": Unavailable("a division by zero"),
    "addrx 1": Unavailable("its unit is not known"),
    "call2 1 0": Unavailable("its unit is not known"),
}


@pytest.mark.parametrize("text", LOCATIONS)
def test_where_something_is(text: str) -> None:
    assert evaluate(b(text), Frame()) == LOCATIONS[text]


def test_what_is_not_known_is_told() -> None:
    assert evaluate(b("breg7 8"), Frame(registers={})) == Unavailable("register 7 is not known")
    assert number(b("reg6"), Frame(registers={6: 0x55})) == 0x55
    assert number(b("reg6"), Frame(registers={})) == Unavailable("register 6 is not known")
    assert number(b"", Frame()) == OptimizedOut()
    assert isinstance(number(b("reg3 piece 4"), Frame()), Unavailable)


def test_entry_values_are_asked_for() -> None:
    frame = Frame(entry_values={b("reg5"): 7, b("breg7 8 deref"): 9})
    assert evaluate(b("entry_value 1 reg5 lit1 plus stack_value"), frame) == Value(
        bytes([8, 0, 0, 0, 0, 0, 0, 0])
    )
    assert number(b("GNU_entry_value 3 breg7 8 deref"), frame) == 9


def test_the_stack_of_a_rule_begins_with_the_cfa() -> None:
    assert number(b("plus_uconst 8"), Frame(), stack=(0x8000,)) == 0x8008


DAMAGED = [
    *("plus", "lit1 plus", "dup", "lit1 pick 1", "rot", "bra 0 0", "stack_value", "deref"),
    *("reg5 lit1", "reg5 reg6", "reg3 piece 4 reg5", "const4u 1 2", "addr", "fbreg", "regx 0x80"),
    *("skip 1 0", "skip 0xf0 0xff", "entry_value 5 1", "lit1 deref_size 9", "lit1 deref_size 0"),
    *("0", "1", "0xff", "implicit_value 0x80", "const8u 1"),
    "skip 0xfd 0xff",  # for ever
    "lit1 skip 0xfc 0xff",  # until the stack is full
]


@pytest.mark.parametrize("text", DAMAGED)
def test_damage_is_told(text: str) -> None:
    found = evaluate(b(text), Frame())
    assert isinstance(found, Unavailable)
    assert found.reason.startswith("its DWARF expression is damaged: ")


# A unit with base types to compute in, and an entry to call.
TYPES = {"float": (4, 4), "double": (8, 4), "long double": (16, 4), "int": (4, 5), "u16": (2, 7)}
TYPED = (
    """
        .section .debug_abbrev, "", @progbits
        .uleb128 1, 0x11; .byte 1; .uleb128 0x73, 0x17, 0, 0
        .uleb128 2, 0x24; .byte 0; .uleb128 0x0b, 0x0b, 0x3e, 0x0b, 0, 0
        .uleb128 3, 0x34; .byte 0; .uleb128 2, 0x18, 0, 0
        .uleb128 4, 0x34; .byte 0; .uleb128 0, 0
        .byte 0
        .section .debug_addr, "", @progbits
        .long 2f - 1f
1:      .short 5; .byte 8, 0; .quad 0x401000, 0x402000
2:
        .section .debug_info, "", @progbits
begin:  .long 2f - 1f
1:      .short 5; .byte 1, 8; .long 0
        .uleb128 1; .long 8
"""
    + "\n".join(f".uleb128 2; .byte {size}, {kind}" for size, kind in TYPES.values())
    + """
        .uleb128 3, 2; .byte 0x23, 5            # a procedure: plus_uconst 5
        .uleb128 3, 5; .byte 0x99; .long . - 3 - begin      # one that calls itself
        .uleb128 4
        .byte 0
2:
"""
)


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Frame, dict[str, int]]:
    """Return a frame whose unit has types, and their offsets in it."""
    directory = tmp_path_factory.mktemp("typed")
    (directory / "typed.S").write_text(TYPED)
    subprocess.run(["gcc", "-c", "typed.S"], cwd=directory, check=True)
    subprocess.run(["ld", "-e", "0", "-o", "typed", "typed.o"], cwd=directory, check=True)
    units = Units(DwarfSections(Image(directory / "typed")))
    unit = next(iter(units))
    children = [die.offset for die in Die.root_of(unit).children()]
    names = [*TYPES, "procedure", "endless", "nothing"]
    return Frame(unit=unit), dict(zip(names, children, strict=True))


def value_of(location: Location, layout: str) -> Any:
    assert isinstance(location, Value), location
    return struct.unpack(layout, location.data)[0]


@pytest.mark.live("gcc")
def test_types_are_computed_in(typed: tuple[Frame, dict[str, int]]) -> None:
    frame, at = typed

    def constant(name: str, data: bytes) -> bytes:
        return bytes((dw.DW_OP_const_type, at[name], len(data), *data))

    def double(value: float) -> bytes:
        return constant("double", struct.pack("<d", value))

    def convert(name: str) -> bytes:
        return bytes((dw.DW_OP_convert, at.get(name, 0)))

    def run(expression: bytes, layout: str) -> Any:
        return value_of(evaluate(expression + b("stack_value"), frame), layout)

    assert run(double(1.5) + double(0.25) + b("minus"), "<d") == 1.25
    assert run(double(1.5) + double(0.25) + b("div"), "<d") == 6.0
    assert "remainder" in str(evaluate(double(7.5) + double(2.0) + b("mod"), frame))
    assert run(double(1.5) + b("neg abs"), "<d") == 1.5
    assert run(double(1.5) + double(2.5) + b("lt"), "<Q") == 1
    assert run(double(-1.5) + convert("int"), "<i") == -1
    assert run(double(1.5) + convert("float"), "<f") == 1.5
    assert run(b("const1s -3") + convert("double"), "<d") == -3.0
    assert run(double(3.0) + convert("generic"), "<Q") == 3
    assert run(b("const4u 0 0 0xc0 0x3f") + convert("int") + _reinterpret(at["float"]), "<f") == 1.5
    ints = constant("int", b"\xff\xff\xff\xff") + constant("int", b"\2\0\0\0")
    assert run(ints + b("div"), "<i") == 0
    assert run(ints + b("mod"), "<i") == -1
    assert run(ints + b("lt"), "<Q") == 1
    assert run(ints + b("plus"), "<i") == 1
    assert run(constant("u16", b"\xff\xff") + constant("u16", b"\2\0") + b("plus"), "<H") == 1
    assert run(constant("int", b"\xfc\xff\xff\xff") + b("lit1 shr"), "<I") == 0x7FFFFFFE
    assert run(constant("int", b"\xfc\xff\xff\xff") + b("lit1 shra"), "<i") == -2
    assert run(constant("u16", b"\xfe\xff") + b("not"), "<H") == 1
    assert run(bytes((dw.DW_OP_regval_type, 3, at["u16"])), "<H") == 0x1003
    assert run(b("const1u 0x20") + bytes((dw.DW_OP_deref_type, 2, at["u16"])), "<H") == 0x2120
    assert math.isinf(run(double(1e308) + double(1e308) + b("mul"), "<d"))

    for expression in (double(1e30) + b("lit1 plus"), double(1.0) + ints + b("drop plus")):
        assert "two types" in str(evaluate(expression, frame))
    for expression in (
        constant("long double", bytes(16)) + b("neg"),
        double(math.inf) + convert("int"),
        double(math.nan) + convert("int"),
        double(1e300) + convert("float"),
        double(0.0) + double(0.0) + b("div"),
    ):
        found = evaluate(expression + b("stack_value"), frame)
        assert isinstance(found, Unavailable)
        assert "damaged" not in found.reason
    assert "damaged" in str(evaluate(bytes((dw.DW_OP_convert, 3)), frame))


def _reinterpret(kind: int) -> bytes:
    return bytes((dw.DW_OP_reinterpret, kind))


@pytest.mark.live("gcc")
def test_other_entries_are_called_and_pointed_to(typed: tuple[Frame, dict[str, int]]) -> None:
    frame, at = typed
    for call in (b"\x98%c\0", b"\x99%c\0\0\0", b"\x9a%c\0\0\0"):
        assert evaluate(b("lit3") + call % at["procedure"], frame) == InMemory(8)
        assert evaluate(b("lit3") + call % at["nothing"], frame) == InMemory(3)
        assert "more than 8 calls" in str(
            evaluate(b"\x99" + bytes([at["endless"], 0, 0, 0]), frame)
        )
        assert "damaged" in str(evaluate(call % 3, frame))
    assert evaluate(b("addrx 1"), frame) == InMemory(0x402000)
    assert evaluate(b("constx 0 GNU_const_index 1 plus"), frame) == InMemory(0x803000)
    pointer = evaluate(b("implicit_pointer 0x40 0 0 0 0x7c"), frame)
    assert pointer == ImplicitPointer(die=0x40, offset=-4)
    assert isinstance(evaluate(b("GNU_variable_value 0x40 0 0 0"), frame), Unavailable)
    frame.entry_values[at["procedure"]] = 12
    assert number(b("GNU_parameter_ref") + bytes([at["procedure"], 0, 0, 0]), frame) == 12


@given(expression=st.binary(max_size=60), word_size=st.sampled_from([4, 8]))
def test_any_bytes_are_located(expression: bytes, word_size: int) -> None:
    frame = Frame(word_size=word_size)
    found = evaluate(expression, frame, stack=(1, 2))
    if isinstance(found, InMemory):
        assert 0 <= found.address < 1 << 8 * word_size
    assert isinstance(number(expression, frame), int | Unavailable | OptimizedOut)


@given(
    operations=st.lists(
        st.sampled_from([text for text, _ in COMPUTED] + list(LOCATIONS)), max_size=9
    )
)
def test_any_operations_are_located(operations: list[str]) -> None:
    evaluate(b(" ".join(operations)), Frame())


# A program's variables against gdb.

SOURCE = """
#include <stdlib.h>
struct point { long x, y; };
struct wide { long part[5]; };
volatile int sink;
static volatile char letters[] = "abc";
__attribute__((noinline, noclone)) void marker(void) { sink++; }
__attribute__((noinline, noclone))
int deepest(int n, unsigned char byte, struct point by_value, double real, struct wide wide) {
  int twice = n * 2, constant = 42;
  struct point local = { by_value.y, n };
  long array[4] = { n, byte, twice, 7 };
  double scaled = real * 2.5;
  sink = array[n & 3];
  marker();
  sink = twice + constant + (int)local.x + (int)scaled + (int)wide.part[2] + (int)array[1];
  return sink + byte + (int)local.y;
}
__attribute__((noinline, noclone))
long middle(const char *text, long count) {
  long sum = count;
  static int calls;
  calls++;
  for (int i = 0; i < 2; i++) {
    int letter = text[i];
    sum += deepest(letter, (unsigned char)(i + 1), (struct point){ sum, -i }, sum * 0.5,
                   (struct wide){ { 1, 2, sum, 4, 5 } });
  }
  marker();
  return sum * count + calls;
}
int main(int argc, char **argv) {
  struct point origin = { argc, 5 };
  long result = middle((const char *)letters, origin.y);
  marker();
  return (int)(result + origin.x) & 1 ? 0 : argv == NULL;
}
"""
# gdb's side: at each stop, for each frame, registers, variables as scalars, and the memory.
SCRIPT = """
import gdb, json, struct

def scalars(value, offset):
    kind = value.type.strip_typedefs()
    if kind.code == gdb.TYPE_CODE_STRUCT:
        for field in kind.fields():
            yield from scalars(value[field], offset + field.bitpos // 8)
    elif kind.code == gdb.TYPE_CODE_ARRAY:
        for index in range(kind.range()[1] + 1):
            yield from scalars(value[index], offset + index * kind.target().sizeof)
    elif value.is_optimized_out:
        yield offset, kind.sizeof, None
    elif kind.code == gdb.TYPE_CODE_FLT:
        yield offset, 8, int.from_bytes(struct.pack("<d", float(value)), "little")
    else:
        yield offset, kind.sizeof, int(value) & (1 << 8 * kind.sizeof) - 1

def variables(frame):
    block, seen = frame.block(), set()
    while True:
        for symbol in block:
            kinds = symbol.is_variable, symbol.is_argument, symbol.is_constant
            if any(kinds) and symbol.name not in seen:
                seen.add(symbol.name)
                yield symbol.name, list(scalars(frame.read_var(symbol, block), 0))
        if block.function:
            return
        block = block.superblock

def describe(frame):
    registers = {n: int(frame.read_register(n).cast(gdb.lookup_type("long"))) for n in NAMES}
    halves = {n: frame.read_register(f"xmm{n}")["v2_int64"] for n in range(16)}
    low = (1 << 64) - 1
    xmm = {n: int(half[0]) & low | (int(half[1]) & low) << 64 for n, half in halves.items()}
    return dict(pc=frame.pc(), name=frame.name(), registers=registers, xmm=xmm,
                variables=list(variables(frame)))

gdb.execute("set print entry-values no")
gdb.execute("break marker")
gdb.execute("run")
stops = []
while gdb.selected_inferior().pid:
    frame, frames = gdb.newest_frame().older(), []
    while frame is not None and frame.name() in ("deepest", "middle", "main"):
        frames.append(describe(frame))
        frame = frame.older()
    low = gdb.newest_frame().read_register("rsp")
    memory = {}
    for begin, size in [(int(low) & (1 << 64) - 1, 1024), *REGIONS]:
        memory[begin] = gdb.selected_inferior().read_memory(begin, size).tobytes().hex()
    stops.append(dict(frames=frames, memory=memory))
    gdb.execute("continue")
with open("stops.json", "w") as stream:
    json.dump(stops, stream)
"""


class StoppedFrame(Frame):
    """A frame as gdb had it; the CFA by our own rules."""

    def __init__(self, seen: dict[str, Any], memory: dict[str, str], tables: UnwindTables) -> None:
        number_of = numbers("x86-64")
        values = {number_of[name]: each & MASK for name, each in seen["registers"].items()}
        # Their DWARF numbers count from 17 (System V ABI, AMD64 supplement, figure 3.36).
        values |= {17 + int(index): each for index, each in seen["xmm"].items()}
        super().__init__(registers=values)
        self.pc: int = seen["pc"]
        self.memory = {int(begin): bytes.fromhex(data) for begin, data in memory.items()}
        # All frames are those of callers here: what counts is the call in front of their pc.
        rules = tables.rules_at(self.pc - 1)
        assert rules is not None
        assert isinstance(rules.cfa, RegisterOffset)
        self._cfa: int = values[rules.cfa.register] + rules.cfa.offset
        self.base: int | None = None

    def read_memory(self, address: int, size: int) -> bytes | None:
        for begin, data in self.memory.items():
            if begin <= address and address + size <= begin + len(data):
                return data[address - begin :][:size]
        return None

    def cfa(self) -> int:
        return self._cfa

    def frame_base(self) -> int | None:
        return self.base

    def bytes_of(self, location: Location, size: int) -> list[int | None]:
        """Return the variable's bytes, None for each that is optimized out."""
        match location:
            case InMemory(address):
                data = self.read_memory(address, size)
                assert data is not None, hex(address)
                return list(data)
            case InRegister(register):
                value = self.register(register)
                assert value is not None
                return list(value.to_bytes(max(size, 16), "little")[:size])
            case Value(data):
                return list(data[:size].ljust(size, b"\0"))
            case Pieces(pieces):
                out: list[int | None] = []
                for piece in pieces:
                    assert piece.bits % 8 == piece.offset == 0
                    out += self.bytes_of(piece.location, piece.bits // 8)
                return out
        assert location == OptimizedOut()
        return [None] * size


@cache
def stops_by_gdb(directory: Path, *options: str) -> tuple[Path, list[dict[str, Any]]]:
    (directory / "variables.c").write_text(SOURCE)
    flags = ("-no-pie", "-fno-pie", "-fno-inline", *options)
    subprocess.run(["gcc", *flags, "-o", "variables", "variables.c"], cwd=directory, check=True)
    program = directory / "variables"
    image = Image(program)
    regions = [
        (section.address, section.size)
        for name in (".data", ".bss")
        if (section := image.named(name))
    ]
    names = [*(f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp", "ip"))]
    names += [f"r{index}" for index in range(8, 16)]
    script = f"NAMES = {names!r}\nREGIONS = {regions!r}\n{SCRIPT}"
    (directory / "stops.py").write_text(script)
    command = ["gdb", "-q", "-nx", "-batch", "-x", "stops.py", "variables"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    stops: list[dict[str, Any]] = json.loads((directory / "stops.json").read_text())
    return program, stops


def variables_at(die: Die, pc: int) -> Iterator[Die]:
    """Yield the variables of a block and the blocks in it that a pc is in."""
    for child in die.children():
        if child.tag in (dw.DW_TAG_formal_parameter, dw.DW_TAG_variable):
            yield child
        elif child.tag == dw.DW_TAG_lexical_block and within(child, pc):
            yield from variables_at(child, pc)


def within(die: Die, pc: int) -> bool:
    return any(begin <= pc < end for begin, end in pc_ranges(die))


@pytest.mark.live("gcc", "gdb")
@pytest.mark.parametrize("level", ["-O0", "-Og", "-O2"])
@pytest.mark.parametrize("version", ["-gdwarf-4", "-gdwarf-5"])
def test_variables_are_what_gdb_shows(level: str, version: str, tmp_path: Path) -> None:
    program, stops = stops_by_gdb(tmp_path, level, version)
    image = Image(program)
    units, tables = Units(DwarfSections(image)), UnwindTables(image)
    functions = {
        die.name: die for unit in units for die in Die.root_of(unit).children() if pc_ranges(die)
    }
    assert len(stops) == 4
    shown = hidden = 0
    for stop in stops:
        for seen in stop["frames"]:
            frame = StoppedFrame(seen, stop["memory"], tables)
            function = functions[seen["name"]]
            frame.unit = function.unit
            base = expression_at(function, dw.DW_AT_frame_base, frame.pc - 1)
            assert base is not None
            found = number(base, frame)
            assert isinstance(found, int)
            frame.base = found
            ours = {die.name: die for die in variables_at(function, frame.pc - 1)}
            assert ours.keys() == {name for name, _ in seen["variables"]}
            for name, scalars in seen["variables"]:
                expression = expression_at(ours[name], dw.DW_AT_location, frame.pc - 1)
                constant = ours[name].number(dw.DW_AT_const_value)
                size = max(offset + width for offset, width, _ in scalars)
                if constant is not None:
                    data: list[int | None] = list(constant.to_bytes(size, "little"))
                else:
                    data = frame.bytes_of(evaluate(expression or b"", frame), size)
                for offset, width, value in scalars:
                    part = data[offset : offset + width]
                    if value is None:
                        assert None in part, (seen["name"], name)
                        hidden += 1
                    else:
                        assert part == list(value.to_bytes(width, "little")), (seen["name"], name)
                        shown += 1
    assert shown > 40
    assert bool(hidden) == (level != "-O0")
