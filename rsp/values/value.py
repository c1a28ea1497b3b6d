"""Typed values: a type, and where its bytes are.

Contents: `Value`, with its members, elements and conversions. Nothing is read before it is needed,
and then no more than that. Not here: how a value is printed (`value_text`), names and expressions
(`scope`, `c_expression`), and what the bytes of a number mean (`scalars`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import total_ordering
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, SupportsIndex, overload

from rsp import arguments
from rsp.errors import ExpressionError, SymbolNotFound, ValueUnavailable, nearest
from rsp.symbols.types.types import (
    VOID,
    Array,
    Compound,
    Enum,
    Float,
    Function,
    Pointer,
    Type,
    Void,
)
from rsp.values.numbers import MAX_SCALAR, decode, encode, is_scalar, is_signed
from rsp.values.strings import read_string

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rsp.symbols.table import SymbolTable
    from rsp.symbols.types.types import Member

MAX_VALUE: Final = 1 << 24
"""The largest value in bytes that is read at once; a damaged file may claim any size."""
_AHEAD: Final = 4096
"""How many bytes are read at once of the numbers in an array that is gone through."""

UNTYPED: Final = Void("<data variable, no debug info>")
UNTYPED_CODE: Final = Void("<text variable, no debug info>")
"""The types, with gdb's names, of what nothing is known of but its symbol."""

OPTIMIZED_OUT: Final = "<optimized out>"
UNAVAILABLE: Final = "<unavailable>"


class Language(Protocol):
    """What a programming language decides about values; C is `rsp.values.c`."""

    def format(self, value: Value) -> str:
        """Return what gdb's ``print`` shows of a value.

        Raises:
            MemoryFault: it cannot be read.
            SymbolError: its type is one that is not understood.
        """
        ...

    def describe(self, value: Value) -> str:
        """Return what ``repr`` shows of a value, with its type; short, and nothing is raised."""
        ...

    def parse_type(self, text: str, space: Space) -> Type:
        """Return the type that a text names.

        Raises:
            SymbolNotFound: there is no such type.
            ExpressionError: the text does not name a type.
        """
        ...


def _is_asked() -> None:
    """Return that memory can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What values lie in.

    Attributes:
        read: returns memory by address and length, or raises MemoryFault.
        symbols: what names, types and addresses are looked up in; None without any.
        word_size: the size of a pointer.
        language: decides how values and types are written.
        silence: returns why memory cannot be read now (the target runs, say), None where it can,
            and does nothing to find out.
    """

    read: Callable[[int, int], bytes]
    symbols: SymbolTable | None
    word_size: int
    language: Language
    silence: Callable[[], str | None] = _is_asked


class Hole(NamedTuple):
    """Bits of a value, from ``begin`` up to ``end``, that nothing is known of; and why."""

    begin: int
    end: int
    why: str


