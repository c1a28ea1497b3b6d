"""Stopping a kernel by its line, where the real one (tests/live/test_kgdb_line.py) is not at hand.

The kernel here is played: the states that kgdb may be in, and what its console says in each, are
those of Linux 6.1 as measured there.
"""

from __future__ import annotations

import queue
import threading
import time

import pytest

import rsp
from rsp import OnExit, StopReason
from rsp.testing.cpu import Cpu
from rsp.testing.personalities import KGDB, QEMU
from rsp.testing.serve import StubTransport
from rsp.testing.stub import Stub
from rsp.transports.base import Transport, read_timeout

TRIGGER = b"echo g > /proc/sysrq-trigger"
ENTERING = (
    b"\r\nEntering kdb (current=0xffff8880001e1000, pid 0) on processor 0 due to Keyboard Entry"
)
DISABLED = b"[    3.1] sysrq: This sysrq operation is disabled.\r\n"
HELP = b"[    3.1] sysrq: HELP : loglevel(0-9) reboot(b) crash(c) sync(s) unmount(u) \r\n"
NO_MODULE = b"[    3.1] sysrq: DEBUG\r\n[    3.1] ERROR: No KGDB I/O module available\r\n"


class KernelLine(Transport):
    """A kernel with a console and kgdb on one line.

    Args:
        state: running, kdb (at its prompt), silent or unacknowledged (a stop has been sent).
        break_works: whether the line carries one.
        refusal: what sysrq g says instead of stopping.
        prompt: what an empty line on the console is answered with.
        answer: what the shell says to the trigger; it stops the kernel where that is empty.
        lost_breaks: so many BREAKs come as a NUL.
    """

    address = "kernel"
    reliable = True

    def __init__(
        self,
        state: str = "running",
        *,
        break_works: bool = True,
        refusal: bytes = b"",
        prompt: bytes = b"/ # ",
        answer: bytes = b"",
        lost_breaks: int = 0,
    ) -> None:
        self.stub = Stub(
            KGDB,
            registers={"rip": 0x1000},
            memory={0x1000: bytes(range(256))},
            threads={"fffffffd": Cpu(name="shadowCPU1")},
            thread="fffffffe",
        )
        self.state = state
        self.typed = b""  # what the console was given, as it came
        self.breaks = 0
        self.closed = False
        self.acks_held = False
        self._break_works = break_works
        self._refusal = refusal
        self._prompt = prompt
        self._answer = answer
        self._lost = lost_breaks
        self._sysrq = False
        self._line = b""
        self._first = state in ("running", "kdb")  # and then it goes to kdb
        self._lock = threading.Condition()
        self._out = b""
        if state == "unacknowledged":
            self.state = "silent"
            self._out = self.stub.stop(5)

    @property
    def can_break(self) -> bool:
        return self._break_works

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        with self._lock:
            if not self._lock.wait_for(lambda: self._out, timeout):
                raise read_timeout(self.address, timeout or 0.0)
            data, self._out = self._out[:max_bytes], self._out[max_bytes:]
            return data

    def write(self, data: bytes, timeout: float | None = None) -> None:
        with self._lock:
            for byte in data:
                self._take(bytes((byte,)))

    def send_break(self) -> None:
        assert self._break_works
        self.breaks += 1
        if self._lost:
            self._lost -= 1
            self.write(b"\0")
        elif self.state == "running":
            self._sysrq = True
        else:
            self.write(b"\0")

    def close(self) -> None:
        self.closed = True

    def say(self, text: bytes) -> None:
        with self._lock:
            self._put(text)

    def _put(self, data: bytes) -> None:
        self._out += data
        self._lock.notify_all()

    def _take(self, byte: bytes) -> None:
        if self.state == "running":
            self._key(byte)
        elif self.state == "kdb":
            self._line += byte
            if self._line.endswith((b"$qSupported", b"$?#3f")):
                self.state = "silent"
                self._put(self.stub.receive(b"$" + self._line.rpartition(b"$")[2]))
        else:
            self._put(self.stub.receive(byte))
            # An answer to D is acknowledged before the kernel runs.
            if self.stub.running and (not self.stub.detached or byte == b"+"):
                self.state, self._line = "running", b""

    def _key(self, byte: bytes) -> None:
        if self._sysrq:
            self._sysrq = False
            assert byte == b"g"
            self._stop()
            return
        self.typed += byte
        if byte == b"\x15":
            self._line = b""
        elif byte in b"\r\n":
            line, self._line = self._line, b""
            self._put(b"\r\n")
            if line == TRIGGER and not self._answer:
                self._stop()
            else:
                self._put((self._answer if line else b"") + self._prompt)
        else:
            self._line += byte
            self._put(byte)

    def _stop(self) -> None:
        if self._refusal:
            self._put(self._refusal)
            return
        self._put(b"[    1.2] sysrq: DEBUG\r\n")
        self._line = b""
        if self._first:
            self._first = False
            self.state = "kdb"
            self._put(ENTERING + b"\r\n[0]kdb> ")
        else:
            self.state = "silent"
            self._put(self.stub.stop(5))


