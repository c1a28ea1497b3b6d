"""The shape of the house: who may import whom, and what a library costs to import.

The imports are read from the source (ast), those under TYPE_CHECKING and within functions too: a
direction is a direction.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rsp

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(rsp.__file__).parent

# From the ground up: a room imports from itself and from the rooms before it. `rsp` is the
# package's own __init__, where transport, stub and symbols meet in `connect`.
ROOMS = (
    "rsp.errors",
    "rsp.reprs",
    "rsp.arguments",
    "rsp.location_spec",
    "rsp.ctrl_c",
    "rsp.recording",
    "rsp.wire",
    "rsp.transports",
    "rsp.arch",
    "rsp.symbols",
    "rsp.values",
    "rsp.unwind",
    "rsp.frames",
    "rsp.session",
    "rsp.inferior",
    "rsp.run",
    "rsp.linux",
    "rsp.coredump",
    "rsp.remote",
    "rsp",
    "rsp.testing",
    "rsp.cli",
    "rsp.__main__",
)

# The same within rsp.symbols: its rooms and its files.
SYMBOLS = tuple(
    f"rsp.symbols.{name}"
    for name in ("cache", "elf", "dwarf", "types", "unwind", "code", "binary", "table", "at_pc")
)

# What only rsp.symbols itself imports of it; the others are its doors.
PRIVATE = tuple(f"rsp.symbols.{name}" for name in ("elf", "dwarf", "code", "cache"))

# The one place of each third-party library. pyserial has two doors, and a file for each.
THIRD_PARTY = {
    "capstone": {"rsp.inferior.disassembly"},
    "construct": {"rsp.arch.constructs"},
    "defusedxml": {"rsp.arch.description"},
    "hypothesis": {"rsp.testing.strategies"},
    "zstandard": {"rsp.symbols.elf.inflate"},
    "serial": {"rsp.transports.serial", "rsp.transports.rfc2217"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One import statement's module, and when it runs."""

    importer: str
    imported: str
    line: int
    late: bool  # within a function, or for the type checker only

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    parts = ("rsp", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports_of(name: str) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, late: bool) -> None:
        late = late or is_type_checking(node)
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        match node:
            case ast.Import(names=names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(level=0, module=str(module), names=names):
                # `from rsp.wire import commands` may name a module.
                whole = [f"{module}.{alias.name}" for alias in names]
                imported = [each if each in MODULES else module for each in whole]
            case ast.ImportFrom():
                pytest.fail(f"{name}:{node.lineno} is a relative import")
            case _:
                imported = []
        line = getattr(node, "lineno", 0)
        found.extend(
            Import(importer=name, imported=each, line=line, late=late) for each in imported
        )
        for child in ast.iter_child_nodes(node):
            visit(child, late)

    visit(ast.parse(MODULES[name].read_text(encoding="utf-8")), late=False)
    return found


IMPORTS = [each for name in MODULES for each in imports_of(name)]


def room_of(module: str, rooms: Sequence[str] = ROOMS) -> str | None:
    inside = [room for room in rooms if module == room or module.startswith(room + ".")]
    return max(inside, key=len, default=None)


def upward(imports: Iterable[Import], rooms: Sequence[str]) -> list[str]:
    """Return the imports that lead from one of these rooms to a later one."""
    wrong = []
    for each in imports:
        above, below = room_of(each.importer, rooms), room_of(each.imported, rooms)
        if above and below and rooms.index(below) > rooms.index(above):
            wrong.append(str(each))
    return wrong


def top_level(module: str) -> str:
    return module.partition(".")[0]


def past_the_doors(imports: Iterable[Import]) -> dict[str, set[str]]:
    """Return what is imported from outside rsp.symbols that is private to it, by importer."""
    found: dict[str, set[str]] = {}
    for each in imports:
        outside = room_of(each.importer) != "rsp.symbols"
        if outside and room_of(each.imported, PRIVATE) is not None:
            found.setdefault(each.importer, set()).add(each.imported)
    return found


def circles(imports: Iterable[Import]) -> list[set[str]]:
    """Return the modules that import each other, round any number of corners, within a room."""
    direct: dict[str, set[str]] = {}
    for each in imports:
        if each.importer != each.imported and room_of(each.importer) == room_of(each.imported):
            direct.setdefault(each.importer, set()).add(each.imported)
    reached = {name: everything_behind(name, direct) for name in direct}
    found = []
    for name in direct:
        circle = {other for other in reached[name] if name in reached.get(other, ())}
        if circle and circle not in found:
            found.append(circle)
    return found


def everything_behind(name: str, direct: dict[str, set[str]]) -> set[str]:
    behind: set[str] = set()
    pending = [name]
    while pending:
        new = direct.get(pending.pop(), set()) - behind
        behind |= new
        pending += new
    return behind


def test_every_module_is_in_a_room() -> None:
    # What is not in a room of its own would count as the package's __init__.
    assert [name for name in MODULES if room_of(name) == "rsp"] == ["rsp"]


def test_a_room_imports_from_the_rooms_before_it_only() -> None:
    # `connect` composes all of them.
    assert upward((each for each in IMPORTS if each.importer != "rsp"), ROOMS) == []


def test_the_rooms_of_the_symbols_are_layers_too() -> None:
    files = [name for name in MODULES if name.startswith("rsp.symbols.")]
    assert [name for name in files if room_of(name, SYMBOLS) is None] == []
    assert upward(IMPORTS, SYMBOLS) == []


def test_an_import_upwards_is_found() -> None:
    made = [
        made_import("rsp.symbols.elf.image", "rsp.symbols.cache.cache"),
        made_import("rsp.symbols.cache.cache", "rsp.symbols.elf.image"),
        made_import("rsp.symbols.types.btf", "rsp.symbols.types.types"),
        made_import("rsp.symbols.code.variables", "rsp.symbols.binary"),
        made_import("rsp.remote.target", "rsp.symbols.table"),
    ]
    assert upward(made, SYMBOLS) == [str(made[1]), str(made[3])]
    assert upward([*made, made_import("rsp.symbols.table", "rsp.linux.kernel")], ROOMS) == [
        "rsp.symbols.table:1 imports rsp.linux.kernel"
    ]


def test_the_symbols_are_asked_through_their_doors() -> None:
    assert past_the_doors(IMPORTS) == {}


def test_an_import_past_the_doors_is_found() -> None:
    made = [
        made_import("rsp.frames.frame", "rsp.symbols.dwarf.die"),
        made_import("rsp.frames.frame", "rsp.symbols.table"),
        made_import("rsp.frames.frame", "rsp.symbols.code"),
        made_import("rsp.symbols.table", "rsp.symbols.elf.image"),
        made_import("rsp", "rsp.symbols.elf.symtab"),
        made_import("rsp.linux.kernel", "rsp.symbols.unwind.rules"),
    ]
    assert past_the_doors(made) == {
        "rsp.frames.frame": {"rsp.symbols.dwarf.die", "rsp.symbols.code"},
        "rsp": {"rsp.symbols.elf.symtab"},
    }


def test_the_files_of_a_room_import_each_other_in_no_circle() -> None:
    # What is imported late, or for the type checker only, counts: the files know each other.
    assert [sorted(circle) for circle in circles(IMPORTS)] == []


def test_a_circle_is_found() -> None:
    made = [
        made_import("rsp.symbols.dwarf.die", "rsp.symbols.dwarf.units"),
        made_import("rsp.symbols.dwarf.units", "rsp.symbols.dwarf.forms"),
        made_import("rsp.symbols.dwarf.walk", "rsp.symbols.dwarf.die"),
        # Between rooms the direction is the other test's.
        made_import("rsp.symbols.dwarf.die", "rsp.arch.layout"),
        made_import("rsp.arch.layout", "rsp.symbols.dwarf.die"),
    ]
    assert circles(made) == []
    closed = [*made, made_import("rsp.symbols.dwarf.forms", "rsp.symbols.dwarf.die")]
    names = {f"rsp.symbols.dwarf.{name}" for name in ("die", "units", "forms")}
    assert circles(closed) == [names]
    two = made_import("rsp.arch.layout", "rsp.arch.constructs")
    back = made_import("rsp.arch.constructs", "rsp.arch.layout")
    assert circles([*closed, two, back]) == [names, {"rsp.arch.layout", "rsp.arch.constructs"}]


def test_the_imports_of_a_type_checker_and_of_functions_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "made.py"
    source.write_text(
        "if TYPE_CHECKING:\n    from rsp.arch import layout\n"
        "def f():\n    from rsp.symbols.table import SymbolTable\n"
    )
    monkeypatch.setitem(MODULES, "rsp.arch.made", source)
    assert {(each.imported, each.late) for each in imports_of("rsp.arch.made")} == {
        ("rsp.arch.layout", True),
        ("rsp.symbols.table", True),
    }


def made_import(importer: str, imported: str) -> Import:
    return Import(importer=importer, imported=imported, line=1, late=False)


def test_the_package_itself_imports_nothing_early_but_the_errors() -> None:
    early = {each.imported for each in imports_of("rsp") if not each.late}
    assert {name for name in early if top_level(name) == "rsp"} == {"rsp.errors"}


def test_each_third_party_library_has_its_place() -> None:
    # _typeshed is of the type checker: no library, and never imported when the code runs.
    standard = sys.stdlib_module_names | {"rsp", "_typeshed"}
    places: dict[str, set[str]] = {}
    for each in IMPORTS:
        if (library := top_level(each.imported)) not in standard:
            places.setdefault(library, set()).add(each.importer)
    assert places == {name: files & MODULES.keys() for name, files in THIRD_PARTY.items()}


def test_third_party_libraries_are_imported_late() -> None:
    # Within a function; or in a file that is all about the library, and itself imported late.
    openers = {
        each.importer
        for each in IMPORTS
        if top_level(each.imported) in THIRD_PARTY and not each.late
    }
    assert [str(each) for each in IMPORTS if each.imported in openers and not each.late] == []


@pytest.mark.parametrize(
    "statement",
    [
        "import rsp",
        "from rsp import Connection, commands, replies",
        "import rsp.testing.qemu",
        "import rsp.cli",
    ],
)
def test_importing_loads_no_third_party_module(statement: str) -> None:
    # What an editable install puts into site-packages is loaded before any program is.
    before, after = modules_after("pass"), modules_after(statement)
    loaded = {top_level(name) for name in after - before}
    assert loaded - sys.stdlib_module_names == {"rsp"}


def modules_after(statement: str) -> set[str]:
    program = f"{statement}\nimport sys; print(*sys.modules)"
    finished = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return set(finished.stdout.split())


def test_importing_the_package_loads_only_its_errors() -> None:
    loaded = {name for name in modules_after("import rsp") if top_level(name) == "rsp"}
    assert loaded == {"rsp", "rsp.errors"}


def charter_of(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


@pytest.mark.parametrize("name", MODULES)
def test_every_file_opens_with_its_charter(name: str) -> None:
    assert charter_of(MODULES[name]), "no docstring at its head"


@pytest.mark.parametrize(
    "directory", sorted({path.parent for path in MODULES.values()}), ids=lambda path: path.name
)
def test_every_package_says_what_lives_in_it(directory: Path) -> None:
    assert "Contents" in charter_of(directory / "__init__.py")
