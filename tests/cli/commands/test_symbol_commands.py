"""``rsp sym``, ``locations``, ``type`` and ``list``: their output, their JSON, and their errors."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from lab.command import COMMAND, run
from lab.gdb import batch
from lab.inlining import FILES, SOURCES, compile_variant
from rsp.errors import SymbolNotFound
from rsp.symbols.table import SymbolTable
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.kernels import BuiltKernel

pytestmark = pytest.mark.live("gcc")

COMMANDS = ("sym", "locations", "type", "list")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_variant("O2", tmp_path_factory.mktemp("program"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_symbols_in_json(program: Path) -> None:
    table = SymbolTable(program, cache=False)
    found = run("sym", str(program), "many", "counter", "_start", "--json").json
    assert list(found) == ["matches"]
    names = ["many", "counter", "counter", "_start"]  # two files have a static counter
    assert [match["name"] for match in found["matches"]] == names
    many = table["many"]
    line = 1 + (SOURCES / "main.c").read_text().splitlines().index("many(int a, int b,")
    assert found["matches"][0] == {
        "name": "many",
        "address": f"{many.address:#x}",
        "size": many.size,
        "kind": "function",
        "file": "main.c",
        "line": line,
        "prototype": "int many(int, int, int);",
    }
    for match in found["matches"][1:3]:
        assert match["prototype"] == "static int counter;"
        assert (match["kind"], match["size"]) == ("object", 4)
    assert {match["file"] for match in found["matches"][1:3]} == {"main.c", "other.c"}


def test_symbols_for_people(program: Path) -> None:
    many = SymbolTable(program, cache=False)["many"]
    shown = run("sym", str(program), "many", f"{many.address + 3:#x}", str(many.address))
    assert (shown.status, shown.err) == (0, "")
    first, about, inside, *_ = shown.out.splitlines()
    assert first.split() == [f"{many.address:#x}", str(many.size), "function", "many"]
    assert about.strip().split("  ") == [f"main.c:{many.line}", "int many(int, int, int);"]
    assert inside.split()[-1] == "many+0x3"
    assert shown.out.count("\n") == 6


def test_a_symbol_by_address_has_the_line_of_the_address(program: Path) -> None:
    table = SymbolTable(program, cache=False)
    for address in range(table["main"].address, table["main"].address + 60, 7):
        (match,) = run("sym", str(program), f"{address:#x}", "--json").json["matches"]
        line = table.line(address)
        assert line is not None
        assert (match["name"], match["file"], match["line"]) == ("main", line.file, line.line)
        assert match["address"] == f"{table['main'].address:#x}"


def test_symbols_by_pattern(program: Path) -> None:
    def names(*queries: str) -> list[str]:
        found = run("sym", str(program), "--regex", "--json", *queries).json
        return [match["name"] for match in found["matches"]]

    assert names("^ma(in|ny)$") == ["main", "many"]
    assert names("^main$", "^many$", "^m.*n$") == ["main", "many", "main"]
    assert names("nothing at all") == []
    assert len(names("")) == len(SymbolTable(program))
    run("sym", str(program), "--regex", "(").fails("'(' is no regular expression")


def test_a_slide_moves_what_is_shown(program: Path) -> None:
    table = SymbolTable(program, cache=False)
    main = table["main"].address
    for slide in ("0x200000", "2097152"):
        found = run("sym", str(program), "main", "--slide", slide, "--json").json
        assert found["matches"][0]["address"] == f"{main + 0x200000:#x}"
        found = run("sym", str(program), f"{main + 0x200005:#x}", "--slide", slide, "--json").json
        assert found["matches"][0]["name"] == "main"
        found = run("locations", str(program), "main", "--slide", slide, "--json").json
        moved = table.locations("main")[0].address + 0x200000
        assert found["locations"][0]["address"] == f"{moved:#x}"
    for slide in ("auto", "none", "0"):
        found = run("sym", str(program), "main", "--slide", slide, "--json").json
        assert found["matches"][0]["address"] == f"{main:#x}"
    assert run("sym", str(program), "main", "--slide", "far").status == 2


def test_locations(program: Path) -> None:
    table = SymbolTable(program, cache=False)
    for spec in (
        "link_nodes",
        "main.c:52",
        "many+0x3",
        "common.h:6",
        f"{table['main'].address:#x}",
    ):
        places = table.locations(spec)
        found = run("locations", str(program), spec, "--json").json
        assert found == {
            "locations": [
                {
                    "address": f"{place.address:#x}",
                    "function": place.function,
                    "file": place.file,
                    "line": place.line,
                }
                for place in places
            ]
        }
        shown = run("locations", str(program), spec).out
        assert shown.splitlines() == [
            f"{place.address:#018x} in {place.function} at {place.file}:{place.line}"
            for place in places
        ]
    assert len(table.locations("link_nodes")) > 2


@pytest.mark.live("gdb")
def test_types(tmp_path: Path) -> None:
    source, program = tmp_path / "main.c", tmp_path / "program"
    source.write_text(
        "struct bits { int a : 3; unsigned b : 9; struct { char c; }; long d[2][3]; };\n"
        "typedef struct bits bits_t; enum color { RED, BLUE = 7 };\n"
        "bits_t x; enum color y; int _start(void) { return 0; }\n"
    )
    options = ["-g", "-nostdlib", "-static", "-no-pie"]
    subprocess.run(["gcc", *options, "-o", str(program), str(source)], check=True)
    found = run("type", str(program), "struct bits", "--json").json
    assert found == {
        "name": "struct bits",
        "size": 56,
        "members": [
            member("a", "int", 0, 4, 0, 3),
            member("b", "unsigned int", 0, 4, 3, 9),
            member(None, "struct {...}", 2, 1, None, None),
            member("d", "long [2][3]", 8, 48, None, None),
        ],
    }
    found = run("type", str(program), "bits_t", "--json").json
    assert (found["name"], found["size"], len(found["members"])) == ("bits_t", 56, 4)
    found = run("type", str(program), "enum color", "--json").json
    assert found == {"name": "enum color", "size": 4, "members": []}
    found = run("type", str(program), "struct bits *", "--json").json
    assert found == {"name": "struct bits *", "size": 8, "members": []}
    assert run("type", str(program), "enum color").out == "enum color {RED, BLUE = 7}\n"
    gdb = subprocess.run(
        [*batch("ptype /o struct bits"), str(program)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    shown = run("type", str(program), "struct bits").out
    assert shown == gdb.replace("type = ", "")


def member(
    name: str | None,
    of: str,
    offset: int,
    size: int,
    bit_offset: int | None,
    bit_size: int | None,
) -> dict[str, object]:
    return {
        "name": name,
        "type": of,
        "offset": offset,
        "size": size,
        "bit_offset": bit_offset,
        "bit_size": bit_size,
    }


def test_source_lines(program: Path, tmp_path: Path) -> None:
    lines = (SOURCES / "main.c").read_text().splitlines()
    number = 1 + lines.index("int one_line(int x) { return x + counter; }")
    shown = run("list", str(program), "one_line")
    assert (shown.status, shown.err) == (0, "")
    expected = list(enumerate(lines, 1))[number - 6 : number + 5]
    assert shown.out.splitlines() == [f"{at}\t{text.expandtabs()}" for at, text in expected]
    found = run("list", str(program), f"main.c:{number}", "--json").json
    assert found == {
        "lines": [{"file": "main.c", "line": at, "text": text} for at, text in expected]
    }


def test_source_lines_of_another_directory(tmp_path: Path) -> None:
    built, here = tmp_path / "built", tmp_path / "here" / "below"
    built.mkdir()
    here.mkdir(parents=True)
    for file in (*FILES, "common.h"):
        shutil.copy(SOURCES / file, built)
        shutil.copy(SOURCES / file, here)
    program = tmp_path / "program"
    options = ["-g", "-O1", "-nostdlib", "-static", "-no-pie", "-fno-stack-protector"]
    objects = [str(built / file) for file in FILES]
    subprocess.run(["gcc", *options, "-o", str(program), *objects], cwd=built, check=True)
    before = run("list", str(program), "fail").out
    assert "return -helper(code);" in before
    shutil.rmtree(built)
    shown = run("list", str(program), "fail")
    assert shown.status == 0
    told = (
        rf"{re.escape(str(built))}/other\.c:\d+: the file is not here; say where with --source-map"
    )
    assert re.match(told, shown.out)
    (line,) = run("list", str(program), "fail", "--json").json["lines"]
    assert line["text"] is None
    assert line["file"] == f"{built}/other.c"
    assert run("list", str(program), "fail", "--source-map", f"{built}={here}").out == before
    above = f"{tmp_path}={tmp_path}/nothing"  # the first that matches
    shown = run(
        "list", str(program), "fail", f"--source-map={above}", f"--source-map={built}={here}"
    )
    assert "not here" in shown.out
    for wrong in ("nothing", "=here", "there="):
        assert run("list", str(program), "fail", "--source-map", wrong).status == 2


@pytest.mark.live("objcopy")
def test_a_source_file_cannot_command_the_terminal(tmp_path: Path) -> None:
    source, program = tmp_path / "main.c", tmp_path / "program"
    source.write_text(
        "/* \033[2J\r\a\x9b */ int evil(void) { return 1; }\nint _start(void){return evil();}\n"
    )
    options = ["-g", "-O0", "-nostdlib", "-static", "-no-pie"]
    subprocess.run(["gcc", *options, "-o", str(program), str(source)], check=True)
    named = tmp_path / "named"
    rename = "--redefine-sym=evil=ev\033[31mil"
    subprocess.run(["objcopy", rename, str(program), str(named)], check=True)
    for arguments in (("list", "main.c:1"), ("sym", "--regex", "ev"), ("locations", "main.c:1")):
        command, *rest = arguments
        shown = run(command, str(named), *rest)
        assert shown.status == 0
        assert all(char.isprintable() or char in "\n\t" for char in shown.out), shown.out


@pytest.mark.parametrize("command", COMMANDS)
def test_errors_are_one_line(command: str, program: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no image")
    (tmp_path / "script").write_text("symbol-file vmlinux\n")
    run(command, str(program), "no_such_thing").fails("no_such_thing")
    run(command, str(tmp_path / "nothing"), "main").fails("nothing", "No such file")
    run(command, str(tmp_path), "main").fails("directory")
    run(command, str(tmp_path / "text"), "main").fails("not an ELF file")
    run(command, str(program), "main", "--symbol-script", str(tmp_path / "gone")).fails("gone")
    run(command, str(program), "main", "--symbol-script", str(tmp_path / "script")).fails("line 1")
    shown = run(command, str(program))
    assert (shown.status, shown.out) == (2, "")
    assert f"usage: rsp {command}" in shown.err


def test_a_bad_name_comes_with_those_that_are_near(program: Path) -> None:
    run("sym", str(program), "mnay").fails("no symbol 'mnay'", "nearest: many")
    run("type", str(program), "struct nod").fails("no type 'struct nod'", "nearest: node")
    run("sym", str(program), "main", "mnay").fails("mnay")
    run("sym", str(program), "0x10").fails("no symbol at 0x10")


def test_a_module_with_a_script(built_kernel: Callable[[str], BuiltKernel], tmp_path: Path) -> None:
    kernel = built_kernel("x86_64")
    script = tmp_path / "modules"
    script.write_text(f"# loaded\nadd-symbol-file {kernel.module('dummy')} 0xffffffffc0000000\n")
    options = ("--symbol-script", str(script), "--slide", "0x1000000", "--no-cache")
    vmlinux = str(kernel.vmlinux)
    (match,) = run("sym", vmlinux, "dummy_xmit", *options, "--json").json["matches"]
    assert (
        match["prototype"]
        == "static netdev_tx_t dummy_xmit(struct sk_buff *, struct net_device *);"
    )
    address = int(match["address"], 16)
    assert 0xFFFF_FFFF_C000_0000 <= address < 0xFFFF_FFFF_C001_0000
    (found,) = run("sym", vmlinux, f"{address + 2:#x}", *options, "--json").json["matches"]
    assert found["name"] == "dummy_xmit"
    (place,) = run("locations", vmlinux, "dummy_xmit", *options, "--json").json["locations"]
    assert place["function"] == "dummy_xmit"
    (match,) = run("sym", vmlinux, "start_kernel", *options, "--json").json["matches"]
    linked = SymbolTable(vmlinux, cache=False)["start_kernel"].address
    assert match["address"] == f"{linked + 0x1000000:#x}"
    with pytest.raises(SymbolNotFound):
        SymbolTable(vmlinux, cache=False)["dummy_xmit"]


def test_the_cache_is_used_and_left_alone(
    built_kernel: Callable[[str], BuiltKernel], cache: Path
) -> None:
    vmlinux = str(built_kernel("x86_64").vmlinux)
    first = run("locations", vmlinux, "list_add", "--no-cache").out
    assert not cache.exists()
    assert run("sym", vmlinux, "start_kernel").status == 0
    assert run("type", vmlinux, "struct task_struct").status == 0
    assert not cache.exists()  # none of them needs an index
    assert run("locations", vmlinux, "list_add").out == first
    assert [path for path in cache.rglob("*") if path.is_file()]
    assert run("locations", vmlinux, "list_add").out == first


def on_a_terminal(*arguments: str, interrupt: bool = False) -> tuple[int, str]:
    """Return the status of a command, and what it wrote to the terminal that its stderr is."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    drawn = b""
    try:
        while part := os.read(ours, 1 << 16):
            drawn += part
            if interrupt:
                process.send_signal(signal.SIGINT)
                interrupt = False
    except OSError:  # what a terminal says at its end (EIO)
        pass
    os.close(ours)
    return process.wait(), drawn.decode()


