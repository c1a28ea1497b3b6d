"""Where a position-independent program lies: against gdb, under every stub that runs programs."""

from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rsp
from lab import servers
from lab.gdb import Gdb
from rsp.testing.personalities import PLAIN
from rsp.testing.serve import StubTransport
from rsp.testing.stub import Stub
from rsp.wire import commands, replies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """
struct node { int value, more; } nodes[] = {{4, 1}, {3, 0}};
__attribute__((noinline)) int total(struct node *node)
{
    return node->value + (node->more ? total(node + 1) : 0);
}
int main(void) { return total(nodes); }
"""
# One without a library.
START = 'asm(".globl _start\\n_start: call main\\nmov %eax, %ebx\\nmov $1, %eax\\nint $0x80");'

live = pytest.mark.live("gcc", "gdb", "gdbserver")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return compiled(tmp_path / "program", "-pie")


def compiled(path: Path, *options: str, more: str = "") -> Path:
    source = path.with_suffix(".c")
    source.write_text(PROGRAM + more)
    subprocess.run(["gcc", "-g", "-O1", "-fPIE", "-o", path, source, *options], check=True)
    return path


@contextlib.contextmanager
def emulated(program: Path) -> Iterator[str]:
    socket = program.with_suffix(".socket")
    with subprocess.Popen(["qemu-x86_64", "-g", socket, program]) as process:
        try:
            while not socket.exists():
                assert process.poll() is None
                time.sleep(0.01)
            yield f"unix:{socket}"
        finally:
            process.kill()


def goes_through(address: str, program: Path) -> rsp.Symbol:
    """Break in a function and look at its data; return the function as it lies there."""
    with rsp.connect(address, symbols=program, timeout=20) as target:
        point = target.breakpoint("total")
        stop = target.resume(timeout=240)
        assert stop is not None
        assert (stop.breakpoint, stop.function) == (point, "total")
        assert [frame.function for frame in target.backtrace()] == ["total", "main"]
        assert int(target.value("node[1].value")) == 3
        point.remove()
        assert target.finish(timeout=240).return_value == 7
        return target.symbols["total"]


@live
@pytest.mark.parametrize("options", [("-pie",), ("-static-pie",), ("-no-pie", "-static")])
def test_symbols_lie_where_gdb_has_them(options: tuple[str, ...], tmp_path: Path) -> None:
    program = compiled(tmp_path / "program", *options)
    with servers.gdbserver_tcp(program) as address:
        ours = goes_through(address, program)
    with servers.gdbserver_tcp(program) as address:
        gdb = Gdb(address=address, symbols=program)
        theirs = gdb.run("break total", "continue", "p/x (long)&total")[-1]
    assert theirs == f"$1 = {ours.address:#x}"


@live
def test_32_bits(tmp_path: Path) -> None:
    program = compiled(tmp_path / "program", "-m32", "-static-pie", "-nostdlib", more=START)
    with servers.gdbserver_tcp(program) as address:
        ours = goes_through(address, program)
    assert ours.address > 0x1000_0000


@pytest.mark.live("gcc", "qemu-x86_64")
def test_under_the_emulator(program: Path) -> None:
    with emulated(program) as address:
        assert goes_through(address, program).address > 0x1_0000_0000


@pytest.mark.live("gcc", "valgrind", "vgdb")
def test_under_valgrind(program: Path) -> None:
    with servers.vgdb(program) as address:
        assert goes_through(address, program).address > 0x10_0000


@live
def test_another_program(program: Path, tmp_path: Path) -> None:
    other = compiled(tmp_path / "other", "-pie", more="int more = 1;")
    with (
        servers.gdbserver_tcp(program) as address,
        rsp.connect(address, symbols=other) as target,
    ):
        for _ in range(2):
            with pytest.raises(rsp.SymbolError, match="other is not the program that runs"):
                target.breakpoint("total")
        assert not target.breakpoints
        # What needs no symbols goes on.
        assert target.read_memory(target.registers.pc, 4)


@live
def test_where_it_lies_is_not_asked_for_if_it_was_said(program: Path, tmp_path: Path) -> None:
    with servers.gdbserver_tcp(program) as address, rsp.connect(address, symbols=program) as target:
        slide = target.symbols.slide
    log = tmp_path / "log"
    with (
        servers.gdbserver_tcp(program) as address,
        rsp.connect(address, symbols=program, slide=slide, record=log) as target,
    ):
        linked = rsp.SymbolTable(program)["total"].address
        assert target.symbols["total"].address == linked + slide
        assert target.until("total", timeout=60).function == "total"
    assert "$qXfer:auxv" not in log.read_text()


@live
@pytest.mark.parametrize("wrong", [0, 0x1000, -0x1000, 1 << 63])
def test_a_wrong_slide_is_noticed_by_the_build_id(program: Path, wrong: int) -> None:
    with (
        servers.gdbserver_tcp(program) as address,
        rsp.connect(address, symbols=program, slide=wrong) as target,
    ):
        for _ in range(2):
            with pytest.raises(
                rsp.SymbolError, match=rf"^slide {wrong:#x} is wrong: .* lies at 0x5.*leave slide="
            ):
                target.breakpoint("total")
        assert not target.breakpoints
        # What needs no symbols goes on.
        assert target.read_memory(target.registers.pc, 4)


@live
def test_a_slide_of_another_program_is_noticed(program: Path, tmp_path: Path) -> None:
    other = compiled(tmp_path / "other", "-pie", more="int other;")
    with servers.gdbserver_tcp(program) as address, rsp.connect(address, symbols=program) as target:
        slide = target.symbols.slide
    with (
        servers.gdbserver_tcp(program) as address,
        rsp.connect(address, symbols=other, slide=slide) as target,
        pytest.raises(rsp.SymbolError, match=r"is wrong: .*other is not there"),
    ):
        target.read_memory("total", 4)


def a_stub(auxv: bytes | None) -> Stub:
    stub = Stub(PLAIN, registers={"rip": 0x1000}, memory={0x1000: bytes(64)})

    def answer(_: Stub, command: commands.Command) -> replies.Reply | bytes | None:
        match command:
            case commands.QuerySupported():
                return b"PacketSize=1000;qXfer:auxv:read+"
            case commands.XferRead(object="auxv", offset=0) if auxv is not None:
                return replies.XferData(data=auxv, last=True)
        return None

    stub.hooks.append(answer)
    return stub


@pytest.mark.live("gcc")
def test_any_auxiliary_vector(tmp_path: Path) -> None:
    """It says nothing, then it is as linked; or another place, then it is another program."""
    program = compiled(tmp_path / "program", "-pie")
    linked = rsp.SymbolTable(program)["total"].address

    @given(st.none() | st.binary(max_size=80) | entries())
    def any_of_them(auxv: bytes | None) -> None:
        with rsp.connect(StubTransport(a_stub(auxv)), symbols=program) as target:
            found = None
            with contextlib.suppress(rsp.SymbolError):
                found = target.symbols["total"].address
            assert found in (linked, None)

    any_of_them()


def entries() -> st.SearchStrategy[bytes]:
    words = st.lists(st.tuples(st.sampled_from([0, 3, 9]), st.integers(0, (1 << 64) - 1)))
    return words.map(
        lambda pairs: b"".join(word.to_bytes(8, "little") for pair in pairs for word in pair)
    )
