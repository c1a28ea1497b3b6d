"""Which of several things a name means, against gdb: blocks, files, enumerators, ``::``."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.gdb import Gdb
from lab.programs import SOURCES
from lab.servers import gdbserver_tcp
from values.test_values_live import PATIENCE, PRINTING, answers, asked, assert_equal, split

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.guest import BootKernel
    from rsp.frames.frame import Frame

BUILDS = {
    "O0": ("-O0",),
    "O2": ("-O2",),
    "DWARF 4": ("-O2", "-gdwarf-4"),
    "32": ("-O2", "-m32", "-static", "-nostdlib", "-Wl,-e,main", "-fno-pie"),
}

# What one file alone has, or all may see; `+ 0` shows the number of an enumerator.
ANYWHERE = """
global + 0 | hidden_global | only_one + 0 | only_two + 0 | folded | never_changed | written_only
never_moved | a_shape | a_shape.x | b_shape | LOW | HIGH + 0 | (enum level)5 | a_level | sink
sizeof(enum level) | kept | INNER | calls | count_of_first | nested_only | local | level | shape | n
global | &global | sizeof(global) | nothing | first | twice::nothing | nothing::x | 'nothing.c'::x
'one.c'::count | 'two.c'::count | &'one.c'::count | sizeof('two.c'::count) | 'two.c'::name
'three.c'::name | 'one.c'::RED + 0 | 'two.c'::RED + 0 | 'one.c'::twice | 'two.c'::twice
'one.c'::global | 'three.c'::global + 0 | 'three.c'::third | 'one.c'::nothing | 'one.c'::a_shape.x
'one.c'::twice::calls | 'two.c'::twice::calls | 'one.c'::first::kept | first::kept | second::kept
first::count_of_first | *&first::kept | -first::kept * 2 | third::count | third::hidden_global
third::global + 0 | main::global | first::count | first::twice | second::twice | 'first'::kept
first::n | second::n | third::n | second::global | first::nothing | first::calls
"""
# What several files have, where one of them is meant.
IN_FILE = "count | twice | twice::calls | RED + 0 | GREEN + 0 | special + 0 | sizeof(struct shape)"
IN_FILE += (
    " | sizeof(number) | (number)70000 | (struct shape *)0 | count + 1 | (count) - 1 | (RED)-1"
)
IN_BLOCK = "kept + nested_only | shape.c | level == HIGH | shadow | INNER + 0 | (INNER) + 1"
STOPS = {
    "in_block": f"{ANYWHERE} {IN_FILE} | {IN_BLOCK}",
    "in_here": f"{ANYWHERE} | name",
    "in_inlined": f"{ANYWHERE} {IN_FILE} | inlined::kept | local + kept | shadow",
    "in_second": f"{ANYWHERE} {IN_FILE} | name",
    "in_third": f"{ANYWHERE} | name | count | (count) + 1",
}


def built(directory: Path, options: Sequence[str]) -> Path:
    program = directory / "scopes"
    sources = [f"{SOURCES}/scopes/{each}.c" for each in ("one", "two", "three", "main")]
    command = ["gcc", "-g", "-no-pie", "-fno-ipa-cp", *options, "-o", str(program)]
    subprocess.run([*command, *sources], check=True)
    return program


def assert_found_alike(expressions: list[str], ours: list[str], theirs: list[str]) -> None:
    """Hold values against values, and errors against errors."""
    missing = re.compile(r"No (symbol|frame|function)|Can't take address")
    assert_equal(
        expressions,
        [re.sub(r"^\[(Symbol|Value|Expression).*", "none", each) for each in ours],
        ["none" if missing.match(each) else each for each in theirs],
    )


@pytest.mark.live("gcc", "gdb", "gdbserver")
@pytest.mark.parametrize("build", BUILDS)
def test_a_name_means_what_gdb_says(build: str, tmp_path: Path) -> None:
    program = built(tmp_path, BUILDS[build])
    for stop, text in STOPS.items():
        expressions = split(text)
        with gdbserver_tcp(program) as address:
            gdb = Gdb(address=address, symbols=program, settings=PRINTING)
            theirs = answers(gdb, expressions, f"tbreak *(long)&{stop}", "continue")
            with rsp.connect(address, symbols=program, on_exit="leave stopped") as target:
                ours = asked(target, expressions)
        assert_found_alike(expressions, ours, theirs)
        assert sum(each.startswith("[") for each in ours) < len(ours) / 3


@pytest.mark.live("gcc", "gdb", "gdbserver")
@pytest.mark.parametrize("build", ["O0", "O2"])
def test_a_name_means_what_it_does_in_a_frame(build: str, tmp_path: Path) -> None:
    program = built(tmp_path, BUILDS[build])
    expressions = split(f"{IN_FILE} | {IN_BLOCK} | global + 0 | hidden_global | name | n | kept")
    expressions += split("$pc | $sp | 'two.c'::count | first::kept | third::count")
    with gdbserver_tcp(program) as address:
        gdb = Gdb(address=address, symbols=program, settings=PRINTING)
        gdb.run("tbreak *(long)&in_here", "continue")
        theirs = answers(gdb, expressions, "frame 1")
        with rsp.connect(address, symbols=program, on_exit="leave stopped") as target:
            here, frame, *_ = target.backtrace()
            ours = in_frame(frame, expressions)
            assert int(here.value("hidden_global")) == 3
            assert frame.value("hidden_global") == 5
            target.step()
            with pytest.raises(rsp.MemoryFault):
                int(frame.value("'three.c'::name"))
    where = expressions.index("name")  # an arbitrary one, of a file that has nothing to do with it
    for each in (expressions, ours, theirs):
        del each[where]
    assert_found_alike(expressions, ours, theirs)


def in_frame(frame: Frame, expressions: Sequence[str]) -> list[str]:
    said = []
    for expression in expressions:
        try:
            said.append(str(frame.value(expression)))
        except rsp.RspError as error:
            said.append(f"[{type(error).__name__}: {error}]")
    return said


@pytest.mark.live("gcc", "gdb", "gdbserver")
def test_a_copy_that_is_not_entered_has_no_names(tmp_path: Path) -> None:
    program = built(tmp_path, BUILDS["O2"])
    expressions = split("shadow | n | before | count | kept | count_of_first | $pc")
    with gdbserver_tcp(program) as address:
        gdb = Gdb(address=address, symbols=program, settings=PRINTING)
        gdb.run("tbreak *(long)&before_copy", "continue")
        theirs = answers(gdb, expressions, "stepi")
    with gdbserver_tcp(program) as address:
        target = rsp.connect(address, symbols=program, on_exit="leave stopped")
        with target, target.breakpoint(target.symbols["before_copy"].address):
            target.resume(timeout=240)
            target.step()
            ours = asked(target, expressions)
            copies = len(target.symbols.inline_chain(target.registers.pc))
    assert_found_alike(expressions, ours, theirs)
    assert copies == 2, "the copy does not begin behind the label"


OWN_WAY = {
    # gdb takes that of another file, which is none of this one's.
    "'three.c'::count": "no symbol 'count' in three.c",
    "'one.c'::only_two": r"no symbol 'only_two' in one.c \(nearest: only_one\)",
    "first::kpt": r"no symbol 'kpt' in first\(\) \(nearest: kept\)",
    "first::twofold": r"2 blocks of first\(\) have a 'twofold'",
    "frist::kept": r"no symbol 'frist' in .* \(nearest: first",
    "'oen.c'::count": r"no source file 'oen.c' in .* \(nearest: one.c",
    "third::n": r"'n' is on the stack while third\(\) runs",
    "count::x": "'count' is no function",
    "'one.c'::": "a name should be at the end",
    "'one.c'::first::": "a name should be at the end",
    "::count": "a name, a number or",
}


@pytest.mark.live("gcc", "gdbserver")
def test_what_a_file_or_a_function_does_not_have(tmp_path: Path) -> None:
    program = built(tmp_path, BUILDS["O0"])
    with gdbserver_tcp(program) as address, rsp.connect(address, symbols=program) as target:
        with target.breakpoint(target.symbols["in_block"].address):
            target.resume(timeout=240)
        for expression, message in OWN_WAY.items():
            with pytest.raises(rsp.SymbolError, match=message):
                target.value(expression)
        # A variable of a block within the function, which gdb does not find.
        assert target.value("first::nested_only") == 52
        assert target.value("sizeof(first::nested_only) + sizeof 'two.c'::b_shape") == 7


@pytest.mark.live("gcc", "gdbserver")
def test_of_two_files_of_one_name_it_has_to_be_said_which(tmp_path: Path) -> None:
    text = "static int both = %d; static int in_%s = %d; int %s(void) { return both++ + in_%s++; }"
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.c").write_text(text % (number, name, number, name, name))
    (tmp_path / "main.c").write_text("int a(void), b(void); int main(void) { return a() + b(); }")
    command = ["gcc", "-g", "-no-pie", "-o", "main", "a/same.c", "b/same.c", "main.c"]
    subprocess.run(command, cwd=tmp_path, check=True)
    program = tmp_path / "main"
    with gdbserver_tcp(program) as address, rsp.connect(address, symbols=program) as target:
        assert [target.value(f"'{each}/same.c'::both") for each in "ab"] == [0, 1]
        assert target.value(f"'{tmp_path}/b/same.c'::both") == 1
        assert target.value("'same.c'::in_b") == 1
        with pytest.raises(rsp.SymbolError, match=r"each of a/same\.c, b/same\.c has 'both'"):
            target.value("'same.c'::both")


@pytest.mark.live("gdb")
def test_names_of_a_kernel(boot_kernel: BootKernel) -> None:
    expressions = split(
        "load_elf_binary | &padzero | elf_core_dump | notesize | elf_format.min_coredump"
        " | 'compat_binfmt_elf.c'::padzero | 'compat_binfmt_elf.c'::load_elf_binary"
        " | MM_ANONPAGES + 1 | PIDTYPE_MAX | TCP_ESTABLISHED | bprm | load_elf_binary::bprm"
        " | bprm->interp | 'tcp.c'::tcp_init_sock | 'exec.c'::suid_dumpable"
        " | 'fs/namespace.c'::m_start | 'kernel/module/procfs.c'::m_start"
        " | ((struct linux_binprm *)bprm)->filename | 'init/main.c'::static_command_line"
        " | 'printk.c'::devkmsg_log | no_such_name | 'tcp.c'::no_such_name"
    )
    guest = boot_kernel("debian", cpus=1)
    with rsp.connect(
        guest.address, symbols=guest.symbols, on_exit="leave stopped", timeout=30
    ) as target:
        with target.breakpoint("fs/binfmt_elf.c:load_elf_binary"):
            target.resume(timeout=240)
        assert target.backtrace()[0].file == "fs/binfmt_elf.c"
        ours = asked(target, expressions)
        of_cpu = [target.value(f"{each}tasklet_vec", cpu=0) for each in ("", "'softirq.c'::")]
        assert of_cpu[0].address_ == of_cpu[1].address_ != target.symbols["tasklet_vec"].address
        # Both files have the text of the first.
        assert str(target.value("'fs/binfmt_elf.c'::padzero")) == str(target.value("padzero"))
    gdb = Gdb(address=guest.address, symbols=guest.symbols, settings=PRINTING, timeout=PATIENCE)
    assert_found_alike(expressions, ours, answers(gdb, expressions))
