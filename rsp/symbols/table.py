"""The symbols of a binary and of the modules beside it: the public door of this room.

Contents: `SymbolTable` and the values it answers with, the slide, and the choice among several
files. Not here: how any of them is read (`binary`), and finding out a slide or where a module is:
here they are numbers that are given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple, SupportsIndex, TypeVar

from rsp import arguments
from rsp.errors import ArgumentError, SymbolError, SymbolNotFound, nearest
from rsp.location_spec import FORMS, LocationSpec, parse_location, parse_number
from rsp.reprs import hex_repr
from rsp.symbols.binary import Binary
from rsp.symbols.code.location import Location
from rsp.symbols.code.sources import SourceMap, source_lines
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.symtab import Binding, SymbolKind
from rsp.symbols.types.types import Pointer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rsp.symbols.binary import Declaration, Place
    from rsp.symbols.elf.symtab import ElfSymbol
    from rsp.symbols.types.types import Type
    from rsp.symbols.unwind.rules import UnwindRules

__all__ = ["Binding", "Location", "SourceLine", "Symbol", "SymbolKind", "SymbolTable"]

_MAX_SCRIPT = 1 << 24
_MOST_COMPLETIONS = 1 << 16
_NAME: Final = "the name of a symbol"
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A name for a place.

    Where it is declared is looked up when it is first asked for: some milliseconds for a function
    of a kernel, some fifty for a variable.

    Attributes:
        name: the symbol, as the linker spells it.
        address: where the linker put it, with the slide added.
        size: in bytes; 0 where the file does not say.
        kind: what is there.
        binding: how visible it was to other files when it was linked.
        section: the name of its section.
        per_cpu: whether each CPU has its own, so that the address is that in the area of each.
    """

    name: str
    address: int
    size: int
    kind: SymbolKind
    binding: Binding
    section: str
    per_cpu: bool
    _describe: Callable[[], Declaration] = field(repr=False, compare=False)

    @property
    def file(self) -> str | None:
        """The source file that declares it, None where nothing says so."""
        return self._describe().file

    @property
    def line(self) -> int | None:
        """The line of its declaration, None where nothing says so."""
        return self._describe().line

    @property
    def prototype(self) -> str | None:
        """The declaration in C, as gdb's ``info functions`` has it; None where nothing says so."""
        return self._describe().prototype

    @property
    def is_global(self) -> bool:
        """Whether it was visible to other files; local ones may share a name."""
        return self.binding is not Binding.LOCAL

    def __repr__(self) -> str:
        return hex_repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLine:
    """A line of source code.

    Attributes:
        file: as the compiler noted it and gdb shows it, often relative to ``directory``.
        line: the line number, from 1.
        column: from 1; 0 where the compiler does not say.
        directory: where the compiler ran; empty where it does not say.
    """

    file: str
    line: int
    column: int = 0
    directory: str = ""

    @property
    def path(self) -> str:
        """The file with its directory; it need not exist here."""
        # A directory that is relative is part of the name already.
        if not self.directory.startswith("/") and self.file.startswith(f"{self.directory}/"):
            return self.file
        return str(PurePosixPath(self.directory, self.file))

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class InlineFrame(NamedTuple):
    """A function that an address is in: itself, or a copy inlined into the next one.

    Attributes:
        function: its name.
        line: where in it the address is: for all but the innermost, where the next inner one is
            called; None where nothing says so.
        inlined: whether it is a copy within the next one.
    """

    function: str
    line: SourceLine | None
    inlined: bool


class GlobalVariable(NamedTuple):
    """A variable at a fixed address.

    Attributes:
        name: as the source has it.
        address: with the slide added.
        type: its type; None where nothing says so.
        per_cpu: the address is an offset into the area of a CPU.
    """

    name: str
    address: int
    type: Type | None
    per_cpu: bool

    def __repr__(self) -> str:
        return hex_repr(self)


class ListedLine(NamedTuple):
    """A line of source; ``text`` is None where the file is not found."""

    file: str
    line: int
    text: str | None


