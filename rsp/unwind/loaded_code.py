"""Code that no file of the symbols has, as the program that has loaded it knows it.

Contents: what a backtrace asks of such code, and of whom. Who answers knows the program: for the
modules of Linux `rsp.linux.module_code`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from rsp.symbols.unwind.rules import UnwindRules


class LoadedCode(Protocol):
    """Some code, at the addresses where it lies. The methods may raise any RspError."""

    @property
    def name(self) -> str:
        """What it is called where it runs: ``[xfs]``."""
        ...

    def rules_at(self, address: int) -> UnwindRules | None:
        """Return how to find the caller's registers, None where nothing tells."""
        ...

    def symbol_at(self, address: int) -> tuple[str, int] | None:
        """Return the name of the function at an address and where it begins, None if unknown."""
        ...


CodeFinder: TypeAlias = Callable[[int], LoadedCode | None]
"""Tells what code is at an address, the same object for all of it; None for what it does not know.
It may raise any RspError."""
