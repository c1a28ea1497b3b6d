"""A program whose functions are inlined, split and repeated, compiled in every way that matters.

Contents: how it is compiled; its sources are in programs/inlining. It never runs.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

SOURCES = Path(__file__).parent / "programs" / "inlining"
FILES = ("main.c", "other.c", "code.S")

# By a name for the test: the options. Assembler without -g has symbols only.
VARIANTS: dict[str, tuple[str, ...]] = {
    "O0": ("-O0", "-gdwarf-5"),
    "O0-dwarf4": ("-O0", "-gdwarf-4"),
    "O0-frameless": ("-O0", "-gdwarf-5", "-fomit-frame-pointer", "-fcf-protection=none"),
    "O1": ("-O1", "-gdwarf-5"),
    "O2": ("-O2", "-gdwarf-5", "-fno-reorder-functions"),
    "O2-dwarf4": ("-O2", "-gdwarf-4", "-fno-reorder-functions"),
    "O2-sections": ("-O2", "-gdwarf-5", "-ffunction-sections", "-fno-reorder-functions"),
    "O2-frames": ("-O2", "-gdwarf-5", "-fno-omit-frame-pointer", "-fno-var-tracking"),
    "Os": ("-Os", "-gdwarf-5"),
    "Og-clones": ("-Og", "-gdwarf-5", "-fipa-cp-clone", "-fpartial-inlining"),
    # gcc's code that says it is clang's: gdb then finds the end of a prologue in another way.
    "clang-O0": ("-O0", "-gdwarf-5"),
    "clang-O2": ("-O2", "-gdwarf-5", "-fno-reorder-functions"),
    "m32-O0": ("-m32", "-O0", "-gdwarf-5"),
    "m32-O2": ("-m32", "-O2", "-gdwarf-4", "-fno-reorder-functions"),
}


BASE = ("-fno-pie", "-fno-stack-protector", "-Wall")


def compile_variant(name: str, directory: Path, *, assembler: bool = True) -> Path:
    """Return the program, linked without any library.

    Args:
        name: of `VARIANTS`.
        directory: for the objects and the program.
        assembler: whether its assembler part gets line numbers.
    """
    options = VARIANTS[name]
    objects = []
    for file in FILES:
        objects.append(directory / f"{file}.o")
        used = options
        if file.endswith(".S") and not assembler:
            used = tuple(option for option in options if not option.startswith("-g"))
        # From the directory of the sources, so that the names are short and relative.
        text = directory / f"{file}.s"
        kind = "-E" if file.endswith(".S") else "-S"
        command = ["gcc", *BASE, *used, kind, file, "-o", str(text)]
        subprocess.run(command, cwd=SOURCES, check=True)
        if name.startswith("clang"):
            text.write_text(re.sub(r'"GNU C\d+ [^"]*"', '"clang version 14.0.6"', text.read_text()))
        # The compiler has written the lines; the assembler adds them for its own language only.
        lines = [option for option in used if option.startswith(("-m", "-g"))]
        lines = lines if file.endswith(".S") else [each for each in lines if each == "-m32"]
        subprocess.run(["gcc", *lines, "-c", text, "-o", objects[-1]], cwd=SOURCES, check=True)
    program = directory / name
    mode = ("-m", "elf_i386") if "-m32" in options else ("-m", "elf_x86_64")
    subprocess.run(["ld", *mode, "-static", "-o", program, *objects], check=True)
    return program


def line_count(file: str) -> int:
    """Return how many lines a source file has."""
    return len((SOURCES / file).read_text().splitlines())
