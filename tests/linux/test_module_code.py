"""Backtraces through a module without a file, by the structures of kernels old and new; and memory
that makes no sense."""

from __future__ import annotations

import re
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rsp
from lab.programs import SOURCES
from rsp.inferior.backtraces import backtrace_from
from rsp.linux.records import has_member, place_of
from rsp.symbols.elf.image import Image
from rsp.symbols.unwind.orc import FORMATS
from rsp.testing.serve import StubTransport
from rsp.testing.stub import Stub
from rsp.unwind.resumption import Resumption

if TYPE_CHECKING:
    from pathlib import Path

    from rsp.frames.backtrace import Backtrace
    from rsp.linux.records import Place
    from rsp.symbols.types.types import Type

pytestmark = pytest.mark.live("gcc", "objcopy")

HEADER = next(each.hash for each in FORMATS if each.kernel == "6.4")
TEXT = {64: 0xFFFF_FFFF_8100_0000, 32: 0xC100_0000}
MODULE = {64: 0xFFFF_FFFF_C000_0000, 32: 0xE080_0000}
STACK = {64: 0xFFFF_C900_0000_0000, 32: 0xC200_0000}

# What kernels from 4.5, from 6.4, with less, and before 4.5 have; and with frame pointers.
KERNELS = [
    (64, "-DTREE=1", "-DMEMORY=2", "-DNAMES=2", "-DORC=1"),
    (64, "-DTREE=1", "-DMEMORY=3", "-DNAMES=2", "-DORC=1"),
    (64, "-DTREE=0", "-DMEMORY=3", "-DNAMES=0", "-DORC=1"),
    (64, "-DTREE=0", "-DMEMORY=1", "-DNAMES=1", "-DORC=1"),
    (64, "-DTREE=1", "-DMEMORY=2", "-DNAMES=2", "-DORC=0"),
    (32, "-DTREE=1", "-DMEMORY=3", "-DNAMES=2", "-DORC=0"),
    (32, "-DTREE=0", "-DMEMORY=2", "-DNAMES=0", "-DORC=0"),
]

WRONG = b"\x11" * 0x100
"""A stack without a return address."""


class Kernel:
    """Such a kernel, stopped in ``work`` of its module, which ``caller`` of its own has called."""

    def __init__(self, directory: Path, bits: int, *options: str) -> None:
        self.bits, self.options = bits, options
        whole, rest = directory / "whole", directory / "vmlinux"
        header = ", ".join(f"0x{byte:02x}" for byte in bytes.fromhex(HEADER))
        begin, module = TEXT[bits], MODULE[bits]
        places = {".text": begin, ".data": begin + 0x10000}
        places |= {".probe.text": module, ".probe.data": module + 0x1000}
        subprocess.run(
            [
                *("gcc", f"-m{bits}", "-g", "-O0", "-static", "-nostdlib", "-ffreestanding"),
                *("-fno-pie", "-no-pie", "-Wl,-e,0", "-Wl,-z,norelro", *options),
                *(("-mcmodel=kernel",) if bits == 64 else ()),
                *(f"-Wl,--section-start={name}={at:#x}" for name, at in places.items()),
                *(f'-DHEADER="{header}"', "-o", whole, SOURCES / "module_code.c"),
            ],
            check=True,
        )
        subprocess.run(
            ["objcopy", "-R", ".probe.text", "-R", ".probe.data", whole, rest], check=True
        )
        self.table, self.whole = rsp.SymbolTable(rest), rsp.SymbolTable(whole)
        image = Image(whole)
        loaded = (each for each in image.sections if each.loaded and each.size)
        self.memory = {each.address: image.contents(each)[:] for each in loaded}
        self.requests = 0

    def address_of(self, path: str) -> int:
        """Return the address of a variable, or of a member of one."""
        offset = self.place(path).offset if "." in path else 0
        return self.whole[path.partition(".")[0]].address + offset

    def place(self, path: str) -> Place:
        """Return where a member of a variable is."""
        name, _, member = path.partition(".")
        return place_of(self.type_of(name), member)

    def type_of(self, name: str) -> Type:
        """Return the type of a variable."""
        found = self.whole.variable(name).type
        assert found is not None
        return found

    def backtrace(self, changed: dict[int, bytes] | None = None, at: int = 8) -> Backtrace:
        """Return the backtrace with some memory changed, from somewhere in ``work``."""
        word, stack = self.bits // 8, STACK[self.bits]
        form = "<Q" if word == 8 else "<I"
        after = self.address_of("after")
        # By ORC, or by the frame pointer: the caller's, and where it goes on.
        words = {stack + word: stack + 0x80, stack + 2 * word: after}
        stub = Stub(memory=self.memory)
        stub.memory.map(stack, bytes(0x400))
        for place, data in {
            **{place: struct.pack(form, number) for place, number in words.items()},
            **(changed or {}),
        }.items():
            stub.memory.write(place, data)
        pc, sp, fp = ("rip", "rsp", "rbp") if word == 8 else ("eip", "esp", "ebp")
        registers = {pc: self.address_of("work") + at, sp: stack}
        registers[fp] = 1 if "-DORC=1" in self.options else stack + word
        with rsp.connect(StubTransport(stub), symbols=self.table, slide=0) as target:
            found = backtrace_from(target.inferior, Resumption(registers=registers))
            str(found)
        self.requests = len(stub.received)
        return found


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int | str, ...], Kernel]:
    return {
        (bits, *options): Kernel(tmp_path_factory.mktemp("kernel"), bits, *options)
        for bits, *options in KERNELS
    }


