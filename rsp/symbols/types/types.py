"""C types as values: what `ptype` knows of them, wherever they were read from.

Contents: the classes of types and their members, the same for BTF and DWARF, and how something of a
type is declared: what a type is called is made of the types in it. Not here: how either is read
(`btf`, `from_dwarf`), definitions as text (`text`), and values.

Types refer to each other in circles (a list node points to list nodes), so that what a type is
made of is looked up when it is first asked for. A damaged file can make a typedef of itself or an
array of itself: every walk along a chain of types ends after `MAX_CHAIN` of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum as PythonEnum
from enum import IntFlag
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from rsp import arguments
from rsp.errors import SymbolNotFound, nearest
from rsp.symbols.types.spelling import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import NoReturn, TypeAlias

_T = TypeVar("_T")
if TYPE_CHECKING:
    Lazy: TypeAlias = _T | Callable[[], _T]
    """A value, or how to find it out."""
    Body: TypeAlias = Callable[["Compound | Enum"], str | None]

MAX_CHAIN = 128
"""How many typedefs, qualifiers, pointers and array dimensions are followed at a stretch."""
MAX_DEPTH = 48
"""How deep structures and parameters are shown within each other."""
MAX_TEXT = 1 << 24
"""About how many characters are written; the largest definition of a kernel has some 200,000."""
CUT = "..."
"""Stands for what is too deep or too long, which only a damaged file makes."""


class Encoding(PythonEnum):
    """What an integer is meant to hold."""

    INT = "int"
    CHAR = "char"
    BOOL = "bool"


class Qualifier(IntFlag):
    """The type qualifiers of C, in the order in which gdb writes them."""

    CONST = 1
    VOLATILE = 2
    RESTRICT = 4
    ATOMIC = 8


NO_QUALIFIERS = Qualifier(0)
_WORDS = {
    Qualifier.CONST: "const",
    Qualifier.VOLATILE: "volatile",
    Qualifier.RESTRICT: "restrict",
    Qualifier.ATOMIC: "_Atomic",
}


class Type:
    """A C type; ``str()`` is its name as gdb's ``whatis`` prints it.

    What is read of one file is one object for one type, and never changes.

    >>> node = Struct("node", 16, lambda: (Member(name="next", type=Pointer(node, 8), offset=0),))
    >>> str(node.member("next").type), node.size
    ('struct node *', 16)
    """

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a type does not change: {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a type does not change: {name} cannot be deleted")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    def __str__(self) -> str:
        return self.declaration("")

    def declaration(self, name: str) -> str:
        """Return the C declaration of something that has this type.

        >>> Pointer(Function(VOID, ()), 8).declaration("handler")
        'void (*handler)(void)'
        """
        arguments.text(name, "name", "the name that is declared")
        return Declarator().declare(self, name, elided)

    @property
    def name(self) -> str | None:
        """The name as it is written in C (``struct task_struct``, ``unsigned int``, ``u8``).

        None where C has only a construction, as for pointers, and for anonymous structures.
        """
        return None

    @property
    def size(self) -> int | None:
        """In bytes; None where C has no ``sizeof``: void, functions, what is only declared."""
        return None

    @property
    def resolved(self) -> Type:
        """The type behind all typedefs and qualifiers."""
        found: Type = self
        for _ in range(MAX_CHAIN):
            if not isinstance(found, Alias):
                break
            found = found.target
        return found

    @property
    def members(self) -> tuple[Member, ...]:
        """The members of a structure or union, also behind typedefs and qualifiers."""
        found = self.resolved
        return () if isinstance(found, Alias) or found is self else found.members

    def member(self, name: str) -> Member:
        """Return a member by its name, looking into anonymous structures and unions.

        Its offset counts from the start of this type.

        Raises:
            SymbolNotFound: there is none of that name.
        """
        arguments.text(name, "name", "the name of a member")
        known = []
        for base, member in self._named_members():
            if member.name == name:
                return replace(member, offset=base + member.offset) if base else member
            known.append(str(member.name))
        raise SymbolNotFound(f"{self} has no member {name!r}{nearest(name, known)}", name=name)

    def member_names(self) -> list[str]:
        """Return the names of its members, those in anonymous structures and unions too."""
        return [str(member.name) for _, member in self._named_members()]

    def __getitem__(self, name: str) -> Member:
        """Return a member by its name; see ``member``."""
        return self.member(name)

    __iter__ = None  # a type has no elements, though it has members by name

    def _ipython_key_completions_(self) -> list[str]:
        return self.member_names()

    def _named_members(self) -> Iterator[tuple[int, Member]]:
        inside: list[tuple[int, Type]] = [(0, self)]
        seen = set()
        while inside:
            base, outer = inside.pop(0)
            for member in outer.members:
                if member.name is not None:
                    yield base, member
                # An anonymous structure within itself would have no end.
                elif (anonymous := member.type.resolved) not in seen:
                    seen.add(anonymous)
                    inside.append((base + member.offset, anonymous))

    def _fill(self, **parts: object) -> None:
        for name, part in parts.items():
            object.__setattr__(self, name, part)

    def _look_up(self, slot: str) -> Any:
        """Return a part that was given as a `Lazy`; once found out, it stays."""
        part = getattr(self, slot)
        if callable(part):
            part = part()
            object.__setattr__(self, slot, part)
        return part


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of a structure or union.

    Attributes:
        name: None for an anonymous structure or union, and for padding.
        type: its type.
        offset: where it begins, in bytes from the start of the structure; for a bit-field, the
            byte of its lowest bit, as in gdb's ``ptype /o``.
        bit_offset: the lowest bit in that byte, from 0 to 7; None if it is no bit-field.
        bit_size: how many bits it has; None if it is no bit-field.
    """

    name: str | None
    type: Type
    offset: int
    bit_offset: int | None = None
    bit_size: int | None = None

    @property
    def size(self) -> int:
        """The bytes of its type, which a bit-field shares with others; 0 for ``char data[]``."""
        return self.type.size or 0

    def __str__(self) -> str:
        width = "" if self.bit_size is None else f" : {self.bit_size}"
        return self.type.declaration(self.name or "") + width


