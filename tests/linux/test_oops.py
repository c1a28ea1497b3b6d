"""Oopses and logs, decoded: held against addr2line, on texts of real kernels."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from lab.command import run
from rsp.linux.oops import Decoder
from rsp.symbols.table import SymbolKind, SymbolTable

if TYPE_CHECKING:
    from pathlib import Path

    from lab.guest import BootKernel
    from lab.kernels import DebianKernel

PLACE = re.compile(r"^(.*?)(?:\? )?([\w.]+)\+(0x[0-9a-f]+)/(0x[0-9a-f]+)$")


def addr2line(path: Path, addresses: list[int]) -> list[list[tuple[str, int]]]:
    """Return the lines of each, those of inlined copies first, their files by their last names."""
    asked = [f"{address:#x}" for address in addresses]
    shown = subprocess.run(
        ["addr2line", "-a", "-i", "-e", path, *asked], capture_output=True, text=True, check=True
    ).stdout
    answers = [each.splitlines()[1:] for each in re.split("^(?=0x)", shown, flags=re.MULTILINE)[1:]]
    split = [[line.partition(" (")[0].rpartition(":") for line in each] for each in answers]
    return [[(file.rpartition("/")[2], int(line)) for file, _, line in each] for each in split]


def lines_of(text: str) -> list[tuple[str, int]]:
    """Return the lines that a decoded place has behind it."""
    found = re.search(r"\(([^()]*)\)", text)
    assert found is not None, text
    rows = (each.rpartition(":") for each in found[1].split(" "))
    return [(file.rpartition("/")[2], int(line)) for file, _, line in rows]


@pytest.mark.live("addr2line")
def test_the_log_of_a_kernel(shared_kernel: BootKernel) -> None:
    """The stacks of all tasks, by SysRq-t: hundreds of places."""
    guest = shared_kernel("debian")
    log = guest.run("echo t > /proc/sysrq-trigger; dmesg")
    lines = [line.rstrip() for line in log.splitlines()]
    table = SymbolTable(guest.symbols)
    decoded = list(Decoder(table).decode(lines))
    assert len(decoded) == len(lines)
    wanted: dict[int, str] = {}
    for line, (text, places) in zip(lines, decoded, strict=True):
        found = PLACE.match(line)
        if found is None or found[2] not in table:
            continue
        if found[3] == found[4]:  # behind the last byte of it: the begin of a thread's function
            continue
        assert places, line
        if len(places) > 1:  # several of a name and a size
            continue
        place = places[0]
        assert text.startswith(found[1])
        assert place.name == found[2]
        # A return address is looked up by the call before it.
        back = 1 if int(found[3], 16) else 0
        (address,) = {each.address for each in table.locations(line[found.start(2) :])}
        assert place.address == address
        wanted[address - back] = text
    assert len(wanted) > 40
    expected = addr2line(guest.symbols, list(wanted))
    answers = [lines_of(text) for text in wanted.values()]
    # Of several rows at an address addr2line takes the last, and we the one that gdb takes.
    assert [each[1:] for each in answers] == [each[1:] for each in expected]
    same = [answer == other for answer, other in zip(answers, expected, strict=True)]
    assert sum(same) > 0.7 * len(same)
    assert any(len(lines_of(text)) > 1 for text, places in decoded if len(places) == 1)


def test_an_oops_with_modules_and_bare_addresses(
    debian_kernel: DebianKernel, tmp_path: Path
) -> None:
    table = SymbolTable(debian_kernel.vmlinux)
    module = SymbolTable(debian_kernel.module("xfs"))
    read, inside = table["vfs_read"], module["xfs_file_read_iter"]
    slide = 0x1C000000
    log = tmp_path / "log"
    log.write_text(
        f"""\
