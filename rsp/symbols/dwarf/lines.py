"""Line programs: from opcodes to rows, and from rows to the answers that gdb gives.

Contents: the state machine (DWARF 5, section 6.2.5), and the table of a unit, in which an address
has one line. Not here: headers and names of files, and which programs to look at.

A kernel has 4 million rows. They are kept as three arrays, and only those asked for become objects.
"""

from __future__ import annotations

import contextlib
from array import array
from bisect import bisect_right
from functools import cached_property, lru_cache
from itertools import chain, islice
from operator import length_hint
from typing import TYPE_CHECKING, NamedTuple

from rsp.errors import BadImage
from rsp.symbols.dwarf.line_header import LineHeader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from rsp.symbols.dwarf.line_header import Entry
    from rsp.symbols.dwarf.sections import DwarfSections

# A row's state: its flags, its column from COLUMN_SHIFT, its file from FILE_SHIFT.
IS_STMT = 1
END_SEQUENCE = 2
PROLOGUE_END = 4
DISCRIMINATED = 8
COLUMN_SHIFT = 8
FILE_SHIFT = 32

_FIRST_FILE = 1  # of a sequence, also in version 5, whose files count from 0
_FEW = 16
"""So many addresses of a program are looked up before its whole table is made."""
_WINDOW = 16
"""How many rows behind an address are looked at first, for where the next one begins."""

_MAX_COLUMN = (1 << FILE_SHIFT - COLUMN_SHIFT) - 1
_WORD = 0xFFFFFFFFFFFFFFFF
_HALF = 0xFFFFFFFF


class Row(NamedTuple):
    """The code from ``address`` to ``end`` belongs to a line; ``file`` is one of the header's."""

    address: int
    end: int
    file: int
    line: int
    column: int
    is_stmt: bool


class RawRows(NamedTuple):
    """What a program wrote, row by row, and what stopped it before its end, if anything did.

    Attributes:
        addresses: as they are linked, of the size of a word of the machine.
        lines: 0 for code that belongs to no line.
        states: the file, the column, and IS_STMT, END_SEQUENCE, PROLOGUE_END and DISCRIMINATED
            (a discriminator other than 0).
        ends: for each sequence, how many rows there are up to its end; the last has END_SEQUENCE.
        damage: where it made no sense; the rows are those before.
    """

    addresses: array[int]
    lines: array[int]
    states: array[int]
    ends: array[int]
    damage: BadImage | None


class LineProgram:
    """A line program: its header, its rows, and the table that they make.

    Args:
        sections: the DWARF that it is a part of.
        offset: where it begins (DW_AT_stmt_list of its unit).
        comp_dir: DW_AT_comp_dir of its unit, which versions before 5 do not repeat.

    Raises:
        BadImage: there is no header at the offset.

    >>> from rsp.symbols.dwarf.sections import DwarfSections
    >>> from rsp.symbols.elf.image import Image
    >>> from rsp.testing.boot import ELF
    >>> program = LineProgram(DwarfSections(Image(ELF)), 0)
    >>> row = program.table.row_at(0x7CC7)
    >>> program.header.name(row.file), row.line
    ('rsp/testing/boot/boot.S', 155)
    """

    def __init__(self, sections: DwarfSections, offset: int, comp_dir: str = "") -> None:
        self.header: LineHeader = LineHeader(sections, offset, comp_dir)

    def __repr__(self) -> str:
        return f"LineProgram({self.header.offset:#x})"

    @cached_property
    def rows(self) -> RawRows:
        """Its rows, in the order of the program."""
        return run(self.header)

    @cached_property
    def table(self) -> LineTable:
        """Its rows by address and by line, as gdb sees them."""
        return LineTable(self)