@pytest.mark.parametrize("state", ["running", "kdb", "silent", "unacknowledged"])
@pytest.mark.parametrize("break_works", [True, False])
def test_each_state_that_it_may_be_in(state: str, break_works: bool) -> None:
    line = KernelLine(state, break_works=break_works)
    with rsp.connect(line) as target:
        assert target.stub.name == "kgdb"
        assert target.stop.reason is StopReason.ATTACHED
        assert target.read_memory(0x1000, 4) == b"\0\1\2\3"
    assert line.state == "running"
    assert line.stub.detached
    assert line.closed


@pytest.mark.parametrize("break_works", [True, False])
def test_it_is_stopped_again_by_the_same_way(break_works: bool) -> None:
    line = KernelLine(break_works=break_works)
    with rsp.connect(line) as target:
        for _ in range(3):
            target.resume(wait=False)
            line.say(b"$OK#9a\r\n$T05thread:01;#07\r\n")
            assert target.interrupt().reason is StopReason.INTERRUPT
        assert "$T05thread:01;#07" in target.console.read()
    assert (line.breaks > 0) == break_works
    assert (TRIGGER in line.typed) != break_works


def test_nothing_but_a_break_and_g_is_sent_to_a_running_kernel() -> None:
    line = KernelLine()
    with rsp.connect(line):
        pass
    assert (line.typed, line.breaks) == (b"", 1)


def test_a_break_that_is_lost_is_sent_again_and_leaves_nothing_behind() -> None:
    line = KernelLine()
    with rsp.connect(line) as target:
        target.resume(wait=False)
        line._lost = 1
        assert target.interrupt().reason is StopReason.INTERRUPT
        assert line.typed == b"\0g"
        target.resume(wait=False)
        assert line.typed == b"\0g\x15"  # a g in front of the next command would be left


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"refusal": DISABLED, "prompt": b"lab login: "}, r"kernel\.sysrq=1"),
        ({"refusal": HELP, "prompt": b""}, "CONFIG_KGDB"),
        ({"refusal": NO_MODULE, "prompt": b""}, "kgdboc="),
        (
            {"refusal": DISABLED, "answer": b"sh: can't create /proc/x: Permission denied\r\n"},
            "root",
        ),
        ({"break_works": False, "prompt": b"Password: "}, "log in as root"),
        ({"break_works": False, "prompt": b"loading...\r\n"}, "no prompt"),
        (
            {"break_works": False, "answer": b"sh: can't create x: nonexistent directory\r\n"},
            "CONFIG_MAGIC_SYSRQ",
        ),
    ],
)
def test_the_reason_why_it_cannot_be_stopped(options: dict[str, bytes], reason: str) -> None:
    line = KernelLine(**options)  # type: ignore[arg-type]  # as each case has them
    with pytest.raises(rsp.UnsupportedCommand, match=reason) as caught:
        rsp.connect(line, timeout=1.0)
    assert "kernel" in str(caught.value)
    assert line.closed


class Slow(KernelLine):
    """A machine under load: it hears each byte, and a BREAK, only after a while, in order."""

    latency = 0.7

    def __init__(self, state: str = "running", **options: object) -> None:
        super().__init__(state, **options)  # type: ignore[arg-type]  # as they are
        self._pending: queue.Queue[tuple[float, bytes | None]] = queue.Queue()
        threading.Thread(target=self._hear, daemon=True).start()

    def write(self, data: bytes, timeout: float | None = None) -> None:
        self._pending.put((time.monotonic() + self.latency, data))

    def send_break(self) -> None:
        self._pending.put((time.monotonic() + self.latency, None))

    def _hear(self) -> None:
        while not self.closed:
            due, data = self._pending.get()
            time.sleep(max(0.0, due - time.monotonic()))
            with self._lock:
                if data is None:
                    self.breaks += 1
                    self._sysrq = self.state == "running"
                    data = b"" if self._sysrq else b"\0"
                for byte in data:
                    self._take(bytes((byte,)))


