"""The index of names: what was put in comes out, and the cache gives it back."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.symbols.cache.cache import Cache
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.name_index import Entry, NameIndex, build_index, load_or_build
from rsp.symbols.dwarf.scan import Definition, Scan
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.skip_plans import Kind
from rsp.symbols.dwarf.units import Units
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.relocation import RelocatedImage

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
struct point { int x, y; };
typedef struct point point_t;
int origin, other;
extern int somewhere_else;
static inline int twice(int n) { return n * 2; }
int __attribute__((noinline)) plus(int n) { return twice(n) + origin; }
int __attribute__((noinline)) times(point_t *p) { return p->x * p->y + plus(p->x); }
void _start(void) { times(0); }
"""


def build(directory: Path, *options: str) -> Path:
    source, program = directory / "main.c", directory / "program"
    source.write_text(SOURCE)
    command = ["gcc", "-g", "-O1", "-nostdlib", *options, str(source), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("program"), "-static", "-Wl,--build-id")


def units_of(image: Image) -> Units:
    return Units(DwarfSections(image))


# --- The form ------------------------------------------------------------------------------------

definitions = st.lists(
    st.tuples(st.sampled_from(Kind), st.booleans(), st.integers(0, 1 << 33)), min_size=1, max_size=4
).map(sorted)
names = st.dictionaries(
    st.binary(min_size=1, max_size=8).filter(lambda name: b"\0" not in name), definitions
)
pieces = st.lists(
    st.tuples(st.integers(0, (1 << 64) - 1), st.integers(1, 1 << 20), st.integers(0, 1 << 33))
)


@given(names)
def test_every_name_is_found_with_its_entries(found: dict[bytes, list[Definition]]) -> None:
    index = NameIndex.of(Scan(found, [], ()))
    assert len(index) == len(found)
    for name, entries in found.items():
        text = name.decode(errors="surrogateescape")
        assert index.find(text) == tuple(Entry(k, at, declared) for k, declared, at in entries)
        assert index.find(text + "x") == () or name + b"x" in found
    assert index.find("no such name") == ()
    assert index.find("\ud800") == ()
    with_code = {at for each in found.values() for k, decl, at in each if (k, decl) == (0, False)}
    assert set(index.function_entries) == with_code
    assert list(index.function_entries) == sorted(index.function_entries)


@given(names, st.sets(st.sampled_from(Kind)))
def test_a_search_gives_the_names_of_the_kinds_in_order(
    found: dict[bytes, list[Definition]], kinds: set[Kind]
) -> None:
    index = NameIndex.of(Scan(found, [], ()))
    texts = {name.decode(errors="surrogateescape"): each for name, each in found.items()}
    result = list(index.search(re.compile("[a-p]"), *kinds))
    assert [name.encode(errors="surrogateescape") for name, _ in result] == sorted(
        name.encode(errors="surrogateescape")
        for name, each in texts.items()
        if re.search("[a-p]", name) and any(kind in kinds for kind, _, _ in each)
    )
    for name, entries in result:
        assert entries == tuple(each for each in index.find(name) if each.kind in kinds)


@given(pieces)
def test_an_address_is_in_the_function_whose_code_is_there(raw: list[tuple[int, int, int]]) -> None:
    code: list[tuple[int, int, int]] = []
    for begin, size, entry in sorted(raw):  # as functions are: one behind the other
        if not code or begin >= code[-1][1]:
            code.append((begin, begin + size, entry))
    index = NameIndex.of(Scan({}, code, ()))
    for begin, end, entry in code:
        assert index.function_at(begin) == index.function_at(end - 1) == entry
        for outside in (begin - 1, end):
            inside = [each[2] for each in code if each[0] <= outside < each[1]]
            assert index.function_at(outside) == (inside[0] if inside else None)


def test_an_address_behind_a_piece_within_another_is_in_the_outer_one() -> None:
    index = NameIndex.of(Scan({}, [(0x1000, 0x2000, 1), (0x1100, 0x1110, 2)], ()))
    assert [index.function_at(at) for at in (0x10FF, 0x1100, 0x1110, 0x2000)] == [1, 2, 1, None]


def test_an_index_of_nothing_has_nothing() -> None:
    index = NameIndex.of(Scan({}, [], ()))
    assert len(index) == 0
    assert index.find("") == ()
    assert index.function_at(0) is None
    assert index.nearest("x") == ()
    assert list(index.search(re.compile(""), *Kind)) == []


@given(names)
def test_the_same_names_give_the_same_bytes_in_any_order(
    found: dict[bytes, list[Definition]],
) -> None:
    backwards = dict(reversed(found.items()))
    assert NameIndex.of(Scan(found, [], ())).data == NameIndex.of(Scan(backwards, [], ())).data


@pytest.mark.live("gcc")
def test_bytes_that_are_no_index_are_refused(program: Path) -> None:
    data = bytes(build_index(units_of(Image(program))).data)
    assert NameIndex(data).find("plus")
    for size in range(len(data)):
        with pytest.raises(ValueError, match="not an index"):
            NameIndex(data[:size])
    for wrong in (data + b"\0", b"x" + data[1:], data[:8] + b"\5" + data[9:]):
        with pytest.raises(ValueError, match="not an index"):
            NameIndex(wrong)


