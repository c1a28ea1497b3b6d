"""Questions about Debian's kernel, each a process of its own, beside drgn and gdb.

Every process starts with nothing but its files in the page cache; where an index on disk may help,
the figure says so.
"""

from __future__ import annotations

import random
import sys
import tempfile
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figure import Figure, interleaved, median_ratio
from benchmarks.peers import run
from lab.kernels import debian_kernel

if TYPE_CHECKING:
    from pathlib import Path

NAMES = 200

OURS = """
import rsp
table = rsp.SymbolTable({path!r}, cache=False)
symbol = table["start_kernel"]
print(hex(symbol.address), table.line(symbol.address))
for member in table.type("struct task_struct").members:
    print(member.name, member.type, member.offset, member.size, member.bit_offset, member.bit_size)
"""

DRGN = """
import drgn
program = drgn.Program(drgn.host_platform)
module = program.extra_module("vmlinux", create=True)
module.address_ranges = [(0xffffffff81000000, 0xffffffff84000000)]
module.try_file({path!r}, force=True)
function = program.function("start_kernel")
print(hex(function.address_), program.source_location(function.address_))
for member in program.type("struct task_struct").members:
    print(member.name, member.type.type_name(), member.bit_offset, member.bit_field_size)
"""

MODULE = """
import rsp
table = rsp.SymbolTable({path!r})
addresses = {{".text": 0xffffffffc0200000, ".data": 0xffffffffc0400000, ".bss": 0xffffffffc0500000}}
table.add_module({module!r}, addresses)
symbol = table["xfs_iget"]
print(hex(symbol.address), table.line(symbol.address), len(table.type("struct xfs_inode").members))
"""


def measure() -> list[Figure]:
    """Ask the first question, many single names, what needs an index, and a module."""
    kernel = debian_kernel()
    return [
        *_first_question(kernel.vmlinux),
        *_single_names(kernel.vmlinux),
        *_index(kernel.vmlinux),
        *_module(kernel.vmlinux, kernel.module("xfs")),
    ]


def _python(program: str, **names: str) -> list[str]:
    return [sys.executable, "-c", program.format(**names)]


def _rsp(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "rsp", *arguments]


def _first_question(vmlinux: Path, rounds: int = 3) -> list[Figure]:
    gdb = ["gdb", "-nx", "-batch", "-ex", "info line start_kernel"]
    peers = {
        "ours": _python(OURS, path=str(vmlinux)),
        "gdb": [*gdb, "-ex", "ptype /o struct task_struct", str(vmlinux)],
    }
    if find_spec("drgn") is not None:
        peers["drgn"] = _python(DRGN, path=str(vmlinux))
    run(peers["ours"])  # so that all is compiled
    results = interleaved(rounds, *(partial(run, command) for command in peers.values()))
    runs = dict(zip(peers, results, strict=True))
    seconds = {peer: [each.seconds for each in runs[peer]] for peer in peers}
    memory = {peer: median(each.memory for each in runs[peer]) for peer in peers}
    subject = "start_kernel, its line, struct task_struct; no cache"
    figures = [
        Figure(
            subject=f"{subject}: gdb / ours",
            value=median_ratio(seconds["gdb"], seconds["ours"]),
            unit="x",
            target=">= 30 x",
            detail=f"gdb {median(seconds['gdb']):.2f} s, ours {median(seconds['ours']):.3f} s",
        )
    ]
    if "drgn" in peers:
        figures += [
            Figure(
                subject=f"{subject}: ours / drgn",
                value=median_ratio(seconds["ours"], seconds["drgn"]),
                unit="x",
                target="<= 1 x",
                detail=f"drgn {median(seconds['drgn']):.3f} s",
            ),
            Figure(
                subject=f"{subject}: memory, ours / drgn",
                value=memory["ours"] / memory["drgn"],
                unit="x",
                target="< 1 x",
                detail=f"ours {memory['ours']:.0f} MiB, drgn {memory['drgn']:.0f} MiB, "
                f"gdb {memory['gdb']:.0f} MiB",
            ),
        ]
    return figures


def _single_names(vmlinux: Path) -> list[Figure]:
    """Take functions and variables from nm, and structures from drgn's peer, BTF."""
    from rsp.symbols.elf.image import Image
    from rsp.symbols.elf.symtab import SymbolKind, Symtab
    from rsp.symbols.types.btf import Btf
    from rsp.symbols.types.types import Struct

    image = Image(vmlinux)
    symbols = list(Symtab(image))
    structures = [each for each in Btf(image.contents(".BTF")).types() if isinstance(each, Struct)]
    chooser = random.Random(2026)
    third = NAMES // 3
    commands = [
        _rsp("sym", vmlinux, name, "--no-cache", "--json")
        for kind, count in ((SymbolKind.FUNCTION, NAMES - 2 * third), (SymbolKind.OBJECT, third))
        for name in chooser.sample([each.name for each in symbols if each.kind is kind], count)
    ] + [
        _rsp("type", vmlinux, name, "--no-cache", "--json")
        for name in chooser.sample(sorted({each.name for each in structures if each.name}), third)
    ]
    seconds = [run(command).seconds for command in commands]
    return [
        Figure(
            subject=f"{len(commands)} single names, no cache: median",
            value=median(seconds),
            unit="s",
            target="<= 0.3 s",
        ),
        Figure(
            subject=f"{len(commands)} single names, no cache: worst",
            value=max(seconds),
            unit="s",
            target="<= 1 s",
        ),
    ]


def _index(vmlinux: Path) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="rsp-bench-") as cache:

        def timed(*arguments: str) -> float:
            command = _rsp(arguments[0], vmlinux, *arguments[1:], "--json")
            return run(command, XDG_CACHE_HOME=cache).seconds

        first = timed("locations", "list_add")
        again = median(timed("locations", "list_add") for _ in range(5))
        questions = (
            ("sym", "start_kernel"),
            ("sym", "init_task"),
            ("sym", "0xffffffff81000100"),
            ("type", "struct task_struct"),
            ("type", "struct sk_buff"),
            ("locations", "tcp_init_sock"),
            ("locations", "init/main.c:900"),
        )
        warm = {" ".join(each): median(timed(*each) for _ in range(5)) for each in questions}
    slowest = max(warm, key=lambda each: warm[each])
    return [
        Figure(subject="first question with an index", value=first, unit="s", target="<= 4 s"),
        Figure(subject="list_add's locations, warm", value=again, unit="s", target="<= 0.3 s"),
        Figure(
            subject=f"worst of {len(warm)} questions, warm",
            value=warm[slowest],
            unit="s",
            target="<= 0.15 s",
            detail=slowest,
        ),
    ]


def _module(vmlinux: Path, module: Path) -> list[Figure]:
    command = _python(MODULE, path=str(vmlinux), module=str(module))
    return [
        Figure(
            subject="xfs.ko: loaded, a symbol, its line, a structure",
            value=median(run(command).seconds for _ in range(5)),
            unit="s",
            target="<= 1 s",
        )
    ]
