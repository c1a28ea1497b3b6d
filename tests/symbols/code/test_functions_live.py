"""What an address is in, against addr2line, which reads the same DWARF by other code."""

from __future__ import annotations

import random
import subprocess
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from lab.inlining import VARIANTS, compile_variant
from lab.offline import ask
from rsp.errors import BadImage, SymbolError
from rsp.symbols.binary import Binary
from rsp.symbols.cache.cache import Cache
from rsp.symbols.elf.image import Image
from rsp.symbols.table import SymbolKind, SymbolTable

if TYPE_CHECKING:
    from pathlib import Path

    from lab.kernels import DebianKernel

pytestmark = pytest.mark.live("gcc", "addr2line")

Chain = list[tuple[str, str, int]]


def addr2line(program: Path | str, addresses: list[int]) -> list[Chain]:
    """Return the frames of each address: function, last part of the file, line."""
    finished = subprocess.run(
        ["addr2line", "-a", "-i", "-f", "-e", str(program)],
        input="".join(f"{address:#x}\n" for address in addresses),
        capture_output=True,
        text=True,
        check=True,
    )
    chains: list[Chain] = []
    rows = iter(finished.stdout.splitlines())
    for row in rows:
        if row.startswith("0x"):
            chains.append([])
            continue
        file, _, line = next(rows).partition(" (discriminator")[0].rpartition(":")
        chains[-1].append((row, PurePosixPath(file).name, int(line) if line.isdigit() else 0))
    assert len(chains) == len(addresses)
    return chains


def ours(table: SymbolTable, address: int) -> Chain:
    return [
        (
            frame.function or "",
            PurePosixPath(frame.line.file).name if frame.line else "??",
            frame.line.line if frame.line else 0,
        )
        for frame in table.inline_chain(address)
    ]


def same(mine: Chain, theirs: Chain) -> bool:
    # Of several rows for one address addr2line takes another than gdb, whose choice ours is; that
    # is tested with the line tables. What an inlined copy says of its call leaves no choice.
    names, expected = ([name for name, _, _ in chain] for chain in (mine, theirs))
    return names == expected and mine[1:] == theirs[1:]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_address_of_a_program(variant: str, tmp_path: Path) -> None:
    program = compile_variant(variant, tmp_path)
    table = SymbolTable(program, cache=False)
    addresses = [
        address
        for symbol in table
        if symbol.kind is SymbolKind.FUNCTION and symbol.name not in ("plain", "framed")
        for address in range(symbol.address, symbol.address + symbol.size)
    ]
    expected = addr2line(program, addresses)
    differ = {
        hex(address): (mine, theirs)
        for address, theirs in zip(addresses, expected, strict=True)
        if not same(mine := ours(table, address), theirs)
    }
    assert not differ
    if variant.startswith("O2"):
        assert max(len(chain) for chain in expected) == 3  # link_nodes in add_node in main


@pytest.mark.parametrize("assembler", [True, False])
def test_functions_in_assembler(tmp_path: Path, assembler: bool) -> None:
    table = SymbolTable(compile_variant("O2", tmp_path, assembler=assembler), cache=False)
    plain = table["plain"].address
    assert len(table.inline_chain(plain)) == assembler
    line = table.line(plain)
    assert (line is not None) == assembler


def test_addresses_of_a_kernel(debian_kernel: DebianKernel) -> None:
    table = SymbolTable(debian_kernel.vmlinux, cache=False)
    functions = [
        symbol for symbol in table if symbol.kind is SymbolKind.FUNCTION and symbol.size > 16
    ]
    picked = random.Random(8)
    addresses = [
        symbol.address + picked.randrange(symbol.size) for symbol in picked.sample(functions, 400)
    ]
    expected = addr2line(debian_kernel.vmlinux, addresses)
    compared = deepest = 0
    differ = {}
    for address, theirs in zip(addresses, expected, strict=True):
        mine = ours(table, address)
        if not mine:
            continue  # assembler
        compared += 1
        deepest = max(deepest, len(mine))
        if not same(mine, theirs):
            differ[hex(address)] = mine, theirs
    assert not differ
    assert compared > 350
    assert deepest > 3


@pytest.mark.live("gdb")
def test_prototypes_are_those_of_info_functions(tmp_path: Path) -> None:
    program = compile_variant("O0", tmp_path)
    binary = Binary(Image(program), cache=Cache.off())
    answer = ask(program, ["info functions -n ."])[0]
    for name in ("many", "work", "give_up", "empty", "link_nodes"):
        described = binary.describe(binary.find(name)[0])
        assert described.prototype is not None
        assert f"\n{described.line}:\t{described.prototype}\n" in answer


DEEP = """
    .text
    .globl _start
_start: nop
inside: nop
outside: nop
end:
    .section .debug_abbrev
    .byte 1, 0x11, 1, 0x11, 1, 0x12, 1, 0, 0    # a unit from low_pc to high_pc
    .byte 2, 0x2e, 1, 0x03, 8, 0x11, 1, 0x12, 1, 0, 0    # a function with a name, the same
    .byte 3, {tag}, 1, 0, 0    # with children, without an address
    .byte 0
    .section .debug_info
    .long behind - begin
begin: .short 4
    .long 0
    .byte 8, 1
    .quad _start, end
    .byte 2
    .asciz "shallow"
    .quad _start, outside
    .rept {depth}
    .byte 3
    .endr
behind:
"""


@pytest.mark.parametrize("tag", [0x0B, 0x1D, 0x39], ids=["blocks", "copies", "namespaces"])
def test_entries_in_entries_without_an_end(tmp_path: Path, tag: int) -> None:
    """Where each level cost a look at all below it, this would take hours."""
    source, program = tmp_path / "deep.S", tmp_path / "deep"
    source.write_text(DEEP.format(tag=tag, depth=300_000))
    command = ["gcc", "-nostdlib", "-static", "-no-pie", "-o", str(program), str(source)]
    subprocess.run(command, check=True)
    table = SymbolTable(program, cache=False)
    inside = [frame.function for frame in table.inline_chain(table["inside"].address)]
    assert inside == ["shallow"]
    assert table.inline_chain(table["outside"].address) == ()


SECTIONS = (".debug_info", ".debug_abbrev", ".debug_line", ".debug_rnglists", ".debug_loclists")


def test_a_flipped_byte_does_no_harm(tmp_path: Path) -> None:
    program = compile_variant("O2", tmp_path)
    whole = program.read_bytes()
    image = Image(program)
    places = [
        section.offset + at
        for name in SECTIONS
        if (section := image.named(name)) is not None
        for at in range(section.size)
    ]
    addresses = [symbol.address + 3 for symbol in SymbolTable(program, cache=False)]
    picked = random.Random(4)
    damaged = tmp_path / "damaged"
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(picked.choice((1, 1, 1, 20))):
            data[picked.choice(places)] = picked.randrange(256)
        damaged.write_bytes(data)
        table = SymbolTable(damaged, cache=False)
        binary = Binary(Image(damaged), cache=Cache.off())
        for spec in ("add_node", "helper", "main.c:52", "common.h:6", "many"):
            try:
                table.locations(spec)
            except SymbolError:
                refused += 1
        for address in addresses:
            try:
                table.inline_chain(address)
            except BadImage:
                refused += 1
        for name in ("head", "counter"):
            try:
                for symbol in binary.find(name):
                    binary.variable(symbol)
            except BadImage:
                refused += 1
    assert refused
