"""Real kernels with kgdb, on a serial line that they share with their console, or of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import count
from typing import TYPE_CHECKING, Literal

import pytest

import rsp
from lab.backtraces import SETTINGS, Score
from lab.gdb import Gdb
from rsp import BreakpointKind, OnExit, StopReason
from rsp.transports import open_transport
from rsp.transports.wrapper import TransportWrapper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lab.guest import BootKernel, Guest, KernelName
    from rsp import Target
    from rsp.transports.base import Transport

KERNELS = ["x86_64", "i386"]
# Lines that a shell may print, and that could be packets: an answer, two kinds of stop, what kgdb's
# banner holds, a console's text as a packet, a stop with a wrong checksum, and acks.
LIKE_PACKETS = (
    "$OK#9a", "$T05thread:01;#07", "+$S05#b8", "$3#33", "$O41#b4", "$T05thread:01;#00", "+", "-",
)  # fmt: skip
WRITER = "while :; do " + "".join(f"echo '{line}'; " for line in LIKE_PACKETS) + "done"
# Seconds: what comes, comes within them on a machine under load, too.
PATIENCE = 60.0


def alive(guest: Guest) -> bool:
    return guest.run("echo alive") == "alive\n"


def heard(target: Target, text: str) -> str:
    """Return what the console says, up to a text and some more, as it comes by itself."""
    said, end = "", time.monotonic() + PATIENCE
    while text not in said:
        assert time.monotonic() < end, said
        time.sleep(0.02)
        said += target.console.read()
    return said


@pytest.fixture(params=KERNELS)
def name(request: pytest.FixtureRequest) -> KernelName:
    kernel: KernelName = request.param
    return kernel


@pytest.fixture
def telnet(boot_kernel: BootKernel) -> Guest:
    """A kernel whose console and kgdb share a line that carries a BREAK."""
    return boot_kernel("x86_64", append="kgdboc=ttyS0,115200", ports=("telnet", "shell"))


# --- getting in and out ---


def test_a_running_kernel_is_broken_into_and_runs_on(
    boot_kernel: BootKernel, name: KernelName
) -> None:
    guest = boot_kernel(name, append="kgdboc=ttyS0", ports=("telnet", "shell"))
    # The first time the kernel goes to kdb, then to the stub, and after a detach to the stub with
    # a banner that holds a packet.
    for banner in ("Entering kdb", "KGDB or $3#33 for KDB"):
        with rsp.connect(guest.ports[0], symbols=guest.symbols, timeout=PATIENCE) as target:
            assert target.stub.name == "kgdb"
            assert target.stop.reason is StopReason.ATTACHED
            assert "kgdb_breakpoint" in str(target.backtrace()[0])
            assert "sysrq: DEBUG" in (said := target.console.read())
            assert banner in said
        assert alive(guest)
    assert "KGDB: BP" not in guest.console


class Late(TransportWrapper):
    """At a request of the client the machine stands still for a while, and Ctrl-C comes.

    Args:
        guest: the machine.
        request: the number of the request, from 1.
    """

    def __init__(self, guest: Guest, request: int) -> None:
        super().__init__(open_transport(guest.ports[0], timeout=PATIENCE))
        self.came = False
        self._pid = guest.pid
        self._left = request

    def write(self, data: bytes, timeout: float | None = None) -> None:
        if self._left > 0:
            self._left -= data.count(b"$") - data.count(b"$D")  # there Ctrl-C is held back
            if self._left <= 0:
                os.kill(self._pid, signal.SIGSTOP)
        super().write(data, timeout)

    def read(self, max_bytes: int, timeout: float | None) -> bytes:
        if self._left <= 0 and not self.came:
            self.came = True
            threading.Timer(0.7, os.kill, (self._pid, signal.SIGCONT)).start()
            raise KeyboardInterrupt
        return super().read(max_bytes, timeout)


def test_ctrl_c_while_the_kernel_lets_wait_for_an_answer(
    boot_kernel: BootKernel, name: KernelName
) -> None:
    """An OK to Hg0 that comes after D is no answer to D, which kgdb has dropped."""
    guest = boot_kernel(name, append="kgdboc=ttyS0", ports=("telnet", "shell"))
    for request in count(1):
        line = Late(guest, request)
        with contextlib.suppress(KeyboardInterrupt), rsp.connect(line, timeout=PATIENCE) as target:
            assert target.registers
        assert alive(guest), f"Ctrl-C at request {request}"
        if not line.came:
            break
    assert request > 5


def test_a_block_that_is_left_while_the_kernel_runs(telnet: Guest) -> None:
    """It is broken into for the breakpoint's sake, and runs on; so it does after a timeout."""
    with rsp.connect(telnet.address, symbols=telnet.symbols) as target:
        with (
            pytest.raises(rsp.RspTimeout, match="still runs") as caught,
            target.breakpoint("panic"),
        ):
            target.resume(timeout=1)
        assert caught.value.__context__ is None
        assert target.running
        assert len(target.breakpoints) == 0
        assert alive(telnet)
        assert target.interrupt().reason is StopReason.INTERRUPT
    assert alive(telnet)


