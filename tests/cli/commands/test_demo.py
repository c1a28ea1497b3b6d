"""The demo: on a live machine and from its recording, the same to the letter."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.boot import LABELS, STATIONS
from lab.command import run
from rsp.cli.commands import demo
from rsp.testing.boot import ELF, IMAGE, SOURCE

if TYPE_CHECKING:
    from pathlib import Path

# No program is found, so no QEMU either.
NO_PATH = {"PATH": ""}


def test_without_qemu_the_recording_is_played() -> None:
    shown = run("demo", env=NO_PATH)
    assert (shown.status, shown.err) == (0, "")
    first, *rest = shown.out.splitlines()
    assert first.startswith("This is a recording")
    assert "apt-get install" in first
    reached = [line.split()[0] for line in rest if re.match(r"[A-Z]+\d\d  ", line)]
    assert list(dict.fromkeys(reached)) == [
        "REAL16",
        "PROTECTED16",
        "PROTECTED32",
        "COMPAT32",
        "LONG64",
    ]


def test_the_stops_are_those_of_the_boot_sector() -> None:
    shown = run("demo", "--json", env=NO_PATH).json
    assert shown["source"] == "recording"
    reset, *stops = shown["stops"]
    assert (reset["mode"], reset["pc"], reset["symbol"]) == ("REAL16", "0xfffffff0", None)
    way = STATIONS["qemu-system-x86_64"]
    expected = [(way[label].name, hex(LABELS[label]), label) for label in [*way, "tick"]]
    assert [(stop["mode"], stop["pc"], stop["symbol"]) for stop in stops] == expected
    assert [stop["counter"] for stop in stops[-2:]] == [0, 1]
    assert shown["greeting"] == "16, 32, 64: here we are"
    source = SOURCE.read_text("utf-8").splitlines()
    table = rsp.SymbolTable(ELF)
    for stop in stops:
        address = int(stop["pc"], 16)
        line = table.line(address)
        assert line is not None
        assert (stop["file"], stop["line"]) == (line.file, line.line)
        assert any(stop["symbol"] in text for text in source[: stop["line"]])
        # The code is that of the image, which is loaded at 0x7c00.
        image = IMAGE.read_bytes()[address - 0x7C00 :]
        assert bytes.fromhex(stop["code"]) == image[:8]


@pytest.mark.live("qemu-system-x86_64")
def test_a_live_run_and_the_recording_print_the_same() -> None:
    live, played = run("demo"), run("demo", env=NO_PATH)
    assert (live.status, live.err, played.status) == (0, "", 0)
    assert live.out.splitlines()[0] == "qemu-system-x86_64 runs the boot sector of this package."
    assert live.out.splitlines()[1:] == played.out.splitlines()[1:]
    live_json, played_json = run("demo", "--json").json, run("demo", "--json", env=NO_PATH).json
    assert (live_json.pop("source"), played_json.pop("source")) == ("qemu", "recording")
    assert live_json == played_json


@pytest.mark.live("qemu-system-x86_64")
def test_the_recording_is_made_by_the_demo(tmp_path: Path) -> None:
    log = tmp_path / "demo.rsplog"
    live = run("demo", "--record", str(log))
    assert live.status == 0
    assert log.read_text("ascii").endswith("\nEnd of log\n")
    # Played as the bundled one is, it says the same as that.
    again = tmp_path / "again.rsplog"
    played = run("demo", "--record", str(again), env=NO_PATH)
    assert played.out.splitlines()[1:] == live.out.splitlines()[1:]
    commands = re.compile(r"\$[^#]*#..")

    def sent(path: Path) -> list[str]:
        lines = path.read_text("ascii").splitlines()
        return [packet for line in lines if line[:2] == "w " for packet in commands.findall(line)]

    assert sent(log) == sent(again) == sent(demo.RECORDING)


def test_the_recording_is_of_the_live_machine_and_ends_with_a_detach() -> None:
    lines = demo.RECORDING.read_text("ascii").splitlines()
    assert lines[1].startswith("c transport reliable unix:")
    assert "$D;1#" in lines[-4]
    assert lines[-3:] == ["r +$OK#9a", "w +", "End of log"]
