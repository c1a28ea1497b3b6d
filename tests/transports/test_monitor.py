"""A BREAK by QEMU's monitor, on a machine that runs nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import rsp
from rsp.transports.monitor import send_break

if TYPE_CHECKING:
    from pathlib import Path

    from lab.servers import BootQemu


@pytest.mark.live("qemu-system-x86_64")
def test_the_chardev_is_found_by_the_lines_address(boot_qemu: BootQemu, tmp_path: Path) -> None:
    monitor = f"unix:{tmp_path}/monitor"
    args = ["-monitor", f"{monitor},server=on,wait=off"]
    chardevs = {
        "a": f"socket,path={tmp_path}/line,server=on,wait=off",
        "b": f"socket,path={tmp_path}/line2,server=on,wait=off",
        "c": "pty",
        "d": "socket,host=127.0.0.1,port=0,server=on,wait=off,telnet=on",
    }
    for name, chardev in chardevs.items():
        args += ["-chardev", f"{chardev},id={name}", "-serial", f"chardev:{name}"]
    machine = boot_qemu(None, args=args)
    shown = machine.monitor("info chardev")
    (pty,) = re.findall(r"pty:(\S+)", shown)
    (port,) = re.findall(r"telnet:[\d.]+:(\d+)", shown)
    for line in (f"unix:{tmp_path}/line", pty, f"telnet://localhost:{port}"):
        send_break(monitor, line)
    with pytest.raises(rsp.TransportError, match=r"no serial port at unix:.*/lin; it has .*\ba \("):
        send_break(monitor, f"unix:{tmp_path}/lin")


def test_nobody_is_at_the_monitor(tmp_path: Path) -> None:
    with pytest.raises(rsp.TransportError, match="no such socket"):
        send_break(f"unix:{tmp_path}/monitor", "unix:/line")
