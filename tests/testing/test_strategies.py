"""The strategies that users get: registered by type, and giving what they say."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsp.errors import RemoteProtocolError
from rsp.testing import strategies as rsp_st
from rsp.wire import commands
from rsp.wire.codec import frame
from rsp.wire.replies import Dialect, Reply
from rsp.wire.stops import Stopped  # noqa: TC001 - Hypothesis reads the annotation
from rsp.wire.threads import ThreadId


@given(st.from_type(commands.Command))
def test_any_command(command: commands.Command) -> None:
    assert isinstance(command, commands.Command)


@given(...)
def test_types_are_registered(
    read: commands.ReadMemory, thread: ThreadId, stop: Stopped, action: commands.VCont
) -> None:
    assert type(read) is commands.ReadMemory
    assert ThreadId.parse(str(thread)) == thread
    assert stop.encode(Dialect())
    assert commands.parse(action.encode()) == action


@given(st.from_type(Reply))
def test_replies_are_registered(reply: Reply) -> None:
    assert isinstance(reply, Reply)


@given(rsp_st.packets())
def test_packets_are_framed(packet: bytes) -> None:
    assert packet[:1] == b"$"
    assert packet[-3:-2] == b"#"


def test_payloads_hold_sound_and_broken_commands() -> None:
    seen: set[bool | None] = set()

    @given(rsp_st.payloads())
    def look(payload: bytes) -> None:
        assert frame(payload)
        try:
            seen.add(type(commands.parse(payload)) is commands.Unknown)
        except RemoteProtocolError:
            seen.add(None)

    look()
    assert seen == {True, False, None}


@pytest.mark.parametrize(
    "first", ["import rsp.testing.strategies", "import hypothesis", "import rsp.testing"]
)
def test_either_library_may_be_imported_first(first: str) -> None:
    # Hypothesis imports the strategies by their entry point, and they import Hypothesis.
    program = f"""{first}
from hypothesis import strategies as st
from rsp.testing.strategies import packets
from rsp.wire.commands import Command
packets().validate()
st.from_type(Command).validate()"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
