"""The pass over all units: what it finds, against readelf and pyelftools; and damaged units."""

from __future__ import annotations

import gc
import random
import re
import struct
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsp.symbols.dwarf.die import Die
from rsp.symbols.dwarf.scan import Scan, scan
from rsp.symbols.dwarf.sections import DwarfSections
from rsp.symbols.dwarf.skip_plans import Kind
from rsp.symbols.dwarf.units import Units
from rsp.symbols.elf.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from elftools.dwarf.compileunit import CompileUnit

    from lab.kernels import BuiltKernel, DebianKernel

HEADER = """
struct pair { unsigned low : 3, high : 29; struct pair *next; };
enum colour { RED = -1, GREEN = 1000000, BLUE };
enum { FIRST_NAMELESS, SECOND_NAMELESS };
typedef struct { int x; } nameless_struct;
typedef unsigned char u8;
union either { int number; u8 bytes[4]; };
struct opaque;
extern struct pair first;
extern int elsewhere(int);
extern int only_declared;
static inline int twice(int n) { return n * 2; }
"""
MAIN = """
#include "header.h"
#line 100
struct local { int same_name_here; };
struct pair first = { 1, 2 };
static u8 table[3];
int declared_then_defined;
int __attribute__((noinline, cold)) rare(int n) { return elsewhere(n) + 1; }
static __attribute__((noinline)) int counting(int n) { static int counter; return counter += n; }
int outer(enum colour n, struct opaque *back)
{
  nameless_struct s = { n }; union either e = { n }; struct local l = { n };
  if (__builtin_expect(n > 100, 0)) return rare(n) + twice(n);
  return counting(twice(n)) + s.x + e.bytes[1] + l.same_name_here + table[n] + SECOND_NAMELESS
         + only_declared + (back != 0);
}
"""
OTHER = """
#include <stddef.h>
#include "header.h"
#line 200
struct local { int same_name_there; };
int (*taken)(int) = twice;
static int table[4];
int elsewhere(int n) { struct local l = { n }; return l.same_name_there + table[n] + (int)RED; }
int only_declared = 3;
void _start(void) { outer_is_not_called_here: (void)&&outer_is_not_called_here; }
"""
CPLUSPLUS = """
namespace outside { namespace inside {
  struct deep { int a; struct nested { int b; } n; };
  int value = 4;
  enum class Scoped { one, two };
  int method(deep &d, Scoped s) { return d.a + d.n.b + (s == Scoped::two); }
} }
struct Class {
  static int count; int get() const; template <class T> T as(T t) { return t + get(); }
};
int Class::count = 3;
int Class::get() const { return count; }
extern "C" void _start() {
  Class c; outside::inside::deep d{};
  c.as<long>(outside::inside::method(d, outside::inside::Scoped::one));
}
"""
PROGRAMS = {
    "dwarf5": ["-gdwarf-5", "-O2"],
    "dwarf4": ["-gdwarf-4", "-O2"],
    "unoptimized": ["-gdwarf-5", "-O0"],
    "dwarf64": ["-gdwarf-5", "-gdwarf64", "-O2"],
    "i386": ["-gdwarf-5", "-O2", "-m32"],
    "sections": ["-gdwarf-5", "-O2", "-ffunction-sections", "-freorder-blocks-and-partition"],
    "strict2": ["-gdwarf-2", "-gstrict-dwarf", "-O1"],
}


