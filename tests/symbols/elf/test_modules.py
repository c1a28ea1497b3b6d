"""Modules: at the addresses where gdb has them, held against their kernel, found in their trees."""

from __future__ import annotations

import random
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import BadImage, SymbolError
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.units import Units
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.modules import (
    SymbolFile,
    find_module,
    kernel_release,
    module_name,
    open_module,
    read_symbol_script,
    vermagic,
)
from rsp.symbols.elf.symtab import SymbolKind, Symtab

if TYPE_CHECKING:
    from pathlib import Path

    from lab.kernels import DebianKernel

ADDRESSES = {
    ".text": 0xFFFF_FFFF_C010_0000,
    ".data": 0xFFFF_FFFF_C030_0000,
    ".bss": 0xFFFF_FFFF_C040_0000,
}
PACKERS = {".xz": ("xz", "--check=crc32"), ".zst": ("zstd", "--quiet"), ".gz": ("gzip",)}


def gdb(*commands: str) -> str:
    asked = [word for command in commands for word in ("-ex", command)]
    settings = ("-ex", "set confirm off", "-ex", "set width 0")
    return subprocess.run(
        ["gdb", "-nx", "-nh", "-batch", *settings, *asked],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.live("gdb")
@pytest.mark.parametrize("name", ["dummy", "xfs"])
def test_symbols_are_where_gdb_has_them(name: str, debian_kernel: DebianKernel) -> None:
    path = debian_kernel.module(name)
    sections = {each: ADDRESSES[each] for each in (".text", ".data")}
    symtab = Symtab(open_module(path, sections))
    # Where gcc has split a function, gdb knows its part by the same name.
    names = [
        symbol.name
        for symbol in symtab
        if symbol.section in sections
        and symbol.kind in (SymbolKind.FUNCTION, SymbolKind.OBJECT)
        and re.fullmatch(r"\w+", symbol.name)
        and not symbol.name.startswith("__")
        and len(symtab.find(symbol.name)) == 1
    ]
    asked = random.Random(3).sample(names, min(len(names), 400))
    script = f"add-symbol-file {path} {sections['.text']} -s .data {sections['.data']}"
    answer = gdb(script, *(f"info address {each}" for each in asked))
    expected = {
        found[1]: int(found[2], 16)
        for found in re.finditer(r'Symbol "(\w+)" is .* (?:at|address) (0x[0-9a-f]+)', answer)
    }
    assert len(expected) > 0.9 * len(asked)
    assert {each: symtab.find(each)[0].address for each in expected} == expected


@pytest.mark.parametrize("name", ["dummy", "xfs"])
def test_dwarf_and_symbols_agree_about_addresses(name: str, debian_kernel: DebianKernel) -> None:
    """DWARF's come from .debug_info's relocations, the others from .symtab and the sections."""
    image = open_module(debian_kernel.module(name), ADDRESSES)
    text = image.named(".text")
    assert text is not None
    functions = {}
    for unit in list(Units(DwarfSections(image)))[:20]:
        for die in Die.root_of(unit).children():
            begin = die.get(0x11)  # DW_AT_low_pc
            if die.tag == 0x2E and die.name and isinstance(begin, int) and text.holds(begin):
                functions[die.name] = begin
    symtab = Symtab(image)
    assert len(functions) >= (8 if name == "dummy" else 300)
    for function, begin in functions.items():
        assert begin in {symbol.address for symbol in symtab.find(function)}


def test_what_a_module_says_of_itself(debian_kernel: DebianKernel) -> None:
    names = {"xfs": "xfs", "dummy": "dummy", "dm-mod": "dm_mod"}
    for file, name in names.items():
        for path in (debian_kernel.module(file), debian_kernel.stripped_module(file)):
            image = Image(path)
            assert module_name(image) == name
            assert vermagic(image) == f"{debian_kernel.release} SMP preempt mod_unload modversions"
    assert kernel_release(Image(debian_kernel.vmlinux)) == debian_kernel.release


@pytest.mark.live("objcopy")
def test_a_name_from_the_module_structure_and_from_the_file(
    debian_kernel: DebianKernel, tmp_path: Path
) -> None:
    path = debian_kernel.module("dm-mod")
    old = tmp_path / "other-name.ko"  # as one for a kernel before 4.8
    old.write_bytes(path.read_bytes().replace(b"\0name=dm_mod\0", b"\0eman=dm_mod\0"))
    assert module_name(Image(old)) == "dm_mod"
    hollow = tmp_path / "other-name.ko.debug"
    subprocess.run(["objcopy", "--only-keep-debug", path, hollow], check=True)
    assert module_name(Image(hollow)) == "other_name"
    assert vermagic(Image(hollow)) is None


def test_another_build_is_refused(debian_kernel: DebianKernel) -> None:
    path = debian_kernel.module("dummy")
    build_id = Image(path).build_id
    assert build_id is not None
    open_module(path, ADDRESSES | {".bss": 0}, build_id=build_id)
    with pytest.raises(BadImage, match=f"is {build_id.hex()}, not {b'other'.hex()}"):
        open_module(path, {}, build_id=b"other")


def test_a_module_for_another_kernel_is_refused(
    debian_kernel: DebianKernel, tmp_path: Path
) -> None:
    kernel = Image(debian_kernel.vmlinux)
    path = debian_kernel.module("dummy")
    open_module(path, {}, kernel=kernel)
    release = debian_kernel.release.encode()
    other = tmp_path / "dummy.ko"
    other.write_bytes(path.read_bytes().replace(b"vermagic=" + release[:3], b"vermagic=5.9"))
    refused = f"made for 5.9{re.escape(debian_kernel.release[3:])}.* is {debian_kernel.release}"
    with pytest.raises(BadImage, match=refused):
        open_module(other, {}, kernel=kernel)


@pytest.mark.live("xz", "zstd")
@pytest.mark.parametrize("suffix", PACKERS)
def test_compressed_modules(suffix: str, debian_kernel: DebianKernel, tmp_path: Path) -> None:
    path = debian_kernel.module("dummy")
    packed = tmp_path / f"dummy.ko{suffix}"
    with packed.open("wb") as file:
        subprocess.run([*PACKERS[suffix], "--stdout", path], stdout=file, check=True)
    sections = {".text": ADDRESSES[".text"]}
    ours, plain = open_module(packed, sections), open_module(path, sections)
    assert list(Symtab(ours)) == list(Symtab(plain))
    assert ours.contents(".debug_info")[:] == plain.contents(".debug_info")[:]
    assert (module_name(ours), ours.build_id) == ("dummy", plain.build_id)


def test_a_module_is_found_in_its_tree(debian_kernel: DebianKernel, tmp_path: Path) -> None:
    debug, stripped = debian_kernel.module("dm-mod"), debian_kernel.stripped_module("dm-mod")
    for name in ("dm-mod", "dm_mod"):
        assert find_module(debian_kernel.modules, name) == str(stripped)
        assert find_module(debian_kernel.debug_modules, name) == str(debug)
    assert find_module(debian_kernel.modules, "dm") is None
    assert find_module(tmp_path / "nowhere", "dm_mod") is None

    for place, source in (("a/dm-mod.ko", stripped), ("b/dm-mod.ko.debug", debug)):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).symlink_to(source)
    (tmp_path / "a/dm_mod.ko.xz").write_bytes(b"nothing of the kind")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert find_module(tmp_path, "dm_mod") == str(tmp_path / "b/dm-mod.ko.debug")
    build_id = Image(stripped).build_id
    assert build_id is not None
    assert find_module(tmp_path / "a", "dm_mod", build_id=build_id) == f"{tmp_path}/a/dm-mod.ko"
    assert find_module(tmp_path, "dm_mod", build_id=b"other") is None


