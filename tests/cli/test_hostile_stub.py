"""Whatever a stub answers, a command ends with its status and one line, and obeys nothing."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rsp.cli import main
from rsp.testing.personalities import GDBSERVER, KGDB, PLAIN, QEMU, QEMU_OLD
from rsp.testing.serve import listening
from rsp.testing.strategies import payloads
from rsp.testing.stub import Stub
from rsp.wire.commands import XferRead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rsp.testing.personalities import Personality
    from rsp.wire.commands import Command

COMMANDS = (
    ("info",),
    ("info", "--json"),
    ("regs",),
    ("regs", "--json"),
    ("read", "0x7c00", "64"),
    ("write", "0x7c00", "90f4"),
)
# A description that a terminal must not see as it is: U+009B begins a command to many.
XML = (
    b'l<target><architecture>i386</architecture><feature name="org.gnu.gdb.i386.core">'
    b'<reg name="eip" bitsize="32"/><reg name="eflags" bitsize="8"/>'
    b'<reg name="\xc2\x9b31m" bitsize="32"/></feature></target>'
)


@pytest.mark.parametrize(
    "personality", [PLAIN, QEMU, QEMU_OLD, KGDB, GDBSERVER], ids=lambda each: each.name
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arguments=st.sampled_from(COMMANDS),
    lies=st.dictionaries(
        st.integers(0, 12), payloads() | st.sampled_from([XML, b"\x9b31m", b""]), max_size=4
    ),
)
def test_any_answers(
    personality: Personality,
    arguments: Sequence[str],
    lies: dict[int, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    stub = Stub(personality, memory={0x7C00: bytes(4096)})
    requests = itertools.count()

    def lie(stub: Stub, command: Command) -> bytes | None:
        return lies.get(next(requests))

    stub.hooks.append(lie)
    with listening(stub) as address:
        status = main([arguments[0], address, *arguments[1:], "--timeout", "0.2"])
    shown = capsys.readouterr()
    assert status in (0, 1)
    failures = [line for line in shown.err.splitlines() if line.startswith("rsp: error: ")]
    assert len(failures) == status
    assert all(char.isprintable() or char == "\n" for char in shown.out + shown.err)


@pytest.mark.parametrize("json", [False, True])
def test_names_that_a_stub_chooses_are_no_commands(
    json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = Stub(QEMU)
    stub.hooks.append(lambda stub, command: XML if isinstance(command, XferRead) else None)
    with listening(stub) as address:
        assert main(["regs", address, *(["--json"] if json else [])]) == 0
    shown = capsys.readouterr().out
    assert "9b31m" in shown
    assert all(char.isprintable() or char == "\n" for char in shown)
