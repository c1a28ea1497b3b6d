"""A running kernel seen through its own stub, kgdb, where there is no monitor and no second CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import rsp
from rsp.linux.slide import SlideFinder

if TYPE_CHECKING:
    from lab.guest import BootKernel, KernelName
    from lab.kernels import DebianKernel


@pytest.mark.parametrize("kernel", ["x86_64", "i386"])
def test_kernel(boot_kernel: BootKernel, debian_kernel: DebianKernel, kernel: KernelName) -> None:
    guest = boot_kernel(
        kernel, kaslr=True, append="kgdboc=ttyS1", ports=("console", "unix", "console", "shell")
    )
    kallsyms = guest.run("grep -E ' (_text|vfs_read)$' /proc/kallsyms")
    where = {name: int(address, 16) for address, _, name in map(str.split, kallsyms.splitlines())}
    banner = guest.run("cat /proc/version").strip()
    cmdline = guest.run("cat /proc/cmdline").strip()
    guest.run("dmesg -n 1; insmod /dummy.ko")
    text = int(guest.run("cat /sys/module/dummy/sections/.text"), 16)
    names = guest.run("cd /proc; grep '' [0-9]*/comm 2> /dev/null; true").splitlines()
    guest.start("echo g > /proc/sysrq-trigger")
    directory = guest.modules["dummy"].parent
    with rsp.connect(guest.ports[1], symbols=guest.symbols, modules=directory) as target:
        assert target.stub.name == "kgdb"
        found = rsp.linux.Kernel(target, modules=directory)
        assert target.symbols["_text"].address == where["_text"]
        assert target.symbols["vfs_read"].address == where["vfs_read"]
        linked = rsp.SymbolTable(guest.symbols)["_text"].address
        assert found.slide == where["_text"] - linked
        assert (found.banner, found.cmdline) == (banner, cmdline)
        [module] = found.modules()
        assert (module.name, module.address, module.state) == ("dummy", text, "live")
        assert target.symbols["dummy_xmit"].address >= text
        tasks = {task.pid: task.comm for task in found.tasks()}
        current = found.current(0)
        assert current.is_running
        assert current.comm.encode() == found.per_cpu("runqueues", 0)["curr"]["comm"].string_()
        wrong = rsp.SymbolTable(debian_kernel.vmlinux)
        with pytest.raises(rsp.SymbolError, match=r"debug/.* is not the kernel that runs"):
            SlideFinder(target.inferior, wrong).find()
        log = "".join(f"{record}\n" for record in found.log())
    for line in names:
        pid, _, name = line.partition("/comm:")
        # Processes of the load come and go, and of kworkers /proc shows more than their name.
        if int(pid) <= 3 or (
            int(pid) in tasks and "kworker" not in name and name not in ("sh", "nc")
        ):
            assert tasks[int(pid)] == name[:15]
    assert guest.run("dmesg").startswith(log)
    assert "sysrq: DEBUG" in log
