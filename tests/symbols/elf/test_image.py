"""ELF headers, sections and notes, against readelf; and what damaged ones may do."""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import ArgumentError, BadImage
from rsp.symbols.cache.cache import Cache
from rsp.symbols.elf.image import SHT_NOBITS, SHT_NOTE, Image
from rsp.testing.boot import ELF

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.kernels import DebianKernel


def run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(params=["boot.elf", "subject.c", "subject32.S", "vmlinux", "xfs"])
def program(
    request: pytest.FixtureRequest,
    build_program: Callable[[str], Path],
    debian_kernel: DebianKernel,
) -> Path:
    match request.param:
        case "boot.elf":
            return ELF
        case "vmlinux":
            return debian_kernel.vmlinux
        case "xfs":
            return debian_kernel.module("xfs")
        case source:
            return build_program(source)


@pytest.mark.live("readelf", "gcc")
def test_the_sections_are_those_of_readelf(program: Path) -> None:
    image = Image(program)
    rows = re.findall(
        r"^ *\[ *(\d+)\] (\S*) +[A-Z]\S* +([0-9a-f]{8,16}) ([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) "
        r"+[A-Zop]* +(\d+) +(\d+) +\d+$",
        run("readelf", "--section-headers", "--wide", program),
        re.MULTILINE,
    )
    assert len(rows) == len(image.sections) > 5
    for section, row in zip(image.sections, rows, strict=True):
        assert (section.number, section.name) == (int(row[0]), row[1])
        numbers = (section.address, section.offset, section.size, section.entry_size)
        assert numbers == tuple(int(number, 16) for number in row[2:6])
        assert (section.link, section.info) == (int(row[6]), int(row[7]))
    header = run("readelf", "--file-header", program)
    assert image.relocatable == ("REL (Relocatable file)" in header)
    assert image.word_size == (8 if "ELF64" in header else 4)
    assert image.machine == ("x86-64" if "X86-64" in header else "i386")


@pytest.mark.live("readelf", "gcc")
def test_the_notes_are_those_of_readelf(program: Path) -> None:
    image = Image(program)
    text = run("readelf", "--notes", "--wide", program)
    rows = re.findall(r"^  (\S+) +0x([0-9a-f]{8})\t", text, re.MULTILINE)
    # readelf shows those of the program's segments, which may hold others' sections too.
    ours = [(note.owner.decode(), len(note.description)) for note in image.notes]
    assert set(ours) >= {(owner, int(size, 16)) for owner, size in rows}
    build_id = re.search(r"Build ID: ([0-9a-f]+)", text)
    assert image.build_id == (bytes.fromhex(build_id[1]) if build_id else None)


# Of vmlinux, objcopy would write half a gigabyte.
@pytest.mark.parametrize("program", ["boot.elf", "subject.c", "subject32.S", "xfs"], indirect=True)
@pytest.mark.live("objcopy", "gcc")
def test_the_contents_are_those_of_objcopy(program: Path, tmp_path: Path) -> None:
    image = Image(program)
    for section in image.sections:
        if section.type not in (0, 2, 3, 4, 9, SHT_NOBITS) and section.size and section.name:
            dumped = tmp_path / "section"
            run("objcopy", f"--dump-section={section.name}={dumped}", program, tmp_path / "copy")
            if image.named(section.name) == section:
                assert image.contents(section)[:] == dumped.read_bytes()
                assert image.contents(section.name).view == image.contents(section).view


def test_an_address_is_in_its_section(debian_kernel: DebianKernel) -> None:
    image = Image(debian_kernel.vmlinux)
    text = image.named(".text")
    assert text is not None
    for address, expected in {
        text.address - 1: None,
        text.address: text,
        text.address + text.size - 1: text,
        text.address + text.size: None,
    }.items():
        found = image.section_at(address)
        assert (found == text) == (expected == text)
    assert image.section_at(0x1000) is None or image.named(".data..percpu")


