"""DWARF expressions: where a variable is, or what a rule computes (DWARF 5, sections 2.5 and 2.6).

Contents: the stack machine and its operations. Not here: registers and memory (the `Context` has
them), the choice of an expression for a pc (`loclists`), and what a value means.

One table says which operands an operation has and what it does. pyelftools' parser would only list
operations: measured, that takes 0.9 to 1.9 µs for what is decoded and evaluated here in 1.4 to
2.3 µs, 43 µs against 2 for an entry value, and 16 ms to be imported; a backtrace of all threads
evaluates thousands.
"""

from __future__ import annotations

import operator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from rsp.errors import BadImage
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.leb import sleb, uleb
from rsp.symbols.dwarf.location_description import (
    ImplicitPointer,
    InMemory,
    InRegister,
    Location,
    OptimizedOut,
    Piece,
    Pieces,
    Simple,
    Unavailable,
    Value,
)
from rsp.symbols.dwarf.typed_values import BaseType, Typed, Unknown, decoded, encoded, quotient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rsp.symbols.dwarf.units import Unit

_STEPS = 10_000
_DEPTH = 256
_CALLS = 8
"""What an expression may need before it is taken for damaged; compilers use dozens, 4, and 1."""
_LARGEST = 64
"""The largest value in bytes that is read at once; a vector register has as many."""

_LIT0, _REG0, _BREG0 = 0x30, 0x50, 0x70  # 32 of each
_GNU_REINTERPRET = 0xF9


class Context(Protocol):
    """The frame that an expression is evaluated in.

    What is not known is None; an error that a method raises goes through to the caller.
    """

    @property
    def word_size(self) -> int:
        """The size of an address."""
        ...

    @property
    def slide(self) -> int:
        """What has to be added to the addresses in the expression."""
        ...

    def register(self, number: int) -> int | None:
        """Return the value in this frame of a register, by its DWARF number."""
        ...

    def read_memory(self, address: int, size: int) -> bytes | None:
        """Return memory."""
        ...

    def frame_base(self) -> int | None:
        """Return what DW_AT_frame_base of the function computes; `number` does it."""
        ...

    def cfa(self) -> int | None:
        """Return the canonical frame address."""
        ...

    def entry_value(self, what: bytes | int) -> int | None:
        """Return what a parameter was when the function was entered.

        The caller's DW_TAG_call_site_parameter entries have it: the one with that DW_AT_location
        (an expression, mostly of a single register), or for that parameter (DW_AT_call_parameter,
        an offset in .debug_info).
        """
        ...


def evaluate(
    expression: bytes, context: Context, *, unit: Unit | None = None, stack: Iterable[int] = ()
) -> Location:
    r"""Return where an expression says that a variable is.

    Args:
        expression: what DW_AT_location or a location list has for the pc.
        context: the frame.
        unit: that the expression is a part of, which has types and indexed addresses.
        stack: what is on the stack at the beginning, the top last: the CFA for a register's rule.

    >>> class Frame:
    ...     word_size, slide = 8, 0
    ...     def register(self, number): return 0x1000 + number
    ...     def read_memory(self, address, size): return bytes(size)
    ...     def frame_base(self): return 0x7FF0
    ...     def cfa(self): return 0x8000
    ...     def entry_value(self, what): return None
    >>> evaluate(b"\x91\x68", Frame())                      # DW_OP_fbreg -24
    InMemory(address=32728)
    >>> evaluate(b"\x55", Frame())                          # DW_OP_reg5
    InRegister(register=5)
    >>> evaluate(b"\x75\x01\x9f", Frame())                  # DW_OP_breg5 1; DW_OP_stack_value
    Value(data=b'\x06\x10\x00\x00\x00\x00\x00\x00')
    >>> evaluate(b"\xa3\x01\x55\x9f", Frame())              # DW_OP_entry_value(DW_OP_reg5); …
    OptimizedOut()
    """
    machine = _Machine(context, unit, stack)
    try:
        machine.run(expression)
        return machine.location()
    except Unknown as unknown:
        return Unavailable(unknown.reason) if unknown.reason else OptimizedOut()
    except (BadImage, IndexError, ValueError) as error:
        what = "it ends too early" if isinstance(error, IndexError) else str(error)
        return Unavailable(f"its DWARF expression is damaged: {what}")


