"""Call frame information: .debug_frame and .eh_frame (DWARF 5, section 6.4; LSB, .eh_frame).

Contents: an index of the frame description entries (FDEs), and the interpreter of one. Not here:
DWARF expressions (`expressions`), and what to do with the rules.

Not by pyelftools: measured on a kernel, it takes 14 ms to be imported and 100 µs for one FDE, where
the interpreter below takes 27 µs; and 4.8 s for the index of 46,093 FDEs, here 17 ms.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from rsp.errors import BadImage
from rsp.symbols.cache.cache import Cache
from rsp.symbols.cache.sort_order import load_order, store_order
from rsp.symbols.dwarf.leb import sleb, uleb
from rsp.symbols.elf.image import SHF_EXECINSTR
from rsp.symbols.unwind.rules import (
    AtCfa,
    AtExpression,
    CfaExpression,
    FrameKind,
    InRegister,
    RegisterOffset,
    SameValue,
    Undefined,
    UnwindRules,
    ValCfa,
    ValExpression,
    abi_rules,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import NoReturn

    from rsp.symbols.elf.image import Image
    from rsp.symbols.unwind.rules import CfaRule, RegisterRule

_REGISTERS = 1 << 10
"""Numbers from here on name no register of an x86; a flipped byte can make one."""
_LARGEST_CIE = 1 << 12
"""A CIE has some dozens of bytes; its instructions are run for each of its FDEs."""
_STATES = 64
"""How many states are remembered at once; compilers nest one or two."""

# Encodings of pointers in .eh_frame (LSB, "DWARF Exception Header Encoding").
_ABSOLUTE, _ULEB, _SLEB, _PC_RELATIVE, _INDIRECT = 0x00, 0x01, 0x09, 0x10, 0x80
_FIXED_SIZES = {0x02: 2, 0x03: 4, 0x04: 8, 0x0A: 2, 0x0B: 4, 0x0C: 8}
_BASES = {0x20: ".text", 0x30: ".got"}  # what gdb takes them relative to

# By the size of an address: length, CIE and begin of an FDE whose addresses are not encoded.
_PLAIN_FDES = {4: struct.Struct("<III"), 8: struct.Struct("<IIQ")}


class _Cie(NamedTuple):
    """A common information entry, what several FDEs share."""

    code_factor: int
    data_factor: int
    return_address: int
    word_size: int
    encoding: int  # of the addresses in its FDEs
    augmented: bool  # whether these have augmentation data
    signal_frame: bool
    program: bytes  # its initial instructions


class CallFrames:
    """The call frame information of an image, by address.

    An entry that is damaged ends the pass over its section, as the next one may be anywhere;
    `damage` has it then.

    Args:
        image: the file, or a module that has been given its addresses.
        cache: keeps where the entries are between processes.

    >>> from rsp.symbols.elf.image import Image
    >>> from rsp.testing.boot import ELF
    >>> frames = CallFrames(Image(ELF))
    >>> len(frames), frames.rules_at(0x7CC7).registers[16]
    (2, Undefined())
    """

    def __init__(self, image: Image, cache: Cache | None = None) -> None:
        self._image = image
        self._cache = cache or Cache.off()
        self.damage: BadImage | None = None

    def __len__(self) -> int:
        return len(self._order)

    def rules_at(self, address: int) -> UnwindRules | None:
        """Return the rules for an address, None where no entry covers it.

        Raises:
            BadImage: the entry makes no sense.
        """
        return next((rules for rules in self.rows_at(address) if address < rules.end), None)

    def rows_at(self, address: int) -> Iterator[UnwindRules]:
        """Yield the rules for each part of the code that an entry covers, by address.

        Raises:
            BadImage: the entry makes no sense.
        """
        last = bisect_right(self._order, address, key=self._begin) - 1
        if last >= 0:
            place = self._order[last]
            yield from self._section(place).rows(place, address, abi_rules(self._image.machine))

    @cached_property
    def _sections(self) -> tuple[_Section, _Section]:
        first = _Section(self._image, ".eh_frame")
        return first, _Section(self._image, ".debug_frame", first.end)

    @cached_property
    def _order(self) -> Sequence[int]:
        """The places of the FDEs, by address.

        Of two for the same address the later counts: that of .debug_frame.
        """
        first, second = self._sections
        kept = load_order(self._cache, self._image.address_key, "frames", limit=second.end)
        if kept is not None:
            return kept
        begins = first.begins() | second.begins()
        order = sorted(begins, key=begins.__getitem__)
        if not any(each.flags & SHF_EXECINSTR and each.holds(0) for each in self._image.sections):
            # What is at zero then are functions that the linker has thrown away.
            del order[: bisect_right(order, 0, key=begins.__getitem__)]
        self.damage = second.damage or first.damage
        if self.damage is None:
            store_order(self._cache, self._image.address_key, "frames", order)
        return order

    def _begin(self, place: int) -> int:
        return self._section(place).begin(place)

    def _section(self, place: int) -> _Section:
        first, second = self._sections
        return first if place < first.end else second


class _Section:
    """The entries of one of the two sections, which differ in how they point to each other.

    Args:
        image: the file.
        name: the section's name.
        start: its place: entries are counted through both sections.

    Attributes:
        contents: its bytes.
        end: the place behind it.
        damage: what is wrong with the entry that `begins` ended at.
    """

    def __init__(self, image: Image, name: str, start: int = 0) -> None:
        self._image = image
        self.contents = image.contents(name)
        self._start = start
        self.end = start + len(self.contents)
        section = image.named(name)
        self._address = section.address if section else 0
        self._eh = name == ".eh_frame"
        self._cies: dict[int, _Cie] = {}
        self._read: dict[bytes, _Cie] = {}
        # CIEs whose FDEs begin with two whole addresses: all of them in .debug_frame.
        self._plain: set[int] = set()
        self._begins: dict[int, int] = {}
        self.damage: BadImage | None = None

    def begins(self) -> dict[int, int]:
        """Return where the code of each FDE begins, up to the first entry that is damaged."""
        try:
            self._collect()
        except BadImage as damage:
            self.damage = damage
        return self._begins

    def begin(self, place: int) -> int:
        """Return where the code of the FDE at a place begins.

        Raises:
            BadImage: no FDE is there.
        """
        begin = self._begins.get(place)
        if begin is None:
            begin = self._begins[place] = self._fde(place - self._start)[2]
        return begin

    def _collect(self) -> None:
        view, size, start = self.contents.view, len(self.contents), self._start
        layout = _PLAIN_FDES[self._image.word_size]
        shortest = 4 + 2 * self._image.word_size
        offset = 0
        while offset + 8 <= size:
            whole = offset + layout.size <= size
            length, cie_at, begin = layout.unpack_from(view, offset) if whole else (0, 0, 0)
            end = offset + 4 + length
            if cie_at in self._plain and shortest <= length < 0xFFFFFFF0 and end <= size:
                self._begins[start + offset] = begin
            else:
                end = self._collect_one(offset)
            offset = end

    def _collect_one(self, offset: int) -> int:
        """Note an entry of any kind, and return where it ends."""
        if not self.contents.unsigned(offset, 4):
            return offset + 4  # a terminator, which ends what one object file had
        cie_at, cursor, end = self._entry(offset)
        if cie_at is None:
            cie = self._cies[offset] = self._known_cie(offset, cursor)
            whole = cie.encoding == _ABSOLUTE and cie.word_size == self._image.word_size
            if whole and not self._eh:
                self._plain.add(offset)
        else:
            self._begins[self._start + offset] = self._addresses(self._cie(cie_at), cursor)[0]
        return end

    def rows(
        self, place: int, address: int, initial: Mapping[int, RegisterRule]
    ) -> Iterator[UnwindRules]:
        """Run an FDE's instructions, and yield the rules that are valid up to each advance.

        There are none if it does not cover the address.

        Raises:
            BadImage: they make no sense.
        """
        cie, cursor, begin, end = self._fde(place - self._start)
        if address >= end:
            return
        state = _State(cie, initial, begin)
        program = cursor
        cursor = _Cursor(cie.program)
        try:
            while cursor.left:
                self._step(cie, cursor, state)
            if state.location != begin:
                raise ValueError("a CIE that advances")
            state.initial = dict(state.registers)
            cursor = program
            while cursor.left:
                self._step(cie, cursor, state)
                if state.location > begin:
                    yield state.rules(begin, min(state.location, end))
                    begin = state.location
            if begin < end:
                yield state.rules(begin, end)
        except (IndexError, ValueError) as error:
            self._fail(cursor, error)

    def _step(self, cie: _Cie, cursor: _Cursor, state: _State) -> None:
        opcode = cursor.fixed(1)
        low = opcode & 0x3F
        match opcode & 0xC0:
            case 0x40:
                state.advance(low)
            case 0x80:
                state.at_cfa(low, cursor.uleb() * cie.data_factor)
            case 0xC0:
                state.restore(low)
            case _:
                if opcode not in _INSTRUCTIONS:
                    raise ValueError(f"an unknown instruction, {opcode:#x}")
                forms, run = _INSTRUCTIONS[opcode]
                run(state, *[self._operand(form, cie, cursor) for form in forms])

    def _operand(self, form: str, cie: _Cie, cursor: _Cursor) -> int | bytes:
        match form:
            case "u":
                return cursor.uleb()
            case "f":
                return cursor.uleb() * cie.data_factor
            case "F":
                return cursor.sleb() * cie.data_factor
            case "b":
                return cursor.take(cursor.uleb())
            case "a":
                return self._pointer(cie, cursor)
            case _:
                return cursor.fixed(int(form))

    def _fde(self, offset: int) -> tuple[_Cie, _Cursor, int, int]:
        """Return the CIE of the FDE at an offset, its instructions, and the code it is for."""
        cie_at, cursor, _ = self._entry(offset)
        if cie_at is None:
            self.contents.fail(offset, "no FDE begins here")
        cie = self._cie(cie_at)
        begin, covered = self._addresses(cie, cursor)
        return cie, cursor, begin, begin + covered

    def _entry(self, offset: int) -> tuple[int | None, _Cursor, int]:
        """Return where an entry's CIE is, None if it is one; the rest of it, and where it ends."""
        contents = self.contents
        length, at, width = contents.unsigned(offset, 4), offset + 4, 4
        if length == 0xFFFFFFFF:
            length, at, width = contents.unsigned(offset + 4, 8), offset + 12, 8
        end = at + length
        if end > len(contents) or length < width:
            contents.fail(offset, f"an entry of {length} bytes")
        ident = contents.unsigned(at, width)
        cursor = _Cursor(contents[at + width : end], at + width)
        if ident == (0 if self._eh else (1 << 8 * width) - 1):
            return None, cursor, end
        return (at - ident if self._eh else ident), cursor, end

    def _cie(self, offset: int) -> _Cie:
        cie = self._cies.get(offset)
        if cie is None:
            of_another, cursor, _ = self._entry(offset)
            if of_another is not None:
                self.contents.fail(offset, "no CIE begins here")
            cie = self._cies[offset] = self._known_cie(offset, cursor)
        return cie

    def _known_cie(self, offset: int, cursor: _Cursor) -> _Cie:
        """Return what a CIE says: each object file has its own, all of them alike."""
        cie = self._read.get(cursor.data)
        if cie is None:
            if len(cursor.data) > _LARGEST_CIE:
                self.contents.fail(offset, "a CIE that is too large")
            try:
                cie = self._read[cursor.data] = self._read_cie(cursor)
            except (IndexError, ValueError) as error:
                self._fail(cursor, error)
        return cie

    def _read_cie(self, cursor: _Cursor) -> _Cie:
        version = cursor.fixed(1)
        if version not in (1, 3, 4):
            raise ValueError(f"a CIE of version {version}")
        augmentation = cursor.c_string()
        word_size = self._image.word_size
        if augmentation == b"eh":  # gcc 2's: a pointer that nobody needs
            cursor.take(word_size)
        elif augmentation and not augmentation.startswith(b"z"):
            raise ValueError("a CIE with an augmentation that is not known")
        if version == 4:
            word_size = cursor.fixed(1)
            if word_size not in (4, 8) or cursor.fixed(1):
                raise ValueError("a CIE with addresses of an unknown form")
        code_factor, data_factor = cursor.uleb(), cursor.sleb()
        return_address = cursor.fixed(1) if version == 1 else cursor.uleb()
        encoding = _ABSOLUTE
        if augmentation.startswith(b"z"):
            data = _Cursor(cursor.take(cursor.uleb()))
            for letter in augmentation[1:].decode("latin-1"):
                if letter == "R":
                    encoding = data.fixed(1)
                elif letter == "L":  # the encoding of a pointer in the FDEs' augmentation data
                    data.take(1)
                elif letter == "P":
                    data.skip_pointer(word_size)
                elif letter != "S":  # what follows a letter that is not known cannot be told
                    break
        return _Cie(
            code_factor=code_factor,
            data_factor=data_factor,
            return_address=return_address,
            word_size=word_size,
            encoding=encoding,
            augmented=augmentation.startswith(b"z"),
            signal_frame=b"S" in augmentation,
            program=cursor.take(cursor.left),
        )

    def _addresses(self, cie: _Cie, cursor: _Cursor) -> tuple[int, int]:
        """Return where an FDE's code begins, and how much it is; its instructions come next."""
        try:
            begin = self._pointer(cie, cursor)
            covered = self._pointer(cie, cursor, relative=False)
            if cie.augmented:
                cursor.take(cursor.uleb())
        except (IndexError, ValueError) as error:
            self._fail(cursor, error)
        return begin, covered

    def _pointer(self, cie: _Cie, cursor: _Cursor, *, relative: bool = True) -> int:
        """Return an encoded address; or a length, which is never relative to anything."""
        form, base = cie.encoding & 0x0F, cie.encoding & 0x70
        at = self._address + cursor.origin + cursor.position
        if form in (_ULEB, _SLEB):
            value = cursor.uleb() if form == _ULEB else cursor.sleb()
        else:
            size = cie.word_size if form == _ABSOLUTE else _FIXED_SIZES.get(form)
            if size is None or cie.encoding & _INDIRECT:
                raise ValueError(f"a pointer encoded as {cie.encoding:#x}")
            value = cursor.fixed(size)
            if form > _SLEB and relative and value >> 8 * size - 1:
                value -= 1 << 8 * size
        if relative and base == _PC_RELATIVE:
            value += at
        elif relative and base:
            section = self._image.named(_BASES.get(base, ""))
            if section is None:
                raise ValueError(f"a pointer encoded as {cie.encoding:#x}")
            value += section.address
        return value & (1 << 8 * cie.word_size) - 1

    def _fail(self, cursor: _Cursor, error: Exception) -> NoReturn:
        # An IndexError says no more than that the bytes ended.
        what = str(error) if isinstance(error, ValueError) else "an entry that ends too early"
        raise self.contents.damage(cursor.origin + cursor.position, what) from error


