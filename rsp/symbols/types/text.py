"""The definitions of types as C text, as gdb 13 prints them.

Contents: the members of structures, one a line, and the columns of `ptype /o`. Not here: what a
type is and how something of it is declared (`types`), and where it comes from.

gdb is the measure, down to the blank (checked on gdb 13.1): what looks odd here, as a
structure's offsets counting from 0 behind a pointer to it, is odd there.
"""

from __future__ import annotations

from rsp.symbols.types.types import CUT, Compound, Declarator, Enum, Type, Union, elided, peel

_MARGIN = 27  # the width of ptype /o's columns
_HEADER = "/* offset      |    size */  "
_INDENT = 4


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
    text = _Writer(offsets=offsets).write(ctype, "", show=1)
    # gdb leaves the header out for a typedef of a structure.
    bare = peel(ctype)[1]
    return _HEADER + text if offsets and isinstance(bare, Compound) else text


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


class _Writer(Declarator):
    """Writes one text.

    What is shown of a structure depends on ``show``, as in gdb: 1 shows the members even if it has
    a tag, 0 only if it has none, -1 never.
    """

    def __init__(self, *, offsets: bool) -> None:
        super().__init__()
        self._offsets = offsets

    def write(
        self, ctype: Type, name: str, *, show: int, level: int = 0, columns: _Columns | None = None
    ) -> str:
        """Return the declaration of ``name``, with the definition that is to be shown in it."""

        def body(node: Compound | Enum) -> str | None:
            if show < 0 or (show == 0 and node.tag is not None):
                return elided(node)
            if isinstance(node, Enum):
                return self._enumerators(node)
            return self._members(node, show, level, columns or _Columns())

        return self.declare(ctype, name, body, resolve=show > 0)

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
                lines.append(f"{margin}{indent}{CUT}")
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
                if isinstance(peel(member.type)[1], Compound):
                    inner_show = show
                    inner.enter(columns, position, size * 8)
            declared = self.write(
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