def number(
    expression: bytes, context: Context, *, unit: Unit | None = None, stack: Iterable[int] = ()
) -> int | Unavailable | OptimizedOut:
    r"""Return the number that an expression computes: a CFA, a frame base, a value at a call site.

    Args:
        expression: of the CFI, DW_AT_frame_base, DW_AT_call_value, …
        context: the frame.
        unit: that the expression is a part of, which has types and indexed addresses.
        stack: what is on the stack at the beginning, the top last: the CFA for a register's rule.
    """
    found = evaluate(expression, context, unit=unit, stack=stack)
    match found:
        case InMemory(address):
            return address
        case Value(data):
            return int.from_bytes(data, "little")
        case InRegister(register):
            value = context.register(register)
            return Unavailable(f"register {register} is not known") if value is None else value
        case Unavailable() | OptimizedOut():
            return found
    return Unavailable("it is no number")


class _Machine:
    """The stack, and what has been found; each method is what an operation does."""

    def __init__(self, context: Context, unit: Unit | None, stack: Iterable[int]) -> None:
        self._context = context
        self._unit = unit
        self._word_size = context.word_size
        self._mask = (1 << 8 * context.word_size) - 1
        self._signed = BaseType(dw.DW_ATE_signed, context.word_size)
        self._stack: list[int | Typed] = [value & self._mask for value in stack]
        self._found: Simple | None = None
        self._pieces: list[Piece] = []
        self._steps = 0
        self._calls = 0
        self._data = b""
        self._position = 0

    def run(self, data: bytes) -> None:
        before = self._data, self._position
        self._data, self._position = data, 0
        while self._position < len(data):
            self._steps += 1
            if self._steps > _STEPS:
                raise ValueError(f"more than {_STEPS} operations")
            opcode = data[self._position]
            self._position += 1
            operation = _OPERATIONS.get(opcode)
            if operation is None:
                raise ValueError(f"an unknown operation, {opcode:#x}")
            forms, method = operation
            if self._found is not None and opcode not in _AFTER_LOCATION:
                raise ValueError("an operation behind a location")
            method(self, *[self._operand(form) for form in forms])
            if len(self._stack) > _DEPTH:
                raise ValueError(f"more than {_DEPTH} values on the stack")
        self._data, self._position = before

    def location(self) -> Location:
        if not self._pieces:
            return self._simple()
        if self._found is not None:
            raise ValueError("a location behind the pieces")
        return Pieces(tuple(self._pieces))

    def _simple(self) -> Simple:
        """Return what has been found since the last piece."""
        if self._found is not None:
            found, self._found = self._found, None
            return found
        return InMemory(self._number()) if self._stack else OptimizedOut()

    # Operands.

    def _operand(self, form: str) -> int | bytes:
        match form:
            case "u":
                value, self._position = uleb(self._data, self._position)
                return value
            case "s":
                value, self._position = sleb(self._data, self._position)
                return value
            case "1" | "2" | "4" | "8":
                return int.from_bytes(self._take(int(form)), "little")
            case "a":
                return int.from_bytes(self._take(self._word_size), "little")
            case "o":
                unit = self._the_unit()
                # As large as an address in DWARF 2, of which gcc made such operations too.
                size = unit.offset_size if unit.version > 2 else unit.word_size
                return int.from_bytes(self._take(size), "little")
            case "k":
                size, self._position = uleb(self._data, self._position)
                return self._take(size)
            case "K":
                return self._take(self._take(1)[0])
        return int.from_bytes(self._take(_SIGNED_SIZES[form]), "little", signed=True)

    def _take(self, size: int) -> bytes:
        begin, self._position = self._position, self._position + size
        if self._position > len(self._data):
            raise IndexError
        return self._data[begin : self._position]

    # What the operations have in common.

    def _push(self, value: int) -> None:
        self._stack.append(value & self._mask)

    def _pop(self) -> int | Typed:
        if not self._stack:
            raise ValueError("an operation on an empty stack")
        return self._stack.pop()

    def _number(self) -> int:
        """Take a number off the stack; of a typed one, its bits."""
        value = self._pop()
        return value if isinstance(value, int) else value.bits & self._mask

    def _split(self, value: int | Typed) -> tuple[int, BaseType]:
        # The generic type is of no sign; what compares or divides takes it as signed.
        return (value, self._signed) if isinstance(value, int) else value

    def _push_typed(self, bits: int, kind: BaseType, like: int | Typed) -> None:
        self._stack.append(bits if isinstance(like, int) else Typed(bits, kind))

    def _register(self, register: int) -> int:
        value = self._context.register(register)
        if value is None:
            raise Unknown(f"register {register} is not known")
        return value

    def _read(self, address: int, size: int) -> int:
        if not 0 < size <= _LARGEST:
            raise ValueError(f"a value of {size} bytes")
        data = self._context.read_memory(address, size)
        if data is None or len(data) < size:
            raise Unknown(f"memory at {address:#x} cannot be read")
        return int.from_bytes(data[:size], "little")

    def _the_unit(self) -> Unit:
        if self._unit is None:
            raise Unknown("its unit is not known")
        return self._unit

    def _die(self, offset: int) -> Die:
        unit = self._the_unit()
        return Die.at(unit.units, offset)

    def _type(self, offset: int) -> BaseType | None:
        if offset == 0:
            return None
        unit = self._the_unit()
        die = Die.within(unit, unit.offset + offset)
        encoding, size = die.number(dw.DW_AT_encoding), die.number(dw.DW_AT_byte_size)
        if encoding is None or size is None or not 0 < size <= _LARGEST:
            raise ValueError(f"no base type at {die.offset:#x}")
        return BaseType(encoding, size)

    # Literals and registers.

    def address(self, address: int) -> None:
        self._push(address + self._context.slide)

    def indexed_address(self, index: int) -> None:
        self.address(self._the_unit().address(index))

    def indexed_constant(self, index: int) -> None:
        self._push(self._the_unit().address(index))

    def constant(self, value: int) -> None:
        self._push(value)

    def typed_constant(self, kind: int, data: bytes) -> None:
        self._push_as(int.from_bytes(data, "little"), self._type(kind))

    def _push_as(self, bits: int, kind: BaseType | None) -> None:
        if kind is None:
            self._push(bits)
        else:
            self._stack.append(Typed(bits & (1 << 8 * kind.size) - 1, kind))

    def frame_base(self, offset: int) -> None:
        base = self._context.frame_base()
        if base is None:
            raise Unknown("the frame base is not known")
        self._push(base + offset)

    def register_offset(self, register: int, offset: int) -> None:
        self._push(self._register(register) + offset)

    def offset_register(self, offset: int, register: int) -> None:
        self.register_offset(register, offset)

    def typed_register(self, register: int, kind: int) -> None:
        self._push_as(self._register(register), self._type(kind))

    # The stack.

    def drop(self) -> None:
        self._pop()

    def pick(self, index: int) -> None:
        if index >= len(self._stack):
            raise ValueError("an operation on an empty stack")
        self._stack.append(self._stack[-1 - index])

    def swap(self) -> None:
        top, second = self._pop(), self._pop()
        self._stack += [top, second]

    def rotate(self) -> None:
        top, second, third = self._pop(), self._pop(), self._pop()
        self._stack += [top, third, second]

    def dereference(self) -> None:
        self._push(self._read(self._number(), self._word_size))

    def dereference_size(self, size: int) -> None:
        if size > self._word_size:
            raise ValueError(f"a number of {size} bytes")
        self._push(self._read(self._number(), size))

    def dereference_typed(self, size: int, kind: int) -> None:
        self._push_as(self._read(self._number(), size), self._type(kind))

    def cfa(self) -> None:
        value = self._context.cfa()
        if value is None:
            raise Unknown("the CFA is not known")
        self._push(value)

    def entry_value(self, expression: bytes) -> None:
        self._push_entry_value(expression)

    def parameter(self, offset: int) -> None:
        self._push_entry_value(self._the_unit().offset + offset)

    def _push_entry_value(self, what: bytes | int) -> None:
        value = self._context.entry_value(what)
        if value is None:
            raise Unknown
        self._push(value)

    # Arithmetic and logic. Values of a type go with others of the same one only.

    def unary(self, compute: Callable[[Any], Any]) -> None:
        value = self._pop()
        bits, kind = self._split(value)
        self._push_typed(encoded(compute(decoded(bits, kind)), kind), kind, value)

    def invert(self) -> None:
        value = self._pop()
        bits, kind = self._split(value)
        self._push_typed(bits ^ (1 << 8 * kind.size) - 1, kind, value)

    def add_constant(self, addend: int) -> None:
        self.unary(lambda value: value + addend)

    def _two(self) -> tuple[int, int, BaseType, int | Typed]:
        right, left = self._pop(), self._pop()
        right_bits, right_kind = self._split(right)
        left_bits, left_kind = self._split(left)
        if left_kind != right_kind or isinstance(left, int) != isinstance(right, int):
            raise ValueError("an operation on two types")
        return left_bits, right_bits, left_kind, left

    def binary(self, compute: Callable[[Any, Any], Any]) -> None:
        left, right, kind, like = self._two()
        result = compute(decoded(left, kind), decoded(right, kind))
        self._push_typed(encoded(result, kind), kind, like)

    def bitwise(self, compute: Callable[[int, int], int]) -> None:
        left, right, kind, like = self._two()
        self._push_typed(compute(left, right), kind, like)

    def compare(self, compute: Callable[[Any, Any], bool]) -> None:
        left, right, kind, _ = self._two()
        self._push(int(compute(decoded(left, kind), decoded(right, kind))))

    def modulo(self) -> None:
        left, right, kind, like = self._two()
        if kind.is_float:
            raise ValueError("a remainder of floating-point numbers")
        if not isinstance(like, int):  # the generic type, signed for a division, is unsigned here
            left, right = int(decoded(left, kind)), int(decoded(right, kind))
        remainder = left - right * quotient(left, right)
        self._push_typed(encoded(remainder, kind), kind, like)

    def shift(self, compute: Callable[[int, int], int], *, signed: bool = False) -> None:
        count, value = self._number(), self._pop()  # the count may be of another type
        bits, kind = self._split(value)
        if signed:
            bits = int(decoded(bits, kind._replace(encoding=dw.DW_ATE_signed)))
        result = compute(bits, min(count, 8 * kind.size))
        self._push_typed(result & (1 << 8 * kind.size) - 1, kind, value)

    def convert(self, kind: int) -> None:
        bits, before = self._split(self._pop())
        to = self._type(kind)
        value = decoded(bits, before)
        self._push_as(encoded(value, to or self._signed), to)

    def reinterpret(self, kind: int) -> None:
        bits, before = self._split(self._pop())
        to = self._type(kind)
        if (to or self._signed).size != before.size:
            raise ValueError("a value taken for one of another size")
        self._push_as(bits, to)

    # Control flow.

    def skip(self, distance: int) -> None:
        self._position += distance
        if not 0 <= self._position <= len(self._data):
            raise ValueError("a branch out of the expression")

    def branch(self, distance: int) -> None:
        if self._number():
            self.skip(distance)

    def call(self, offset: int) -> None:
        self.call_reference(self._the_unit().offset + offset)

    def call_reference(self, offset: int) -> None:
        expression = self._die(offset).get(dw.DW_AT_location)
        if isinstance(expression, bytes):  # of an entry without one, nothing is executed
            self._calls += 1
            if self._calls > _CALLS:
                raise ValueError(f"more than {_CALLS} calls")
            self.run(expression)

    def nothing(self) -> None:
        pass

    # Locations.

    def in_register(self, register: int) -> None:
        self._found = InRegister(register)

    def implicit_value(self, data: bytes) -> None:
        self._found = Value(data)

    def stack_value(self) -> None:
        bits, kind = self._split(self._pop())
        self._found = Value(bits.to_bytes(kind.size, "little"))

    def implicit_pointer(self, die: int, offset: int) -> None:
        self._found = ImplicitPointer(die, offset)

    def piece(self, size: int) -> None:
        self.bit_piece(8 * size, 0)

    def bit_piece(self, bits: int, offset: int) -> None:
        self._pieces.append(Piece(self._simple(), bits, offset))

    def unknown(self, *_: int, reason: str) -> None:
        raise Unknown(reason)


