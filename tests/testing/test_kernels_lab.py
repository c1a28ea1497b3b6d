"""The kernels under test are what their recipes say, as readelf sees them.

Later tests rely on it: one kernel has ORC and the other frame pointers, modules are relocatable.
"""

from __future__ import annotations

import lzma
import os
import re
import struct
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from lab.inner_pytest import run_pytest
from lab.kernels import compress, not_applied, split_debug
from lab.packages import FIXTURES, OBTAIN
from lab.programs import cache_directory

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.kernels import BuiltKernel, DebianKernel

LAB = Path(__file__).parents[1] / "lab"

# The name that is also the test's id, then what readelf -h and the first unit say.
BUILT = [("x86_64", "ELF64", 5), ("i386", "ELF32", 4)]


def readelf(option: str, path: Path) -> str:
    command: list[str | Path] = ["readelf", "-W", option, path]
    # A debug link ends in a checksum, which is no text.
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode(
        errors="replace"
    )


def header(path: Path) -> dict[str, str]:
    fields = (line.partition(":") for line in readelf("-h", path).splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}


def sections(path: Path) -> set[str]:
    return set(re.findall(r"^ *\[ *\d+\] (\S+)", readelf("-S", path), re.MULTILINE))


def build_id(path: Path) -> str:
    (found,) = re.findall(r"Build ID: ([0-9a-f]{40})", readelf("-n", path))
    return str(found)


