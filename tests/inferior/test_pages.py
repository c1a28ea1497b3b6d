"""The pages of a stop: each is read once, and no more than that where bytes cost time."""

from __future__ import annotations

import pytest

import rsp
from rsp.testing.cpu import State
from rsp.testing.faults import FaultyTransport
from rsp.testing.personalities import GDBSERVER, KGDB, PLAIN, QEMU, Personality
from rsp.testing.serve import connected
from rsp.testing.stub import Stub
from rsp.wire import commands, replies

BASE = 0x10000
CONTENT = bytes(i * 7 + (i >> 8) & 0xFF for i in range(0x3000))


def stub_of(personality: Personality = QEMU) -> Stub:
    return Stub(
        personality,
        registers={"rip": 0x1000},
        memory={BASE: CONTENT},
        program=[State(registers={"rip": 0x1001})],
    )


def asked(stub: Stub) -> list[tuple[int, int]]:
    """Return what is asked of a stub from now on: address and length of each read."""
    reads: list[tuple[int, int]] = []

    def note(stub: Stub, command: commands.Command) -> replies.Reply | None:
        if isinstance(command, commands.ReadMemory):
            reads.append((command.address, command.length))
        return None

    stub.hooks.append(note)
    return reads


@pytest.mark.parametrize("personality", [QEMU, GDBSERVER, PLAIN], ids=lambda who: who.name)
def test_a_page_is_read_once(personality: Personality) -> None:
    stub = stub_of(personality)
    with connected(stub) as target:
        reads = asked(stub)
        assert target.pages.read(BASE + 0x1010, 8) == CONTENT[0x1010:0x1018]
        assert sum(length for _, length in reads) == 0x1000
        assert min(reads)[0] == BASE + 0x1000
        del reads[:]
        assert target.pages.read(BASE + 0x1000, 0x1000) == CONTENT[0x1000:0x2000]
        assert target.read_memory(BASE + 0x1FFF, 1) == CONTENT[0x1FFF:0x2000]
        assert reads == []
        assert target.pages.read(BASE + 0xFFE, 4) == CONTENT[0xFFE:0x1002]
        assert {at & ~0xFFF for at, _ in reads} == {BASE}


@pytest.mark.parametrize("known", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_of_several_pages_only_those_that_are_not_known_are_read(known: tuple[int, ...]) -> None:
    stub = stub_of()
    with connected(stub) as target:
        for page in known:
            target.pages.read(BASE + page * 0x1000, 1)
        reads = asked(stub)
        assert target.pages.read(BASE + 0xFF0, 0x1020) == CONTENT[0xFF0:0x2010]
        missing = {page for page in range(3) if page not in known}
        assert {(at - BASE) // 0x1000 for at, _ in reads} == missing
        assert sum(size for _, size in reads) == 0x1000 * len(missing)
        del reads[:]
        assert target.pages.read(BASE, 0x3000) == CONTENT
        assert reads == []


def test_a_fault_behind_pages_that_are_known() -> None:
    stub = stub_of()
    stub.memory.unmap(BASE + 0x2000, 0x1000)
    with connected(stub) as target:
        target.pages.read(BASE, 1)
        for read in (target.pages.read, target.read_memory):
            with pytest.raises(rsp.MemoryFault) as caught:
                read(BASE + 0xFF0, 0x1020)
            assert caught.value.address == BASE + 0x2000
            assert caught.value.partial == CONTENT[0xFF0:0x2000]


def test_only_what_is_asked_for_is_read_exactly() -> None:
    stub = stub_of()
    with connected(stub) as target:
        reads = asked(stub)
        assert target.read_memory(BASE + 0x10, 4) == CONTENT[0x10:0x14]
        assert reads == [(BASE + 0x10, 4)]


def test_a_line_that_loses_bytes_is_asked_for_no_more_than_is_wanted() -> None:
    stub = Stub(
        KGDB,
        registers={"rip": 0x1000},
        memory={BASE: CONTENT},
        program=[State(registers={"rip": 0x1001})],
        thread="fffffffe",
    )
    with connected(stub, line=FaultyTransport) as target:  # which loses none here
        reads = asked(stub)
        assert target.pages.read(BASE + 0x10, 4) == CONTENT[0x10:0x14]
        assert reads == [(BASE + 0x10, 4)]


def test_a_page_that_cannot_be_read() -> None:
    stub = stub_of()
    stub.memory.unmap(BASE + 0x1000, 0x1000)
    with connected(stub) as target:
        with pytest.raises(rsp.MemoryFault) as caught:
            target.pages.read(BASE + 0xFF0, 0x20)
        assert caught.value.address == BASE + 0x1000
        assert caught.value.partial == CONTENT[0xFF0:0x1000]
        assert target.pages.read(BASE + 0x2000, 4) == CONTENT[0x2000:0x2004]


def test_what_is_mapped_in_part_is_read_as_far_as_it_goes() -> None:
    # Stubs of programs may have less than a page; the bytes that are there are no fault.
    stub = stub_of(GDBSERVER)
    stub.memory.unmap(BASE + 0x1800, 0x800)
    with connected(stub) as target:
        assert target.pages.read(BASE + 0x1000, 16) == CONTENT[0x1000:0x1010]
        assert target.pages.read(BASE + 0x17F0, 16) == CONTENT[0x17F0:0x1800]


def test_what_was_read_is_forgotten_when_the_target_is_written_to_or_runs() -> None:
    stub = stub_of()
    with connected(stub) as target:
        target.pages.read(BASE, 4)
        target.write_memory(BASE, b"new!")
        assert target.pages.read(BASE, 4) == b"new!"
        target.step()
        stub.memory.map(BASE, b"then")
        assert target.pages.read(BASE, 4) == b"then"


def test_physical_memory_is_kept_apart() -> None:
    stub = stub_of()
    stub.physical_memory.map(0x1000, b"physical" + bytes(0xFF8))
    stub.physical_memory.map(BASE, bytes(0x1000))
    with connected(stub) as target:
        assert target.pages.read(BASE, 4) == CONTENT[:4]
        assert target.pages.read(0x1000, 8, physical=True) == b"physical"
        reads = asked(stub)
        assert target.pages.read(0x1004, 4, physical=True) == b"ical"
        assert reads == []
        assert target.pages.read(BASE, 4, physical=True) == bytes(4)
        assert target.pages.read(BASE, 4) == CONTENT[:4]


def test_a_running_target_has_no_pages() -> None:
    stub = stub_of()
    with connected(stub) as target:
        pages = target.pages
        pages.read(BASE, 4)
        target.resume(wait=False)
        with pytest.raises(rsp.LocalProtocolError, match="runs"):
            pages.read(BASE, 4)
        target.interrupt()


@pytest.mark.parametrize(("address", "length"), [(-1, 4), (0, -1), (1 << 64, 1), (0, 1 << 65)])
def test_ranges_outside_of_the_address_space(address: int, length: int) -> None:
    with (
        connected(stub_of()) as target,
        pytest.raises(rsp.ArgumentError, match=r"64 bits|^length is "),
    ):
        target.pages.read(address, length)