@pytest.mark.parametrize("which", KERNELS, ids=lambda which: "".join(map(str, which)))
def test_every_kernel(
    which: tuple[int | str, ...], kernels: dict[tuple[int | str, ...], Kernel]
) -> None:
    kernel = kernels[which]
    found = kernel.backtrace()
    width = kernel.bits // 4 + 2
    assert len(found) == 2, found
    named = "-DNAMES=0" not in which
    here = kernel.address_of("work") + 8
    assert str(found[0]) == f"{here:#0{width}x} in {'work' if named else '??'} () from [probe]"
    assert (found[0].module, found[0].offset) == ("[probe]", 8 if named else None)
    assert (found[1].pc, found[1].function) == (kernel.address_of("after"), "caller")
    assert found[1].module is None
    assert (found.complete, found.end_reason) == (True, "the outermost frame")
    sp = found[1].registers["rsp"] or 0
    assert sp == STACK[kernel.bits] + 3 * kernel.bits // 8
    # What work has saved of the others nothing tells, and so nothing of them is known.
    assert found[1].registers["rbp"] == STACK[kernel.bits] + 0x80
    assert found[1].registers["rbx"] is None


def test_names_of_functions(kernels: dict[tuple[int | str, ...], Kernel]) -> None:
    kernel = kernels[KERNELS[0]]
    work = kernel.address_of("work")
    # The nearest one before; of several the first that has a name, and none that is undefined.
    for at in (1, 6, 7, 16):
        frame = kernel.backtrace(at=at)[0]
        assert (frame.function, frame.offset) == ("work", at)
    assert kernel.backtrace(at=17)[0].function == "extra"
    assert str(kernel.backtrace(at=-2)[0]) == f"{work - 2:#x} in ?? () from [probe]"


@pytest.mark.parametrize(
    ("path", "number", "reason"),
    [
        (
            "probe.arch.num_orcs",
            0xFFFF_FFFF,
            r"17179869180 bytes of ORC at 0x\w+ are not in the memory",
        ),
        (
            "probe.arch.orc_unwind_ip",
            0,
            r"16 bytes of ORC at 0x0 are not in the memory of \[probe\]",
        ),
        ("probe.arch.orc_unwind", TEXT[64], r"24 bytes of ORC at 0xffffffff81000000 are not in"),
        ("probe.arch.num_orcs", 0, "nothing says how to unwind from"),
        ("probe.core_layout.size", 0, "nothing says how to unwind from"),
        (
            "probe.core_layout.mtn.mod",
            8,
            r"a pointer to \d+ bytes at 0x8|cannot read memory at 0x8",
        ),
        ("mod_tree.root.tree", 0x8000_0000_0000_0000, "cannot read memory at 0x7fff"),
    ],
)
def test_what_is_damaged_is_the_reason(
    path: str, number: int, reason: str, kernels: dict[tuple[int | str, ...], Kernel]
) -> None:
    kernel = kernels[KERNELS[0]]
    data = number.to_bytes(min(kernel.place(path).size, 8), "little")
    found = kernel.backtrace({kernel.address_of(path): data, STACK[64]: WRONG})
    assert len(found) == 1
    assert not found.complete
    assert re.search(reason, found.end_reason), found.end_reason


