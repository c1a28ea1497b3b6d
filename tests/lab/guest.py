"""Linux guests: the kernels of the lab under QEMU, with a small load and a way to run commands.

    def test_x(boot_kernel):                      # guests of the test's own, ended with it
        guest = boot_kernel("debian")             # or another of MODULES; up when it returns
        with rsp.connect(guest.address, symbols=guest.symbols) as target: ...
        Gdb(address=guest.address, symbols=guest.symbols).run("bt", "detach")
        guest.run("cat /proc/modules")            # the output of a command; the guest must run
        guest.start("insmod /dummy.ko")           # not waited for: it may meet a breakpoint
        guest.console; guest.wait_for("text"); guest.monitor("info tlb"); guest.modules["dummy"]
    boot_kernel("debian", kaslr=True, stopped=True, append="pti=on", cpus=1, cpu="qemu64,+la57")
    shared_kernel("debian")                       # one for all tests: leave it running, as it was
    # kgdb on a line of its own, ttyS1, or on that of the console; guest.ports[n] is its address:
    boot_kernel("i386", append="kgdboc=ttyS1", ports=("console", "unix", "console", "shell"))
    boot_kernel("x86_64", append="kgdboc=ttyS0", ports=("telnet", "shell"))

Always going on: TCP connections (tcp_init_sock), reads and writes of files (vfs_read), short sleeps
(do_nanosleep), processes that come and go. Modules lie in the guest as /NAME.ko; `threads`
in a 64-bit one is a process of four. A gdb that does
not detach leaves the machine standing: ``guest.monitor("cont")``.

Contents: the initial ramdisk and the machine around it; the scripts of the guest are in guest/. Not
here: how a kernel is obtained (`kernels`), and anything of the remote protocol.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, Self

from lab import kernels, programs
from lab.programs import cache_directory
from rsp.errors import TransportError
from rsp.testing.qemu import QemuMachine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SCRIPTS = Path(__file__).parent / "guest"
UP = "lab: the guest is up"
MODULES = {
    "debian": ("dummy", "dm-mod", "libcrc32c", "xfs", "zsmalloc"),
    "debian-6.12": ("dummy", "dm-mod", "libcrc32c", "xfs", "zsmalloc"),
    "x86_64": ("dummy",),
    "i386": ("dummy",),
}
# Under QEMU 7.2 this kernel dies at its allocator's cmpxchg16b: the flags behind it are no flags,
# as its own report of the registers shows. Without the instruction it goes another way.
CPUS = {"debian-6.12": "qemu64,-cx16"}

BOOT_TIMEOUT = 600.0
"""Seconds that a boot may take: 1 to 3 on an idle machine, and tests share theirs."""
RUN_TIMEOUT = 240.0

KernelName = Literal["debian", "debian-6.12", "x86_64", "i386"]
Port = Literal["console", "shell", "unix", "telnet", "pty"]

# The chardev of each kind of port, and how `rsp.connect` spells what QEMU says of it.
_CHARDEVS = {
    "console": "null",
    "shell": "socket,path={path},server=on,wait=off",
    "unix": "socket,path={path},server=on,wait=off",
    "telnet": "socket,host=127.0.0.1,port=0,server=on,wait=off,telnet=on",
    "pty": "pty",
}
_ADDRESSES = {
    r"unix:([^,\s]+)": "unix:{}",
    r"telnet:([^,\s]+)": "telnet://{}",
    r"pty:(\S+)": "{}",
}


class GuestError(AssertionError):
    """The guest did not do what it was to; the message ends with the end of its console."""


class BootKernel(Protocol):
    """The fixtures ``boot_kernel`` and ``shared_kernel``; the options are those of Guest."""

    def __call__(self, kernel: KernelName = "debian", **options: Any) -> Guest: ...


@dataclass(frozen=True, slots=True)
class _Files:
    """What is booted, and what lies in the guest."""

    image: Path
    symbols: Path
    modules: dict[str, Path]
    debug_modules: dict[str, Path]


class Guest:
    """A kernel of the lab on a virtual machine; a context manager.

    Args:
        kernel: which one.
        append: more of the kernel's command line.
        kaslr: whether the kernel slides; else it lies at its link addresses.
        cpus: their number.
        cpu: QEMU's model of them, None for its own choice, or the one of CPUS.
        memory: in MB.
        stopped: stay at the reset vector; otherwise the guest is up when this returns.
        gdb: what QEMU's stub listens on, see QemuMachine.
        ports: what is at ttyS0, ttyS1, …: "console" is only listened to, "shell" is what `run`
            uses, the others are for a client: a unix socket, telnet over TCP (which can carry a
            BREAK), a pseudo-terminal. The console is at the first, with a shell on it if it is for
            a client. The first and the third share an interrupt, as do the second and the fourth,
            and the built kernels let only one of such two be opened (kgdb does not open its own).
        args: more arguments for QEMU.

    Attributes:
        machine: the QemuMachine.
        address: where QEMU's stub listens.
        pid: QEMU's process id.
        symbols: vmlinux.
        modules: by name, the files with debugging information of the modules in the guest.
        ports: the address of each port as `rsp.connect` takes it, empty for a "console".
    """

    def __init__(
        self,
        kernel: KernelName = "debian",
        *,
        append: str = "",
        kaslr: bool = False,
        cpus: int = 2,
        cpu: str | None = None,
        memory: int = 512,
        stopped: bool = False,
        gdb: Literal["unix", "tcp", "pty"] = "unix",
        ports: Sequence[Port] = ("console", "shell"),
        args: Sequence[str] = (),
    ) -> None:
        files = _files(kernel)
        cpu = cpu or CPUS.get(kernel)
        self.symbols, self.modules = files.symbols, files.debug_modules
        # Under load the timer misses ticks, which the kernel's check of it answers with a panic.
        line = ["console=ttyS0", "panic=-1", "no_timer_check", "" if kaslr else "nokaslr", append]
        if "shell" in ports:
            line.append(f"lab_shell=ttyS{ports.index('shell')}")
        if ports[0] != "console":
            line.append("lab_console=ttyS0")
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rsp-guest-")))
            self._log = directory / "port0.log"
            serial: list[str] = []
            for number, port in enumerate(ports):
                name = f"port{number}"
                device = _CHARDEVS[port].format(path=directory / name)
                log = f"logfile={directory / name}.log"
                serial += ["-chardev", f"{device},id={name},{log}", "-serial", f"chardev:{name}"]
            self.machine = stack.enter_context(
                QemuMachine(
                    # gdb takes no 32-bit vmlinux for a machine that is described as 64-bit.
                    binary="qemu-system-i386" if kernel == "i386" else "qemu-system-x86_64",
                    gdb=gdb,
                    memory=f"{memory}M",
                    args=[
                        *("-kernel", str(files.image)),
                        *("-initrd", str(_initrd(kernel, files.modules))),
                        *("-append", " ".join(filter(None, line))),
                        # Without ACPI a kernel finds one CPU for each socket.
                        *("-smp", f"{cpus},sockets={cpus},cores=1,threads=1"),
                        *(("-cpu", cpu) if cpu else ()),
                        *serial,
                        *args,
                    ],
                )
            )
            self.address, self.pid = self.machine.address, self.machine.pid
            self.ports = self._addresses(len(ports))
            self._shell: socket.socket | None = None
            self._requests = 0
            if "shell" in ports:
                self._shell = stack.enter_context(socket.socket(socket.AF_UNIX))
                self._shell.connect(self.ports[ports.index("shell")].removeprefix("unix:"))
            if not stopped:
                self.monitor("cont")
                self.wait_for(UP, BOOT_TIMEOUT)
            self._cleanup = stack.pop_all()

    @property
    def console(self) -> str:
        """What the guest has written to its first port so far."""
        return self._log.read_text(errors="replace").replace("\r\n", "\n")

    @property
    def running(self) -> bool:
        """Whether the machine runs, as QEMU says."""
        return "running" in self.monitor("info status")

    def monitor(self, command: str) -> str:
        """Run a command of QEMU's monitor; see QemuMachine."""
        return self.machine.monitor(command)

    def wait_for(self, text: str, timeout: float = RUN_TIMEOUT) -> None:
        """Wait until the console has a text."""
        deadline = time.monotonic() + timeout
        while text not in self.console:
            try:
                status = self.monitor("info status").strip()
            except TransportError as error:  # after a panic, for example
                self._fail(f"the machine has ended before {text!r} came ({error})")
            if time.monotonic() > deadline:
                self._fail(f"{text!r} did not come within {timeout:g} s ({status})")
            time.sleep(0.05)

    def start(self, command: str) -> None:
        """Begin a command in the guest, whose output is lost; also while the guest stands still."""
        self._send(f"{{ {command}; }} > /dev/null 2>&1 &")

    def run(self, command: str, timeout: float = RUN_TIMEOUT) -> str:
        """Run a command in the guest, and return what it prints.

        Raises:
            GuestError: it failed, or did not end.
        """
        number = self._send(command)
        assert self._shell is not None
        said, done = b"", None
        deadline = time.monotonic() + timeout
        while done is None:
            self._shell.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                said += (piece := self._shell.recv(1 << 16))
            except TimeoutError:
                self._fail(f"{command!r} did not end within {timeout:g} s, and printed {said!r}")
            if not piece:
                self._fail(f"the machine has ended, and not {command!r}")
            done = re.search(rb"\x1e%d (\d+)\n$" % number, said[-32:])
        # What was started before is answered first.
        output = re.split(rb"\x1e\d+ \d+\n", said)[-2].decode(errors="replace")
        if done[1] != b"0":
            self._fail(f"{command!r} ended with {int(done[1])}: {output}")
        return output

    def unload(self, *modules: str) -> None:
        """Remove modules, those that are loaded; the guest runs afterwards."""
        self.monitor("cont")
        self.run(f"for m in {' '.join(modules)}; do rmmod $m 2> /dev/null; done; true")

    def close(self) -> None:
        """End the machine."""
        self._cleanup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _send(self, command: str) -> int:
        assert self._shell is not None, "this guest has no port for commands"
        assert "\n" not in command
        self._requests += 1
        self._shell.sendall(f"{self._requests} {command}\n".encode())
        return self._requests

    def _addresses(self, count: int) -> list[str]:
        """Return where the ports are; a free TCP port and a pty are only known by QEMU."""
        shown = dict(re.findall(r"(port\d+): filename=(.*)", self.monitor("info chardev")))
        found = []
        for name in (f"port{number}" for number in range(count)):
            spelled = ((re.search(said, shown[name]), form) for said, form in _ADDRESSES.items())
            found.append(next((form.format(place[1]) for place, form in spelled if place), ""))
        return found

    def _fail(self, what: str) -> NoReturn:
        raise GuestError(f"{what}; the end of the console:\n{self.console[-2000:]}")