WIPE = "\r\x1b[K"
BAR = re.compile(r"\rindexing the symbols \[#* *\] +\d+ %")


def test_a_bar_on_a_terminal_while_an_index_is_made(
    built_kernel: Callable[[str], BuiltKernel],
) -> None:
    vmlinux = str(built_kernel("x86_64").vmlinux)
    status, drawn = on_a_terminal("locations", vmlinux, "list_add")
    assert status == 0
    assert BAR.search(drawn)
    assert drawn.endswith(WIPE)
    for kept in (("locations", vmlinux, "list_add"), ("sym", vmlinux, "start_kernel")):
        status, drawn = on_a_terminal(*kept)
        assert status == 0
        assert not BAR.search(drawn)
        assert drawn == "" or drawn.endswith(WIPE)  # a slow machine shows the seconds
    assert run("locations", vmlinux, "list_add", "--no-cache").err == ""
    status, drawn = on_a_terminal("locations", vmlinux, "no_such_name", "--no-cache")
    assert status == 1
    assert BAR.search(drawn)
    _, _, last = drawn.rpartition(WIPE)
    assert re.fullmatch(r"rsp: error: no function 'no_such_name'.*\r\n", last)


def test_an_interrupted_bar_is_wiped(built_kernel: Callable[[str], BuiltKernel]) -> None:
    vmlinux = str(built_kernel("x86_64").vmlinux)
    status, drawn = on_a_terminal("locations", vmlinux, "list_add", "--no-cache", interrupt=True)
    assert status == 130
    assert drawn.endswith(WIPE)


def test_a_reader_that_leaves_is_no_error(built_kernel: Callable[[str], BuiltKernel]) -> None:
    vmlinux = str(built_kernel("x86_64").vmlinux)
    for arguments in (("sym", vmlinux, "--regex", "^s"), ("type", vmlinux, "struct task_struct")):
        with subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141


def test_the_program_that_comes_along() -> None:
    found = run("locations", str(ELF), "long_start", "--json").json["locations"]
    assert [(place["address"], place["function"]) for place in found] == [("0x7cc7", "long_start")]
    shown = run("list", str(ELF), "long_start")
    assert shown.status == 0
