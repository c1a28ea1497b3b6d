"""Relocated objects and modules: byte for byte what GNU ld makes of them; and hostile ones."""

from __future__ import annotations

import re
import struct
import subprocess
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import BadImage
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.units import Units
from rsp.symbols.elf.image import SHT_NOBITS, SHT_RELA, Image, Section
from rsp.symbols.elf.relocation import RelocatedImage
from rsp.symbols.elf.symtab import Symtab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.kernels import BuiltKernel, DebianKernel

SOURCE = """
struct point { int x, y; };
int counter = 5;
static struct point points[3] = { { 1, 2 } };
const char *const names[] = { "one", "two" };
int *where = &counter;
int zeroes[16];
extern int elsewhere(const char *);
#define INIT __attribute__((section(".init.text"), noinline))
INIT int setup(void) { return elsewhere(names[counter]); }
__attribute__((noinline)) static int twice(int value) { points[1].x += value; return 2 * value; }
int work(int value) { zeroes[value & 15] = twice(value); return twice(zeroes[3]) + setup(); }
int (*table[])(int) = { work, twice };
"""
FLAGS = {
    "x86-64 DWARF 5": ("-m64", "-gdwarf-5"),
    "x86-64 DWARF 4": ("-m64", "-gdwarf-4", "-mcmodel=kernel"),
    "x86-64 zlib": ("-m64", "-gdwarf-5", "-gz=zlib"),
    "i386 DWARF 5": ("-m32", "-gdwarf-5"),
    "i386 DWARF 4": ("-m32", "-gdwarf-4"),
}
TEXT = 0x0810_0000
SHF_MERGE = 0x10