class LineTable:
    """The rows of a program by address, where each has one line, chosen as gdb 13 chooses.

    The rules (gdb/dwarf2/read.c and gdb/buildsym.c):

    - A row of line 0, or of a file that is not in the header, changes nothing: what was before goes
      on.
    - Of rows at the same address only those after the last change of the file count; but a row that
      is no statement does not change the file at an address that has a statement.
    - Rows of the same line and file are one where a discriminator tells them apart.
    - What the linker dropped has the address 0, or the highest: such a sequence is left out, if the
      program has code elsewhere, and no code is at 0, as that of an object is.

    Addresses are those of the link. Between two sequences there is no line.
    """

    def __init__(self, program: LineProgram) -> None:
        self._program = program
        self._rows = program.rows
        self._asked = 0

    def __iter__(self) -> Iterator[Row]:
        """Iterate over its rows, by address."""
        states, rows, addresses = self._rows.states, self._kept, self._addresses
        return (
            self._row(rows, addresses, at)
            for at, kept in enumerate(rows)
            if not states[kept] & END_SEQUENCE
        )

    def row_at(self, address: int) -> Row | None:
        """Return the row that an address lies in (gdb: ``info line *ADDRESS``)."""
        kept, addresses = self._kept_around(address)
        at = bisect_right(addresses, address) - 1
        if at < 0:
            return None
        states = self._rows.states
        if states[kept[at]] & END_SEQUENCE:
            return None
        # The last row of an address, or the last statement there if the last is none.
        best = at
        while not states[kept[best]] & IS_STMT:
            best -= 1
            if best < 0 or addresses[best] != addresses[at] or states[kept[best]] & END_SEQUENCE:
                best = at
                break
        return self._row(kept, addresses, best)

    def prologue_end(self, begin: int, end: int) -> int | None:
        """Return the first address in a range that the compiler marks as the end of a prologue."""
        addresses, _, states, _, _ = self._rows
        marked = (
            addresses[row]
            for row in self._prologue_ends
            if begin <= addresses[row] < end and not states[row] & END_SEQUENCE
        )
        return min(marked, default=None)

    @cached_property
    def _prologue_ends(self) -> list[int]:
        return [row for row, state in enumerate(self._rows.states) if state & PROLOGUE_END]

    def addresses(self, files: Collection[int], line: int) -> list[int]:
        """Return where statements of a line begin, ascending.

        Args:
            files: numbers of files in the header (one file may have several).
            line: exactly this one.
        """
        hits = self._written(files, line)
        if not hits:
            return []
        kept = self._kept if "_kept" in self.__dict__ else self._kept_near(hits)
        return sorted({self._rows.addresses[index] for index in set(hits).intersection(kept)})

    def nearest_line(self, files: Collection[int], line: int) -> int | None:
        """Return the line that has statements: this one, or else the next one after it."""
        _, lines, states, _, _ = self._rows
        numbers = self._numbers(files)

        def lines_of(rows: Iterable[int]) -> Iterator[int]:
            return (
                lines[row]
                for row in rows
                if lines[row] >= line
                and states[row] & (IS_STMT | END_SEQUENCE) == IS_STMT
                and states[row] >> FILE_SHIFT in numbers
            )

        nearest = min(lines_of(range(len(lines))), default=None)
        if nearest is None or self.addresses(files, nearest):
            return nearest
        return min(lines_of(self._kept), default=None)

    def _row(self, kept: Sequence[int], addresses: Sequence[int], at: int) -> Row:
        row, address = kept[at], addresses[at]
        after = bisect_right(addresses, address, at)
        state = self._rows.states[row]
        return Row(
            address,
            addresses[after] if after < len(addresses) else address,
            self._files[state >> FILE_SHIFT],
            self._rows.lines[row],
            state >> COLUMN_SHIFT & _MAX_COLUMN,
            bool(state & IS_STMT),
        )

    def _written(self, files: Collection[int], line: int) -> list[int]:
        """Return the rows of statements of a line that the program wrote."""
        _, lines, states, _, _ = self._rows
        numbers = self._numbers(files)
        found = []
        at = -1
        with contextlib.suppress(ValueError):
            while True:
                at = lines.index(line, at + 1)
                state = states[at]
                if state >> FILE_SHIFT in numbers and state & (IS_STMT | END_SEQUENCE) == IS_STMT:
                    found.append(at)
        return found

    def _numbers(self, files: Collection[int]) -> set[int]:
        """Return all numbers that these files have."""
        first = {self._files[file] for file in files if file in self._files}
        return {number for number, file in self._files.items() if file in first}

    @cached_property
    def _files(self) -> dict[int, int]:
        """From the number of a file to the first number that this file has."""
        header = self._program.header
        first: dict[Entry, int] = {}
        try:
            entries = header.files.entries
        except BadImage:  # no names, then; the numbers still tell files apart
            return {file: file for file in {state >> FILE_SHIFT for state in self._rows.states}}
        numbered = enumerate(entries, header.first_file)
        return {file: first.setdefault(entry, file) for file, entry in numbered}

    @cached_property
    def _addresses(self) -> array[int]:
        addresses = self._rows.addresses
        return array(addresses.typecode, [addresses[index] for index in self._kept])

    @cached_property
    def _kept(self) -> Sequence[int]:
        """The rows that count, and the ends of sequences, by address: their indexes."""
        addresses, states = self._rows.addresses, self._rows.states
        parts = [self._counting(begin, end) for begin, end in self._sequences]
        parts = [part for part in parts if part]
        parts.sort(key=lambda part: addresses[part[0]])
        kept = array("I", chain.from_iterable(parts))
        in_order = [addresses[index] for index in kept]
        if in_order != sorted(in_order):  # sequences that overlap, or run backwards
            kept = array(
                "I",
                sorted(kept, key=lambda at: (addresses[at], not states[at] & END_SEQUENCE)),
            )
        return kept

    def _kept_around(self, address: int) -> tuple[Sequence[int], Sequence[int]]:
        """Return what ``_kept`` has around an address, to the next address at least; and addresses.

        For a few questions that is a tenth of the work of the whole table.
        """
        self._asked += 1
        addresses = self._rows.addresses
        within = [
            (begin, end)
            for begin, end in self._sequences
            if addresses[begin] <= address < addresses[end - 1]
        ]
        if "_kept" not in self.__dict__ and self._asked <= _FEW:
            if not within:
                return (), ()
            begin, end = within[0]
            part = addresses[begin:end].tolist()
            if len(within) == 1 and part == sorted(part):
                hit = bisect_right(part, address) - 1
                first = self._anchor(begin, begin + hit)
                size = hit + 1
                while True:
                    size = min(bisect_right(part, part[size - 1]) + _WINDOW, len(part))
                    kept = self._counting(first, begin + size)
                    if size == len(part) or (kept and addresses[kept[-1]] > address):
                        return kept, [addresses[row] for row in kept]
        return self._kept, self._addresses

    def _anchor(self, begin: int, row: int) -> int:
        """Return the row at which to begin a look at another one, in a sequence.

        From a statement where the file changes, what was before makes no difference.
        """
        _, lines, states, _, _ = self._rows
        files = self._files
        while row > begin:
            state, before = states[row], files.get(states[row - 1] >> FILE_SHIFT)
            file = files.get(state >> FILE_SHIFT)
            if state & IS_STMT and lines[row] and file != before and None not in (file, before):
                break
            row -= 1
        return row

    def _kept_near(self, hits: list[int]) -> Sequence[int]:
        """Return what ``_kept`` has of these rows at least, by a look around each of them."""
        addresses = self._rows.addresses
        ends = [end for _, end in self._sequences]
        kept: list[int] = []
        done = 0
        budget = len(addresses)
        for hit in hits:
            place = bisect_right(ends, hit)
            if hit < done or place == len(ends) or hit < self._sequences[place][0]:
                continue
            begin, end = self._sequences[place]
            at = self._anchor(begin, hit)
            budget -= hit - at
            if budget < 0:
                return self._kept
            stop = hit
            while stop < end and addresses[stop] == addresses[hit]:
                stop += 1
            kept += self._counting(at, stop)
            done = stop
        return kept

    @cached_property
    def _sequences(self) -> list[tuple[int, int]]:
        """Where each sequence begins and ends among the rows, without what the linker dropped."""
        addresses, ends = self._rows.addresses, self._rows.ends
        highest = _WORD if addresses.typecode == "Q" else _HALF
        sequences = list(zip(chain((0,), ends), ends, strict=False))
        dropped = {highest, highest - 1}
        has_code_at_0 = self._program.header.sections.has_code_at_0
        if not has_code_at_0 and any(addresses[begin] for begin, _ in sequences):
            dropped.add(0)
        return [(begin, end) for begin, end in sequences if addresses[begin] not in dropped]

    def _counting(self, begin: int, end: int) -> list[int]:
        """Return which of the rows of a sequence, or of a part of it, count in gdb's table."""
        addresses, lines, states, _, _ = self._rows
        files = self._files
        kept: list[int] = []
        current = files.get(_FIRST_FILE)
        last_file: int | None = None  # before the last change of the file
        last_line = 0
        before_number, before_line, before_address = _FIRST_FILE, -1, -1
        statement_here = discriminated = 0

        for index in range(begin, end):
            address, line, state = addresses[index], lines[index], states[index]
            if state & END_SEQUENCE:
                while kept and addresses[kept[-1]] == address:
                    kept.pop()
                if kept:
                    kept.append(index)
                return kept
            number = state >> FILE_SHIFT
            if number != before_number:
                discriminated = 0
                before_number, before_line = number, line
                last_file, current = current, files.get(number, current)
            elif line != before_line:
                discriminated = 0
                before_line = line
            discriminated |= state & DISCRIMINATED
            if address != before_address:
                statement_here = 0
                before_address = address

            if line and number in files:
                if current != last_file:
                    if state & IS_STMT or not statement_here:
                        while (
                            kept
                            and addresses[kept[-1]] == address
                            and files[states[kept[-1]] >> FILE_SHIFT] == last_file
                        ):
                            kept.pop()
                        kept.append(index)
                        last_file, last_line = current, line
                elif line != last_line or not discriminated:
                    kept.append(index)
                    last_line = line
            statement_here |= state & IS_STMT
        return kept


