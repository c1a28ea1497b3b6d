"""Backtraces on scripted machines: chains of frames, their ends, and stubs that do not play."""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rsp
from rsp.arch.modes import CpuMode
from rsp.errors import ConnectionLost, LocalProtocolError, RemoteProtocolError
from rsp.frames.frame import FrameKind
from rsp.testing.boot import ELF
from rsp.testing.cpu import Cpu, State
from rsp.testing.personalities import KGDB, PLAIN, QEMU
from rsp.testing.serve import connected
from rsp.testing.stub import Stub
from rsp.unwind.resumption import Resumption
from rsp.wire import commands

if TYPE_CHECKING:
    from rsp.arch.registers import Registers
    from rsp.testing.personalities import Personality
    from rsp.testing.stub import Answer

CODE = 0x40_0000
STACK = 0x7000_0000
CALLS = (b"\xe8" + bytes(4)) * 0x200  # every fifth address is behind a call


def returns_to(number: int) -> int:
    return CODE + 5 * number


def stack_of(frames: int, *, base: int = STACK, size: int = 8) -> bytes:
    """Return frame pointers and return addresses, each frame of four words."""
    words = []
    for number in range(1, frames + 1):
        last = number == frames
        words += [0 if last else base + 4 * size * number, returns_to(number % 0x1FE + 2), 7, 7]
    words += [0, 0]
    return b"".join(word.to_bytes(size, "little") for word in words)


def stub_of(
    stack: bytes,
    personality: Personality = PLAIN,
    *,
    base: int = STACK,
    registers: dict[str, int] | None = None,
    threads: dict[str, Cpu] | None = None,
) -> Stub:
    return Stub(
        personality,
        registers={"rip": CODE + 0x333, "rsp": base, "rbp": base} | (registers or {}),
        memory={base: stack, CODE: CALLS} if stack else {CODE: CALLS},
        program=[State(registers={"rip": CODE + 0x334})],
        threads=threads,
    )


def test_a_chain_of_frame_pointers_without_any_symbols() -> None:
    with connected(stub_of(stack_of(5))) as target:
        found = target.backtrace()
    assert [frame.pc for frame in found] == [
        CODE + 0x333,
        *(returns_to(number + 2) for number in range(1, 6)),
    ]
    assert [frame.level for frame in found] == list(range(6))
    assert found[1].registers["rsp"] == STACK + 16
    assert found[1].registers["rbp"] == STACK + 32
    assert found[1].registers["rbx"] is None
    assert (found[1].function, found[1].offset, found[1].line) == (None, None, None)
    assert found[1].arguments == found[1].locals == ()
    assert str(found).splitlines()[1] == "#1  0x000000000040000f in ?? ()"
    assert str(found[-1:][0]) == str(found[5])
    assert found.complete
    assert found.end_reason == f"the frame pointer is 0 at {found[5].pc:#x}"
    assert len(str(found).splitlines()) == 6


@pytest.mark.parametrize(
    ("mode", "size", "code_base", "base"),
    [
        (CpuMode.PROTECTED32, 4, 0, 0x9_0000),
        (CpuMode.REAL16, 2, 0x1_0000, 0x2_0100),
    ],
)
def test_code_of_32_and_16_bits(mode: CpuMode, size: int, code_base: int, base: int) -> None:
    """In 16 bits, addresses are offsets in the segments of code and stack."""
    call = b"\xe8" + bytes(size)
    at = base - 0x2_0000 if size == 2 else base
    words = [at + 4 * size, 0x1000 + len(call), 0, 0, 0, 0x1000 + 3 * len(call), 0, 0]
    stub = Stub(
        QEMU,
        mode=mode,
        registers={"rip": 0x1100, "rsp": at, "rbp": at, "cs": 0x1000, "ss": 0x2000},
        memory={
            base: b"".join(word.to_bytes(size, "little") for word in words),
            code_base + 0x1000 - 16: bytes(16) + call * 8,
        },
    )
    with connected(stub) as target:
        found = target.backtrace()
    assert [frame.pc - code_base for frame in found] == [0x1100, *words[1::4]]
    assert str(found[0]) == f"{code_base + 0x1100:#010x} in ?? ()"