def build(directory: Path, options: list[str], compiler: str = "gcc", **sources: str) -> Path:
    """Compile and link a program of some sources, without a library."""
    for name, text in sources.items():
        (directory / name.replace("_", ".")).write_text(text)
    names = [name.replace("_", ".") for name in sources if not name.endswith("_h")]
    command = [compiler, *options, *names, "-nostdlib", "-static", "-no-pie", "-o", "program"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return directory / "program"


def nm(path: Path) -> list[list[str]]:
    """Return address, size, letter and name of the symbols; without a size there are three."""
    command = ["nm", "-S", str(path)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.split() for line in text.splitlines()]


def scanned(path: Path) -> Scan:
    return scan(Units(DwarfSections(Image(path))))


# --- What readelf says -------------------------------------------------------------------------

KINDS = {
    "DW_TAG_subprogram": Kind.FUNCTION,
    "DW_TAG_variable": Kind.VARIABLE,
    "DW_TAG_structure_type": Kind.STRUCTURE,
    "DW_TAG_class_type": Kind.CLASS,
    "DW_TAG_union_type": Kind.UNION,
    "DW_TAG_enumeration_type": Kind.ENUMERATION,
    "DW_TAG_typedef": Kind.TYPEDEF,
    "DW_TAG_base_type": Kind.BASE,
}
NESTED = {"DW_TAG_enumerator", "DW_TAG_namespace", "DW_TAG_member"}
USED = {
    "DW_AT_name",
    "DW_AT_specification",
    "DW_AT_abstract_origin",
    "DW_AT_declaration",
    "DW_AT_low_pc",
    "DW_AT_ranges",
    "DW_AT_byte_size",
    "DW_AT_decl_line",
}
ENTRY = re.compile(r"^ *<(\d+)><([0-9a-f]+)>: Abbrev Number: \d+ \((DW_TAG_\w+)\)")
ATTRIBUTE = re.compile(r"^ *<[0-9a-f]+> +(DW_AT_\w+) *: ?(.*)$")


@dataclass
class Plain:
    """An entry as readelf prints it."""

    offset: int
    tag: str
    level: int
    parent: Plain | None
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Plain] = field(default_factory=list)

    @property
    def is_outermost(self) -> bool:
        parent = self.parent
        while parent and parent.tag == "DW_TAG_namespace":
            parent = parent.parent
        return self.level > 0 and (parent is None or parent.level == 0)


def read_by_readelf(path: Path, *options: str) -> dict[int, Plain]:
    """Return the entries by their offsets, those that a test has no use for without attributes."""
    entries: dict[int, Plain] = {}
    above: list[Plain] = []
    command = ["readelf", "--debug-dump=info", *options, str(path)]
    with subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as readelf:
        assert readelf.stdout is not None
        for line in readelf.stdout:
            if found := ENTRY.match(line):
                level = int(found[1])
                del above[level:]
                parent = above[-1] if above else None
                above.append(Plain(int(found[2], 16), found[3], level, parent))
                if level == 0 or found[3] in KINDS or found[3] in NESTED:
                    entries[above[-1].offset] = above[-1]
                    if parent:
                        parent.children.append(above[-1])
            elif above and (found := ATTRIBUTE.match(line)) and found[1] in USED:
                above[-1].attributes[found[1]] = found[2]
    assert readelf.returncode == 0
    return entries


def plain_name(entry: Plain | None, entries: dict[int, Plain]) -> str | None:
    while entry:
        text = entry.attributes.get("DW_AT_name")
        if text is not None:
            return re.sub(r"^\((?:indirect|indexed)[^)]*\): ", "", text).strip()
        back = entry.attributes.get("DW_AT_specification") or entry.attributes.get(
            "DW_AT_abstract_origin"
        )
        entry = entries[int(back.strip().strip("<>"), 16)] if back else None
    return None


def number(text: str | None) -> int:
    return int(text.split()[0], 0) if text else 0