class _State:
    """The rules while the instructions of an entry run; each method is what one of them does."""

    def __init__(self, cie: _Cie, initial: Mapping[int, RegisterRule], location: int) -> None:
        self._cie = cie
        self._remembered: list[tuple[CfaRule | None, dict[int, RegisterRule]]] = []
        self._cfa: CfaRule | None = None
        self.initial = initial
        self.registers = dict(initial)
        self.location = location

    def rules(self, begin: int, end: int) -> UnwindRules:
        cie = self._cie
        if self._cfa is None:
            raise ValueError("no rule for the CFA")
        outermost = isinstance(self.registers.get(cie.return_address), Undefined)
        return UnwindRules(
            begin=begin,
            end=end,
            cfa=self._cfa,
            registers=dict(self.registers),
            return_address=cie.return_address,
            signal_frame=cie.signal_frame,
            kind=FrameKind.END if outermost else FrameKind.CALL,
        )

    def nop(self, *_: int) -> None:
        pass

    def set_location(self, address: int) -> None:
        self.location = address

    def advance(self, delta: int) -> None:
        self.location += delta * self._cie.code_factor

    def set(self, register: int, rule: RegisterRule) -> None:
        if register >= _REGISTERS:
            raise ValueError(f"a rule for register {register}")
        self.registers[register] = rule

    def at_cfa(self, register: int, offset: int) -> None:
        self.set(register, AtCfa(offset))

    def at_cfa_negative(self, register: int, offset: int) -> None:
        self.set(register, AtCfa(-offset))

    def val_cfa(self, register: int, offset: int) -> None:
        self.set(register, ValCfa(offset))

    def undefined(self, register: int) -> None:
        self.set(register, Undefined())

    def same_value(self, register: int) -> None:
        self.set(register, SameValue())

    def in_register(self, register: int, other: int) -> None:
        self.set(register, InRegister(other))

    def at_expression(self, register: int, expression: bytes) -> None:
        self.set(register, AtExpression(expression))

    def val_expression(self, register: int, expression: bytes) -> None:
        self.set(register, ValExpression(expression))

    def restore(self, register: int) -> None:
        if register in self.initial:
            self.registers[register] = self.initial[register]
        else:
            self.registers.pop(register, None)

    def remember(self) -> None:
        if len(self._remembered) >= _STATES:
            raise ValueError(f"more than {_STATES} states to remember")
        self._remembered.append((self._cfa, dict(self.registers)))

    def recall(self) -> None:
        if not self._remembered:
            raise ValueError("no state to restore")
        self._cfa, self.registers = self._remembered.pop()

    def def_cfa(self, register: int, offset: int) -> None:
        self._cfa = RegisterOffset(register, offset)

    def def_cfa_register(self, register: int) -> None:
        self._cfa = RegisterOffset(register, self._register_offset().offset)

    def def_cfa_offset(self, offset: int) -> None:
        self._cfa = RegisterOffset(self._register_offset().register, offset)

    def def_cfa_expression(self, expression: bytes) -> None:
        self._cfa = CfaExpression(expression)

    def _register_offset(self) -> RegisterOffset:
        if isinstance(self._cfa, RegisterOffset):
            return self._cfa
        raise ValueError("a change to a CFA that is no register and offset")


