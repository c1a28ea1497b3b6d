"""Calls: what a caller's debug information says of the values that it passed.

Contents: the entry of a call by its return address, the values of its parameters, the functions
that it may go to, and the tail calls of a function (DWARF 5, section 3.4; in version 4 as GNU's
extension). Not here: the registers that any of it is computed from.

Addresses are those of the link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rsp.symbols.dwarf import constants as dw
from rsp.symbols.dwarf.abstract_origin import attribute, origins
from rsp.symbols.dwarf.leb import sleb, uleb
from rsp.symbols.dwarf.ranges import pc_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rsp.symbols.code.functions import Functions
    from rsp.symbols.dwarf.die import Die

_SITES = frozenset((dw.DW_TAG_call_site, dw.DW_TAG_GNU_call_site))
_PARAMETERS = frozenset((dw.DW_TAG_call_site_parameter, dw.DW_TAG_GNU_call_site_parameter))
_BLOCKS = frozenset((dw.DW_TAG_lexical_block, dw.DW_TAG_inlined_subroutine))
_RETURN_PCS = (dw.DW_AT_call_return_pc, dw.DW_AT_low_pc)
_PARAMETER_OF = (dw.DW_AT_call_parameter, dw.DW_AT_abstract_origin)
_VALUES = (dw.DW_AT_call_value, dw.DW_AT_GNU_call_site_value)
_TARGETS = (dw.DW_AT_call_target, dw.DW_AT_GNU_call_site_target)
_ORIGINS = (dw.DW_AT_call_origin, dw.DW_AT_abstract_origin)
_TAIL_CALLS = (dw.DW_AT_call_tail_call, dw.DW_AT_GNU_tail_call)
_ALL_TAIL_CALLS = (
    *(dw.DW_AT_call_all_calls, dw.DW_AT_call_all_tail_calls),
    *(dw.DW_AT_GNU_all_call_sites, dw.DW_AT_GNU_all_tail_call_sites),
)

_REG0, _REG31, _BREG0 = 0x50, 0x6F, 0x70
_MAX_DEPTH = 128


@dataclass(frozen=True, slots=True)
class InRegister:
    """A parameter that is passed in a register, by its DWARF number."""

    register: int


@dataclass(frozen=True, slots=True)
class OnStack:
    """A parameter that is passed on the stack, at an offset from where the call finds its top."""

    offset: int


Passed = InRegister | OnStack


def passed(expression: bytes, stack_pointer: int) -> Passed | None:
    r"""Return how a parameter with a location is passed; None where it is no such location.

    Args:
        expression: the location, on the side of the caller or on that of the function.
        stack_pointer: the DWARF number of that register.

    >>> passed(b"\x55", 7)             # DW_OP_reg5
    InRegister(register=5)
    >>> passed(b"\x77\x08", 7)         # DW_OP_breg7 8: the caller's side
    OnStack(offset=8)
    >>> passed(b"\x91\x08", 7)         # DW_OP_fbreg 8: the function's side
    OnStack(offset=8)
    """
    if not expression:
        return None
    opcode = expression[0]
    try:
        if _REG0 <= opcode <= _REG31 and len(expression) == 1:
            return InRegister(opcode - _REG0)
        if opcode == dw.DW_OP_regx:
            register, end = uleb(expression, 1)
            return InRegister(register) if end == len(expression) else None
        if opcode == dw.DW_OP_fbreg or opcode == _BREG0 + stack_pointer:
            offset, end = sleb(expression, 1)
            return OnStack(offset) if end == len(expression) else None
    except (IndexError, ValueError):
        pass
    return None


class CallSite:
    """A call.

    Args:
        functions: of the file.
        die: its entry.

    Raises:
        BadImage: from every method, for entries that make no sense.
    """

    def __init__(self, functions: Functions, die: Die) -> None:
        self._functions = functions
        self.die = die

    @property
    def return_pc(self) -> int | None:
        """The address behind it."""
        return _number(self.die, _RETURN_PCS)

    @property
    def is_tail_call(self) -> bool:
        """Whether it is a jump, which leaves no frame of its function behind."""
        return any(self.die.get(which) for which in _TAIL_CALLS)

    def value(self, how: Passed | int, stack_pointer: int) -> bytes | None:
        """Return the expression of what it passes in a place, None where that is not told.

        Args:
            how: the place, or the offset of the parameter's entry in .debug_info.
            stack_pointer: the DWARF number of that register.
        """
        for parameter in self._functions.walk(self.die.unit).children(self.die, _PARAMETERS):
            if isinstance(how, int):
                matches = _number(parameter, _PARAMETER_OF) == how
            else:
                location = parameter.get(dw.DW_AT_location)
                matches = isinstance(location, bytes) and passed(location, stack_pointer) == how
            if matches:
                return _block(parameter, _VALUES)
        return None

    def target(self) -> bytes | str | tuple[int, ...] | None:
        """Return where it goes: an expression, a name, or the starts of a function's ranges.

        None where nothing says so, as of a function that is only inlined.
        """
        expression = _block(self.die, _TARGETS)
        if expression is not None:
            return expression or None
        for which in _ORIGINS:
            function = self.die.reference(which)
            if function is not None:
                break
        else:
            return None
        if function.get(dw.DW_AT_declaration) and function.form(dw.DW_AT_specification) is None:
            for name in (dw.DW_AT_linkage_name, dw.DW_AT_MIPS_linkage_name, dw.DW_AT_name):
                found = attribute(function, name)
                if isinstance(found, str):
                    return found
            return None
        return tuple(begin for begin, _ in pc_ranges(function)) or None


def call_at(functions: Functions, blocks: Sequence[Die], return_pc: int) -> CallSite | None:
    """Return the call that returns to an address.

    Args:
        functions: of the file.
        blocks: the function that the call is in, and the blocks in it, innermost last.
        return_pc: the address behind it.

    Raises:
        BadImage: entries make no sense.
    """
    for block in reversed(blocks):
        for die in functions.walk(block.unit).children(block, _SITES):
            if _number(die, _RETURN_PCS) == return_pc:
                return CallSite(functions, die)
    return None


def tail_calls(functions: Functions, function: Die) -> Iterator[CallSite]:
    """Yield the tail calls of a function, none where the compiler may not have listed all.

    Raises:
        BadImage: entries make no sense.
    """
    if not any(origin.get(which) for origin in origins(function) for which in _ALL_TAIL_CALLS):
        return
    walk = functions.walk(function.unit)
    pending = [(function, 0)]
    while pending:
        block, depth = pending.pop()
        for die in walk.children(block, _SITES | _BLOCKS):
            if die.tag in _SITES:
                site = CallSite(functions, die)
                if site.is_tail_call:
                    yield site
            elif depth < _MAX_DEPTH:
                pending.append((die, depth + 1))


def _number(die: Die, which: Sequence[int]) -> int | None:
    return next((value for each in which if (value := die.number(each)) is not None), None)


def _block(die: Die, which: Sequence[int]) -> bytes | None:
    return next((value for each in which if isinstance(value := die.get(each), bytes)), None)
