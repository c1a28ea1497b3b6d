"""The text of an oops, or of a whole log, with the places in it decoded to source lines.

Contents: which places a line has, what is looked up for each, and how the line is then written; the
form is that of the kernel's scripts/decode_stacktrace.sh. Not here: the reading of one place (see
``rsp.location_spec``), and the log of a kernel that runs (``log``).

A backtrace has return addresses, which lie behind the call: the line is that of the call, as in
gdb's backtraces, where the script takes the line of what comes next. A register (RIP) is exact.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from rsp.errors import ArgumentError, BadImage, SymbolNotFound
from rsp.location_spec import parse_location
from rsp.reprs import hex_repr
from rsp.symbols.table import InlineFrame, SymbolTable, find_module

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rsp.symbols.table import SourceLine

logger: Final = logging.getLogger("rsp.linux")

# %pS and %pB: name+0x10/0x2f0, for a module [name] or [name build-id]; kernels before 4.11 print
# the address in front, and it is left out, as every reader of the log does. Where a kernel has no
# symbols, the address is all there is.
_PLACE: Final = re.compile(
    r"(?:\[<[0-9a-fx]+>\] +)*(?P<doubt>\? +)?(?P<place>(?P<name>[^\W\d][\w.$]*)"
    r"\+0x[0-9a-f]+/0x[0-9a-f]+(?: +\[[\w-]+(?: (?P<id>(?:[0-9a-f]{2})+))?\])?)"
    r"|\[<(?P<address>[0-9a-f]{8,16})>\](?! +(?:\[|\? |[^\W\d][\w.$]*\+0x))"
)
_LEAD: Final = re.compile(r"(?:.*(?:\]|<\d>|kernel:))?\s*")
"""What stands before a place in a backtrace, which has the line for itself: a time, a level."""
_OFFSET: Final = re.compile(r"Kernel Offset: (0x[0-9a-f]+|disabled)")


class DecodedPlace(NamedTuple):
    """A place of the text, and what is there.

    Attributes:
        name: the function, as it was written.
        module: the name of the module; None for the kernel itself.
        address: in its file: of the kernel as it was linked, of a module as it is laid out when it
            was not loaded.
        frames: the functions there with their lines, the innermost inlined copy first.
    """

    name: str
    module: str | None
    address: int
    frames: tuple[InlineFrame, ...]

    def __str__(self) -> str:
        lines = " ".join(_shown(frame.line) for frame in self.frames if frame.line)
        return f"{self.name} ({lines})" + (f" {self.module}" if self.module else "")

    def __repr__(self) -> str:
        return hex_repr(self)


class DecodedLine(NamedTuple):
    """A line of the text with its places decoded, and these places.

    A place that fits several functions, of one name and size, is decoded to each of them.
    """

    text: str
    places: tuple[DecodedPlace, ...]


class Decoder:
    """Decodes the places of a text.

    Args:
        table: the kernel's symbols, at their link addresses.
        modules: a directory with the files of the modules. None is where they are beside a vmlinux:
            its own directory, then lib/modules/RELEASE near it, in /usr/lib/debug and in /.
    """

    def __init__(self, table: SymbolTable, modules: str | os.PathLike[str] | None = None) -> None:
        self._table = table
        self._modules = modules
        self._files: dict[str, SymbolTable | None] = {}
        self._foreign: list[str] = []

    def decode(self, lines: Sequence[str]) -> Iterator[DecodedLine]:
        """Yield the lines of a text; one without a known place is as it was.

        Warnings at the end say which modules were not found, and which places are of no function
        of these files.
        """
        for line, offset in zip(lines, _offsets(lines, self._table.slide), strict=True):
            text, places, end = "", [], 0
            for found in _PLACE.finditer(line):
                alone = _LEAD.fullmatch(line, 0, found.start()) and not line[found.end() :].strip()
                back = 1 if alone else 0
                if decoded := self._decoded(found, offset, back):
                    shown = " or ".join(map(str, decoded))
                    text += f"{line[end : found.start()]}{found['doubt'] or ''}{shown}"
                    places += decoded
                    end = found.end()
            yield DecodedLine(text + line[end:], tuple(places))
        if missing := sorted(name for name, file in self._files.items() if file is None):
            logger.warning(
                "no file of the modules %s was found: give their directory", ", ".join(missing)
            )
        if self._foreign:
            logger.warning(
                "%d places are of another build, the first is %s",
                len(self._foreign),
                self._foreign[0],
            )

    def _decoded(self, found: re.Match[str], offset: int, back: int) -> list[DecodedPlace]:
        if found["place"] is None:
            address = int(found["address"], 16) - offset + self._table.slide
            symbol = self._table.lookup(address)
            return [] if symbol is None else _decoded_at(self._table, symbol.name, None, address, 0)
        try:
            spec = parse_location(found["place"])
            table = self._table if spec.module is None else self._file_of(spec.module, found["id"])
            if table is None:
                return []
            symbols = table.symbols_of(replace(spec, module=None))
        except BadImage as error:
            logger.warning("%s", error)
            return []
        except (ArgumentError, SymbolNotFound):
            self._foreign.append(found["place"])
            return []
        distance = spec.offset or 0
        return [
            place
            for symbol in symbols
            for place in _decoded_at(
                table,
                found["name"],
                spec.module,
                symbol.address + distance,
                back if distance else 0,
            )
        ]

    def _file_of(self, module: str, build_id: str | None) -> SymbolTable | None:
        """Return a module's symbols; None where its file is not found."""
        if module not in self._files:
            wanted = bytes.fromhex(build_id) if build_id else None
            paths = (find_module(each, module, build_id=wanted) for each in self._directories())
            path = next(filter(None, paths), None)
            self._files[module] = None if path is None else SymbolTable(path)
        return self._files[module]

    def _directories(self) -> Iterator[str]:
        if self._modules is not None:
            yield os.fspath(self._modules)
            return
        home = Path(self._table.path).resolve().parent
        yield str(home)
        release = self._table.kernel_release
        if release is not None and "/" not in release:
            for tree in (home.parent, "/usr/lib/debug", "/"):
                yield str(Path(tree, "lib/modules", release))


def _decoded_at(
    table: SymbolTable, name: str, module: str | None, address: int, back: int
) -> list[DecodedPlace]:
    """Return what is known of an address, looked up so many bytes before it."""
    frames = table.inline_chain(address - back)
    line = table.line(address - back)
    if not frames and line is not None:  # assembler has lines, and no functions
        frames = (InlineFrame(name, line, inlined=False),)
    known = any(frame.line for frame in frames)
    return [DecodedPlace(name, module, address, frames)] if known else []


def _shown(line: SourceLine) -> str:
    """Return a line without the directory that the kernel was built in."""
    return str(line).removeprefix(f"{line.directory}/")


def _offsets(lines: Sequence[str], slide: int) -> list[int]:
    """Return for each line how far KASLR has moved the kernel.

    A panic says so at its end, so that the next such line counts; behind the last one, that; where
    none says so, the slide that was given.
    """
    said = [_OFFSET.search(line) for line in lines]
    known = [0 if each[1] == "disabled" else int(each[1], 16) for each in said if each]
    offsets = []
    at = 0
    for each in said:
        offsets.append(known[min(at, len(known) - 1)] if known else slide)
        at += each is not None
    return offsets
