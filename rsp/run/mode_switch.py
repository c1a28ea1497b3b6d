"""Running until the CPU is in another mode, and stopping at the first instruction in it.

Contents: what tells where a CPU will change its mode, so that it need not be stepped there. How it
is let run is the business of ``execution``.

There are three kinds of modes: real, protected, and long (which pages). From one kind to another a
CPU goes only by a write to CR0, which is ``mov cr0`` or ``lmsw`` (Intel SDM volume 3A, section
10.9); within a kind it goes by loading CS. So instructions that write CR0 are looked for in the
memory around the pc, breakpoints are set on them, and from each of them it is stepped. Code may be
loaded later: a program that a BIOS has loaded calls it before it leaves real mode, so the BIOS's
entries have breakpoints, too, and around each caller it is looked again. And as no program must do
what most do, the CPU is looked at several times a second; where it turns out to be in the mode
already, the stop says so.

All that needs breakpoints that are not in the target's memory, which a program loads itself over:
those of QEMU's translator. Elsewhere, and from mode to mode of a kind, it is stepped.
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from functools import cached_property
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from rsp.arch.modes import CpuMode
from rsp.ctrl_c import held
from rsp.errors import MemoryFault, ModeNotReached, RspTimeout, StubError
from rsp.inferior.locations import Where
from rsp.run.arming import held_by_stub
from rsp.run.points import BreakpointKind
from rsp.run.stop import Stop, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from rsp.arch.registers import Registers
    from rsp.inferior.live import LiveInferior
    from rsp.run.execution import Execution
    from rsp.run.points import Breakpoint

_PAGING: Final = frozenset({CpuMode.COMPAT32, CpuMode.LONG64})
_KINDS: Final = (
    frozenset({CpuMode.REAL16}),
    frozenset({CpuMode.PROTECTED16, CpuMode.PROTECTED32}),
    _PAGING,
)
_WRITES_CR0: Final = re.compile(
    rb"\x0f\x22[\xc0-\xc7]"  # mov cr0, r32
    rb"|\x0f\x01[\x30-\x37\x70-\x77\xb0-\xb7\xf0-\xf7]",  # lmsw r/m16
    re.DOTALL,
)
_MOST_IN_A_WINDOW: Final = 64
"""Of memory that is full of them most are data; code has one or two."""

_PAGE: Final = 4096
_AROUND: Final = 1 << 16
"""How far before and behind the pc it is looked: a segment of real mode."""
_END_OF_32_BITS: Final = 1 << 32
_FIRMWARE: Final = range(0xE0000, 0x100000)
_ROMS: Final = range(0xC0000, 0x100000)
_PREFIXES: Final = frozenset({0x26, 0x2E, 0x36, 0x3E, *range(0x40, 0x50), 0x64, 0x65, 0x66, 0x67})
_BOOT_SECTOR: Final = 0x7C00
"""Where a BIOS enters what it has loaded."""
_SERVICES: Final = range(0x10, 0x1B)
"""The interrupts that a BIOS serves (Ralf Brown's Interrupt List): video, disk, memory, boot, …"""

_NEAR: Final = 64
"""So many instructions are stepped at the begin and behind each switch: the next is often near."""
_GLANCE: Final = 0.1
"""Seconds between two looks at a CPU that runs."""
_WAITS: Final = 5.0
"""Seconds after which an instruction that is stepped is taken to wait for an interrupt (hlt)."""
_STEPS_BETWEEN_REPORTS: Final = 500


class ModeSwitch:
    """Runs the current thread's CPU until it is in a mode.

    Args:
        inferior: whose.
        execution: what lets it run.
        mode: the mode.
        max_steps: how many instructions are stepped at the most.
        timeout: seconds for the whole of it; None for ever.
        progress: called now and then with the CPU's mode and the seconds that have passed.
    """

    def __init__(
        self,
        inferior: LiveInferior,
        execution: Execution,
        mode: CpuMode,
        *,
        max_steps: int,
        timeout: float | None,
        progress: Callable[[CpuMode, float], None] | None,
    ) -> None:
        self._inferior = inferior
        self._execution = execution
        self._processor = inferior.processor
        self._thread = inferior.current
        self._mode = mode
        self._kind = next((kind for kind in _KINDS if mode in kind), frozenset())
        self._max_steps = max_steps
        self._timeout = timeout
        self._progress = progress
        self._began = monotonic()
        self._steps = 0
        self._near = _NEAR  # so many more are stepped in any case
        self._waits = False  # the last one waits for an interrupt
        self._ran = False  # the last was no step
        self._pages: dict[int, bytes] = {}  # what was searched, as it was then
        self._stepped: set[int] = set()  # the pages that instructions were stepped in since then
        self._knows_firmware = False
        self._points: dict[int, Breakpoint] = {}
        self._switches: set[int] = set()  # of these, the instructions that write CR0
        self._passed: set[int] = set()  # and of those, the ones that have been executed

    def run(self) -> Stop:
        """Let it run; see ``Target.run_until_mode``."""
        try:
            while not self._is_there:
                if self._must_step():
                    self._step()
                else:
                    self._run()
        finally:
            self._clear()
        stop = self._execution.stop
        if not self._ran:
            return stop
        thread = self._execution.thread_of(self._thread)
        return self._execution.end_step(replace(stop, thread=thread, late=True))

    @property
    def _is_there(self) -> bool:
        return self._processor.is_in_mode(self._thread, self._mode)

    # --- one instruction, or many ---

    def _must_step(self) -> bool:
        pc = self._registers.pc
        if pc in self._switches:
            if pc not in self._passed:
                self._passed.add(pc)
                self._near = _NEAR
            return True
        if not self._may_run:
            return True
        return not self._waits and (self._near > 0 or not self._leaves_its_kind)

    @property
    def _leaves_its_kind(self) -> bool:
        """Whether the CPU must write CR0 before it is in the mode."""
        now = self._processor.mode(self._thread)
        return now is not CpuMode.UNKNOWN and now not in self._kind

    @cached_property
    def _may_run(self) -> bool:
        return held_by_stub(self._inferior)

    def _step(self) -> None:
        if self._steps >= self._max_steps:
            raise self._not_reached(f"in {self._max_steps} steps", "raise max_steps")
        if self._steps % _STEPS_BETWEEN_REPORTS == 0:
            self._report()
        self._steps += 1
        self._near -= 1
        self._stepped.add(self._registers.pc & -_PAGE)
        self._ran = False
        left = self._left()
        self._execution.step(self._thread)
        self._waits = not self._wait(min(_WAITS, left))

    def _run(self) -> None:
        self._report()
        self._prepare()
        self._ran, self._waits = True, False
        left = self._left()
        self._execution.resume()
        self._wait(min(_GLANCE, left))

    def _wait(self, seconds: float) -> bool:
        """Wait for a stop, or stop it; return whether it came by itself."""
        came = True
        try:
            stop = self._execution.wait(seconds)
        except RspTimeout:
            stop = self._execution.interrupt()
            came = stop.reason is not StopReason.INTERRUPT
        ours = stop.reason in (StopReason.STEP, StopReason.INTERRUPT)
        if stop.ended or not (ours or self._is_there):
            raise self._not_reached(f"before another stop ({stop})", "go on from there")
        return came

    def _left(self) -> float:
        if self._timeout is None:
            return inf
        left = self._timeout - (monotonic() - self._began)
        if left <= 0:
            raise self._not_reached(f"in {self._timeout:g} s", "give it more time (timeout)")
        return left

    def _not_reached(self, how: str, advice: str) -> ModeNotReached:
        ended = self._execution.stop.ended
        mode = None if ended else self._processor.mode(self._thread)
        now = "the target has ended" if mode is None else f"the CPU is in {mode.name}"
        return ModeNotReached(
            f"{self._mode.name} was not reached {how}: {now}; {advice}, or run to a breakpoint "
            "nearer to the switch first",
            mode=mode,
        )

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(self._processor.mode(self._thread), monotonic() - self._began)

    # --- where the mode changes ---

    @property
    def _registers(self) -> Registers:
        return self._processor.registers(self._thread)

    def _prepare(self) -> None:
        """Set breakpoints on what writes CR0 near the code that runs, and on a BIOS's entries."""
        pc, now = self._registers.pc, self._processor.mode(self._thread)
        for address in (*self._stepped, pc):
            self._search_around(address)
        self._stepped.clear()
        if now not in _PAGING and not self._knows_firmware:
            self._knows_firmware = True
            self._search(_FIRMWARE, pc)
        if now is not CpuMode.REAL16:
            return
        if pc in self._points and pc not in self._switches and (caller := self._caller()):
            self._search_around(caller)
        self._set(_BOOT_SECTOR)
        vectors = self._read(4 * _SERVICES.start, 4 * len(_SERVICES))
        for offset, segment in struct.iter_unpack("<HH", vectors[: len(vectors) & ~3]):
            if (address := (segment << 4) + offset) in _ROMS:
                self._set(address)

    def _caller(self) -> int | None:
        """Return where an interrupt of real mode has come from, at its first instruction."""
        registers = self._registers
        stack = ((registers.get("ss") or 0) << 4) + (registers.sp & 0xFFFF)
        frame = self._read(stack, 4)
        if len(frame) < 4:
            return None
        offset, segment = struct.unpack("<HH", frame)
        return int((segment << 4) + offset)

    def _search_around(self, address: int) -> None:
        """Search the code around an address, unless the page there is as it was the last time."""
        page = address - address % _PAGE
        if self._read(page, _PAGE) == self._pages.get(page, b""):
            return
        end = _END_OF_32_BITS if page < _END_OF_32_BITS else 1 << 64
        self._search(range(max(0, page - _AROUND), min(page + _AROUND, end)), address)

    def _search(self, where: range, near: int) -> None:
        """Set breakpoints on the instructions in some pages that write CR0, near ones first."""
        code = b""
        for at in where[::_PAGE]:
            self._pages[at] = content = self._read(at, _PAGE)
            code += content.ljust(_PAGE, b"\0")
        found = [match.start() for match in _WRITES_CR0.finditer(code)]
        for at in sorted(found, key=lambda at: abs(where[at] - near))[:_MOST_IN_A_WINDOW]:
            prefixed = at > 0 and code[at - 1] in _PREFIXES
            for each in (where[at - 1], where[at]) if prefixed else (where[at],):
                self._switches.add(each)
                self._set(each)

    def _read(self, address: int, length: int) -> bytes:
        """Return memory as far as it can be read."""
        self._inferior.thread_list.focus(self._thread)
        try:
            return self._inferior.pages.read_exactly(address, length)
        except MemoryFault as fault:
            return fault.partial
        except StubError:
            return b""

    def _set(self, address: int) -> None:
        if address not in self._points:
            self._points[address] = self._execution.points.add(
                Where(f"*{address:#x}", (address,)),
                BreakpointKind.SOFTWARE,
                self._is_ours,
                internal=True,
                stays=True,
            )

    def _is_ours(self, _: object) -> bool:
        """Whether it is not another CPU that has come to a breakpoint."""
        return self._inferior.stopped in (None, self._thread)

    def _clear(self) -> None:
        """Take out all breakpoints, and let the current thread be the one that it was."""
        inferior = self._inferior
        if not inferior.session.usable:
            return
        with held():
            for point in self._points.values():
                self._execution.points.leave(point)
            stands = not inferior.runs() and inferior.absence is None
            if self._thread is not None and stands:
                inferior.select(self._thread)
