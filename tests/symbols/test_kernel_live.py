"""Whole kernels and their modules through `SymbolTable`, against gdb, addr2line and readelf.

Some thousand functions, variables, types, addresses and places of each kernel, chosen by a seed:
Debian's (DWARF 5, BTF), and those that the lab builds (DWARF 5 without BTF; 32 bits, DWARF 4). One
process of gdb for each kernel answers all that is asked of it. What differs must be of a kind that
is explained here, and is counted.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from lab.kernels import compress, split_debug
from lab.offline import ask_python
from rsp.errors import BadImage, SymbolError, SymbolNotFound
from rsp.symbols.table import Symbol, SymbolKind, SymbolTable
from rsp.symbols.types.text import definition
from rsp.symbols.types.types import Enum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lab.kernels import BuiltKernel, DebianKernel
    from rsp.symbols.types.types import Type

pytestmark = pytest.mark.live("gdb", "readelf", "addr2line")

SEED = 34
SLIDE = 0x1E00_0000
TYPES = 700
PER_CPU = ".data..percpu"
LAYOUTS = (
    "struct task_struct",
    "struct page",
    "struct tty_struct",
    "struct inode",
    "struct sk_buff",
)


@dataclass
class Kernel:
    """A kernel, what was chosen of it, and what gdb says of that."""

    name: str
    path: Path

    def __post_init__(self) -> None:
        self.table = SymbolTable(self.path, cache=False)
        self.random = random.Random(SEED)
        self.symbols = list(self.table)
        functions = [
            each for each in self.symbols if each.kind is SymbolKind.FUNCTION and each.size
        ]
        objects = [each for each in self.symbols if each.kind is SymbolKind.OBJECT and each.size]
        several = 2 if self.name == "debian" else 1
        self.functions = self.random.sample(functions, 800 * several)
        self.variables = self.random.sample(
            [each for each in objects if "." not in each.name], 400 * several
        )
        self.inside = [each.address + self.random.randrange(each.size) for each in self.functions]
        others = [each for each in self.symbols if each.kind is not SymbolKind.FUNCTION]
        first, last = functions[0].address, functions[-1].address
        self.anywhere = [
            *(self.random.randrange(first, last) for _ in range(400)),
            *(
                each.address + self.random.randrange(max(1, each.size))
                for each in self.random.sample(others, 400)
            ),
        ]
        self.specs = self._specs(functions)
        self.units = [each.address for each in self.functions[:60]]
        self.layouts = LAYOUTS if self.name != "debian" else ()

    def _specs(self, functions: list[Symbol]) -> list[str]:
        """Return names, clones by the name of their origin, and lines, some of them of headers."""
        names = [each.name for each in self.random.sample(functions, 25)]
        clones = [each.name for each in functions if "." in each.name]
        names += [name.partition(".")[0] for name in self.random.sample(clones, 10)]
        lines = []
        for each in self.random.sample(functions, 100):
            line = self.table.line(each.address + self.random.randrange(each.size))
            if line and line.line:
                lines.append(f"{line.file}:{line.line}")
        # A line of a header makes gdb read most units, which takes it long for Debian's.
        headers = [each for each in lines if ".h:" in each and self.name != "debian"]
        return [*names, *[each for each in lines if ".c:" in each][:25], *headers[:2]]

    @cached_property
    def gdb(self) -> dict[str, list[Any]]:
        return ask_python(
            [f"file {self.path}", "set max-value-size unlimited"],
            {
                "at": [each.address for each in self.functions] + self.inside,
                "variables": [each.name for each in self.variables],
                "types": self.units,
                "places": self.specs,
                "said": [
                    *(f"info symbol {address:#x}" for address in self.anywhere),
                    *(f"ptype /o {name}" for name in self.layouts),
                ],
            },
        )


@pytest.fixture(scope="module", params=["debian", "x86_64", "i386"])
def kernel(
    request: pytest.FixtureRequest,
    debian_kernel: DebianKernel,
    built_kernel: Callable[[str], BuiltKernel],
) -> Kernel:
    files = debian_kernel if request.param == "debian" else built_kernel(request.param)
    return Kernel(request.param, files.vmlinux)


ROW = re.compile(
    r"^ *\d+: ([0-9a-f]+) +(\d+|0x[0-9a-f]+) (\w+) +(\w+) +\w+ +(\S+) (\S.*)$", re.MULTILINE
)
KINDS = {"FUNC": SymbolKind.FUNCTION, "OBJECT": SymbolKind.OBJECT}


def rows_of_readelf(path: Path) -> Counter[tuple[str, int, int]]:
    """Return the name, address and size of what the file defines: no files, no sections."""
    command = ["readelf", "--symbols", "--wide", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Counter(
        (name, int(address, 16), int(size, 0))
        for address, size, kind, _, section, name in ROW.findall(text)
        if section != "UND" and kind not in ("FILE", "SECTION")
    )


def test_every_symbol_is_that_of_readelf(kernel: Kernel) -> None:
    found = Counter((each.name, each.address, each.size) for each in kernel.symbols)
    assert found == rows_of_readelf(kernel.path)
    assert len(kernel.table) == found.total() > 15_000


def parameters(text: str) -> tuple[str, set[str]]:
    """Return what a function returns and the types of its parameters, in no order."""
    end = text.rindex(")")
    depth, begin = 0, end
    for begin in range(end, -1, -1):
        depth += {")": 1, "(": -1}.get(text[begin], 0)
        if not depth:
            break
    found, depth = [""], 0
    for char in text[begin + 1 : end]:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and not depth:
            found.append("")
        else:
            found[-1] += char
    return text[:begin].replace(" ", ""), {each.strip() for each in found}


def test_declarations_of_functions(kernel: Kernel) -> None:
    seen: Counter[str] = Counter()
    differ: list[tuple[object, ...]] = []
    for symbol, answer in zip(kernel.functions, kernel.gdb["at"], strict=False):
        line = kernel.table.line(symbol.address)
        assert (line and [line.file, line.line]) == answer["line"], symbol
        if not answer["functions"]:  # assembler without entries: the line is all there is
            assert [symbol.file, symbol.line] == (answer["line"] or [None, None])
            assert symbol.prototype is None
            seen["assembler"] += 1
            continue
        name, file, number, of = answer["functions"][-1]
        assert symbol.prototype is not None
        bare = symbol.prototype.removesuffix(";").removeprefix("static ")
        bare = re.sub(rf"\b{re.escape(name)}\(", "(", bare, count=1)
        if number == 0:
            # Assembler with entries that have no line; nothing says what the parameters are, and
            # gdb shows none.
            assert line is not None
            assert (symbol.file, symbol.line) == (line.file, line.line)
            assert (bare, of) == ("void ()", "void (void)")
            seen["assembler"] += 1
        elif (symbol.file, symbol.line) != (file, number):
            differ.append((symbol.name, symbol.file, symbol.line, file, number))
        elif bare.replace(" ", "") == of.replace(" ", ""):
            seen["same"] += 1
        elif "." in symbol.name and parameters(bare) == parameters(of):
            seen["clone"] += 1  # gdb has those that are left first; the source is as here
        else:
            differ.append((symbol.name, symbol.prototype, of))
    assert not differ
    assert seen["same"] > len(kernel.functions) * 0.93
    assert seen.total() == len(kernel.functions)


def test_lines_and_functions_of_addresses(kernel: Kernel) -> None:
    differ, deepest = [], 0
    for address, answer in zip(
        kernel.inside, kernel.gdb["at"][len(kernel.functions) :], strict=True
    ):
        line = kernel.table.line(address)
        chain = kernel.table.inline_chain(address)
        mine = line and [line.file, line.line], [frame.function for frame in chain]
        theirs = answer["line"], [name for name, *_ in answer["functions"]]
        if mine != theirs:
            differ.append((hex(address), mine, theirs))
        if chain:
            assert chain[0].line == line
            assert [frame.inlined for frame in chain] == [True] * (len(chain) - 1) + [False]
        deepest = max(deepest, len(chain))
    assert not differ
    assert deepest > 5


def test_calls_of_inlined_copies(kernel: Kernel) -> None:
    addresses = kernel.inside[:250]
    text = subprocess.run(
        ["addr2line", "-a", "-i", "-f", "-e", str(kernel.path)],
        input="".join(f"{address:#x}\n" for address in addresses),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    blocks = re.split(r"^0x[0-9a-f]+\n", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(addresses)
    compared = 0
    for address, block in zip(addresses, blocks, strict=True):
        rows = block.splitlines()
        theirs = []
        for name, place in zip(rows[::2], rows[1::2], strict=True):
            file, _, line = place.partition(" (discriminator")[0].rpartition(":")
            theirs.append((name, PurePosixPath(file).name, line))
        mine = [
            (frame.function, PurePosixPath(frame.line.file).name, str(frame.line.line))
            for frame in kernel.table.inline_chain(address)
            if frame.line
        ]
        if not mine:
            continue  # assembler
        # Of several rows for the address itself addr2line takes another than gdb and we.
        assert [name for name, *_ in mine] == [name for name, *_ in theirs]
        assert mine[1:] == theirs[1:], hex(address)
        compared += len(mine) > 1
    assert compared > 60


def test_declarations_of_variables(kernel: Kernel) -> None:
    kernel.table.locations("start_kernel")  # makes the index, without which each takes 50 ms
    seen: Counter[str] = Counter()
    differ = []
    for symbol, answer in zip(kernel.variables, kernel.gdb["variables"], strict=True):
        here = [row for row in answer if row[4] == symbol.address]
        if not here or all(declared for *_, declared in here):
            # In a function, of assembler, or gdb finds only the declaration in a header first.
            seen["not of gdb's global symbols"] += 1
            assert here or symbol.prototype is None
            continue
        if symbol.prototype is None:
            differ.append((symbol.name, here))
            continue
        assert symbol.prototype.removeprefix("static ").startswith(("const ", "")), symbol
        places = {(file, line) for _, file, line, *_ in here}
        if len(kernel.table.find(symbol.name)) == 1:
            variable = kernel.table.variable(symbol.name)
            assert variable.address == symbol.address
            assert variable.per_cpu == (symbol.section == PER_CPU)
            assert str(variable.type) == here[0][3] or symbol.name == "linux_banner", symbol
        if (symbol.file, symbol.line) in places:
            seen["same"] += 1
        elif symbol.file and symbol.file.endswith(".h") and symbol.line in {at for _, at in places}:
            seen["header"] += 1  # gdb 13 names the unit where no code comes of the header
        else:
            # A weak definition and the one that was linked: both are said to be there.
            seen["weak"] += 1
    assert not differ
    assert seen["same"] > len(kernel.variables) * 0.93
    assert seen["header"] < len(kernel.variables) * 0.02
    assert seen["weak"] < len(kernel.variables) * 0.01


def contents(of: Type) -> list[Any]:
    """Return the same as `gdb_symbols.contents`."""
    if isinstance(of, Enum):
        return [of.size, [[name, value] for name, value in of.enumerators.items()]]
    members = [
        [
            each.name,
            each.offset * 8 + (each.bit_offset or 0),
            each.bit_size or 0,
            str(each.type),
            each.type.size or 0,
        ]
        for each in of.members
    ]
    return [of.size, members]


def one_dimension(text: str) -> str:
    """Return a text as BTF can tell it: one dimension, and nothing behind a flexible array."""

    def merged(match: re.Match[str]) -> str:
        return f"[{prod(int(each) for each in re.findall(r'[0-9]+', match[0])) or ''}]"

    return re.sub(r"(\[\d+\])+", merged, text)


def flattened(found: list[Any]) -> list[Any]:
    size, members = found
    return [size, [[one_dimension(str(part)) for part in each] for each in members]]


def test_layouts_of_types(kernel: Kernel) -> None:
    known: dict[str, list[Any]] = {}
    for unit in kernel.gdb["types"]:
        for name, found in unit.items():
            if found[1] or not name.startswith("enum "):  # else it is only declared
                known.setdefault(name, []).append(found)
    assert len(known) > TYPES
    others = []
    for name, candidates in known.items():
        mine = contents(kernel.table.type(name))
        if mine in candidates:
            continue
        if kernel.name == "debian" and flattened(mine) in map(flattened, candidates):
            continue  # pahole makes one dimension of several
        others.append(name)
    # Different structures of one name, of which we have one and the chosen units another.
    assert len(others) <= 3, others


def test_texts_of_types(kernel: Kernel) -> None:
    """What DWARF says; those of Debian's kernel are compared where the types of BTF are."""
    answers = kernel.gdb["said"][len(kernel.anywhere) :]
    for name, answer in zip(kernel.layouts, answers, strict=True):
        text = definition(kernel.table.type(name), offsets=True).replace("*/  ", "*/  type = ", 1)
        assert one_dimension(text) == one_dimension(answer.rstrip("\n")), name


