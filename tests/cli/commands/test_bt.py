"""``rsp bt`` on a program, a machine and a stub without threads: its JSON and its text."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

import rsp
from lab.frames import SOURCE, compile_variant
from lab.servers import gdbserver_tcp
from rsp.cli.run import main
from rsp.testing.boot import ELF
from rsp.testing.personalities import PLAIN
from rsp.testing.serve import listening
from rsp.testing.stub import Stub

if TYPE_CHECKING:
    from pathlib import Path

    from lab.servers import BootQemu


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    status = main(["bt", *arguments])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    answer = json.loads(run(capsys, *arguments, "--json"))
    assert list(answer) == ["threads"]
    threads: list[dict[str, Any]] = answer["threads"]
    return threads


@pytest.mark.live("gcc", "gdbserver")
def test_a_program(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    program = compile_variant("O2", tmp_path)
    with gdbserver_tcp(program) as address:
        with rsp.connect(address, symbols=program, on_exit="leave stopped") as target:
            for _ in range(3):  # to where inlined copies call it
                target.until(target.symbols["stop_here"].address, timeout=20)
            expected = target.backtrace()
            text = str(expected)
        options = (address, "--symbols", str(program), "--leave-stopped")
        (thread,) = run_json(capsys, *options)
        shown = run(capsys, *options)
        everything = run(capsys, *options, "--all")
        chosen = run_json(capsys, *options, "--thread", thread["id"])
    assert chosen == [thread]
    assert list(thread) == ["id", "name", "frames"]
    frames = thread["frames"]
    keys = "level pc function offset file line inlined arguments source"
    assert all(list(frame) == keys.split() for frame in frames)
    assert [frame["level"] for frame in frames] == list(range(len(expected)))
    assert [frame["function"] for frame in frames] == [
        *("stop_here", "innermost", "middle", "outer", "main")
    ]
    inlined = [False, True, True, False, False]
    assert [frame["inlined"] for frame in frames] == inlined
    assert [frame["offset"] is None for frame in frames] == inlined
    assert [frame["pc"] for frame in frames] == [f"{each.pc:#x}" for each in expected]
    source = SOURCE.read_text().splitlines()
    for frame in frames:
        assert frame["file"] == SOURCE.name
        assert frame["source"] == source[frame["line"] - 1]
    node, depth = frames[1]["arguments"]
    assert (depth["name"], depth["value"], depth["text"]) == ("depth", 4, "4")
    assert re.fullmatch(r"0x[0-9a-f]+", node["value"])
    assert node["text"] == node["value"]
    # For people: gdb's lines, and the source below each.
    lines = shown.splitlines()
    assert lines[::2] == text.splitlines()
    assert lines[1::2] == [f"        {frame['source'].strip()}" for frame in frames]
    assert everything == f"Thread {thread['id']} ({thread['name']}):\n{shown}"


def test_a_machine(capsys: pytest.CaptureFixture[str], boot_qemu: BootQemu) -> None:
    machine = boot_qemu(args=["-smp", "2"])
    with rsp.connect(machine.address, symbols=ELF, on_exit="leave stopped") as target:
        target.until("tick", timeout=20)
        other = target.threads[1].registers.pc
    options = (machine.address, "--symbols", str(ELF), "--leave-stopped", "--all")
    first, second = run_json(capsys, *options)
    assert [each["function"] for each in first["frames"]] == ["tick", "long_start"]
    assert [each["pc"] for each in second["frames"]][:1] == [f"{other:#x}"]
    headings = re.findall(r"^Thread (\S+) \(CPU#\d", run(capsys, *options), re.MULTILINE)
    assert headings == [first["id"], second["id"]]


def test_a_stub_without_threads_and_symbols(capsys: pytest.CaptureFixture[str]) -> None:
    stub = Stub(PLAIN, registers={"rip": 0x1234, "rsp": 0x9000})
    with listening(stub) as address:
        (thread,) = run_json(capsys, address, "--leave-stopped")
        (frame,) = thread["frames"]
        assert (frame["pc"], frame["function"], frame["file"]) == ("0x1234", None, None)
        assert frame["arguments"] == []
        text = run(capsys, address, "--leave-stopped")
    assert text.splitlines()[0] == "#0  0x0000000000001234 in ?? ()"
    assert len(text.splitlines()) == 1


def test_one_thread_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bt", ":1", "--all", "--thread", "1"]) == 2
    assert "not allowed with" in capsys.readouterr().err