def test_a_hundred_times_while_a_shell_prints_what_looks_like_packets(
    boot_kernel: BootKernel, name: KernelName
) -> None:
    guest = boot_kernel(name, append="kgdboc=ttyS0", ports=("telnet", "shell"))
    with rsp.connect(guest.ports[0], timeout=PATIENCE) as target:
        target.resume(wait=False)
        target.console.write(WRITER + "\r")
        heard(target, LIKE_PACKETS[-3])
        printed = 0
        for cycle in range(100 if name == "x86_64" else 30):
            stop = target.interrupt()
            assert stop.reason is StopReason.INTERRUPT, cycle
            # Where it stands is memory and registers that agree.
            pc = target.registers.pc
            assert target.read_memory(pc - 1, 1) == b"\xcc", cycle  # kgdb_breakpoint's int3
            printed += len(target.console.read())
            target.resume(wait=False)
            assert target.running
            time.sleep(0.01)
        assert printed > 10_000
    assert alive(guest)


@pytest.mark.live("gdb")
def test_the_same_stop_as_gdb_sees_it(boot_kernel: BootKernel, name: KernelName) -> None:
    """Over a unix socket, which gdb opens too, and which carries no BREAK: a shell does it."""
    guest = boot_kernel(name, append="kgdboc=ttyS0", ports=("unix", "shell"))
    address = guest.ports[0]
    with rsp.connect(
        address, symbols=guest.symbols, on_exit=OnExit.LEAVE_STOPPED, timeout=PATIENCE
    ) as target:
        registers = dict(target.registers)
        threads = [int(thread.id, 16) for thread in target.threads]
        found = target.backtrace()
        assert str(found)  # what is not read now is not there any more later
        pc = target.registers.pc
    gdb = Gdb(address=guest.ports[0], symbols=guest.symbols, settings=SETTINGS)
    shown, listed, traced = gdb.run("info registers", "info threads", "bt")
    for each in ("rip", "rsp", "rbp", "rbx") if name == "x86_64" else ("eip", "esp", "ebp", "ebx"):
        (value,) = re.findall(rf"^{each}\s+(0x\w+)", shown, re.MULTILINE)
        assert int(value, 16) == registers[each]
    numbers = re.findall(r"^[* ]+\d+ +Thread (\d+)", listed, re.MULTILINE)
    assert [int(number) & 0xFFFFFFFF for number in numbers] == threads
    score = Score()
    score.same_backtrace(found, traced)
    score.check()
    assert score.lines >= 8
    assert found[0].function == "kgdb_breakpoint"
    assert pc == registers["rip" if name == "x86_64" else "eip"]
    with rsp.connect(guest.ports[0], timeout=PATIENCE):  # taken over from gdb, which has hung up
        pass
    assert alive(guest)


