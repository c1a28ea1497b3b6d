"""Types of DWARF and BTF against gdb: the text of `ptype`, `ptype /o` and `whatis`, byte for byte.

The oracle reads the same file, in one process for all questions: it takes some ten seconds to open
a kernel.
"""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
from math import prod
from typing import TYPE_CHECKING

import pytest

from rsp.errors import BadImage
from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.units import Units
from rsp.symbols.elf.image import Image
from rsp.symbols.elf.relocation import RelocatedImage
from rsp.symbols.types.btf import Btf
from rsp.symbols.types.from_dwarf import DwarfTypes, find_without_index
from rsp.symbols.types.text import definition
from rsp.symbols.types.types import Compound, Function, Member, Type, Typedef

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lab.kernels import DebianKernel

# Of a variable with a flexible array gdb shows the size without padding, so there is none.
SOURCE = r"""
typedef struct { int a; struct { int x; int y[0]; } b; } anonymous_t;
struct plain {
  int n; anonymous_t t;
  struct { int q; struct { int z; } w; } *p;
  struct { char c; } list[3];
  const volatile int *const restrict qualified;
  union { struct { short low, high; }; int both; };
  int flexible[];
};
struct zero { int a; int none[0]; } zero;
struct empty {} empty;
struct declared; struct declared *declared;
struct elsewhere; struct elsewhere *elsewhere;
typedef int vector_t __attribute__((vector_size(16)));
vector_t vector, *to_vector;
struct vectors { vector_t a; int b __attribute__((vector_size(8))); } vectors;
enum negative { MINUS = -5, NEXT, SEVEN = 7 } negative;
enum unsigned_enum { ALL = 0xffffffffu, NOTHING = 0 } unsigned_enum;
enum huge { HUGE_VALUE = 0xffffffffffffffffull, ONE = 1 } huge;
enum { NAMELESS } nameless;
typedef enum { FIRST, SECOND } choice_t; choice_t choice;
int (*unprototyped)(); void *const (*constant)(void);
_Atomic int atomic; const int constants[3]; typedef int four_t[4]; const four_t four; four_t *fours;
typedef int callback_t(int, struct { int u; } *); callback_t *callback;
int matrix[2][3], (*row)[3], *(*table[2])(int, char *[]), *const *volatile pointers;
long double long_double; float single; _Complex double complex_double;
unsigned long unsigned_long; char character; signed char signed_character; short small;
unsigned long long long_long; _Bool boolean; unsigned char byte;
__extension__ union unit { int a : 3; struct { int c : 4; long d; } s; } unit;
struct bits {
  int a : 3; unsigned b : 9; long long c : 33; _Bool d : 1; char e; int : 5; int g : 2;
  enum negative h : 4; int : 0; int i : 32; unsigned char j : 7;
} bits;
struct __attribute__((packed)) packed { char a; int b; int c : 3; long long d : 40; } packed;
struct aligned { char a; int b __attribute__((aligned(64))); struct plain *c; } aligned;
struct node { struct node *next, *previous; struct bits inner; const struct empty e; } node;
union deep { struct { union { struct { int a, b; } c; long d; }; struct bits e; } f; char g; } deep;
#ifdef __LP64__
__int128 wide; unsigned __int128 unsigned_wide;
#endif
int prototyped(const char *format, ...) { return format[0]; }
int old_style() { return vector[0]; }
static inline __attribute__((always_inline)) int twice(int n, char *unused) { return n + n; }
static __attribute__((noinline)) int clone(int n, int unused) { return n * negative; }
int main(void) { return twice(prototyped("x") + clone(ONE, 2), 0); }
"""
OTHER = "struct elsewhere { int found; } there; struct plain; struct plain *not_here;\n"

# By tag, what gdb is asked for.
KEYWORDS = {
    dw.DW_TAG_structure_type: "struct ",
    dw.DW_TAG_union_type: "union ",
    dw.DW_TAG_enumeration_type: "enum ",
}
SETTINGS = (
    *("set width 0", "set language c", "set max-value-size unlimited"),
    *("set auto-load off", "set debuginfod enabled off"),
)
MARK = "--- next answer ---"


