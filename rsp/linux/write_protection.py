"""Breakpoints under kgdb in a kernel that has not write-protected its code yet.

Contents: `WriteProtection`, which takes them out in time. kgdb writes an int3 into code that can be
written in the plain way, and takes it out in the same way (arch/x86/kernel/kgdb.c): once the code
has become read-only meanwhile, it cannot ("KGDB: BP remove failed"), and the kernel hangs when it
meets the int3. An int3 that is set later is written through another mapping, and holds.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from rsp.errors import StubError, SymbolError
from rsp.inferior.locations import address_of, locate
from rsp.run.points import BreakpointKind

if TYPE_CHECKING:
    from rsp.inferior.inferior import Inferior
    from rsp.run.breakpoints import Breakpoints
    from rsp.run.points import Breakpoint

logger: Final = logging.getLogger("rsp.linux")

EVENT: Final = "write protection"
_PROTECTS: Final = "mark_rodata_ro"
"""The function that makes the code read-only, at the end of the boot; not with ``rodata=off``."""
_IS_DONE: Final = "kernel_set_to_readonly"
"""What it sets (arch/x86/mm/init_64.c, init_32.c): an int."""
_INT: Final = 4


class WriteProtection:
    """Stops a kernel before it write-protects its code with breakpoints of ours in it.

    Args:
        inferior: where the kernel runs.
        points: the breakpoints.
    """

    def __init__(self, inferior: Inferior, points: Breakpoints) -> None:
        self._inferior = inferior
        self._points = points
        self._guard: Breakpoint | None = None
        self._is_over = not inferior.stub.in_kernel

    def prepare(self) -> None:
        """Before the kernel runs: have it stop there if that is yet to come, and would do harm."""
        if self._is_over:
            return
        guard = self._guard
        if all(point is guard for point in self._points.by_software):
            if guard is not None:  # a stop there would wait for somebody to take it in
                guard.remove()
            return
        if guard is not None and guard.inserted:
            return
        try:
            where = locate(f"*{_PROTECTS}", self._inferior)
            done = self._inferior.pages.read(address_of(_IS_DONE, self._inferior), _INT)
            self._is_over = any(done)
        except (StubError, SymbolError) as error:
            self._is_over = True
            logger.debug("whether the kernel's code is write-protected is not known: %s", error)
            return
        if not self._is_over:
            self._guard = self._points.add(
                where,
                BreakpointKind.SOFTWARE,
                self._take_out,
                internal=True,
                stays=True,
                event=EVENT,
            )

    def _take_out(self, _: object) -> bool:
        """Take all out, the guard too; return whether that is to be told: there were others."""
        self._is_over = True
        everything = self._points.by_software
        for point in everything:
            point.remove()
        taken = [point for point in everything if point is not self._guard]
        users = [f"{point.number} ({point.what})" for point in taken if not point.internal]
        if users:
            logger.warning(
                "the kernel is about to write-protect its code (%s), and could not take these "
                "breakpoints out of it afterwards: %s. They have been removed; set them anew at a "
                "later stop",
                _PROTECTS,
                ", ".join(users),
            )
        return bool(taken)
