"""Where source files are looked for, and what is read of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.symbols.code.sources import MAX_LINE, SourceMap, source_lines

COMPONENT = st.text(st.sampled_from("ab."), min_size=1, max_size=3).filter(
    lambda text: text not in (".", "..")
)
PATH = st.lists(COMPONENT, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(PATH, PATH, PATH)
def test_a_prefix_is_whole_components(old: str, new: str, path: str) -> None:
    sources = SourceMap()
    sources.add(old, new)
    parts, prefix = Path(path).parts, Path(old).parts
    expected = path
    if parts[: len(prefix)] == prefix:
        expected = str(Path(new, *parts[len(prefix) :]))
    assert sources.path(path) == expected


def test_the_first_rule_that_matches_counts_and_a_new_one_replaces_its_own() -> None:
    sources = SourceMap()
    sources.add("/build", "/one")
    sources.add("/build/linux", "/two")
    assert sources.path("/build/linux/a.c") == "/one/linux/a.c"
    sources.add("/build/", "/three/")
    assert sources.path("/build/linux/a.c") == "/three/linux/a.c"
    assert sources.path("../a.c", "/build/linux/obj") == "/three/linux/obj/../a.c"


def test_a_relative_name_is_found_in_the_directory_of_its_compilation(tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "init" / "main.c").write_text("x\n")
    sources = SourceMap()
    assert sources.find("init/main.c", "/build/x") is None
    assert sources.find("init/main.c", str(tmp_path)) == str(tmp_path / "init/main.c")
    sources.add("/build/x", tmp_path)
    assert sources.find("init/main.c", "/build/x") == str(tmp_path / "init/main.c")
    # Compiled outside of the source tree, below a directory that says nothing.
    assert sources.find("init/main.c", "debian/build/obj") == str(tmp_path / "init/main.c")
    assert sources.find("init/other.c", "/build/x") is None
    assert sources.find("init", "/build/x") is None
    assert sources.find("a\0b", "/build/x") is None
    assert sources.find("a" * 5000, "/build/x") is None


@pytest.mark.parametrize(("line", "around"), [(1, 2), (3, 0), (5, 5), (4, 1), (5, 100)])
def test_lines_around_a_line(tmp_path: Path, line: int, around: int) -> None:
    file = tmp_path / "a.c"
    file.write_text("one\ntwo\nthree\nfour\nfive\n")
    numbered = list(enumerate(["one", "two", "three", "four", "five"], 1))
    expected = [row for row in numbered if line - around <= row[0] <= line + around]
    assert [tuple(row) for row in source_lines(str(file), line, around)] == expected


def test_lines_that_are_not_there(tmp_path: Path) -> None:
    file = tmp_path / "a.c"
    file.write_bytes(b"one\r\nt\xffo")
    assert [row.text for row in source_lines(str(file), 2)] == [
        "one",
        "t\N{REPLACEMENT CHARACTER}o",
    ]
    for line in (0, -3, 3, 1 << 40):
        assert source_lines(str(file), line, 0) == ()
    assert source_lines(str(file), 1 << 70, 5) == ()
    assert source_lines(str(tmp_path), 1) == ()
    assert source_lines(str(tmp_path / "b.c"), 1) == ()
    file.write_bytes(b"")
    assert source_lines(str(file), 1) == ()
    file.write_bytes(b"x" * 2 * MAX_LINE)
    assert len(source_lines(str(file), 1)[0].text) == MAX_LINE


def test_a_pipe_with_the_name_of_a_source_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.c")
    assert source_lines(str(tmp_path / "a.c"), 1) == ()
    assert SourceMap().find("a.c", str(tmp_path)) is None