@pytest.mark.parametrize("state", ["running", "kdb", "silent", "unacknowledged"])
@pytest.mark.parametrize("break_works", [True, False])
def test_a_machine_that_is_slow_to_hear(state: str, break_works: bool) -> None:
    line = Slow(state, break_works=break_works)
    with rsp.connect(line, timeout=60.0) as target:
        assert target.stub.name == "kgdb"
        assert target.read_memory(0x1010, 4) == b"\x10\x11\x12\x13"
        if state == "running":
            target.resume(wait=False)
            assert target.interrupt().reason is StopReason.INTERRUPT
            assert target.read_memory(0x1000, 4) == b"\0\1\2\3"
        line.latency = 0.0
    assert line.stub.detached
    # A request that is repeated comes before the + of an answer that is late; kgdb refuses it.
    late = "before the + of the last reply"
    assert [each for each in line.stub.violations if not each.endswith(late)] == []


class Booting(KernelLine):
    """A console whose shell starts only after a while, and forgets what was typed before.

    Args:
        echoes: whether a terminal echoes that, at least.
        takes: seconds until the shell starts; None if it never does.
    """

    def __init__(self, *, echoes: bool, takes: float | None = 3.0) -> None:
        super().__init__(break_works=False)
        self._echoes = echoes
        self._started = False
        if takes is not None:
            threading.Timer(takes, self._start).start()

    def _start(self) -> None:
        self._started = True
        self.say(b"\r\nBusyBox v1.35.0 built-in shell (ash)\r\n\r\n/ # ")

    def _key(self, byte: bytes) -> None:
        if self._started:
            super()._key(byte)
        elif self._echoes:
            self._put(b"^U" if byte == b"\x15" else byte)


@pytest.mark.parametrize("echoes", [True, False])
def test_a_shell_that_is_slow_to_start(echoes: bool) -> None:
    with rsp.connect(Booting(echoes=echoes), timeout=60.0) as target:
        assert target.stub.name == "kgdb"
        assert target.read_memory(0x1000, 4) == b"\0\1\2\3"


def test_half_an_echo_is_a_console_s() -> None:
    """The + and - in it are no acks: what is typed after it is echoed, too."""

    class HalfEchoing(KernelLine):
        unheard = 20

        def _put(self, data: bytes) -> None:
            if self.state == "running" and self.unheard:
                self.unheard -= 1
            else:
                super()._put(data)

    with rsp.connect(HalfEchoing(break_works=False), timeout=60.0) as target:
        assert target.stub.name == "kgdb"
        assert target.read_memory(0x1000, 4) == b"\0\1\2\3"


def test_a_shell_that_does_not_start_in_time() -> None:
    with pytest.raises(rsp.UnsupportedCommand, match="no prompt"):
        rsp.connect(Booting(echoes=True, takes=None), timeout=1.0)


def test_a_line_that_sends_everything_back() -> None:
    class Mirror(KernelLine):
        def write(self, data: bytes, timeout: float | None = None) -> None:
            self.say(data)

    with pytest.raises(rsp.RemoteProtocolError, match="does not speak the remote protocol"):
        rsp.connect(Mirror(break_works=False), timeout=1.0)


def test_a_stop_is_waited_for_and_nothing_is_sent_meanwhile() -> None:
    line = KernelLine()
    with pytest.raises(rsp.RspTimeout, match="interrupt=True"):
        rsp.connect(line, interrupt=False, timeout=1.0)
    assert line.breaks == 0
    later = threading.Timer(0.8, lambda: line.write(TRIGGER + b"\r"))
    later.start()
    with rsp.connect(line, interrupt=False, timeout=10.0) as target:
        assert target.stub.name == "kgdb"
    later.join()


