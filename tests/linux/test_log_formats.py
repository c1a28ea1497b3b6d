"""The log in its old and new forms: written as the kernel writes it, into memory of a real process.

Real DWARF describes the structures (tests/lab/programs/old_log.c); what is in them is written here
by small models of the kernel's own writers (kernel/printk/printk_ringbuffer.c, printk.c).
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rsp
from lab.structures import changed, put
from rsp.linux.log import LogRecord, read_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.structures import Structures
    from rsp.remote.target import Target

pytestmark = pytest.mark.live("gdbserver", "gcc")

COMMITTED, FINALIZED, REUSABLE, RESERVED = 1, 2, 3, 0
NO_TEXT, FAILED = 3, 1
TEXT_SIZE, COUNT = 256, 8


@pytest.fixture
def start(structures: Structures) -> Callable[..., Target]:
    """Start the program with macros."""
    return partial(structures, "old_log.c")


@dataclass
class Message:
    text: bytes
    level: int = 6
    facility: int = 0
    state: int = FINALIZED
    flags: int = 2
    failed: bool = False


texts = st.binary(max_size=60) | st.sampled_from([b"", b"a\nb", "é".encode(), b"x" * 40])
messages = st.builds(
    Message,
    texts,
    level=st.integers(0, 7),
    facility=st.integers(0, 23),
    state=st.sampled_from([COMMITTED, FINALIZED, FINALIZED, RESERVED]),
    failed=st.booleans(),
)


@dataclass
class Ring:
    """The ring of descriptors since 5.10, as its writers keep it."""

    word: int
    first_id: int

    def __post_init__(self) -> None:
        self.mask = (1 << 8 * self.word) - 1
        self.kept: list[tuple[int, Message, int, int, int]] = []  # id, message, begin, next, seq
        self.text = bytearray(TEXT_SIZE)
        self.head = self.tail = -TEXT_SIZE  # as BLK0_LPOS
        self.next = self.first_id
        self.number = 0

    def add(self, message: Message) -> None:
        if len(self.kept) == COUNT:
            self.drop()
        if not message.text:
            begin = end = NO_TEXT
        elif message.failed:
            begin = end = FAILED
        else:
            size = -(-(self.word + len(message.text)) // self.word) * self.word
            begin, end = self.head, self.head + size
            at = begin
            if begin // TEXT_SIZE != end // TEXT_SIZE:  # a block is never split
                at = end // TEXT_SIZE * TEXT_SIZE
                end = at + size
            while end - self.tail > TEXT_SIZE:
                self.drop()
            id_ = (self.next & self.mask >> 2).to_bytes(self.word, "little")
            at %= TEXT_SIZE
            self.text[at : at + self.word] = id_
            self.text[at + self.word : at + self.word + len(message.text)] = message.text
            self.head = end
        self.kept.append((self.next, message, begin, end, self.number))
        self.next += 1
        self.number += 1

    def drop(self) -> None:
        if self.kept:
            _, message, _, end, _ = self.kept.pop(0)
            if message.text and not message.failed:
                self.tail = end
        else:
            self.tail = self.head

    def store(self, target: Target) -> None:
        word = "Q" if self.word == 8 else "I"
        ids = self.mask >> 2
        descs, infos = [(0, 0, 0)] * COUNT, [bytes(88)] * COUNT
        for id_, message, begin, end, number in self.kept:
            state = message.state << 8 * self.word - 2 | id_ & ids
            descs[id_ % COUNT] = (state, begin & self.mask, end & self.mask)
            infos[id_ % COUNT] = struct.pack(
                "<QQHBBI64x", number, number * 1000, len(message.text), message.facility,
                message.level << 5 | message.flags, 7,
            )  # fmt: skip
        first = self.kept[0][0] if self.kept else self.next - 1
        places = {
            "the_descs": b"".join(struct.pack(f"<3{word}", *each) for each in descs),
            "the_infos": b"".join(infos),
            "the_text": bytes(self.text),
            "printk_rb_static.desc_ring.head_id": pack(self.next - 1 & ids, self.word),
            "printk_rb_static.desc_ring.tail_id": pack(first & ids, self.word),
            "printk_rb_static.text_data_ring.head_lpos": pack(self.head, self.word),
            "printk_rb_static.text_data_ring.tail_lpos": pack(self.tail, self.word),
        }
        for place, data in places.items():
            put(target, place, data)

    def expected(self) -> list[LogRecord]:
        return [
            LogRecord(
                sequence=number, nanoseconds=number * 1000, level=message.level,
                facility=message.facility, caller="T7",
                text=message.text.decode("utf-8", "backslashreplace").removesuffix("\n"),
            )
            for _, message, _, _, number in self.kept
            if message.state != RESERVED and not (message.failed and message.text)
        ]  # fmt: skip


def pack(number: int, size: int) -> bytes:
    return (number & (1 << 8 * size) - 1).to_bytes(size, "little")


@pytest.mark.parametrize("width", ["-m64", "-m32"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(added=st.lists(messages, max_size=20), first=st.sampled_from([5, -3, 1 << 28]))
def test_ring_of_descriptors(
    start: Callable[..., Target], width: str, added: list[Message], first: int
) -> None:
    target = start("-DPRB", width)
    ring = Ring(8 if width == "-m64" else 4, first)
    for message in added:
        ring.add(message)
    ring.store(target)
    if ring.kept:
        assert list(read_log(target.inferior)) == ring.expected()


def test_wrapped_block(start: Callable[..., Target]) -> None:
    """The example of the property that shows it: a block that begins anew at the ring's begin."""
    ring = Ring(8, 5)
    for number in range(12):
        ring.add(Message(b"%d " % number + b"x" * 40))
    assert any(begin // TEXT_SIZE != end // TEXT_SIZE for _, _, begin, end, _ in ring.kept)
    target = start("-DPRB", "-m64")
    ring.store(target)
    log = read_log(target.inferior)
    assert [record.text.split()[0] for record in log] == [str(each[4]) for each in ring.kept]
    assert 3 < len(log) < 12


@dataclass
class Records:
    """The ring of records that 3.5 to 5.9 have (log_store and log_next)."""

    form: int

    def __post_init__(self) -> None:
        self.header = 20 if self.form == 3 else 16
        self.buffer = bytearray(512)
        self.first = self.next = 0
        self.kept: list[tuple[int, Message]] = []
        self.number = 0

    def add(self, message: Message) -> None:
        size = -(-(self.header + len(message.text)) // 4) * 4
        while self.kept and self._room() < size + self.header:
            self.first = self._behind(self.first)
            self.kept.pop(0)
        if not self.kept:
            self.first = self.next
        wraps = self.next + size + self.header > len(self.buffer)
        if wraps:
            self.buffer[self.next : self.next + self.header] = bytes(self.header)
            self.next = 0
        kind = (
            struct.pack("<H", message.facility << 3 | message.level)
            if self.form == 1
            else bytes([message.facility, message.level << 5 | message.flags])
        )
        head = struct.pack("<QHHH", self.number * 1000, size, len(message.text), 0) + kind
        head += struct.pack("<I", 1 << 31 | 1) if self.form == 3 else b""
        record = (head + message.text).ljust(size, b"\0")
        self.buffer[self.next : self.next + size] = record
        self.next += size
        self.kept.append((self.number, message))
        self.number += 1

    def _room(self) -> int:
        if self.next > self.first:
            return max(len(self.buffer) - self.next, self.first)
        return self.first - self.next

    def _behind(self, at: int) -> int:
        length = int.from_bytes(self.buffer[at + 8 : at + 10], "little")
        if length == 0:
            at, length = 0, int.from_bytes(self.buffer[8:10], "little")
        return at + length

    def store(self, target: Target) -> None:
        put(target, "__log_buf", bytes(self.buffer))
        put(target, "log_first_idx", pack(self.first, 4))
        put(target, "log_next_idx", pack(self.next, 4))


@pytest.mark.parametrize("form", [1, 2, 3])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(added=st.lists(messages, max_size=30))
def test_ring_of_records(start: Callable[..., Target], form: int, added: list[Message]) -> None:
    target = start(f"-DRECORDS={form}", "-m32" if form == 2 else "-m64")
    ring = Records(form)
    for message in added:
        message.flags = 6
        ring.add(message)
    ring.store(target)
    assert list(read_log(target.inferior)) == [
        LogRecord(
            nanoseconds=number * 1000, level=message.level, facility=message.facility,
            caller="C1" if form == 3 else None,
            text=message.text.decode("utf-8", "backslashreplace").removesuffix("\n"),
        )
        for number, message in ring.kept
    ]  # fmt: skip


NEWLINE, PREFIX, CONT = 2, 4, 8


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (2, ["one two three", "four", "five", "six seven", "eight"]),
        # From 4.9 each record is a line of its own.
        (3, ["one ", "two ", "three", "four", "five", "six ", "seven", "eight"]),
    ],
)
def test_continued_lines(start: Callable[..., Target], form: int, expected: list[str]) -> None:
    """Lines that were logged in pieces; as dmesg of those kernels has them (msg_print_text)."""
    ring = Records(form)
    for text, flags in (
        (b"one ", PREFIX | CONT),
        (b"two ", CONT),
        (b"three", NEWLINE),
        (b"four", PREFIX | CONT),
        (b"five", PREFIX | NEWLINE),  # another one came between
        (b"six ", CONT),
        (b"seven", CONT | NEWLINE),
        (b"eight", PREFIX | NEWLINE),
    ):
        ring.add(Message(text, flags=flags))
    target = start(f"-DRECORDS={form}", "-m64")
    ring.store(target)
    assert [record.text for record in read_log(target.inferior)] == expected


