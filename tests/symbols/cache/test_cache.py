"""The cache: whole files or none, whoever writes, and a bound on their size."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.symbols.cache.cache import FORMAT_VERSION, Cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "0123abcd-5f"


def only_file(cache: Cache) -> Path:
    assert cache.directory is not None
    (path,) = cache.directory.iterdir()
    return path


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def loaded(cache: Cache, key: str, kind: str = "index") -> bytes | None:
    data = cache.load(key, kind)
    return None if data is None else bytes(data)


def test_what_was_stored_is_loaded_by_its_key_and_kind_only(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "new" / "directory")
    assert loaded(cache, KEY) is None
    cache.store(KEY, "index", b"names")
    cache.store(KEY, "lines", memoryview(b"rows"))
    assert loaded(cache, KEY) == b"names"
    assert loaded(cache, KEY, "lines") == b"rows"
    assert loaded(cache, "0123abcd-60") is None
    assert loaded(Cache(tmp_path / "new" / "directory"), KEY) == b"names"
    cache.store(KEY, "index", b"")
    assert loaded(cache, KEY) == b""


@given(data=st.binary(max_size=200))
def test_any_bytes_come_back(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = Cache(tmp_path_factory.getbasetemp() / "any")
    cache.store(KEY, "index", data)
    assert loaded(cache, KEY) == data


@pytest.mark.parametrize("key", ["", "../x", "A", "a b", "a.b", "a\0"])
def test_a_key_that_is_no_name_of_a_file_is_a_bug(key: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key"):
        Cache(tmp_path).store(key, "index", b"")
    with pytest.raises(ValueError, match="kind"):
        Cache(tmp_path).load(KEY, key)


# --- Damage --------------------------------------------------------------------------------------


def test_a_flip_of_any_byte_is_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = Cache(tmp_path)
    cache.store(KEY, "index", b"some names")
    path = only_file(cache)
    whole = path.read_bytes()
    with caplog.at_level(logging.DEBUG, "rsp.symbols"):
        for offset in range(len(whole)):
            path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x10]) + whole[offset + 1 :])
            assert loaded(cache, KEY) is None, offset
    assert len(caplog.records) == len(whole)
    path.write_bytes(whole)
    assert loaded(cache, KEY) == b"some names"


def test_a_file_of_any_other_size_is_not_loaded(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.store(KEY, "index", b"some names")
    path = only_file(cache)
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert loaded(cache, KEY) is None, size
    path.write_bytes(whole + b"\0")
    assert loaded(cache, KEY) is None


def test_a_file_under_a_name_that_is_not_its_own_is_not_loaded(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.store(KEY, "index", b"some names")
    path = only_file(cache)
    path.rename(path.with_name(path.name.replace("abcd", "abce")))
    assert loaded(cache, "0123abce-5f") is None


def other_version(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    version = (FORMAT_VERSION + 1).to_bytes(4, "little")
    path.write_bytes(data[:8] + version + data[12:])


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [other_version, fifo, directory])
def test_what_is_no_file_of_ours_is_not_loaded(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    cache = Cache(tmp_path)
    cache.store(KEY, "index", b"some names")
    change(only_file(cache))
    assert loaded(cache, KEY) is None


# --- Where nothing can be written ----------------------------------------------------------------


def test_below_a_file_nothing_is_kept_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(tmp_path / "file" / "directory")
    with caplog.at_level(logging.DEBUG, "rsp.symbols"):
        cache.store(KEY, "index", b"names")
        assert loaded(cache, KEY) is None
    assert [record.levelno for record in caplog.records] == [logging.DEBUG] * 2
    assert "Not a directory" in caplog.text


def test_a_cache_that_is_off_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = Cache.off()
    cache.store(KEY, "index", b"names")
    assert loaded(cache, KEY) is None
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.store(KEY, "index", b"names")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        cache.store(KEY, "index", bytes(1 << 16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert only_file(cache).stat().st_size < 4096
    assert loaded(cache, KEY) == b"names"


@pytest.mark.parametrize(
    ("xdg", "expected"),
    [("/somewhere", "/somewhere"), ("", "/home/me/.cache"), ("relative", "/home/me/.cache")],
)
def test_its_place_is_the_user_s_cache_directory(
    xdg: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/home/me")
    assert Cache().directory == Path(expected, "gdb-rsp", "symbols")


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    cache = Cache()
    cache.store(KEY, "index", b"names")
    assert loaded(cache, KEY) is None


# --- Its bound -----------------------------------------------------------------------------------


def test_what_was_not_used_for_the_longest_time_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=4000)
    for number in range(3):
        cache.store(f"{number}", "index", bytes(1000))
        (path,) = tmp_path.glob(f"{number}.*")
        age(path, 100 - number)
    assert loaded(cache, "0") == bytes(1000)  # now it is the last that was used
    cache.store("3", "index", bytes(1000))
    assert [loaded(cache, key) is not None for key in "0123"] == [True, False, True, True]


def test_it_stays_within_its_bound_and_what_is_larger_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=3000)
    for number in range(20):
        cache.store(f"{number}", "index", bytes(100 * number))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000
    assert loaded(cache, "19") == bytes(1900)
    cache.store("20", "index", bytes(3000))
    assert loaded(cache, "20") is None
    assert loaded(cache, "19") == bytes(1900)
    assert loaded(Cache(tmp_path, max_bytes=1000), "19") is None


def test_only_its_own_files_are_removed(tmp_path: Path) -> None:
    names = {"notes.txt", "picture.v1", "0.index", "0.index.v1.backup"}
    for name in names:
        (tmp_path / name).write_bytes(bytes(5000))
        age(tmp_path / name, 1e6)
    (tmp_path / "1.index.v1").mkdir()
    abandoned, unfinished = tmp_path / "0.index.v1.77-5", tmp_path / "0.index.v1.78-6"
    abandoned.write_bytes(b"")
    age(abandoned, 1e6)
    unfinished.write_bytes(b"")
    old = tmp_path / "2.index.v0"
    old.write_bytes(bytes(900))
    age(old, 1e6)
    Cache(tmp_path, max_bytes=1000).store("3", "index", bytes(500))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == names | {"1.index.v1", unfinished.name, f"3.index.v{FORMAT_VERSION}"}


# --- Other processes -----------------------------------------------------------------------------

WRITER = """
import sys
from rsp.symbols.cache.cache import Cache
directory, letter, keys, max_bytes = sys.argv[1:]
cache = Cache(directory, max_bytes=int(max_bytes))
print("ready", flush=True)
sys.stdin.readline()
for number in range(100):
    key = "shared" if keys == "one" else f"{letter}{number}"
    cache.store(key, "index", letter.encode() * (50_000 + number))
"""


@contextlib.contextmanager
def two_writers(
    directory: Path, keys: str, max_bytes: int
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start two processes that write at the same time, and see both end well."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory), letter, keys, str(max_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for letter in "xy"
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        yield writers
    finally:
        errors = [writer.communicate()[1] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], errors


def test_a_reader_always_sees_a_whole_file_of_one_of_two_writers(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.store("shared", "index", b"z" * 50_000)
    seen = set()
    with two_writers(tmp_path, "one", 1 << 30) as writers:
        while any(writer.poll() is None for writer in writers):
            data = loaded(cache, "shared")
            assert data is not None
            assert data == data[:1] * len(data)
            assert 50_000 <= len(data) < 50_100
            seen.add(data[:1])
    assert seen <= {b"x", b"y", b"z"}
    assert loaded(cache, "shared") in (b"x" * 50_099, b"y" * 50_099)
    assert only_file(cache)


def test_two_writers_keep_the_bound_together(tmp_path: Path) -> None:
    with two_writers(tmp_path, "many", 400_000):
        pass
    files = list(tmp_path.iterdir())
    assert all(path.name.endswith(f".v{FORMAT_VERSION}") for path in files)
    assert 300_000 < sum(path.stat().st_size for path in files) <= 400_000