SYMBOL = re.compile(r"(\S+)(?: \+ (\d+))? in section (\S+)")


def test_addresses_of_symbols(kernel: Kernel) -> None:
    same = 0
    for address, answer in zip(kernel.anywhere, kernel.gdb["said"], strict=False):
        found = kernel.table.lookup(address)
        match = SYMBOL.match(answer)
        if match is None:
            assert found is None, hex(address)
            continue
        assert found is not None, answer
        assert found.section == match[3]
        assert address - found.address == int(match[2] or 0), answer
        # Of several of one address gdb takes another.
        assert match[1] == found.name or found.address in {
            each.address for each in kernel.table.find(match[1])
        }
        same += match[1] == found.name
    assert same > len(kernel.anywhere) * 0.6


def places_of(table: SymbolTable, spec: str) -> list[list[Any]]:
    try:
        return sorted([each.address, each.file, each.line] for each in table.locations(spec))
    except SymbolNotFound:
        return []


def test_places_of_names_and_lines(kernel: Kernel) -> None:
    differ = {
        spec: (mine, theirs)
        for spec, theirs in zip(kernel.specs, kernel.gdb["places"], strict=True)
        if (mine := places_of(kernel.table, spec)) != theirs
    }
    assert not differ
    assert sum(bool(each) for each in kernel.gdb["places"]) > len(kernel.specs) * 0.95


