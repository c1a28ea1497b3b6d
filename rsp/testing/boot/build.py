"""The recipe of boot.elf and boot.img: ``python -m rsp.testing.boot.build``.

Contents: the command lines that make the two files of boot.S with gcc and GNU binutils. The output
names no path of the machine that builds it.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from rsp.testing.boot import ELF, IMAGE, SOURCE

if TYPE_CHECKING:
    from pathlib import Path

# What the debugging information gives as the directory of the source: the same everywhere.
SOURCE_DIRECTORY = "rsp/testing/boot"

# fmt: off
ASSEMBLE = (
    "gcc", "-c", "-m64", "-g", "-gdwarf-5",
    f"-ffile-prefix-map={SOURCE.parent}={SOURCE_DIRECTORY}",
)
LINK = (
    "ld", "-m", "elf_x86_64", "-static", "--build-id=none",
    "--nmagic",             # no padding to pages: the sector is loaded whole
    "-Ttext=0x7c00",        # where a BIOS loads it
    "-Tbss=0x4000",         # the counter, on a page of its own
    "--entry=real_start",
)
EXTRACT = ("objcopy", "-O", "binary", "-j", ".text")
# fmt: on


def build(directory: Path) -> tuple[Path, Path]:
    """Build both files into a directory and return their paths, the ELF first.

    Raises:
        FileNotFoundError: gcc or a program of binutils is not installed.
        subprocess.CalledProcessError: one of them failed.
    """
    elf, image = directory / ELF.name, directory / IMAGE.name
    # An object with a name of its own: the linker notes it in the symbol table.
    object_file = elf.with_suffix(".o")
    # In the directory of the source, so that gcc sees the bare name and the map above the rest.
    _run(*ASSEMBLE, "-o", object_file, SOURCE.name)
    _run(*LINK, "-o", elf, object_file)
    _run(*EXTRACT, elf, image)
    object_file.unlink()
    elf.chmod(0o644)
    image.chmod(0o644)
    return elf, image


def _run(*command: str | Path) -> None:
    subprocess.run(command, cwd=SOURCE.parent, check=True)  # noqa: S603 - the table above


if __name__ == "__main__":
    build(SOURCE.parent)
