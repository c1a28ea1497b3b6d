"""gdb through ``rsp proxy``, and gdb served by ``rsp replay``: it must not notice."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lab.command import TIMEOUT, Finished, run, serving
from rsp.cli.commands import demo
from rsp.cli.listen import Listener
from rsp.cli.relay import relay
from rsp.errors import ConnectionLost, TargetAddressError, TransportError
from rsp.recording import EntryKind, Recorder, read_log
from rsp.transports import open_transport
from rsp.transports.memory import MemoryTransport

if TYPE_CHECKING:
    from pathlib import Path

    from lab.gdb import Gdb
    from lab.servers import BootQemu, StartServer

QUIET = Finished(0, "", "")

SESSION = (
    "info all-registers",
    "hbreak *0x7c00",
    "continue",
    "x/16xb 0x7c00",
    "delete",
    "break *0x7c5f",
    "continue",
    "stepi",
    "p/x $cs",
    "set var $eax = 0x12345678",
    "info registers",
    "x/3i $pc",
    "x/8xb 0x7c00",
    "monitor info registers",
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "session.rsplog"


@pytest.mark.parametrize("listen", [":0", "unix:{}/sock"])
def test_gdb_through_the_proxy_and_again_from_its_recording(
    boot_qemu: BootQemu, gdb: type[Gdb], log: Path, tmp_path: Path, listen: str
) -> None:
    listen = listen.format(tmp_path)
    direct = gdb(address=boot_qemu().address).run(*SESSION)
    with serving("proxy", listen, boot_qemu().address, "--record", str(log)) as proxy:
        through = gdb(address=proxy.address).run(*SESSION)
        assert proxy.finish() == QUIET
    assert through == direct
    with serving("replay", str(log), "--listen", listen) as replay:
        again = gdb(address=replay.address).run(*SESSION)
        assert replay.finish() == QUIET
    assert again == through


def test_gdbs_own_log_served_back_to_gdb(boot_qemu: BootQemu, gdb: type[Gdb], log: Path) -> None:
    for base in ("ascii", "hex", "octal"):
        log.unlink(missing_ok=True)
        settings = (f"set remotelogbase {base}", f"set remotelogfile {log}")
        live = gdb(address=boot_qemu().address, settings=settings).run(*SESSION)
        with serving("replay", str(log), "--listen", ":0") as replay:
            assert gdb(address=replay.address).run(*SESSION) == live
            assert replay.finish() == QUIET


def test_gdbserver_through_the_proxy(gdbserver: StartServer, gdb: type[Gdb], log: Path) -> None:
    # Without acks, binary replies, and the end of the program.
    session = ("info all-registers", "x/8xb $sp", "info auxv", "continue", "info registers")
    with serving("proxy", ":0", gdbserver(), "--record", str(log)) as proxy:
        through = gdb(address=proxy.address).run(*session)
        assert proxy.finish() == QUIET
    assert "exited" in through[3]
    with serving("replay", str(log), "--listen", ":0") as replay:
        assert gdb(address=replay.address).run(*session) == through
        assert replay.finish() == QUIET


def test_another_gdb_session_is_told(boot_qemu: BootQemu, gdb: type[Gdb], log: Path) -> None:
    with serving("proxy", ":0", boot_qemu().address, "--record", str(log)) as proxy:
        gdb(address=proxy.address).run("x/8xb 0xfffffff0")
        assert proxy.finish() == QUIET
    with serving("replay", str(log), "--listen", ":0") as replay:
        answer = gdb(address=replay.address).run("x/8xb 0xffff0000")
        assert "Remote connection closed" in answer[0]
        replay.finish().fails(f"{log}, line ", "$mffff0000,1#", "$mfffffff0,1#")
    with serving("replay", str(log), "--listen", ":0") as replay:
        gdb(address=replay.address).run()
        replay.finish().fails("it has closed the connection")


def test_our_own_client_through_the_proxy_and_served(boot_qemu: BootQemu, log: Path) -> None:
    with serving("proxy", ":0", boot_qemu().address, "--record", str(log)) as proxy:
        live = run("regs", proxy.address, "--json")
        assert proxy.finish() == QUIET
    assert run("regs", f"replay:{log}", "--json").json == live.json
    with serving("replay", str(log), "--listen", "127.0.0.1:0") as replay:
        assert run("regs", replay.address, "--json").json == live.json
        assert replay.finish() == QUIET


def test_the_bundled_recording_is_served(log: Path) -> None:
    with serving("replay", str(demo.RECORDING), "--listen", ":0") as replay:
        shown = run("info", replay.address, "--json")
        shown.fails()
        replay.finish().fails("demo.rsplog, line ", "waits for the client to send")


def test_after_the_end_of_a_recording_there_is_nothing(log: Path) -> None:
    log.write_text("w $c#63\nr +\n")
    with serving("replay", str(log), "--listen", ":0") as replay, connect(replay.address) as client:
        client.sendall(b"$c#63")
        assert receive_all(client) == b"+"
        client.sendall(b"\x03")
        replay.finish().fails("line 2: the client has nothing more to send, but it sends b'\\x03'")


@pytest.mark.parametrize("command", ["replay", "proxy"])
def test_one_cannot_listen_there(log: Path, tmp_path: Path, command: str) -> None:
    def listen(where: str) -> tuple[str, ...]:
        if command == "replay":
            return ("replay", str(demo.RECORDING), "--listen", where)
        return ("proxy", where, ":1", "--record", str(log))

    with socket.create_server(("127.0.0.1", 0)) as taken:
        run(*listen(f":{taken.getsockname()[1]}")).fails("in use")
    run(*listen(f"unix:{tmp_path}/absent/sock")).fails("No such file")
    run(*listen(f"unix:{tmp_path}/{'x' * 200}")).fails("too long")
    run(*listen("no.such.host.invalid:1234")).fails("cannot listen at no.such.host.invalid:1234")
    for wrong in ("1234", "tcp", ":", ":65536", ":-1", "unix:", "/dev/ttyS0", "[::1]", "a b:1"):
        run(*listen(wrong)).fails(repr(wrong), "unix:/path")
    assert not log.exists()


def test_what_the_proxy_cannot_reach(log: Path) -> None:
    run("proxy", ":0", "nonsense", "--record", str(log)).fails("no address to connect to")
    assert not log.exists()
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    with serving("proxy", ":0", f"127.0.0.1:{free}", "--record", str(log)) as proxy:
        with connect(proxy.address) as client:
            assert receive_all(client) == b""
        proxy.finish().fails(f"nothing listens at 127.0.0.1:{free}")
    assert not log.exists()


def test_replay_of_what_is_no_recording(tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"\x7fELF")
    run("replay", str(junk), "--listen", ":0").fails("junk, line 1", "remotelogfile")
    run("replay", str(tmp_path / "absent"), "--listen", ":0").fails("absent")


def test_a_listener_is_gone_with_its_client(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    for text in (f"unix:{path}", ":0", "localhost:0", "[::1]:0"):
        with (
            Listener(text) as listener,
            connect(listener.address),
            listener.accept(),
            pytest.raises(OSError, match=r"refused|No such file"),
        ):
            connect(listener.address)
    assert not path.exists()
    with pytest.raises(TargetAddressError):
        Listener("nonsense")
    path.write_text("a file of somebody's")
    with pytest.raises(TransportError, match="in use"):
        Listener(f"unix:{path}")
    assert path.read_text() == "a file of somebody's"


# --- the relay between two ends in memory ---


class Relayed:
    """A client's end and a stub's, with a relay between them in a thread."""

    def __init__(self, log: Path) -> None:
        self.client, client = MemoryTransport.pair()
        self.stub, target = MemoryTransport.pair()
        self._pool = ThreadPoolExecutor(1)

        def work() -> None:
            with client, target, Recorder(log) as recorder:
                relay(client, target, recorder)

        self._done = self._pool.submit(work)

    def finish(self) -> None:
        """Wait until the relay has ended by itself."""
        self._done.result(TIMEOUT)
        self._pool.shutdown()


def recorded(log: Path) -> list[tuple[EntryKind, bytes]]:
    entries = read_log(log)
    return [(entry.kind, entry.data) for entry in entries if entry.kind is not EntryKind.COMMENT]


def test_every_byte_passes_both_ways(log: Path) -> None:
    relayed = Relayed(log)
    every = bytes(range(256)) * 300
    relayed.client.write(every)
    assert read(relayed.stub, len(every)) == every
    relayed.stub.write(every[::-1])
    assert read(relayed.client, len(every)) == every[::-1]
    relayed.client.close()
    relayed.finish()
    entries = recorded(log)
    assert b"".join(data for kind, data in entries if kind is EntryKind.SENT) == every
    assert b"".join(data for kind, data in entries if kind is EntryKind.RECEIVED) == every[::-1]


def test_a_stub_that_closes_ends_it(log: Path) -> None:
    relayed = Relayed(log)
    relayed.client.write(b"$k#6b")
    assert read(relayed.stub, 5) == b"$k#6b"
    relayed.stub.write(b"+")
    relayed.stub.close()
    relayed.finish()
    assert read(relayed.client, 1) == b"+"
    assert recorded(log) == [
        (EntryKind.SENT, b"$k#6b"),
        (EntryKind.RECEIVED, b"+"),
        (EntryKind.EOF, b""),
    ]


def test_the_answer_to_a_client_that_says_no_more(boot_qemu: BootQemu, log: Path) -> None:
    with (
        serving("proxy", ":0", boot_qemu().address, "--record", str(log)) as proxy,
        connect(proxy.address) as client,
    ):
        client.sendall(b"$?#3f")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client).startswith(b"+$T05")
        assert proxy.finish() == QUIET
    assert [kind for kind, _ in recorded(log)] == [EntryKind.SENT, EntryKind.RECEIVED]


def test_a_stub_that_talks_on_does_not_keep_it(log: Path) -> None:
    relayed = Relayed(log)
    relayed.client.close()
    with contextlib.suppress(ConnectionLost):
        for _ in range(3000):
            relayed.stub.write(b"a line of a console\n")
            time.sleep(0.01)
        pytest.fail("it still listens")
    relayed.finish()


class Broken(MemoryTransport):
    """A line that breaks instead of being closed."""

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        data = super().read(max_bytes, timeout)
        if not data:
            raise ConnectionLost("the cable is out", address=self.address)
        return data


def test_a_line_that_breaks_is_recorded_and_told(log: Path) -> None:
    client, _gdb = MemoryTransport.pair()
    stub, target = Broken.pair()
    stub.close()
    with Recorder(log) as recorder, pytest.raises(ConnectionLost, match="cable"):
        relay(client, target, recorder)
    assert recorded(log) == [(EntryKind.ERROR, b"the cable is out")]


def test_a_client_that_breaks_off_is_no_error(log: Path) -> None:
    gdb, client = Broken.pair()
    target, _stub = MemoryTransport.pair()
    gdb.close()
    with Recorder(log) as recorder:
        relay(client, target, recorder)
    assert recorded(log) == []


def test_the_recording_knows_how_reliable_the_line_was(log: Path) -> None:
    client, gdb = MemoryTransport.pair()
    target, _stub = MemoryTransport.pair()
    target.reliable = False
    gdb.close()
    with Recorder(log) as recorder:
        relay(client, target, recorder)
    with open_transport(f"replay:{log}", timeout=1) as replayed:
        assert not replayed.reliable


def read(transport: MemoryTransport, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += transport.read(length - len(data), TIMEOUT)
    return data


def connect(address: str) -> socket.socket:
    if address.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT)
        try:
            client.connect(address.removeprefix("unix:"))
        except OSError:
            client.close()
            raise
        return client
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT)


def receive_all(client: socket.socket) -> bytes:
    data = b""
    while piece := client.recv(4096):
        data += piece
    return data
