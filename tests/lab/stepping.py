"""The program to step through, and gdb as it steps through it.

Contents: how the program is compiled in the ways that matter, and a run of gdb that tells where
each of many commands has stopped. Not here: any code of the library under test.
"""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lab import servers
from lab.gdb import SETTINGS, batch, connecting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SOURCES = Path(__file__).parent / "programs" / "stepping"

# By a name for the test: the options. "lines" gives line numbers to the assembler part too.
VARIANTS: dict[str, tuple[str, ...]] = {
    "O0": ("-O0",),
    "O0-lines": ("-O0", "lines"),
    "Og": ("-Og",),
    "Og-frames": ("-Og", "-fno-omit-frame-pointer"),
    "O1": ("-O1",),
    "O2": ("-O2",),
    "O2-lines": ("-O2", "lines"),
    "O2-dwarf4": ("-O2", "-gdwarf-4"),
    "O2-statements": ("-O2", "-gno-statement-frontiers", "-gno-variable-location-views"),
    "O2-endbr": ("-O2", "-fcf-protection=full", "-fno-asynchronous-unwind-tables"),
    "O3": ("-O3",),
    "m32-O0": ("-m32", "-O0"),
    "m32-O2": ("-m32", "-O2"),
}
_BASE = ("-ffreestanding", "-fno-pie", "-fno-stack-protector", "-Wall", "-Werror")


class Place(NamedTuple):
    """Where a stop is; the line is 0 where there is none.

    ``value`` is what a function has returned that was run to its end, where that is a number.
    """

    pc: int
    function: str | None
    line: int
    value: int | None = None


def compile_steps(variant: str, directory: Path) -> Path:
    """Return the program, linked without any library."""
    options = [option for option in VARIANTS[variant] if option != "lines"]
    machine = [option for option in options if option == "-m32"]
    assembler = ["-g", *machine] if "lines" in VARIANTS[variant] else machine
    objects = []
    for file, used in (("steps.c", ["-g", *_BASE, *options]), ("bare.S", assembler)):
        objects.append(directory / f"{variant}-{file}.o")
        subprocess.run(["gcc", *used, "-c", file, "-o", objects[-1]], cwd=SOURCES, check=True)
    program = directory / variant
    mode = ("-m", "elf_i386") if machine else ("-m", "elf_x86_64")
    subprocess.run(["ld", *mode, "-static", "-o", program, *objects], check=True)
    return program


def compile_threads(directory: Path) -> Path:
    """Return the program with threads."""
    program = directory / "threads"
    options = ["-g", "-O1", "-no-pie", "-pthread", "-Wall", "-Werror"]
    subprocess.run(["gcc", *options, "threads.c", "-o", program], cwd=SOURCES, check=True)
    return program


@contextlib.contextmanager
def under_gdbserver(program: Path) -> Iterator[str]:
    """Run the program under gdbserver, and yield its address."""
    with servers.gdbserver_tcp(program) as address:
        yield address


_SCRIPT = """
import gdb, json

def place():
    frame = gdb.newest_frame()
    line = frame.find_sal().line if frame.find_sal().symtab else 0
    return [frame.pc(), frame.name(), line]

def run(commands):
    places = []
    for command in commands:
        try:
            known = gdb.history_count()
            gdb.execute(command, to_string=True)
        except gdb.error as error:
            places.append(str(error))
            continue
        if not gdb.selected_inferior().pid:
            break
        places.append([*place(), returned(known)])
    return places

def returned(known):
    value = gdb.history(0) if gdb.history_count() > known else None
    structure = value is None or value.type.strip_typedefs().code == gdb.TYPE_CODE_STRUCT
    return None if structure else int(value)

print("PLACES" + json.dumps(run(json.loads({commands!r}))))
"""


def gdb_places(
    address: str,
    symbols: Path,
    commands: Sequence[str],
    *,
    directory: Path,
    first: Sequence[str] = (),
    timeout: float = 120.0,
) -> tuple[list[Place | str], int]:
    """Return where gdb stops after each command, or its error; and how often it has resumed.

    Args:
        address: of the stub, which gdb leaves as it is then.
        symbols: the program.
        commands: those in question; nothing is told from the one on with which the program ends.
        directory: for the script and the log.
        first: what is said before them.
        timeout: seconds for the whole run.
    """
    script, log = directory / "places.py", directory / "gdb.log"
    script.write_text(_SCRIPT.replace("{commands!r}", repr(json.dumps(list(commands)))))
    log.unlink(missing_ok=True)
    program = batch(
        *(*SETTINGS, f"set remotelogfile {log}", f"file {symbols}", connecting(address), *first),
        *(f"source {script}", "disconnect"),
    )
    finished = subprocess.run(program, capture_output=True, text=True, timeout=timeout, check=False)
    for line in finished.stdout.splitlines():
        if line.startswith("PLACES"):
            found = json.loads(line.removeprefix("PLACES"))
            places = [each if isinstance(each, str) else Place(*each) for each in found]
            return places, resumes(log)
    raise AssertionError(f"gdb said:\n{finished.stdout}\n{finished.stderr}")


def empty_disk(path: Path) -> Path:
    """Make a disk in QEMU's own format, which can hold snapshots of a machine (docs/interop/qcow2).

    A header, a table of one block of reference counts, and a table of one entry, in a cluster each.
    """
    cluster = 1 << 16
    data = bytearray(4 * cluster)
    header = (b"QFI\xfb", 2, 0, 0, 16, 64 << 20, 0, 1, 3 * cluster, cluster, 1, 0, 0)
    struct.pack_into(">4sIQIIQIIQQIIQ", data, 0, *header)
    struct.pack_into(">Q", data, cluster, 2 * cluster)
    struct.pack_into(">4H", data, 2 * cluster, 1, 1, 1, 1)
    path.write_bytes(data)
    return path


def resumes(log: Path) -> int:
    """Return how many packets of a log let the target run."""
    text = log.read_text(errors="replace")
    return sum(text.count(start) for start in ("$vCont;", "$c#", "$s#"))


def packets(log: Path) -> int:
    """Return how many packets of a log, which is a client's, were sent."""
    lines = log.read_text(errors="replace").splitlines()
    return sum(line.startswith("w ") and "$" in line for line in lines)
