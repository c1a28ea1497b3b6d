"""``rsp monitor`` on QEMU, whose monitor is the oracle, and on stubs that have none or refuse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lab.command import run
from rsp.testing.personalities import PLAIN
from rsp.testing.serve import listening
from rsp.testing.stub import Stub

if TYPE_CHECKING:
    from lab.servers import BootQemu, StartServer

STAY = "--leave-stopped"


def test_qemu(boot_qemu: BootQemu) -> None:
    machine = boot_qemu()
    expected = machine.monitor("info registers").replace("\r\n", "\n")
    assert "EAX=" in expected
    shown = run("monitor", machine.address, "info", "registers", STAY)
    assert (shown.status, shown.out, shown.err) == (0, expected, "")
    # Options may stand anywhere, and one word may be many.
    again = run("monitor", STAY, machine.address, "info registers")
    assert again == shown
    told = run("monitor", machine.address, "--json", "info", "registers", STAY).json
    assert told.keys() == {"command", "output"}
    assert told["command"] == "info registers"
    assert told["output"] == expected
    # What prints nothing.
    assert run("monitor", machine.address, "stop", STAY).out == ""


def test_what_a_monitor_refuses(gdbserver: StartServer) -> None:
    run("monitor", gdbserver(), "nonsense").fails("nonsense")


def test_a_stub_without_one() -> None:
    with listening(Stub(PLAIN)) as address:
        run("monitor", address, "help", STAY).fails("this stub has no monitor (qRcmd)")
        assert run("monitor", address).status == 2


def test_a_monitor_that_would_move_the_cursor() -> None:
    class Talkative(Stub):
        def monitor(self, command: str) -> str:
            return f"\x1b[31m{command}\tred\r\nand\x07 done\n"

    with listening(Talkative(replace(PLAIN, queries=frozenset({"qRcmd"})))) as address:
        shown = run("monitor", address, "say", STAY)
        assert shown.out == "\\x1b[31msay\tred\nand\\x07 done\n"
        told = run("monitor", address, "say", STAY, "--json").json
        assert told["output"] == "\x1b[31msay\tred\nand\x07 done\n"
