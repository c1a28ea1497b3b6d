"""Separate debug files: found as gdb finds them, and only those that belong to the file."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from rsp.symbols.elf.debugfile import find_debug_file
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.modules import open_module
from rsp.symbols.elf.relocation import RelocatedImage
from rsp.symbols.elf.symtab import Symtab

if TYPE_CHECKING:
    from pathlib import Path

    from lab.kernels import DebianKernel

pytestmark = pytest.mark.live("gcc", "objcopy", "gdb")


def run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


class Split:
    """A program, its debug file, and the program without; not yet where anyone looks."""

    def __init__(self, directory: Path, *, build_id: str = "sha1", answer: int = 42) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.whole, self.debug = directory / "whole", directory / "program.debug"
        self.stripped = directory / "program"
        source = directory / "program.c"
        source.write_text(f"int answer = {answer}; int main(void) {{ return answer; }}\n")
        run("gcc", "-g", f"-Wl,--build-id={build_id}", source, "-o", self.whole)
        run("objcopy", "--only-keep-debug", self.whole, self.debug)
        run(
            "objcopy", "--strip-all", f"--add-gnu-debuglink={self.debug}", self.whole, self.stripped
        )
        self.whole.unlink()

    def move_debug(self, place: Path) -> Path:
        place.parent.mkdir(parents=True, exist_ok=True)
        return self.debug.rename(place)

    def by_build_id(self, directory: Path) -> Path:
        build_id = Image(self.stripped).build_id
        assert build_id is not None
        return directory / ".build-id" / build_id.hex()[:2] / f"{build_id.hex()[2:]}.debug"


def found(split: Split, *directories: Path) -> str | None:
    debug = find_debug_file(Image(split.stripped), directories)
    return debug.path if debug else None


def gdb_finds(split: Split, directory: Path) -> str | None:
    """Return which file gdb reads the symbols from."""
    answer = run(
        *("gdb", "-nx", "-nh", "-batch", "-ex", "set debuginfod enabled off"),
        *("-ex", f"set debug-file-directory {directory}", "-ex", f"file {split.stripped}"),
        *("-ex", "python print(*[each.filename for each in gdb.objfiles()], sep='\\n')"),
    )
    files = set(answer.splitlines()) - {str(split.stripped)}
    return files.pop() if files else None


@pytest.mark.parametrize("build_id", ["sha1", "none"])
@pytest.mark.parametrize("place", ["beside", ".debug", "global", "build-id", "nowhere"])
def test_it_is_found_where_gdb_finds_it(place: str, build_id: str, tmp_path: Path) -> None:
    if (place, build_id) == ("build-id", "none"):
        return  # the one place that needs one
    split, debug_directory = Split(tmp_path / "bin", build_id=build_id), tmp_path / "debug"
    name = split.debug.name
    path = split.move_debug(
        {
            "beside": lambda: split.debug,
            ".debug": lambda: tmp_path / "bin/.debug" / name,
            "global": lambda: debug_directory.joinpath(*tmp_path.parts[1:], "bin", name),
            "build-id": lambda: split.by_build_id(debug_directory),
            "nowhere": lambda: tmp_path / "elsewhere" / name,
        }[place]()
    )
    expected = None if place == "nowhere" else str(path)
    assert gdb_finds(split, debug_directory) == expected
    assert found(split, debug_directory) == expected


def test_what_it_has(tmp_path: Path) -> None:
    split = Split(tmp_path)
    stripped = Image(split.stripped)
    assert not stripped.named(".debug_info")
    debug = find_debug_file(stripped, ())
    assert debug is not None
    assert len(debug.contents(".debug_info"))
    assert Symtab(debug).find("answer")


@pytest.mark.parametrize("build_id", ["sha1", "none"])
def test_one_of_another_build_is_left(build_id: str, tmp_path: Path) -> None:
    split, other = (
        Split(tmp_path / str(answer), build_id=build_id, answer=answer) for answer in (1, 2)
    )
    other.move_debug(split.debug)
    assert found(split) is None
    assert gdb_finds(split, tmp_path) is None


def test_a_better_one_further_on_is_taken(tmp_path: Path) -> None:
    split, other = (Split(tmp_path / str(answer), answer=answer) for answer in (1, 2))
    other.move_debug(split.by_build_id(tmp_path / "first"))
    assert found(split, tmp_path / "first") == str(split.debug)
    split.move_debug(split.by_build_id(tmp_path / "second"))
    good = str(split.by_build_id(tmp_path / "second"))
    assert found(split, tmp_path / "first", tmp_path / "second") == good


@pytest.mark.parametrize("contents", [b"", b"\x7fELF", b"nothing of the kind" * 100])
def test_what_is_no_image_is_passed_over(contents: bytes, tmp_path: Path) -> None:
    split = Split(tmp_path / "bin")
    good = split.move_debug(tmp_path / "bin/.debug/program.debug")
    split.debug.write_bytes(contents)
    assert found(split) == str(good)
    good.unlink()
    good.mkdir()
    assert found(split) is None


def test_a_file_is_not_its_own_debug_file(tmp_path: Path) -> None:
    split = Split(tmp_path)
    split.by_build_id(tmp_path).parent.mkdir(parents=True)
    split.by_build_id(tmp_path).symlink_to(split.stripped)
    split.debug.unlink()
    assert found(split, tmp_path) is None


@pytest.mark.parametrize(
    "link",
    [
        b"",
        b"program.debug",
        b"program.debug\0\0\0",
        b"../program.debug\0\0\0\0",
        b"..\0\0____",
        b"\0\0\0\0____",
        b"\xff" * 300 + b"\0" * 8,
    ],
)
def test_a_hostile_link(link: bytes, tmp_path: Path) -> None:
    split = Split(tmp_path / "bin", build_id="none")
    split.move_debug(tmp_path / "program.debug")
    (tmp_path / "link").write_bytes(link)
    run(
        *("objcopy", "--remove-section=.gnu_debuglink"),
        *(f"--add-section=.gnu_debuglink={tmp_path}/link", split.stripped),
    )
    assert found(split, tmp_path) is None


def test_the_debug_file_of_a_module_is_at_its_addresses(
    debian_kernel: DebianKernel, tmp_path: Path
) -> None:
    """As distributions split them: NOBITS code, relocations for what is left."""
    whole = debian_kernel.module("dummy")
    addresses = {".text": 0xFFFF_FFFF_C010_0000, ".data": 0xFFFF_FFFF_C030_0000}
    debug, stripped = tmp_path / "dummy.ko.debug", tmp_path / "dummy.ko"
    run("objcopy", "--only-keep-debug", whole, debug)
    run("objcopy", "--strip-debug", f"--add-gnu-debuglink={debug}", whole, stripped)
    module = open_module(stripped, addresses)
    assert not module.named(".debug_info")
    found = find_debug_file(module, ())
    assert isinstance(found, RelocatedImage)
    assert found.path == str(debug)
    expected = open_module(whole, addresses)
    for section in expected.sections:
        if section.name.startswith(".debug"):
            assert found.contents(section.name)[:] == expected.contents(section)[:]
    assert found.named(".text") is not None
    assert not len(found.contents(".text"))
    assert list(Symtab(found)) == list(Symtab(module)) == list(Symtab(expected))


def test_debians_modules_are_found_by_their_build_id(
    debian_kernel: DebianKernel, tmp_path: Path
) -> None:
    module = open_module(debian_kernel.stripped_module("dm-mod"), {})
    assert module.build_id is not None
    name = module.build_id.hex()
    place = tmp_path / ".build-id" / name[:2] / f"{name[2:]}.debug"
    place.parent.mkdir(parents=True)
    place.symlink_to(debian_kernel.module("dm-mod"))
    found = find_debug_file(module, [tmp_path])
    assert found is not None
    assert len(found.contents(".debug_info"))
