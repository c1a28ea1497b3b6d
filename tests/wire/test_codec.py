"""The encodings of packet contents, against what the gdb manual and gdb's own code say of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import RemoteProtocolError
from rsp.wire import codec

LIMIT = 1 << 16


@given(st.binary(max_size=3000))
def test_the_checksum_is_the_sum_modulo_256(data: bytes) -> None:
    assert codec.checksum(data) == sum(data) % 256


@pytest.mark.parametrize("byte", [0x00, 0x7F, 0x80, 0xFF])
@pytest.mark.parametrize("size", [255, 256, 257, 511, 512, 513, 1 << 20])
def test_the_checksum_where_the_fast_sum_would_wrap(byte: int, size: int) -> None:
    assert codec.checksum(bytes([byte]) * size) == byte * size % 256


@given(st.binary(max_size=200))
def test_unescape_undoes_escape(data: bytes) -> None:
    escaped = codec.escape(data)
    assert codec.unescape(escaped) == data
    assert not set(escaped) & set(b"#$*")


@given(st.binary(max_size=200))
def test_collapsed_runs_expand_to_what_they_were(data: bytes) -> None:
    escaped = codec.escape(data)
    collapsed = codec.collapse_runs(escaped)
    assert codec.expand_runs(collapsed, LIMIT) == escaped
    assert codec.decode(collapsed, LIMIT) == data
    assert len(collapsed) <= len(escaped)
    counts = [collapsed[i + 1] for i, byte in enumerate(collapsed) if byte == ord("*")]
    assert not set(counts) & set(b"#$+-")
    assert all(29 + 3 <= count <= 126 for count in counts)


@given(st.integers(1, 400), st.integers(0, 255))
def test_runs_of_every_length_of_every_byte(length: int, byte: int) -> None:
    data = bytes([byte]) * length
    assert codec.decode(codec.collapse_runs(codec.escape(data)), LIMIT) == data


@pytest.mark.parametrize(
    ("raw", "payload"),
    [
        # gdb manual, "Overview": "0* " is "0000".
        (b"0* ", b"0000"),
        (b"x*%", b"x" * 9),
        # A run of NUL bytes in a binary reply.
        (b"m\0*~", b"m" + b"\0" * 98),
        # A run goes on with the last byte put out, which may be that of another run.
        (b"0*~*~", b"0" * 195),
        (b"}\x03}\x04}\x0a}]", b"#$*}"),
        # Two escapes in a row: the escaped byte is itself an escape byte.
        (b"}}a", b"]a"),
        (b"}\x5d}\x5d", b"}}"),
        (b"", b""),
    ],
)
def test_known_encodings(raw: bytes, payload: bytes) -> None:
    assert codec.decode(raw, LIMIT) == payload


def test_a_run_after_an_escape_repeats_the_second_byte_of_it() -> None:
    """The bug of rizin and PyGdbRemoteClient, which undo escapes before runs.

    `}` 0x03 is `#`, and the run repeats the raw byte 0x03, not the `#`.
    """
    assert codec.decode(b"}\x03* ", LIMIT) == b"#\x03\x03\x03"
    # And `}` `}` is 0x5d, whose second raw byte is an escape byte again.
    assert codec.decode(b"}*\x20", LIMIT) == b"]]"


@pytest.mark.parametrize("raw", [b"*", b"* ", b"a*", b"a*\x1d", b"a*\x00", b"ab*"])
def test_malformed_runs(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="run-length"):
        codec.decode(raw, LIMIT)


@pytest.mark.parametrize("raw", [b"}", b"abc}", b"}}}"])
def test_a_packet_that_ends_within_an_escape(raw: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="escape"):
        codec.decode(raw, LIMIT)


def test_expansion_is_bounded() -> None:
    """97 bytes for 2: a packet of 1 MiB would become 48."""
    bomb = b"0" + b"*~" * 1000
    assert len(codec.expand_runs(bomb, 97_001)) == 97_001
    with pytest.raises(RemoteProtocolError, match="more than 97000"):
        codec.expand_runs(bomb, 97_000)


def test_another_escape_byte() -> None:
    assert codec.decode(b"a{\x03}", LIMIT, ord("{")) == b"a#}"


@given(st.binary(max_size=60))
def test_any_bytes_decode_or_are_refused(raw: bytes) -> None:
    try:
        payload = codec.decode(raw, 500)
    except RemoteProtocolError as error:
        assert error.data == raw  # noqa: PT017 - either way is right
    else:
        assert len(payload) <= 500


@given(st.binary(max_size=100))
def test_frame(payload: bytes) -> None:
    packet = codec.frame(payload)
    assert packet[:1] == b"$"
    assert packet[-3:-2] == b"#"
    assert int(packet[-2:], 16) == sum(packet[1:-3]) % 256
    assert codec.unescape(packet[1:-3]) == payload
