"""``rsp sym``: look up names and addresses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import rsp
from rsp.cli.arguments import add_symbol_file, open_symbols
from rsp.cli.json import print_json
from rsp.cli.progress import Progress
from rsp.cli.text import printable, printable_lines
from rsp.location_spec import parse_location, parse_number

if TYPE_CHECKING:
    import argparse

    from rsp.symbols.table import Symbol, SymbolTable

USAGE: Final = "FILE QUERY... [--regex] [OPTION ...]\n       rsp sym FILE --oops LOG [OPTION ...]"
EXAMPLES: Final = (
    "rsp sym vmlinux start_kernel",
    "rsp sym vmlinux 0xffffffff81000000 vfs_read+0x10",
    "rsp sym vmlinux --regex 'tcp_.*_init$'",
    "rsp sym vmlinux --oops oops.txt",
)

_LONGEST_LOG: Final = 64 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_symbol_file(parser)
    parser.add_argument(
        "query",
        nargs="*",
        metavar="QUERY",
        help="a name, an address, or a place (vfs_read+0x10/0x2f0)",
    )
    parser.add_argument(
        "--regex",
        action="store_true",
        help="QUERY is a regular expression, and is searched for in all names",
    )
    parser.add_argument(
        "--oops",
        metavar="LOG",
        help="decode the places of an oops or a whole log to source lines, as the kernel's "
        "decode_stacktrace.sh does; - reads standard input",
    )
    parser.set_defaults(usage=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Print the symbols that the queries match."""
    if bool(arguments.query) == (arguments.oops is not None):
        arguments.usage("give the names or addresses to look up, or --oops LOG")
    if arguments.oops is not None:
        return _decode(arguments)
    with Progress("searching the symbols"):
        table = open_symbols(arguments)
        matches: list[tuple[dict[str, object], int]] = []
        missing: dict[str, rsp.SymbolNotFound] = {}
        for query in arguments.query:
            try:
                matches += _matches(table, query, arguments)
            except rsp.SymbolNotFound as error:
                missing[str(error)] = error
    if matches or not missing:
        _print(matches, as_json=arguments.json)
    if missing:
        raise rsp.SymbolNotFound("; ".join(missing), name=next(iter(missing.values())).name)
    return 0


def _decode(arguments: argparse.Namespace) -> int:
    """Print a log with its places decoded."""
    from rsp.linux.oops import Decoder

    with Progress("decoding the log"):
        lines = _read(arguments.oops).splitlines()
        decoder = Decoder(open_symbols(arguments), arguments.modules)
        decoded = list(decoder.decode(lines))
    if not arguments.json:
        for line in decoded:
            print(printable_lines(line.text))
        return 0
    rows = [
        {
            "text": line.text,
            "places": [
                {
                    "function": place.name,
                    "module": place.module,
                    "frames": [
                        {
                            "function": frame.function,
                            "file": frame.line.file if frame.line else None,
                            "line": frame.line.line if frame.line else None,
                            "inlined": frame.inlined,
                        }
                        for frame in place.frames
                    ],
                }
                for place in line.places
            ],
        }
        for line in decoded
    ]
    print_json({"lines": rows})
    return 0


def _read(log: str) -> str:
    """Read a log, which may have any bytes in it.

    Raises:
        SymbolError: it is larger than any log.
    """
    with sys.stdin.buffer if log == "-" else Path(log).open("rb") as file:
        data = file.read(_LONGEST_LOG + 1)
    if len(data) > _LONGEST_LOG:
        raise rsp.SymbolError(f"{log}: more than {_LONGEST_LOG >> 20} MB, which is no kernel's log")
    return data.decode(errors="backslashreplace")


def _print(matches: list[tuple[dict[str, object], int]], *, as_json: bool) -> None:
    if as_json:
        print_json({"matches": [match for match, _ in matches]})
        return
    for match, offset in matches:
        name = printable(str(match["name"])) + (f"+{offset:#x}" if offset else "")
        print(f"{match['address']:<18} {match['size']:>7} {match['kind']:<8} {name}")
        declared = f"{match['file']}:{match['line']}" if match["file"] else ""
        about = "  ".join(str(text) for text in (declared, match["prototype"]) if text)
        if about:
            print(f"{'':18} {printable(about)}")


def _matches(
    table: SymbolTable, query: str, arguments: argparse.Namespace
) -> list[tuple[dict[str, object], int]]:
    """Return what matches a query, and how far behind its begin the address asked for is."""
    if arguments.regex:
        return [(_match(symbol), 0) for symbol in table.search(query)]
    found = table.find(query)
    address = parse_number(query)
    if address is not None:
        return [_at(found[0], address - found[0].address, table)]
    if "+" not in query or query == found[0].name:
        return [(_match(symbol), 0) for symbol in found]
    offset = parse_location(query).offset or 0
    return [_at(symbol, offset, table) for symbol in found]


def _at(symbol: Symbol, offset: int, table: SymbolTable) -> tuple[dict[str, object], int]:
    """Return a place behind a symbol: people want to know its line, and not the declaration's."""
    match = _match(symbol)
    if (line := table.line(symbol.address + offset)) is not None:
        match |= {"file": line.file, "line": line.line}
    return match, offset


def _match(symbol: Symbol) -> dict[str, object]:
    return {
        "name": symbol.name,
        "address": f"{symbol.address:#x}",
        "size": symbol.size,
        "kind": symbol.kind.value,
        "file": symbol.file,
        "line": symbol.line,
        "prototype": symbol.prototype,
    }