class Void(Type):
    """``void``, or a type of which the compiler tells only the name."""

    __slots__ = ("_name",)
    _name: str

    def __init__(self, name: str = "void") -> None:
        self._fill(_name=name)

    @property
    def name(self) -> str:
        """``void``."""
        return self._name


VOID = Void()


class Integer(Type):
    """An integer of the language.

    Attributes:
        signed: whether it has negative values.
        encoding: what it is meant to hold.

    >>> Integer("long unsigned int", 8, signed=False).name
    'unsigned long'
    """

    __slots__ = ("_name", "_size", "encoding", "signed")
    _name: str
    _size: int
    signed: bool
    encoding: Encoding

    def __init__(
        self, name: str, size: int, *, signed: bool, encoding: Encoding = Encoding.INT
    ) -> None:
        self._fill(_name=canonical(name), _size=size, signed=signed, encoding=encoding)

    @property
    def name(self) -> str:
        """The shortest spelling, as gdb's: ``unsigned long``, not ``long unsigned int``."""
        return self._name

    @property
    def size(self) -> int:
        """In bytes."""
        return self._size


class Float(Type):
    """A floating-point number, or a complex one."""

    __slots__ = ("_name", "_size")
    _name: str
    _size: int

    def __init__(self, name: str, size: int) -> None:
        self._fill(_name=name, _size=size)

    @property
    def name(self) -> str:
        """``float``, ``long double``, ``complex double``."""
        return self._name

    @property
    def size(self) -> int:
        """In bytes."""
        return self._size


class Tagged(Type):
    """What C knows by a keyword and a tag.

    Attributes:
        keyword: ``struct``, ``union`` or ``enum``.
        tag: the name behind the keyword; None for an anonymous one.
    """

    __slots__ = ("_definition", "_size", "tag")
    keyword: ClassVar[str]
    tag: str | None
    _size: int | None
    _definition: Lazy[Tagged | None]

    @property
    def name(self) -> str | None:
        """Keyword and tag; None without a tag."""
        return None if self.tag is None else f"{self.keyword} {self.tag}"

    @property
    def complete(self) -> bool:
        """Whether its contents are known, and not just that there is such a type."""
        return self.size is not None

    @property
    def size(self) -> int | None:
        """In bytes; None where it is only declared."""
        defined = self._defined()
        return self._size if defined is None else defined._size

    def _defined(self) -> Tagged | None:
        """Return the definition where this is the declaration of one that is elsewhere."""
        if self._size is not None:
            return None
        found: Tagged | None = self._look_up("_definition")
        return found


class Compound(Tagged):
    """A structure or a union.

    Args:
        tag: None for an anonymous one.
        size: in bytes; None where it is only declared.
        members: or how to find them out.
        definition: for one that is only declared, how to find its definition.
    """

    __slots__ = ("_members",)
    _members: Lazy[tuple[Member, ...]]

    def __init__(
        self,
        tag: str | None,
        size: int | None,
        members: Lazy[tuple[Member, ...]] = (),
        *,
        definition: Lazy[Tagged | None] = None,
    ) -> None:
        self._fill(tag=tag, _size=size, _members=members, _definition=definition)

    @property
    def members(self) -> tuple[Member, ...]:
        """In the order of the definition; none where that is not known."""
        found: tuple[Member, ...] = (self._defined() or self)._look_up("_members")
        return found