def unmoved(symbols: Iterable[Symbol]) -> set[str]:
    """Return the sections whose addresses are no addresses: numbers, offsets into a CPU's data."""
    linked_at_0 = {each.section for each in symbols if each.address < 1 << 20}
    return {SymbolKind.ABSOLUTE.value, *linked_at_0}


def test_a_slide_moves_all_answers(kernel: Kernel) -> None:
    table = kernel.table
    chosen: Sequence[Symbol] = kernel.functions[:300] + kernel.variables[:300]
    inside = kernel.inside[:100]
    specs = [each for each in kernel.specs if ".h:" not in each][::4]

    def answers() -> tuple[list[Any], list[Any]]:
        """Return addresses, and what has none."""
        slide = table.slide
        found = [table.lookup(each + slide) for each in inside]
        variables = [table.variable(each.name) for each in chosen if each.kind is SymbolKind.OBJECT]
        addresses = [
            [each and each.address for each in found],
            [place.address for spec in specs for place in table.locations(spec)],
            [place.address for each in inside for place in table.locations(f"{each + slide:#x}")],
        ]
        rest = [
            [each and (each.name, each.size, each.file, each.prototype) for each in found],
            [table.line(each + slide) for each in inside],
            [table.inline_chain(each + slide) for each in inside],
            [table.unwind_rules(each + slide) for each in inside],
            [(each.name, str(each.type), each.per_cpu) for each in variables],
            [
                (place.function, place.file, place.line, place.inlined)
                for spec in specs
                for place in table.locations(spec)
            ],
            [str(table.type("struct task_struct").members)],
        ]
        return addresses, rest

    fixed = unmoved(kernel.symbols)
    assert (PER_CPU in fixed) == (kernel.name != "i386")
    linked = answers()
    was = {each: table.variable(each.name).address for each in kernel.variables[:300]}
    try:
        table.slide = SLIDE
        slid = answers()
        for symbol, moved in zip(kernel.symbols, sorted_as(table, kernel.symbols), strict=True):
            expected = 0 if symbol.section in fixed else SLIDE
            assert moved - symbol.address == expected, symbol
        for symbol, address in was.items():
            expected = 0 if symbol.section in fixed else SLIDE
            assert table.variable(symbol.name).address - address == expected, symbol
            found = table.lookup(symbol.address + expected)
            assert found is not None
            assert found.address == symbol.address + expected
        for symbol in chosen[:50]:
            assert table.line(symbol.address) is None
    finally:
        table.slide = 0
    moved_by = [
        [theirs and theirs - mine for mine, theirs in zip(first, second, strict=True)]
        for first, second in zip(linked[0], slid[0], strict=True)
    ]
    assert {each for group in moved_by for each in group} == {SLIDE}
    assert slid[1] == linked[1]


