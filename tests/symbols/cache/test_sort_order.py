"""The order of symbols and of call frames by address: found, kept, and found anew."""

from __future__ import annotations

import random
import subprocess
from array import array
from contextlib import suppress
from itertools import groupby, takewhile
from typing import TYPE_CHECKING

import pytest

from rsp.errors import BadImage
from rsp.symbols.cache.cache import Cache
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.symtab import ABSOLUTE, Binding, ElfSymbol, Symtab
from rsp.symbols.unwind.cfi import CallFrames

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

COUNT = 5000
SIZE = 8
FUNCTION = """
        .globl f{0}
        .type f{0}, @function
f{0}:   .cfi_startproc
        .skip {1}, 0x90
        .size f{0}, . - f{0}
        .cfi_endproc
"""
# Names for one place, sized or not, and labels that reach to the next symbol or to the end.
ALIASES = """
        .globl plain, weak, strong, bare
        .weak weak
        .type weak, @function
        .type strong, @function
        .type own, @function
plain:
bare:
weak:
strong:
own:    .skip 16, 0x90
        .size weak, 16
        .size strong, 12
        .size own, 16
        .skip 8, 0x90
label:  .skip 8, 0x90
outer:  .skip 4, 0x90
inner:  .skip 4, 0x90
        .skip 8, 0x90
        .size outer, 16
end:
        .equ number, label - plain
        .data
begin:  .quad 1
"""


def link(path: Path, source: str, *options: str) -> Path:
    path.with_suffix(".s").write_text(source)
    command = ["gcc", "-nostdlib", "-static", "-Wl,--build-id", *options]
    subprocess.run([*command, "-o", path, path.with_suffix(".s")], check=True)
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    functions = "".join(FUNCTION.format(number, SIZE) for number in range(COUNT))
    source = f".cfi_sections .debug_frame\n.globl _start\n_start:\n{functions}"
    return link(tmp_path_factory.mktemp("order") / "many", source)


def merit(symbol: ElfSymbol) -> tuple[bool, bool, bool]:
    binding = symbol.binding
    return symbol.size > 0, binding is Binding.GLOBAL, binding is Binding.WEAK


def expected(symtab: Symtab, image: Image, address: int) -> ElfSymbol | None:
    """Return the symbol at an address as the rules for it say, from all symbols."""
    section = image.section_at(address)
    before = [each for each in symtab if each.section != ABSOLUTE and each.address <= address]
    before.sort(key=lambda each: each.address, reverse=True)
    groups = [list(group) for _, group in groupby(before, key=lambda each: each.address)]
    best = [max(reversed(group), key=merit) for group in groups]
    labels = takewhile(lambda each: not each.size, best)
    sized = next((each for each in best if each.size), None)
    if sized is not None and address < sized.address + sized.size:
        return sized
    return next((each for each in labels if section and each.section == section.name), None)


@pytest.mark.live("gcc")
def test_the_best_of_the_symbols_at_a_place_is_the_one_that_it_is_in(tmp_path: Path) -> None:
    image = Image(link(tmp_path / "aliases", f".globl _start\n_start:\n{ALIASES}"))
    symtab = Symtab(image)
    (strong,) = symtab.find("strong")
    (begin,) = symtab.find("begin")
    near = range(strong.address - 4, strong.address + 80)
    found = {at: symtab.lookup(at) for at in (*near, *range(begin.address, begin.address + 12))}
    assert found == {address: expected(symtab, image, address) for address in found}
    assert [each.name for each in symtab.at(strong.address)][:3] == ["strong", "weak", "own"]
    named = {symbol.name for symbol in found.values() if symbol}
    assert named == {"strong", "label", "outer", "begin"}


def answers(image: Image, cache: Cache) -> Sequence[object]:
    symtab, frames = Symtab(image, cache), CallFrames(image, cache)
    (first,) = Symtab(image).find("f0")
    places = range(first.address - 2, first.address + COUNT * SIZE + 8, 1231)
    return [(symtab.lookup(at), symtab.at(at), frames.rules_at(at)) for at in places]


