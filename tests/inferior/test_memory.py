"""Reads and writes of any size, cut as the stub takes them; the first bad byte is told exactly."""

from __future__ import annotations

import io
from array import array
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rsp
from rsp.errors import MemoryFault
from rsp.testing.cpu import Cpu, State
from rsp.testing.memory import SparseMemory
from rsp.testing.personalities import (
    BOCHS,
    GDBSERVER,
    GDBSERVER_ACKS,
    KGDB,
    PLAIN,
    QEMU,
    RUST_GDBSTUB,
    VIRTUALBOX,
    Personality,
)
from rsp.testing.serve import connected, listening
from rsp.testing.stub import Stub
from rsp.wire import commands, replies

BASE = 0x10000
CONTENT = bytes(i * 7 + (i >> 8) & 0xFF for i in range(0x3000))
ALL = [QEMU, KGDB, VIRTUALBOX, GDBSERVER, GDBSERVER_ACKS, RUST_GDBSTUB, PLAIN]


def stub_of(personality: Personality = PLAIN) -> Stub:
    return Stub(
        personality,
        registers={"rip": 0x1000},
        memory={BASE: CONTENT},
        program=[State(registers={"rip": 0x1001})],
        threads={"fffffffd": Cpu()} if personality is KGDB else {},
        thread="fffffffe" if personality is KGDB else "01",
    )


@pytest.mark.parametrize("personality", [*ALL, BOCHS], ids=lambda who: who.name)
@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, 1), (1, 5000), (0xFFF, 2), (0, 0x3000), (0x2FFF, 1)]
)
def test_reads_of_any_size(personality: Personality, offset: int, length: int) -> None:
    with connected(stub_of(personality)) as target:
        data = target.read_memory(BASE + offset, length)
        assert data == CONTENT[offset : offset + length]
        target.invalidate()
        assert target.read_memory(BASE + offset, length) == data


@settings(max_examples=50)
@given(st.data())
def test_the_first_bad_byte_is_found_wherever_it_is(data: st.DataObject) -> None:
    """With stubs that fail as a whole and those that answer what is before the hole.

    QEMU and kgdb read what is mapped by the page tables: there a hole is a page, or more.
    """
    personality = data.draw(st.sampled_from([QEMU, KGDB, GDBSERVER, PLAIN]))
    stub = stub_of(personality)
    start = data.draw(st.integers(0, 0x2000))
    length = data.draw(st.integers(1, 0x1000))
    hole = data.draw(st.integers(start, start + length - 1))
    if personality in (QEMU, KGDB):
        page = hole & ~0xFFF
        stub.memory.unmap(BASE + page, 0x1000)
        hole = max(start, page)
    else:
        stub.memory.unmap(BASE + hole, data.draw(st.integers(1, 100)))
    with connected(stub) as target:
        for _ in range(2):  # the second time from the cache, in part
            with pytest.raises(MemoryFault) as caught:
                target.read_memory(BASE + start, length)
            assert caught.value.address == BASE + hole
            assert caught.value.partial == CONTENT[start:hole]
        assert target.read_memory(BASE + start, hole - start) == CONTENT[start:hole]


@pytest.mark.parametrize("most", [1, 7, 64])
def test_a_stub_that_answers_fewer_bytes_than_were_asked_for(most: int) -> None:
    stub = stub_of()

    def short(stub: Stub, command: commands.Command) -> replies.Reply | None:
        if not isinstance(command, commands.ReadMemory):
            return None
        return replies.MemoryData(data=stub.memory.read(command.address, min(command.length, most)))

    stub.hooks.append(short)
    with connected(stub) as target:
        assert target.read_memory(BASE, 1000) == CONTENT[:1000]


def test_a_stub_that_answers_more_bytes_than_were_asked_for() -> None:
    """It is one answer behind, or broken; pyrsp gives out what came."""
    stub = stub_of()
    stub.answers[b"m10000,4"] = b"0011223344"
    with connected(stub) as target, pytest.raises(rsp.RemoteProtocolError, match="5 bytes"):
        target.read_memory(BASE, 4)


def test_memory_is_asked_for_once_a_stop() -> None:
    stub = stub_of()
    with connected(stub) as target:
        for _ in range(3):
            assert target.read_memory(BASE, 64) == CONTENT[:64]
            assert target.read_u32(BASE + 8) == int.from_bytes(CONTENT[8:12], "little")
        assert reads(stub) == 1
        stub.memory.map(BASE, b"changed")
        assert target.read_memory(BASE, 7) == CONTENT[:7]
        target.invalidate()
        assert target.read_memory(BASE, 7) == b"changed"
        assert reads(stub) == 2


