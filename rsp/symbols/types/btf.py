"""BTF, the types that a Linux kernel carries in itself (Documentation/bpf/btf.rst).

Contents: reading `.BTF` sections of kernels and modules into types. Not here: what a type is
(`types`), and .BTF.ext, which is about BPF programs.

A question about one name needs no index: the name is found among the strings, and its offset among
the records. Records have no table of contents and different sizes, so that the number of a record,
by which others refer to it, is known only by walking to it. That walk goes no further than it
must, and is what an answer costs: at most some 15 ms, for all of a kernel's 95,000 records.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from rsp.symbols.types.spelling import spellings, split_name
from rsp.symbols.types.types import (
    KEYWORDS,
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
    Tagged,
    Type,
    Typedef,
    Union,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rsp.symbols.elf.section_data import SectionData

_HEADER = struct.Struct("<HBBIIIII")
_MAGIC = 0xEB9F
_WORD = struct.Struct("<I")
_STRIDE = 1 << 13  # how many words are walked before looking again whether that was far enough

# BTF_KIND_*
INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)

# By kind: how many words follow the three of every record, always and for each of its parts.
_EXTRA_WORDS = {
    INT: (1, 0),
    PTR: (0, 0),
    ARRAY: (3, 0),
    STRUCT: (0, 3),
    UNION: (0, 3),
    ENUM: (0, 2),
    FWD: (0, 0),
    TYPEDEF: (0, 0),
    VOLATILE: (0, 0),
    CONST: (0, 0),
    RESTRICT: (0, 0),
    FUNC: (0, 0),
    FUNC_PROTO: (0, 2),
    VAR: (1, 0),
    DATASEC: (0, 3),
    FLOAT: (0, 0),
    DECL_TAG: (1, 0),
    TYPE_TAG: (0, 0),
    ENUM64: (0, 3),
}
_QUALIFIERS = {
    VOLATILE: Qualifier.VOLATILE,
    CONST: Qualifier.CONST,
    RESTRICT: Qualifier.RESTRICT,
    TYPE_TAG: Qualifier(0),  # a remark such as __user, which is no C
}

# By keyword, which kinds a name may be, those first that win over the others.
_NAMED_KINDS = {
    "struct": ((STRUCT,), (FWD,)),
    "union": ((UNION,), (FWD,)),
    "enum": ((ENUM, ENUM64),),
    # As in C, where a bare name is a typedef; what needs a keyword is found without it too.
    "": ((TYPEDEF, INT, FLOAT), (STRUCT,), (UNION,), (ENUM, ENUM64), (FWD,)),
}

_CHARACTERS = frozenset(("char", "signed char", "unsigned char"))
_INT_SIGNED, _INT_CHAR, _INT_BOOL = 1, 2, 4


class _Record(NamedTuple):
    """The words that every type begins with.

    Attributes:
        at: the index of its first word.
        name: where its name is among the strings.
        kind: BTF_KIND_*.
        flag: kind_flag, whose meaning depends on the kind.
        parts: how many members, enumerators or parameters follow.
        value: a size, or the number of another type.
    """

    at: int
    name: int
    kind: int
    flag: bool
    parts: int
    value: int


class _RecordSizes(dict[int, int]):
    """The size of a record in words, by its ``info`` word; 0 for a kind that is not known."""

    def __missing__(self, info: int) -> int:
        always, each = _EXTRA_WORDS.get(info >> 24 & 0x1F, (-3, 0))
        size = self[info] = 3 + always + each * (info & 0xFFFF)
        return size


class Btf:
    """The types of a kernel or of a module.

    Args:
        contents: the bytes of `.BTF`.
        base: that of the kernel, for a module, whose types refer to the kernel's.
        word_size: the size of a pointer.

    Raises:
        BadImage: it is no BTF, or its parts reach beyond it; also later, by a type that is asked
            for its members, where these are damaged.
    """

    def __init__(
        self, contents: SectionData, base: Btf | None = None, *, word_size: int = 8
    ) -> None:
        self._contents = contents
        self._base: Btf | None = base
        self._word_size = word_size
        if len(contents) < _HEADER.size:
            contents.fail(0, "it ends within its header")
        magic, version, _, header_size, types, types_size, strings, strings_size = (
            _HEADER.unpack_from(contents.view)
        )
        if magic != _MAGIC or version != 1:
            contents.fail(0, "no little-endian BTF of version 1")
        types += header_size
        strings += header_size
        if max(types + types_size, strings + strings_size) > len(contents):
            contents.fail(0, "its parts reach beyond its end")
        self._types_at = types
        self._words = contents.view[types : types + (types_size & ~3)].cast("I")
        self._strings_at = strings
        self._strings_end = strings + strings_size
        # A module's numbers and names go on where the kernel's end.
        self._first_id: int = 1 if base is None else base.end_id
        self._first_name: int = 0 if base is None else base._names_end
        self._names_end: int = self._first_name + strings_size
        self._starts = array("I")  # of each record, in words, as far as they are known
        self._next = 0  # where the next record begins
        self._sizes = _RecordSizes()
        self._known: dict[int, Type] = {}

    def __len__(self) -> int:
        """Return how many types there are, without the kernel's in those of a module."""
        return self.end_id - self._first_id

    @property
    def end_id(self) -> int:
        """The number behind that of the last type."""
        self._reach(len(self._words))
        return self._first_id + len(self._starts)

    def find(self, name: str) -> Type | None:
        """Return the first type of a name, None where there is none.

        Args:
            name: ``struct page``, ``union thread_union``, ``enum pid_type``, ``pid_t``,
                ``unsigned int``; without a keyword the typedef or integer of that name, else the
                structure, union or enumeration.

        Raises:
            BadImage: a record that had to be passed has no end.
        """
        return next(self._find(name), None)

    def find_all(self, name: str) -> tuple[Type, ...]:
        """Return all types of a name, in the order of the file, the module's before the kernel's.

        Structures of the same name are different ones, each known to a part of the kernel. One that
        is only declared is among them where none is defined.

        Raises:
            BadImage: a record that had to be passed has no end.
        """
        return tuple(self._find(name))

    def function(self, name: str) -> Function | None:
        """Return the prototype of a function.

        Raises:
            BadImage: a record that had to be passed has no end.
        """
        for record in self._records_named(name, (FUNC,)):
            prototype = self.type(record.value)
            if isinstance(prototype, Function):
                return prototype
        return None if self._base is None else self._base.function(name)

    def variable(self, name: str) -> Type | None:
        """Return the type of a variable; a kernel has those of its per-CPU variables only.

        Raises:
            BadImage: a record that had to be passed has no end.
        """
        for record in self._records_named(name, (VAR,)):
            return self.type(record.value)
        return None if self._base is None else self._base.variable(name)

    def type(self, number: int) -> Type:
        """Return the type of a number; 0 is void.

        Raises:
            BadImage: there is none of that number.
        """
        if number == 0:
            return VOID
        if number < self._first_id and self._base is not None:
            return self._base.type(number)
        index = number - self._first_id
        while index >= len(self._starts):
            before = self._next
            self._walk(before + _STRIDE)
            if self._next == before:
                self._contents.fail(self._types_at + before * 4, f"type {number} is not there")
        return self._type_at(self._starts[index])

    def types(self) -> Iterator[Type]:
        """Yield all types that have a name of their own, in the order of the file.

        Raises:
            BadImage: a record has no end.
        """
        self._reach(len(self._words))
        wanted = {kind for kinds in _NAMED_KINDS[""] for kind in kinds}
        for start in self._starts:
            record = self._record(start)
            if record.kind in wanted and record.name:
                yield self._type_at(start)

    def _find(self, name: str) -> Iterator[Type]:
        keyword, bare = split_name(name)
        found = False
        for kinds in _NAMED_KINDS[keyword]:
            for each in self._named(bare, kinds):
                # The declaration of a union is no declaration of the struct of the same name.
                if not keyword or isinstance(each, KEYWORDS[keyword]):
                    found = True
                    yield each
            if found:
                return

    def _named(self, name: str, kinds: Sequence[int]) -> Iterator[Type]:
        for spelling in spellings(name):
            for record in self._records_named(spelling, kinds):
                yield self._type_at(record.at)
        if self._base is not None:
            yield from self._base._named(name, kinds)

    def _records_named(self, name: str, kinds: Sequence[int]) -> Iterator[_Record]:
        offset = self._name_offset(name)
        if offset is None:
            return
        needle = _WORD.pack(offset)
        begin, end = self._types_at, self._types_at + len(self._words) * 4
        at = self._contents.find(needle, begin, end)
        while at >= 0:
            index, rest = divmod(at - begin, 4)
            if rest == 0 and index + 3 <= len(self._words):
                record = self._record(index)
                if record.kind in kinds and self._is_start(index):
                    yield record
            at = self._contents.find(needle, at + 1, end)

    def _name_offset(self, name: str) -> int | None:
        """Return where a name is among the strings, of the kernel too."""
        if self._base is not None and (offset := self._base._name_offset(name)) is not None:
            return offset
        try:
            text = name.encode(errors="surrogateescape") + b"\0"
        except UnicodeEncodeError:
            return None
        if len(text) == 1 or b"\0" in text[:-1]:
            return None
        begin, end = self._strings_at, self._strings_end
        # The strings of a module need not begin with the empty one.
        if self._contents[begin : min(begin + len(text), end)] == text:
            return self._first_name
        at = self._contents.find(b"\0" + text, begin, end)
        return None if at < 0 else at + 1 - begin + self._first_name

    def _name(self, offset: int) -> str:
        if offset < self._first_name and self._base is not None:
            return self._base._name(offset)
        at = offset - self._first_name + self._strings_at
        if not self._strings_at <= at < self._strings_end:
            self._contents.fail(self._types_at, f"a name at {offset:#x}, beyond the strings")
        return self._contents.text(at)

    def _record(self, index: int) -> _Record:
        name, info, value = self._words[index : index + 3]
        return _Record(index, name, info >> 24 & 0x1F, bool(info >> 31), info & 0xFFFF, value)

    def _is_start(self, index: int) -> bool:
        self._reach(index + 1)
        place = bisect_left(self._starts, index)
        return place < len(self._starts) and self._starts[place] == index

    def _reach(self, stop: int) -> None:
        """Note where the records before a word begin.

        Raises:
            BadImage: it cannot be reached.
        """
        self._walk(stop)
        if self._next < stop:
            at = self._types_at + self._next * 4
            self._contents.fail(at, "a type of an unknown kind, or one that has no end")

    def _walk(self, stop: int) -> None:
        """Note where the records before a word begin, up to the first that is damaged."""
        words, sizes, note = self._words, self._sizes, self._starts.append
        index = self._next
        stop = min(stop, len(words) - 2)
        while index < stop:
            size = sizes[words[index + 1]]
            if not size:
                break
            note(index)
            index += size
        if index > len(words):
            index = self._starts.pop()
        self._next = index

    def _type_at(self, index: int) -> Type:
        known = self._known.get(index)
        if known is None:
            known = self._known[index] = self._read(self._record(index))
        return known

    def _read(self, record: _Record) -> Type:
        reader = _READERS.get(record.kind)
        if reader is None:
            self._contents.fail(self._types_at + record.at * 4, f"a type of kind {record.kind}")
        return reader(self, record)

    def _parts(self, record: _Record) -> memoryview:
        """Return the words behind the three that every record has."""
        end = record.at + self._sizes[self._words[record.at + 1]]
        if end > len(self._words):
            self._contents.fail(self._types_at + record.at * 4, "a type that has no end")
        return self._words[record.at + 3 : end]

    def _tag(self, record: _Record) -> str | None:
        return self._name(record.name) if record.name else None

    def _integer(self, record: _Record) -> Integer:
        name = self._name(record.name)
        flags = self._parts(record)[0] >> 24 & 0xF
        if flags & _INT_BOOL:
            encoding = Encoding.BOOL
        elif flags & _INT_CHAR or name in _CHARACTERS:  # pahole leaves the flag out
            encoding = Encoding.CHAR
        else:
            encoding = Encoding.INT
        return Integer(name, record.value, signed=bool(flags & _INT_SIGNED), encoding=encoding)

    def _float(self, record: _Record) -> Float:
        return Float(self._name(record.name), record.value)

    def _pointer(self, record: _Record) -> Pointer:
        return Pointer(self._target(record), self._word_size)

    def _array(self, record: _Record) -> Array:
        element, _, count = self._parts(record)
        return Array(partial(self.type, element), count)

    def _compound(self, record: _Record) -> Type:
        kind = Struct if record.kind == STRUCT else Union
        return kind(self._tag(record), record.value, partial(self._members, record))

    def _declared(self, record: _Record) -> Type:
        kind, defined = (Union, UNION) if record.flag else (Struct, STRUCT)
        tag = self._tag(record) or ""
        return kind(tag, None, definition=partial(self._definition, tag, defined))

    def _definition(self, tag: str, kind: int) -> Tagged | None:
        for found in self._named(tag, (kind,)):
            assert isinstance(found, Tagged)
            return found
        return None

    def _enum(self, record: _Record) -> Enum:
        # One that is only declared has a size, but nothing else.
        size = record.value if record.parts else None
        enumerators = partial(self._enumerators, record)
        return Enum(self._tag(record), size, enumerators, signed=record.flag)

    def _typedef(self, record: _Record) -> Typedef:
        return Typedef(self._name(record.name), self._target(record))

    def _qualified(self, record: _Record) -> Qualified:
        return Qualified(self._target(record), _QUALIFIERS[record.kind])

    def _prototype(self, record: _Record) -> Function:
        words = self._parts(record)
        variadic = len(words) > 0 and words[-2] == words[-1] == 0
        parameters = partial(self._parameters, words[:-2] if variadic else words)
        return Function(self._target(record), parameters, variadic=variadic)

    def _target(self, record: _Record) -> Callable[[], Type]:
        return partial(self.type, record.value)

    def _members(self, record: _Record) -> tuple[Member, ...]:
        words = self._parts(record)
        members = []
        for at in range(0, len(words), 3):
            name, number, position = words[at : at + 3]
            bits = 0
            if record.flag:
                bits, position = position >> 24, position & 0xFFFFFF
            members.append(
                Member(
                    name=self._name(name) if name else None,
                    type=self.type(number),
                    offset=position >> 3,
                    bit_offset=position & 7 if bits else None,
                    bit_size=bits or None,
                )
            )
        if members and record.kind == STRUCT:
            last = members[-1]
            members[-1] = replace(last, type=_flexible(last.type))
        return tuple(members)

    def _parameters(self, words: memoryview) -> tuple[Parameter, ...]:
        return tuple(
            Parameter(self._name(words[at]) if words[at] else None, self.type(words[at + 1]))
            for at in range(0, len(words), 2)
        )

    def _enumerators(self, record: _Record) -> dict[str, int]:
        words = self._parts(record)
        wide = record.kind == ENUM64
        sign = (1 << (64 if wide else 32)) >> 1 if record.flag else 0
        enumerators = {}
        for at in range(0, len(words), 3 if wide else 2):
            value = words[at + 1] | (words[at + 2] << 32 if wide else 0)
            enumerators[self._name(words[at])] = (value ^ sign) - sign
        return enumerators


def _flexible(last: Type) -> Type:
    """Return the type of a structure's last member, an array without elements as a flexible one.

    BTF has the same for `data[]` and `data[0]`; where only the second may be, it is that.
    """
    match last:
        case Array(count=0):
            return Array(last.element, None)
        case Qualified(target=Array(count=0) as target):
            return Qualified(Array(target.element, None), last.qualifiers)
    return last


_READERS: dict[int, Callable[[Btf, _Record], Type]] = {
    INT: Btf._integer,
    PTR: Btf._pointer,
    ARRAY: Btf._array,
    STRUCT: Btf._compound,
    UNION: Btf._compound,
    ENUM: Btf._enum,
    FWD: Btf._declared,
    TYPEDEF: Btf._typedef,
    VOLATILE: Btf._qualified,
    CONST: Btf._qualified,
    RESTRICT: Btf._qualified,
    TYPE_TAG: Btf._qualified,
    FUNC_PROTO: Btf._prototype,
    FLOAT: Btf._float,
    ENUM64: Btf._enum,
}
