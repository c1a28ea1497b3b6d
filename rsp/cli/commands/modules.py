"""``rsp modules``: the loaded modules of a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.cli.arguments import add_target
from rsp.cli.json import print_json
from rsp.cli.kernel import connect_kernel
from rsp.cli.text import printable
from rsp.errors import StubError, SymbolError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import TypeVar

    from rsp.linux.modules import Module

    T = TypeVar("T")

USAGE: Final = "TARGET --symbols FILE [OPTION ...]"
EXAMPLES: Final = ("rsp modules :1234 --symbols vmlinux",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the modules, the newest first."""
    with connect_kernel(arguments) as kernel:
        modules = kernel.modules()
        found = [_in_json(module) for module in modules]
    if arguments.json:
        print_json({"modules": found})
        return 0
    for module in found:
        print(
            f"{module['address']}  {module['size']:>8}  {module['state']:<8} "
            f"{printable(str(module['name']))}"
            + (f"  {printable(str(module['symbols']))}" if module["symbols"] else "")
        )
    return 0


def _in_json(module: Module) -> dict[str, object]:
    return {
        "name": module.name,
        "address": f"{module.address:#x}",
        "size": module.size,
        "symbols": module.file,
        "state": module.state,
        "parameters": _or_none(lambda: module.parameters),
        "sections": _or_none(
            lambda: {name: f"{address:#x}" for name, address in module.sections.items()}
        ),
    }


def _or_none(read: Callable[[], T]) -> T | None:
    """Return what can be read; a module that comes or goes may have nothing of it."""
    try:
        return read()
    except (StubError, SymbolError):
        return None
