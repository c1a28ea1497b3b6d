"""Types as C text: names, declarations and definitions, as gdb 13 prints them.

Here live: the order in which C writes a declarator, and the columns of `ptype /o`. Here must not
live: what a type is (`types`), and where it comes from.

gdb is the measure, down to the blank (checked on gdb 13.1): what looks odd here, as a
structure's offsets counting from 0 behind a pointer to it, is odd there.
"""

from __future__ import annotations

from rsp.symbols.types.types import (
    MAX_CHAIN,
    Array,
    Compound,
    Enum,
    Function,
    Pointer,
    Qualified,
    Qualifier,
    Type,
    Typedef,
    Union,
    Void,
)

MAX_DEPTH = 48
"""How deep structures and parameters are shown within each other."""
MAX_TEXT = 1 << 24
"""About how many characters are written; the largest definition of a kernel has some 200,000."""

_MARGIN = 27  # the width of ptype /o's columns
_HEADER = "/* offset      |    size */  "
_INDENT = 4
_WORDS = {
    Qualifier.CONST: "const",
    Qualifier.VOLATILE: "volatile",
    Qualifier.RESTRICT: "restrict",
    Qualifier.ATOMIC: "_Atomic",
}
_NONE = Qualifier(0)
_CUT = "..."  # stands for what is too deep or too long, which only a damaged file makes


def declaration(ctype: Type, name: str) -> str:
    """Return the C declaration of ``name``, or the type's own name where that is empty."""
    return _Writer(offsets=False).declare(ctype, name, show=-1)


def definition(ctype: Type, *, offsets: bool = False) -> str:
    """Return the C text of a type: what gdb's ``ptype`` prints behind ``type = ``.

    Args:
        ctype: typedefs on the outside are looked through.
        offsets: with the offsets, sizes and holes of ``ptype /o``.

    >>> from rsp.symbols.types.types import Integer, Member, Struct
    >>> byte = Integer("unsigned char", 1, signed=False)
    >>> print(definition(Struct("pair", 2, (Member(name="low", type=byte, offset=0),))))
    struct pair {
        unsigned char low;
    }
    """
    text = _Writer(offsets=offsets).declare(ctype, "", show=1)
    # gdb leaves the header out for a typedef of a structure.
    bare = _peel(ctype, through_typedefs=False)[1]
    return _HEADER + text if offsets and isinstance(bare, Compound) else text


def _peel(ctype: Type, *, through_typedefs: bool) -> tuple[Qualifier, Type]:
    """Return all qualifiers of a type, and the type without them."""
    qualifiers = _NONE
    for _ in range(MAX_CHAIN):
        if isinstance(ctype, Qualified):
            qualifiers |= ctype.qualifiers
        elif not (through_typedefs and isinstance(ctype, Typedef)):
            break
        ctype = ctype.target
    return qualifiers, ctype


def _words(qualifiers: Qualifier) -> list[str]:
    return [word for qualifier, word in _WORDS.items() if qualifier in qualifiers]


class _Columns:
    """Where ``ptype /o`` is: gdb keeps one of these for the members of each structure.

    Attributes:
        start: of the structure, in bits from the start of the outermost.
        end: of the member before, in bits from the start of the structure.
    """

    __slots__ = ("end", "start")

    def __init__(self) -> None:
        self.start = 0
        self.end = 0

    def enter(self, outer: _Columns, offset: int, size: int) -> None:
        """Begin a structure of ``size`` bits; ``outer`` is behind it already."""
        self.start = outer.start + offset
        # Within a union that did not move outer.end; gdb's numbers are unsigned.
        self.end = (outer.end - size) & 0xFFFFFFFF

    def hole(self, position: int, kind: str) -> list[str]:
        """Return the lines about the bits between the last member and a position."""
        if not 0 < self.end < position:
            return []
        size, bits = divmod(position - self.end, 8)
        lines = []
        if bits:
            lines.append(f"/* XXX {bits:2}-bit {kind:<7}    */")
        if size:
            lines.append(f"/* XXX {size:2}-byte {kind:<7}   */")
        return lines


