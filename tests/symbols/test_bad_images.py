"""Files that are no image, are damaged, or lack what is asked for; and caches of all kinds.

All that may come out of `SymbolTable` is an answer, BadImage, SymbolNotFound or SymbolError, with
the reason; what a file can still answer is answered.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.inlining import SOURCES, compile_variant
from lab.nobody import NOBODY
from rsp.errors import BadImage, SymbolError, SymbolNotFound
from rsp.symbols.elf.image import Image
from rsp.symbols.table import SymbolTable
from rsp.symbols.types.text import definition

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.kernels import BuiltKernel

pytestmark = pytest.mark.live("gcc", "objcopy")

NAMES = ("main", "add_node", "helper", "many", "counter", "head", "calls", "plain", "nothing")
SPECS = (
    *(*NAMES, "main.c:52", "common.h:6", "other.c:7", "code.S:3", "main+0x4", "*0x401000"),
    *("nothing.c:3", "main.c:99999", "main.c:0", "other.c:helper", "", ":", "main.c:", "+0x1"),
)
TYPES = (
    *("struct node", "int", "unsigned long", "char *", "struct node **", "struct nothing"),
    *("enum x", "union y", "u32", "struct ", " "),
)


def ask_everything(path: Path, addresses: list[int]) -> int:
    """Ask all that there is to ask; return how many questions were refused."""
    errors: list[SymbolError] = []

    def ask(question: Callable[[], object]) -> None:
        try:
            question()
        except SymbolError as error:
            errors.append(error)

    try:
        table = SymbolTable(path, cache=False)
        symbols = list(table)
    except BadImage as error:
        assert error.path == str(path)  # noqa: PT017 - or no error at all
        return 1

    def every_type(name: str) -> None:
        found = table.type(name)
        definition(found, offsets=True)
        str([found, found.size, found.members])

    def variable(name: str) -> None:
        of = table.variable(name).type
        if of is not None:
            definition(of, offsets=True)

    ask(lambda: (len(table), table.build_id, repr(table)))
    ask(lambda: table.search("a|.*b"))
    ask(lambda: table.search("("))
    for symbol in symbols[:40]:
        ask(lambda symbol=symbol: (symbol.file, symbol.line, symbol.prototype, str(symbol)))  # type: ignore[misc]
    for name in NAMES:
        for by_name in (table.find, table.__getitem__, table.__contains__, variable):
            ask(lambda by_name=by_name, name=name: by_name(name))  # type: ignore[misc]
    for spec in SPECS:
        ask(lambda spec=spec: [str(place) for place in table.locations(spec)])  # type: ignore[misc]
        ask(lambda spec=spec: table.source(spec))  # type: ignore[misc]
    for name in TYPES:
        ask(lambda name=name: every_type(name))  # type: ignore[misc]
    places = [*addresses, *(symbol.address + 1 for symbol in symbols[:20])]
    for address in places:
        for by_address in (
            *(table.lookup, table.line, table.inline_chain, table.unwind_rules, table.find),
            table.binary_at,
        ):
            ask(lambda by_address=by_address, address=address: by_address(address))  # type: ignore[misc]
    for each in errors:
        assert str(each)
        if isinstance(each, BadImage):
            assert each.path == str(path)
            assert (each.offset is None) == (each.section == "")
            assert each.section in str(each)
    return len(errors)


class Subject:
    """A program, and the places in it that are worth damaging."""

    def __init__(self, path: Path) -> None:
        self.whole = path.read_bytes()
        image = Image(path)
        self.addresses = [section.address for section in image.sections if section.address]
        self.addresses += [0, -1, 1 << 64, 0xFFFF_FFFF_FFFF_FFFF]
        headers = struct.unpack_from("<Q", self.whole, 40)[0] if self.whole[4] == 2 else 0
        headers = headers or struct.unpack_from("<I", self.whole, 32)[0]
        self.parts = [(0, 64), (headers, len(self.whole) - headers)]
        nobits = 8
        self.parts += [
            (section.offset, section.size)
            for section in image.sections
            if section.type != nobits and section.size
        ]


VARIANTS = ("O2", "O2-dwarf4", "m32-O2", "compressed", "btf")


@pytest.fixture(scope="module", params=VARIANTS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    directory = tmp_path_factory.mktemp("subject")
    match request.param:
        case "compressed":
            program, path = compile_variant("O2", directory), directory / "compressed"
            command = ["objcopy", "--compress-debug-sections=zlib", str(program), str(path)]
            subprocess.run(command, check=True)
        case "btf":
            path = directory / "btf"
            options = ["-gbtf", "-O1", "-nostdlib", "-static", "-no-pie", "-fno-stack-protector"]
            ignore = "-Wl,--unresolved-symbols=ignore-all"
            command = ["gcc", *options, ignore, "-o", str(path), "main.c"]
            subprocess.run(command, cwd=SOURCES, check=True)
        case variant:
            path = compile_variant(variant, directory)
    found = Subject(path)
    assert ask_everything(path, found.addresses) < 80  # the names of nothing
    return found


@given(data=st.data())
def test_any_byte_may_be_another(
    data: st.DataObject, subject: Subject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(subject.whole)
    for _ in range(data.draw(st.sampled_from((1, 1, 2, 8)), label="how many")):
        offset, size = data.draw(st.sampled_from(subject.parts), label="part")
        at = offset + data.draw(st.integers(0, size - 1), label="offset")
        values = st.sampled_from((0, 0xFF, 0x80, 0x7F, 1)) | st.integers(0, 255)
        content[at] = data.draw(values, label="value")
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    ask_everything(path, subject.addresses)


def test_any_part_may_be_missing(subject: Subject, tmp_path: Path) -> None:
    chance = random.Random(11)
    path = tmp_path / "truncated"
    for length in [*range(0, 130, 13), *(chance.randrange(len(subject.whole)) for _ in range(15))]:
        path.write_bytes(subject.whole[:length])
        assert ask_everything(path, subject.addresses)
        # The same size, and zeros where the rest was: a file that was copied in part.
        path.write_bytes(subject.whole[:length].ljust(len(subject.whole), b"\0"))
        assert ask_everything(path, subject.addresses)


@pytest.mark.live("gcc")
def test_damage_names_the_file_the_section_and_the_place(tmp_path: Path) -> None:
    program = compile_variant("O2", tmp_path)
    debug = tmp_path / "separate.debug"
    subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
    content = bytearray(debug.read_bytes())
    info = Image(debug).named(".debug_info")
    assert info is not None
    content[info.offset + 4 : info.offset + 6] = b"\xff\xff"  # the version of the first unit
    debug.write_bytes(content)
    stripped = tmp_path / "stripped"
    command = ["objcopy", "--strip-debug", f"--add-gnu-debuglink={debug}"]
    subprocess.run([*command, program, stripped], check=True)
    table = SymbolTable(stripped, cache=False)
    assert table.lookup(table["main"].address) is not None
    with pytest.raises(BadImage) as caught:
        table.line(table["main"].address)
    damage = caught.value
    assert (damage.path, damage.section, damage.offset) == (str(debug), ".debug_info", 0)
    assert str(damage) == (f"{debug}: .debug_info is damaged at 0x0: a unit of DWARF version 65535")


@pytest.mark.parametrize("name", ["x86_64", "i386"])
def test_the_first_megabytes_of_a_kernel(
    name: str, built_kernel: Callable[[str], BuiltKernel], tmp_path: Path
) -> None:
    path = tmp_path / "vmlinux"
    with built_kernel(name).vmlinux.open("rb") as file:
        data = file.read(24 << 20)
    chance = random.Random(12)
    for length in sorted(chance.randrange(len(data)) for _ in range(8)):
        path.write_bytes(data[:length])
        with pytest.raises(BadImage, match="copied to its end") as caught:
            SymbolTable(path)["start_kernel"]
        assert caught.value.path == str(path)


# What a header says, by its offset and size; gcc's file is of x86-64, little endian.
FOREIGN = {
    "aarch64": ({18: 183}, r"another machine \(e_machine 183\)"),
    "riscv": ({18: 243}, r"another machine \(e_machine 243\)"),
    "no machine": ({18: 0}, "another machine"),
    "s390": ({5: 2, 18: 0, 19: 22}, r"another machine \(e_machine 22\)"),
    "big endian": ({5: 2, 18: 0, 19: 62}, "another machine|big"),
    "no byte order": ({5: 0}, "header is damaged"),
    "no class": ({4: 0}, "header is damaged"),
    "32 bits": ({4: 1}, "header"),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_files_for_other_machines(what: str, tmp_path: Path) -> None:
    changes, reason = FOREIGN[what]
    content = bytearray(compile_variant("O2", tmp_path).read_bytes())
    for offset, value in changes.items():
        content[offset] = value
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(BadImage, match=reason) as caught:
        SymbolTable(path)["main"]
    assert caught.value.path == str(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.live("strip")
def test_without_symbols(tmp_path: Path) -> None:
    program, stripped = compile_variant("O2", tmp_path), tmp_path / "stripped"
    subprocess.run(["strip", "-o", stripped, program], check=True)
    table = SymbolTable(stripped, cache=False)
    assert len(table) == 0
    address = SymbolTable(program)["main"].address
    for question in (
        lambda: table["main"],
        lambda: table.find("main"),
        lambda: table.variable("head"),
        lambda: table.locations("main"),
    ):
        with pytest.raises(SymbolNotFound, match="stripped"):
            question()
    assert table.lookup(address) is None
    assert table.line(address) is None
    assert table.inline_chain(address) == ()
    assert table.search("main") == []
    assert [place.address for place in table.locations(f"{address:#x}")] == [address]


@pytest.mark.live("strip")
def test_without_dwarf(tmp_path: Path) -> None:
    program, stripped = compile_variant("O2", tmp_path), tmp_path / "stripped"
    subprocess.run(["strip", "--strip-debug", "-o", stripped, program], check=True)
    whole, table = SymbolTable(program, cache=False), SymbolTable(stripped, cache=False)
    assert [(each.name, each.address, each.size, each.kind) for each in table] == [
        (each.name, each.address, each.size, each.kind) for each in whole
    ]
    for each in table:
        assert (each.file, each.line, each.prototype) == (None, None, None)
        assert table.line(each.address) is None
        assert table.inline_chain(each.address) == ()
        if each.size:
            assert table.lookup(each.address) is not None
    (place,) = table.locations("main")
    assert (place.function, place.file, place.line) == ("main", None, 0)
    assert table.variable("head").type is None
    assert table.variable("head").address == whole["head"].address
    for question in (
        lambda: table.type("struct node"),
        lambda: table.locations("main.c:52"),
        lambda: table.source("main"),
    ):
        with pytest.raises(SymbolNotFound, match=r"debug information|which source|no source"):
            question()


def test_unknown_names_come_with_those_that_are_near(tmp_path: Path) -> None:
    table = SymbolTable(compile_variant("O2", tmp_path), cache=False)
    for question, message in (
        (lambda: table["one_lin"], "no symbol 'one_lin' in .*nearest: one_line"),
        (lambda: table["mnay"], "no symbol 'mnay' in .*nearest: many"),
        (lambda: table.find("mainn"), "no symbol 'mainn' in .*nearest: main"),
        (lambda: table.variable("counterr"), "no symbol 'counterr' in .*nearest: counter"),
        (lambda: table.locations("give_upp"), "no function 'give_upp'.*nearest: give_up"),
        (lambda: table.locations("give_upp+0x4"), "no symbol 'give_upp'.*nearest: give_up"),
        # Only inlined copies are left of this one.
        (lambda: table.locations("link_node"), "no function 'link_node'.*nearest: link_nodes"),
        (lambda: table.locations("mian.c:5"), "no source file 'mian.c'.*nearest: main.c"),
        (lambda: table.locations("comon.h:6"), "no source file 'comon.h'.*nearest: common.h"),
        (lambda: table.locations("main.c:99999"), "no code at main.c:99999"),
        (lambda: table.type("struct nod"), "no type 'struct nod' in .*nearest: node"),
        (lambda: table.type("nod *"), r"no type 'nod \*' in .*nearest: node"),
        (lambda: table.source("many_"), "no function 'many_'.*nearest: many"),
    ):
        with pytest.raises(SymbolNotFound, match=message):
            question()


def test_names_of_any_kind_are_only_names(tmp_path: Path) -> None:
    table = SymbolTable(compile_variant("O2", tmp_path), cache=False)
    for name in (
        "",
        "\0",
        "\udcff",
        "\ud800",
        "a" * 100_000,
        "é",
        "main\n",
        "../main.c",
        "%s",
        "[",
    ):
        with pytest.raises(SymbolNotFound):
            table[name]
        questions = [table.type, table.variable, table.find]
        # Blanks around a place mean nothing.
        questions += [table.locations, table.source] if name.strip() == name else []
        for question in questions:
            with pytest.raises(SymbolNotFound):
                question(name)
        for spec in (f"{name}:5", f"main.c:{name}", f"{name}+0x10"):
            with suppress(SymbolNotFound):
                table.locations(spec)
        assert name not in table


@given(spec=st.text(max_size=30) | st.text(alphabet="main.c:+*0x159 ", max_size=20))
def test_any_text_is_a_place_or_not_found(
    spec: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "text"
    if not path.exists():
        path.mkdir()
        compile_variant("O2", path)
    table = SymbolTable(path / "O2", cache=False)
    with suppress(SymbolNotFound):
        assert table.locations(spec)
    with suppress(SymbolNotFound):
        table.type(spec)
    with suppress(SymbolError):
        table.search(spec)


# The cache.


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of the cache, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    directory = tmp_path / "build"
    directory.mkdir()
    # The linker makes no build-id by itself, without which nothing is kept.
    objects = compile_variant("O2", directory).parent.glob("*.o")
    path = directory / "program"
    subprocess.run(["ld", "--build-id", "-static", "-o", path, *sorted(objects)], check=True)
    return path


def answers(table: SymbolTable) -> list[object]:
    return [
        table.locations("link_nodes"),
        table.locations("main.c:52"),
        definition(table.type("struct node"), offsets=True),
        str(table.variable("head").type),
    ]


def files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def test_a_cache_answers_as_the_file_does(home: Path, program: Path) -> None:
    expected = answers(SymbolTable(program, cache=False))
    assert not home.exists()
    assert answers(SymbolTable(program)) == expected
    kept = files(home)
    assert kept
    assert all(path.is_relative_to(home / "gdb-rsp") for path in kept)
    was = {path: path.read_bytes() for path in kept}
    assert answers(SymbolTable(program)) == expected
    assert {path: path.read_bytes() for path in files(home)} == was


def test_a_damaged_cache_is_made_anew(home: Path, program: Path) -> None:
    expected = answers(SymbolTable(program))
    kept = {path: path.read_bytes() for path in files(home)}
    chance = random.Random(13)
    for path, content in kept.items():
        for _ in range(40):
            damaged = bytearray(content)
            match chance.randrange(4):
                case 0:
                    del damaged[chance.randrange(len(content)) :]
                case 1:
                    damaged += bytes(chance.randrange(1, 100))
                case _:
                    damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged)
            assert answers(SymbolTable(program)) == expected
            assert path.read_bytes() == content
    for path in kept:
        path.unlink()
        path.mkdir()  # where nothing can be put
    assert answers(SymbolTable(program)) == expected
    for path in kept:
        path.rmdir()
        os.mkfifo(path)
    assert answers(SymbolTable(program)) == expected


def test_a_cache_that_is_off_or_cannot_be_written(home: Path, program: Path) -> None:
    expected = answers(SymbolTable(program, cache=False))
    assert not home.exists()
    home.write_text("a file where a directory should be")
    assert answers(SymbolTable(program)) == expected
    assert home.read_text() == "a file where a directory should be"
    home.unlink()
    home.symlink_to("/proc/nothing")
    assert answers(SymbolTable(program)) == expected


@pytest.mark.skipif(os.getuid() != 0, reason="to become another user, one must be root")
def test_a_cache_that_another_user_owns(home: Path, program: Path) -> None:
    home.mkdir(mode=0o755)
    for path in (program, *program.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)
    # The checkout may be one that only root can read: what the question loads is loaded before.
    script = f"""if True:
        import os
        import rsp.symbols.cache
        from rsp.symbols.table import SymbolTable
        def count(cache):
            return len(SymbolTable({str(program)!r}, cache=cache).locations("link_nodes"))
        expected = count(False)
        os.setgroups([])
        os.setgid({NOBODY})
        os.setuid({NOBODY})
        assert count(True) == expected > 0
    """
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": "/nonexistent"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert files(home) == []


def test_two_at_once(home: Path, built_kernel: Callable[[str], BuiltKernel]) -> None:
    """Two processes make the same index, while threads of a third read what there is."""
    vmlinux = built_kernel("x86_64").vmlinux
    script = (
        "from rsp.symbols.table import SymbolTable\n"
        f"table = SymbolTable({str(vmlinux)!r})\n"
        "print([place.address for place in table.locations('list_add')])"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found: list[list[int]] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            for path in files(home):
                with suppress(FileNotFoundError):
                    path.read_bytes()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for process in running:
            text, _ = process.communicate()
            found.append([int(each) for each in re.findall(r"\d+", text)])
            assert process.returncode == 0
    finally:
        done.set()
        reader.join()
    alone = SymbolTable(vmlinux)
    assert [place.address for place in alone.locations("list_add")] == found[0] == found[1]
    assert len(found[0]) > 100
    assert not [path for path in files(home) if re.search(r"\.\d+-\d+$", path.name)]
    shutil.rmtree(home)
