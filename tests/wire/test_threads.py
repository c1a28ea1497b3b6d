"""ThreadId: the spellings of stubs, kept."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import LocalProtocolError, RemoteProtocolError
from rsp.testing.strategies import thread_ids
from rsp.wire.threads import ALL, ANY, ThreadId


@pytest.mark.parametrize(
    ("text", "process", "thread"),
    [
        ("p01.02", 1, 2),  # QEMU with multiprocess+
        ("01", None, 1),  # QEMU without
        ("fffffffe", None, 0xFFFFFFFE),  # kgdb: the second CPU, and not "all"
        ("ffffffffffffffff", None, 2**64 - 1),
        ("-1", None, -1),
        ("0", None, 0),
        ("p1.-1", 1, -1),
        ("p-1.-1", -1, -1),
        ("p1", 1, -1),
        ("p21e0.21e0", 0x21E0, 0x21E0),  # gdbserver
        ("pAB.CD", 0xAB, 0xCD),
    ],
)
def test_spellings(text: str, process: int | None, thread: int) -> None:
    parsed = ThreadId.parse(text)
    assert (parsed.process, parsed.thread) == (process, thread)
    assert str(parsed) == text
    assert parsed.encode() == text.encode()
    assert parsed == ThreadId.parse(text.encode())
    assert parsed == ThreadId(process=process, thread=thread)


def test_spelling_is_not_compared() -> None:
    assert ThreadId.parse("01") == ThreadId.parse("1") == ThreadId(thread=1)
    assert hash(ThreadId.parse("01")) == hash(ThreadId.parse("1"))
    assert ThreadId.parse("1") != ThreadId.parse("p1.1")
    assert ThreadId.parse("ffffffff") != ALL


def test_constants() -> None:
    assert (str(ALL), str(ANY)) == ("-1", "0")


@pytest.mark.parametrize(
    "text",
    ["", "-2", "p", "p.1", "p1.", "1.2", "+1", "0x1", " 1", "1\n", "p1.2.3", "\u0661", "1" * 17],
)
def test_what_is_no_thread_id(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        ThreadId.parse(text)


@given(st.binary(max_size=20))
def test_any_bytes_are_an_id_or_an_error(data: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert ThreadId.parse(data).encode() == data


@given(thread_ids())
def test_text_and_numbers_agree(thread: ThreadId) -> None:
    assert ThreadId.parse(str(thread)) == thread


def test_text_that_is_no_id_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        ThreadId(thread=1, text="1;c").encode()
    with pytest.raises(LocalProtocolError):
        ThreadId(thread=-2).encode()
