"""What every command does alike: usage, exit status, one line of error, quiet ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import rsp
from lab.command import COMMAND, run
from rsp.cli import main


def test_version() -> None:
    assert run("--version").out == f"rsp {rsp.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("--json", "info", ":1234"),
        ("break", ":1234"),
        ("info",),
        ("info", ":1234", "--timeout", "0"),
        ("info", ":1234", "--timeout", "nan"),
        ("info", ":1234", "--timeout", "soon"),
        ("info", ":1234", "--slide", "sideways"),
        ("read", ":1234", "0x7c00"),
        ("read", ":1234", "7c00", "16"),
        ("read", ":1234", "-16", "16"),
        ("read", ":1234", "0x" + "1" * 17, "16"),
        ("read", ":1234", "start+", "16"),
        ("read", ":1234", "start+x", "16"),
        ("read", ":1234", "0x7c00", "0"),
        ("read", ":1234", "0x7c00", "many"),
        ("read", ":1234", "0x7c00", "1T"),
        ("write", ":1234", "0x7c00", ""),
        ("write", ":1234", "0x7c00", "9"),
        ("write", ":1234", "0x7c00", "0x90"),
        ("write", ":1234", "0x7c00", "zz"),
        ("replay", "log"),
        ("proxy", ":0", ":1234"),
        ("demo", "extra"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_usage(arguments: tuple[str, ...]) -> None:
    shown = run(*arguments)
    assert (shown.status, shown.out) == (2, "")
    assert "usage: rsp" in shown.err


@pytest.mark.parametrize("address", ["1234", "ftp://x", ":0", "unix:", "|", "a\tb", "\udcff"])
def test_what_is_no_address_is_told_with_the_forms(address: str) -> None:
    run("info", address).fails("no address", "unix:/path")


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    log = tmp_path / "log"
    run("info", f"127.0.0.1:{free}", "--record", str(log)).fails(f"{free}", "listens")
    assert not log.exists()
    run("info", f"unix:{tmp_path}/none").fails("no such socket")


def test_what_listens_is_no_stub() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            client, _ = server.accept()
            with client:
                client.sendall(b"220 \x1b[31mmail.example.org ESMTP\r\n" * 4)
                while client.recv(4096):
                    client.sendall(b"500 what?\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        shown = run("info", f"127.0.0.1:{server.getsockname()[1]}", "--timeout", "1")
        thread.join()
    shown.fails("stub")
    assert "\x1b" not in shown.err


def test_symbols_that_are_none(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"no ELF")
    for file in (junk, tmp_path / "absent"):
        run("info", ":1", "--symbols", str(file)).fails(str(file))


def test_a_fifo_that_nobody_writes_to_does_not_hang(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    run("info", ":1", "--symbols", str(fifo)).fails("it is no file")
    run("info", f"replay:{fifo}").fails("the recording ends here")


def test_a_recording_that_exists_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("mine")
    run("info", ":1", "--record", str(log)).fails(str(log), "exists already")
    run("proxy", ":0", ":1", "--record", str(log)).fails(str(log), "exists already")
    run("demo", "--record", str(log)).fails(str(log), "exists already")
    assert log.read_text() == "mine"


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [*COMMAND, "demo", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PATH": ""},
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


# The longer one fails while it prints, the short one when the buffer is written at the end.
@pytest.mark.parametrize("arguments", [("demo", "--json"), ("--version",)])
def test_a_full_disk_is_one_line(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PATH": ""},
        )
    assert done.returncode == 1
    assert done.stderr.startswith("rsp: error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("closed", ["out", "err"])
def test_a_stream_that_is_closed_from_the_start(closed: str) -> None:
    streams = {"out": ">&-", "err": "2>&-"}
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" "$@" {streams[closed]}', *COMMAND, "demo", "--json"],
        capture_output=True,
        check=False,
        env={**os.environ, "PATH": ""},
    )
    assert (done.returncode, done.stderr, bool(done.stdout)) == (0, b"", closed == "err")


def test_ctrl_c_is_quiet(tmp_path: Path) -> None:
    log = tmp_path / "log"
    # A shell may have let this test run ignore SIGINT.
    program = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from rsp.cli import main; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "proxy", ":0", ":1", "--record", str(log)],
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("listening at ")
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""
    assert process.returncode == 130
    assert not log.exists()


def test_main_returns_what_the_process_exits_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert main(["nonsense"]) == 2
    assert main(["info", "1234"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("rsp: error: '1234'")
