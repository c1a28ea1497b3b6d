"""Record tests/corpus anew from the live stubs: ``python tests/lab/record_corpus.py [NAME…]``.

Run by hand, on a machine that has all of the lab (``make lab``), when a session of `corpus` has
changed or a new one is wanted; the names say which versions the stubs must have. What is asked is
fixed; addresses of the programs, thread ids and the like are those of the recording, and stand in
the JSON file beside each log. Nothing of this machine's file system gets into a log: the programs
run as ``/tmp/subject``, and tests/test_corpus.py looks for more.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import rsp
from lab import boot, programs, servers
from lab.corpus import CORPUS, GDB_LOGS, LOOK, SCRIPTS
from lab.gdb import SETTINGS, batch, connecting, parse_registers
from rsp.testing.boot import IMAGE
from rsp.testing.qemu import QemuMachine
from rsp.transports import open_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rsp.transports.base import Transport

PROGRAM = Path("/tmp/subject")


@contextlib.contextmanager
def qemu(**options: Any) -> Iterator[str]:
    with QemuMachine(IMAGE, **options) as machine:
        yield machine.address


@contextlib.contextmanager
def qemu_user(*args: str) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            ["qemu-x86_64", "-g", f"{directory}/gdb", PROGRAM, *args], stdout=subprocess.DEVNULL
        )
        try:
            time.sleep(1)
            yield f"unix:{directory}/gdb"
        finally:
            process.kill()
            process.wait()


STUBS: dict[str, Callable[[], contextlib.AbstractContextManager[str]]] = {
    "qemu-7.2-x86_64-boot-modes": qemu,
    "qemu-7.2-i386-boot-modes": partial(qemu, binary="qemu-system-i386"),
    "qemu-7.2-x86_64-run": qemu,
    "qemu-7.2-x86_64-memory": partial(qemu, memory="3M"),
    "qemu-7.2-x86_64-smp2": partial(qemu, args=("-smp", "2")),
    "qemu-7.2-x86_64-pty": partial(qemu, gdb="pty", memory="3M"),
    "qemu-user-7.2-signal": partial(qemu_user, "signal"),
    "gdbserver-13.1-threads-avx": partial(servers.gdbserver_tcp, PROGRAM),
    "gdbserver-13.1-acks-signal": partial(servers.gdbserver_tcp, PROGRAM, "signal"),
    "valgrind-3.19-threads": partial(servers.vgdb, PROGRAM),
}

# What gdb is told in a log of its own.
GDB_ON_QEMU = (
    LOOK, "break *0x7d12", "hbreak *0x7cc7", "continue", LOOK, "continue", LOOK, "x/32xb $pc",
    "delete", "watch *(long long *)0x4000", "continue", "continue", "info breakpoints", "delete",
    "stepi", LOOK, "set $rdx = 0x1234", "set {int} 0x5000 = 0x12345678", "x/4xw 0x5000",
    "x/4xw 0x1ffff8", "monitor info status", "info threads", "detach",
)  # fmt: skip
GDB_ON_GDBSERVER = (
    "break vectors_filled", "continue", LOOK, "info threads", "thread 2", "info registers rip",
    "thread 1", "delete", "watch watched", "continue", "continue", "delete", "break visit",
    "continue", "backtrace", "info breakpoints", "set var watched = 0x4321", "set $rbx = 0x77",
    "stepi", LOOK, "x/2xg 0", "delete", "continue", "continue",
)  # fmt: skip


def unnamed(transport: Transport, name: str) -> Transport:
    """Let the log say the name of the recording where the address would stand."""
    transport.address = name
    if "acks" in name:
        transport.reliable = False  # so that the acks are kept
    return transport


def record(name: str) -> None:
    log = CORPUS / f"{name}.rsplog"
    log.unlink(missing_ok=True)
    symbols = boot.LABELS if name.startswith("qemu-7") else programs.symbols("subject.c")
    with STUBS[name]() as address:
        transport = unnamed(open_transport(address, timeout=20), name)
        # QEMU looks once a second whether somebody has opened its pseudo-terminal, and valgrind
        # takes as long to begin; a recording in
        # which that is waited for replays well on an idle machine only.
        time.sleep(2 if name.endswith("pty") or name.startswith("valgrind") else 0)
        with rsp.connect(transport, timeout=20, record=log) as target:
            answers = SCRIPTS[name](target, symbols)
    store(name, {"symbols": symbols, "answers": answers})


def record_gdb(name: str) -> None:
    log = CORPUS / f"{name}.rsplog"
    log.unlink(missing_ok=True)
    on_qemu = name.endswith("qemu-7.2")
    commands = GDB_ON_QEMU if on_qemu else GDB_ON_GDBSERVER
    start = qemu if on_qemu else partial(servers.gdbserver_tcp, PROGRAM, "signal")
    mark = "--- next ---"
    with start() as address:
        told = [*SETTINGS, "set sysroot /", "set exec-file-mismatch off"]
        if not on_qemu:
            told.append(f"file {PROGRAM}")
        told += [f"set remotelogfile {log}", connecting(address)]
        for command in commands:
            told += [f'printf "{mark}\\n"', command]
        done = subprocess.run(
            batch(*told), check=False, capture_output=True, text=True, timeout=120
        )
    said = [part.strip("\n") for part in done.stdout.split(f"{mark}\n")[1:]]
    assert len(said) == len(commands), done.stdout + done.stderr
    looked = [text for command, text in zip(commands, said, strict=True) if command == LOOK]
    # The commands are in the log too, and one of them has the address.
    text = log.read_text(encoding="latin-1").replace(address.removeprefix("unix:"), name)
    lines = [line for line in text.split("\n") if mark not in line]
    log.write_text("\n".join(lines), encoding="latin-1", newline="\n")
    # What gdb printed at each look, as the oracle reads it: the text of AVX-512 has 100 kB.
    registers = [
        {key: f"{value:#x}" for key, value in parse_registers(text).items() if value is not None}
        for text in looked
    ]
    store(name, {"registers": registers})


def store(name: str, value: object) -> None:
    path = CORPUS / f"{name}.json"
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="ascii")
    size = (CORPUS / f"{name}.rsplog").stat().st_size
    print(f"{name}: {size} bytes")
    assert size < 200_000


def main(names: list[str]) -> None:
    CORPUS.mkdir(exist_ok=True)
    shutil.copy(programs.build("subject.c"), PROGRAM)
    try:
        for name in names or [*SCRIPTS, *GDB_LOGS]:
            (record_gdb if name in GDB_LOGS else record)(name)
    finally:
        PROGRAM.unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
