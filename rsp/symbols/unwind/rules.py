"""How to find the caller's registers from a frame's: rules as data, whatever table they come from.

Contents: the vocabulary of rules, that of DWARF's call frame information (DWARF 5, section 6.4.1),
which ORC's entries are put into as well. Not here: the tables (`cfi`, `orc`), and registers or
memory of a target: who has these follows the rules.

Registers are DWARF numbers throughout (`rsp.arch` has their names), addresses link addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING

from rsp.reprs import hex_repr

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rsp.symbols.dwarf.expressions import Context


@dataclass(frozen=True, slots=True)
class RegisterOffset:
    """The CFA is what a register holds in this frame, plus an offset."""

    register: int
    offset: int


@dataclass(frozen=True, slots=True)
class CfaExpression:
    """The CFA is what a DWARF expression computes, from an empty stack."""

    expression: bytes


@dataclass(frozen=True, slots=True)
class Undefined:
    """The caller's value is lost."""


@dataclass(frozen=True, slots=True)
class SameValue:
    """The caller's value is still in the register."""


@dataclass(frozen=True, slots=True)
class AtCfa:
    """The caller's value is in memory, at an offset from the CFA."""

    offset: int


@dataclass(frozen=True, slots=True)
class ValCfa:
    """The caller's value is the CFA plus an offset."""

    offset: int


@dataclass(frozen=True, slots=True)
class InRegister:
    """The caller's value is in another register of this frame."""

    register: int


@dataclass(frozen=True, slots=True)
class AtExpression:
    """The caller's value is in memory, where an expression says; its stack begins with the CFA."""

    expression: bytes


@dataclass(frozen=True, slots=True)
class ValExpression:
    """The caller's value is what an expression computes; its stack begins with the CFA."""

    expression: bytes


CfaRule = RegisterOffset | CfaExpression
RegisterRule = Undefined | SameValue | AtCfa | ValCfa | InRegister | AtExpression | ValExpression


class FrameKind(Enum):
    """What the caller's registers were saved by."""

    CALL = "call"
    """A call instruction, and this function's prologue. A signal handler's frame is one too."""
    REGS = "regs"
    """An interrupt or exception entry that has all of them on the stack (``struct pt_regs``)."""
    REGS_PARTIAL = "regs partial"
    """An entry that has not saved more than the CPU did; the rest are still in registers."""
    END = "end"
    """Nobody: this is the outermost frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnwindRules:
    """How to get from a frame to its caller's, valid for some addresses.

    The caller's pc is what the rule of ``return_address`` gives.

    Attributes:
        begin: the first address that the rules are valid for.
        end: the first one after those.
        cfa: how to find the canonical frame address: on x86 what the stack pointer was before the
            call pushed its return address. At REGS entries it is where the saved registers are.
        registers: the rule of each register that has a value, by DWARF number; of any other one the
            caller's value is lost.
        return_address: the number that the caller's pc goes by.
        signal_frame: the caller was interrupted, so that its pc is that of the next instruction,
            and not the one behind a call.
        kind: what the caller's registers were saved by.
    """

    begin: int
    end: int
    cfa: CfaRule
    registers: Mapping[int, RegisterRule]
    return_address: int
    signal_frame: bool = False
    kind: FrameKind = FrameKind.CALL

    def __repr__(self) -> str:
        return hex_repr(self)


@cache
def numbers(machine: str) -> Mapping[str, int]:
    """Return the DWARF numbers of the core registers, by name; ``machine`` as `Image` has it.

    >>> numbers("x86-64")["rip"], numbers("i386")["esp"]
    (16, 4)
    """
    from rsp.arch import i386, x86_64

    registers = x86_64.CORE if machine == x86_64.ARCH else i386.CORE
    return {each.name: each.dwarf for each in registers if each.dwarf is not None}


def compute(expression: bytes, context: Context, *, stack: Iterable[int] = ()) -> int | None:
    """Return what the expression of a rule computes, None where that cannot be told.

    Args:
        expression: of a `CfaExpression`, an `AtExpression` or a `ValExpression`.
        context: the frame.
        stack: what is on the expression's stack at the beginning.
    """
    from rsp.symbols.dwarf.expressions import number  # few rules have one

    found = number(expression, context, stack=stack)
    return found if isinstance(found, int) else None


# System V ABI, AMD64 supplement, figure 3.4; Intel386 supplement, figure 2.3.
_CALLEE_SAVED = {
    "x86-64": ("rbx", "rbp", "r12", "r13", "r14", "r15"),
    "i386": ("ebx", "ebp", "esi", "edi"),
}
_STACK_POINTER = {"x86-64": "rsp", "i386": "esp"}


@cache
def abi_rules(machine: str) -> Mapping[int, RegisterRule]:
    """Return the rules of registers that no table speaks of: what a function has to preserve."""
    number = numbers(machine)
    rules: dict[int, RegisterRule] = {number[r]: SameValue() for r in _CALLEE_SAVED[machine]}
    rules[number[_STACK_POINTER[machine]]] = ValCfa(0)
    return rules