def test_the_ends_of_the_stack_of_who_sleeps() -> None:
    def knows(registers: Registers) -> Resumption:
        return Resumption(
            registers={"rip": CODE + 0x333, "rsp": registers.sp, "rbp": registers["rbp"] or 0}
        )

    threads = {"01": Cpu({"rsp": STACK, "rbp": STACK}, name="init")}
    with connected(stub_of(stack_of(20), KGDB, threads=threads)) as target:
        target.inferior.thread_unwinders.append(knows)
        sleeper = target.threads[-1]
        assert len(sleeper.backtrace()) == 21
        assert [frame.level for frame in sleeper.backtrace(outermost=2)] == [19, 20]
        assert [frame.level for frame in sleeper.backtrace(limit=3)] == [0, 1, 2]


def test_a_stack_deeper_than_anybody_s() -> None:
    with connected(stub_of(stack_of(5000))) as target:
        found = target.backtrace()
        assert found.end_reason == "there are more than 4096 frames"
        assert len(found) == 4096


@pytest.mark.parametrize("personality", [PLAIN, QEMU, KGDB], ids=lambda who: who.name)
def test_the_stack_is_read_in_few_requests(personality: Personality) -> None:
    stub = stub_of(stack_of(20).ljust(4096, b"\0"), personality)
    with connected(stub) as target:
        target.registers  # noqa: B018 - the request is wanted
        stub.received.clear()
        assert len(target.backtrace()) == 21
        reads = [packet for packet in stub.received if packet[:1] == b"m"]
        # 20 frames of 32 bytes; others take 128 at once. The rest: the code before each return.
        code = [packet for packet in reads if int(packet[1:].split(b",")[0], 16) < STACK]
        assert len(reads) - len(code) <= (1 if personality is QEMU else 6)
        assert len(code) <= 20


@pytest.mark.parametrize(
    ("stack", "registers", "reason"),
    [
        (b"", {}, f"memory at {STACK:#x} cannot be read"),
        (b"", {"rsp": (1 << 64) - 4, "rbp": (1 << 64) - 4}, "cannot be read"),
        (stack_of(1)[:8], {}, f"memory at {STACK + 8:#x} cannot be read"),
        (bytes(16), {}, "the return address is 0"),
        (stack_of(3), {"rbp": 7}, "there is no frame pointer"),
        (stack_of(3), {"rbp": STACK + 8}, "is no return address"),
    ],
)
def test_one_frame_where_the_stack_is_wild(
    stack: bytes, registers: dict[str, int], reason: str
) -> None:
    with connected(stub_of(stack, registers=registers)) as target:
        found = target.backtrace()
    assert len(found) == 1
    assert reason in found.end_reason


def test_every_thread_has_its_own_stack() -> None:
    other = Cpu({"rip": CODE + 9, "rsp": STACK + 0x1000, "rbp": STACK + 0x1000})
    memory = stack_of(2).ljust(0x1000, b"\0") + stack_of(4, base=STACK + 0x1000)
    stub = stub_of(memory, QEMU, threads={"02": other})
    with connected(stub) as target:
        assert [len(thread.backtrace()) for thread in target.threads] == [3, 5]
        assert target.thread is not None
        assert target.thread == target.threads[0]
        assert len(target.backtrace()) == 3


def test_a_program_of_a_known_image() -> None:
    """The functions of the boot sector have call frame information."""
    table = rsp.SymbolTable(ELF)
    tick, back = table["tick"].address, table.locations("boot.S:171")[0].address
    stub = Stub(registers={"rip": tick, "rsp": 0x6000}, memory={0x6000: back.to_bytes(8, "little")})
    with rsp.connect(_line(stub), symbols=table) as target:
        found = target.backtrace()
        assert [frame.function for frame in found] == ["tick", "long_start"]
        assert [frame.offset for frame in found] == [0, back - table["long_start"].address]
        assert [frame.file for frame in found] == ["rsp/testing/boot/boot.S"] * 2
        assert (found.end_reason, found.complete) == ("the outermost frame", True)
        assert str(found).splitlines()[0] == f"#0  tick () at {table.line(tick)}"