def test_a_breakpoint_that_insmod_meets(boot_kernel: BootKernel, name: KernelName) -> None:
    guest = boot_kernel(name, append="kgdboc=ttyS0", ports=("telnet", "shell"))
    with rsp.connect(guest.ports[0], symbols=guest.symbols, timeout=PATIENCE) as target:
        with target.breakpoint("do_init_module") as point:
            target.resume(wait=False)
            guest.start("insmod /dummy.ko")
            stop = target.wait(PATIENCE)
            assert stop.breakpoint is point
            assert target.backtrace()[0].function == "do_init_module"
            assert point.hits == 1
        target.resume(wait=False)
        guest.run("while [ ! -e /sys/module/dummy ]; do usleep 10000; done")
        guest.run("rmmod dummy && insmod /dummy.ko")  # the breakpoint is gone
    assert "dummy" in guest.run("cat /proc/modules")


def stopped_by_hand(line: Transport) -> bytes:
    """Break in as somebody else would, and return what comes up to the unacknowledged stop."""
    line.send_break()
    line.write(b"g")
    said, end = b"", time.monotonic() + PATIENCE
    while not re.search(rb"\$T05thread:\w+;#..$", said):
        assert time.monotonic() < end, said
        with contextlib.suppress(rsp.RspTimeout):
            said += line.read(4096, 0.1)
    return said


def test_what_another_client_has_left_is_taken_over(telnet: Guest) -> None:
    address = telnet.ports[0]
    gone = rsp.connect(address, symbols=telnet.symbols, timeout=PATIENCE)
    # Its breakpoint stays, and the kernel believes it connected.
    point = gone.breakpoint("do_init_module").locations[0]
    gone.resume(wait=False)
    assert alive(telnet)
    gone.session.close()
    # Stopped, with a stop that nobody has acknowledged.
    with open_transport(address, timeout=5) as line:
        stopped_by_hand(line)
    with rsp.connect(address, on_exit=OnExit.LEAVE_STOPPED, timeout=PATIENCE) as target:
        assert target.stub.name == "kgdb"
        assert target.read_memory(point, 1) != b"\xcc"
    # Standing still, and silent.
    with rsp.connect(address, timeout=PATIENCE) as target:
        assert target.stop.reason is StopReason.ATTACHED
    telnet.run("insmod /dummy.ko && rmmod dummy")
    assert alive(telnet)


def test_kdb_and_back(telnet: Guest) -> None:
    with rsp.connect(telnet.ports[0], symbols=telnet.symbols, timeout=PATIENCE) as target:
        assert "Release" in target.monitor("summary") or "release" in target.monitor("summary")
        with target.breakpoint("do_init_module") as point:
            target.console.read()
            target.enter_kdb()
            heard(target, "kdb> ")
            target.console.write("summary\r")
            assert "sysname" in heard(target, "kdb> ")
            target.console.write("half a comm")  # what is typed already does no harm
            assert target.interrupt().reason is StopReason.INTERRUPT
            assert target.registers.pc
            target.resume(wait=False)
            telnet.start("insmod /dummy.ko")
            assert target.wait(PATIENCE).breakpoint is point
            # From the prompt it may go on by itself.
            target.enter_kdb()
            heard(target, "kdb> ")
            # Twice, where another CPU did not stop within the kernel's own second: "Catastrophic
            # error detected". A shell knows no such command.
            target.console.write("go\rgo\r")
            assert alive(telnet)
            target.interrupt()
    gone = rsp.connect(telnet.ports[0], timeout=PATIENCE)
    gone.enter_kdb()
    heard(gone, "kdb> ")
    gone.session.close()
    # Left at its prompt, it is found there.
    with rsp.connect(telnet.ports[0], timeout=PATIENCE) as target:
        assert target.stub.name == "kgdb"
    telnet.run("rmmod dummy")