@pytest.mark.parametrize("state", ["silent", "kdb"])
def test_a_line_that_nothing_comes_from_and_that_has_no_way(state: str) -> None:
    """kdb's prompt may be the last that was said there: that it was is not that it is."""
    line = KernelLine(break_works=False, state=state)
    line._first = False
    with rsp.connect(line) as target:
        target.resume(wait=False)
        with pytest.raises(rsp.UnsupportedCommand, match="sysrq-trigger"):
            target.interrupt()
        assert line.typed == b""
        line.write(TRIGGER + b"\r")
        assert target.wait(5).reason is not StopReason.INTERRUPT


def test_the_console_is_read_also_between_calls() -> None:
    heard: list[str] = []
    line = KernelLine()
    with rsp.connect(line) as target:
        target.console.read()
        target.console.callback = heard.append
        target.resume(wait=False)
        for _ in range(40):
            line.say(b"x" * (1 << 16))
        assert _within(5, lambda: not line._out)
        assert len("".join(heard)) == 40 << 16
        assert len(target.console.read()) <= 1 << 20
        target.console.write("ls\r")
        assert line.typed == b"ls\r"
        target.interrupt()
        with pytest.raises(rsp.LocalProtocolError, match="stands still"):
            target.console.write("ls\r")


def test_a_callback_that_fails_does_no_harm() -> None:
    line = KernelLine()
    with rsp.connect(line) as target:
        target.console.read()
        target.console.callback = lambda _: 1 / 0  # type: ignore[assignment]  # it fails
        target.resume(wait=False)
        line.say(b"text")
        assert _within(5, lambda: not line._out)
        target.console.callback = None
        line.say(b"more")
        assert _within(5, lambda: "more" in target.console.read())
        target.interrupt()


def test_left_standing_and_taken_over() -> None:
    line = KernelLine()
    with rsp.connect(line, on_exit=OnExit.LEAVE_STOPPED):
        pass
    assert line.state == "silent"
    with rsp.connect(line):
        pass
    assert line.state == "running"


def _within(seconds: float, true: object) -> bool:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_an_echo_that_comes_twice_is_no_answer() -> None:
    """As busybox redraws a line that is longer than the terminal is wide, our ack in between."""

    class Redrawing(KernelLine):
        def _key(self, byte: bytes) -> None:
            super()._key(byte)
            if self._line.startswith(b"$qSupported") and self._line[-3:-2] == b"#":
                self._put(b"+" + self._line)

    line = Redrawing(break_works=False)
    with rsp.connect(line) as target:
        assert target.stub.name == "kgdb"


# --- a line that makes a BREAK and g of 0x03 ---


class AgentProxy(KernelLine):
    """The port for a debugger of kgdb's agent-proxy: a TCP connection to it carries no BREAK."""

    @property
    def can_break(self) -> bool:
        return False

    def write(self, data: bytes, timeout: float | None = None) -> None:
        before, ctrl_c, after = data.partition(b"\x03")
        super().write(before)
        if ctrl_c:
            super().send_break()
            super().write(b"g" + after)


@pytest.mark.parametrize("state", ["running", "kdb", "silent", "unacknowledged"])
def test_a_byte_of_ctrl_c_stops_a_kernel_behind_agent_proxy(state: str) -> None:
    line = AgentProxy(state)
    with rsp.connect(line, timeout=60.0, interrupt="ctrl-c") as target:
        assert target.stub.name == "kgdb"
        assert target.read_memory(0x1000, 4) == b"\0\1\2\3"
        target.resume(wait=False)
        assert target.interrupt().reason is StopReason.INTERRUPT
    assert line.state == "running"


def test_a_kernel_behind_agent_proxy_is_not_stopped_unless_asked_for() -> None:
    class Mute(AgentProxy):
        """Nothing reads the console there."""

        def _key(self, byte: bytes) -> None:
            if self._sysrq:
                super()._key(byte)

    with pytest.raises(rsp.RspTimeout):
        rsp.connect(Mute(), timeout=0.5)
    with rsp.connect(Mute(), timeout=60.0, interrupt="ctrl-c") as target:
        assert target.stub.name == "kgdb"


def test_ctrl_c_does_no_harm_to_a_stub_that_stands_still() -> None:
    stub = Stub(QEMU, registers={"rip": 0x1000}, memory={0x1000: bytes(16)})
    with rsp.connect(StubTransport(stub), interrupt="ctrl-c") as target:
        assert target.stub.name == "qemu"
        assert target.registers.pc == 0x1000
    assert stub.violations == []