@pytest.mark.parametrize("used", [0, 30, 500, 512])
def test_ring_of_text(start: Callable[..., Target], used: int) -> None:
    lines = [b"<%d>[%5d.%06d] line %d\n" % (n % 8, n, n * 7, n) for n in range(200)]
    lines.insert(3, b"<14>without a time\n")
    text = b"".join(lines)
    target = start("-m64")
    ring = bytearray(512)
    for at, byte in enumerate(text):
        ring[at % 512] = byte
    put(target, "__log_buf", bytes(ring))
    put(target, "log_end", pack(len(text), 4))
    put(target, "logged_chars", pack(used, 4))
    log = read_log(target.inferior)
    shown = "".join(f"{record}\n" for record in log)
    kept = text[len(text) - used :]
    whole = kept.split(b"\n")[1 if used else 0 : -1]
    assert shown.splitlines()[len(log) - len(whole) :] == [
        line.partition(b">")[2].decode() for line in whole
    ]
    assert [record.level for record in log[-len(whole) :]] == [
        int(line[1:2]) for line in whole
    ] or not whole
    assert len(log) - len(whole) <= 1  # the first one is cut off


def test_ring_of_text_from_its_begin(start: Callable[..., Target]) -> None:
    target = start("-m64")
    text = b"<6>[    1.500000] hello\n<14>user says\n"
    put(target, "__log_buf", text.ljust(512, b"\0"))
    put(target, "log_end", pack(len(text), 4))
    put(target, "logged_chars", pack(len(text), 4))
    assert read_log(target.inferior) == (
        LogRecord(level=6, facility=0, text="hello", nanoseconds=1_500_000_000),
        LogRecord(level=6, facility=1, text="user says"),
    )


