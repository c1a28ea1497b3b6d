"""Values as text: what gdb 13's ``print`` shows, with its default settings, to the last blank.

Contents: the forms of gdb (gdb manual, "Print Settings"; measured on gdb 13.1), where strings and
arrays are cut off, and what a backtrace shows of an argument. Not here: where bytes come from
(`values`), floating point (`scalars`), and which symbol an address has (`symbolic`).

Strings are taken for UTF-8, as gdb does where the user's locale is.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Final, NamedTuple

from rsp.errors import MemoryFault, RspError
from rsp.symbols.at_pc.symbolize import symbolic
from rsp.symbols.types.types import (
    VOID,
    Array,
    Compound,
    Encoding,
    Enum,
    Float,
    Integer,
    Member,
    Pointer,
    Qualified,
    Tagged,
)
from rsp.values.numbers import decode, float_text, is_scalar, is_text, wide_prefix
from rsp.values.strings import read_string
from rsp.values.value import UNTYPED, Value, is_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rsp.symbols.types.types import Type

ELEMENTS: Final = 200
"""``set print elements``: how many elements and characters are shown."""
REPEATS: Final = 10
"""``set print repeats``: how many equal ones are shown one by one."""
MAX_DEPTH: Final = 20
"""``set print max-depth``: how deep structures are shown within each other."""
MAX_VALUE_SIZE: Final = 1 << 16
"""``set max-value-size``: what gdb refuses to print is shown up to this many bytes."""

_REPR_LENGTH: Final = 1000
"""About how many characters ``repr`` shows of a value."""
_REPR_SIZE: Final = 1 << 12
"""How much is read at once for it: of what is larger, a member or an element."""

_DEEPEST: Final = 64  # anonymous structures do not count for MAX_DEPTH
_LONGEST: Final = 1 << 23  # about how many characters are written

_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r"}


def print_text(value: Value) -> str:
    """Return what gdb's ``print`` shows behind ``$1 = ``.

    Raises:
        MemoryFault: the value cannot be read. Where only a string that it points to cannot be, the
            text says so.
        SymbolError: a type is not understood.
    """
    if value.all_absent_ and value.absent_:
        return value.absent_
    prefix = f"({value.type_}) " if _has_prefix(value.type_) else ""
    return prefix + _Printer().show(value, 0)


def repr_text(value: Value) -> str:
    """Return what ``repr`` shows of a value: ``(int)42``, ``(struct node){next = 0x0}``."""
    silence = value.space_.silence()
    text = ""
    try:
        text = f"({value.type_})"
        if value.all_absent_ and value.absent_:
            text += value.absent_
        elif silence is not None and not value.at_hand_:
            text += f"<not read: {silence}>"
        else:
            printer = _Printer(_REPR_LENGTH, _REPR_SIZE, strings=silence is None)
            text += printer.show(value, 0)
    except MemoryFault as fault:
        text += f"<error: Cannot access memory at address {fault.address:#x}>"
    except RspError as error:
        text += f"<error: {error}>"
    most = 2 * _REPR_LENGTH  # the last of its parts may be a long one
    return text if len(text) <= most else f"{text[:most]}..."


def summary_text(value: Value) -> str:
    """Return what gdb's ``backtrace`` shows of an argument: ``...`` for what is no scalar."""
    if value.all_absent_ and value.absent_:
        return value.absent_
    bare = value.type_.resolved
    if isinstance(bare, Compound | Array) and (not isinstance(bare, Tagged) or bare.complete):
        return "..."
    return _Printer().show(value, 2)


def _has_prefix(ctype: Type) -> bool:
    """Return whether the type goes before a pointer: not for one that is shown as a string."""
    if not isinstance(ctype.resolved, Pointer):
        return False
    while isinstance(ctype, Qualified):
        ctype = ctype.target
    if not isinstance(ctype, Pointer):
        return True
    target = ctype.target
    while isinstance(target, Qualified):
        target = target.target
    return target.name != "char" and not wide_prefix(target)