_OTHER_SPACE = partial(_Machine.unknown, reason="other address spaces are not looked into")
_THREAD_LOCAL = partial(_Machine.unknown, reason="thread-local storage is not looked up")
_OBJECT = partial(_Machine.unknown, reason="the address of the object is not known")
_VARIABLE = partial(_Machine.unknown, reason="the value of another variable is needed")
_SIGNED_SIZES = {"b": 1, "h": 2, "i": 4, "q": 8}

# The operations (DWARF 5, table 7.9, and GNU's) and their operands: 1, 2, 4, 8 unsigned bytes; as
# many signed ones (b, h, i, q); an (a)ddress; an (o)ffset in .debug_info; an (u)nsigned or (s)igned
# LEB128; a bloc(k) with a LEB128 or a one-byte (K) length.
_OPERATIONS: dict[int, tuple[str, Callable[..., None]]] = {
    dw.DW_OP_addr: ("a", _Machine.address),
    dw.DW_OP_deref: ("", _Machine.dereference),
    dw.DW_OP_const1u: ("1", _Machine.constant),
    dw.DW_OP_const1s: ("b", _Machine.constant),
    dw.DW_OP_const2u: ("2", _Machine.constant),
    dw.DW_OP_const2s: ("h", _Machine.constant),
    dw.DW_OP_const4u: ("4", _Machine.constant),
    dw.DW_OP_const4s: ("i", _Machine.constant),
    dw.DW_OP_const8u: ("8", _Machine.constant),
    dw.DW_OP_const8s: ("q", _Machine.constant),
    dw.DW_OP_constu: ("u", _Machine.constant),
    dw.DW_OP_consts: ("s", _Machine.constant),
    dw.DW_OP_dup: ("", partial(_Machine.pick, index=0)),
    dw.DW_OP_drop: ("", _Machine.drop),
    dw.DW_OP_over: ("", partial(_Machine.pick, index=1)),
    dw.DW_OP_pick: ("1", _Machine.pick),
    dw.DW_OP_swap: ("", _Machine.swap),
    dw.DW_OP_rot: ("", _Machine.rotate),
    dw.DW_OP_xderef: ("", _OTHER_SPACE),
    dw.DW_OP_mod: ("", _Machine.modulo),
    dw.DW_OP_plus_uconst: ("u", _Machine.add_constant),
    dw.DW_OP_bra: ("h", _Machine.branch),
    dw.DW_OP_skip: ("h", _Machine.skip),
    dw.DW_OP_regx: ("u", _Machine.in_register),
    dw.DW_OP_fbreg: ("s", _Machine.frame_base),
    dw.DW_OP_bregx: ("us", _Machine.register_offset),
    dw.DW_OP_piece: ("u", _Machine.piece),
    dw.DW_OP_deref_size: ("1", _Machine.dereference_size),
    dw.DW_OP_xderef_size: ("1", _OTHER_SPACE),
    dw.DW_OP_nop: ("", _Machine.nothing),
    dw.DW_OP_not: ("", _Machine.invert),
    dw.DW_OP_push_object_address: ("", _OBJECT),
    dw.DW_OP_call2: ("2", _Machine.call),
    dw.DW_OP_call4: ("4", _Machine.call),
    dw.DW_OP_call_ref: ("o", _Machine.call_reference),
    dw.DW_OP_form_tls_address: ("", _THREAD_LOCAL),
    dw.DW_OP_call_frame_cfa: ("", _Machine.cfa),
    dw.DW_OP_bit_piece: ("uu", _Machine.bit_piece),
    dw.DW_OP_implicit_value: ("k", _Machine.implicit_value),
    dw.DW_OP_stack_value: ("", _Machine.stack_value),
    dw.DW_OP_implicit_pointer: ("os", _Machine.implicit_pointer),
    dw.DW_OP_addrx: ("u", _Machine.indexed_address),
    dw.DW_OP_constx: ("u", _Machine.indexed_constant),
    dw.DW_OP_entry_value: ("k", _Machine.entry_value),
    dw.DW_OP_const_type: ("uK", _Machine.typed_constant),
    dw.DW_OP_regval_type: ("uu", _Machine.typed_register),
    dw.DW_OP_deref_type: ("1u", _Machine.dereference_typed),
    dw.DW_OP_xderef_type: ("1u", _OTHER_SPACE),
    dw.DW_OP_convert: ("u", _Machine.convert),
    dw.DW_OP_reinterpret: ("u", _Machine.reinterpret),
    dw.DW_OP_GNU_uninit: ("", _Machine.nothing),
    dw.DW_OP_GNU_parameter_ref: ("4", _Machine.parameter),
    dw.DW_OP_GNU_variable_value: ("o", _VARIABLE),
}

