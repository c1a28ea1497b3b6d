"""Registers that a stub describes in another way than QEMU and gdbserver do."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

import rsp
from rsp.arch.description import parse_target_description
from rsp.arch.layouts import LAYOUTS
from rsp.testing.cpu import State
from rsp.testing.personalities import PLAIN
from rsp.testing.serve import StubTransport, connected
from rsp.testing.stub import Stub, assert_harmless
from rsp.wire import commands
from rsp.wire.features import Features

CORE = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip"),
)
CORE_32 = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip")
WORDS = ("eflags", "cs", "ss", "ds", "es", "fs", "gs")
SIZE = 17 * 8 + 7 * 4


def document(
    *features: tuple[str, str], architecture: str = "i386:x86-64", tail: bytes = b""
) -> bytes:
    text = f"<target><architecture>{architecture}</architecture>"
    for name, registers in features:
        text += f'<feature name="org.gnu.gdb.i386.{name}">{registers}</feature>'
    return b'<?xml version="1.0"?>' + text.encode() + b"</target>" + tail


def reg(name: str, bits: int, more: str = "") -> str:
    return f'<reg name="{name}" bitsize="{bits}" {more}/>'


STANDARD = "".join(reg(name, 64) for name in CORE) + "".join(reg(name, 32) for name in WORDS)


def described(
    xml: bytes, registers: bytes, features: dict[str, str | bool | None] | None = None
) -> Stub:
    """Return a stub that describes itself so, and sends this in ``g``."""
    offered: dict[str, str | bool | None] = {"PacketSize": "4000", "qXfer:features:read": True}
    stub = Stub(
        replace(PLAIN, features=Features(offered | (features or {})), packet_size=0x4000),
        memory={0x1000: bytes(0x100)},
        program=[State(registers={"rip": 0x1001})],
    )

    def answer(_: Stub, command: commands.Command) -> bytes | None:
        match command:
            case commands.XferRead(object="features", offset=start, length=length):
                part = xml[start : start + length]
                return (b"l" if start + length >= len(xml) else b"m") + part
            case commands.ReadRegisters():
                return registers.hex().encode()
        return None

    stub.hooks.append(answer)
    return stub


def block(**values: int) -> bytes:
    words = struct.pack("<17Q", *(values.get(name, 0) for name in CORE))
    return words + struct.pack("<7I", *(values.get(name, 0) for name in WORDS))


# --- beside g ---


def with_orig_rax(answer: bytes) -> Stub:
    stub = described(document(("core", STANDARD), ("linux", reg("orig_rax", 64))), block(rax=1))
    stub.hooks.insert(
        0,
        lambda _, command: (
            answer if isinstance(command, commands.ReadRegister) and command.number == 24 else None
        ),
    )
    return stub


def test_a_register_that_g_does_not_have_is_asked_for_when_it_is_read() -> None:
    stub = with_orig_rax(struct.pack("<Q", 202).hex().encode())
    with connected(stub) as target:
        registers = target.registers
        assert registers["rax"] == 1
        assert b"p18" not in stub.received
        assert registers["orig_rax"] == 202
        assert registers["orig_rax"] == 202
        assert stub.received.count(b"p18") == 1
        assert dict(registers)["orig_rax"] == 202
        assert "orig_rax       0xca" in str(registers)


@pytest.mark.parametrize("answer", [b"E01", b"", b"xxxxxxxxxxxxxxxx", b"ca", b"what?"])
def test_a_register_that_nothing_gives_is_unavailable(answer: bytes) -> None:
    with connected(with_orig_rax(answer)) as target:
        assert target.registers["orig_rax"] is None
        assert target.read_memory(0x1000, 4) == bytes(4)


def test_a_register_of_an_earlier_stop_is_not_asked_of_a_later_one() -> None:
    stub = with_orig_rax(struct.pack("<Q", 202).hex().encode())
    with connected(stub) as target:
        before = target.registers
        target.step(timeout=5)
        assert before["orig_rax"] is None
        assert target.registers["orig_rax"] == 202


def test_a_register_that_is_marked_in_g_is_not_asked_for() -> None:
    stub = described(document(("core", STANDARD)), block())
    stub.hooks.insert(
        0,
        lambda _, command: (
            b"xx" * 8 + block().hex()[16:].encode()
            if isinstance(command, commands.ReadRegisters)
            else None
        ),
    )
    with connected(stub) as target:
        assert target.registers["rax"] is None
        assert not any(packet.startswith(b"p") for packet in stub.received)


# --- as lldb-server has it ---

PLACES = {"r15": 0, "rax": 8, "rip": 16, "rflags": 24, "rsp": 40, "cs": 48}
LLDB = "".join(
    reg(name, 64, f'regnum="{number}" offset="{PLACES[name]}"')
    for number, name in enumerate(("rax", "rip", "rsp", "rflags", "cs", "r15"))
)
LLDB += reg("eax", 32, 'regnum="6" offset="8" value_regnums="0"')
LLDB += reg("fip", 64, 'regnum="7" offset="44"')


def lldb_block() -> bytes:
    data = bytearray(56)
    for value, place in enumerate(PLACES.values(), 0x100):
        struct.pack_into("<Q", data, place, value)
    return bytes(data)


def test_registers_lie_where_the_description_says() -> None:
    xml = document(("x", LLDB), architecture="x86_64")
    stub = described(xml, lldb_block(), {"PacketSize": "1000", "native-signals": True})
    stub.answers[b"?"] = b"T13thread:01;name:prog;reason:signal;"
    stub.answers[b"p7"] = struct.pack("<Q", 0x77).hex().encode()
    stub.answers[b"D"] = b"OK"
    with rsp.connect(StubTransport(stub)) as target:
        assert target.stub.name == "lldb-server"
        assert target.stop.signal_name == "SIGSTOP"
        assert target.stub.packet_size == 1000  # it means decimal
        assert target.arch.name == "x86-64"
        registers = target.registers
        shown = [registers[name] for name in ("r15", "rax", "rip", "eflags", "rsp", "cs", "rflags")]
        assert shown == [0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x103]
        assert (registers.pc, registers.sp, int(registers.flags)) == (0x102, 0x104, 0x103)
        assert (registers["eax"], registers["al"]) == (0x101, 1)
        assert registers["fip"] == 0x77  # it lies on others: asked for by its number
    assert_harmless(stub)


def test_a_signal_goes_back_to_lldb_server_by_its_number() -> None:
    xml = document(("x", LLDB), architecture="x86_64")
    stub = described(xml, lldb_block(), {"native-signals": True})
    stub.answers[b"c"] = b"T0athread:01;"  # SIGUSR1 of Linux, SIGBUS of gdb
    stub.answers[b"C0a"] = b"X0c"
    with rsp.connect(StubTransport(stub)) as target:
        assert target.resume(timeout=5).signal_name == "SIGUSR1"
        stop = target.resume(timeout=5)
        assert (stop.reason, stop.signal_name) == (rsp.StopReason.TERMINATED, "SIGUSR2")


# --- what a description may be like ---


@pytest.mark.parametrize("tail", [b"\0", b"\0\0\0\0", b"\n\0"])
def test_a_description_with_the_end_of_a_string_of_c(tail: bytes) -> None:
    layout = parse_target_description(lambda _: document(("core", STANDARD), tail=tail)).layout()
    assert layout is not None
    assert layout.size == SIZE


@pytest.mark.parametrize(
    ("architecture", "features", "size"),
    [
        ("i386:x86-64", "sse", 536),
        ("i386:x86-64", "core sse", 536),
        ("i386:x86-64", "sse segments", 552),
        ("i386:x86-64", "core sse linux segments", 560),
        ("i386:x86-64", "core segments sse", 552),
        ("i386:x86-64", "avx", 536 + 256),
        ("x86_64", "core sse segments avx pkeys", 552 + 256 + 4),
        ("i386", "sse", 308),
        ("i8086", "core", 308 - 8 * 16 - 4),
        ("i386", "core sse linux avx", 312 + 128),
    ],
)
def test_a_feature_that_is_only_named_has_the_standard_registers(
    architecture: str, features: str, size: int
) -> None:
    xml = document(*((name, "") for name in features.split()), architecture=architecture)
    layout = parse_target_description(lambda _: xml).layout()
    assert layout is not None
    assert layout.size == size
    assert ("orig_rax" in layout or "orig_eax" in layout) == ("linux" in features)


def test_named_features_come_in_their_order() -> None:
    xml = document(("core", STANDARD), ("segments", ""), ("sse", ""))
    layout = parse_target_description(lambda _: xml).layout()
    assert layout is not None
    base, vector = layout["fs_base"], layout["xmm0"]
    assert isinstance(base, rsp.Register)
    assert isinstance(vector, rsp.Register)
    assert (base.offset, base.number) == (SIZE, 24)
    assert (vector.offset, vector.number) == (SIZE + 16, 26)


def test_no_feature_at_all_says_nothing_of_the_registers() -> None:
    """Of gdbserver, to a client that takes none."""
    assert parse_target_description(lambda _: document()).layout() is None


def test_a_rust_gdbstub_that_names_a_feature_is_of_a_known_layout() -> None:
    layout = parse_target_description(lambda _: document(("sse", ""))).layout()
    assert layout is next(each for each in LAYOUTS if each.name == "qemu-2-x86-64")


def test_the_tls_descriptors_of_gdbserver_18() -> None:
    core = "".join(reg(f"e{name}", 32) for name in ("ax", "ip", "sp"))
    tls = "".join(reg(f"i386_tls_gdt_{n}", 128) for n in range(3))
    xml = document(("core", core), ("linux.tls", tls), architecture="i386")
    layout = parse_target_description(lambda _: xml).layout()
    assert layout is not None
    values = layout.decode(bytes(12) + bytes(range(48)))
    assert values["i386_tls_gdt_2"] == int.from_bytes(bytes(range(32, 48)), "little")
    assert layout["i386_tls_gdt_0"].group == "system"  # type: ignore[union-attr]  # a Register


# --- in real mode ---

I386 = "".join(reg(name, 32) for name in (*CORE_32, *WORDS))


def real(eip: int, cs: int, architecture: str, *, cr0: bool = False) -> Stub:
    words = [0] * 16
    words[8:11] = [eip, 2, cs]
    xml = document(("core", I386 + (reg("cr0", 32) if cr0 else "")), architecture=architecture)
    data = struct.pack("<16I", *words) + (struct.pack("<I", 0x10) if cr0 else b"")
    return described(xml, data)


@pytest.mark.parametrize(
    ("eip", "cs", "architecture", "cr0", "pc"),
    [
        (0x5, 0x7C0, "i386", True, 0x7C05),  # an offset
        (0x7C05, 0x7C0, "i8086", True, 0x7C05),  # 86Box adds them up
        (0x7C05, 0x7C0, "i8086", False, 0x7C05),
        (0xFE05B, 0xF000, "i386", True, 0xFE05B),  # no offset is as large
        (0xFFF0, 0xF000, "i386", True, 0xFFFFFFF0),
    ],
)
def test_a_pc_that_is_linear_is_not_based_again(
    eip: int, cs: int, architecture: str, cr0: bool, pc: int
) -> None:
    with connected(real(eip, cs, architecture, cr0=cr0)) as target:
        assert target.registers.pc == pc
        assert target.registers["eip"] == eip


@pytest.mark.parametrize("cr0", [True, False])
@pytest.mark.parametrize("architecture", ["i386", "i8086"])
@pytest.mark.parametrize(("eip", "cs"), [(0x7C05, 0), (0x5, 0x7C0), (0x7C05, 0x7C0)])
def test_a_breakpoint_that_is_hit_in_real_mode_is_recognized(
    eip: int, cs: int, architecture: str, cr0: bool
) -> None:
    """Wherever the stub puts the pc: 0:7c05, 7c0:5, or added up."""
    stub = real(eip, cs, architecture, cr0=cr0)
    stub.answers[b"c"] = b"T05thread:01;"
    stub.answers[b"s"] = b"T05thread:01;"
    with connected(stub) as target, target.breakpoint(0x7C05) as point:
        stop = target.resume(timeout=5)
        assert stop.breakpoint is point
        assert target.registers.pc == 0x7C05
        # And it is stepped over from there.
        stub.received.clear()
        target.resume(timeout=5)
        resumes = [packet for packet in stub.received if packet[:1] in (b"s", b"c", b"z", b"Z")]
        assert [packet[:1] for packet in resumes] == [b"z", b"s", b"Z"]