def first_unit(path: Path) -> str:
    """Return the first lines of .debug_info; all of them are millions."""
    command: list[str | Path] = ["readelf", "-W", "--debug-dump=info", path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        lines = list(islice(process.stdout, 20))
        process.kill()
    return b"".join(lines).decode()


def dwarf_version(path: Path) -> int:
    (version,) = re.findall(r"^ +Version: +(\d+)$", first_unit(path), re.MULTILINE)
    return int(version)


def bzimage_release(path: Path) -> str:
    """Return the release in a bzImage (Linux/x86 boot protocol: kernel_version, offset 0x20e)."""
    image = path.read_bytes()
    assert image[0x202:0x206] == b"HdrS"
    (offset,) = struct.unpack_from("<H", image, 0x20E)
    return image[0x200 + offset :].split(b" ", 1)[0].decode()


@pytest.mark.live("readelf")
def test_debians_kernel(debian_kernel: DebianKernel) -> None:
    vmlinux = debian_kernel.vmlinux
    assert header(vmlinux)["Class"] == "ELF64"
    assert header(vmlinux)["Type"].startswith("EXEC")
    assert {".symtab", ".debug_info", ".orc_unwind", ".BTF"} <= sections(vmlinux)
    assert dwarf_version(vmlinux) == 5
    assert bzimage_release(debian_kernel.image) == debian_kernel.release
    assert " T start_kernel\n" in debian_kernel.system_map.read_text()


@pytest.mark.live("readelf")
@pytest.mark.parametrize("name", ["xfs", "libcrc32c", "dummy", "dm-mod", "zsmalloc"])
def test_debians_modules_and_their_debug_files(debian_kernel: DebianKernel, name: str) -> None:
    module, stripped = debian_kernel.module(name), debian_kernel.stripped_module(name)
    assert header(module)["Type"].startswith("REL")
    assert {".debug_info", ".rela.debug_info", ".symtab"} <= sections(module)
    assert ".debug_info" not in sections(stripped)
    assert build_id(stripped) == build_id(module)
    assert f"/modules/{debian_kernel.release}/kernel/" in str(stripped)


@pytest.mark.live("readelf")
@pytest.mark.parametrize(("name", "elf_class", "dwarf"), BUILT)
def test_a_built_kernel(
    built_kernel: Callable[[str], BuiltKernel], name: str, elf_class: str, dwarf: int
) -> None:
    kernel = built_kernel(name)
    assert header(kernel.vmlinux)["Class"] == elf_class
    assert header(kernel.vmlinux)["Type"].startswith("EXEC")
    assert dwarf_version(kernel.vmlinux) == dwarf
    assert (".orc_unwind" in sections(kernel.vmlinux)) == (name == "x86_64")
    assert bzimage_release(kernel.bzimage) == kernel.release
    assert " T start_kernel\n" in kernel.system_map.read_text()
    assert ("CONFIG_FRAME_POINTER=y\n" in kernel.config.read_text()) == (name == "i386")


@pytest.mark.live("readelf")
@pytest.mark.parametrize(("name", "elf_class", "dwarf"), BUILT)
def test_a_built_module(
    built_kernel: Callable[[str], BuiltKernel], name: str, elf_class: str, dwarf: int
) -> None:
    module = built_kernel(name).module("dummy")
    assert header(module)["Class"] == elf_class
    assert header(module)["Type"].startswith("REL")
    assert ".debug_info" in sections(module)
    assert dwarf_version(module) == dwarf
    assert (".orc_unwind" in sections(module)) == (name == "x86_64")


@pytest.mark.live("readelf")
@pytest.mark.parametrize("name", ["x86_64", "i386"])
def test_a_built_kernel_does_not_name_the_place_that_it_was_built_in(
    built_kernel: Callable[[str], BuiltKernel], name: str
) -> None:
    kernel = built_kernel(name)
    assert "/usr/src/linux-source-" in first_unit(kernel.vmlinux)
    for file in (kernel.vmlinux, kernel.module("dummy")):
        assert os.fsencode(cache_directory()) not in file.read_bytes()


@pytest.mark.live("xz", "zstd")
@pytest.mark.parametrize("suffix", ["xz", "zst"])
def test_a_compressed_module_holds_the_same(
    debian_kernel: DebianKernel, tmp_path: Path, suffix: Literal["xz", "zst"]
) -> None:
    module = debian_kernel.module("dummy")
    compressed = compress(module, suffix, tmp_path)
    assert compressed.name == f"dummy.ko.{suffix}"
    if suffix == "xz":
        content = lzma.decompress(compressed.read_bytes())
    else:
        content = subprocess.run(
            ["zstd", "-dc", compressed], check=True, capture_output=True
        ).stdout
    assert content == module.read_bytes()


@pytest.mark.live("objcopy", "readelf")
def test_a_split_module_names_its_debug_file(debian_kernel: DebianKernel, tmp_path: Path) -> None:
    stripped, debug = split_debug(debian_kernel.module("dummy"), tmp_path)
    assert ".debug_info" in sections(debug)
    assert ".debug_info" not in sections(stripped)
    assert debug.name in readelf("--string-dump=.gnu_debuglink", stripped)
    assert build_id(debug) == build_id(stripped)


def test_a_line_that_did_not_take_effect_is_named() -> None:
    fragment = "# why\nCONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n# CONFIG_D is not set\n"
    assert not_applied(fragment, "CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n") == []
    assert not_applied(fragment, "CONFIG_B=y\nCONFIG_C=y\n") == [
        "CONFIG_A=y",
        "CONFIG_B=m",
        "# CONFIG_C is not set",
    ]


@pytest.mark.live(*FIXTURES["boot_kernel"])
def test_without_a_kernel_the_tests_are_skipped_and_none_is_obtained(tmp_path: Path) -> None:
    source = """
        def test_debian(debian_kernel): assert 0
        def test_built(built_kernel): assert 0
        def test_guest(boot_kernel): boot_kernel("debian-6.12")
        def test_guest32(boot_kernel): boot_kernel("i386")
    """
    cache = tmp_path / "cache"
    _, output = run_pytest(tmp_path, source, XDG_CACHE_HOME=str(cache))
    assert "4 skipped" in output
    for name in ("debian-*", "x86_64-*", "debian-*", "i386-*"):
        assert f"no linux-{name}" in output
    assert f"in {cache}/gdb-rsp: make lab puts it there" in output
    assert not cache.exists()


@pytest.mark.live(*OBTAIN)
def test_without_a_mirror_make_lab_says_so(tmp_path: Path) -> None:
    apt, cache = tmp_path / "apt.conf", tmp_path / "cache"
    apt.write_text('Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "/dev/null";\n')
    done = subprocess.run(
        [sys.executable, LAB / "obtain.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "APT_CONFIG": str(apt), "XDG_CACHE_HOME": str(cache)},
    )
    assert done.returncode == 1
    assert "apt-cache show --no-all-versions linux-image-cloud-amd64: E: " in done.stderr
    assert [each.name for each in (cache / "gdb-rsp").iterdir()] == ["linux-debian.lock"]
