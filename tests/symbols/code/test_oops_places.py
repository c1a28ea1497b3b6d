"""Places as an oops prints them, ``name+0x10/0x2f0 [module]``: which symbol is meant."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rsp
from lab import servers
from lab.command import run
from rsp.location_spec import parse_location
from rsp.symbols.table import SymbolTable

if TYPE_CHECKING:
    from pathlib import Path

    from lab.kernels import DebianKernel

# Three functions of a name in three files: of 5, 9 and 5 bytes, each with a kernel's padding.
SOURCE = """
.text
.type twice, @function
twice: .rept {skip}
nop
.endr
ret
.size twice, . - twice
.balign 16
"""
REST = """
.text
.globl _start
.type _start, @function
_start: nop
mov $60, %eax  # exit
xor %edi, %edi
syscall
.size _start, . - _start
.data
.globl words
.type words, @object
words: .quad 1, 2
.size words, 16
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("program")
    sources = [SOURCE.format(skip=skip) for skip in (4, 8, 4)] + [REST]
    for number, text in enumerate(sources):
        (directory / f"{number}.S").write_text(text)
    made = directory / "program"
    files = [f"{number}.S" for number in range(len(sources))]
    options = ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none"]
    subprocess.run(["gcc", "-g", *options, *files, "-o", made], cwd=directory, check=True)
    return made


pytestmark = pytest.mark.live("gcc")


def test_the_size_chooses_among_several_of_a_name(program: Path) -> None:
    table = SymbolTable(program)
    small, big, other = sorted(each.address for each in table.find("twice"))

    def addresses(spec: str) -> list[int]:
        return [place.address for place in table.locations(spec)]

    assert addresses("twice+0x1/0x9") == [big + 1]
    assert addresses("twice+1/5") == addresses("*twice+0x1/0x5") == [small + 1, other + 1]
    # As the kernel counts it, with the padding, all three are the same.
    assert addresses("twice+0x0/0x10") == [small, big, other]
    assert len(addresses("twice+0x1")) == 1
    assert [each.address for each in table.find("twice+0x1/0x9")] == [big]
    with pytest.raises(rsp.SymbolNotFound, match=r"no 'twice' of 0x20 bytes .* another build"):
        table.locations("twice+0x1/0x20")
    with pytest.raises(rsp.SymbolNotFound, match=r"no symbol 'twise' .*nearest: twice"):
        table.locations("twise+0x1/0x20")
    with pytest.raises(rsp.SymbolNotFound, match="no file of the module 'ext4'"):
        table.locations("twice+0x1/0x9 [ext4]")


def test_a_section_is_a_place(program: Path) -> None:
    table = SymbolTable(program)
    (place,) = table.locations(".text+0x11")
    assert (place.address, place.function) == (table["_start"].address - 0x1F, "twice")


@given(st.integers(0, 1 << 64), st.integers(0, 1 << 64))
def test_any_offset_and_size(offset: int, size: int) -> None:
    text = f"vfs_read+{offset:#x}/{size:#x}"
    if offset > size:
        with pytest.raises(rsp.ArgumentError, match="is no size"):
            parse_location(text)
    else:
        spec = parse_location(f"{text} [nf-tables 0123456789abcdef]")
        assert (spec.name, spec.offset, spec.size) == ("vfs_read", offset, size)
        assert spec.module == "nf_tables"


@pytest.mark.parametrize(
    "text", ["f+0x1/", "f+/0x10", "f/0x10", "f+1/ten", "f+1/2/3", "0x10 [ext4]", "[ext4]"]
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(rsp.ArgumentError, match=r"NAME\+0x10/0x2f0"):
        parse_location(text)


def test_the_command_answers_what_it_can(program: Path) -> None:
    big = next(each for each in SymbolTable(program).find("twice") if each.size == 9)
    shown = run("sym", str(program), "nothing", "twice+0x4/0x9", "nor_this", "words")
    assert shown.status == 1
    assert shown.out.splitlines()[0].split() == [f"{big.address:#x}", "9", "function", "twice+0x4"]
    assert "1.S:" in shown.out.splitlines()[1]
    assert shown.out.splitlines()[2].endswith(" words")
    assert shown.err.startswith("rsp: error: no symbol 'nothing' in ")
    assert "; no symbol 'nor_this' in " in shown.err
    assert shown.err.count("\n") == 1
    asked = run("sym", str(program), "words", "nothing", "--json")
    assert asked.status == 1
    assert [match["name"] for match in json.loads(asked.out)["matches"]] == ["words"]
    assert run("sym", str(program), "nothing").out == ""
    listed = run("list", str(program), "twice+0x4/0x9", "--json").json["lines"]
    assert {row["file"] for row in listed} == {"1.S"}


@pytest.mark.live("nm")
def test_sizes_are_those_of_kallsyms(debian_kernel: DebianKernel) -> None:
    """Which nm's list has, in the order of addresses, as the kernel's build makes kallsyms."""
    listed = subprocess.run(
        ["nm", "-n", debian_kernel.vmlinux], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in listed.splitlines()]
    functions = [(int(at, 16), name) for at, kind, name in rows if kind in "tT"]
    addresses = sorted({at for at, _ in functions})
    after = dict(itertools.pairwise(addresses))
    table = SymbolTable(debian_kernel.vmlinux)
    for at, name in random.Random(7).sample(functions, 300):
        if at in after and "." not in name:
            places = table.locations(f"{name}+0x0/{after[at] - at:#x}")
            assert at in {place.address for place in places}


@pytest.mark.live("gdbserver")
def test_a_place_wherever_a_target_takes_one(program: Path) -> None:
    with rsp.connect(servers.gdbserver_pipe(program), symbols=program) as target:
        big = next(each.address for each in target.symbols.find("twice") if each.size == 9)
        assert target.read_memory("twice+0x8/0x9", 1) == b"\xc3"
        assert target.read_u64("words+0x8/0x10") == 2
        assert target.disassemble("twice+0x8/0x9", 1)[0].address == big + 8
        watched = target.watchpoint("words+0x8/0x10", 8)
        assert watched.locations == (target.symbols["words"].address + 8,)
        point = target.breakpoint("_start+0x1/0xa", kind="hardware")
        target.resume(timeout=60)
        assert target.registers.pc == target.symbols["_start"].address + 1
        assert point.hits == 1
        with pytest.raises(rsp.SymbolNotFound, match="another build"):
            target.read_memory("words+0x8/0x18", 8)