# Those that differ in what they compute, or hold a number in their code.
_COMPUTATIONS: tuple[tuple[Callable[..., None], dict[int, Callable[..., Any]]], ...] = (
    (_Machine.unary, {dw.DW_OP_abs: abs, dw.DW_OP_neg: operator.neg}),
    (
        _Machine.binary,
        {
            dw.DW_OP_plus: operator.add,
            dw.DW_OP_minus: operator.sub,
            dw.DW_OP_mul: operator.mul,
            dw.DW_OP_div: quotient,
        },
    ),
    (
        _Machine.bitwise,
        {dw.DW_OP_and: operator.and_, dw.DW_OP_or: operator.or_, dw.DW_OP_xor: operator.xor},
    ),
    (_Machine.shift, {dw.DW_OP_shl: operator.lshift, dw.DW_OP_shr: operator.rshift}),
    (partial(_Machine.shift, signed=True), {dw.DW_OP_shra: operator.rshift}),
    (
        _Machine.compare,
        {
            dw.DW_OP_eq: operator.eq,
            dw.DW_OP_ge: operator.ge,
            dw.DW_OP_gt: operator.gt,
            dw.DW_OP_le: operator.le,
            dw.DW_OP_lt: operator.lt,
            dw.DW_OP_ne: operator.ne,
        },
    ),
)
for _method, _computations in _COMPUTATIONS:
    for _opcode, _compute in _computations.items():
        _OPERATIONS[_opcode] = "", partial(_method, compute=_compute)