class Struct(Compound):
    """A structure."""

    __slots__ = ()
    keyword = "struct"


class Union(Compound):
    """A union."""

    __slots__ = ()
    keyword = "union"


class Enum(Tagged):
    """An enumeration.

    Args:
        tag: None for an anonymous one.
        size: in bytes; None where it is only declared.
        enumerators: their values by name, or how to find them out.
        signed: whether its values may be negative.
        definition: for one that is only declared, how to find its definition.
    """

    __slots__ = ("_enumerators", "_signed")
    keyword = "enum"
    _enumerators: Lazy[Mapping[str, int]]
    _signed: Lazy[bool]

    def __init__(
        self,
        tag: str | None,
        size: int | None,
        enumerators: Lazy[Mapping[str, int]] = MappingProxyType({}),
        *,
        signed: Lazy[bool] = False,
        definition: Lazy[Tagged | None] = None,
    ) -> None:
        self._fill(
            tag=tag, _size=size, _enumerators=enumerators, _signed=signed, _definition=definition
        )

    @property
    def enumerators(self) -> Mapping[str, int]:
        """The values by name, in the order of the definition."""
        return MappingProxyType((self._defined() or self)._look_up("_enumerators"))

    @property
    def signed(self) -> bool:
        """Whether its values may be negative."""
        return bool((self._defined() or self)._look_up("_signed"))


class Pointer(Type):
    """A pointer."""

    __slots__ = ("_size", "_target")
    _size: int
    _target: Lazy[Type]

    def __init__(self, target: Lazy[Type], size: int) -> None:
        self._fill(_target=target, _size=size)

    @property
    def target(self) -> Type:
        """What it points to."""
        found: Type = self._look_up("_target")
        return found

    @property
    def size(self) -> int:
        """In bytes."""
        return self._size


class Array(Type):
    """An array, or a vector of a vector unit.

    Attributes:
        count: how many elements it has; None for a flexible array, ``char data[]``.
        vector: whether it is one of GNU C's vectors, which are values and not arrays.
    """

    __slots__ = ("_element", "count", "vector")
    _element: Lazy[Type]
    count: int | None
    vector: bool

    def __init__(self, element: Lazy[Type], count: int | None, *, vector: bool = False) -> None:
        self._fill(_element=element, count=count, vector=vector)

    @property
    def element(self) -> Type:
        """What each element is; another array where there are several dimensions."""
        found: Type = self._look_up("_element")
        return found

    @property
    def size(self) -> int | None:
        """In bytes; None for a flexible array."""
        size = 1
        found: Type = self
        for _ in range(MAX_CHAIN):
            if not isinstance(found, Array):
                return None if found.size is None else size * found.size
            if found.count is None:
                return None
            size *= found.count
            found = found.element.resolved
        return None


class Alias(Type):
    """A typedef or a qualified type: the same bytes as its target."""

    __slots__ = ("_target",)
    _target: Lazy[Type]

    @property
    def target(self) -> Type:
        """What it stands for."""
        found: Type = self._look_up("_target")
        return found

    @property
    def size(self) -> int | None:
        """That of the type behind it."""
        found = self.resolved
        return None if isinstance(found, Alias) else found.size


class Typedef(Alias):
    """Another name for a type."""

    __slots__ = ("_name",)
    _name: str

    def __init__(self, name: str, target: Lazy[Type]) -> None:
        self._fill(_name=name, _target=target)

    @property
    def name(self) -> str:
        """The name that it gives."""
        return self._name


class Qualified(Alias):
    """A type with qualifiers.

    Attributes:
        qualifiers: those added here; the target may have more.
    """

    __slots__ = ("qualifiers",)
    qualifiers: Qualifier

    def __init__(self, target: Lazy[Type], qualifiers: Qualifier) -> None:
        self._fill(_target=target, qualifiers=qualifiers)

    @property
    def name(self) -> str | None:
        """As it is written: ``const struct cred``; None where the target has no name."""
        target: Type = self
        for _ in range(MAX_CHAIN):
            if not isinstance(target, Qualified):
                return None if target.name is None else str(self)
            target = target.target
        return None


class Parameter(NamedTuple):
    """A parameter of a function; the name is None in a prototype without names."""

    name: str | None
    type: Type