class _Printer:
    """Writes one value, and stops where a damaged type would make it endless.

    Args:
        longest: about how many characters are written.
        at_once: how many bytes are read at once.
        strings: whether strings are read that the value points to.
    """

    def __init__(
        self, longest: int = _LONGEST, at_once: int = MAX_VALUE_SIZE, *, strings: bool = True
    ) -> None:
        self._left = longest
        self._at_once = at_once
        self._strings = strings

    def show(self, value: Value, depth: int, limit: int = MAX_DEPTH) -> str:
        """Return the text of a value that lies ``depth`` structures and arrays deep."""
        text = self._show(value, depth, limit)
        self._left -= len(text)
        return text

    def _show(self, value: Value, depth: int, limit: int) -> str:
        bare = value.type_.resolved
        if isinstance(bare, Tagged) and not bare.complete:
            return "<incomplete type>"
        if isinstance(bare, Compound | Array):
            if depth >= min(limit, _DEEPEST) or self._left <= 0:
                return "{...}"
            if 0 < (bare.size or 0) <= self._at_once and not value.absent_:
                value = value.loaded_()
            if isinstance(bare, Array):
                return self._array(value, bare, depth, limit)
            return self._compound(value, bare, depth, limit)
        if value.absent_:
            return value.absent_
        if is_code(bare):
            return f"{{{value.type_}}} {self._address(value, value.address_ or 0)}"
        if bare is VOID:
            return "void"
        if bare is UNTYPED:
            value.bytes_()  # raises: gdb has an error for it, too
        if not is_scalar(bare):  # one of which the file tells only the name
            return f"<{(bare.name or 'unknown type').strip('<>')}>"
        return self._scalar(value, bare)

    # --- numbers ---

    def _scalar(self, value: Value, bare: Type) -> str:
        data = value.bytes_()
        if isinstance(bare, Float):
            return float_text(bare, data)
        number = decode(bare, data)
        assert isinstance(number, int)
        if isinstance(bare, Pointer):
            return self._pointed(value, bare.target, number)
        if isinstance(bare, Enum):
            return _enum_text(bare, number)
        if isinstance(bare, Integer) and bare.encoding is Encoding.BOOL:
            return {0: "false", 1: "true"}.get(number, str(number))
        if is_text(value.type_):
            return f"{number} {wide_prefix(value.type_)}'{_char_text(data)}'"
        return str(number)

    def _pointed(self, value: Value, target: Type, address: int) -> str:
        """Return an address, and the string at it if that is what it points to."""
        text = self._address(value, address)
        if is_text(target) and address and self._strings:
            text += f" {self._string(value, target, address)}"
        return text

    @staticmethod
    def _address(value: Value, address: int) -> str:
        symbol = symbolic(value.space_.symbols, address)
        return f"{address:#x} {symbol}" if symbol else f"{address:#x}"

    @staticmethod
    def _string(value: Value, ctype: Type, address: int) -> str:
        """Return the string at an address; one that is longer than shown has dots behind it."""
        width = ctype.size or 1
        read, fault = value.space_.read, None
        try:
            # One more, to see whether the string goes on.
            if width == 1:
                data = read_string(read, address, ELEMENTS + 1)
            else:
                data = _read_wide(read, address, width)
        except MemoryFault as error:
            data, fault = error.partial, error
        shown = data[: ELEMENTS * width]
        cut = len(data) > len(shown)
        text = ""
        if shown or fault is None:
            text = string_text(shown, ctype, cut=cut, whole=True)
        if fault is not None and not cut and len(shown) < ELEMENTS * width:
            text += f"<error: Cannot access memory at address {address + len(data):#x}>"
        return text

    # --- arrays and structures ---

    def _array(self, value: Value, array: Array, depth: int, limit: int) -> str:
        element = array.element
        size, count = element.size or 0, array.count
        if not size or not count:
            # Nothing says how long it is: gdb shows where it begins.
            return self._pointed(value, element, value.address_ or 0)
        shown = min(count, max(self._at_once // size, 1))
        cut = shown < count
        if cut and size <= self._at_once:
            part = Member(name=None, type=Array(element, shown), offset=0)
            value = value.member_(part).loaded_()
        if is_text(element) and not value.absent_:
            return string_text(value.bytes_(), element, cut=cut)
        texts, done = self._elements(value, size, shown, depth, limit)
        return "{" + ", ".join(texts) + ("..." if cut or not done else "") + "}"

    def _elements(
        self, value: Value, size: int, count: int, depth: int, limit: int
    ) -> tuple[list[str], bool]:
        """Return the texts of elements, equal ones together, and whether they are all."""
        whole = not value.absent_ and size * count <= self._at_once
        data = value.bytes_() if whole else b""
        texts: list[str] = []
        number = things = 0
        while number < count and things < ELEMENTS and self._left > 0:
            element = value[number]
            repeats = 1
            if whole:
                repeats = _repeats(data, number, size, count)
            elif element.all_absent_:
                rest = (value[each] for each in range(number + 1, count))
                repeats = 1 + sum(1 for _ in _while_absent(rest))
            text = self.show(element, depth + 1, limit)
            if repeats > REPEATS:
                text += f" <repeats {repeats} times>"
                number += repeats
                things += REPEATS
            else:
                number += 1
                things += 1
            texts.append(text)
        return texts, number >= count

    def _compound(self, value: Value, compound: Compound, depth: int, limit: int) -> str:
        texts = []
        for member in compound.members:
            if self._left <= 0:
                texts.append("...")
                break
            part = value.member_(member)
            if member.name is None:
                texts.append(self.show(part, depth + 1, limit + 1))
            else:
                texts.append(f"{member.name} = {self.show(part, depth + 1, limit)}")
        return "{" + (", ".join(texts) or "<No data fields>") + "}"


def _repeats(data: bytes, number: int, size: int, count: int) -> int:
    """Return how many elements from one on are equal."""
    begin = number * size
    element = data[begin : begin + size]
    last = number + 1
    # By doubling steps: a table of a kernel may have thousands of zeros.
    step = 1
    while last < count:
        step = min(step, count - last)
        if data[last * size : (last + step) * size] == element * step:
            last += step
            step *= 2
        elif step == 1:
            break
        else:
            step //= 2
    return last - number


def _while_absent(values: Iterator[Value]) -> Iterator[Value]:
    for value in values:
        if not value.all_absent_:
            return
        yield value


def _read_wide(read: Callable[[int, int], bytes], address: int, width: int) -> bytes:
    """Read wide characters up to a NUL, or one more than are shown; the error of `read_string`."""
    data = b""
    while len(data) <= ELEMENTS * width:
        try:
            unit = read(address + len(data), width)
        except MemoryFault as fault:
            fault.partial = data
            raise
        if not any(unit):
            break
        data += unit
    return data


def _enum_text(enum: Enum, number: int) -> str:
    """Return the enumerator, the flags that make up the number (``(A | B)``), or the number."""
    mask = (1 << 8 * (enum.size or 0)) - 1
    # Negative ones may be written as large ones.
    names = {name: value & mask for name, value in enum.enumerators.items()}
    bits = number & mask
    for name, value in names.items():
        if value == bits:
            return name
    if not _are_flags(enum):
        return str(number - (1 << 64) if number >> 63 == 1 else number)
    found, rest = [], bits
    for name, value in names.items():
        if bits & value:
            found.append(name)
            rest &= ~value
            bits &= ~value
    if rest:
        found.append(f"unknown: {rest:#x}")
    return f"({' | '.join(found)})" if found else "0"


def _are_flags(enum: Enum) -> bool:
    """Return whether gdb takes an enumeration for one of flags: none has more than one bit."""
    return all(
        0 <= value < 1 << 63 and value.bit_count() < 2 for value in enum.enumerators.values()
    )


# --- characters and strings ---


class _Run(NamedTuple):
    """Equal characters in a row; the text is None for bytes that are no character."""

    text: str | None
    data: bytes
    times: int
    incomplete: bool


def string_text(data: bytes, ctype: Type, *, cut: bool = False, whole: bool = False) -> str:
    r"""Return a string as gdb prints it.

    Args:
        data: the bytes.
        ctype: of a character.
        cut: there are more.
        whole: the NUL at its end is not among the bytes.

    >>> string_text(b"hi" + bytes(20), Integer("char", 1, signed=True))
    '"hi", \'\\000\' <repeats 19 times>'
    """
    width = ctype.size or 1
    prefix = wide_prefix(ctype)
    if not cut and not whole and data[-width:].count(0) == width:
        data = data[:-width]
    if not data:
        return f'{prefix}""'
    parts: list[str] = []
    quoted: list[str] = []

    def close() -> None:
        if quoted:
            parts.append(f'"{"".join(quoted)}"')
            quoted.clear()

    escapes = _Escapes(width, '"')
    shown = 0
    for run in _runs(data, width):
        if shown >= ELEMENTS:
            cut = True
            break
        shown += run.times
        if run.incomplete:
            close()
            parts.append(f"<incomplete sequence {escapes.write(run)}>")
        elif run.times > REPEATS:
            close()
            parts.append(f"'{escapes.write(run)}' <repeats {run.times} times>")
        else:
            quoted += [escapes.write(run) for _ in range(run.times)]
    close()
    return prefix + ", ".join(parts) + ("..." if cut else "")


def _char_text(data: bytes) -> str:
    """Return what stands between the quotes of a single character."""
    escapes = _Escapes(len(data), "'")
    return "".join(escapes.write(run) for run in _runs(data, len(data)) for _ in range(run.times))


class _Escapes:
    """Writes characters; after one in hex, a digit would be taken for a part of it."""

    def __init__(self, width: int, quote: str) -> None:
        self._width = width
        self._quote = quote
        self._after_hex = False

    def write(self, run: _Run) -> str:
        after_hex, self._after_hex = self._after_hex, False
        text = run.text
        if text is not None and ord(text) in _ESCAPES:
            return _ESCAPES[ord(text)]
        if text is not None and _is_printable(text) and not (after_hex and text.isdigit()):
            return f"\\{text}" if text in (self._quote, "\\") else text
        units = [
            int.from_bytes(run.data[at : at + self._width], "little")
            for at in range(0, len(run.data), self._width)
        ]
        self._after_hex = units[-1] > 0o777
        return "".join(f"\\{unit:03o}" if unit <= 0o777 else f"\\x{unit:x}" for unit in units)


def _runs(data: bytes, width: int) -> Iterator[_Run]:
    current: _Run | None = None
    for text, piece, incomplete in _characters(data, width):
        if current is not None and current.data == piece and not incomplete:
            current = current._replace(times=current.times + 1)
            continue
        if current is not None:
            yield current
        current = _Run(text, piece, 1, incomplete)
    if current is not None:
        yield current


# By the bytes of a character, as gdb takes them: wchar_t is UTF-32 there.
_DECODERS = {1: codecs.utf_8_decode, 2: codecs.utf_16_le_decode, 4: codecs.utf_32_le_decode}


def _characters(data: bytes, width: int) -> Iterator[tuple[str | None, bytes, bool]]:
    """Yield each character with its bytes, None for bytes that are none; and if they are cut."""
    decode_some = _DECODERS[width]
    position = 0
    while position < len(data):
        if width == 1 and data[position] < 0x80:
            yield chr(data[position]), data[position : position + 1], False
            position += 1
            continue
        text: str | None = None
        length = width
        for length in range(width, min(4, len(data) - position) + 1, width):
            try:
                found, used = decode_some(data[position : position + length], "strict", False)
            except UnicodeDecodeError:
                if width == 1 and _is_cut(data[position : position + _LONGEST_UTF8]):
                    yield None, data[position:], True
                    return
                length = width
                break
            if used:
                text = found
                break
        else:
            yield None, data[position:], True
            return
        yield text, data[position : position + length], False
        position += length


_LONGEST_UTF8 = 6


def _is_cut(tail: bytes) -> bool:
    """Return whether these bytes are the begin of a character to the C library, by their number.

    It knows UTF-8 as it first was, with up to six bytes (glibc, iconv/gconv_simple.c).
    """
    lead = tail[0]
    wanted = next((size for size, last in _LAST_LEADS.items() if lead <= last), 0)
    follow = all(byte & 0xC0 == 0x80 for byte in tail[1:])
    return lead >= _FIRST_LEAD and len(tail) < wanted and follow


_FIRST_LEAD = 0xC2
_LAST_LEADS = {2: 0xDF, 3: 0xEF, 4: 0xF7, 5: 0xFB, 6: 0xFD}


def _is_printable(text: str) -> bool:
    """Return whether the C library says so: private characters, blanks and formats count there."""
    if text.isprintable():
        return True
    from unicodedata import category

    return category(text) in ("Cf", "Co", "Zs")
