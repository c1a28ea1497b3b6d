"""A QEMU machine for a test: started, reachable through its gdbstub, ended with the test.

Contents: how QEMU is started, how one waits until it is ready, how it ends. Its monitor is at hand
too, as a second way to ask the machine the same question. Not here: the remote protocol, or
anything that a particular guest needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from rsp import arguments
from rsp.errors import TransportError

__all__ = ["QemuMachine"]

START_TIMEOUT = 30.0
"""Seconds until QEMU must answer on its monitor; a loaded machine needs a few."""


class QemuMachine:
    """A virtual machine whose gdbstub waits at ``address``; a context manager.

    The disk is opened as a snapshot: the guest may write, the file stays as it is, and several
    machines may share it. Where util-linux is installed QEMU dies with the thread that started it,
    so that a test run that is killed leaves nothing behind: start it from one that lives as long.

    Args:
        image: a raw disk to boot from; None for a machine with nothing to boot.
        binary: the program, by name or path.
        gdb: what the gdbstub listens on: a unix socket, a free TCP port of 127.0.0.1, or a
            pseudo-terminal, which is a serial line for the client.
        stopped: start halted at the reset vector; otherwise the guest runs at once.
        memory: the size of the guest's memory, in QEMU's spelling.
        args: further arguments for QEMU.

    Attributes:
        address: where the gdbstub listens, in a spelling that ``rsp.connect`` takes.
        pid: QEMU's process id.

    Raises:
        TransportError: QEMU is not installed, or did not start; the message is QEMU's own.

    >>> from rsp.testing.boot import IMAGE
    >>> with QemuMachine(IMAGE) as machine:              # doctest: +SKIP
    ...     machine.monitor("info status").strip()
    'VM status: paused (prelaunch)'
    """

    address: str

    def __init__(
        self,
        image: str | os.PathLike[str] | None = None,
        *,
        binary: str = "qemu-system-x86_64",
        gdb: Literal["unix", "tcp", "pty"] = "unix",
        stopped: bool = True,
        memory: str = "16M",
        args: Sequence[str] = (),
    ) -> None:
        arguments.path(binary, "binary", "the name of a program, or its path")
        arguments.word(memory, "memory", "a size, as QEMU spells it")
        arguments.flag(stopped, "stopped")
        if not isinstance(gdb, str) or gdb not in ("unix", "tcp", "pty"):
            raise arguments.refused("gdb", gdb, "'unix', 'tcp' or 'pty'")
        if isinstance(args, str) or not isinstance(args, Sequence):
            raise arguments.refused("args", args, "words, each of its own")
        words = [arguments.word(word, "a word of args") for word in args]
        command = [binary, "-nodefaults", "-display", "none", "-no-reboot", "-m", memory]
        if stopped:
            command.append("-S")
        if image is not None:
            # In QEMU's option lists a comma is written twice.
            path = arguments.path(image, "image").replace(",", ",,")
            command += ["-drive", f"file={path},format=raw,snapshot=on"]

        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="rsp-qemu-"))
            self._log = stack.enter_context(Path(directory, "log").open("w+b"))
            monitor, qemu_end = socket.socketpair()
            self._monitor = stack.enter_context(monitor)
            self._monitor.settimeout(START_TIMEOUT)
            # What is of QEMU's side is open here until QEMU has its own copy.
            with contextlib.ExitStack() as handed_over:
                handed_over.enter_context(qemu_end)
                descriptors = [qemu_end.fileno()]
                chardev = "pty,id=gdb"
                if gdb != "pty":
                    # Bound here, so that no port is guessed and a client may connect at once.
                    listener = handed_over.enter_context(_listen(gdb, directory))
                    descriptors.append(listener.fileno())
                    chardev = f"socket,id=gdb,fd={listener.fileno()},server=on,wait=off"
                    if gdb == "tcp":
                        chardev += ",delay=off"  # `nodelay` is new in 6.0
                    self.address = _spelling(listener)
                command += ["-chardev", chardev, "-gdb", "chardev:gdb"]
                command += ["-chardev", f"socket,id=rsp-monitor,fd={qemu_end.fileno()}"]
                command += ["-qmp", "chardev:rsp-monitor", *words]
                self._process = self._spawn(command, descriptors)
            stack.callback(self._end)

            self._replies = stack.enter_context(self._monitor.makefile("rb"))
            try:
                # Commands are served by QEMU's main loop: the machine is complete by then.
                self._execute("qmp_capabilities")
                if gdb == "pty":
                    self.address = self._pty()
            except (OSError, ValueError) as error:
                self._end()
                said = self.output.strip() or f"it said nothing ({error})"
                raise TransportError(f"{binary} did not start: {said}", address=binary) from error
            self._cleanup = stack.pop_all()

    @property
    def pid(self) -> int:
        """QEMU's process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What QEMU has printed so far, its warnings and the names of its ptys for example."""
        return Path(self._log.name).read_text(errors="replace") if not self._log.closed else ""

    def monitor(self, command: str) -> str:
        """Run a command of QEMU's human monitor and return what it prints.

        It reaches the machine beside the gdbstub, so that one can be checked with the other, and
        ``chardev-send-break`` sends a BREAK on a serial line.

        Raises:
            TransportError: QEMU has ended.
        """
        try:
            text = self._execute("human-monitor-command", {"command-line": command})
        except (OSError, ValueError) as error:
            raise TransportError(f"QEMU's monitor is gone: {error}", address="monitor") from error
        return str(text).replace("\r\n", "\n")

    def close(self) -> None:
        """End QEMU, wait for it and remove its files; a second call does nothing."""
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _spawn(self, command: list[str], descriptors: list[int]) -> subprocess.Popen[bytes]:
        if shutil.which(command[0]) is None:
            raise TransportError(
                f"{command[0]} is not installed; on Debian: apt-get install qemu-system-x86",
                address=command[0],
            )
        # util-linux has the program that leaves prctl(PR_SET_PDEATHSIG) behind for the next one;
        # a preexec_fn would do it too, but is not safe in a process with threads.
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "KILL", "--", *command]
        return subprocess.Popen(  # noqa: S603 - the caller says which program
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=descriptors,
            start_new_session=True,  # Ctrl-C is for the debugger, not for the machine
        )

    def _execute(self, command: str, arguments: dict[str, str] | None = None) -> Any:
        """Send one command of QEMU's machine protocol (QMP) and return its answer."""
        request = {"execute": command, "arguments": arguments or {}}
        self._monitor.sendall(json.dumps(request).encode() + b"\n")
        while line := self._replies.readline():
            match json.loads(line):
                case {"return": value}:
                    return value
                case {"error": {"desc": description}}:
                    raise ValueError(description)
        raise ConnectionResetError("the monitor was closed")

    def _pty(self) -> str:
        names = {device["label"]: device["filename"] for device in self._execute("query-chardev")}
        return str(names["gdb"]).removeprefix("pty:")

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()


def _listen(gdb: str, directory: str) -> socket.socket:
    if gdb == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(directory, "gdb"))  # noqa: PTH118 - bind takes no Path
    else:
        listener = socket.socket(socket.AF_INET)
        listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    return listener


def _spelling(listener: socket.socket) -> str:
    name = listener.getsockname()
    return f"unix:{name}" if isinstance(name, str) else f"{name[0]}:{name[1]}"