@pytest.mark.parametrize("options", ["kgdbwait", "kgdbwait nokaslr maxcpus=1"])
def test_a_kernel_that_waits_for_us_when_it_boots(
    boot_kernel: BootKernel, name: KernelName, options: str
) -> None:
    """On a port of its own: nothing but packets passes there, and no BREAK is heard."""
    guest = boot_kernel(
        name,
        append=f"kgdboc=ttyS1,115200 {options}",
        ports=("console", "unix", "console", "shell"),
        stopped=True,
    )
    guest.monitor("cont")
    guest.wait_for("Waiting for connection from remote gdb")
    with rsp.connect(guest.ports[1], symbols=guest.symbols, timeout=PATIENCE) as target:
        assert target.backtrace()[0].function == "kgdb_breakpoint"
        target.resume(wait=False)
        guest.wait_for("lab: the guest is up")
        with pytest.raises(rsp.UnsupportedCommand, match="sysrq-trigger"):
            target.interrupt()
        assert target.running
        guest.start("echo g > /proc/sysrq-trigger")
        guest.wait_for("sysrq: DEBUG")
        assert target.wait(PATIENCE).reason is StopReason.SIGNAL
    assert alive(guest)


@pytest.fixture
def waiting(boot_kernel: BootKernel, name: KernelName) -> Guest:
    """A kernel that waits for us in the midst of its boot, its code not write-protected yet."""
    guest = boot_kernel(
        name,
        append="kgdboc=ttyS1,115200 kgdbwait",
        ports=("console", "unix", "console", "shell"),
        stopped=True,
    )
    guest.monitor("cont")
    guest.wait_for("Waiting for connection from remote gdb")
    return guest


def back_in(guest: Guest, target: Target) -> None:
    """Let the kernel boot to its end, and stop it again."""
    target.resume(wait=False)
    guest.wait_for("lab: the guest is up")
    guest.start("echo g > /proc/sysrq-trigger")
    assert target.wait(PATIENCE).reason is StopReason.SIGNAL


@pytest.mark.parametrize("kind", ["auto", "software"])
def test_breakpoints_are_out_before_the_kernel_write_protects_its_code(
    waiting: Guest, kind: Literal["auto", "software"], caplog: pytest.LogCaptureFixture
) -> None:
    """It could not take them out afterwards, and would hang at the first that it meets."""
    with rsp.connect(waiting.ports[1], symbols=waiting.symbols, timeout=PATIENCE) as target:
        early = target.breakpoint("do_one_initcall", kind=kind, temporary=True)
        late = target.breakpoint("ksys_sync", kind=kind)
        assert late.kind is BreakpointKind.SOFTWARE
        # What comes before that is stopped at as ever.
        assert target.resume(timeout=PATIENCE).breakpoint is early
        stop = target.resume(timeout=PATIENCE)
        assert (stop.reason, stop.event) == (StopReason.EVENT, "write protection")
        assert (stop.function, stop.breakpoint) == ("mark_rodata_ro", None)
        assert not late.inserted
        assert not target.points.any
        assert "could not take these breakpoints out of it afterwards: 2 (ksys_sync)" in caplog.text
        back_in(waiting, target)
        assert "BP remove failed" not in waiting.console
        # What is set now holds.
        with target.breakpoint("ksys_sync") as late:
            for _ in range(2):
                target.resume(wait=False)
                waiting.start("sync")
                assert target.wait(PATIENCE).breakpoint is late
            assert [point.what for point in target.points.by_software] == ["ksys_sync"]
    assert alive(waiting)


def test_the_kernel_runs_past_its_write_protection_without_breakpoints(waiting: Guest) -> None:
    with rsp.connect(waiting.ports[1], symbols=waiting.symbols, timeout=PATIENCE) as target:
        with target.breakpoint("do_one_initcall"):
            target.resume(timeout=PATIENCE)
        target.step(timeout=PATIENCE)
        back_in(waiting, target)
    assert alive(waiting)


