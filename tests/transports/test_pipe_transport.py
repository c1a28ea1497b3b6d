"""Programs on a pipe: the usual small ones of Unix, and gdbserver."""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path

import pytest

import rsp
from rsp.errors import ConnectionLost, RspTimeout, TransportError, UnsupportedCommand
from rsp.transports import open_transport


def test_cat() -> None:
    with open_transport("| cat", timeout=5) as transport:
        assert transport.reliable
        assert transport.address == "| cat"
        transport.write(b"$g#67\n\xff\x00")
        received = b""
        while len(received) < 8:
            received += transport.read(3, 5)
        assert received == b"$g#67\n\xff\x00"
        with pytest.raises(RspTimeout):
            transport.read(1, 0.01)
        with pytest.raises(UnsupportedCommand):
            transport.send_break()


def said(command: str) -> bytes:
    with open_transport(command, timeout=5) as transport:
        received = b""
        while piece := transport.read(100, 5):
            received += piece
    return received


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("| printf '%s.' 'a b' \"c  d\" e\\ f", b"a b.c  d.e f."),
        ("| exec printf a", b"a"),
        ("| printf '%s' \"$RSP_WORD\"", b"a word"),
        ("| RSP_WORD=other; echo $RSP_WORD", b"other\n"),
        ("| RSP_WORD=other sh -c 'echo $RSP_WORD'", b"other\n"),
        ('| cat < "$RSP_FILE" 2>/dev/null', b"contents"),
        ("| (echo a; echo b >&2) 2>/dev/null | cat", b"a\n"),
        ("| cd / && pwd", b"/\n"),
        ("| false || echo $((1 + 1))", b"2\n"),
    ],
)
def test_a_shell_reads_the_command_as_in_gdb(
    command: str, output: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_text("contents")
    monkeypatch.setenv("RSP_WORD", "a word")
    monkeypatch.setenv("RSP_FILE", str(tmp_path / "x"))
    assert said(command) == output


def test_a_program_that_ends_well() -> None:
    with open_transport("| true", timeout=5) as transport:
        assert transport.read(1, 5) == b""
        assert transport.read(1, 5) == b""


@pytest.mark.parametrize(
    ("command", "how"),
    [
        ("| sh -c 'echo no such thing >&2; exit 3'", "ended with exit status 3; its error output"),
        ("| sh -c 'kill -KILL $$'", "was ended by SIGKILL"),
        ("| sh -c 'kill -KILL $$'; exit $?", "was ended by SIGKILL"),
        ("| x=/nowhere; exec $x/prog 2>/dev/null", "ended with exit status 127"),
    ],
)
def test_a_program_that_fails(command: str, how: str, capfd: pytest.CaptureFixture[str]) -> None:
    with (
        open_transport(command, timeout=5) as transport,
        pytest.raises(ConnectionLost, match=how),
    ):
        transport.read(1, 5)
    assert ("no such thing\n" in capfd.readouterr().err) == ("exit 3" in command)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match="no program 'gdbsrever' in PATH; is it installed"):
        open_transport("| gdbsrever - ./prog", timeout=5)
    with pytest.raises(TransportError, match="no program 'gdbsrever' in PATH; is it installed"):
        open_transport("| exec gdbsrever - ./prog 2>/dev/null", timeout=5)
    with pytest.raises(TransportError, match="no program '/nowhere/x'"):
        open_transport("| /nowhere/x", timeout=5)
    (tmp_path / "x").touch(mode=0o644)
    with pytest.raises(TransportError, match="may not be executed"):
        open_transport(f"| {tmp_path}/x", timeout=5)


def test_a_program_that_does_not_want_to_end_is_ended_with_its_children(tmp_path: Path) -> None:
    script = (
        "trap '' TERM; (trap '' TERM; echo $BASHPID; while :; do sleep 1; done) & "
        "while :; do sleep 1; done"
    )
    with open_transport(f"| bash -c {shlex.quote(script)}", timeout=5) as transport:
        child = int(transport.read(100, 5))
        os.kill(child, 0)
    # The signal is on its way; then the child waits at most for init to take it.
    for _ in range(1200):
        try:
            state = Path(f"/proc/{child}/stat").read_text().split()[2]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child of the program lives on")


def test_closing_twice() -> None:
    transport = open_transport("| cat", timeout=5)
    transport.close()
    transport.close()
    with pytest.raises(TransportError, match="has been closed here"):
        transport.read(1, 0)


@pytest.mark.live("qemu-system-x86_64")
@pytest.mark.parametrize(
    "command",
    [
        "exec qemu-system-x86_64 -display none -S -gdb stdio",  # QEMU's manual has it so
        "qemu-system-x86_64 -display none $RSP_STAND -gdb stdio 2>/dev/null",
    ],
)
def test_qemu_as_its_manual_starts_it(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSP_STAND", "-S")
    with rsp.connect(f"| {command}", timeout=20) as target:
        assert target.stub.name == "qemu"
        assert target.registers.pc == 0xFFFFFFF0


@pytest.mark.live("gdbserver")
def test_gdbserver() -> None:
    with open_transport("| gdbserver --once - /bin/true", timeout=5) as transport:
        transport.write(b"+$qSupported:multiprocess+#c6")
        received = b""
        while b"#" not in received:
            received += transport.read(65536, 10)
        assert received.startswith(b"+$PacketSize=")
        transport.write(b"+$k#6b")