def ask_gdb(path: Path, questions: Iterable[str]) -> list[str]:
    program = ["gdb", "-nx", "-nh", "-batch"]
    for setting in (*SETTINGS, f"file {path}"):
        program += ["-ex", setting]
    questions = list(questions)
    for question in questions:
        program += ["-ex", f"echo \\n{MARK}\\n", "-ex", question]
    finished = subprocess.run(
        program,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    answers = finished.stdout.split(f"\n{MARK}\n")[1:]
    assert len(answers) == len(questions), finished.stdout[-1000:]
    return [answer.rstrip("\n") for answer in answers]


def layout(of: Type) -> str:
    """Return what gdb prints for `ptype /o`, whose `type = ` stands behind the header."""
    text = definition(of, offsets=True)
    return text.replace("*/  ", "*/  type = ", 1) if text.startswith("/* off") else f"type = {text}"


def compile_program(directory: Path, *options: str) -> Path:
    (directory / "main.c").write_text(SOURCE)
    (directory / "other.c").write_text(OTHER)
    program = directory / "program"
    sources = ["main.c", "other.c", "-nostdlib", "-static", "-no-pie", "-Wl,-e,main"]
    command = ["gcc", "-w", *options, *sources, "-o", str(program)]
    subprocess.run(command, cwd=directory, check=True)
    return program


def types_of(path: Path) -> tuple[Units, DwarfTypes]:
    units = Units(DwarfSections(Image(path)))

    def complete(keyword: str, tag: str) -> Type | None:
        die = find_without_index(units, f"{keyword} {tag}")
        return None if die is None else types.type(die)

    types = DwarfTypes(units, complete)
    return units, types


def all_types(units: Units, types: DwarfTypes) -> dict[str, Type]:
    """Return the types of everything at the top of each unit that gdb can be asked for by name."""
    found: dict[str, Type] = {}
    for unit in units:
        for die in Die.root_of(unit).children():
            # gdb knows a function that is inlined everywhere only where it is.
            if die.name is None or die.get(dw.DW_AT_declaration) or die.get(dw.DW_AT_inline):
                continue
            if die.tag == dw.DW_TAG_variable:
                found[die.name] = types.type_of(die)
            elif die.tag in KEYWORDS:
                found[KEYWORDS[die.tag] + die.name] = types.type(die)
            elif die.tag in (dw.DW_TAG_typedef, dw.DW_TAG_subprogram):
                found[die.name] = types.type(die)
    return found


@pytest.mark.live("gcc", "gdb")
@pytest.mark.parametrize(
    "options",
    [
        ("-gdwarf-2", "-gstrict-dwarf"),
        ("-gdwarf-3",),
        ("-gdwarf-4",),
        ("-gdwarf-5",),
        ("-gdwarf-5", "-gdwarf64"),
        ("-gdwarf-4", "-m32"),
        ("-gdwarf-5", "-m32"),
    ],
    ids=" ".join,
)
def test_every_type_of_a_program_is_written_as_gdb_writes_it(
    options: tuple[str, ...], tmp_path: Path
) -> None:
    program = compile_program(tmp_path, *options)
    found = all_types(*types_of(program))
    assert len(found) > 50
    names = list(found)
    questions = [f"{ask} {name}" for name in names for ask in ("ptype", "ptype /o", "whatis")]
    answers = iter(ask_gdb(program, questions))
    for name in names:
        of = found[name]
        assert f"type = {definition(of)}" == next(answers), name
        assert layout(of) == next(answers), name
        # gdb looks through one typedef when it is asked about one.
        named = of.target if isinstance(of, Typedef) and of.name == name else of
        assert f"type = {named}" == next(answers), name


@pytest.mark.live("gcc")
def test_a_prototype_is_that_of_the_source(tmp_path: Path) -> None:
    # What is left of a function may have fewer parameters, or be inlined without any.
    units, types = types_of(compile_program(tmp_path, "-g", "-O2"))
    texts = set()
    for unit in units:
        for die in Die.root_of(unit).children():
            if die.tag == dw.DW_TAG_subprogram:
                found = types.type(die)
                assert isinstance(found, Function)
                name = next(
                    name
                    for each in (die, die.reference(dw.DW_AT_abstract_origin))
                    if each is not None and (name := each.name)
                )
                parameters = [parameter.name for parameter in found.parameters]
                texts.add((found.declaration(name), *parameters))
    assert texts == {
        ("int prototyped(const char *, ...)", "format"),
        ("int old_style()",),
        ("int twice(int, char *)", "n", "unused"),
        ("int clone(int, int)", "n", "unused"),
        ("int main(void)",),
    }


@pytest.mark.live("gcc")
@pytest.mark.parametrize("version", [2, 4, 5])
def test_names_are_found_without_an_index(version: int, tmp_path: Path) -> None:
    units, types = types_of(compile_program(tmp_path, f"-gdwarf-{version}"))
    for name, of in all_types(units, types).items():
        keyword, _, bare = name.rpartition(" ")
        if keyword:
            die = find_without_index(units, name)
            assert die is not None, name
            assert types.type(die) is of, name
        elif isinstance(of, Typedef) and of.name == bare:
            die = find_without_index(units, name)
            assert die is not None, name
            assert str(types.type(die)) == name
    for name in ("unsigned long", "long unsigned int", "char", "_Bool"):
        die = find_without_index(units, name)
        assert die is not None, name
        assert die.tag == dw.DW_TAG_base_type
    for name in ("struct declared", "struct nothing", "union plain", "plain", "", "struct ", "\0"):
        assert find_without_index(units, name) is None


@pytest.mark.live("gcc")
def test_a_declaration_becomes_what_another_unit_defines(tmp_path: Path) -> None:
    units, types = types_of(compile_program(tmp_path, "-g"))
    everything = all_types(units, types)
    assert definition(everything["elsewhere"]) == "struct elsewhere {\n    int found;\n} *"
    assert definition(everything["declared"]) == "struct declared {\n    <incomplete type>\n} *"
    # Without a way to look for it, it stays what it is.
    alone = all_types(units, DwarfTypes(units))
    assert definition(alone["elsewhere"]) == "struct elsewhere {\n    <incomplete type>\n} *"


@pytest.mark.live("gcc")
def test_flipped_bytes_of_dwarf_raise_nothing_else(tmp_path: Path) -> None:
    sound = compile_program(tmp_path, "-g").read_bytes()
    image = Image(tmp_path / "program")
    sections = [image.named(f".debug_{name}") for name in ("info", "info", "abbrev", "str")]
    chance = random.Random(4)
    path = tmp_path / "damaged"
    written = 0
    for _ in range(80):
        damaged = bytearray(sound)
        section = chance.choice(sections)
        assert section is not None
        for _ in range(3):
            damaged[section.offset + chance.randrange(section.size)] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        units, types = types_of(path)
        with contextlib.suppress(BadImage):
            find_without_index(units, "struct plain")
        for offset in range(len(units.sections.info)):
            with contextlib.suppress(BadImage):
                of = types.type(Die.at(units, offset))
                written += len(str(of)) + len(definition(of, offsets=True))
    assert written > 1_000_000


def without_dimensions(text: str) -> str:
    """Return a text as BTF can tell it: pahole makes one dimension of several.

    Arrays without elements and flexible ones are the same there.
    """

    def merged(match: re.Match[str]) -> str:
        count = prod(int(number) for number in re.findall(r"\d+", match[0]))
        return f"[{count or ''}]"

    return re.sub(r"(\[\d+\])+", merged, text)


KERNEL_SEED = 20
UNKNOWN_TO_GDB = re.compile(r"No (struct|union|enum) type named|No symbol ")


def named(path: Path) -> tuple[Btf, list[str]]:
    btf = Btf(Image(path).contents(".BTF"))
    return btf, sorted({of.name for of in btf.types() if of.name and of.size is not None})


@pytest.mark.live("gdb")
def test_a_kernels_btf_is_written_as_gdb_writes_its_dwarf(debian_kernel: DebianKernel) -> None:
    btf, names = named(debian_kernel.vmlinux)
    names = random.Random(KERNEL_SEED).sample(names, 1000)
    names += ["struct task_struct", "struct page", "struct tcp_sock", "union bpf_attr"]
    questions = [f"{ask} {name}" for name in names for ask in ("ptype", "ptype /o")]
    answers = iter(ask_gdb(debian_kernel.vmlinux, questions))
    compared = 0
    for name in names:
        plain, offsets = without_dimensions(next(answers)), without_dimensions(next(answers))
        if UNKNOWN_TO_GDB.match(plain):
            continue  # it is defined within a function
        # Of several of one name gdb takes one.
        candidates = btf.find_all(name)
        texts = {without_dimensions(f"type = {definition(of)}") for of in candidates}
        assert plain in texts, name
        assert offsets in {without_dimensions(layout(of)) for of in candidates}, name
        compared += 1
    assert compared > 950


@pytest.mark.live("gdb")
def test_a_kernels_dwarf_is_written_as_gdb_writes_it(debian_kernel: DebianKernel) -> None:
    btf, names = named(debian_kernel.vmlinux)
    units, types = types_of(debian_kernel.vmlinux)
    sample = random.Random(KERNEL_SEED + 1).sample(names, 120)
    chosen = {
        name: types.type(die)
        for name in sample
        # Of several of one name, gdb need not take the first.
        if len(btf.find_all(name)) == 1 and (die := find_without_index(units, name)) is not None
    }
    assert len(chosen) > 100
    questions = [f"{ask} {name}" for name in chosen for ask in ("ptype", "ptype /o")]
    answers = iter(ask_gdb(debian_kernel.vmlinux, questions))
    for name, of in chosen.items():
        assert f"type = {definition(of)}" == next(answers), name
        assert layout(of) == next(answers), name


def same(first: Type, second: Type) -> None:
    """Compare the layout of two types, through everything that is part of them."""
    assert without_dimensions(str(first)) == without_dimensions(str(second))
    assert (first.size or 0) == (second.size or 0)  # of `data[]` and `data[0]`
    one, other = first.resolved, second.resolved
    assert type(one) is type(other)
    if isinstance(one, Compound):
        assert len(one.members) == len(other.members)
        for mine, theirs in zip(one.members, other.members, strict=True):
            assert places(mine) == places(theirs), f"{first}.{mine.name}"
            same(mine.type, theirs.type)


def places(member: Member) -> tuple[object, ...]:
    return (member.name, member.offset, member.size, member.bit_offset, member.bit_size)


def test_btf_and_dwarf_give_the_same_types(debian_kernel: DebianKernel) -> None:
    btf, names = named(debian_kernel.vmlinux)
    units, types = types_of(debian_kernel.vmlinux)
    compared = 0
    for name in [
        *("struct task_struct", "struct tcp_sock", "struct pt_regs", "struct desc_struct"),
        *("enum pid_type", "spinlock_t", "unsigned long", "bool"),
        *random.Random(KERNEL_SEED + 2).sample(names, 60),
    ]:
        die = find_without_index(units, name)
        candidates = btf.find_all(name)
        if die is not None and len(candidates) == 1:
            same(candidates[0], types.type(die))
            compared += 1
    assert compared > 50


def test_prototypes_of_btf_and_dwarf(debian_kernel: DebianKernel) -> None:
    btf, _ = named(debian_kernel.vmlinux)
    for name, text in (
        ("vfs_read", "ssize_t vfs_read(struct file *, char *, size_t, loff_t *)"),
        ("start_kernel", "void start_kernel(void)"),
        ("_printk", "int _printk(const char *, ...)"),
    ):
        function = btf.function(name)
        assert function is not None
        assert function.declaration(name) == text
    assert str(btf.variable("runqueues")) == "struct rq"


def test_a_module_refers_to_the_types_of_its_kernel(debian_kernel: DebianKernel) -> None:
    kernel, _ = named(debian_kernel.vmlinux)
    contents = Image(debian_kernel.stripped_module("xfs")).contents(".BTF")
    module = Btf(contents, kernel)
    mount = module.find("struct xfs_mount")
    assert mount is not None
    assert mount.size
    superblock = mount.member("m_super").type
    assert str(superblock) == "struct super_block *"
    assert kernel.find("struct xfs_mount") is None
    assert module.find("struct super_block") is kernel.find("struct super_block")
    assert isinstance(module.function("xfs_mountfs"), Function)
    # Its names are in place only when it is relocated.
    image = RelocatedImage(debian_kernel.module("xfs"), {".text": 0xFFFF_FFFF_C010_0000})
    units = Units(DwarfSections(image))
    for name in ("struct xfs_mount", "struct xfs_inode", "union xfs_btree_ptr", "xfs_agblock_t"):
        die = find_without_index(units, name)
        found = module.find(name)
        assert die is not None
        assert found is not None
        same(found, DwarfTypes(units).type(die))