# --- rsp console ---


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_that_can_break_in(telnet: Guest, terminal: bool) -> None:
    """What is typed comes from a pipe, or from a terminal."""
    keys, typing = os.openpty() if terminal else os.pipe()[::-1]
    command = [sys.executable, "-m", "rsp", "console", telnet.ports[0]]
    with subprocess.Popen(
        [*command, "--symbols", telnet.symbols],
        stdin=typing,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as console:
        os.close(typing)
        assert console.stdout is not None
        os.set_blocking(console.stdout.fileno(), False)

        def until(text: bytes) -> bytes:
            said, end = b"", time.monotonic() + PATIENCE
            while text not in said:
                assert time.monotonic() < end, said
                said += console.stdout.read() or b""  # type: ignore[union-attr]  # it is a pipe
                time.sleep(0.02)
            return said

        try:
            if terminal:
                until(b"Ctrl-] b stops the kernel")
            os.write(keys, b"echo one''two\r")
            until(b"\nonetwo")
            os.write(keys, b"\x1db")
            assert b"kgdb_breakpoint" in until(b"(rsp) ")
            os.write(keys, b"summary\n")
            assert b"sysname" in until(b"(rsp) ")
            os.write(keys, b"c\n")
            assert alive(telnet)
            os.write(keys, b"echo three''four\r")
            until(b"\nthreefour")
            if terminal:
                os.write(keys, b"\x1dq")
            else:
                os.close(keys)
            assert console.wait(PATIENCE) == 0
        finally:
            console.kill()
    if terminal:
        os.close(keys)
    assert alive(telnet)


# --- what stands in the way ---


def test_sysrq_off_and_a_shell_that_can_do_without(telnet: Guest) -> None:
    telnet.run("echo 0 > /proc/sys/kernel/sysrq")
    try:
        with rsp.connect(telnet.ports[0], timeout=PATIENCE) as target:
            target.resume(wait=False)
            assert target.interrupt().reason is StopReason.INTERRUPT
    finally:
        assert alive(telnet)
        telnet.run("echo 1 > /proc/sys/kernel/sysrq")


@pytest.mark.parametrize(
    ("sysrq", "typed", "reason"),
    [
        (16, "sleep 1000", r"kernel\.sysrq=1"),
        (0, "sleep 1000", r"kernel\.sysrq.*no prompt|no prompt.*kernel\.sysrq"),
        (0, "while :; do printf 'lab login: '; read line; done", "log in as root"),
    ],
)
def test_why_a_kernel_cannot_be_stopped(telnet: Guest, sysrq: int, typed: str, reason: str) -> None:
    telnet.run(f"echo {sysrq} > /proc/sys/kernel/sysrq")
    telnet.wait_for("/ # ")
    with open_transport(telnet.ports[0], timeout=5) as line:
        line.write(typed.encode() + b"\r")
        if "sleep" in typed:
            telnet.run("until pidof sleep; do usleep 10000; done")
        else:
            telnet.wait_for("\nlab login: ")
    try:
        with pytest.raises(rsp.UnsupportedCommand, match=reason):
            rsp.connect(telnet.ports[0], timeout=15)
    finally:
        assert alive(telnet)
        telnet.run("echo 1 > /proc/sys/kernel/sysrq")
        with open_transport(telnet.ports[0], timeout=5) as line:
            line.write(b"\x03")


def test_a_stop_is_waited_for(telnet: Guest) -> None:
    with pytest.raises(rsp.RspTimeout, match="interrupt=True"):
        rsp.connect(telnet.ports[0], interrupt=False, timeout=1.5)
    telnet.start("sleep 1; echo g > /proc/sysrq-trigger")
    with rsp.connect(telnet.ports[0], interrupt=False, timeout=PATIENCE) as target:
        assert target.stub.name == "kgdb"
    assert alive(telnet)


# --- the pieces that people use ---


def test_by_the_monitor_of_qemu(boot_kernel: BootKernel, tmp_path: Path) -> None:
    monitor = f"unix:{tmp_path}/monitor"
    guest = boot_kernel(
        "x86_64",
        append="kgdboc=ttyS0",
        ports=("unix", "shell"),
        args=("-monitor", f"{monitor},server=on,wait=off"),
    )
    with rsp.connect(guest.ports[0], interrupt=monitor, timeout=PATIENCE) as target:
        assert "NonMaskable" in target.console.read()
        target.resume(wait=False)
        assert target.interrupt().reason is StopReason.INTERRUPT
    assert alive(guest)


def test_behind_agent_proxy(boot_kernel: BootKernel) -> None:
    """Of a byte 0x03 it makes a BREAK and g; nothing else stops the kernel."""
    guest = boot_kernel("x86_64", append="kgdboc=ttyS0", ports=("telnet", "shell"))
    with agent_proxy(guest.ports[0]) as address:
        with rsp.connect(
            address, symbols=guest.symbols, interrupt="ctrl-c", timeout=PATIENCE
        ) as target:
            assert target.backtrace()[0].function == "kgdb_breakpoint"
            target.resume(wait=False)
            assert target.interrupt().reason is StopReason.INTERRUPT
        assert alive(guest)


@contextlib.contextmanager
def agent_proxy(port: str) -> Iterator[str]:
    """Put what kgdb's agent-proxy does for a debugger in front of a line that has a BREAK."""
    with (
        open_transport(port, timeout=PATIENCE) as line,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        over = threading.Event()

        def work() -> None:
            client, _ = server.accept()
            with client, contextlib.suppress(rsp.TransportError, OSError):
                client.setblocking(False)
                while not over.is_set():
                    with contextlib.suppress(rsp.RspTimeout):
                        client.sendall(line.read(4096, 0.01))
                    with contextlib.suppress(BlockingIOError):
                        before, ctrl_c, after = client.recv(4096).partition(b"\x03")
                        line.write(before)
                        if ctrl_c:
                            line.send_break()
                            time.sleep(0.2)
                            line.write(b"g" + after)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield "127.0.0.1:{1}".format(*server.getsockname())
        finally:
            over.set()
            thread.join()


def test_a_pseudo_terminal(boot_kernel: BootKernel, name: KernelName) -> None:
    guest = boot_kernel(name, append="kgdboc=ttyS0", ports=("pty", "shell"))
    with rsp.connect(f"{guest.ports[0]},115200", symbols=guest.symbols, timeout=PATIENCE) as target:
        assert target.backtrace()[0].function == "kgdb_breakpoint"
        target.resume(wait=False)
        target.console.write("echo typed\r")
        heard(target, "\ntyped")
        assert target.interrupt().reason is StopReason.INTERRUPT
    assert alive(guest)


@pytest.mark.live("socat")
@pytest.mark.parametrize("port", ["pty", "unix"])
def test_socat_in_front_of_it(boot_kernel: BootKernel, port: str) -> None:
    guest = boot_kernel("x86_64", append="kgdboc=ttyS0", ports=(port, "shell"))
    place = guest.ports[0].removeprefix("unix:")
    behind = f"{place},raw,echo=0" if port == "pty" else f"UNIX-CONNECT:{place}"
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    listening = f"TCP-LISTEN:{number},bind=127.0.0.1,reuseaddr"
    with subprocess.Popen(["socat", listening, behind]) as socat:
        try:
            with connected(f"127.0.0.1:{number}") as target:
                target.resume(wait=False)
                assert target.interrupt().reason is StopReason.INTERRUPT
                assert len(target.read_memory(target.registers.sp, 1000)) == 1000
        finally:
            socat.terminate()
    assert alive(guest)


def connected(address: str) -> Target:
    """Connect to what is about to listen."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return rsp.connect(address, timeout=PATIENCE)
        except rsp.TransportError:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_console_messages_in_packets(boot_kernel: BootKernel) -> None:
    """kgdbcon: each message waits for its ack, also while nobody waits for the target."""
    guest = boot_kernel(
        "x86_64",
        append="kgdboc=ttyS1 kgdbcon",
        ports=("console", "unix", "console", "shell"),
    )
    guest.start("echo g > /proc/sysrq-trigger")
    guest.wait_for("Entering kdb")
    said: list[str] = []
    with rsp.connect(guest.ports[1], timeout=PATIENCE) as target:
        target.console.callback = said.append
        target.resume(wait=False)
        guest.run("echo '<1>a message' > /dev/kmsg; echo '<1>and one more' > /dev/kmsg")
        assert "a message" in heard(target, "and one more")
        guest.start("echo g > /proc/sysrq-trigger")
        assert target.wait(PATIENCE).reason is StopReason.SIGNAL
    assert "a message" in "".join(said)
    guest.run("echo '<1>without us' > /dev/kmsg")
    assert alive(guest)