def expected(entries: dict[int, Plain]) -> dict[bytes, list[tuple[Kind, bool, int]]]:
    """Return what a scan of these entries has to find, by its documentation."""
    names: dict[str, set[tuple[Kind, bool, int]]] = {}
    types = set()
    enumerations = set()
    for entry in entries.values():
        if not entry.is_outermost or entry.tag not in KINDS:
            continue
        has, kind = entry.attributes, KINDS[entry.tag]
        name = plain_name(entry, entries)
        declared = "DW_AT_declaration" in has
        constants = [plain_name(child, entries) for child in entry.children]
        if kind is Kind.ENUMERATION and tuple(constants) not in enumerations:
            enumerations.add(tuple(constants))
            for constant in constants:
                names.setdefault(constant or "", set()).add((Kind.ENUMERATOR, False, entry.offset))
        if name is None:
            continue
        if kind is Kind.FUNCTION and not declared and not {"DW_AT_low_pc", "DW_AT_ranges"} & {*has}:
            kind = Kind.INLINE
        if kind > Kind.VARIABLE and not declared:
            like = (kind, name, number(has.get("DW_AT_byte_size")), has.get("DW_AT_decl_line"))
            if like in types:
                continue
            types.add(like)
        names.setdefault(name, set()).add((kind, declared, entry.offset))
    return {name.encode(): sifted(found) for name, found in names.items()}


def sifted(found: set[tuple[Kind, bool, int]]) -> list[tuple[Kind, bool, int]]:
    alike = {Kind.INLINE: Kind.FUNCTION, Kind.CLASS: Kind.STRUCTURE}
    kept = {each for each in found if not each[1]}
    known = {alike.get(each[0], each[0]) for each in kept}
    for each in sorted(found - kept):
        if alike.get(each[0], each[0]) not in known:
            known.add(alike.get(each[0], each[0]))
            kept.add(each)
    return sorted(kept)


@pytest.mark.live("gcc", "readelf")
@pytest.mark.parametrize("options", PROGRAMS.values(), ids=PROGRAMS)
def test_the_names_of_a_c_program_are_those_that_readelf_prints(
    options: list[str], tmp_path: Path
) -> None:
    path = build(tmp_path, options, header_h=HEADER, main_c=MAIN, other_c=OTHER)
    found = scanned(path)
    assert found.damaged == ()
    assert found.names == expected(read_by_readelf(path))
    # What the comparison is about is there: the readers agree on more than nothing.
    kinds = {name: [kind for kind, _, _ in found.names[name]] for name in found.names}
    assert kinds[b"local"] == [Kind.STRUCTURE, Kind.STRUCTURE]
    assert kinds[b"table"] == [Kind.VARIABLE, Kind.VARIABLE]
    assert kinds[b"pair"] == [Kind.STRUCTURE]
    assert kinds[b"SECOND_NAMELESS"] == [Kind.ENUMERATOR]
    assert Kind.FUNCTION in kinds[b"twice"]
    assert (found.names[b"opaque"][0][0], found.names[b"opaque"][0][1]) == (Kind.STRUCTURE, True)


@pytest.mark.live("g++", "readelf")
@pytest.mark.parametrize("options", [["-gdwarf-5", "-O0"], ["-gdwarf-4", "-O2"], ["-flto", "-O1"]])
def test_namespaces_are_entered_and_definitions_are_named_after_their_declarations(
    options: list[str], tmp_path: Path
) -> None:
    path = build(tmp_path, ["-g", *options], compiler="g++", main_cc=CPLUSPLUS)
    found = scanned(path)
    assert found.damaged == ()
    assert found.names == expected(read_by_readelf(path))
    assert {b"deep", b"value", b"get", b"count", b"method"} <= found.names.keys()
    assert b"nested" not in found.names


@pytest.mark.live("gcc", "nm")
@pytest.mark.parametrize("options", PROGRAMS.values(), ids=PROGRAMS)
def test_the_code_of_functions_is_that_of_their_symbols(options: list[str], tmp_path: Path) -> None:
    path = build(tmp_path, options, header_h=HEADER, main_c=MAIN, other_c=OTHER)
    found = scanned(path)
    names = {at: name.decode() for name, each in found.names.items() for _, _, at in each}
    pieces = {(begin, end - begin, names[at]) for begin, end, at in found.code}
    symbols = set()
    for line in nm(path):
        if len(line) == 4 and line[2] in "tT":
            symbols.add((int(line[0], 16), int(line[1], 16), line[3].partition(".")[0]))
    assert pieces == symbols
    assert found.code == sorted(found.code)


# --- What gcc does not write ---------------------------------------------------------------------