def kinds(cache: Cache) -> dict[str, Path]:
    assert cache.directory is not None
    files = cache.directory.iterdir() if cache.directory.exists() else ()
    return {path.suffixes[-2].removeprefix("."): path for path in files}


@pytest.mark.live("gcc")
def test_an_order_is_kept_and_gives_the_same_answers(program: Path, tmp_path: Path) -> None:
    image, cache = Image(program), Cache(tmp_path)
    bare = answers(image, Cache.off())
    assert len({str(each) for each in bare}) > 30
    assert answers(image, cache) == bare
    assert kinds(cache).keys() == {"symbols", "frames"}
    assert answers(Image(program), Cache(tmp_path)) == bare
    # What is kept is what is used: with another order nothing is found.
    key = image.cache_key
    assert key is not None
    cache.store(key, "symbols", array("I", [0] * COUNT).tobytes())
    assert Symtab(image, cache).lookup(0x401010) is None


@pytest.mark.live("gcc")
@pytest.mark.parametrize("kind", ["symbols", "frames"])
def test_what_is_kept_and_damaged_is_made_anew(kind: str, program: Path, tmp_path: Path) -> None:
    image, cache = Image(program), Cache(tmp_path)
    bare = answers(image, cache)
    path = kinds(cache)[kind]
    whole = path.read_bytes()
    chooser = random.Random(kind)
    for position in (*range(40), *(chooser.randrange(len(whole)) for _ in range(10))):
        data = bytearray(whole)
        data[position] ^= 1 << chooser.randrange(8)
        path.write_bytes(data)
        assert answers(image, cache)[:3] == bare[:3]
        assert path.read_bytes() == whole


@pytest.mark.live("gcc")
@pytest.mark.parametrize("kind", ["symbols", "frames"])
@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\xff" * 20000])
def test_numbers_of_no_entries_are_refused(
    data: bytes, kind: str, program: Path, tmp_path: Path
) -> None:
    image, cache = Image(program), Cache(tmp_path)
    key = image.cache_key
    assert key is not None
    cache.store(key, kind, data)
    assert answers(image, cache) == answers(image, Cache.off())


@pytest.mark.live("gcc")
def test_offsets_of_no_frame_are_damage(program: Path, tmp_path: Path) -> None:
    image, cache = Image(program), Cache(tmp_path)
    key = image.cache_key
    assert key is not None
    for offset in range(60):
        cache.store(key, "frames", array("I", [offset]).tobytes())
        with suppress(BadImage):
            CallFrames(image, cache).rules_at(0x401010)


@pytest.mark.live("gcc")
def test_an_order_with_damage_is_not_kept(program: Path, tmp_path: Path) -> None:
    section = Image(program).named(".debug_frame")
    assert section is not None
    data = bytearray(program.read_bytes())
    half = section.size // 2
    data[section.offset + half : section.offset + section.size] = b"\xee" * (section.size - half)
    (tmp_path / "damaged").write_bytes(data)
    cache = Cache(tmp_path / "cache")
    frames = CallFrames(Image(tmp_path / "damaged"), cache)
    assert 0 < len(frames) < COUNT
    assert frames.damage is not None
    assert kinds(cache) == {}


@pytest.mark.live("gcc")
def test_what_is_small_or_has_no_build_id_is_not_kept(program: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    source = program.with_suffix(".s").read_text()
    small = link(tmp_path / "small", f".globl _start\n_start:\n{ALIASES}")
    nameless = link(tmp_path / "nameless", source, "-Wl,--build-id=none")
    for path in (small, nameless):
        assert Symtab(Image(path), cache).lookup(0x401000)
        CallFrames(Image(path), cache).rules_at(0x401000)
    assert kinds(cache) == {}
