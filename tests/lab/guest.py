"""Linux guests: the kernels of the lab running under QEMU, with a small load and a shell.

    def test_x(boot_kernel):                      # a guest of the test's own, ended with it
        guest = boot_kernel("debian")             # "debian" | "x86_64" | "i386"; returns when it is up
        with rsp.connect(guest.address, symbols=guest.symbols) as target: ...
        Gdb(address=guest.address, symbols=guest.symbols).run("bt")     # after the with block
        guest.run("cat /proc/kallsyms")           # output of a command in the running guest
        guest.start("insmod /dummy.ko")           # the same, not waited for: its breakpoints are met
        guest.console, guest.wait_for("text"), guest.monitor("info tlb"), guest.modules["dummy"]
    boot_kernel("debian", kaslr=True, stopped=True, append="pti=on", cpus=1, cpu="qemu64,+la57",
                ports=("console", "shell", "unix"))   # ttyS0, ttyS1, ttyS2: guest.ports[2] is its address
    shared_kernel("debian")                       # one for the session: leave it as it was found

Here lives: the initial ramdisk and the machine around it; its two scripts are in guest/. Here must
not live: how a kernel is obtained (`kernels`), and anything of the remote protocol.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from lab import kernels
from lab.programs import cache_directory
from rsp.testing.qemu import QemuMachine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCES = Path(__file__).parent / "guest"
UP = "lab: the guest is up"
BOOT_TIMEOUT = 180.0
"""Seconds that a boot may take; about 10 on an idle machine."""
RUN_TIMEOUT = 60.0
MODULES = ("dummy", "dm-mod", "libcrc32c", "xfs")

KernelName = Literal["debian", "x86_64", "i386"]
Port = Literal["console", "shell", "unix", "telnet", "pty"]


class GuestError(AssertionError):
    """The guest did not do what it was asked to; the message has the end of its console."""


class Guest:
    """A kernel of the lab, booted; a context manager.

    Args:
        kernel: which one.
        append: more of the kernel's command line.
        kaslr: without, the kernel lies at its link addresses.
        cpus: their number.
        cpu: QEMU's CPU model.
        memory: in MB.
        stopped: stay at the reset vector; otherwise it runs, and is up on return.
        gdb: what QEMU's stub listens on, see QemuMachine.
        ports: what is at ttyS0, ttyS1, …: "console" is captured only, "shell" is what `run` uses,
            the others are for clients: a unix socket, telnet on a TCP port (which carries a BREAK),
            a pseudo-terminal. The console is at the first, and captured in every case. A first
            one that is for clients has a shell on it.
        args: more of QEMU's arguments.

    Attributes:
        machine: QEMU.
        symbols: vmlinux.
        modules: the files with the debugging information of those that lie in the guest as
            /NAME.ko.
        ports: of each port, the address that `rsp.connect` takes, or "".
    """

    def __init__(
        self,
        kernel: KernelName = "debian",
        *,
        append: str = "",
        kaslr: bool = False,
        cpus: int = 2,
        cpu: str = "qemu64",
        memory: int = 512,
        stopped: bool = False,
        gdb: Literal["unix", "tcp", "pty"] = "unix",
        ports: Sequence[Port] = ("console", "shell"),
        args: Sequence[str] = (),
    ) -> None:
        self.kernel = kernel
        image, self.symbols, installed, self.modules = _files(kernel)
        line = ["console=ttyS0", "panic=-1", *([] if kaslr else ["nokaslr"]), append]
        if "shell" in ports:
            line.append(f"lab_shell=ttyS{list(ports).index('shell')}")
        if ports[0] != "console":
            line.append("lab_console=ttyS0")
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rsp-guest-")))
            self._log = directory / "port0.log"
            self._shell_path = directory / f"port{len(ports)}"
            serial, names = [], []
            for number, port in enumerate(ports):
                where, name = _port(port, directory / f"port{number}")
                if port == "shell":
                    self._shell_path = directory / f"port{number}"
                log = directory / f"port{number}.log"
                serial += ["-chardev", f"{where},id=port{number},logfile={log}"]
                serial += ["-serial", f"chardev:port{number}"]
                names.append(name)
            self.machine = stack.enter_context(
                QemuMachine(
                    binary="qemu-system-x86_64",
                    gdb=gdb,
                    stopped=True,
                    memory=f"{memory}M",
                    args=[
                        *("-kernel", str(image), "-initrd", str(_initrd(kernel, installed))),
                        *("-append", " ".join(line), "-cpu", cpu),
                        # Without ACPI a kernel finds one CPU for each socket.
                        *("-smp", f"{cpus},sockets={cpus},cores=1,threads=1"),
                        *serial,
                        *args,
                    ],
                )
            )
            self.ports = [self._found(port, name, n) for n, (port, name) in enumerate(zip(ports, names, strict=True))]
            self._shell: socket.socket | None = None
            if "shell" in ports:
                self._shell = stack.enter_context(socket.socket(socket.AF_UNIX))
                self._shell.connect(os.fspath(self._shell_path))
            if not stopped:
                self.machine.monitor("cont")
                self.wait_for(UP, BOOT_TIMEOUT)
            self._cleanup = stack.pop_all()

    @property
    def address(self) -> str:
        """Where QEMU's stub listens."""
        return self.machine.address

    @property
    def console(self) -> str:
        """What the guest has written to ttyS0 so far."""
        return self._log.read_text(errors="replace").replace("\r\n", "\n")

    def monitor(self, command: str) -> str:
        """Run a command of QEMU's monitor."""
        return self.machine.monitor(command)

    def wait_for(self, text: str, timeout: float = 30.0) -> None:
        """Wait until the console has a text."""
        deadline = time.monotonic() + timeout
        while text not in self.console:
            if time.monotonic() > deadline:
                raise GuestError(f"{text!r} did not come within {timeout:g} s:{self._end()}")
            time.sleep(0.05)