def run(header: LineHeader) -> RawRows:
    """Return the rows that a program writes: one for each of its bytes, at most."""
    line_section = header.sections.line
    data = line_section[header.begin : header.end]
    addresses: list[int] = []
    lines: list[int] = []
    states: list[int] = []
    ends: list[int] = []
    # The rows that are written next after an opcode that sets a flag for one row.
    discriminated: list[int] = []
    prologue_ends: list[int] = []
    add_address, add_line, add_state = addresses.append, lines.append, states.append

    base = header.opcode_base
    unit = header.minimum_instruction_length
    up, down = _special_opcodes(base, unit, header.line_base, header.line_range)
    fresh = _FIRST_FILE << FILE_SHIFT | (IS_STMT if header.default_is_stmt else 0)
    address, line, state = 0, 1, fresh
    around, column = fresh, 0  # what the state is put together of
    damage = None
    operations = iter(data)
    following = operations.__next__
    try:
        for op in operations:
            if op >= base:
                address += up[op]
                line += down[op]
                add_address(address)
                add_line(line)
                add_state(state)
            elif op == 1:  # DW_LNS_copy
                add_address(address)
                add_line(line)
                add_state(state)
            elif op == 5:  # DW_LNS_set_column
                value = following()
                if value > 127:
                    value = min(_uleb(value, following), _MAX_COLUMN)
                column = value << COLUMN_SHIFT
                state = around | column
            elif op == 6:  # DW_LNS_negate_stmt
                around ^= IS_STMT
                state ^= IS_STMT
            elif op == 3:  # DW_LNS_advance_line
                value = following()
                if value > 127:
                    value = _sleb(value, following)
                elif value > 63:
                    value -= 128
                line += value
            elif op == 4:  # DW_LNS_set_file
                value = following()
                if value > 127:
                    value = min(_uleb(value, following), _HALF)
                around = value << FILE_SHIFT | around & IS_STMT
                state = around | column
            elif op == 0:
                size = following()
                if size > 127:
                    size = _uleb(size, following)
                if size == 0:
                    raise ValueError("an extended opcode without one")
                op = following()
                if op == 4 and size == 2:  # DW_LNE_set_discriminator
                    if following():
                        discriminated.append(len(addresses))
                    continue
                operand = bytes(islice(operations, min(size, len(data)) - 1))
                if len(operand) != size - 1:
                    raise StopIteration
                if op == 1:  # DW_LNE_end_sequence
                    add_address(address)
                    add_line(line)
                    add_state(state | END_SEQUENCE)
                    ends.append(len(addresses))
                    address, line, state = 0, 1, fresh
                    around, column = fresh, 0
                elif op == 2:  # DW_LNE_set_address
                    address = int.from_bytes(operand[:8], "little")
                elif op == 4:
                    discriminated.append(len(addresses))
            elif op == 2:  # DW_LNS_advance_pc
                value = following()
                if value > 127:
                    value = _uleb(value, following)
                address += value * unit
            elif op == 8:  # DW_LNS_const_add_pc
                address += up[255]
            elif op == 9:  # DW_LNS_fixed_advance_pc
                address += following() | following() << 8
            elif op == 10:  # DW_LNS_set_prologue_end
                prologue_ends.append(len(addresses))
            elif op not in (7, 11):  # DW_LNS_set_basic_block, DW_LNS_set_epilogue_begin
                for _ in range(header.operands[op - 1]):
                    if following() > 127:
                        _uleb(128, following)
    except (StopIteration, ValueError) as error:
        what = error.args[0] if isinstance(error, ValueError) else "it ends within an opcode"
        damage = line_section.damage(header.end - length_hint(operations), what)

    for flag, indexes in ((DISCRIMINATED, discriminated), (PROLOGUE_END, prologue_ends)):
        for index in indexes:
            if index < len(states):
                states[index] |= flag
    if states and not states[-1] & END_SEQUENCE:
        # Nothing says how far the last row goes, so that it goes nowhere.
        add_address(addresses[-1])
        add_line(lines[-1])
        add_state(states[-1] | END_SEQUENCE)
        ends.append(len(addresses))
        damage = damage or line_section.damage(header.end, "a sequence without an end")
    word = "Q" if header.sections.word_size == 8 else "I"
    return RawRows(
        _array(word, addresses),
        _array("I", lines),
        array("Q", states),
        array("I", ends),
        damage,
    )