# --- memory that makes no sense ---

WORDS = st.sampled_from([0, 1, 7, 31, 64, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, -1])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    word=st.sampled_from(
        [
            "prb",
            *(
                f"printk_rb_static.desc_ring.{name}"
                for name in ("count_bits", "descs", "infos", "head_id", "tail_id")
            ),
            *(
                f"printk_rb_static.text_data_ring.{name}"
                for name in ("size_bits", "data", "head_lpos", "tail_lpos")
            ),
        ]
    ),
    number=WORDS,
)
def test_hostile_descriptors(start: Callable[..., Target], word: str, number: int) -> None:
    target = start("-DPRB", "-m64")
    ring = Ring(8, 5)
    for text in (b"one", b"two", b"three"):
        ring.add(Message(text))
    ring.store(target)
    with changed(target, word, number), contextlib.suppress(rsp.StubError, rsp.SymbolError):
        assert len(read_log(target.inferior)) <= COUNT


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    form=st.sampled_from([1, 2, 3]),
    word=st.sampled_from(["log_buf", "log_buf_len", "log_first_idx", "log_next_idx", "__log_buf"]),
    number=WORDS | st.integers(0, 600),
)
def test_hostile_records(start: Callable[..., Target], form: int, word: str, number: int) -> None:
    target = start(f"-DRECORDS={form}", "-m32" if form == 2 else "-m64")
    ring = Records(form)
    for text in (b"one", b"two", b"three"):
        ring.add(Message(text))
    ring.store(target)
    if word == "__log_buf":
        put(target, word, pack(number, 8))
        word = "syslog_prev" if form < 3 else "init_task"  # and nothing else
    with changed(target, word, number), contextlib.suppress(rsp.StubError, rsp.SymbolError):
        assert len(read_log(target.inferior)) <= 512
