"""Values and expressions against gdb, on the same stop of the same program or kernel."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.gdb import Gdb
from lab.programs import SOURCES
from lab.servers import gdbserver_tcp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from lab.guest import BootKernel, Guest, KernelName
    from rsp.remote.target import Target

# gdb's own defaults, which the lab has lifted, and its "as long as it takes".
PRINTING = ("set print elements 200", "set print repeats 10")
PATIENCE = 240.0

BUILDS = {
    "64": ("-no-pie",),
    "32": ("-m32", "-static", "-no-pie", "-nostdlib", "-DFREESTANDING"),
}

# What a program has in the file is all asked for, and beside it:
EXPRESSIONS = """
&numbers | &numbers[1] | numbers[1] | numbers + 1 | *numbers | &numbers[2] - &numbers[1]
*outer_pointer | outer.u | outer.inner | outer.u.part | outer_pointer->next->next->inner.b
outer_pointer.next | &outer | &outer.inner | &outer.inner.b | &outer.list[1].b | outer.x
outer.deep | outer.call | *outer.call | outer.mac | outer.label | outer.opaque | outer.nothing
called | &called | *called | **called | here | &here | quiet | &quiet | functions[0]
sizeof(struct outer) | sizeof outer | sizeof(int) | sizeof(outer.mac)/sizeof outer.mac[0]
sizeof (struct pair *) | sizeof(u8) | sizeof(long double) | sizeof flexible | sizeof(1+1)
sizeof(struct pair[3]) | sizeof(int*) | sizeof(void) | sizeof(enum color) | sizeof numbers[0]
sizeof(hidden) | sizeof(numbers) / sizeof(numbers[0]) | sizeof(char) + 1 | sizeof *to_null
(long)outer_pointer - (long)&outer | (char)65 | (u8)200 | (u8 *)text | (char *)text
(const char *)text | (volatile int *)numbers | (struct pair *)numbers | *(struct pair *)numbers
((struct outer *)&outer)->last | (enum color)5 | (enum color)1 | (enum color)-1 | (enum flags)0xff
(enum zero_flags)0xff | (unsigned)5 | (unsigned short)70000 | (short)70000 | (signed char)200
(long long)-1 | (unsigned long long)-1 | (long double)1.5 | (float)0.1 | (double)ld_tenth
(int)f_pi | (u8)f_pi | (int)bits.a | (u8)-1 | (void)1
(const volatile struct pair *)numbers | (unsigned long const *)numbers | (char *const *)names
RED | BLUE + 1 | blue + blue | -blue | red == 0 | blue == 6 | sizeof(blue) | F_A | (enum flags)F_B
names[0] | names[1] | *names | **names | names[0][1] | name[2] | name + 2 | &name[2] | *name
to_number | *to_number | to_number[-1] | to_number - numbers | to_number + 1 | &*to_number
to_null | to_wild | wild_name | *to_pair | to_pair->b | to_pair[1] | *to_array | (*to_array)[3]
to_array[0][3] | **to_pointer | (*to_pointer)->first | matrix[1] | matrix[1][2] | &matrix[1]
&matrix | *matrix | grid[29] | grid[29][29] | flat[299] | &zeros[10] | text_2d[1] | &text_2d[1]
text_2d[0][1] | text[0] | &text[1] | text + 1 | (long)text_2d == (long)&text_2d[0]
1+2*3 | (1+2)*3 | 7/2 | -7/2 | -7%3 | 7%-3 | 7.0/2 | 1 == 1 | 1 < 2 && 2 < 3 | 5 & 3 | 8 ^ 1
0 && *to_null | 1 || *to_null | 0 && 1/0 | !numbers | !to_null | -int_minus | ~0 | ~0u | -1
-1u | 1u - 2 | 2147483647 + 1 | 2147483648 | 0xffffffff | 0x7fffffff + 1 | 1ull << 63 | -1 >> 1
-1u >> 28 | 1 << 3 + 1 | 6 >= 6 | 1 != 2 == 1 | -(-5) | - -5 | !!5 | ~-1 | + 5 | 010 | 0b101
1e5 | 1.5e3 | .5 | 1.5 | 123456789012 | 0xffffffffffffffff | 9223372036854775808 | 0L | 1ul
c_a + 1 | c_a == 'A' | 'A' | '\\n' | '\\0' | '\\'' | '\\\\' | '"' | '\\x41' | '\\101'
text[0] == 'h' | u8_200 + u8_200 | uint + 1 | int_minus - 1 | ushort * ushort | longlong + 1
f_pi * 2 | f_pi + 1 | (float)1/3 | (double)1/3 | !f_pi | f_pi > 3 | d_third == 1.0/3 | 1.0/0
ld_one + 1 | (long)ld_one | d_nan == d_nan | -longlong | -d_inf
numbers == &numbers[0] | to_number > numbers | outer_pointer != 0 | outer_pointer && 1
function == called | &called == called | &outer == outer_pointer | (void *)numbers == numbers
bits.a | bits.c + 1 | bits.f | bits.e | bits.g | bits.c < 0 | bits.d | -bits.a | bits.i >> 40
strings.wide | deep.d | number.raw | number.f | &number.raw[2] | flexible.flexible
flexible.flexible[1] | &flexible.flexible | flexible_text.flexible | flexible_text.flexible[2]
zero_length.none | zero_length.more | list.next->next->prev | &list | *list.next | pointers[1]
(struct pair *)pointers[1] | *(struct pair *)pointers[1] | typedef_pointer[1] | vector[1]
&name | &names | &function | *function | &hidden | &colors | colors[1] | &const_volatile
&big_array[7] | big_array[39999] | (numbers)[2] | -(numbers)[2] | (hidden) - 1 | (hidden) * 2
(hidden) & 3 | opaque
$pc | $sp | $fp | $esp | $eax | $al | $ax | $cs
"""
WIDE = "$rip | $rsp | $rbp | $rax | $r15 | wide | (__int128)-5"

# Where gdb has an error, so have we; not always for the same reason.
ERRORS = """
*to_null | *to_wild | *strings.bad | nonsense | numbers.x | outer.nonsense | outer_pointer->nonsense
*1 | *5 | 1/0 | 1%0 | &1 | numbers[ | 1 + | 1 2 | () | sizeof(struct nonsense)
(struct nonsense *)0 | *untyped | (struct pair)1 | numbers + numbers | outer + 1 | -outer
&&numbers | 08 | 0x | 99999999999999999999 | 'ab' | ~1.5 | 1.5 & 1 | 1 - numbers | outer(1)
to_null->a | outer[1] | outer->first-> | . | [1] | (int | sizeof | (long | 1.5.5 | 12abc
"""

# gdb loses the character before a sequence that the end of an array has cut off (junk in a kernel's
# memory has such), and refuses more than 64 KiB at once.
LOST = re.compile(r'(?:\\302\\2[0-3][0-7]|\\[0-7]{3}|\\.|[^"\\])(?=", <incomplete)')
OURS = {
    "text_bad_utf8": r'"a\377\376b\303(", <incomplete sequence \342\202>',
    "text_cut_utf8": r'"ab", <incomplete sequence \342\202>',
    "big_array": "{" + ", ".join(map(str, range(200))) + "...}",
}


def split(text: str) -> list[str]:
    """Return the expressions of a list."""
    parts = [part.strip() for line in text.splitlines() for part in line.split(" | ")]
    return [part for part in parts if part]


def variables(program: Path) -> list[str]:
    """Return the names of the program's own data."""
    source = (SOURCES / "values.c").read_text()
    words = set(re.findall(r"\w+", source))
    listed = subprocess.run(["nm", program], check=True, capture_output=True, text=True).stdout
    return [
        name
        for line in listed.splitlines()
        for kind, name in [line.split()[-2:]]
        if kind in "dDbBrR" and name in words
    ]


def asked(target: Target, expressions: Iterable[str]) -> list[str]:
    """Return what ours says to each, and its error in brackets."""
    said = []
    for expression in expressions:
        try:
            said.append(str(target.value(expression)))
        except rsp.RspError as error:
            said.append(f"[{type(error).__name__}: {error}]")
    return said


def answers(gdb: Gdb, expressions: Sequence[str], *before: str) -> list[str]:
    """Return what gdb's print says to each."""
    before = ("set language c", *before)  # in assembler gdb writes no "struct"
    said = gdb.run(*before, *(f"print {each}" for each in expressions))[len(before) :]
    return [re.sub(r"^\$\d+ = ", "", each) for each in said]


def assert_equal(expressions: list[str], ours: list[str], theirs: list[str]) -> None:
    differing = "".join(
        f"{expression}\n  ours {mine}\n  gdb  {gdbs}\n"
        for expression, mine, gdbs in zip(expressions, ours, theirs, strict=True)
        if gdbs not in (mine, LOST.sub("", mine)) and expression not in OURS
    )
    assert not differing, differing


@pytest.fixture(scope="module", params=BUILDS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output: Path = tmp_path_factory.mktemp("values") / f"values{request.param}"
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wno-unused")
    command = ["gcc", "-g", "-O0", *warnings, *BUILDS[request.param], "-o", str(output)]
    subprocess.run([*command, str(SOURCES / "values.c")], check=True)
    return output


@pytest.fixture
def utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let gdb take strings for UTF-8, as it does for its users."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


@pytest.fixture
def stopped(program: Path) -> Iterator[Gdb]:
    """Return gdb on the program, which stands still in `here`."""
    with gdbserver_tcp(program) as address:
        gdb = Gdb(address=address, symbols=program, settings=PRINTING)
        gdb.run("break here", "continue")
        yield gdb


def connected(gdb: Gdb) -> Target:
    return rsp.connect(gdb.address, symbols=gdb.symbols, on_exit="leave stopped")


@pytest.mark.live("gdb", "gdbserver", "gcc", "nm")
@pytest.mark.usefixtures("utf8")
def test_every_value_is_printed_as_by_gdb(stopped: Gdb, program: Path) -> None:
    expressions = variables(program) + split(EXPRESSIONS)
    assert len(expressions) > 400
    if program.name == "values64":
        expressions += split(WIDE)
    theirs = answers(stopped, expressions)
    with connected(stopped) as target:
        ours = asked(target, expressions)
    assert_equal(expressions, ours, theirs)
    own = dict(zip(expressions, ours, strict=True))
    assert {name: own[name] for name in OURS} == OURS


@pytest.mark.live("gdb", "gdbserver", "gcc", "nm")
def test_errors_are_errors_of_gdb_too(stopped: Gdb) -> None:
    expressions = split(ERRORS)
    theirs = answers(stopped, expressions)
    with connected(stopped) as target:
        ours = asked(target, expressions)
    assert [each for each in ours if not each.startswith("[")] == []
    # gdb prints values in braces, quotes or digits; its errors are sentences.
    assert [each for each in theirs if re.match(r"[\"{(-]|\d|0x", each)] == []


@pytest.mark.live("gdb", "gdbserver", "gcc")
def test_types_are_those_of_whatis(stopped: Gdb) -> None:
    expressions = split(
        "outer | &outer | numbers | numbers + 1 | called | &called | name | names | bits.e | 1 | 1u"
        " | 0xffffffff | 2147483648 | 1.5 | 'a' | 'a' + 1 | f_pi * 2 | f_pi + 1.0 | u8_7 | -u8_7"
        " | (u8 *)text | typedefs | outer.u | &outer.list[1].b | to_number - numbers | 1 == 1"
        " | sizeof(int) | (const char *const)text | (int [2])longlong | *to_array | RED"
        " | uint + 1 | uint + 1l | matrix[1] | &matrix[1] | function | *function | $pc | $sp"
    )
    theirs = stopped.run(*(f"whatis {each}" for each in expressions))
    with connected(stopped) as target:
        ours = [f"type = {target.value(each).type_}" for each in expressions]
    assert ours == theirs


@pytest.mark.live("gdb", "gdbserver", "gcc")
def test_values_in_python(stopped: Gdb) -> None:
    with connected(stopped) as target:
        outer = target.value("outer")
        assert outer.last == outer["last"] == 99
        assert outer.inner.a == 5
        assert outer["inner"]["b"] == 6
        assert outer.x == 2
        assert outer.deep == ord("d")
        assert outer.list[1].b == 10
        assert [int(pair.a) for pair in outer.list] == [7, 9]
        assert outer.next.next.inner.b == 6
        assert outer.next.deref_().address_ == outer.address_ == int(outer.next)
        assert outer.label.string_() == b"label"
        assert outer.mac.bytes_() == bytes([0, 0x1B, 0x21, 0xFF, 1, 2])
        assert str(outer.state) == "F_B" == outer.state.enumerator_()
        assert float(outer.ratio) == 0.5
        assert outer.set
        assert not outer.none
        assert hash(outer.last) == hash(99)
        assert {99: "found"}[outer.last] == "found"  # type: ignore[index]  # equal, and hashed so
        assert range(10)[target.value("numbers")[2]] == 3
        assert "last" in dir(outer)
        assert "last" in dir(outer.next)
        with pytest.raises(AttributeError):
            _ = outer.nonsense
        with pytest.raises(rsp.SymbolNotFound, match=r"no member 'lst' \(nearest: list, last\)"):
            outer["lst"]
        numbers = target.value("numbers")
        assert len(numbers) == 5
        assert [int(each) for each in numbers] == [1, 2, 3, 4, 5]
        assert [int(each) for each in numbers[1:4]] == [2, 3, 4]
        assert [int(each) for each in target.value("to_number")[0:2]] == [3, 4]
        assert [int(each) for each in target.value("longer")] == list(range(300))
        assert target.value("numbers").cast_("char *").type_ != numbers.type_
        assert target.value("text_padded").string_() == b"hi"
        assert target.value("names").deref_().string_() == b"first"
        assert target.value("bits")["c"] == -1234567890123 >> 9
        assert target.value("bits.c").address_ is None
        assert target.value("outer_pointer").cast_("unsigned long") == outer.address_
        assert target.value("pairs")[2] == target.value("*to_pair")
        assert target.value("pairs")[0] == target.value("pairs")[1] != target.value("pairs")[2]
        with pytest.raises(rsp.SymbolError, match="how many"):
            len(target.value("flexible.flexible"))
        assert [int(each) for each in target.value("flexible.flexible")[:2]] == [11, 22]
        with pytest.raises(rsp.MemoryFault):
            int(target.value("to_wild").deref_())
        with pytest.raises(rsp.SymbolError):
            int(outer)
        named = {"x": target.value("outer_pointer"), "$pc": target.value("1")}
        assert target.value("x->last + $pc", names=named) == 100


def requests(log: Path) -> list[str]:
    """Return the reads of memory in a recording."""
    sent = "".join(line for line in log.read_text().splitlines() if line.startswith("w "))
    return re.findall(r"\$(m[0-9a-f]+,[0-9a-f]+)#", sent)


@pytest.mark.live("gdb", "gdbserver", "gcc")
def test_memory_is_read_once_and_only_when_it_is_needed(
    stopped: Gdb, program: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    address = stopped.address
    with rsp.connect(address, symbols=program, record=log, on_exit="leave stopped") as target:
        before = len(requests(log))
        outer = target.value("outer")
        last, pair = outer.last, outer.inner
        assert requests(log)[before:] == []
        assert last == 99
        assert pair.b == 6
        page = target.symbols["outer"].address & -0x1000
        assert requests(log)[before:] == [f"m{page:x},1000"]
        text = str(outer)
        assert "label" in text
        more = requests(log)[before + 1 :]
        # Only the strings that it points to are elsewhere, in their own page.
        assert len(more) <= 1
        assert str(outer) == text
        assert sum(1 for _ in target.value("longer")) == 300
        everything = requests(log)[before:]
        assert len(everything) == len(set(everything))
        assert all(read.endswith(",1000") for read in everything)
        target.invalidate()
        assert outer.last == 99
        assert requests(log)[before + len(everything) :] == [f"m{page:x},1000"]


# --- one section ---

OF_ONE_SECTION = (
    "counter | list | &list | list.next->number | which | *which | table | label | &label"
    " | sizeof(list) | here | &here | table[1] + counter | (long)&counter | *list.next"
)


@pytest.mark.live("gdb", "gdbserver", "gcc")
def test_variables_in_an_executable_section_are_variables(tmp_path: Path) -> None:
    linked = SOURCES / "one_section" / "boot.ld"
    program = tmp_path / "boot"
    options = ("-g", "-O1", "-ffreestanding", "-nostdlib", "-static", "-no-pie", "-fno-pie")
    linker = (f"-Wl,-T,{linked}", "-Wl,--no-warn-rwx-segments", "-Wl,--build-id=none")
    source = SOURCES / "one_section" / "boot.c"
    subprocess.run(["gcc", *options, *linker, "-o", program, source], check=True)
    table = rsp.SymbolTable(program, cache=False)
    kinds = {name: table.variable(name).type for name in ("counter", "list", "label")}
    assert {name: str(each) for name, each in kinds.items()} == {
        "counter": "int", "list": "struct node", "label": "char [5]",
    }  # fmt: skip
    assert [place.function for place in table.locations("here")] == ["here"]
    with pytest.raises(rsp.SymbolNotFound):
        table.locations("counter")
    expressions = split(OF_ONE_SECTION)
    with gdbserver_tcp(program) as address:
        gdb = Gdb(address=address, symbols=program, settings=PRINTING)
        gdb.run("break here", "continue")
        theirs = answers(gdb, expressions)
        with connected(gdb) as target:
            ours = asked(target, expressions)
            [frame] = [each for each in target.backtrace() if each.function == "here"]
            assert str(frame.arguments[0].value) == "7"
    assert_equal(expressions, ours, theirs)


# --- kernels ---

KERNEL = """
init_task | init_task.comm | init_task.tasks | init_task.tasks.next | &init_task | init_mm | jiffies
jiffies_64 | *init_task.parent | init_task.sched_class | *init_task.sched_class | init_task.se
*init_task.cred | *init_task.fs->root.mnt | *init_task.fs->root.dentry | *init_task.files
*init_task.signal | init_task.thread | init_task.stack | init_task.__state | tcp_prot
tcp_prot.connect | &tcp_prot | sizeof(struct task_struct) | init_nsproxy | *init_nsproxy.uts_ns
saved_command_line | __per_cpu_offset | init_pid_ns | init_cred | modules
*init_net.loopback_dev | file_systems | *file_systems->next | init_net.ipv4 | tcp_hashinfo
boot_cpu_data | machine_ops | fair_sched_class | init_user_ns | prb | *prb | console_drivers
*console_drivers | tk_core | max_pfn | empty_zero_page | vfs_read | &vfs_read | *vfs_read | schedule
$pc | $sp | def_root_domain | init_sighand.action[3] | softirq_vec | softirq_to_name | PIDTYPE_MAX
__start___param | (struct list_head *)init_task.tasks.next | idt_table | idt_descr | irq_desc_tree
*(struct task_struct *)((char*)init_task.tasks.next - (long)&((struct task_struct *)0)->tasks)
"""
# What is written in assembler, and declared in C or not at all.
KERNEL_64 = "entry_SYSCALL_64 | &entry_SYSCALL_64 | *entry_SYSCALL_64 | phys_base | &phys_base"


@pytest.fixture
def paused(shared_kernel: BootKernel, request: pytest.FixtureRequest) -> Iterator[Guest]:
    """Return a guest that stands still, and let it go on afterwards."""
    guest = shared_kernel(request.param)
    guest.monitor("stop")
    yield guest
    guest.monitor("cont")


@pytest.mark.live("gdb")
@pytest.mark.parametrize(
    ("paused", "more"),
    [("debian", KERNEL_64), ("x86_64", KERNEL_64), ("i386", "")],
    indirect=["paused"],
)
@pytest.mark.usefixtures("utf8")
def test_a_kernel_is_printed_as_by_gdb(paused: Guest, more: str) -> None:
    expressions = split(KERNEL) + split(more)
    gdb = Gdb(address=paused.address, symbols=paused.symbols, settings=PRINTING, timeout=PATIENCE)
    queues = [f"*(struct rq *)((char *)&runqueues + __per_cpu_offset[{cpu}])" for cpu in (0, 1)]
    theirs = answers(gdb, expressions + queues)
    with rsp.connect(
        paused.address, symbols=paused.symbols, on_exit="leave stopped", timeout=30
    ) as target:
        ours = asked(target, expressions)
        by_index = asked(target, ["runqueues[0]", "runqueues[1]"])
        by_argument = [str(target.value("runqueues", cpu=cpu)) for cpu in (0, 1)]
        for cpu, thread in enumerate(target.threads):
            target.select(thread)
            assert int(target.value("runqueues.cpu")) == cpu
        with pytest.raises(rsp.SymbolError, match="no CPU 2"):
            target.value("runqueues", cpu=2)
    assert_equal(expressions, ours, theirs[: len(expressions)])
    assert len(ours[0]) > 5000
    assert by_index == by_argument == theirs[len(expressions) :]


@pytest.mark.parametrize("kernel", ["i386", "x86_64", "debian"])
def test_the_cpu_where_its_kernel_s_segments_are_not_loaded(
    kernel: KernelName, shared_kernel: BootKernel
) -> None:
    """In user mode, and where an interrupt of it begins."""
    guest = shared_kernel(kernel)
    guest.start("for n in 1 2 3; do timeout 60 sh -c 'while :; do :; done' & done")
    word = 4 if kernel == "i386" else 8

    def is_from_user_mode(target: Target) -> bool:
        cs = target.read_memory(target.registers.sp + word, word)
        return cs[0] & 3 == 3

    with rsp.connect(guest.address, symbols=guest.symbols, timeout=30) as target:
        in_user_mode = 0
        with target.breakpoint("asm_sysvec_apic_timer_interrupt", condition=is_from_user_mode):
            while not in_user_mode:
                target.resume(timeout=240)
                for cpu, thread in enumerate(target.threads):
                    target.select(thread)
                    assert int(target.value("runqueues.cpu")) == cpu
                    in_user_mode += (target.registers["cs"] or 0) & 3 == 3