SCRIPT = """
# of gdb's own documentation, of /sys/module, and of LDD3's gdbline
add-symbol-file dummy.ko 0xffffffffc0000000

  add-symbol-file '/tmp/my modules/xfs.ko' 0xffffffffc0100000 -s .data 0xffffffffc0300000 -s .bss 16
add-symbol-file vmlinux -o 0x1c000000
add-symbol-file -readnow "a.ko" -s .text 0x1000 -o 0
add-symbol-file scull.ko 0xd0832000 \\
\t-s .bss 0xd0837100 \\
\t-s .data 0xd0836be0
"""


def test_symbol_scripts() -> None:
    assert read_symbol_script(SCRIPT) == [
        SymbolFile("dummy.ko", {".text": 0xFFFF_FFFF_C000_0000}, None),
        SymbolFile(
            "/tmp/my modules/xfs.ko",
            {".text": 0xFFFF_FFFF_C010_0000, ".data": 0xFFFF_FFFF_C030_0000, ".bss": 16},
            None,
        ),
        SymbolFile("vmlinux", {}, 0x1C00_0000),
        SymbolFile("a.ko", {".text": 0x1000}, 0),
        SymbolFile(
            "scull.ko", {".text": 0xD0832000, ".bss": 0xD0837100, ".data": 0xD0836BE0}, None
        ),
    ]
    assert read_symbol_script("") == []


@pytest.mark.live("gdb")
def test_symbol_scripts_mean_what_gdb_makes_of_them(
    debian_kernel: DebianKernel, tmp_path: Path
) -> None:
    directory = tmp_path / "with a blank"
    directory.mkdir()
    (directory / "dummy.ko").symlink_to(debian_kernel.module("dummy"))
    script = (
        f"add-symbol-file -readnow '{directory}/dummy.ko' \\\n 0xffffffffc0100000 \\\n"
        "  -s .data 0xffffffffc0300000 -s .init.text 0xffffffffc0500000\n"
    )
    (file,) = read_symbol_script(script)
    symtab = Symtab(open_module(file.path, file.addresses))
    (tmp_path / "script").write_text(script)
    answer = gdb(
        f"source {tmp_path}/script", "info address dummy_init_module", "info address dummy_setup"
    )
    expected = [int(each, 16) for each in re.findall(r"address (0x[0-9a-f]+)", answer)]
    names = ("dummy_init_module", "dummy_setup")
    assert [symtab.find(name)[0].address for name in names] == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("symbol-file vmlinux", "line 3: 'symbol-file' is another command; expected add-symbol-f"),
        ("add-symbol-file", "line 3: no file"),
        ("add-symbol-file a.ko here", "'here' is no address"),
        ("add-symbol-file a.ko -1", "'-1' is no option"),
        ("add-symbol-file a.ko 0x10000000000000000", "'0x10000000000000000' is no address"),
        ("add-symbol-file a.ko 1 2", "'2' is one too many"),
        ("add-symbol-file a.ko 1 -s .data", "'' is no address"),
        ("add-symbol-file a.ko 1 -s .data 1 -s .data 2", r"a second address of \.data"),
        ("add-symbol-file 'a.ko 1", "line 3: no closing quotation"),
        ("add-symbol-file a.ko 1 \\", "line 3: it goes on after the end"),
    ],
)
def test_lines_that_are_no_symbol_file(line: str, reason: str) -> None:
    with pytest.raises(SymbolError, match=reason):
        read_symbol_script(f"# one\nadd-symbol-file x.ko 1\n{line}")


@given(st.text(alphabet="add-symbol-file .ko0x1\n\\'\"#so "))
def test_any_text_is_a_script_or_refused(text: str) -> None:
    try:
        files = read_symbol_script(text)
    except SymbolError:
        return
    assert all(file.path for file in files)