def boot_files(kernel: KernelName) -> dict[str, Path]:
    """Return what a machine of one's own boots: ``bzImage``, ``initrd``; and ``vmlinux``."""
    files = _files(kernel)
    initrd = _initrd(kernel, files.modules)
    return {"bzImage": files.image, "initrd": initrd, "vmlinux": files.symbols}


def _files(kernel: KernelName) -> _Files:
    names = MODULES[kernel]
    if kernel.startswith("debian"):
        debian = kernels.debian_kernel(kernel.partition("-")[2] or "6.1")
        return _Files(
            debian.image,
            debian.vmlinux,
            {name: debian.stripped_module(name) for name in names},
            {name: debian.module(name) for name in names},
        )
    built = kernels.built_kernel(kernel)
    modules = {name: built.module(name) for name in names}
    return _Files(built.bzimage, built.vmlinux, modules, modules)


def _initrd(kernel: KernelName, modules: Mapping[str, Path]) -> Path:
    """Return the initial ramdisk of a kernel, making it if no earlier run has."""
    contents = {
        "bin/busybox": (
            kernels.busybox32() if kernel == "i386" else Path(shutil.which("busybox") or "")
        ),
        "init": SCRIPTS / "init",
        "load": SCRIPTS / "load",
        **{f"{name}.ko": file for name, file in modules.items()},
    }
    if kernel != "i386":
        contents["bin/threads"] = programs.build("threads.c")
    key = hashlib.sha256(repr(list(contents)).encode())
    for file in contents.values():
        key.update(file.read_bytes())
    return _cached(f"initrd-{kernel}-{key.hexdigest()[:16]}.cpio", lambda at: _pack(contents, at))