# The instructions (DWARF 5, table 7.29) and their operands: 1, 2, 4 bytes, an (a)ddress, an
# (u)nsigned LEB128, one that is (f)actored by the CIE's data alignment, such a signed one (F), a
# (b)lock. The three that hold an operand in their low six bits are not here.
_INSTRUCTIONS: dict[int, tuple[str, Callable[..., None]]] = {
    0x00: ("", _State.nop),
    0x01: ("a", _State.set_location),
    0x02: ("1", _State.advance),
    0x03: ("2", _State.advance),
    0x04: ("4", _State.advance),
    0x05: ("uf", _State.at_cfa),  # offset_extended
    0x06: ("u", _State.restore),  # restore_extended
    0x07: ("u", _State.undefined),
    0x08: ("u", _State.same_value),
    0x09: ("uu", _State.in_register),
    0x0A: ("", _State.remember),
    0x0B: ("", _State.recall),
    0x0C: ("uu", _State.def_cfa),
    0x0D: ("u", _State.def_cfa_register),
    0x0E: ("u", _State.def_cfa_offset),
    0x0F: ("b", _State.def_cfa_expression),
    0x10: ("ub", _State.at_expression),
    0x11: ("uF", _State.at_cfa),  # offset_extended_sf
    0x12: ("uF", _State.def_cfa),  # def_cfa_sf
    0x13: ("F", _State.def_cfa_offset),  # def_cfa_offset_sf
    0x14: ("uf", _State.val_cfa),
    0x15: ("uF", _State.val_cfa),  # val_offset_sf
    0x16: ("ub", _State.val_expression),
    0x2E: ("u", _State.nop),  # GNU_args_size
    0x2F: ("uf", _State.at_cfa_negative),  # GNU_negative_offset_extended
}


class _Cursor:
    """Bytes that are read one after the other.

    Raises:
        IndexError: they end.
        ValueError: a number is too long.
    """

    __slots__ = ("data", "origin", "position")

    def __init__(self, data: bytes, origin: int = 0) -> None:
        self.data = data
        self.origin = origin
        self.position = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, size: int) -> bytes:
        begin, self.position = self.position, self.position + size
        if self.position > len(self.data):
            raise IndexError
        return self.data[begin : self.position]

    def fixed(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def uleb(self) -> int:
        value, self.position = uleb(self.data, self.position)
        return value

    def sleb(self) -> int:
        value, self.position = sleb(self.data, self.position)
        return value

    def c_string(self) -> bytes:
        end = self.data.index(b"\0", self.position)
        return self.take(end + 1 - self.position)[:-1]

    def skip_pointer(self, word_size: int) -> None:
        form = self.fixed(1) & 0x0F
        if form in (_ULEB, _SLEB):
            self.uleb()
        else:
            self.take(_FIXED_SIZES.get(form, word_size))