INDEXED = """
        .section .debug_abbrev,"",@progbits
abbrevs:
        .uleb128 1; .uleb128 0x11; .byte 1; .uleb128 0x72; .uleb128 0x17; .uleb128 0; .uleb128 0
        .uleb128 2; .uleb128 0x24; .byte 0; .uleb128 0x0b; .uleb128 0x0b; .uleb128 3; .uleb128 0x25
        .uleb128 0; .uleb128 0
        .uleb128 3; .uleb128 0x04; .byte 1; .uleb128 0; .uleb128 0
        .uleb128 4; .uleb128 0x28; .byte 0; .uleb128 3; .uleb128 0x25; .uleb128 0; .uleb128 0
        .byte 0
        .section .debug_str,"MS",@progbits,1
s0:     .string "zero"
s1:     .string "one"
s2:     .string "two"
        .section .debug_str_offsets,"",@progbits
        .long 12; .short 5; .short 0
base1:  .long s0, s1
        .long 12; .short 5; .short 0
base2:  .long s2, s0
        .macro unit base
        .long 3f - 2f
2:      .short 5; .byte 1; .byte 8; .long abbrevs
        .uleb128 1; .long \\base
        .uleb128 2; .byte 4; .byte 0
        .uleb128 3; .uleb128 4; .byte 1; .byte 0
        .byte 0
3:
        .endm
        .section .debug_info,"",@progbits
        unit base1
        unit base2
        .globl _start
        .text
_start: nop
"""


@pytest.mark.live("gcc")
def test_names_by_index_are_those_of_their_own_unit(tmp_path: Path) -> None:
    # As clang writes them in DWARF 5: the same number is another name in each unit.
    path = build(tmp_path, [], program_s=INDEXED)
    found = scanned(path)
    assert found.damaged == ()
    kinds = {name: [kind for kind, _, _ in each] for name, each in found.names.items()}
    assert kinds == {
        b"zero": [Kind.BASE, Kind.ENUMERATOR],
        b"one": [Kind.ENUMERATOR],
        b"two": [Kind.BASE],
    }


UNNAMED = """
        .section .debug_abbrev,"",@progbits
abbrevs:
        .uleb128 1; .uleb128 0x11; .byte 1; .uleb128 0; .uleb128 0
        .uleb128 2; .uleb128 0x24; .byte 0; .uleb128 0x0b; .uleb128 0x0b; .uleb128 3; .uleb128 0x0e
        .uleb128 0; .uleb128 0
        .uleb128 3; .uleb128 0x24; .byte 0; .uleb128 0x0b; .uleb128 0x0b; .uleb128 3; .uleb128 0x08
        .uleb128 0; .uleb128 0
        .byte 0
        .section .debug_str,"MS",@progbits,1
first:  .string "first"
        .section .debug_info,"",@progbits
        .long 3f - 2f
2:      .short 4; .long abbrevs; .byte 8
        .uleb128 1
        .uleb128 2; .byte 4; .long first
        .uleb128 3; .byte 4; .byte 0
        .byte 0
3:
        .globl _start
        .text
_start: nop
"""


@pytest.mark.live("gcc")
def test_an_empty_name_is_not_taken_for_the_one_at_offset_0(tmp_path: Path) -> None:
    # Both hash alike; python -bb makes an error of their comparison.
    found = scanned(build(tmp_path, [], program_s=UNNAMED))
    assert found.damaged == ()
    assert {name: len(each) for name, each in found.names.items()} == {b"first": 1}


# --- Damage --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("program")
    return build(directory, PROGRAMS["dwarf5"], header_h=HEADER, main_c=MAIN, other_c=OTHER)


def with_bytes(program: Path, path: Path, section: str, changes: dict[int, int]) -> Path:
    data = bytearray(program.read_bytes())
    named = Image(program).named(section)
    assert named is not None
    for offset, value in changes.items():
        data[named.offset + offset % named.size] = value
    path.write_bytes(data)
    return path


