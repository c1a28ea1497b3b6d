"""Addresses of modules' sections, copied from a running kernel as files.

Contents: the reading of a copy of /sys/module/*/sections, which the kernel's owner can make where
no stub is at hand; what a target has in its own memory is the business of ``modules``, and gdb's
``add-symbol-file`` lines that of ``rsp.symbols.elf.modules``.

Source: Linux kernel/module/sysfs.c.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rsp.errors import SymbolError
from rsp.symbols.table import find_module

if TYPE_CHECKING:
    from rsp.symbols.table import SymbolTable

# Every module has it: its struct module lies there.
_MARK: Final = ".gnu.linkonce.this_module"
_LONGEST: Final = 64
_ADDRESS: Final = re.compile(rb"0x([0-9a-fA-F]{1,16})\s*")


def read_sections(directory: str | os.PathLike[str]) -> dict[str, dict[str, int]]:
    """Read a copy of /sys/module: the addresses of the sections of each module.

    Args:
        directory: what ``cp -r --parents /sys/module/*/sections DIR`` makes, or a part of it: each
            directory below that has the files of a module's sections is taken, and named by the
            one above it if it is called ``sections``.

    Raises:
        SymbolError: there is no such directory, nothing of a module in it, or a file in it that
            holds no address.
    """
    found = {}
    for parent, _, files in os.walk(directory):
        if _MARK in files:
            path = Path(parent).resolve()
            name = path.parent.name if path.name == "sections" else path.name
            found[name.replace("-", "_")] = {file: _address(Path(parent, file)) for file in files}
    if not found:
        raise SymbolError(
            f"{os.fspath(directory)}: no copy of /sys/module/NAME/sections is in it: make one by "
            "cp -r --parents /sys/module/*/sections DIR, as root"
        )
    return found


def add_sections(
    table: SymbolTable,
    directory: str | os.PathLike[str],
    files: str | os.PathLike[str] | None = None,
) -> tuple[str, ...]:
    """Add the modules of a copy of /sys/module to symbols, and return their names.

    Args:
        table: the symbols of their kernel.
        directory: the copy, see `read_sections`.
        files: where the modules' own files are, also below; None for beside the copy.

    Raises:
        SymbolError: the copy cannot be read, or no module of it has a file; `BadImage` where a file
            is of another kernel.
    """
    sections = read_sections(directory)
    places = directory if files is None else files
    found = ((find_module(places, name), each) for name, each in sections.items())
    added = tuple(table.add_module(path, each) for path, each in found if path is not None)
    if not added:
        raise SymbolError(
            f"{os.fspath(places)}: no file of {', '.join(sorted(sections))} is in it: give the "
            "directory of the modules, /lib/modules/RELEASE or that of their debug files"
        )
    return added


def _address(path: Path) -> int:
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST)
    except OSError as error:
        raise SymbolError(f"{path}: cannot be read: {error.strerror}") from error
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise SymbolError(f"{path}: no address such as 0xffffffffc0301000 is in it")
    address = int(found[1], 16)
    if not address:
        raise SymbolError(f"{path}: the kernel shows addresses only to root: copy it as root")
    return address