class SymbolTable:
    """The symbols, source lines and types of an ELF file, and of modules added to it.

    Nothing is read before a question needs it. Questions about one name need no index; the first
    one that does (all locations of a name, a type that only DWARF has) makes it, in some seconds
    for a kernel, and keeps it in the user's cache directory.

    Args:
        path: an executable, a shared library or a kernel (``vmlinux``); also its debug file. The
            sections of an object or a kernel module have no addresses before it is loaded; here
            they lie one behind the other from 0, as gdb arranges them, for questions without a
            target.
        slide: how far from its link addresses it was loaded; every address of the file that is
            asked for or answered has it added. It may be set later.
        cache: False to neither read nor write the cache directory.
        progress: called with the bytes done and the bytes in all while an index is made.

    Raises:
        BadImage: the file cannot be read, or is not ELF for x86. Every question raises it where
            just what it asks for is damaged.

    >>> from rsp.testing.boot import ELF
    >>> table = SymbolTable(ELF)
    >>> hex(table["long_start"].address)
    '0x7cc7'
    >>> table.lookup(0x7d14).name
    'tick'
    >>> print(table.line(0x7d12).path)
    rsp/testing/boot/boot.S
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        slide: int = 0,
        cache: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        from rsp.symbols.cache.cache import Cache

        arguments.flag(cache, "cache")
        if progress is not None and not callable(progress):
            raise arguments.refused("progress", progress, "a function of two numbers, or None")
        self.slide = slide
        image = Image(path)
        if image.relocatable:
            from rsp.symbols.elf.relocation import UnloadedImage

            image = UnloadedImage(path)
        self._cache = Cache() if cache else Cache.off()
        self._progress = progress
        self._main = Binary(image, cache=self._cache, progress=progress)
        self._modules: dict[str, tuple[Binary, int]] = {}
        self._sources = SourceMap()
        self.unknown_modules: str | None = None
        """Why the modules of the kernel that runs are not known; None where nothing is missing."""

    @property
    def path(self) -> str:
        """The file."""
        return self._main.path

    @property
    def slide(self) -> int:
        """How far from its link addresses the file was loaded."""
        return self._slide

    @slide.setter
    def slide(self, distance: SupportsIndex) -> None:
        self._slide = arguments.integer(distance, "slide", "a distance", lowest=-arguments.END)

    @property
    def build_id(self) -> bytes | None:
        """What the linker computed of its contents: the same number only for the same build."""
        return self._main.image.build_id

    @property
    def kernel_release(self) -> str | None:
        """The release in a Linux kernel's banner, ``6.1.0-56-cloud-amd64``; None without one."""
        from rsp.symbols.elf.modules import kernel_release

        return kernel_release(self._main.image)

    @property
    def relocatable(self) -> bool:
        """Whether it is an object or a module, whose addresses are those of no running program."""
        return self._main.image.relocatable

    @property
    def word_size(self) -> int:
        """The size of an address in bytes: 4 of a file for i386, 8 of one for x86-64."""
        return self._main.image.word_size

    def copy(self) -> SymbolTable:
        """Return a table of the same files, with a slide and modules of its own.

        What was read of the files is shared. A target takes such a copy of the table that it is
        given: several targets may share one table.
        """
        other = copy(self)
        other._modules = self._modules.copy()
        return other

    def __repr__(self) -> str:
        slide = f", slide={self.slide:#x}" if self.slide else ""
        modules = f", {len(self._modules)} modules" if self._modules else ""
        return f"SymbolTable({self.path!r}{slide}{modules})"

    def _ipython_key_completions_(self) -> list[str]:
        """Return names of symbols, a kernel's 110,000 not all: global ones before local ones."""
        names = (
            name
            for local in (False, True)
            for binary, _ in self.binaries()
            for name in binary.symtab.names(local=local)
        )
        return list(dict.fromkeys(islice(names, _MOST_COMPLETIONS)))

    # Symbols.

    def __getitem__(self, name: str) -> Symbol:
        """Return the symbol of that name; of several a global one, then the first.

        Raises:
            SymbolNotFound: there is none; the message names the nearest.
        """
        for found in self._named(arguments.text(name, "name", _NAME)):
            return found
        raise self._no_symbol(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(True for _ in self._named(name))

    def __iter__(self) -> Iterator[Symbol]:
        """Iterate over all symbols, by address, file by file."""
        for binary, slide in self.binaries():
            for found in sorted(binary.symtab, key=lambda each: each.address):
                yield self._symbol(binary, slide, found)

    def __len__(self) -> int:
        return sum(len(binary.symtab) for binary, _ in self.binaries())

    def find(self, query: str | SupportsIndex) -> tuple[Symbol, ...]:
        """Return the symbols of a name, or the one at an address or at a place.

        Args:
            query: a name, a place (``start_kernel+0x10``, ``vfs_read+0x10/0x2f0``), or an address
                as a number or as text (``0xffffffff81000000``).

        Raises:
            SymbolNotFound: there is none; the message names the nearest.
        """
        address = parse_number(query.strip()) if isinstance(query, str) else _address(query)
        if address is not None:
            symbol = self.lookup(address)
            if symbol is None:
                name = query if isinstance(query, str) else f"{address:#x}"
                raise SymbolNotFound(f"no symbol at {address:#x} in {self.path}", name=name)
            return (symbol,)
        assert isinstance(query, str)
        found = tuple(self._named(query))
        if found:
            return found
        if "+" in query and (spec := _location_spec(query)).name is not None:
            return self.symbols_of(spec)
        raise self._no_symbol(query)

    def search(self, pattern: str) -> list[Symbol]:
        """Return the symbols with a name in which a regular expression matches, by name.

        Raises:
            SymbolError: the expression makes no sense.

        >>> from rsp.testing.boot import ELF
        >>> [symbol.name for symbol in SymbolTable(ELF).search("^(long|real)_start$")]
        ['long_start', 'real_start']
        """
        arguments.text(pattern, "pattern", "a regular expression, as text")
        try:
            matches = re.compile(pattern).search
        except re.error as error:
            raise SymbolError(f"{pattern!r} is no regular expression: {error}") from error
        found = [
            self._symbol(binary, slide, symbol)
            for binary, slide in self.binaries()
            for name in binary.symtab.names()
            if matches(name)
            for symbol in binary.symtab.find(name)
        ]
        return sorted(found, key=lambda symbol: (symbol.name, symbol.address))

    def lookup(self, address: SupportsIndex) -> Symbol | None:
        """Return the symbol that an address lies in, or None.

        A symbol without a size reaches to the next one, or to the end of its section.
        """
        address = _address(address)
        for binary, slide in self.binaries():
            for distance in dict.fromkeys((slide, 0)):
                found = binary.lookup(address - distance)
                # What does not move is only where the linker put it.
                if found is not None and distance == (slide if binary.moves(found) else 0):
                    return self._symbol(binary, slide, found)
        return None

    # Lines and source.

    def line(self, address: SupportsIndex) -> SourceLine | None:
        """Return the source line that the code at an address comes of, or None."""
        address = _address(address)
        for binary, slide in self.binaries():
            found = binary.line(address - slide)
            if found is not None:
                return source_line(found)
        return None

    def inline_chain(self, address: SupportsIndex) -> tuple[InlineFrame, ...]:
        """Return the functions that an address is in, as a backtrace shows them.

        The first is the innermost inlined copy, the last the function itself, whose code it is.
        """
        address = _address(address)
        for binary, slide in self.binaries():
            frames = binary.frames(address - slide)
            if not frames:
                continue
            here = binary.line(address - slide)
            lines = [None if here is None else source_line(here)]
            directory = "" if here is None else here.directory
            for frame in frames:
                call = frame.call
                known = call is not None and call.file is not None and call.line > 0
                lines.append(
                    SourceLine(
                        file=call.file, line=call.line, column=call.column, directory=directory
                    )
                    if known and call is not None and call.file is not None
                    else None
                )
            return tuple(
                InlineFrame(frame.name, line, frame.inlined)
                for frame, line in zip(frames, lines, strict=False)
            )
        return ()

    def source_map(self, built: str | os.PathLike[str], here: str | os.PathLike[str]) -> None:
        """Look for source files below one directory instead of where they were compiled.

        As gdb's ``set substitute-path``: whole components only, the first rule that matches.
        """
        self._sources.add(arguments.path(built, "built"), arguments.path(here, "here"))

    def source(self, spec: str | SupportsIndex, *, around: int = 5) -> tuple[ListedLine, ...]:
        """Return the source lines around a place.

        Args:
            spec: as for `locations`; of several places the first counts.
            around: how many lines before and behind.

        Raises:
            SymbolNotFound: there is no such place, or nothing says which line it is.
        """
        lines = arguments.integer(around, "around", "a number of lines")
        place = self._line_of(spec)
        path = self._sources.find(place.file, place.directory)
        rows = source_lines(path, place.line, lines) if path else ()
        if not rows:
            return (ListedLine(place.file, place.line, None),)
        return tuple(ListedLine(place.file, row.number, row.text) for row in rows)

    def text_of(self, line: SourceLine) -> str | None:
        """Return the text of a line, None where its file is not found."""
        if not isinstance(line, SourceLine):
            raise arguments.refused("line", line, "a SourceLine")
        path = self._sources.find(line.file, line.directory)
        rows = source_lines(path, line.line, 0) if path else ()
        return rows[0].text if rows else None

    def locations(self, spec: str | SupportsIndex) -> tuple[Location, ...]:
        """Return every place where a breakpoint must go, by address, inlined copies included.

        Args:
            spec: a function (``tcp_init_sock``), a line (``tcp.c:414``), a symbol and an offset
                (``start_kernel+0x10``), the same as Linux prints it, with the size of the symbol,
                by which one of several is chosen, and its module
                (``vfs_read+0x10/0x2f0 [xfs]``), or an address (``0xffffffff81000000``).

        Raises:
            SymbolNotFound: there is no such function, file or line; the message names the nearest.
        """
        wanted = _location_spec(spec)
        if wanted.address is not None:
            binary, slide = self.binary_at(wanted.address) or next(self.binaries())
            (place,) = binary.locations(replace(wanted, address=wanted.address - slide))
            return (replace(place, address=wanted.address),)
        found = [
            replace(place, address=place.address + slide)
            for _, slide, places in self._answers(wanted, Binary.locations)
            for place in places
        ]
        return tuple(sorted(found, key=lambda place: place.address))

    # Types.

    def type(self, name: str) -> Type:
        """Return a type by its name in C: ``struct task_struct``, ``u32``, ``struct page *``.

        A name without a keyword is a typedef or one of C's own types, else a structure, a union or
        an enumeration, in this order.

        Raises:
            SymbolNotFound: there is none; the message names the nearest.
        """
        bare = arguments.text(name, "name", "the name of a type").rstrip(" *")
        for binary, _ in self.binaries():
            found = binary.type(bare)
            if found is not None:
                for _ in range(name[len(bare) :].count("*")):
                    found = Pointer(found, self.word_size)
                return found
        near = self._main.nearest_types(bare)
        hint = f" (nearest: {', '.join(near)})" if near else ""
        if not any(binary.has_types for binary, _ in self.binaries()):
            hint = " (it has no debug information)"
        raise SymbolNotFound(f"no type {name!r} in {self.path}{hint}", name=name)

    def variable(self, name: str) -> GlobalVariable:
        """Return a variable by its name, of several a global one.

        Raises:
            SymbolNotFound: there is no such symbol, or it is none of data.
        """
        arguments.text(name, "name", _NAME)
        for binary, slide in self.binaries():
            for symbol in binary.find(name):
                if not binary.is_code(symbol):
                    moved = slide if binary.moves(symbol) else 0
                    return GlobalVariable(
                        name,
                        symbol.address + moved,
                        binary.type_of_variable(symbol),
                        binary.is_per_cpu(symbol),
                    )
        raise self._no_symbol(name)

    # Unwinding.

    def unwind_rules(self, address: SupportsIndex) -> UnwindRules | None:
        """Return how to find the caller's registers from those at an address, None if unknown.

        From .debug_frame or .eh_frame, else from ORC; the addresses in it are those of the link.
        """
        address = _address(address)
        for binary, slide in self.binaries():
            found = binary.unwind_rules(address - slide)
            if found is not None:
                return found
        return None

    # Modules.

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of the modules that were added."""
        return tuple(self._modules)

    def add_module(
        self,
        path: str | os.PathLike[str],
        sections: Mapping[str, int],
        *,
        build_id: bytes | None = None,
    ) -> str:
        """Add a kernel module at the addresses where it was loaded, and return its name.

        One of the same name is replaced. Where a module is does not depend on the slide. A file
        that is linked, as an EFI image or a shared library is, is taken where all these sections
        have moved by one distance; for the table's own file that becomes the slide.

        Args:
            path: its ``.ko`` or ``.ko.debug``, also compressed (``.xz``, ``.zst``, ``.gz``).
            sections: the addresses of its sections by name (/sys/module/NAME/sections); what is in
                a section without an address is not found.
            build_id: of the module that is loaded, to hold the file against.

        Raises:
            BadImage: it cannot be read, is no module, one for another kernel or another build; or
                its sections cannot be there.
        """
        from rsp.symbols.elf.modules import module_name, moved_by, open_module

        if not isinstance(sections, Mapping):
            raise arguments.refused("sections", sections, "addresses by the names of sections")
        sections = {
            arguments.text(name, "a section", "its name"): arguments.integer(
                address, f"the address of {name}", "a number"
            )
            for name, address in sections.items()
        }
        if build_id is not None:
            build_id = arguments.data(build_id, "build_id")
        linked = Image(path)
        if not linked.relocatable:
            return self._add_linked(linked, moved_by(linked, sections))
        image = open_module(path, sections, build_id=build_id, kernel=self._main.image)
        name = module_name(image)
        binary = Binary(image, cache=self._cache, progress=self._progress, base=self._main)
        self._modules[name] = binary, 0
        return name

    def _add_linked(self, image: Image, slide: int) -> str:
        """Add a file that moves as a whole; of two files of a name, the second goes by its path."""
        name = Path(image.path).name
        if Path(image.path).samefile(self.path):
            self.slide = slide
            return name
        if name in self._modules and self._modules[name][0].path != image.path:
            name = image.path
        binary = Binary(image, cache=self._cache, progress=self._progress)
        self._modules[name] = binary, slide
        return name

    def remove_module(self, name: str) -> None:
        """Forget a module.

        Raises:
            SymbolNotFound: none of that name was added.
        """
        if self._modules.pop(arguments.text(name, "name", "a module's"), None) is None:
            raise SymbolNotFound(
                f"no module {name!r} was added{nearest(name, self._modules)}", name=name
            )

    def add_symbol_script(self, path: str | os.PathLike[str]) -> tuple[str, ...]:
        """Add the files of gdb's ``add-symbol-file`` lines, as `add_module` does; return the names.

        Raises:
            SymbolError: the file cannot be read, or a line of it; `BadImage` for a module.
        """
        arguments.path(path, "path")
        from rsp.symbols.elf.modules import linked_image, read_symbol_script

        try:
            with Path(path).open(encoding="utf-8", errors="surrogateescape") as file:
                text = file.read(_MAX_SCRIPT)
        except (OSError, ValueError) as error:
            raise SymbolError(f"{os.fspath(path)}: cannot be read: {error}") from error
        try:
            files = read_symbol_script(text)
        except SymbolError as error:
            raise SymbolError(f"{os.fspath(path)}: {error}") from error
        return tuple(
            self.add_module(each.path, each.addresses)
            if each.offset is None or each.addresses
            else self._add_linked(linked_image(each.path), each.offset)
            for each in files
        )

    # For the rooms above, which unwind and evaluate.

    def binaries(self) -> Iterator[tuple[Binary, int]]:
        """Iterate over the file and its modules, each with what is added to its addresses."""
        yield self._main, self._slide
        yield from self._modules.values()

    def binary_at(self, address: SupportsIndex) -> tuple[Binary, int] | None:
        """Return the file that has a section at an address, and what is added to its addresses."""
        address = _address(address)
        for binary, slide in self.binaries():
            if binary.image.section_at(address - slide) is not None:
                return binary, slide
        return None

    def symbols_of(self, spec: LocationSpec) -> tuple[Symbol, ...]:
        """Return the symbols that a place of the form ``NAME+0x10/0x2f0 [MODULE]`` is given from.

        Raises:
            SymbolNotFound: there is none, or none of that size.
        """
        return tuple(
            self._symbol(binary, slide, symbol)
            for binary, slide, symbols in self._answers(spec, Binary.symbols_of)
            for symbol in symbols
        )

    def _answers(
        self, spec: LocationSpec, ask: Callable[[Binary, LocationSpec], tuple[_Found, ...]]
    ) -> list[tuple[Binary, int, tuple[_Found, ...]]]:
        """Return what each file that a place may be in has to say of it.

        Raises:
            SymbolNotFound: none knows it; the message is of one that knows the name at least.
        """
        answers = []
        missing: SymbolNotFound | None = None
        for binary, slide in self._files_of(spec):
            try:
                answers.append((binary, slide, ask(binary, spec)))
            except SymbolNotFound as error:
                if missing is None or (spec.name is not None and binary.find(spec.name)):
                    missing = error
        if not answers and missing is not None:
            raise SymbolNotFound(f"{missing}{self._unknown}", name=missing.name)
        return answers

    def _files_of(self, spec: LocationSpec) -> Iterable[tuple[Binary, int]]:
        if not isinstance(spec, LocationSpec):
            raise arguments.refused("spec", spec, "a location that was taken apart")
        if spec.module is None:
            return self.binaries()
        if spec.module in self._modules:
            return (self._modules[spec.module],)
        if self._main.image.relocatable:
            from rsp.symbols.elf.modules import module_name

            if module_name(self._main.image) == spec.module:
                return ((self._main, self._slide),)
        raise SymbolNotFound(
            f"no file of the module {spec.module!r} was added to {self.path}"
            f"{nearest(spec.module, self._modules)}",
            name=spec.text,
        )

    def _named(self, name: str) -> Iterator[Symbol]:
        for binary, slide in self.binaries():
            for found in binary.find(name):
                yield self._symbol(binary, slide, found)

    def _symbol(self, binary: Binary, slide: int, found: ElfSymbol) -> Symbol:
        moved = slide if binary.moves(found) else 0
        return Symbol(
            name=found.name,
            address=found.address + moved,
            size=found.size,
            kind=found.kind,
            binding=found.binding,
            section=found.section,
            per_cpu=binary.is_per_cpu(found),
            _describe=cache(partial(binary.describe, found)),
        )

    def _line_of(self, spec: str | SupportsIndex) -> SourceLine:
        wanted = _location_spec(spec)
        if wanted.file is not None and wanted.line is not None:  # whether it has code or not
            for binary, _ in self.binaries():
                if (named := binary.source_file(wanted.file)) is not None:
                    file, directory = named
                    return SourceLine(file=file, line=wanted.line, directory=directory)
        for place in self.locations(spec):
            line = self.line(place.address)
            if line is not None:
                return line
        raise SymbolNotFound(f"nothing says which source line {wanted.text} is", name=wanted.text)

    def _no_symbol(self, name: str) -> SymbolNotFound:
        known = [each for binary, _ in self.binaries() for each in binary.symtab.names()]
        hint = nearest(name, known) if known else " (it has none: stripped?)"
        return SymbolNotFound(f"no symbol {name!r} in {self.path}{hint}{self._unknown}", name=name)

    @property
    def _unknown(self) -> str:
        why = self.unknown_modules
        return (
            f"; the kernel's modules are not known, for they cannot be listed: {why}" if why else ""
        )


def find_module(
    directory: str | os.PathLike[str], name: str, *, build_id: bytes | None = None
) -> str | None:
    """Return the path of a module's file in a tree such as /lib/modules/RELEASE, None without one.

    Args:
        directory: where to search, also below.
        name: the module's; ``-`` and ``_`` are the same in it.
        build_id: only a file of this build will do.
    """
    from rsp.symbols.elf import modules

    return modules.find_module(directory, name, build_id=build_id)


def _address(given: SupportsIndex) -> int:
    if type(given) is int:
        return given
    return arguments.integer(given, "address", "an address", lowest=None, below=None)


def _location_spec(given: object) -> LocationSpec:
    if not isinstance(given, str):
        address = arguments.integer(given, "spec", FORMS)
        return LocationSpec(text=f"{address:#x}", address=address)
    try:
        return parse_location(given)
    except ArgumentError as error:  # a text that is no location is none that is found
        raise SymbolNotFound(str(error), name=given) from None


def source_line(place: Place) -> SourceLine:
    """Return a line as `SymbolTable` gives it."""
    return SourceLine(
        file=place.file, line=place.line, column=place.column, directory=place.directory
    )