@pytest.mark.live("gcc")
def test_a_unit_that_makes_no_sense_is_named_and_the_others_are_read(
    program: Path, tmp_path: Path
) -> None:
    units = Units(DwarfSections(Image(program)))
    first, second = units
    entry = next(iter(Die.root_of(first).children()))
    path = with_bytes(program, tmp_path / "damaged", ".debug_info", {entry.offset: 0x7F})
    found = scanned(path)
    assert [(each.section, each.offset) for each in found.damaged] == [(".debug_info", 0)]
    whole = scan(units)
    of_second = {
        name for name, each in whole.names.items() if any(at >= second.offset for _, _, at in each)
    }
    assert {b"elsewhere", b"taken"} <= of_second <= found.names.keys()
    assert b"rare" not in found.names


@pytest.mark.live("gcc")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    section=st.sampled_from([".debug_info", ".debug_abbrev", ".debug_str", ".debug_rnglists"]),
    changes=st.dictionaries(st.integers(0, 1 << 16), st.integers(0, 255), min_size=1, max_size=4),
)
def test_no_bytes_are_too_damaged(
    section: str, changes: dict[int, int], program: Path, tmp_path: Path
) -> None:
    found = scanned(with_bytes(program, tmp_path / "damaged", section, changes))
    for definitions in found.names.values():
        assert definitions == sorted(definitions)
    assert all(begin < end for begin, end, _ in found.code)


@pytest.mark.live("gcc")
@pytest.mark.parametrize("forwards", [-1, 0, 1])
def test_a_sibling_that_is_not_behind_its_entry_is_damage(
    forwards: int, program: Path, tmp_path: Path
) -> None:
    units = Units(DwarfSections(Image(program)))
    unit = next(iter(units))
    structure = next(each for each in Die.root_of(unit).children() if each.name == "pair")
    sibling = structure.next_offset - unit.offset
    at = unit.data.find(struct.pack("<I", sibling), structure.offset)
    wrong = struct.pack("<I", structure.offset + forwards)
    changes = dict(enumerate(wrong, at))
    found = scanned(with_bytes(program, tmp_path / "damaged", ".debug_info", changes))
    assert [each.offset for each in found.damaged] == [unit.offset]


# --- What it leaves behind -----------------------------------------------------------------------


@pytest.mark.live("gcc")
@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_before(enabled: bool, program: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        assert not gc.isenabled()
        raise Stop

    units = Units(DwarfSections(Image(program)))
    was = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(Stop):
            scan(units, stop)
        assert gc.isenabled() == enabled
        scan(units)
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was else gc.disable)()


@pytest.mark.live("gcc")
def test_progress_goes_from_unit_to_unit_up_to_the_end(program: Path) -> None:
    units = Units(DwarfSections(Image(program)))
    told: list[tuple[int, int]] = []
    scan(units, lambda done, total: told.append((done, total)))
    size = len(units.sections.info)
    assert told == [*((offset, size) for offset in units.offsets[1:]), (size, size)]


# --- Kernels -------------------------------------------------------------------------------------


@pytest.mark.live("readelf")
def test_all_names_of_a_kernel_are_those_that_readelf_prints(
    built_kernel: Callable[[str], BuiltKernel],
) -> None:
    path = built_kernel("i386").vmlinux  # DWARF 4
    found = scanned(path)
    assert found.damaged == ()
    # The constants of enumerations are a level deeper, where readelf prints ten times as much.
    names = {
        name: others
        for name, each in found.names.items()
        if (others := [each for each in each if each[0] is not Kind.ENUMERATOR])
    }
    assert len(names) > 10_000
    assert names == expected(read_by_readelf(path, "--dwarf-depth=2"))


@pytest.fixture(scope="module")
def scanned_kernel(debian_kernel: DebianKernel) -> Scan:
    return scanned(debian_kernel.vmlinux)


