"""Deframing replies to 2 KiB memory reads: found, checksum verified, cut out."""

from __future__ import annotations

import random
from statistics import median
from time import perf_counter

from benchmarks.figure import Figure
from rsp.wire import codec
from rsp.wire.framing import Deframer, FrameKind

_PACKETS = 512


def measure(rounds: int = 25) -> list[Figure]:
    """Feed a stream of replies, each with its ack, in pieces of 64 KiB as a socket gives them."""
    source = random.Random(1)
    stream = b"".join(
        b"+" + codec.frame(source.randbytes(2048).hex().encode()) for _ in range(_PACKETS)
    )
    pieces = [stream[at : at + 65536] for at in range(0, len(stream), 65536)]
    times = []
    for _ in range(rounds):
        deframer = Deframer()
        packets = 0
        start = perf_counter()
        for piece in pieces:
            deframer.receive_data(piece)
            while (frame := deframer.next_frame()) is not None:
                packets += frame.kind is FrameKind.PACKET
        times.append(perf_counter() - start)
        assert packets == _PACKETS
    return [
        Figure(
            subject="deframing 2 KiB memory replies",
            value=len(stream) / median(times) / 1e6,
            unit="MB/s",
            target=">= 250 MB/s",
            detail=f"{median(times) / _PACKETS * 1e6:.1f} us a packet, bytes of the stream counted",
        )
    ]