class _Writer:
    """Writes one text, and stops where a damaged file would make it endless.

    What is shown of a structure depends on ``show``, as in gdb: 1 shows the members even if it has
    a tag, 0 only if it has none, -1 never.
    """

    def __init__(self, *, offsets: bool) -> None:
        self._offsets = offsets
        self._left = MAX_TEXT
        self._depth = 0

    def declare(
        self,
        ctype: Type,
        name: str,
        *,
        show: int,
        level: int = 0,
        columns: _Columns | None = None,
    ) -> str:
        """Return the declaration of ``name`` in the style of the language, from the inside out."""
        if self._left <= 0 or self._depth >= MAX_DEPTH:
            return _CUT
        self._depth += 1
        declarator = name
        of_pointer = False  # arrays and functions bind closer than the star
        spaced = bool(name)
        inherited = _NONE  # an array is as const as its elements
        for _ in range(MAX_CHAIN):
            qualifiers, node = _peel(ctype, through_typedefs=show > 0)
            qualifiers |= inherited
            inherited = _NONE
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
                base = self._base(qualifiers, node, show, level, columns or _Columns())
                break
        else:
            base = _CUT
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
            parameters.append(self.declare(parameter.type, "", show=-1))
        if not parameters:
            return "(void)" if function.prototyped else "()"
        return f"({', '.join(parameters + ['...'] * function.variadic)})"

    def _base(
        self, qualifiers: Qualifier, node: Type, show: int, level: int, columns: _Columns
    ) -> str:
        """Return what stands before the declarator: a name, or a definition."""
        words = _words(qualifiers)
        if isinstance(node, Compound | Enum) and (show > 0 or node.tag is None):
            words += [node.keyword] + ([node.tag] if node.tag else [])
            if show < 0:
                body = "{...}"
            elif isinstance(node, Enum):
                body = self._enumerators(node)
            else:
                body = self._members(node, show, level, columns)
            return " ".join((*words, body))
        if isinstance(node, Void) and show > 0:
            return node.name
        return " ".join((*words, node.name or _CUT))

    @staticmethod
    def _enumerators(enum: Enum) -> str:
        texts = []
        expected = 0
        for name, unsigned in enum.enumerators.items():
            value = unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned
            texts.append(name if value == expected else f"{name} = {value}")
            expected = value + 1
        return "{" + ", ".join(texts) + "}"

    def _members(self, node: Compound, show: int, level: int, columns: _Columns) -> str:
        margin = " " * _MARGIN if self._offsets else ""
        indent = " " * (level + _INDENT)
        lines = ["{"]
        members = node.members
        if not members:
            what = "<no data fields>" if node.complete else "<incomplete type>"
            lines.append(f"{margin}{indent}{what}")
        inner = _Columns()
        for member in members:
            if self._left <= 0:
                lines.append(f"{margin}{indent}{_CUT}")
                break
            inner_show = show - 1
            position = member.offset * 8 + (member.bit_offset or 0)
            before = ""
            if self._offsets:
                size = member.size
                if isinstance(node, Union):
                    before = f"/*                {size:6} */"
                else:
                    lines += columns.hole(position, "hole")
                    before = self._place(columns, position, size, member.bit_size)
                if isinstance(_peel(member.type, through_typedefs=False)[1], Compound):
                    inner_show = show
                    inner.enter(columns, position, size * 8)
            declared = self.declare(
                member.type,
                member.name or "",
                show=inner_show,
                level=level + _INDENT,
                columns=inner,
            )
            width = "" if member.bit_size is None else f" : {member.bit_size}"
            lines.append(f"{before}{indent}{declared}{width};")
        if self._offsets:
            if show > 0:
                lines += columns.hole((node.size or 0) * 8, "padding")
                lines += ["", f"{margin}{indent}/* total size (bytes): {node.size or 0:4} */"]
            margin += "" if level else "  "
        lines.append(f"{margin}{' ' * level}}}")
        return "\n".join(lines)

    @staticmethod
    def _place(columns: _Columns, position: int, size: int, bit_size: int | None) -> str:
        byte, bit = divmod(columns.start + position, 8)
        columns.end = position + (size * 8 if bit_size is None else bit_size)
        if bit_size is None and columns.start % 8 == 0:
            return f"/* {byte:6}      |  {size:6} */"
        return f"/* {byte:6}:{bit:2}   |  {size:6} */"