@total_ordering
class Value:
    """A value of C: what an expression comes to.

    ``value["member"]`` and, where the name is none of Python's, ``value.member`` also look through
    pointers, as ``->`` does. The names of everything else end in an underscore, which no member's
    does.

    Args:
        space: what it lies in, and what it refers to.
        ctype: its type.
        address: where it is; None if it is in registers, or computed.
        data: its bytes where they are at hand; they are read when needed where not.
        bits: for a bit-field, the lowest bit in the byte at the address, and how many.
        holes: the parts that are not known, of a value whose data is at hand.

    >>> task = target.value("init_task")  # doctest: +SKIP
    >>> task.comm.string_(), int(task["pid"]), task.mm.type_  # doctest: +SKIP
    (b'swapper/0', 0, <Pointer struct mm_struct *>)
    >>> print(target.value("&init_task").tasks.next)  # doctest: +SKIP
    (struct list_head *) 0xffff888003220890
    >>> task["pid"], task.mm  # doctest: +SKIP
    ((pid_t)0, (struct mm_struct *)0x0)
    """

    __slots__ = ("__address", "__bits", "__data", "__holes", "space_", "type_")

    def __init__(
        self,
        space: Space,
        ctype: Type,
        *,
        address: int | None = None,
        data: bytes | None = None,
        bits: tuple[int, int] | None = None,
        holes: Sequence[Hole] = (),
    ) -> None:
        self.space_: Space = space
        self.type_: Type = ctype
        self.__address = address
        self.__data = data
        self.__bits = bits
        self.__holes = tuple(holes)

    @classmethod
    def number_(cls, space: Space, ctype: Type, number: float) -> Value:
        """Return a computed number, cut off as a cast does.

        Raises:
            ExpressionError: the type is none of a number.
        """
        return cls(space, ctype, data=encode(ctype, number))

    @classmethod
    def absent_value_(cls, space: Space, ctype: Type, why: str = OPTIMIZED_OUT) -> Value:
        """Return a value of which only the type is known; ``why`` is what is printed for it."""
        return cls(space, ctype, data=b"", holes=(Hole(0, 8 * MAX_VALUE, why),))

    # --- where it is, and its bytes ---

    @property
    def address_(self) -> int | None:
        """Where it is in memory; None if it is not there, or a bit-field."""
        return None if self.__bits is not None else self._place_()

    def _place_(self) -> int | None:
        return self.__address

    @property
    def bits_(self) -> tuple[int, int] | None:
        """For a bit-field, its lowest bit in its first byte, and how many it has."""
        return self.__bits

    @property
    def absent_(self) -> str | None:
        """Why a part of it is not known (``<optimized out>``); None if all is."""
        first, count = self.__bits or (0, 8 * (self.type_.size or 1))
        for hole in self.__holes:
            if hole.begin < first + count and first < hole.end:
                return hole.why
        return None

    @property
    def all_absent_(self) -> bool:
        """Whether nothing of it is known."""
        end = 8 * (self.type_.size or 1)
        begin = 0
        for hole in sorted(self.__holes):
            if hole.begin > begin:
                break
            begin = max(begin, hole.end)
        return bool(self.__holes) and begin >= end

    @property
    def at_hand_(self) -> bool:
        """Whether its bytes are known, so that no memory is read for them."""
        return self.__data is not None

    def bytes_(self) -> bytes:
        """Return its bytes as they are in memory; of a bit-field, those of its type.

        Raises:
            MemoryFault: they cannot be read.
            ValueUnavailable: it is not known, or has no size.
            ExpressionError: it has more than 16 MiB.
        """
        if self.absent_:
            raise ValueUnavailable(f"the value of this {self.type_} is not known: {self.absent_}")
        if self.__bits is not None:
            return self.__field_bytes()
        return self.__read(self.__size())

    def __size(self) -> int:
        size = self.type_.size
        bare = self.type_.resolved
        if size is None and isinstance(bare, Array) and bare.count is None:
            return 0  # a flexible array, of which nothing says how long it is
        if size is None:
            raise _no_size(self.type_)
        if size > (MAX_SCALAR if is_scalar(bare) else MAX_VALUE):
            raise ExpressionError(
                f"{self.type_} has {size} bytes: ask for a member or an element of it"
            )
        return size

    def __read(self, size: int) -> bytes:
        if self.__data is not None:
            if len(self.__data) < size:
                raise ValueUnavailable(f"only {len(self.__data)} of {size} bytes are at hand")
            return self.__data[:size]
        address = self._place_()
        if address is None:
            raise ValueUnavailable(f"this {self.type_} has neither an address nor a value")
        return self.space_.read(address, size) if size else b""

    def __field_bytes(self) -> bytes:
        assert self.__bits is not None
        first, count = self.__bits
        size = self.__size()
        if not 0 < count <= 8 * size:
            raise ExpressionError(f"a bit-field of {count} bits in {self.type_}")
        number = int.from_bytes(self.__read((first + count + 7) // 8), "little") >> first
        number &= (1 << count) - 1
        if is_signed(self.type_.resolved) and number >> count - 1:
            number -= 1 << count
        return (number & (1 << 8 * size) - 1).to_bytes(size, "little")

    def loaded_(self) -> Value:
        """Return the same with its bytes at hand: what is taken of it costs no further request.

        Raises:
            MemoryFault, ValueUnavailable, ExpressionError: as `bytes_`; what is not known stays so.
        """
        if self.__data is not None:
            return self
        if self.__bits is not None:
            return Value(self.space_, self.type_, data=self.bytes_())
        return Value(self.space_, self.type_, address=self._place_(), data=self.bytes_())

    # --- parts ---

    @overload
    def __getitem__(self, key: str | SupportsIndex) -> Value: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Value, ...]: ...
    def __getitem__(self, key: str | SupportsIndex | slice) -> Value | tuple[Value, ...]:
        """Return a member by its name, or elements as C does, not checking bounds.

        Raises:
            SymbolNotFound: there is no such member.
            ExpressionError: it has no elements, or a slice has no end.
            MemoryFault: a pointer cannot be read.
        """
        if isinstance(key, str):
            return self.__member(key)
        if isinstance(key, slice):
            return self.__slice(key)
        return self.__element(_whole(key, "the key", "a member's name, a number or a slice"))

    def __getattr__(self, name: str) -> Value:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        try:
            return self.__member(name)
        except SymbolNotFound as error:
            raise AttributeError(str(error), name=name, obj=self) from error

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._ipython_key_completions_()})

    def _ipython_key_completions_(self) -> list[str]:
        """Return the names of its members, also through a pointer and in anonymous structures."""
        bare = self.type_.resolved
        return (bare.target if isinstance(bare, Pointer) else bare).member_names()

    def __member(self, name: str) -> Value:
        bare = self.type_.resolved
        if isinstance(bare, Pointer):
            owner = bare.target.resolved
            # Before it is read: a name that is not there needs no memory.
            member = self.__find(owner, name)
            return self.deref_().member_(member)
        return self.member_(self.__find(bare, name))

    def __find(self, owner: Type, name: str) -> Member:
        if isinstance(owner, Compound):
            if not owner.complete:
                raise ExpressionError(f"{owner} is only declared: its members are not known")
            return owner.member(name)
        hint = nearest(name, (each for each in dir(type(self)) if each.endswith("_")))
        raise SymbolNotFound(f"{self.type_} has no member {name!r}{hint}", name=name)

    def member_(self, member: Member) -> Value:
        """Return the value of a member of its type, an anonymous one too."""
        bits = None
        if member.bit_size is not None:
            bits = (member.bit_offset or 0, member.bit_size)
        return self.__part(member.type, member.offset, bits)

    def __part(self, ctype: Type, offset: int, bits: tuple[int, int] | None = None) -> Value:
        """Return what lies at an offset: with its address, and its bytes where those are there."""
        address, data = self._place_(), self.__data
        if address is not None:
            address = self.__wrapped(address + offset)
        if data is not None:
            size = (ctype.size or 0) if bits is None else (sum(bits) + 7) // 8
            inside = 0 <= offset <= offset + size <= len(data)
            if not inside and address is None and not self.__holes:
                raise ExpressionError(f"there is nothing at offset {offset} of this {self.type_}")
            flexible = isinstance(ctype.resolved, Array) and ctype.size is None
            data = data[offset : offset + size] if inside and not flexible else None
            if data is None and address is None:
                data = b""
        holes = [
            Hole(max(hole.begin - 8 * offset, 0), hole.end - 8 * offset, hole.why)
            for hole in self.__holes
            if hole.end > 8 * offset
        ]
        return Value(self.space_, ctype, address=address, data=data, bits=bits, holes=holes)

    def __element(self, number: int) -> Value:
        bare = self.type_.resolved
        if isinstance(bare, Pointer):
            return self.deref_().__shifted(number)
        if not isinstance(bare, Array):
            raise ExpressionError(f"{self.type_} has no elements: it is neither array nor pointer")
        return self.__part(bare.element, number * element_size(bare.element))

    def __shifted(self, number: int) -> Value:
        address = self._place_()
        if number == 0 or address is None:
            return self
        distance = number * element_size(self.type_)
        return Value(self.space_, self.type_, address=self.__wrapped(address + distance))

    def __wrapped(self, address: int) -> int:
        return address % (1 << 8 * self.space_.word_size)

    def __len__(self) -> int:
        """Return how many elements the array has.

        Raises:
            ExpressionError: it is none, a flexible one, or has more than 2**24.
        """
        bare = self.type_.resolved
        if isinstance(bare, Array) and bare.count is not None:
            if bare.count <= MAX_VALUE:
                return bare.count
            raise ExpressionError(
                f"{self.type_}: too many elements for a list: give a slice, [0:8]"
            )
        raise ExpressionError(
            f"nothing says how many elements {self.type_} has: give a slice, [0:8]"
        )

    def __iter__(self) -> Iterator[Value]:
        """Iterate over the elements of an array; the errors of ``len`` and of reading."""
        return self.__elements(range(len(self)))

    def __slice(self, key: slice) -> tuple[Value, ...]:
        first, step = (
            default if each is None else _whole(each, "a part of the slice", "a number")
            for each, default in ((key.start, 0), (key.step, 1))
        )
        end = len(self) if key.stop is None else _whole(key.stop, "a part of the slice", "a number")
        if step < 1 or first < 0 or end < 0:
            raise ExpressionError("a slice of a value counts from the first element upwards")
        return tuple(self.__elements(range(first, end, step)))

    def __elements(self, numbers: range) -> Iterator[Value]:
        bare = self.type_.resolved
        base = self.deref_() if isinstance(bare, Pointer) else self
        element = base.type_ if base is not self else getattr(bare, "element", VOID)
        size = element.size or 0
        at_hand = self.__data is not None and base is self
        if at_hand or not is_scalar(element.resolved) or not 0 < size * numbers.step <= MAX_SCALAR:
            for number in numbers:
                yield base.__shifted(number) if base is not self else self.__element(number)
            return
        # Numbers are read many at a time.
        address = base.__need_address()
        at_once = _AHEAD // (size * numbers.step)
        for start in range(0, len(numbers), at_once):
            part = numbers[start : start + at_once]
            begin = self.__wrapped(address + part[0] * size)
            data = self.space_.read(begin, (part[-1] - part[0] + 1) * size)
            for number in part:
                offset = (number - part[0]) * size
                piece = data[offset : offset + size]
                yield Value(self.space_, element, address=begin + offset, data=piece)

    # --- through pointers, and as another type ---

    def deref_(self) -> Value:
        """Return what a pointer points to; of an array, the first element.

        Raises:
            ExpressionError: it is no pointer, or one to void.
            MemoryFault: the pointer itself cannot be read; what it points to is read later.
        """
        bare = self.type_.resolved
        if isinstance(bare, Array):
            return self.__element(0)
        if is_code(bare):
            return self
        if not isinstance(bare, Pointer):
            raise ExpressionError(f"{self.type_} is no pointer")
        if bare.target.resolved is VOID:
            raise ExpressionError("void * says nothing of what it points to: cast_ it to a type")
        return Value(self.space_, bare.target, address=int(self))

    def address_of_(self) -> Value:
        """Return a pointer to it.

        Raises:
            ExpressionError: it is not in memory, or a bit-field.
        """
        address = self.address_
        if address is None:
            what = "a bit-field" if self.__bits is not None else "not in memory"
            raise ExpressionError(f"this {self.type_} has no address: it is {what}")
        pointer = Pointer(self.type_, self.space_.word_size)
        return Value.number_(self.space_, pointer, address)

    def decayed_(self) -> Value:
        """Return what it is in an expression: a pointer, if it is an array or a function."""
        bare = self.type_.resolved
        if is_code(bare):
            return self.address_of_()
        if isinstance(bare, Array) and not bare.vector:
            return Value.number_(
                self.space_,
                Pointer(bare.element, self.space_.word_size),
                self.__need_address(),
            )
        return self

    def __need_address(self) -> int:
        address = self.address_
        if address is None:
            raise ExpressionError(f"this {self.type_} is not in memory")
        return address

    def cast_(self, ctype: Type | str) -> Value:
        """Return it as another type, as a cast in C.

        Args:
            ctype: a type, or its name in C (``struct sock *``, ``unsigned long``).

        Raises:
            SymbolNotFound: there is no type of that name.
            ExpressionError: C has no such cast.
            MemoryFault: it must be read for it, and cannot be.
        """
        if isinstance(ctype, str):
            ctype = self.space_.language.parse_type(ctype, self.space_)
        if not isinstance(ctype, Type):
            raise arguments.refused("ctype", ctype, "a Type or its name in C")
        to, bare = ctype.resolved, self.type_.resolved
        if self.__holes and self.absent_ is not None:
            return Value.absent_value_(self.space_, ctype, self.absent_)
        if is_scalar(to):
            source = self.decayed_()
            if is_scalar(source.type_.resolved):
                return Value.number_(self.space_, ctype, decode(source.type_, source.bytes_()))
            if bare is UNTYPED:  # the cast says at last what it is
                return Value(self.space_, ctype, address=self.address_)
        elif to is VOID:
            return Value(self.space_, ctype, data=b"")
        elif ctype.size is not None and ctype.size == self.type_.size and self.address_ is not None:
            return Value(self.space_, ctype, address=self.address_, data=self.__data)
        elif type(to) is type(bare) and str(to) == str(bare):
            return self
        raise ExpressionError(f"{self.type_} cannot be cast to {ctype}")

    # --- as Python's ---

    def string_(self, max_size: int = 4096) -> bytes:
        """Return the bytes up to a NUL, or the end of the array, or ``max_size``.

        Raises:
            ExpressionError: it is neither an array of characters nor a pointer to some.
            MemoryFault: memory ends before the string does; ``partial`` has what there is.
        """
        max_size = arguments.integer(max_size, "max_size", "a number of bytes")
        bare = self.type_.resolved
        target = bare.element if isinstance(bare, Array) else getattr(bare, "target", VOID)
        if not isinstance(bare, Array | Pointer) or target.size != 1:
            raise ExpressionError(f"{self.type_} is no string")
        if isinstance(bare, Array) and bare.count is not None:
            if self.__data is not None or self.absent_:
                return self.bytes_()[:max_size].partition(b"\0")[0]
            max_size = min(max_size, bare.count)
        where = int(self) if isinstance(bare, Pointer) else self.__need_address()
        return read_string(self.space_.read, where, max_size)

    def enumerator_(self) -> str | None:
        """Return the name that an enumeration has for it; None where it has none, or is none."""
        bare = self.type_.resolved
        if not isinstance(bare, Enum):
            return None
        number = int(self)
        mask = (1 << 8 * (bare.size or 0)) - 1
        names = (name for name, each in bare.enumerators.items() if (each ^ number) & mask == 0)
        return next(names, None)

    def __number(self) -> int | float:
        return decode(self.type_, self.bytes_())

    def __int__(self) -> int:
        bare = self.type_.resolved
        if isinstance(bare, Array) or is_code(bare):
            return self.__need_address()
        number = self.__number()
        try:
            return int(number)
        except (ValueError, OverflowError):  # of what is infinite, or not a number
            raise ExpressionError(f"{self} is no integer") from None

    def __index__(self) -> int:
        if isinstance(self.type_.resolved, Float):
            raise ExpressionError(f"{self.type_} is no integer type")
        return int(self)

    def __float__(self) -> float:
        return float(self.__number())

    def __bool__(self) -> bool:
        bare = self.type_.resolved
        if isinstance(bare, Array) or is_code(bare):
            return self.__need_address() != 0
        return bool(self.__number())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Value):
            if not isinstance(other.type_.resolved, Compound):
                return self == other.__plain()
            return str(self.type_) == str(other.type_) and self.bytes_() == other.bytes_()
        if not isinstance(other, int | float) or isinstance(self.type_.resolved, Compound):
            return NotImplemented
        return self.__plain() == other

    def __lt__(self, other: Value | float) -> bool:
        return self.__plain() < (other.__plain() if isinstance(other, Value) else other)

    def __hash__(self) -> int:
        if isinstance(self.type_.resolved, Compound):
            return hash(self.bytes_())
        return hash(self.__plain())

    def __plain(self) -> int | float:
        return float(self) if isinstance(self.type_.resolved, Float) else int(self)

    def __str__(self) -> str:
        """Return what gdb's ``print`` shows of it.

        Raises:
            MemoryFault: it cannot be read.
            SymbolError: its type is one that is not understood.
        """
        return self.space_.language.format(self)

    def __repr__(self) -> str:
        """Return its type and what gdb's ``print`` shows of it, cut off: ``(int)42``.

        At a stop it is read if need be, 4 KiB at once; what cannot be read is said. Of a target
        that runs nothing is asked.
        """
        return self.space_.language.describe(self)


def _whole(given: object, what: str, taken: str) -> int:
    return arguments.integer(given, what, taken, lowest=None, below=None)


def is_code(bare: Type) -> bool:
    """Return whether a type, without typedefs, is that of a function."""
    return isinstance(bare, Function) or bare is UNTYPED_CODE


def element_size(ctype: Type) -> int:
    """Return what pointer arithmetic counts in; GNU C has 1 for void and functions.

    Raises:
        ValueUnavailable: the type is only declared.
    """
    bare = ctype.resolved
    size = 1 if bare is VOID or is_code(bare) else ctype.size
    if size is None:
        raise _no_size(ctype)
    return size


def _no_size(ctype: Type) -> ValueUnavailable:
    if ctype is UNTYPED:
        return ValueUnavailable("nothing says what type it has: cast it to one, as in (int)name")
    return ValueUnavailable(f"{ctype} has no size: its definition is not known")