@pytest.mark.live("objcopy", "gcc")
@pytest.mark.parametrize("method", ["zlib", "zlib-gnu", "zlib-gabi", "zstd"])
def test_compressed_sections_are_as_before(
    method: str, build_program: Callable[[str], Path], tmp_path: Path
) -> None:
    plain, packed = build_program("subject.c"), tmp_path / "packed"
    made = subprocess.run(
        ["objcopy", f"--compress-debug-sections={method}", plain, packed],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode or "zstd" in made.stderr:
        pytest.skip(f"this objcopy has no {method}: {made.stderr}")
    ours, expected = Image(packed), Image(plain)
    assert sum(section.compressed for section in ours.sections) >= 3
    for section in expected.sections:
        if section.name.startswith(".debug"):
            assert ours.named(section.name) is not None
            assert ours.contents(section.name)[:] == expected.contents(section)[:]


@pytest.mark.live("objcopy", "as")
def test_more_sections_than_the_header_can_count(tmp_path: Path) -> None:
    """From 65,280 sections on their number is in the first one, and indexes are elsewhere."""
    source, built = tmp_path / "many.s", tmp_path / "many.o"
    count = 65_400
    source.write_text("".join(f'.section s{n},"a"\n.byte {n & 255}\n' for n in range(count)))
    run("as", source, "-o", built)
    image = Image(built)
    assert len(image.sections) > count
    assert image.contents(f"s{count - 1}")[:] == bytes([count - 1 & 255])


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "it is empty"),
        (b"\x7f", "not an ELF file"),
        (b"MZ" + bytes(600), "not an ELF file"),
        (b"\x7fELF", "its ELF header is damaged"),
        (b"\x7fELF\2\1\1", "its ELF header is damaged"),
        (b"\x7fELF\3\1\1" + bytes(60), "its ELF header is damaged"),
        (b"\x7fELF\2\1\1" + bytes(9), "made for another machine"),
        (b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0", "was it copied to its end"),
        (b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0" + bytes(44), "section headers are missing"),
        (b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\xb7\0" + bytes(44), r"machine \(e_machine 183\)"),
        (b"\x7fELF\2\2\1" + bytes(9) + b"\0\2\0\x3e" + bytes(44), "another machine"),
    ],
)
def test_what_is_no_image(contents: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(contents)
    with pytest.raises(BadImage, match=reason) as refused:
        Image(path)
    assert refused.value.path == str(path)
    assert str(path) in str(refused.value)


def test_a_boot_image_is_told_from_its_kernel(debian_kernel: DebianKernel) -> None:
    with pytest.raises(BadImage, match=r"bzImage.*they are in the vmlinux"):
        Image(debian_kernel.image)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, reason in {
        tmp_path / "absent": "cannot be read: No such file",
        tmp_path: "cannot be read: it is a directory",
        tmp_path / "fifo": "cannot be read: it is no file",
    }.items():
        with pytest.raises(BadImage, match=reason):
            Image(path)
    with pytest.raises(ArgumentError, match="give a path"):
        Image("null\0byte")


@pytest.mark.parametrize("end", [52, 500, 2000, -1])
def test_a_file_cut_short(end: int, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(ELF.read_bytes()[:end])
    with pytest.raises(BadImage, match=r"was it copied to its end|missing or damaged"):
        Image(path)


def ask_everything(image: Image) -> None:
    """Read all that there is; only BadImage may come out."""
    assert image.build_id is None or image.build_id
    assert sum(len(note.description) for note in image.notes) <= Path(image.path).stat().st_size
    for section in image.sections:
        image.section_at(section.address)
        try:
            contents = image.contents(section)
            assert len(contents[:]) == len(contents) == len(contents.view)
            contents.find(b"\0", 3)
            contents.text(0)
            contents.unsigned(len(contents) - 4, 4)
        except BadImage:
            continue


def numbers(size: int) -> st.SearchStrategy[int]:
    """Numbers around the bounds that matter."""
    return st.one_of(
        st.sampled_from([0, 1, (1 << 31) - 1, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]),
        st.integers(0, (1 << 64) - 1),
    ).map(lambda number: number & (1 << 8 * size) - 1)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "image"


@given(data=st.data())
def test_a_damaged_header_never_gets_further_than_damaged(
    scratch: Path, data: st.DataObject
) -> None:
    contents = bytearray(ELF.read_bytes())
    image = Image(ELF)
    table = int.from_bytes(
        contents[0x20:0x24] if image.word_size == 4 else contents[0x28:0x30], "little"
    )
    regions = [(0, 64), (table, len(contents))]
    regions += [(s.offset, s.offset + s.size) for s in image.sections if s.type == SHT_NOTE]
    for _ in range(data.draw(st.integers(1, 3))):
        first, last = data.draw(st.sampled_from([each for each in regions if each[0] < each[1]]))
        size = data.draw(st.sampled_from([1, 2, 4, 8]))
        at = first + data.draw(st.integers(0, (last - first) // size - 1)) * size
        contents[at : at + size] = data.draw(numbers(size)).to_bytes(size, "little")
    scratch.write_bytes(contents)
    with contextlib.suppress(BadImage):
        ask_everything(Image(scratch))


@given(data=st.data())
def test_a_damaged_section_header_costs_no_more_than_the_file(
    scratch: Path, data: st.DataObject
) -> None:
    """Whole fields of headers, where flipped bytes would rarely hit what matters."""
    contents = bytearray(ELF.read_bytes())
    word = Image(ELF).word_size
    at, layout, size = (0x20, "<I", 40) if word == 4 else (0x28, "<Q", 64)
    (table,) = struct.unpack_from(layout, contents, at)
    count = len(Image(ELF).sections)
    for _ in range(data.draw(st.integers(1, 4))):
        header = table + size * data.draw(st.integers(0, count - 1))
        field = 4 * data.draw(st.integers(0, size // 4 - 1))
        width = data.draw(st.sampled_from([4, word]))
        value = data.draw(st.one_of(numbers(width), st.sampled_from([7, 0x800, 8, 2, 3])))
        end = min(header + field + width, len(contents))
        contents[header + field : end] = value.to_bytes(width, "little")[: end - header - field]
    scratch.write_bytes(contents)
    with contextlib.suppress(BadImage):
        ask_everything(Image(scratch))


def test_notes_that_share_their_bytes_are_read_once(
    debian_kernel: DebianKernel, tmp_path: Path
) -> None:
    contents = bytearray(debian_kernel.module("dummy").read_bytes())
    image = Image(debian_kernel.module("dummy"))
    (table,) = struct.unpack_from("<Q", contents, 0x28)
    for section in image.sections[1:-1]:
        struct.pack_into("<I", contents, table + 64 * section.number + 4, SHT_NOTE)
        struct.pack_into("<QQ", contents, table + 64 * section.number + 24, 0, len(contents))
    path = tmp_path / "notes"
    path.write_bytes(contents)
    assert sum(len(note.description) + 12 for note in Image(path).notes) <= len(contents)


# --- Keys of a cache -----------------------------------------------------------------------------


@pytest.mark.live("gcc", "objcopy")
def test_the_key_is_the_build_id_and_where_the_sections_are(tmp_path: Path) -> None:
    source = tmp_path / "main.c"
    source.write_text("void _start(void) {}\n")
    program, stripped, copy = (tmp_path / name for name in ("program", "stripped", "copy"))
    command = ["gcc", "-g", "-nostdlib", "-static", "-Wl,--build-id", str(source)]
    subprocess.run([*command, "-o", str(program)], check=True)
    subprocess.run(["objcopy", "--strip-debug", program, stripped], check=True)
    copy.write_bytes(program.read_bytes())
    key = Image(program).cache_key
    build_id = Image(program).build_id
    assert key is not None
    assert build_id is not None
    assert key.startswith(build_id.hex())
    assert Image(copy).cache_key == key
    assert Image(stripped).build_id == build_id
    assert Image(stripped).cache_key not in (None, key)
    Cache(tmp_path / "cache").store(key, "index", b"")


def test_a_file_without_a_build_id_has_no_key() -> None:
    image = Image(ELF)
    assert image.build_id is None
    assert image.cache_key is None