def test_a_frame_that_calls_itself_is_no_endless_loop() -> None:
    """The image says that the caller is 8 bytes up, and there is tick, and tick, and tick."""
    table = rsp.SymbolTable(ELF)
    tick = table["tick"].address
    stub = Stub(
        registers={"rip": tick + 1, "rsp": 0x6000},
        memory={0x6000: (tick + 1).to_bytes(8, "little") * 512},
    )
    with rsp.connect(_line(stub), symbols=table) as target:
        found = target.backtrace()
    assert len(found) == 513
    assert found.end_reason == "memory at 0x7000 cannot be read"


def test_what_was_read_stays_when_the_target_runs_on() -> None:
    with connected(stub_of(stack_of(3), QEMU)) as target:
        found = target.backtrace()
        before = str(found)
        target.step(timeout=5)
        assert str(found) == before
        assert found[0].pc == CODE + 0x333
        assert target.backtrace()[0].pc == CODE + 0x334


def test_a_running_target_has_no_backtrace() -> None:
    stub = Stub(registers={"rip": CODE})
    with connected(stub) as target:
        thread = target.threads[0]
        target.resume(wait=False)
        with pytest.raises(LocalProtocolError):
            target.backtrace()
        with pytest.raises(LocalProtocolError):
            thread.backtrace()
        target.interrupt()


def test_a_stub_that_refuses_all_memory() -> None:
    def refuse(_: Stub, command: commands.Command) -> Answer | None:
        return b"E0e" if isinstance(command, commands.ReadMemory) else None

    stub = stub_of(stack_of(3))
    stub.hooks.append(refuse)
    with connected(stub) as target:
        found = target.backtrace()
    assert (len(found), found.end_reason) == (1, f"memory at {STACK:#x} cannot be read")


@pytest.mark.parametrize("answer", [b"zz", b"1234567", b"OK", b"12" * 3000, b""])
def test_a_stub_that_answers_nonsense(answer: bytes) -> None:
    stub = stub_of(stack_of(3))
    stub.hooks.append(
        lambda _, command: answer if isinstance(command, commands.ReadMemory) else None
    )
    with contextlib.suppress(RemoteProtocolError):  # then the connection is lost
        with rsp.connect(_line(stub), timeout=0.3) as target:
            found = target.backtrace()
            assert len(found) == 1
            assert found.end_reason
        return
    assert not target.session.usable


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ConnectionLost])
def test_ctrl_c_and_the_end_of_the_line_go_through(failure: type[BaseException]) -> None:
    stub = stub_of(stack_of(3))

    def fail(_: Stub, command: commands.Command) -> Answer | None:
        if isinstance(command, commands.ReadMemory):
            if failure is KeyboardInterrupt:
                raise KeyboardInterrupt
            stub.dead = True
        return None

    with rsp.connect(_line(stub)) as target:
        stub.hooks.append(fail)
        with pytest.raises(failure):
            target.backtrace()
        stub.hooks.clear()


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32), image=st.booleans())
def test_garbage_always_has_an_end(*, seed: int, image: bool) -> None:
    """Words that point into code, into the stack and nowhere, under registers of the same kind."""
    chance = random.Random(seed)
    kinds = (
        lambda: 0x7CC7 + chance.randrange(0x60),
        lambda: returns_to(chance.randrange(0x200)),
        lambda: STACK + chance.randrange(0x800),
        lambda: chance.getrandbits(64),
        lambda: chance.randrange(16),
    )
    stack = b"".join(chance.choice(kinds)().to_bytes(8, "little") for _ in range(0x100))
    registers = {name: chance.choice(kinds)() for name in ("rip", "rbp", "rsp", "rbx", "rdi")}
    stub = stub_of(stack, QEMU, registers=registers)
    table = rsp.SymbolTable(ELF) if image else None
    with rsp.connect(_line(stub), symbols=table) as target:
        found = target.backtrace()
        assert 1 <= len(found) <= 4097
        assert found.end_reason
        assert str(found).startswith("#0  ")
        assert {frame.kind for frame in found} <= {FrameKind.FUNCTION, FrameKind.ENTRY}


def _line(stub: Stub) -> rsp.Transport:
    from rsp.testing.serve import StubTransport

    return StubTransport(stub)