def test_the_nearest_names_are_the_likest() -> None:
    texts = ["tcp_init_sock", "tcp_init_undo", "udp_init_sock", "tcp_v4_init_sock", "sock", "x"]
    found = {name.encode(): [(Kind.FUNCTION, False, 1)] for name in texts}
    index = NameIndex.of(Scan(found, [], ()))
    assert index.nearest("tcp_init_sokc")[0] == "tcp_init_sock"
    assert index.nearest("tpc_init_sock") == ("tcp_init_sock", "udp_init_sock")
    assert index.nearest("quite another") == ()


# --- A program -----------------------------------------------------------------------------------


@pytest.mark.live("gcc", "nm")
def test_names_and_addresses_lead_to_the_entries_of_a_program(program: Path) -> None:
    image = Image(program)
    units = units_of(image)
    index = build_index(units)
    kinds = {
        name: [(entry.kind, entry.declaration) for entry in index.find(name)]
        for name in ("point", "point_t", "origin", "twice", "plus", "int", "somewhere_else")
    }
    assert kinds == {
        "point": [(Kind.STRUCTURE, False)],
        "point_t": [(Kind.TYPEDEF, False)],
        "origin": [(Kind.VARIABLE, False)],
        "twice": [(Kind.INLINE, False)],
        "plus": [(Kind.FUNCTION, False)],
        "int": [(Kind.BASE, False)],
        "somewhere_else": [],
    }
    text = subprocess.run(["nm", "-S", program], check=True, capture_output=True, text=True).stdout
    functions = [line.split() for line in text.splitlines() if " T " in line]
    assert len([each for each in functions if len(each) == 4]) == 3
    for address, size, _, name in (each for each in functions if len(each) == 4):
        for at in (int(address, 16), int(address, 16) + int(size, 16) - 1):
            entry = index.function_at(at)
            assert entry is not None
            assert Die.at(units, entry).name == name
            assert entry in index.function_entries


# --- The cache -----------------------------------------------------------------------------------


class Told:
    """Says whether an index was built."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, done: int, total: int) -> None:
        self.times += done == total


@pytest.mark.live("gcc")
def test_an_index_is_built_once_and_again_when_the_file_is_not_whole(
    program: Path, tmp_path: Path
) -> None:
    image, told = Image(program), Told()
    first = load_or_build(units_of(image), image, Cache(tmp_path), told)
    second = load_or_build(units_of(image), Image(program), Cache(tmp_path), told)
    assert told.times == 1
    assert first.data == second.data
    assert second.find("plus") == first.find("plus") != ()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:100] + b"\xff" + whole[101:]):
        path.write_bytes(damaged)
        again = load_or_build(units_of(image), image, Cache(tmp_path), told)
        assert again.data == first.data
        assert path.read_bytes() == whole
    assert told.times == 4


@pytest.mark.live("gcc")
def test_a_whole_file_with_something_else_in_it_is_built_anew(
    program: Path, tmp_path: Path
) -> None:
    image, told, cache = Image(program), Told(), Cache(tmp_path)
    key = image.cache_key
    assert key is not None
    cache.store(key, "index", b"something else")
    index = load_or_build(units_of(image), image, cache, told)
    assert index.find("plus")
    assert told.times == 1
    assert cache.load(key, "index") == index.data


@pytest.mark.live("gcc")
def test_what_could_not_all_be_read_is_not_kept(program: Path, tmp_path: Path) -> None:
    image = Image(program)
    first = next(iter(Die.root_of(next(iter(units_of(image)))).children()))
    named = image.named(".debug_info")
    assert named is not None
    data = bytearray(program.read_bytes())
    data[named.offset + first.offset] = 0x7F
    (tmp_path / "damaged").write_bytes(data)
    image = Image(tmp_path / "damaged")
    index = load_or_build(units_of(image), image, Cache(tmp_path / "cache"))
    assert [each.section for each in index.damaged] == [".debug_info"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.live("gcc")
def test_a_module_has_one_index_wherever_it_is_placed(tmp_path: Path) -> None:
    module = build(tmp_path, "-r", "-Wl,--build-id")
    told, cache = Told(), Cache(tmp_path / "cache")
    indexes = []
    for address in (0xFFFF_FFFF_C000_0000, 0xFFFF_FFFF_C123_4000):
        image = RelocatedImage(module, {".text": address})
        units = units_of(image)
        indexes.append(load_or_build(units, image, cache, told))
        (plus,) = indexes[-1].find("plus")
        assert Die.at(units, plus.offset).name == "plus"
        assert plus.offset in indexes[-1].function_entries
        assert indexes[-1].function_at(address) is None
    assert told.times == 1
    assert indexes[0].data == indexes[1].data
    assert build_index(units).function_at(address) == plus.offset


@pytest.mark.live("gcc")
@pytest.mark.parametrize("options", [["-static", "-Wl,--build-id=none"], ["-r", "-Wl,--build-id"]])
def test_what_has_no_build_id_or_no_place_is_not_kept(options: list[str], tmp_path: Path) -> None:
    image = Image(build(tmp_path, *options))
    assert load_or_build(units_of(image), image, Cache(tmp_path / "cache")).data
    assert not (tmp_path / "cache").exists()
