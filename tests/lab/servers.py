"""gdbserver and valgrind's vgdb, each on a program of the lab.

Contents: how they are started, how their address is learnt, how they end. QEMU's launcher is a part
of the library: `rsp.testing.qemu`.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any, Protocol

from rsp.testing.boot import IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rsp.testing.qemu import QemuMachine

LISTENING = re.compile(rb"Listening on port (\d+)")


class BootQemu(Protocol):
    """The fixture ``boot_qemu``: starts a machine; the options are those of QemuMachine."""

    def __call__(self, image: Path | None = IMAGE, **options: Any) -> QemuMachine: ...


class StartServer(Protocol):
    """The fixtures ``gdbserver`` and ``vgdb``: start a stub on a program, return its address."""

    def __call__(self, *args: str, source: str = ..., pipe: bool = ...) -> str: ...


@contextlib.contextmanager
def gdbserver_tcp(program: Path, *args: str, options: tuple[str, ...] = ()) -> Iterator[str]:
    """Run a program under gdbserver, stopped before its first instruction; yield its address."""
    process = subprocess.Popen(
        ["gdbserver", *options, "127.0.0.1:0", program, *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    with _ended(process):
        assert process.stderr is not None
        said = b""
        while not (found := LISTENING.search(said)):
            line = process.stderr.readline()
            assert line, f"gdbserver did not start: {said.decode()}"
            said += line
        yield f"127.0.0.1:{int(found[1])}"


def gdbserver_pipe(program: Path, *args: str) -> str:
    """Return the address of a gdbserver that talks over its standard input and output."""
    return " ".join(["| gdbserver -", str(program), *args])


@contextlib.contextmanager
def vgdb(program: Path, *args: str) -> Iterator[str]:
    """Run a program under valgrind, stopped before its first instruction; yield its address.

    vgdb is the relay between a client and the stub within valgrind, and talks over a pipe.
    """
    with tempfile.TemporaryDirectory(prefix="rsp-vgdb-") as directory:
        # The prefix names the FIFOs that the two meet at.
        prefix = f"--vgdb-prefix={directory}/pipe"
        process = subprocess.Popen(
            ["valgrind", "-q", "--vgdb=yes", "--vgdb-error=0", prefix, program, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with _ended(process):
            # --wait: valgrind may need that many seconds until its FIFOs are there.
            yield f"| vgdb --wait=20 {prefix} --pid={process.pid}"


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process and wait for it; what it traces dies with it (PTRACE_O_EXITKILL)."""
    with process:  # closes its pipes and waits
        try:
            yield
        finally:
            process.kill()