def read_by_pyelftools(unit: CompileUnit) -> dict[int, Plain]:
    """Return the outermost entries of a unit and the constants of its enumerations."""
    root = Plain(unit.cu_die_offset, "DW_TAG_compile_unit", 0, None)
    entries = {}
    for die in unit.get_top_DIE().iter_children():
        tag = str(die.tag)
        if tag not in KINDS:
            continue
        entry = entries[die.offset] = Plain(die.offset, tag, 1, root)
        for name, attribute in die.attributes.items():
            value = attribute.value
            if attribute.form.startswith("DW_FORM_ref"):
                value = f"<{value + unit.cu_offset:#x}>"
            entry.attributes[name] = value.decode() if isinstance(value, bytes) else str(value)
        if tag == "DW_TAG_enumeration_type":
            for child in die.iter_children():
                constant = Plain(child.offset, "DW_TAG_enumerator", 2, entry)
                constant.attributes["DW_AT_name"] = child.attributes["DW_AT_name"].value.decode()
                entry.children.append(constant)
    return entries


def test_the_names_of_units_of_a_kernel_are_those_of_pyelftools(
    debian_kernel: DebianKernel, scanned_kernel: Scan
) -> None:
    assert scanned_kernel.damaged == ()
    units = Units(DwarfSections(Image(debian_kernel.vmlinux)))
    compared = 0
    with debian_kernel.vmlinux.open("rb") as stream:
        theirs = ELFFile(stream).get_dwarf_info(relocate_dwarf_sections=False)
        for offset in random.Random(8).sample(units.offsets, 20):
            end = units.at(offset).end
            for name, wanted in expected(read_by_pyelftools(theirs.get_CU_at(offset))).items():
                found = scanned_kernel.names[name]
                defined = {kind for kind, declared, _ in found if not declared}
                for kind, declared, at in wanted:
                    compared += 1
                    if declared:  # here; somewhere else it may be defined
                        assert kind in {kind for kind, _, _ in found} | {Kind.FUNCTION}
                    elif kind <= Kind.VARIABLE:
                        assert (kind, False, at) in found
                    else:  # by an earlier unit that has the same
                        assert kind in defined
                        assert min(at for other, _, at in found if other == kind) <= at
                here = {each for each in found if offset <= each[2] < end and not each[1]}
                assert here <= set(wanted)
    assert compared > 10_000


@pytest.mark.live("nm")
def test_the_code_of_a_kernel_is_that_of_its_symbols(
    debian_kernel: DebianKernel, scanned_kernel: Scan
) -> None:
    symbols = set()
    names = set()
    for line in nm(debian_kernel.vmlinux):
        if len(line) == 4:
            name = line[3].partition(".")[0]
            symbols.add((int(line[0], 16), int(line[1], 16), name))
            names.add(name)
    named = {at: name.decode() for name, each in scanned_kernel.names.items() for _, _, at in each}
    pieces = {(begin, end - begin, named[at]) for begin, end, at in scanned_kernel.code}
    assert len(pieces) > 40_000
    # Weak functions that another one has replaced are still in the debug information, and code.
    replaced = pieces - symbols
    assert len(replaced) < 200
    begins = {begin for begin, _, _ in symbols}
    assert not [each for each in replaced if each[0] in begins]
    assert {name for _, _, name in replaced} <= names


@pytest.mark.live("nm")
def test_the_variables_of_a_kernel_are_its_symbols(
    debian_kernel: DebianKernel, scanned_kernel: Scan
) -> None:
    variables = {
        name.decode()
        for name, each in scanned_kernel.names.items()
        if any(kind is Kind.VARIABLE and not declared for kind, declared, _ in each)
    }
    symbols = [line for line in nm(debian_kernel.vmlinux) if len(line) == 4 and line[2] in "BDR"]
    assert len(symbols) > 3_000
    info = DwarfSections(Image(debian_kernel.vmlinux)).info
    missing = [line for line in symbols if line[3] not in variables]
    assert len(missing) < 50
    for address, _, _, name in missing:  # as assembler has defined them
        expression = b"\x09\x03" + struct.pack("<Q", int(address, 16))
        assert info.find(expression) < 0, name
