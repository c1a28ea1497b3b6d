"""``rsp regs``: show the registers of a thread, or write some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.arch.flags import flags_text
from rsp.arch.layout import Kind, Register, Role
from rsp.cli.arguments import add_target, look_at, parse_assignment, symbols_of
from rsp.cli.json import print_answer
from rsp.cli.text import pc_text, place, printable
from rsp.inferior.locations import address_of

if TYPE_CHECKING:
    import argparse

    from rsp.arch.registers import Registers
    from rsp.remote.debuggee import Debuggee
    from rsp.symbols.table import SymbolTable

USAGE: Final = "TARGET [NAME=VALUE ...] [--thread ID] [OPTION ...]"
EXAMPLES: Final = (
    "rsp regs :1234",
    "rsp regs :1234 --symbols vmlinux --thread p01.02",
    "rsp regs :1234 rax=0x10 bl=-1",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)
    parser.add_argument(
        "writes",
        metavar="NAME=VALUE",
        nargs="*",
        type=parse_assignment,
        help="write a register and show it: rax=0x10, bl=-1, with symbols rip=start_kernel",
    )
    parser.add_argument(
        "--thread", metavar="ID", help="another thread, as rsp info shows it: p01.02"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the whole registers; or write registers and print what they are now."""
    with look_at(arguments) as target:
        if arguments.thread is not None:
            target.select(arguments.thread)
        symbols = symbols_of(arguments, target)
        written = _write(target, arguments.writes)
        answer = _facts(target, written) if arguments.json else _text(target, written, symbols)
    print_answer(answer)
    return 0


def _write(target: Debuggee, writes: list[tuple[str, int | str]]) -> list[str]:
    """Write registers and return their names; a wrong name or value is told before any write."""
    values: dict[str, int] = {}
    registers = target.registers
    for name, value in writes:
        bits = registers.layout[name].bits
        number = address_of(value, target.inferior) if isinstance(value, str) else value
        values[name] = number + (1 << bits) if -(1 << bits - 1) <= number < 0 else number
        registers.layout.write(registers, name, values[name])
    for name, number in values.items():
        target.write_register_of(target.inferior.current, name, number)
    return list(values)


def _facts(target: Debuggee, written: list[str]) -> dict[str, object]:
    registers = target.registers
    answer: dict[str, object] = {
        "mode": target.mode.name,
        "layout": registers.layout.name,
        "registers": {name: _hex(value) for name, value in registers.items()},
    }
    if written:
        answer["written"] = {name: _hex(registers[name]) for name in written}
    return answer


def _hex(value: int | None) -> str | None:
    return None if value is None else f"{value:#x}"


def _text(target: Debuggee, written: list[str], symbols: SymbolTable | None) -> str:
    registers, mode = target.registers, target.mode
    rows = [_row(name, registers, symbols) for name in written or registers]
    if not written:
        rows.insert(0, f"{mode.name} ({mode.value}), pc {pc_text(symbols, registers)}")
    return "\n".join(rows)


def _row(name: str, registers: Registers, symbols: SymbolTable | None) -> str:
    """Return gdb's line about a register."""
    value = registers[name]
    shown = "<unavailable>" if value is None else f"{value:#x}"
    meaning = "" if value is None else _meaning(name, value, registers, symbols)
    return f"{printable(name):<15}{shown:<20}{meaning}".rstrip()


def _meaning(name: str, value: int, registers: Registers, symbols: SymbolTable | None) -> str:
    """Return gdb's third column; nothing for what is no integer."""
    if flags := flags_text(name, value):
        return flags
    register = registers.layout[name]
    if not isinstance(register, Register):
        return ""
    if register.role is Role.PC:
        return f"linear {pc_text(symbols, registers)}"
    match register.kind:
        case Kind.INTEGER | Kind.SELECTOR:
            return str(value - (value >> register.bits - 1 << register.bits))
        case Kind.CODE_POINTER | Kind.DATA_POINTER:
            return place(symbols, value)
    return ""
