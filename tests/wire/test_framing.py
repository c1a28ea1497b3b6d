"""Where packets begin and end, whole, bytewise, in any pieces and with anything behind them."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.testing import strategies as rsp_strategies
from rsp.wire.codec import checksum, frame
from rsp.wire.framing import Deframer, Frame, FrameKind

K = FrameKind


def frames(*pieces: bytes, max_packet: int = 1 << 16, shared: bool = False) -> list[Frame]:
    """Return the frames of a stream that comes in pieces, with neighbouring text joined."""
    deframer = Deframer(max_packet, shared=shared)
    out: list[Frame] = []
    for piece in pieces:
        deframer.receive_data(piece)
        while (found := deframer.next_frame()) is not None:
            if found.kind is K.TEXT and out and out[-1].kind is K.TEXT:
                out[-1] = Frame(K.TEXT, out[-1].data + found.data)
            else:
                out.append(found)
    return out


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


# Each with the frames it is read as.
READ = {
    "packet": (b"$OK#9a", [(K.PACKET, b"OK")]),
    "empty packet": (b"$#00", [(K.PACKET, b"")]),
    "upper-case checksum": (b"$OK#9A", [(K.PACKET, b"OK")]),
    "mixed case": (b"$a\x7f\x7f\x7f\x7f\x7f#dC", [(K.PACKET, b"a\x7f\x7f\x7f\x7f\x7f")]),
    "ack": (b"+", [(K.ACK, b"+")]),
    "nak": (b"-", [(K.NAK, b"-")]),
    "interrupt": (b"\x03", [(K.INTERRUPT, b"\x03")]),
    "notification": (b"%Stop:T05#99", [(K.NOTIFICATION, b"Stop:T05")]),
    "ack and packet": (b"+$OK#9a", [(K.ACK, b"+"), (K.PACKET, b"OK")]),
    "acks in a row": (b"+++", [(K.ACK, b"+")] * 3),
    "two packets": (b"$OK#9a$E01#a6", [(K.PACKET, b"OK"), (K.PACKET, b"E01")]),
    "text before": (b"hello\r\n$OK#9a", [(K.TEXT, b"hello\r\n"), (K.PACKET, b"OK")]),
    "wrong checksum": (b"$OK#9b", [(K.CORRUPT, b"$OK#9b")]),
    "no hex": (b"$OK#zz", [(K.CORRUPT, b"$OK#zz")]),
    "cut off": (b"$O$OK#9a", [(K.CORRUPT, b"$O"), (K.PACKET, b"OK")]),
    "cut off twice": (b"$$$OK#9a", [(K.CORRUPT, b"$")] * 2 + [(K.PACKET, b"OK")]),
    "checksum lost": (b"$OK#$OK#9a", [(K.CORRUPT, b"$OK#"), (K.PACKET, b"OK")]),
    "half a checksum": (b"$OK#9$OK#9a", [(K.CORRUPT, b"$OK#9"), (K.PACKET, b"OK")]),
    "hash in the text": (b"a#b$OK#9a", [(K.TEXT, b"a#b"), (K.PACKET, b"OK")]),
    "binary": (b"$m\x00\xff\x7d\x03#" + b"%02x" % (0x6D + 0xFF + 0x80 & 0xFF),
               [(K.PACKET, b"m\x00\xff\x7d\x03")]),
    "percent in a packet": (b"$%#25", [(K.PACKET, b"%")]),
    "acks within a packet": (b"$+-\x03#5b", [(K.PACKET, b"+-\x03")]),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_whole_bytewise_and_with_more_behind(name: str) -> None:
    data, expected = READ[name]
    assert frames(data) == expected
    assert frames(*bytewise(data)) == expected
    assert frames(data + b"$T05#b9") == [*expected, (K.PACKET, b"T05")]
    assert frames(b"$T05#b9" + data) == [(K.PACKET, b"T05"), *expected]


@pytest.mark.parametrize("data", [b"$", b"$OK", b"$OK#", b"$OK#9", b"%Stop", b""])
def test_what_is_not_whole_is_awaited(data: bytes) -> None:
    assert frames(data) == []
    assert frames(*bytewise(data)) == []


def test_an_ack_and_its_reply_in_two_receives() -> None:
    """The bug of avocado, which takes the reply to come with its ack."""
    assert frames(b"+", b"$OK", b"#9a") == [(K.ACK, b"+"), (K.PACKET, b"OK")]


def streams(*, noise: bool = True) -> st.SearchStrategy[bytes]:
    """Streams of packets, notifications, acks and damage."""
    packet = rsp_strategies.packets()
    notification = packet.map(lambda data: b"%" + data[1:])
    parts = [packet, notification, st.sampled_from([b"+", b"-", b"\x03", b"+$OK#9a"])]
    if noise:
        parts += [st.binary(max_size=8), packet.map(lambda data: data[:-2]), packet.map(_spoil)]
    return st.lists(st.one_of(parts), max_size=8).map(b"".join)


def _spoil(packet: bytes) -> bytes:
    middle = len(packet) // 2
    return packet[:middle] + bytes([packet[middle] ^ 1]) + packet[middle + 1 :]


@st.composite
def pieces(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Any division of some bytes into pieces."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    bounds = [0, *cuts, len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


@given(streams(), st.data())
def test_any_pieces_give_the_same_frames(data: bytes, more: st.DataObject) -> None:
    expected = frames(data)
    assert frames(*bytewise(data)) == expected
    assert frames(*more.draw(pieces(data))) == expected


@given(streams(), st.data(), st.integers(0, 40))
def test_also_where_packets_are_too_long(data: bytes, more: st.DataObject, most: int) -> None:
    expected = frames(data, max_packet=most)
    assert frames(*bytewise(data), max_packet=most) == expected
    assert frames(*more.draw(pieces(data)), max_packet=most) == expected


@given(streams())
def test_no_byte_is_lost(data: bytes) -> None:
    deframer = Deframer()
    deframer.receive_data(data)
    out = b""
    while (found := deframer.next_frame()) is not None:
        start = {K.PACKET: b"$", K.NOTIFICATION: b"%"}.get(found.kind)
        if start is None:
            out += found.data
        else:
            # Only the case of the checksum's digits is not kept.
            digits = b"%02x" % checksum(found.data)
            ending = data[len(out) + len(found.data) + 2 :][:2]
            assert ending.lower() == digits
            out += start + found.data + b"#" + ending
    assert out + deframer.reset() == data


@given(st.lists(rsp_strategies.payloads(), max_size=6), st.data())
def test_packets_are_found_in_noise(payloads: list[bytes], more: st.DataObject) -> None:
    """Noise that holds no sign of the framing hides no packet."""
    noise = st.text(st.characters(exclude_characters="$%+-\x03", codec="latin-1"), max_size=9)
    data = b"".join(more.draw(noise).encode("latin-1") + frame(item) for item in payloads)
    packets = [found for found in frames(data) if found.kind is not K.TEXT]
    assert packets == [Frame(K.PACKET, frame(item)[1:-3]) for item in payloads]


# --- memory ---


def test_an_endless_packet_is_cut_off_in_bounded_memory() -> None:
    piece = b"a" * (1 << 16)
    deframer = Deframer(1 << 20)
    deframer.receive_data(b"$")
    kinds = []
    tracemalloc.start()
    try:
        for _ in range(1024):  # 64 MiB
            deframer.receive_data(piece)
            while (found := deframer.next_frame()) is not None:
                kinds.append(found.kind)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kinds[0] is K.OVERLONG
    assert set(kinds[1:]) == {K.TEXT}
    assert peak < 6 << 20


def test_the_longest_packet_is_taken_and_the_next_longer_is_not() -> None:
    payload = b"a" * 1000
    assert frames(frame(payload), max_packet=1000) == [(K.PACKET, payload)]
    found = frames(frame(payload), max_packet=999)
    assert found[0].kind is K.OVERLONG
    assert K.PACKET not in [item.kind for item in found]


def test_a_long_packet_in_small_pieces_is_not_searched_from_the_start_each_time() -> None:
    """It would be 8 GB of bytes looked at; a wait of minutes, not a failure, shows it."""
    payload = b"0" * (1 << 20)
    packet = frame(payload)
    deframer = Deframer()
    for start in range(0, len(packet), 64):
        deframer.receive_data(packet[start : start + 64])
        found = deframer.next_frame()
    assert found == Frame(K.PACKET, payload)


# --- a line that a console shares ---

CONSOLE = {
    "kdb": b"\r\nEntering kdb (current=0xffff88800, pid 0) on processor 0 due to NonMaskable "
    b"Interrupt @ 0xffffffff8100\r\n[0]kdb> ",
    "prompt": b"user@host:~$ ls -l\r\n",
    "root": b"/ # cd $HOME; echo 1+1-2\r\n",
    "percent": b"100% done, 3% left\r\n",
    "arithmetic": b"a - b + c -- d ++ e\r\n",
    "dollars": b"$ $$ $a b$ \r\n",
}


@pytest.mark.parametrize("name", CONSOLE)
def test_console_text_is_kept_whole(name: str) -> None:
    text = CONSOLE[name]
    for given_pieces in ([text], bytewise(text)):
        found = frames(*given_pieces, shared=True)
        # A + or - at the end of a piece may be an ack; what it is, the connection knows.
        assert {item.kind for item in found} <= {K.TEXT, K.ACK, K.NAK}
        assert b"".join(item.data for item in found) == text
    assert frames(text, shared=True) == [(K.TEXT, text)]


@pytest.mark.parametrize("name", CONSOLE)
def test_a_packet_is_found_behind_console_text(name: str) -> None:
    text = CONSOLE[name]
    expected = [(K.TEXT, text), (K.ACK, b"+"), (K.PACKET, b"S05")]
    assert frames(text + b"+$S05#b8", shared=True) == expected


def test_a_percent_begins_no_notification_on_a_shared_line() -> None:
    assert frames(b"%Stop:T05#99$OK#9a", shared=True) == [
        (K.TEXT, b"%Stop:T05#99"),
        (K.PACKET, b"OK"),
    ]