class Function(Type):
    """A function's type, or the prototype of a function.

    Attributes:
        prototyped: False for ``int f()``, which says nothing of its parameters.
    """

    __slots__ = ("_parameters", "_returns", "_variadic", "prototyped")
    _returns: Lazy[Type]
    _parameters: Lazy[tuple[Parameter, ...]]
    _variadic: Lazy[bool]
    prototyped: bool

    def __init__(
        self,
        returns: Lazy[Type],
        parameters: Lazy[tuple[Parameter, ...]],
        *,
        variadic: Lazy[bool] = False,
        prototyped: bool = True,
    ) -> None:
        self._fill(
            _returns=returns, _parameters=parameters, _variadic=variadic, prototyped=prototyped
        )

    @property
    def returns(self) -> Type:
        """What it returns."""
        found: Type = self._look_up("_returns")
        return found

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Those that are named in the prototype."""
        found: tuple[Parameter, ...] = self._look_up("_parameters")
        return found

    @property
    def variadic(self) -> bool:
        """Whether more may follow (``...``)."""
        return bool(self._look_up("_variadic"))


class Declarator:
    """Writes declarations, and stops where a damaged file would make one endless."""

    def __init__(self) -> None:
        self._left = MAX_TEXT
        self._depth = 0

    def declare(self, ctype: Type, name: str, body: Body, *, resolve: bool = False) -> str:
        """Return the declaration of ``name`` in the style of the language, from the inside out.

        Args:
            ctype: the type.
            name: what has it; empty for the text of the type alone.
            body: gives what is shown in braces, these included, of a structure, a union or an
                enumeration; None where its name is shown.
            resolve: whether typedefs are looked through.
        """
        if self._left <= 0 or self._depth >= MAX_DEPTH:
            return CUT
        self._depth += 1
        declarator = name
        of_pointer = False  # arrays and functions bind closer than the star
        spaced = bool(name)
        inherited = NO_QUALIFIERS  # an array is as const as its elements
        for _ in range(MAX_CHAIN):
            qualifiers, node = peel(ctype, through_typedefs=resolve)
            qualifiers |= inherited
            inherited = NO_QUALIFIERS
            if isinstance(node, Pointer):
                words = "".join(f" {word}" for word in _words(qualifiers))
                declarator = f"*{words}{' ' if words and spaced else ''}{declarator}"
                ctype, of_pointer, spaced = node.target, True, True
            elif isinstance(node, Array):
                declarator = f"({declarator})" if of_pointer else declarator
                declarator += self._dimension(node)
                ctype, of_pointer, inherited = node.element, False, qualifiers
            elif isinstance(node, Function):
                declarator = f"({declarator})" if of_pointer else declarator
                declarator += self._parameters(node)
                ctype, of_pointer, spaced = node.returns, False, False
            else:
                base = self._base(qualifiers, node, body, resolve=resolve)
                break
        else:
            base = CUT
        space = " " if declarator and not declarator.startswith(" ") else ""
        text = base + space + declarator
        self._left -= len(text)
        self._depth -= 1
        return text

    @staticmethod
    def _dimension(array: Array) -> str:
        count = "" if array.count is None else str(array.count)
        return f" __attribute__ ((vector_size({count})))" if array.vector else f"[{count}]"

    def _parameters(self, function: Function) -> str:
        parameters = []
        for parameter in function.parameters:
            if self._left <= 0:
                break
            parameters.append(self.declare(parameter.type, "", elided))
        if not parameters:
            return "(void)" if function.prototyped else "()"
        return f"({', '.join(parameters + ['...'] * function.variadic)})"

    @staticmethod
    def _base(qualifiers: Qualifier, node: Type, body: Body, *, resolve: bool) -> str:
        """Return what stands before the declarator: a name, or a definition."""
        words = _words(qualifiers)
        if isinstance(node, Compound | Enum) and (braces := body(node)) is not None:
            return " ".join((*words, node.keyword, *([node.tag] if node.tag else []), braces))
        if isinstance(node, Void) and resolve:
            return node.name
        return " ".join((*words, node.name or CUT))


def elided(node: Compound | Enum) -> str | None:
    """Return ``{...}`` for what has no tag, as gdb writes it; None for what has a name."""
    return "{...}" if node.tag is None else None


def peel(ctype: Type, *, through_typedefs: bool = False) -> tuple[Qualifier, Type]:
    """Return all qualifiers of a type, and the type without them."""
    qualifiers = NO_QUALIFIERS
    for _ in range(MAX_CHAIN):
        if isinstance(ctype, Qualified):
            qualifiers |= ctype.qualifiers
        elif not (through_typedefs and isinstance(ctype, Typedef)):
            break
        ctype = ctype.target
    return qualifiers, ctype


def _words(qualifiers: Qualifier) -> list[str]:
    return [word for qualifier, word in _WORDS.items() if qualifier in qualifiers]


KEYWORDS: Mapping[str, type[Tagged]] = MappingProxyType(
    {kind.keyword: kind for kind in (Struct, Union, Enum)}
)
"""The classes of types that have a tag, by their keyword."""
