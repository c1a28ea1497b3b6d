"""The guests of the lab do what the tests that use them rely on; gdb and QEMU's monitor say so."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import pytest

from lab.gdb import Gdb
from lab.guest import Guest, GuestError
from rsp.transports import open_transport

if TYPE_CHECKING:
    from lab.guest import BootKernel, KernelName, Port

NAMES: tuple[KernelName, ...] = ("debian", "x86_64", "i386")


def oracle(guest: Guest) -> Gdb:
    return Gdb(address=guest.address, symbols=guest.symbols)


@pytest.mark.parametrize("name", NAMES)
def test_a_guest_comes_up_with_its_cpus_and_its_modules(
    shared_kernel: BootKernel, name: KernelName
) -> None:
    guest = shared_kernel(name)
    assert guest.run("grep -c ^processor /proc/cpuinfo") == "2\n"
    assert guest.run("uname -m") == ("i686\n" if name == "i386" else "x86_64\n")
    assert f"Linux version {guest.run('uname -r').strip()} " in guest.run("cat /proc/version")
    for module in guest.modules:
        assert guest.run(f"ls -l /{module}.ko").startswith("-rwxr-xr-x")
    assert guest.run("cat /proc/modules") == ""
    guest.run("insmod /dummy.ko")
    assert guest.run("cat /proc/modules").startswith("dummy ")
    guest.run("rmmod dummy")
    assert guest.run("cat /proc/modules") == ""


@pytest.mark.live("gdb")
@pytest.mark.parametrize("name", NAMES)
def test_without_kaslr_a_kernel_is_where_it_was_linked(
    shared_kernel: BootKernel, name: KernelName
) -> None:
    guest = shared_kernel(name)
    address = guest.run("grep ' start_kernel$' /proc/kallsyms").split()[0]
    linked, banner, _ = oracle(guest).run(
        "output/x (long) start_kernel", "x/s &linux_banner", "detach"
    )
    assert int(linked, 16) == int(address, 16)
    assert guest.run("cat /proc/version").split("(")[0] in banner


def test_with_kaslr_it_is_not(boot_kernel: BootKernel) -> None:
    # The chance that a slide is 0 is 1 in 500.
    places = {
        boot_kernel("x86_64", kaslr=True).run("grep ' start_kernel$' /proc/kallsyms")
        for _ in range(3)
    }
    assert len(places) > 1


@pytest.mark.live("gdb")
@pytest.mark.parametrize("name", NAMES)
def test_its_load_comes_by_the_places_where_tests_stop_it(
    shared_kernel: BootKernel, name: KernelName
) -> None:
    guest = shared_kernel(name)
    places = ["tcp_init_sock", "vfs_read", "do_init_module", "do_nanosleep"]
    guest.monitor("stop")  # until gdb has read its symbols, which takes a while
    guest.start("insmod /dummy.ko; rmmod dummy")
    # A breakpoint that has been met is taken away, so that each is met once.
    stops = oracle(guest).run(
        *(f"tbreak {place}" for place in places), *("continue" for _ in places), "detach"
    )
    met = re.findall(r"Temporary breakpoint \d+, (\w+)", "\n".join(stops))
    assert sorted(met) == sorted(places)
    assert guest.running
    # Until what was started has ended.
    guest.run("while grep -q dummy /proc/modules; do usleep 1000; done")


def test_a_machine_that_was_left_standing_runs_again(shared_kernel: BootKernel) -> None:
    guest = shared_kernel("x86_64")
    guest.monitor("stop")
    with pytest.raises(GuestError, match="did not end within"):
        guest.run("true", timeout=0.3)
    again = shared_kernel("x86_64")
    assert again is guest
    assert again.run("echo now") == "now\n"


@pytest.mark.live("gdb")
def test_one_that_was_not_started_stands_at_its_first_instruction(boot_kernel: BootKernel) -> None:
    guest = boot_kernel("i386", stopped=True, cpus=1)
    assert "paused" in guest.monitor("info status")
    assert guest.console == ""
    oracle(guest).run("hbreak start_kernel", "continue", "detach")
    guest.wait_for("lab: the guest is up", 120)
    assert guest.run("grep -c ^processor /proc/cpuinfo") == "1\n"


def test_a_command_that_fails_and_one_whose_output_is_large(shared_kernel: BootKernel) -> None:
    guest = shared_kernel("x86_64")
    with pytest.raises(GuestError, match="'echo why; false' ended with 1: why"):
        guest.run("echo why; false")
    lines = guest.run("seq 20000").split()
    assert lines == [str(n) for n in range(1, 20001)]


def test_what_the_kernel_is_told_and_how_much_memory_it_has(boot_kernel: BootKernel) -> None:
    guest = boot_kernel("debian", append="pti=on", cpu="qemu64,+la57", memory=400, cpus=1)
    assert guest.run("cat /proc/cmdline") == (
        "console=ttyS0 panic=-1 no_timer_check nokaslr pti=on lab_shell=ttyS1\n"
    )
    assert "page tables isolation: enabled" in guest.run("dmesg")
    assert "LA57=1" in guest.monitor("info registers") or "la57" in guest.run("cat /proc/cpuinfo")
    found = re.search(r"MemTotal: +(\d+) kB", guest.run("cat /proc/meminfo"))
    assert found is not None
    assert 250 * 1024 < int(found[1]) < 400 * 1024


def test_a_panic_ends_the_machine_and_the_wait(boot_kernel: BootKernel) -> None:
    guest = boot_kernel("x86_64", cpus=1)
    guest.start("echo c > /proc/sysrq-trigger")
    with pytest.raises(GuestError, match="the machine has ended before 'never printed' came"):
        guest.wait_for("never printed")
    assert "sysrq: Trigger a crash" in guest.console


@pytest.mark.parametrize("port", ["unix", "telnet", "pty"])
def test_a_console_for_a_client_has_a_shell_and_is_captured(
    boot_kernel: BootKernel, port: Port
) -> None:
    guest = boot_kernel("x86_64", ports=(port, "shell"), cpus=1)
    assert guest.run("echo beside it") == "beside it\n"
    with contextlib.closing(open_transport(guest.ports[0], timeout=5)) as line:
        line.write(b"expr 41 + 1000\n")
        said = b""
        while b"1041" not in said:
            said += line.read(4096, 10)
    guest.wait_for("1041")


@pytest.mark.live("gdb")
@pytest.mark.parametrize("name", ["x86_64", "i386"])
def test_kgdb_on_a_line_of_its_own_beside_console_and_shell(
    boot_kernel: BootKernel, name: KernelName
) -> None:
    ports: tuple[Port, ...] = ("console", "unix", "console", "shell")
    guest = boot_kernel(name, append="kgdboc=ttyS1,115200", ports=ports)
    guest.start("echo g > /proc/sysrq-trigger")
    guest.wait_for("Entering kdb")
    kgdb = Gdb(address=guest.ports[1], symbols=guest.symbols)
    assert kgdb.run("bt 1", "detach")[0].startswith("#0")
    assert guest.run("echo it runs on") == "it runs on\n"