def run(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    return Builder(tmp_path_factory.mktemp("objects"))


class Builder:
    """Compiles the source above, each way once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @cache  # noqa: B019 — lives as long as the module's tests
    def __call__(self, name: str = "x86-64 DWARF 5") -> Path:
        source, built = self.directory / "work.c", self.directory / f"{name}.o"
        source.write_text(SOURCE)
        how = ("-O2", "-fno-pic", "-fcf-protection=none", "-c")
        run("gcc", *FLAGS[name], *how, source, "-o", built)
        return built


def everywhere(image: Image, begin: int) -> dict[str, int]:
    """Return addresses for all sections that are to be loaded, one behind the other."""
    addresses: dict[str, int] = {}
    for section in image.sections:
        if section.loaded and section.name not in addresses:
            addresses[section.name] = begin
            begin += (section.size + 0xFFF) & ~0xFFF
    return addresses


def same_as_ld(path: Path, scratch: Path, begin: int) -> list[str]:
    """Hold every section against what GNU ld makes of it; return their names."""
    image = Image(path)
    # Strings and constants must not be merged, nor unwinding tables shortened, by ld.
    plain, script, linked = scratch / "plain.o", scratch / "script", scratch / "linked"
    flags = ["--rename-section=.eh_frame=.tables"]
    for section in image.sections:
        if section.flags & SHF_MERGE:
            kind = "alloc,data" if section.loaded else "debug"
            flags.append(f"--set-section-flags={section.name}=readonly,{kind}")
    run("objcopy", *flags, path, plain)
    addresses = everywhere(Image(plain), begin)
    debug = [each.name for each in image.sections if each.name.startswith(".debug")]
    script.write_text(
        "SECTIONS {\n"
        + "".join(f"{each} {at:#x} : {{ *({each}) }}\n" for each, at in addresses.items())
        + "".join(f"{each} 0 : {{ *({each}) }}\n" for each in debug)
        + "}"
    )
    machine = {4: "elf_i386", 8: "elf_x86_64"}[image.word_size]
    how = ("--unresolved-symbols=ignore-all", "--noinhibit-exec", "--entry=0", "--build-id=none")
    run("ld", "-m", machine, "-T", script, *how, "-o", linked, plain)

    relocated, oracle = RelocatedImage(plain, addresses), Image(linked)
    left_alone = places_of_other_files(plain)
    compared = []
    for section in relocated.sections:
        if section.name in addresses or section.name in debug:
            ours = bytearray(relocated.contents(section).view)
            theirs = bytearray(oracle.contents(section.name).view)
            for offset in left_alone.get(section.name, ()):
                ours[offset : offset + 4] = theirs[offset : offset + 4] = bytes(4)
            if ours and section.name != ".note.gnu.build-id":
                assert ours == theirs, section.name
                compared.append(section.name)
    return compared


def places_of_other_files(path: Path) -> dict[str, list[int]]:
    """Return by section where undefined symbols are referred to: all are 4 bytes in the tests."""
    undefined = set(run("nm", "--undefined-only", "--format=just-symbols", path).split())
    places: dict[str, list[int]] = {}
    section = ""
    for line in run("readelf", "--relocs", "--wide", path).splitlines():
        if header := re.match(r"Relocation section '\.rela?(.*)' at", line):
            section = header[1]
        elif (words := line.split()) and len(words) > 4 and words[4] in undefined:
            places.setdefault(section, []).append(int(words[0], 16))
    return places


@pytest.mark.live("gcc", "objcopy", "readelf", "nm")
@pytest.mark.parametrize("name", FLAGS)
def test_objects_are_as_ld_links_them(name: str, build: Builder, tmp_path: Path) -> None:
    compared = same_as_ld(build(name), tmp_path, TEXT)
    assert {".text", ".init.text", ".data", ".tables", ".debug_info", ".debug_line"} < {*compared}


@pytest.mark.parametrize("name", ["dummy", "xfs"])
@pytest.mark.live("objcopy", "readelf", "nm", "ld")
def test_modules_are_as_ld_links_them(
    name: str, debian_kernel: DebianKernel, tmp_path: Path
) -> None:
    compared = same_as_ld(debian_kernel.module(name), tmp_path, 0xFFFF_FFFF_C010_0000)
    assert {".text", ".data", ".orc_unwind_ip", ".debug_frame", ".debug_info"} < {*compared}


@pytest.mark.parametrize("architecture", ["x86_64", "i386"])
@pytest.mark.live("objcopy", "readelf", "nm")
def test_modules_of_built_kernels_are_as_ld_links_them(
    architecture: str, built_kernel: Callable[[str], BuiltKernel], tmp_path: Path
) -> None:
    module = built_kernel(architecture).module("dummy")
    compared = same_as_ld(module, tmp_path, 0xF810_0000)
    assert {".text", ".data", ".init.text", ".debug_info", ".debug_line"} < {*compared}


@pytest.mark.live("gcc", "objcopy")
@pytest.mark.parametrize("method", ["zlib-gnu", "zlib-gabi", "zstd"])
@pytest.mark.parametrize("name", ["x86-64 DWARF 5", "i386 DWARF 4"])
def test_compressed_sections_are_relocated(
    name: str, method: str, build: Builder, tmp_path: Path
) -> None:
    packed = tmp_path / "packed.o"
    made = subprocess.run(
        ["objcopy", f"--compress-debug-sections={method}", build(name), packed],
        capture_output=True,
        text=True,
        check=False,
    )
    if "is not built with zstd" in made.stderr or "unrecognized" in made.stderr:
        pytest.skip("this objcopy has no zstd")
    addresses = everywhere(Image(build(name)), TEXT)
    ours, plain = (RelocatedImage(path, addresses) for path in (packed, build(name)))
    assert any(section.compressed for section in ours.sections)
    for section in plain.sections:
        if section.name.startswith(".debug"):
            assert ours.contents(section.name)[:] == plain.contents(section.name)[:]


@pytest.mark.live("gcc")
def test_a_section_without_an_address_is_nowhere(build: Builder) -> None:
    path = build()
    size = {section.name: section.size for section in Image(path).sections}
    image = RelocatedImage(path, {".text": TEXT, ".data": TEXT + 0x1000})
    assert [symbol.name for symbol in Symtab(image) if symbol.section == ".init.text"] == []
    for address in (0, 1, TEXT - 1, TEXT + size[".text"]):
        assert image.section_at(address) is None
    found = image.section_at(TEXT + size[".text"] - 1)
    assert found is not None
    assert found.name == ".text"
    assert found.loaded
    unplaced = image.named(".init.text")
    assert unplaced is not None
    assert not unplaced.loaded
    # Its addresses in DWARF are none that a CPU can have.
    dies = {
        die.name: die for die in Die.root_of(next(iter(Units(DwarfSections(image))))).children()
    }
    begin = dies["setup"].get(0x11)  # DW_AT_low_pc
    assert begin == unplaced.address
    assert begin >> 47 not in (0, (1 << 17) - 1)
    assert dies["work"].get(0x11) == next(iter(Symtab(image).find("work"))).address


@pytest.mark.parametrize("name", ["dummy", "xfs"])
def test_tables_about_code_are_right_without_an_address(
    name: str, debian_kernel: DebianKernel
) -> None:
    path = debian_kernel.module(name)
    whole = everywhere(Image(path), 0xFFFF_FFFF_C010_0000)

    def places_in_text(addresses: dict[str, int]) -> list[int]:
        image = RelocatedImage(path, addresses)
        section, code = image.named(".orc_unwind_ip"), image.named(".text")
        assert section is not None
        assert code is not None
        assert section.loaded == (".orc_unwind_ip" in addresses)
        distances = struct.unpack(f"<{section.size // 4}i", image.contents(section)[:])
        places = [section.address + 4 * n + distance for n, distance in enumerate(distances)]
        return [place for place in places if code.holds(place)]

    expected = places_in_text(whole)  # right, as ld's are the same
    assert len(expected) > 20
    assert places_in_text({".text": whole[".text"]}) == expected


@pytest.mark.live("gcc")
def test_only_what_is_asked_for_is_relocated(build: Builder, tmp_path: Path) -> None:
    addresses = {".text": TEXT}
    spoilt = tmp_path / "spoilt.o"
    data = bytearray(build().read_bytes())
    table = relocations(build(), ".debug_info")
    data[table.offset + 8] = 0xEE  # the type of the first one
    spoilt.write_bytes(data)
    image = RelocatedImage(spoilt, addresses)
    whole = RelocatedImage(build(), addresses)
    assert image.contents(".debug_line")[:] == whole.contents(".debug_line")[:]
    with pytest.raises(BadImage) as damage:
        image.contents(".debug_info")
    assert damage.value.section == ".debug_info"


@pytest.mark.live("gcc")
def test_the_file_stays_as_it_is(build: Builder) -> None:
    before = build().read_bytes()
    image = RelocatedImage(build(), {".text": TEXT})
    for section in image.sections:
        image.contents(section)
    assert build().read_bytes() == before
    assert Image(build()).contents(".debug_info")[:] != image.contents(".debug_info")[:]


@pytest.mark.live("gcc")
@pytest.mark.parametrize(
    ("name", "addresses", "reason"),
    [
        ("x86-64 DWARF 5", {".txet": 0}, r"no section \.txet to be loaded \(nearest: \.text"),
        ("x86-64 DWARF 5", {".debug_info": 0}, "no section .debug_info to be loaded"),
        ("x86-64 DWARF 5", {".text": -1}, r"cannot be at -0x1"),
        ("x86-64 DWARF 5", {".text": (1 << 64) - 1}, r"cannot be at 0xf{16}"),
        ("x86-64 DWARF 5", {".text": 1 << 64}, r"cannot be at 0x1_?0{16}"),
        ("i386 DWARF 5", {".text": 0xFFFF_FFFF}, r"\.text of .* cannot be at 0xffffffff"),
        (
            "x86-64 DWARF 5",
            {".text": TEXT, ".data": TEXT + 4},
            rf"\.data at {TEXT + 4:#x} would lie in its \.text",
        ),
        (
            "x86-64 DWARF 5",
            {".text": TEXT, ".data": TEXT},
            rf"at {TEXT:#x} would lie in its",
        ),
    ],
)
def test_addresses_that_cannot_be(
    name: str, addresses: dict[str, int], reason: str, build: Builder
) -> None:
    with pytest.raises(BadImage, match=reason) as refused:
        RelocatedImage(build(name), addresses)
    assert refused.value.path == str(build(name))


@pytest.mark.live("gcc")
def test_a_linked_program_is_refused(debian_kernel: DebianKernel) -> None:
    with pytest.raises(BadImage, match="already linked"):
        RelocatedImage(debian_kernel.vmlinux, {".text": 0})


def relocations(path: Path, name: str) -> Section:
    """Return the section with the relocations of another."""
    found = Image(path).named(f".rela{name}") or Image(path).named(f".rel{name}")
    assert found is not None
    return found


# By word size: the first relocation's offset, type and symbol, as places in it and new values.
ENTRIES = {
    "x86-64 DWARF 5": {"offset": (0, "<Q"), "type": (8, "<I"), "symbol": (12, "<I")},
    "i386 DWARF 5": {"offset": (0, "<I"), "type": (4, "<B"), "symbol": (5, "<H")},
}


@pytest.mark.live("gcc")
@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("offset", "size", r"\.debug_info is damaged at 0x[0-9a-f]+: a relocation beyond its end"),
        ("offset", "size - 3", r"\.debug_info .* a relocation beyond its end"),
        ("offset", "max", r"\.debug_info .* a relocation beyond its end"),
        ("type", 200, r"\.debug_info .* of a type that is not known"),
        ("symbol", 0xFFF0, r"\.symtab .* a symbol that is not there"),
    ],
)
def test_a_hostile_relocation_is_named(
    name: str, field: str, value: int | str, reason: str, build: Builder, tmp_path: Path
) -> None:
    place, layout = ENTRIES[name][field]
    section = Image(build(name)).named(".debug_info")
    assert section is not None
    if isinstance(value, str):
        most = (1 << 8 * struct.calcsize(layout)) - 1
        value = {"size": section.size, "size - 3": section.size - 3, "max": most}[value]
    data = bytearray(build(name).read_bytes())
    struct.pack_into(layout, data, relocations(build(name), ".debug_info").offset + place, value)
    hostile = tmp_path / "hostile.o"
    hostile.write_bytes(data)
    image = RelocatedImage(hostile, everywhere(Image(hostile), TEXT))
    with pytest.raises(BadImage, match=reason):
        image.contents(".debug_info")
    assert Symtab(image).find("work")  # what can be answered still is


@pytest.mark.live("gcc")
def test_an_offset_into_a_debug_section_that_does_not_fit(build: Builder, tmp_path: Path) -> None:
    path = build()
    table = relocations(path, ".debug_info")
    data = bytearray(path.read_bytes())
    first = next(
        at
        for at in range(table.offset, table.offset + table.size, 24)
        if struct.unpack_from("<I", data, at + 8) == (10,)  # R_X86_64_32
    )
    struct.pack_into("<q", data, first + 16, -5)
    hostile = tmp_path / "hostile.o"
    hostile.write_bytes(data)
    (offset,) = struct.unpack_from("<Q", data, first)
    with pytest.raises(BadImage, match="-0x5 is relocated into 4 bytes") as damage:
        RelocatedImage(hostile, {".text": TEXT}).contents(".debug_info")
    assert damage.value.offset == offset


@pytest.mark.live("gcc")
def test_tables_that_share_their_bytes_are_not_read_again_and_again(
    build: Builder, tmp_path: Path
) -> None:
    """A file of 64-byte headers could otherwise ask for its own size in work for each of them."""
    path = build()
    image = Image(path)
    data = bytearray(path.read_bytes())
    headers = struct.unpack_from("<Q", data, 0x28)[0]
    info = image.named(".debug_info")
    assert info is not None
    for section in image.sections:
        at = headers + 64 * section.number
        if section.type == SHT_RELA:
            struct.pack_into("<QQ", data, at + 24, 0, len(data) // 24 * 24)
            struct.pack_into("<I", data, at + 44, info.number)
    hostile = tmp_path / "hostile.o"
    hostile.write_bytes(data)
    with pytest.raises(BadImage, match="relocations are larger than the file"):
        RelocatedImage(hostile, {".text": TEXT}).contents(".debug_info")


@pytest.mark.live("gcc")
@pytest.mark.parametrize("target", [".symtab", ".rela.debug_info", ".rela.debug_line"])
def test_what_relocating_needs_is_not_relocated(
    target: str, build: Builder, tmp_path: Path
) -> None:
    """Or it would need itself, without an end."""
    path = build()
    image = Image(path)
    victim = image.named(target)
    assert victim is not None
    data = bytearray(path.read_bytes())
    headers = struct.unpack_from("<Q", data, 0x28)[0]
    for table in (".rela.debug_info", ".rela.debug_aranges"):
        at = headers + 64 * relocations(path, table.removeprefix(".rela")).number
        struct.pack_into("<I", data, at + 44, victim.number)
    hostile = tmp_path / "hostile.o"
    hostile.write_bytes(data)
    relocated = RelocatedImage(hostile, {".text": TEXT})
    assert relocated.contents(target)[:] == image.contents(target)[:]
    expected = RelocatedImage(path, {".text": TEXT}).contents(".debug_line")[:]
    assert relocated.contents(".debug_line")[:] == expected


@pytest.mark.live("gcc")
@given(data=st.data())
def test_a_damaged_byte_never_gets_further_than_damaged(
    build: Builder, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = build(data.draw(st.sampled_from(sorted(FLAGS))))
    contents = bytearray(path.read_bytes())
    image = Image(path)
    word = image.word_size
    headers = struct.unpack_from("<Q" if word == 8 else "<I", contents, 0x28 if word == 8 else 0x20)
    ranges = [(0, 64), (headers[0], len(contents))]
    ranges += [(s.offset, s.offset + s.size) for s in image.sections if s.type in (2, 4, 9)]
    first, last = data.draw(st.sampled_from(ranges))
    for _ in range(data.draw(st.integers(1, 3))):
        contents[data.draw(st.integers(first, last - 1))] = data.draw(st.integers(0, 255))
    hostile = tmp_path_factory.getbasetemp() / "flipped.o"
    hostile.write_bytes(contents)
    try:
        relocated = RelocatedImage(hostile, {".text": TEXT, ".data": TEXT + 0x1000})
    except BadImage:
        return
    assert relocated.build_id is None or relocated.build_id
    for section in relocated.sections:
        try:
            found = relocated.contents(section)
        except BadImage:
            continue
        assert section.type == SHT_NOBITS or len(found) >= 0