def test_an_entry_that_makes_no_sense(kernels: dict[tuple[int | str, ...], Kernel]) -> None:
    kernel = kernels[KERNELS[0]]
    found = kernel.backtrace({STACK[64]: WRONG}, at=16 + 8)
    assert found[0].function == "extra"
    assert "ORC of [probe] in memory: an entry with flags 0x2ff" in found.end_reason


NUMBERS = st.sampled_from(
    [0, 1, 4095, 1 << 20, 1 << 31, (1 << 32) - 1, 1 << 47, 1 << 63, -1, -64, MODULE[64], TEXT[64]]
) | st.integers(MODULE[64], MODULE[64] + 0x2000)
MEMBERS = (
    *("arch.num_orcs", "arch.orc_unwind_ip", "arch.orc_unwind"),
    *("kallsyms", "core_kallsyms.symtab", "core_kallsyms.num_symtab", "core_kallsyms.strtab"),
    *("symtab", "num_symtab", "strtab", "list.next", "name"),
    *("core_layout.base", "core_layout.size", "core_layout.mtn.mod", "core_layout.mtn.node.node"),
    *("mem", "module_core", "core_size"),
)


@pytest.mark.parametrize("which", KERNELS, ids=lambda which: "".join(map(str, which)))
@settings(max_examples=60)
@given(data=st.data())
def test_hostile_memory(
    which: tuple[int | str, ...],
    kernels: dict[tuple[int | str, ...], Kernel],
    data: st.DataObject,
) -> None:
    """It ends with a reason, after few requests."""
    kernel = kernels[which]
    word = kernel.bits // 8
    module = kernel.type_of("probe")
    members = [f"probe.{each}" for each in MEMBERS if has_member(module, each)]
    names = st.sampled_from(["modules", "mod_tree", "ips", "entries", "probe", *members])
    places = names.map(kernel.address_of)
    changed = {}
    for place, number in data.draw(st.lists(st.tuples(places, NUMBERS), min_size=1, max_size=4)):
        at = data.draw(st.sampled_from([0, 0, 0, word, 2 * word, 4, 20]))
        changed[place + at] = struct.pack("<Q", number & (1 << 64) - 1)[
            : data.draw(st.sampled_from([2, 4, word]))
        ]
    found = kernel.backtrace(changed, at=data.draw(st.sampled_from([-5, 0, 8, 20, 40, 0x1000])))
    assert len(found) >= 1
    assert found.end_reason
    assert kernel.requests < 400


@pytest.mark.parametrize("which", KERNELS[:2], ids=lambda which: "".join(map(str, which)))
@given(
    garbage=st.binary(min_size=1, max_size=0x200),
    name=st.sampled_from(["ips", "symbols", "names", "probe"]),
)
def test_garbage(
    which: tuple[int | str, ...],
    kernels: dict[tuple[int | str, ...], Kernel],
    garbage: bytes,
    name: str,
) -> None:
    kernel = kernels[which]
    found = kernel.backtrace({kernel.address_of(name): garbage})
    assert len(found) >= 1
    assert kernel.requests < 400


def test_a_tree_without_an_end(kernels: dict[tuple[int | str, ...], Kernel]) -> None:
    kernel = kernels[KERNELS[0]]
    node = kernel.address_of("probe.core_layout.mtn.node")
    loop = struct.pack("<QQQ", 0, node, node)
    found = kernel.backtrace({node: loop}, at=0x10000)
    assert found[0].module is None
    assert found[0].function is None
    assert kernel.requests < 100