[    4.1] RIP: 0010:vfs_read+0x10/{read.size:#x}
[    4.1]  xfs_file_read_iter+0x50/{inside.size:#x} [xfs]
[    4.1][    T7]  ? xfs_file_read_iter+0x50/{inside.size:#x} [xfs]
Nov 30 19:22:52 host kernel:  xfs_file_read_iter+0x50/{inside.size:#x} [xfs]
[    4.1]  [<ffffffff9d34cc60>] ? xfs_file_read_iter+0x50/{inside.size:#x} [xfs {"ab" * 20}]
[    4.1]  [<{read.address + 0x10 + slide:016x}>]
[    4.1]  vfs_read+0x10/{read.size + 1:#x}
[    4.1]  other+0x1/0x2 [other_module]
[    4.1] RIP: 0033:0x7f1234567890
[    4.1] Modules linked in: xfs(E) [last unloaded: dummy]
[    4.3] Kernel Offset: {slide:#x} from 0xffffffff81000000 (relocation range: 0x0-0xf)\r
"""
    )
    near = SymbolTable(debian_kernel.vmlinux).line(read.address + 0x10)
    call = module.line(inside.address + 0x4F)
    xfs = f"xfs_file_read_iter ({call}) xfs"
    modules = ("--modules", str(debian_kernel.debug_modules))
    shown = run("sym", str(debian_kernel.vmlinux), "--oops", str(log), *modules)
    assert shown.status == 0
    before = log.read_text().splitlines()
    assert shown.out.splitlines() == [
        f"[    4.1] RIP: 0010:vfs_read ({near})",
        f"[    4.1]  {xfs}",
        f"[    4.1][    T7]  ? {xfs}",
        f"Nov 30 19:22:52 host kernel:  {xfs}",
        f"[    4.1]  ? {xfs}",
        f"[    4.1]  vfs_read ({near})",
        *before[6:10],
        before[10].rstrip(),
    ]
    assert "no file of the modules other_module was found" in shown.err
    assert f"1 places are of another build, the first is vfs_read+0x10/{read.size + 1:#x}" in (
        shown.err
    )
    found = run("sym", str(debian_kernel.vmlinux), "--oops", str(log), "--json", *modules).json
    assert [len(line["places"]) for line in found["lines"]] == [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    assert found["lines"][1]["places"][0]["module"] == "xfs"
    assert found["lines"][1]["places"][0]["frames"][-1] == {
        "function": "xfs_file_read_iter",
        "file": call and call.file,
        "line": call and call.line,
        "inlined": False,
    }


@pytest.mark.live("gcc")
def test_places_that_fit_several_functions_and_logs_that_are_none(tmp_path: Path) -> None:
    for file in "ab":
        text = "static __attribute__((noinline, used)) int same(int x) { return x + 1; }\n"
        (tmp_path / f"{file}.c").write_text(f"int {file} = 0; {text}")
    options = ["-g", "-O1", "-fno-pie", "-nostdlib", "-static", "-no-pie", "-Wl,-e,a"]
    program = tmp_path / "program"
    subprocess.run(["gcc", *options, "a.c", "b.c", "-o", program], cwd=tmp_path, check=True)
    first, second = SymbolTable(program).find("same")
    assert first.kind is SymbolKind.FUNCTION
    spec = f"same+0x1/{second.size:#x}"
    ((text, places),) = Decoder(SymbolTable(program)).decode([f" {spec}"])
    assert text == " same (a.c:1) or same (b.c:1)"
    assert [place.address for place in places] == [first.address + 1, second.address + 1]
    log = tmp_path / "log"
    log.write_bytes(b"\xff\x1b[2J same+0x1/0x9999 \0\n")
    shown = run("sym", str(program), "--oops", str(log))
    assert "\x1b" not in shown.out
    assert shown.out.count("\n") == 1
    for wrong in ((), ("same", "--oops", str(log))):
        assert run("sym", str(program), *wrong).status == 2
    run("sym", str(program), "--oops", str(tmp_path / "nothing")).fails("No such file")