def _pack(contents: Mapping[str, Path], output: Path) -> None:
    """Write an archive as the kernel unpacks it, not compressed: emulation makes that slow."""
    root = output.with_name("root")
    for name in ("bin", "dev", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    for name, file in contents.items():
        shutil.copyfile(file, root / name)
        (root / name).chmod(0o755)
    names = "\n".join(sorted(str(each.relative_to(root)) for each in root.rglob("*")))
    with output.open("wb") as archive:
        subprocess.run(
            ["cpio", "--quiet", "--create", "--format=newc", "--owner=+0:+0"],
            check=True,
            cwd=root,
            input=names.encode(),
            stdout=archive,
        )


def _cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return a file of the cache, made if it is not there."""
    cache = cache_directory()
    file = cache / name
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Renamed when whole: a run that is cut off, or beside this one, leaves no half file.
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            output = Path(scratch, name)
            make(output)
            output.replace(file)
    return file


class SharedGuests:
    """Guests that all tests of a session share, each booted when it is first asked for."""

    def __init__(self) -> None:
        self._machines = contextlib.ExitStack()
        self._guests: dict[str, Guest] = {}

    def __call__(self, kernel: KernelName = "debian", **options: Any) -> Guest:
        """Return a running guest of these options."""
        key = repr((kernel, sorted(options.items())))
        if key not in self._guests:
            self._guests[key] = self._machines.enter_context(Guest(kernel, **options))
        guest = self._guests[key]
        if not guest.running:  # as between two tests
            guest.monitor("cont")
        return guest

    def close(self) -> None:
        """End them all."""
        self._machines.close()
