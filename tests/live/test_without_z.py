"""A real process under a stub without breakpoints: it stops where it does with them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.stepping import compile_steps, under_gdbserver
from lab.without_z import WithoutZ
from rsp import StopReason
from rsp.symbols.elf.image import Image
from rsp.wire import commands, replies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rsp.remote.target import Target

pytestmark = pytest.mark.live("gcc", "gdbserver")

PATIENCE = 100.0
STEPS = 60


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_steps("O0", tmp_path_factory.mktemp("steps"))


@contextlib.contextmanager
def connected(program: Path, *, z: bool) -> Iterator[Target]:
    with under_gdbserver(program) as address, contextlib.ExitStack() as stack:
        if not z:
            address = stack.enter_context(WithoutZ(address)).address
        yield stack.enter_context(rsp.connect(address, symbols=program))


def really_there(target: Target) -> bytes:
    """Return the program's code as the stub has it, with all int3 in it."""
    section = Image(target.symbols.path).named(".text")
    assert section is not None
    data = b""
    while len(data) < section.size:
        length = min(1024, section.size - len(data))
        address = section.address + len(data)
        reply = target.session.ask(commands.ReadMemory(address=address, length=length))
        assert isinstance(reply, replies.MemoryData)
        data += reply.data
    return data


def journey(target: Target, *, z: bool) -> list[tuple[str, int, str | None]]:
    """Return where each of many commands has stopped."""
    places = []
    code = really_there(target)
    target.until("run", timeout=PATIENCE)
    for count in range(STEPS):
        name = ("next_line", "step_line", "step", "finish")[count % 4]
        if name == "finish" and target.stop.function == "run":
            continue
        stop = getattr(target, name)(timeout=PATIENCE)
        if stop.ended:
            break
        places.append((name, target.registers.pc, stop.function))
        assert really_there(target) == code
    with target.breakpoint(target.registers.pc):
        assert target.points.in_memory is not z
        assert (really_there(target) == code) is z
    assert really_there(target) == code
    assert target.resume(timeout=PATIENCE).reason is StopReason.EXITED
    return places


def test_commands_stop_where_they_do_with_breakpoints_of_the_stub(program: Path) -> None:
    with connected(program, z=True) as target:
        expected = journey(target, z=True)
    assert len(expected) > 20
    with connected(program, z=False) as target:
        assert journey(target, z=False) == expected
