"""What the commands about a running kernel have in common: the kernel that a target runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import rsp
from rsp.cli.arguments import look_at

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rsp.linux.kernel import Kernel


@contextmanager
def connect_kernel(arguments: argparse.Namespace) -> Iterator[Kernel]:
    """Connect as the options of `add_target` say, and give the kernel that runs there.

    Raises:
        SymbolError: there are no symbols, or they are not those of a kernel.
    """
    if arguments.symbols is None:
        raise rsp.SymbolError("a kernel is known by its symbols: give --symbols vmlinux")
    with look_at(arguments) as target:
        yield target.kernel
