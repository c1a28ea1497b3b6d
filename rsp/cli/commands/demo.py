"""``rsp demo``: follow a CPU from 16 to 64 bit, on a machine that comes with this package.

Contents: what the demo does. The machine is QEMU with the boot sector of `rsp.testing.boot`; where
there is no QEMU, the recording ``demo.rsplog`` beside this file is played through the same code.
The recording is made by the demo itself, and has to be made again whenever the demo or the library
asks a stub something else: remove it, then run
``rsp demo --record rsp/cli/commands/demo.rsplog``.
"""

from __future__ import annotations

import textwrap
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import rsp
from rsp.arch.flags import flags_text
from rsp.cli.arguments import add_json, add_record
from rsp.cli.json import print_json
from rsp.cli.progress import Progress
from rsp.cli.text import place, printable
from rsp.symbols.at_pc.symbolize import name_at
from rsp.testing.boot import ELF, IMAGE, SOURCE
from rsp.testing.qemu import QemuMachine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rsp.arch.modes import CpuMode
    from rsp.remote.target import Target
    from rsp.symbols.table import SourceLine

RECORDING: Final = Path(__file__).with_name("demo.rsplog")
"""A session of this demo with QEMU 7.2.22."""

STOPS: Final = (
    "real_start",
    "real_based",
    "protected16",
    "protected_start",
    "compat_start",
    "long_start",
    "tick",
    "tick",
)
"""The labels of the boot sector where the demo stops, in the order in which the CPU passes them."""

_TIMEOUT: Final = 30.0  # seconds for a BIOS on a busy machine
_CODE: Final = 8  # bytes shown at each stop
_WIDTH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the CPU has come to.

    Attributes:
        mode: its mode there.
        pc: the linear address of the next instruction.
        line: that instruction's source line, where the symbols have one.
        code: the bytes there.
        counter: the number that the boot sector counts in memory, at the end of its way.
        changed: the registers that have another value than at the stop before, and the value.
    """

    mode: CpuMode
    pc: int
    line: SourceLine | None
    code: bytes
    counter: int
    changed: dict[str, int | None]


USAGE: Final = "[--json] [--record LOG]"
EXAMPLES: Final = ("rsp demo",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_json(parser)
    add_record(parser)


def run(arguments: argparse.Namespace) -> int:
    """Follow the CPU, and print what has changed at each stop."""
    with ExitStack() as stack:
        try:
            address = stack.enter_context(QemuMachine(IMAGE)).address
            source = "qemu"
            said = "qemu-system-x86_64 runs the boot sector of this package."
        except rsp.TransportError as error:
            address = f"replay:{RECORDING}"
            source = "recording"
            said = f"This is a recording of the same session with QEMU, for {error}."
        with Progress("connecting"):
            target = stack.enter_context(
                rsp.connect(address, symbols=ELF, timeout=_TIMEOUT, record=arguments.record)
            )
        if not arguments.json:
            print(printable(said))
        places = []
        for here in _follow(target):
            places.append(here)
            if not arguments.json:
                print(_describe(here, target))
        greeting = target.read_c_string(target.symbols["greeting"].address).decode("ascii")
        target.detach()
        if arguments.json:
            stops = [_as_json(here, target) for here in places]
            print_json({"source": source, "stops": stops, "greeting": greeting})
        else:
            modes = dict.fromkeys(here.mode.name for here in places)
            print(f"\n{' -> '.join(modes)}\nIt says: {greeting}. Detached: it runs on.")
    return 0


def _follow(target: Target) -> Iterator[_Place]:
    registers: dict[str, int | None] = {}
    for stop in (None, *STOPS):
        if stop is not None:
            with Progress("waiting for the CPU", limit=_TIMEOUT):
                target.until(stop, timeout=_TIMEOUT)
        # What is 0 at the reset is not worth a word.
        before, registers = registers, dict(target.registers)
        changed = {name: value for name, value in registers.items() if value != before.get(name, 0)}
        pc = target.registers.pc
        yield _Place(
            mode=target.mode,
            pc=pc,
            line=target.symbols.line(pc),
            code=target.read_memory(pc, _CODE),
            counter=target.read_u64(target.symbols["counter"].address),
            changed=changed,
        )


def _describe(here: _Place, target: Target) -> str:
    where = place(target.symbols, here.pc)
    lines = [f"\n{here.mode.name:<12} {here.mode.value:<21}  {where}"]
    if here.line is not None:
        lines.append(f"  source     {_source(here.line)}")
    lines.append(f"  code       {here.code.hex(' ')}")
    if here.counter:
        lines.append(f"  memory     counter {here.counter}")
    changes = ", ".join(
        # Their own spaces stay together when lines are broken at the others.
        f"{name} {_shown(name, value)}".replace(" ", "\0")
        for name, value in here.changed.items()
    )
    indent = " " * len("  changed    ")
    broken = textwrap.wrap(
        changes, _WIDTH, initial_indent="  changed    ", subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return "\n".join([*lines, *(line.replace("\0", " ") for line in broken)])


def _shown(register: str, value: int | None) -> str:
    if value is None:
        return "unavailable"
    flags = flags_text(register, value)
    return f"{value:#x} {flags}" if flags else f"{value:#x}"


def _source(line: SourceLine) -> str:
    """Return the line with its text; the only file that there is here is the boot sector's."""
    file = Path(line.file).name
    text = SOURCE.read_text("utf-8").splitlines() if file == SOURCE.name else []
    shown = " ".join(text[line.line - 1].split()) if line.line <= len(text) else ""
    return f"{file}:{line.line}  {shown}".rstrip()


def _as_json(here: _Place, target: Target) -> dict[str, object]:
    return {
        "mode": here.mode.name,
        "pc": f"{here.pc:#x}",
        "symbol": name_at(target.symbols, here.pc),
        "file": here.line.file if here.line is not None else None,
        "line": here.line.line if here.line is not None else None,
        "code": here.code.hex(),
        "counter": here.counter,
        "changed": {
            name: None if value is None else f"{value:#x}" for name, value in here.changed.items()
        },
    }
