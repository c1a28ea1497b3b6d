"""``rsp regs``: the registers of a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rsp.arch.layout import Kind, Role
from rsp.cli.arguments import add_target, connect, symbols_of
from rsp.cli.json import print_answer
from rsp.cli.text import flags_text, pc_text, place, printable

if TYPE_CHECKING:
    import argparse

    from rsp.arch.layout import Register
    from rsp.arch.registers import Registers
    from rsp.symbols.table import SymbolTable
    from rsp.target.target import Target

USAGE: Final = "TARGET [--thread ID] [OPTION ...]"
EXAMPLES: Final = (
    "rsp regs :1234",
    "rsp regs :1234 --symbols vmlinux --thread p01.02",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_target(parser)
    parser.add_argument(
        "--thread", metavar="ID", help="another thread, as rsp info shows it: p01.02"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the whole registers."""
    with connect(arguments) as target:
        if arguments.thread is not None:
            target.select(arguments.thread)
        answer = _facts(target) if arguments.json else _text(target, arguments)
    print_answer(answer)
    return 0


def _facts(target: Target) -> dict[str, object]:
    registers = target.registers
    return {
        "mode": target.mode.name,
        "layout": registers.layout.name,
        "registers": {
            name: None if value is None else f"{value:#x}" for name, value in registers.items()
        },
    }


def _text(target: Target, arguments: argparse.Namespace) -> str:
    registers, mode = target.registers, target.mode
    symbols = symbols_of(arguments, target)
    lines = [f"{mode.name} ({mode.value}), pc {pc_text(symbols, registers)}"]
    lines += [_row(register, registers, symbols) for register in registers.layout.registers]
    return "\n".join(lines)


def _row(register: Register, registers: Registers, symbols: SymbolTable | None) -> str:
    """Return gdb's line about a register."""
    value = registers[register.name]
    shown = "<unavailable>" if value is None else f"{value:#x}"
    meaning = "" if value is None else _meaning(register, value, registers, symbols)
    return f"{printable(register.name):<15}{shown:<20}{meaning}".rstrip()


def _meaning(
    register: Register, value: int, registers: Registers, symbols: SymbolTable | None
) -> str:
    """Return gdb's third column; nothing for what is no integer."""
    if flags := flags_text(register.name, value):
        return flags
    if register.role is Role.PC:
        return f"linear {pc_text(symbols, registers)}"
    match register.kind:
        case Kind.INTEGER | Kind.SELECTOR:
            return str(value - (value >> register.bits - 1 << register.bits))
        case Kind.CODE_POINTER | Kind.DATA_POINTER:
            return place(symbols, value)
    return ""