@lru_cache(maxsize=8)
def _special_opcodes(
    base: int, unit: int, line_base: int, line_range: int
) -> tuple[list[int], list[int]]:
    """Return how far each opcode advances the address and the line."""
    numbers = [divmod(op - base, line_range) for op in range(base, 256)]
    return (
        [0] * base + [up * unit for up, _ in numbers],
        [0] * base + [line_base + down for _, down in numbers],
    )


def _array(kind: str, numbers: list[int]) -> array[int]:
    try:
        return array(kind, numbers)
    except OverflowError:  # only a damaged program goes around
        mask = _WORD if kind == "Q" else _HALF
        return array(kind, [number & mask for number in numbers])


def _uleb(byte: int, following: Callable[[], int]) -> int:
    """Return the unsigned number that begins with a byte."""
    return _leb(byte, following)[0]


def _sleb(byte: int, following: Callable[[], int]) -> int:
    """Return the signed number that begins with a byte."""
    value, bits = _leb(byte, following)
    return value - (1 << bits) if value >> bits - 1 else value


def _leb(byte: int, following: Callable[[], int]) -> tuple[int, int]:
    value = byte & 0x7F
    for bits in range(7, 70, 7):  # ten bytes hold 64 bits
        byte = following()
        value |= (byte & 0x7F) << bits
        if byte < 0x80:
            return value, bits + 7
    raise ValueError("a LEB128 number of more than 64 bits")
