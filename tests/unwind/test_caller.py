"""The step to a caller: every kind of rule, saved registers, and the guess by the frame pointer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.unwinding import CODE, STACK, N, machine_of, rules_of, words
from rsp.errors import BadImage
from rsp.linux import kernel_entry
from rsp.linux.pt_regs import PT_REGS
from rsp.symbols.unwind.rules import (
    AtCfa,
    AtExpression,
    CfaExpression,
    FrameKind,
    InRegister,
    RegisterOffset,
    SameValue,
    Undefined,
    UnwindRules,
    ValCfa,
    ValExpression,
)
from rsp.unwind.activation import Activation, EndOfStack
from rsp.unwind.caller import caller_of
from rsp.unwind.entry_code import NO_ENTRY_CODE

if TYPE_CHECKING:
    from rsp.symbols.unwind.rules import RegisterRule
    from rsp.unwind.entry_code import EntryCode

CALL = b"\xe8\0\0\0\0"


@dataclass
class Image:
    word_size: int


@dataclass
class Binary:
    """A file with rules for all of its code."""

    rules: UnwindRules | BadImage | None
    image: Image = field(default_factory=lambda: Image(8))
    asked: list[int] = field(default_factory=list)

    def unwind_rules(self, address: int) -> UnwindRules | None:
        self.asked.append(address)
        if isinstance(self.rules, BadImage):
            raise self.rules
        return self.rules

    def lookup(self, address: int) -> None:
        return None


def step(
    rules: UnwindRules | BadImage | None,
    registers: dict[str, int] | None = None,
    stack: bytes = words(0x11, CODE + 0x20, 0x22, 0x33),
    slide: int = 0,
) -> Activation:
    binary = Binary(rules)
    machine = machine_of({STACK: stack}, binary, slide=slide)
    known = {"rsp": STACK, "rbx": 3, "rbp": 5} | (registers or {})
    return caller_of(Activation(machine, known, CODE + 0x100, interrupted=True))


RETURN: dict[str, RegisterRule] = {"rip": AtCfa(-8), "rsp": ValCfa(0)}


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (SameValue(), 3),
        (AtCfa(-16), 0x11),
        (ValCfa(8), STACK + 24),
        (InRegister(N["rbp"]), 5),
        (AtExpression(b"\x23\x08"), 0x33),  # DW_OP_plus_uconst 8: the CFA is on the stack
        (ValExpression(b"\x23\x02"), STACK + 18),
        (Undefined(), None),
        (AtCfa(0x5000), None),  # no memory there
        (ValExpression(b"\x06"), 0x22),  # DW_OP_deref
        (ValExpression(b"\x00"), None),  # no such operation
    ],
)
def test_every_kind_of_rule(rule: RegisterRule, value: int | None) -> None:
    caller = step(rules_of(RETURN | {"rbx": rule}))
    assert caller.registers.get("rbx") == value
    assert (caller.pc, caller.registers["rip"]) == (CODE + 0x20, CODE + 0x20)
    assert caller.registers["rsp"] == STACK + 16
    assert caller.snapshot()["rbx"] == value


def test_the_cfa_by_an_expression() -> None:
    # DW_OP_breg7 8, DW_OP_deref: what the stack has at an offset.
    rules = rules_of(RETURN, CfaExpression(b"\x77\x10\x06"))
    stack = words(0, CODE + 0x20, STACK + 16)
    assert step(rules, stack=stack).registers["rsp"] == STACK + 16


def test_a_caller_is_looked_up_before_its_return_address_unless_it_was_interrupted() -> None:
    for signal_frame, looked_up in ((False, CODE + 0x1F), (True, CODE + 0x20)):
        binary = Binary(rules_of(RETURN, signal_frame=signal_frame))
        machine = machine_of({STACK: words(0, CODE + 0x20)}, binary, slide=0x1000)
        caller = caller_of(Activation(machine, {"rsp": STACK}, CODE + 0x100, interrupted=True))
        assert caller.interrupted is signal_frame
        assert binary.asked == [CODE + 0x100 - 0x1000, looked_up - 0x1000]


def test_registers_that_no_rule_speaks_of_are_lost_but_for_who_knows_better() -> None:
    caller = step(rules_of(RETURN), {"rdi": 7})
    assert "rdi" not in caller.registers
    assert caller.snapshot()["rdi"] is None
    assert caller.register(N["rdi"]) == 7
    interrupted = step(rules_of(RETURN, signal_frame=True), {"rdi": 7})
    assert interrupted.register(N["rdi"]) is None


def test_all_registers_of_an_interruption() -> None:
    """Selectors and flags take a whole word each, of which the upper part means nothing."""
    names = [name for name in PT_REGS["x86-64"] if name]
    place = {name: 8 * index for index, name in enumerate(PT_REGS["x86-64"]) if name}
    stack = words(*(0xABCD_0000_0000_0000 + index for index in range(21)))
    rules = rules_of(
        {name: AtCfa(place[name]) for name in names},
        RegisterOffset(N["rsp"], 0),
        kind=FrameKind.REGS,
        signal_frame=True,
    )
    caller = step(rules, stack=stack)
    assert caller.interrupted
    for name in names:
        mask = {"cs": 0xFFFF, "ss": 0xFFFF, "eflags": 0xFFFFFFFF}.get(name, -1)
        assert caller.registers[name] == 0xABCD_0000_0000_0000 + place[name] // 8 & mask, name
        assert caller.snapshot()[name] == caller.registers[name]


@pytest.mark.parametrize(
    ("rules", "stack", "complete", "reason"),
    [
        (rules_of({}, kind=FrameKind.END), b"", True, "outermost"),
        (rules_of(RETURN | {"rip": Undefined()}), words(0, 0), True, "outermost"),
        (rules_of({"rsp": ValCfa(0)}), words(0, 0), True, "outermost"),
        (rules_of(RETURN), b"", False, f"memory at {STACK + 8:#x} cannot be read"),
        (rules_of(RETURN, RegisterOffset(N["r10"], 8)), words(0, 0), False, "cannot be told"),
        (rules_of(RETURN, CfaExpression(b"\x06")), words(0, 0), False, "cannot be told"),
        (BadImage("it is damaged", path="x"), words(0, 0), False, "it is damaged"),
    ],
)
def test_the_end(rules: UnwindRules | BadImage, stack: bytes, complete: bool, reason: str) -> None:
    with pytest.raises(EndOfStack, match=reason) as caught:
        step(rules, stack=stack)
    assert caught.value.complete is complete


# --- frame pointers ---


def test_a_chain_of_frame_pointers() -> None:
    code = {CODE: CALL.rjust(0x20), CODE + 0x20: (b"\xff\x15" + bytes(4)).rjust(0x20)}
    stack = words(0, 0, STACK + 48, CODE + 0x20, 1, 2, 0, CODE + 0x40, 0, 0)
    machine = machine_of({STACK: stack, **code})
    frame = Activation(machine, {"rsp": STACK, "rbp": STACK + 16}, CODE + 0x100, interrupted=True)
    caller = caller_of(frame)
    assert (caller.pc, caller.registers["rsp"]) == (CODE + 0x20, STACK + 32)
    above = caller_of(caller)
    assert (above.pc, above.registers["rbp"]) == (CODE + 0x40, 0)
    with pytest.raises(EndOfStack, match="the frame pointer is 0") as end:
        caller_of(above)
    assert end.value.complete


@pytest.mark.parametrize(
    ("rbp", "stack", "reason"),
    [
        (STACK - 8, words(0, 0), "no frame pointer"),
        (STACK + (1 << 21), words(0, 0), "no frame pointer"),
        (STACK, words(STACK + 16, CODE + 0x30), "no return address"),
        (STACK, words(STACK + 16, 0x1234), "no return address"),
        (STACK, words(STACK + 16, 0), "the return address is 0"),
        (STACK, words(STACK + 16), "cannot be read"),
    ],
)
def test_a_frame_pointer_is_not_believed_easily(rbp: int, stack: bytes, reason: str) -> None:
    machine = machine_of({STACK: stack, CODE: bytes(0x200)})
    frame = Activation(machine, {"rsp": STACK, "rbp": rbp}, CODE + 0x100, interrupted=True)
    with pytest.raises(EndOfStack, match=reason):
        caller_of(frame)


@given(
    stack=st.binary(max_size=256),
    registers=st.dictionaries(
        st.sampled_from(["rsp", "rbp", "rbx", "r10", "rip"]),
        st.integers(0, (1 << 64) - 1) | st.integers(STACK - 64, STACK + 300),
    ),
    expression=st.binary(max_size=12),
    offset=st.integers(-(1 << 63), 1 << 63),
    signal_frame=st.booleans(),
    covered=st.booleans(),
    entry_code=st.sampled_from([NO_ENTRY_CODE, kernel_entry]),
)
def test_no_stack_does_harm(
    *,
    stack: bytes,
    registers: dict[str, int],
    expression: bytes,
    offset: int,
    signal_frame: bool,
    covered: bool,
    entry_code: EntryCode,
) -> None:
    rules = rules_of(
        {
            "rip": AtCfa(offset),
            "rsp": ValCfa(offset),
            "rbx": AtExpression(expression),
            "rbp": ValExpression(expression),
        },
        CfaExpression(expression),
        signal_frame=signal_frame,
    )
    machine = machine_of({STACK: stack}, Binary(rules if covered else None))
    frame = Activation(machine, registers, CODE, interrupted=True)
    try:
        caller = caller_of(frame, entry_code)
    except EndOfStack:
        return
    assert all(0 <= value < 1 << 64 for value in caller.registers.values())