def sorted_as(table: SymbolTable, symbols: list[Symbol]) -> list[int]:
    """Return the addresses that a table has now, in the order of symbols that it gave before."""
    now = iter(table)
    return [next(now).address for _ in symbols]


SECTION = re.compile(
    r"^ *\[ *\d+\] (\.?\S+) +\S+ +[0-9a-f]+ [0-9a-f]+ ([0-9a-f]+) \S+ +(\w*A\w*) .* (\d+)$",
    re.MULTILINE,
)


def placed(module: Path, base: int) -> dict[str, int]:
    """Return an address for each section that is loaded, as a kernel might choose them."""
    command = ["readelf", "--sections", "--wide", str(module)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    chance = random.Random(SEED)
    sections, at = {}, base
    for name, size, _, alignment in SECTION.findall(text):
        if int(size, 16):
            unit = max(int(alignment), 1)
            sections[name] = at = -(-at // unit) * unit
            at += int(size, 16) + chance.randrange(4096)
    assert ".text" in sections
    return sections


MODULES = [("debian", "xfs"), ("x86_64", "dummy"), ("i386", "dummy")]


@pytest.mark.parametrize(("name", "module"), MODULES)
def test_modules(
    name: str,
    module: str,
    debian_kernel: DebianKernel,
    built_kernel: Callable[[str], BuiltKernel],
) -> None:
    files = debian_kernel if name == "debian" else built_kernel(name)
    path = files.module(module)
    sections = placed(path, 0xF800_0000 if name == "i386" else 0xFFFF_FFFF_C012_0000)
    table = SymbolTable(files.vmlinux, cache=False, slide=SLIDE)
    assert table.add_module(path, sections) == module
    kernel_size = len(SymbolTable(files.vmlinux, cache=False))
    symbols = [each for each in table if each.section in sections and is_of(each, sections)]
    assert len(symbols) > 0.9 * (len(table) - kernel_size) > 20
    chance = random.Random(SEED)
    functions = [each for each in symbols if each.kind is SymbolKind.FUNCTION and each.size]
    functions = chance.sample(functions, min(250, len(functions)))
    inside = [each.address + chance.randrange(each.size) for each in functions]
    objects = [each for each in symbols if each.kind is SymbolKind.OBJECT and "." not in each.name]
    objects = chance.sample([each for each in objects if each.size], min(100, len(objects)))
    specs = [each.name for each in functions[:15]]
    for address in inside[:15]:
        line = table.line(address)
        if line and line.line and line.file.endswith(".c"):
            specs.append(f"{line.file}:{line.line}")
    added = "".join(f" -s {each} {address:#x}" for each, address in sections.items())
    gdb = ask_python(
        [f"add-symbol-file {path}{added}"],
        {
            "at": [each.address for each in functions] + inside,
            "variables": [each.name for each in objects],
            "types": [each.address for each in functions[:10]],
            "places": specs,
            "said": [f"info symbol {address:#x}" for address in inside],
        },
    )
    for symbol, answer in zip(functions, gdb["at"], strict=False):
        line = table.line(symbol.address)
        assert (line and [line.file, line.line]) == answer["line"]
        if answer["functions"]:
            assert [symbol.file, symbol.line] == answer["functions"][-1][1:3]
    for address, answer in zip(inside, gdb["at"][len(functions) :], strict=True):
        line = table.line(address)
        assert (line and [line.file, line.line]) == answer["line"]
        chain = [frame.function for frame in table.inline_chain(address)]
        assert chain == [each for each, *_ in answer["functions"]]
    for symbol, answer in zip(objects, gdb["variables"], strict=True):
        assert [symbol.file, symbol.line, symbol.address] in [
            [file, line, address] for _, file, line, _, address, _ in answer
        ]
        if len(table.find(symbol.name)) == 1:
            assert str(table.variable(symbol.name).type) == answer[0][3]
    for address, answer in zip(inside, gdb["said"], strict=True):
        symbol_at, match = table.lookup(address), SYMBOL.match(answer)
        assert symbol_at is not None
        assert match is not None
        assert (address - symbol_at.address, symbol_at.section) == (int(match[2] or 0), match[3])
        assert symbol_at.address in {each.address for each in table.find(match[1])}
    known: dict[str, list[Any]] = {}
    for unit in gdb["types"]:
        for type_, found in unit.items():
            if found[1] or not type_.startswith("enum "):
                known.setdefault(type_, []).append(found)
    for type_, candidates in known.items():
        mine = flattened(contents(table.type(type_)))
        assert mine in map(flattened, candidates), type_
    for spec, theirs in zip(specs, gdb["places"], strict=True):
        # A name may be one of the kernel too, and a file.
        mine = [each for each in places_of(table, spec) if within(each[0], sections)]
        assert mine == theirs, spec


def within(address: int, sections: dict[str, int]) -> bool:
    return min(sections.values()) <= address < max(sections.values()) + (1 << 24)


def is_of(symbol: Symbol, sections: dict[str, int]) -> bool:
    return within(symbol.address, sections)


@pytest.mark.live("xz", "zstd", "objcopy")
def test_a_module_in_other_wrappings(
    built_kernel: Callable[[str], BuiltKernel], tmp_path: Path
) -> None:
    path = built_kernel("x86_64").module("dummy")
    sections = placed(path, 0xFFFF_FFFF_C012_0000)
    table = SymbolTable(built_kernel("x86_64").vmlinux, cache=False)
    without = len(table)

    def answers() -> list[object]:
        symbol = table["dummy_xmit"]
        return [
            len(table) - without,
            symbol,
            symbol.prototype,
            (symbol.file, symbol.line),
            table.line(symbol.address + 20),
            table.inline_chain(symbol.address + 20),
            table.unwind_rules(symbol.address + 20),
            table.locations("dummy_xmit"),
            table.locations("dummy.c:60"),
            str(table.variable("dummy_link_ops")),
        ]

    assert table.add_module(path, sections) == "dummy"
    expected = answers()
    assert expected[2] == "static netdev_tx_t dummy_xmit(struct sk_buff *, struct net_device *);"
    stripped, debug = split_debug(path, tmp_path)
    for each in (
        compress(path, "xz", tmp_path),
        compress(path, "zst", tmp_path),
        stripped,
        compress(stripped, "xz", tmp_path),
        debug,
    ):
        table.remove_module("dummy")
        assert "dummy_xmit" not in table
        assert table.lookup(sections[".text"]) is None
        assert table.add_module(each, sections) == "dummy"
        assert table.modules == ("dummy",)
        assert answers() == expected, each


def test_modules_that_are_refused(
    debian_kernel: DebianKernel, built_kernel: Callable[[str], BuiltKernel], tmp_path: Path
) -> None:
    table = SymbolTable(debian_kernel.vmlinux, cache=False)
    with pytest.raises(BadImage, match=r"another build.*not 00ff"):
        table.add_module(debian_kernel.module("dummy"), {}, build_id=b"\0\xff")
    for name in ("x86_64", "i386"):
        other = built_kernel(name).module("dummy")
        with pytest.raises(BadImage, match="another kernel") as caught:
            table.add_module(other, {".text": 0xF800_0000})
        assert caught.value.path == str(other)
    with pytest.raises(BadImage, match=r"vmlinux"):
        table.add_module(debian_kernel.vmlinux, {})
    for name, content in (("empty.ko", b""), ("text.ko.xz", b"text"), ("cut.ko.zst", b"\x28\xb5")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadImage):
            table.add_module(tmp_path / name, {})
    with pytest.raises(BadImage):
        table.add_module(tmp_path / "not there.ko", {})
    with pytest.raises(SymbolNotFound, match="no module 'dummy'"):
        table.remove_module("dummy")
    assert table.modules == ()
    assert "start_kernel" in table


def test_a_symbol_script(debian_kernel: DebianKernel, tmp_path: Path) -> None:
    path = debian_kernel.module("dummy")
    script = tmp_path / "modules.gdb"
    script.write_text(f"add-symbol-file '{path}' 0xffffffffc0120000 -s .data 0xffffffffc0130000\n")
    table = SymbolTable(debian_kernel.vmlinux, cache=False)
    assert table.add_symbol_script(script) == ("dummy",)
    assert table["dummy_xmit"].section == ".text"
    assert table["numdummies"].section == ".data"
    assert table["numdummies"].address == 0xFFFF_FFFF_C013_0000
    assert "dummy_init_module" not in table  # its section has no address
    assert table.lookup(table["dummy_xmit"].address + 8) == table["dummy_xmit"]
    with pytest.raises(SymbolError, match=r"nothing\.gdb: cannot be read"):
        table.add_symbol_script(tmp_path / "nothing.gdb")
    script.write_text("file vmlinux\n")
    with pytest.raises(SymbolError, match="line 1: 'file' is another command"):
        table.add_symbol_script(script)
