"""``rsp sym``: look up names and addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_symbol_file, open_symbols
from rsp.cli.json import print_json
from rsp.cli.progress import Progress
from rsp.cli.text import printable
from rsp.location_spec import parse_number

if TYPE_CHECKING:
    import argparse

    from rsp.symbols.table import Symbol, SymbolTable

USAGE: Final = "FILE QUERY... [--regex] [OPTION ...]"
EXAMPLES: Final = (
    "rsp sym vmlinux start_kernel",
    "rsp sym vmlinux 0xffffffff81000000",
    "rsp sym vmlinux --regex 'tcp_.*_init$'",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_symbol_file(parser)
    parser.add_argument("query", nargs="+", metavar="QUERY", help="a name or an address")
    parser.add_argument(
        "--regex",
        action="store_true",
        help="QUERY is a regular expression, and is searched for in all names",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the symbols that the queries match."""
    with Progress("searching the symbols"):
        table = open_symbols(arguments)
        matches = [
            match for query in arguments.query for match in _matches(table, query, arguments)
        ]
    if arguments.json:
        print_json({"matches": [match for match, _ in matches]})
        return 0
    for match, offset in matches:
        name = printable(str(match["name"])) + (f"+{offset:#x}" if offset else "")
        print(f"{match['address']:<18} {match['size']:>7} {match['kind']:<8} {name}")
        declared = f"{match['file']}:{match['line']}" if match["file"] else ""
        about = "  ".join(str(text) for text in (declared, match["prototype"]) if text)
        if about:
            print(f"{'':18} {printable(about)}")
    return 0


def _matches(
    table: SymbolTable, query: str, arguments: argparse.Namespace
) -> list[tuple[dict[str, object], int]]:
    """Return what matches a query, and how far behind its begin the address asked for is."""
    if arguments.regex:
        return [(_match(symbol), 0) for symbol in table.search(query)]
    address = parse_number(query)
    if address is None:
        return [(_match(symbol), 0) for symbol in table.find(query)]
    # Of an address people want to know where it is, and not where its function is declared.
    (symbol,) = table.find(address)
    match = _match(symbol)
    if (line := table.line(address)) is not None:
        match |= {"file": line.file, "line": line.line}
    return [(match, address - symbol.address)]


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