for _gnu, _standard in {
    dw.DW_OP_GNU_push_tls_address: dw.DW_OP_form_tls_address,
    dw.DW_OP_GNU_implicit_pointer: dw.DW_OP_implicit_pointer,
    dw.DW_OP_GNU_entry_value: dw.DW_OP_entry_value,
    dw.DW_OP_GNU_const_type: dw.DW_OP_const_type,
    dw.DW_OP_GNU_regval_type: dw.DW_OP_regval_type,
    dw.DW_OP_GNU_deref_type: dw.DW_OP_deref_type,
    dw.DW_OP_GNU_convert: dw.DW_OP_convert,
    _GNU_REINTERPRET: dw.DW_OP_reinterpret,
    dw.DW_OP_GNU_addr_index: dw.DW_OP_addrx,
    dw.DW_OP_GNU_const_index: dw.DW_OP_constx,
}.items():
    _OPERATIONS[_gnu] = _OPERATIONS[_standard]
for _n in range(32):
    _OPERATIONS[_LIT0 + _n] = "", partial(_Machine.constant, value=_n)
    _OPERATIONS[_REG0 + _n] = "", partial(_Machine.in_register, register=_n)
    _OPERATIONS[_BREG0 + _n] = "s", partial(_Machine.offset_register, register=_n)

_AFTER_LOCATION = (dw.DW_OP_piece, dw.DW_OP_bit_piece, dw.DW_OP_GNU_uninit, dw.DW_OP_nop)
