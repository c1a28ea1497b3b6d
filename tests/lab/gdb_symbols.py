"""Runs inside gdb: answers questions about the symbols of the file that gdb has open.

Here lives: what gdb's Python knows, as JSON, thousands of answers in one process; ``lab.offline``
starts it. Here must not live: any code of the library under test.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import gdb


# The second is what gdb has of a declaration: the address is that of the linker's symbol.
AT_AN_ADDRESS = (gdb.SYMBOL_LOC_STATIC, gdb.SYMBOL_LOC_UNRESOLVED)

KEYWORDS = {
    gdb.TYPE_CODE_STRUCT: "struct",
    gdb.TYPE_CODE_UNION: "union",
    gdb.TYPE_CODE_ENUM: "enum",
}


def at(address):
    """Return the line of an address, and the functions that it is in, the innermost first."""
    place = gdb.find_pc_line(address)
    line = [place.symtab.filename, place.line] if place.symtab else None
    block = gdb.block_for_pc(address)
    chain = []
    while block is not None and not block.is_static and not block.is_global:
        if block.function is not None:
            function = block.function
            chain.append(described(function))
        block = block.superblock
    return {"line": line, "chain": chain}


def described(symbol):
    """Return the name, file, line and type of a symbol."""
    return [symbol.name, symbol.symtab.filename, symbol.line, str(symbol.type)]


def variables(name):
    """Return what gdb knows of the variables of a name, each with its address."""
    found = []
    for symbol in (gdb.lookup_global_symbol(name), *gdb.lookup_static_symbols(name)):
        if symbol is None or symbol.addr_class not in AT_AN_ADDRESS:
            continue
        place = symbol.value().address
        if place is not None:
            declared = symbol.addr_class == gdb.SYMBOL_LOC_UNRESOLVED
            found.append([*described(symbol), int(place), declared])
    return found


def types(address):
    """Return the names of the structures, unions and enumerations of an address's unit."""
    block = gdb.block_for_pc(address)
    if block is None:
        return []
    return sorted(
        f"{KEYWORDS[symbol.type.code]} {symbol.name}"
        for symbol in block.static_block
        if symbol.addr_class == gdb.SYMBOL_LOC_TYPEDEF
        and symbol.type.code in KEYWORDS
        and symbol.type.tag == symbol.name
    )


def said(command):
    """Return what a command prints; an error too."""
    try:
        return gdb.execute(command, to_string=True)
    except gdb.error as error:
        return str(error)


def places(spec):
    """Return the addresses of a breakpoint, None where gdb knows no such place."""
    try:
        breakpoint = gdb.Breakpoint(spec, internal=True)
    except gdb.error:
        return None
    found = [
        [each.address, each.function, *(each.source or (None, 0))]
        for each in breakpoint.locations
        if each.enabled
    ]
    breakpoint.delete()
    return found


QUESTIONS = {"at": at, "types": types, "variables": variables, "said": said, "places": places}

for setting in ("pagination off", "width 0", "language c", "breakpoint pending off"):
    gdb.execute(f"set {setting}")
questions = json.loads(Path(os.environ["RSP_LAB_QUESTIONS"]).read_text())
answers = [[QUESTIONS[kind](each) for each in asked] for kind, asked in questions]
Path(os.environ["RSP_LAB_ANSWERS"]).write_text(json.dumps(answers))
