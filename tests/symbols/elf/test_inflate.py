"""Compressed sections and files: what is in them, and how little a bomb may cost."""

from __future__ import annotations

import gzip
import lzma
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import BadImage
from rsp.symbols.elf import inflate
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.inflate import inflate_section
from rsp.symbols.elf.section_data import SectionData
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ZLIB, ZSTD = 1, 2
METHODS: dict[int, Callable[[bytes], bytes]] = {ZLIB: zlib.compress, ZSTD: zstandard.compress}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "gzip": gzip.compress,
}


def section(data: bytes) -> SectionData:
    return SectionData(".debug_info", data, 0, len(data))


@pytest.mark.parametrize("method", METHODS)
@given(data=st.binary(min_size=1, max_size=300), repeat=st.sampled_from([1, 2, 5000]))
def test_a_section_holds_what_was_packed(method: int, data: bytes, repeat: int) -> None:
    data *= repeat
    header = b"a header"
    packed = header + METHODS[method](data)
    found = inflate_section(section(packed), method, len(data), len(header))
    assert found[:] == data
    assert found.name == ".debug_info"


def test_an_empty_section() -> None:
    assert len(inflate_section(section(zlib.compress(b"")), ZLIB, 0, 0)) == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [1, 999, 1001, 100_000, 1 << 63])
def test_a_section_of_another_size_is_damaged(method: int, size: int) -> None:
    with pytest.raises(BadImage, match=r"\.debug_info is damaged") as damage:
        inflate_section(section(METHODS[method](b"x" * 1000)), method, size, 0)
    assert damage.value.section == ".debug_info"


@pytest.mark.parametrize("method", METHODS)
def test_a_section_cut_short_is_damaged(method: int) -> None:
    packed = METHODS[method](bytes(range(256)) * 40)
    for end in range(len(packed)):
        with pytest.raises(BadImage):
            inflate_section(section(packed[:end]), method, 256 * 40, 0)


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(BadImage, match=r"a method that is not known \(3\)"):
        inflate_section(section(b"whatever"), 3, 10, 0)


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
def test_a_damaged_byte_is_damage_or_nothing(method: int, data: st.DataObject) -> None:
    plain = bytes(range(200)) * 20
    packed = bytearray(METHODS[method](plain))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    try:
        found = inflate_section(section(bytes(packed)), method, len(plain), 0)
    except BadImage:
        return
    assert len(found) == len(plain)


def test_zstd_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(BadImage, match="install the Python package zstandard"):
        inflate_section(section(zstandard.compress(b"x")), ZSTD, 1, 0)


@pytest.mark.parametrize("packer", PACKERS)
def test_a_compressed_file_is_opened(packer: str, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(PACKERS[packer](ELF.read_bytes()))
    ours, plain = Image(packed), Image(ELF)
    assert ours.sections == plain.sections
    assert all(ours.contents(each)[:] == plain.contents(each)[:] for each in plain.sections)
    assert ours.path == str(packed)


@pytest.mark.parametrize("packer", PACKERS)
def test_a_compressed_file_that_is_not_whole(packer: str, tmp_path: Path) -> None:
    whole = PACKERS[packer](ELF.read_bytes())
    packed = tmp_path / "packed"
    for end in (6, 20, len(whole) // 2, len(whole) - len(whole) // 8):
        packed.write_bytes(whole[:end])
        with pytest.raises(BadImage) as refused:
            Image(packed)
        assert refused.value.path == str(packed)


@pytest.mark.parametrize("packer", PACKERS)
def test_a_compressed_file_with_nothing_in_it(packer: str, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(PACKERS[packer](b""))
    with pytest.raises(BadImage, match="empty"):
        Image(packed)


@pytest.mark.parametrize("packer", PACKERS)
@given(data=st.data())
def test_a_compressed_file_with_a_damaged_byte(
    packer: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    contents = bytearray(PACKERS[packer](ELF.read_bytes()))
    contents[data.draw(st.integers(0, len(contents) - 1))] ^= data.draw(st.integers(1, 255))
    packed = tmp_path_factory.getbasetemp() / f"flipped.{packer}"
    packed.write_bytes(contents)
    try:
        image = Image(packed)
    except BadImage:
        return
    assert image.sections


# Small files of which hundreds of megabytes would come, a gigabyte of zstd's.
BOMB = """
import sys, lzma, zlib
kind, path = sys.argv[1:]
zeros = bytes(1 << 20)
with open(path, "wb") as file:
    if kind == "zstd":
        import zstandard
        with zstandard.ZstdCompressor(level=1).stream_writer(file) as writer:
            for _ in range(1 << 10):
                writer.write(zeros)
    else:
        packer = lzma.LZMACompressor(preset=0) if kind == "xz" else zlib.compressobj(9, 8, 31)
        for _ in range(256):
            file.write(packer.compress(zeros))
        file.write(packer.flush())
"""


@pytest.mark.parametrize("packer", PACKERS)
def test_a_bomb_costs_no_memory(packer: str, tmp_path: Path) -> None:
    packed = tmp_path / "bomb"
    subprocess.run([sys.executable, "-c", BOMB, packer, packed], check=True)
    bound = max(inflate.MIN_BOUND, inflate.MAX_RATIO * packed.stat().st_size)
    # In a process that may not have more than a piece of it at a time.
    program = (
        "import resource, sys; from rsp.symbols.elf.image import Image\n"
        "from rsp.errors import BadImage\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: Image(sys.argv[1])\n"
        "except BadImage as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, packed], capture_output=True, text=True, check=True
    )
    message, grown = ran.stdout.splitlines()
    assert f"it unpacks to more than {bound} bytes" in message
    assert int(grown) << 10 < bound // 1.5
