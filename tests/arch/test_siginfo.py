"""What Linux tells of a signal, from any bytes."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rsp
from rsp.arch.siginfo import SigInfo
from rsp.testing.cpu import State
from rsp.testing.personalities import GDBSERVER
from rsp.testing.serve import connected
from rsp.testing.stub import Stub
from rsp.wire import commands, replies
from rsp.wire.features import Features
from rsp.wire.signals import Signal

if TYPE_CHECKING:
    from rsp.testing.stub import Answer


@given(data=st.binary(max_size=200), word_size=st.sampled_from([4, 8]))
def test_any_bytes_are_a_siginfo_or_a_clear_error(data: bytes, word_size: int) -> None:
    if len(data) < {4: 24, 8: 28}[word_size]:
        with pytest.raises(rsp.RemoteProtocolError, match=f"{len(data)} bytes"):
            SigInfo.parse(data, word_size)
    else:
        found = SigInfo.parse(data, word_size)
        assert found.data == data
        assert str(found)


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (11, 77, "at 0x1234 (si_code 77)"),
        (11, 0x80, "(SI_KERNEL)"),
        (10, -6, "from process 4660 (SI_TKILL)"),
        (14, -2, "(SI_TIMER)"),
        (29, 1, "(si_code 1)"),
        (5, 5 | 1 << 8, "(si_code 261)"),  # of a ptrace event: nobody has sent it
        (31, 1, "at 0x1234 (SYS_SECCOMP)"),
    ],
)
def test_what_each_code_tells(number: int, code: int, text: str) -> None:
    for form, size in (("<iiiI", 4), ("<iiiiQ", 8)):
        fields = (number, 0, code, *([0] * (size // 8)), 0x1234)
        data = struct.pack(form, *fields).ljust(128, b"\0")
        assert str(SigInfo.parse(data, size)) == text


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (replies.XferData(last=True, data=bytes(10)), rsp.RemoteProtocolError),
        (b"E01", None),
        (b"", None),
    ],
)
def test_a_stub_that_offers_one_and_has_none(answer: Answer, error: type[Exception] | None) -> None:
    offered = Features({**(GDBSERVER.features or {}), "qXfer:siginfo:read": True})
    stub = Stub(
        replace(GDBSERVER, features=offered),
        registers={"rip": 0x1000},
        program=[State(registers={"rip": 0x1001}, signal=int(Signal.SIGSEGV))],
    )

    def answers(_: Stub, command: commands.Command) -> Answer | None:
        asked = isinstance(command, commands.XferRead) and command.object == "siginfo"
        return answer if asked else None

    stub.hooks.append(answers)
    with connected(stub) as target:
        stop = target.resume(timeout=5)
        assert stop is not None
        assert str(stop).startswith("signal SIGSEGV in thread")
        if error is None:
            assert stop.siginfo is None
        else:
            with pytest.raises(error, match="10 bytes"):
                _ = stop.siginfo
