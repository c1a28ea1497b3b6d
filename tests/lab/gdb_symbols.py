"""Runs inside gdb: what its Python knows of the symbols of the files that it has open.

Contents: the answers, as JSON, thousands of them in one process; by address wherever that can be,
as a question by name costs gdb a walk over everything. `lab.offline` starts it. Not here: any code
of the library under test.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gdb  # type: ignore[import-untyped]  # only gdb's own Python has it

KEYWORDS = {
    gdb.TYPE_CODE_STRUCT: "struct",
    gdb.TYPE_CODE_UNION: "union",
    gdb.TYPE_CODE_ENUM: "enum",
}
# The second is what gdb has of a declaration: the address is that of the linker's symbol.
AT_AN_ADDRESS = (gdb.SYMBOL_LOC_STATIC, gdb.SYMBOL_LOC_UNRESOLVED)


def described(symbol: Any) -> list[Any]:
    """Return the name, file, line and type of a symbol."""
    return [symbol.name, symbol.symtab.filename, symbol.line, str(symbol.type)]


def at(address: int) -> dict[str, Any]:
    """Return the line of an address, and the functions that it is in, the innermost first."""
    place = gdb.find_pc_line(address)
    block = gdb.block_for_pc(address)
    functions = []
    while block is not None and not block.is_static and not block.is_global:
        if block.function is not None:
            functions.append(described(block.function))
        block = block.superblock
    return {
        "line": [place.symtab.filename, place.line] if place.symtab else None,
        "functions": functions,
    }


def variables(name: str) -> list[list[Any]]:
    """Return the variables of a name, each with its address and whether it is only declared."""
    found = []
    for symbol in (gdb.lookup_global_symbol(name), *gdb.lookup_static_symbols(name)):
        if symbol is None or symbol.addr_class not in AT_AN_ADDRESS:
            continue
        place = symbol.value().address
        if place is not None:
            declared = symbol.addr_class == gdb.SYMBOL_LOC_UNRESOLVED
            found.append([*described(symbol), int(place), declared])
    return found


def types(address: int) -> dict[str, Any]:
    """Return the structures, unions and enumerations of an address's unit, by name."""
    block = gdb.block_for_pc(address)
    return {
        f"{KEYWORDS[symbol.type.code]} {symbol.name}": contents(symbol.type)
        for symbol in (block.static_block if block else ())
        if symbol.addr_class == gdb.SYMBOL_LOC_TYPEDEF
        and symbol.type.code in KEYWORDS
        and symbol.type.tag == symbol.name
    }


def contents(of: Any) -> list[Any]:
    """Return the size and the members, each with its place in bits, or the enumerators."""
    if of.code == gdb.TYPE_CODE_ENUM:
        return [of.sizeof, [[each.name, each.enumval] for each in of.fields()]]
    members = [
        [each.name, each.bitpos, each.bitsize, str(each.type), each.type.sizeof]
        for each in of.fields()
    ]
    return [of.sizeof, members]


def said(command: str) -> str:
    """Return what a command prints, or its error."""
    try:
        return str(gdb.execute(command, to_string=True))
    except gdb.error as error:
        return str(error)


def places(spec: str) -> list[list[Any]]:
    """Return the addresses, files and lines of a breakpoint, none where there is no such place."""
    try:
        breakpoint_ = gdb.Breakpoint(spec, internal=True)
    except gdb.error:
        return []
    found = [
        [each.address, *(each.source or (None, 0))]
        for each in breakpoint_.locations
        if each.enabled
    ]
    breakpoint_.delete()
    # gdb has some twice.
    return sorted(each for number, each in enumerate(found) if each not in found[:number])


ANSWERS = {each.__name__: each for each in (at, variables, types, said, places)}

for setting in ("pagination off", "width 0", "language c", "breakpoint pending off"):
    gdb.execute(f"set {setting}")
questions = json.loads(Path(os.environ["RSP_LAB_QUESTIONS"]).read_text())
answers = {kind: [ANSWERS[kind](each) for each in asked] for kind, asked in questions.items()}
Path(os.environ["RSP_LAB_ANSWERS"]).write_text(json.dumps(answers))