def test_what_was_written_is_read_back_from_the_stub() -> None:
    stub = stub_of()
    with connected(stub) as target:
        target.read_memory(BASE, 64)
        target.write_memory(BASE + 8, b"written")
        assert target.read_memory(BASE, 64)[8:15] == b"written"


def test_a_step_makes_the_memory_unknown() -> None:
    stub = stub_of()
    with connected(stub) as target:
        target.read_memory(BASE, 64)
        stub.memory.map(BASE, b"by the step")
        target.step()
        assert target.read_memory(BASE, 11) == b"by the step"


def reads(stub: Stub) -> int:
    return Counter(payload[:1] for payload in stub.received)[b"m"]


@settings(max_examples=30)
@given(st.integers(0, 0x1000), st.binary(max_size=3000), st.sampled_from(ALL))
def test_writes_of_any_size(offset: int, data: bytes, personality: Personality) -> None:
    stub = stub_of(personality)
    with connected(stub) as target:
        target.write_memory(BASE + offset, data)
        assert stub.memory.read(BASE + offset, len(data)) == data
        assert target.read_memory(BASE + offset, len(data)) == data
        outside = stub.memory.read(BASE + offset + len(data), 16)
        assert outside == CONTENT[offset + len(data) :][:16]


def test_strings() -> None:
    stub = stub_of()
    stub.memory.map(0x20FF0, b"end of memory\0")
    stub.memory.map(0x30FFA, b"no end")
    stub.memory.map(0x40000, bytes(range(1, 200)) + b"\0")
    with connected(stub) as target:
        assert target.read_c_string(0x20FF0) == b"end of memory"
        assert target.read_c_string(0x40000) == bytes(range(1, 200))
        assert target.read_c_string(0x40000, max_size=5) == b"\1\2\3\4\5"
        assert target.read_c_string(0x40000 + 199) == b""
        with pytest.raises(MemoryFault) as caught:
            target.read_c_string(0x30FFA)
        assert (caught.value.address, caught.value.partial) == (0x31000, b"no end")


def test_memory_as_a_file_into_items_of_several_bytes() -> None:
    with connected(stub_of()) as target:
        memory = target.memory
        memory.seek(BASE)
        words = array("I", bytes(16))
        assert memory.readinto(words) == 16
        assert words.tobytes() == CONTENT[:16]
        memory.seek(BASE + 0x100)
        assert memory.write(words) == 16
        assert target.read_memory(BASE + 0x100, 16) == CONTENT[:16]


def test_memory_as_a_file() -> None:
    with connected(stub_of()) as target:
        memory = target.memory
        memory.seek(BASE + 0x2FFC)
        assert memory.read(4) == CONTENT[-4:]
        assert memory.tell() == BASE + 0x3000
        memory.seek(-2, io.SEEK_CUR)
        assert memory.read(100) == CONTENT[-2:]
        with pytest.raises(MemoryFault):
            memory.read(1)
        memory.seek(BASE)
        assert memory.write(b"xyz") == 3
        assert target.read_memory(BASE, 3) == b"xyz"
        with pytest.raises(rsp.LocalProtocolError):
            memory.seek(-1)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("personality", [QEMU, GDBSERVER_ACKS], ids=lambda who: who.name)
def test_a_pipelined_read_over_a_socket(personality: Personality, kind: str) -> None:
    stub = Stub(personality, registers={"rip": 1}, memory={0: CONTENT * 40})
    address = listening(stub, "tcp" if kind == "tcp" else "unix")
    with address as where, rsp.connect(where, timeout=10) as target:
        assert target.read_memory(0, len(CONTENT) * 40) == CONTENT * 40
    assert stub.violations == []


@given(
    st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 3000), st.booleans()), max_size=8),
    st.integers(0, 9000),
    st.integers(0, 6000),
)
def test_sparse_memory_is_a_map_of_bytes(
    changes: list[tuple[int, int, bool]], address: int, length: int
) -> None:
    memory, model = SparseMemory(), dict[int, int]()
    for start, size, mapped in changes:
        if mapped:
            memory.map(start, bytes([size & 0xFF]) * size)
            model.update(dict.fromkeys(range(start, start + size), size & 0xFF))
        else:
            memory.unmap(start, size)
            for place in range(start, start + size):
                model.pop(place, None)
    expected = bytearray()
    while len(expected) < length and address + len(expected) in model:
        expected.append(model[address + len(expected)])
    assert memory.read(address, length) == expected
