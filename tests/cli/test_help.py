"""What ``rsp help`` and ``rsp COMMAND --help`` say, and that it is true: the examples run."""

from __future__ import annotations

import os
import re
import shlex
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.command import Finished, run, serving
from rsp.cli import COMMANDS
from rsp.cli.help import module_of

if TYPE_CHECKING:
    from pathlib import Path

    from lab.guest import BootKernel
    from lab.kernels import DebianKernel
    from lab.servers import BootQemu

EXAMPLES = [example for command in COMMANDS for example in module_of(command).EXAMPLES]
LISTENING = [each for each in EXAMPLES if each.startswith(("rsp proxy", "rsp replay"))]
CONSOLES = [each for each in EXAMPLES if each.startswith("rsp console")]
OF_FILES = [each for each in EXAMPLES if each.split()[2:3] == ["vmlinux"]]
OF_KERNELS = [each for each in EXAMPLES if ":1234" in each and "vmlinux" in each]
OTHERS = sorted({*EXAMPLES} - {*LISTENING, *CONSOLES, *OF_FILES, *OF_KERNELS})


@pytest.mark.parametrize("arguments", [(), ("help",), ("--help",), ("-h",), ("help", "help")])
def test_the_list_of_the_commands(arguments: tuple[str, ...]) -> None:
    shown = run(*arguments)
    assert (shown.status, shown.err) == (0, "")
    listed = re.findall(r"^  (\w+)  +\S", shown.out, re.MULTILINE)
    assert listed == list(COMMANDS)
    assert shown.out.startswith("usage: rsp COMMAND")
    assert max(map(len, shown.out.splitlines())) < 80


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("inof", "no command 'inof' (nearest: info); rsp help lists the commands"),
        ("b\x1b[31m", r"no command 'b\x1b[31m'; rsp help lists the commands"),
        ("--json", "the command comes before --json; rsp help lists the commands"),
    ],
)
def test_what_is_no_command(wrong: str, said: str) -> None:
    shown = run(wrong, "info", ":1234")
    assert (shown.status, shown.out) == (2, "")
    assert shown.err == f"usage: rsp COMMAND [ARGUMENT ...]\nrsp: error: {said}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_begins_with_what_is_its_own(name: str) -> None:
    shown = run(name, "--help", env={"COLUMNS": "80"})
    assert (shown.status, shown.err) == (0, "")
    assert run("help", name, env={"COLUMNS": "80"}) == shown
    assert max(map(len, shown.out.splitlines())) <= 80
    usage, purpose, *sections = shown.out.split("\n\n")
    assert purpose == f"{COMMANDS[name][0].upper()}{COMMANDS[name][1:]}."
    titles = [section.partition(":\n")[0] for section in sections]
    own = titles.index("options")
    assert titles[own + 1 : -1] in (
        ["options of all commands with a TARGET", "symbols"],
        ["options of all commands with a FILE"],
        ["symbols"],
        [],
    )
    # The usage names what is this command's own, in full, and no more.
    options = re.findall(r"^  (--?[\w-]+)", sections[own], re.MULTILINE)
    assert options[0] == "-h"
    named = re.findall(r"(?<=[\[ ])--?[a-z-]+", usage)
    assert set(named) - {"--symbols"} == set(options[1:])
    assert ("[OPTION ...]" in usage) == bool(titles[own + 1 : -1])
    # The examples come last: they are what is on the screen.
    assert sections[-1].startswith("example")
    examples = [line.strip() for line in sections[-1].splitlines()[1:]]
    assert examples == list(module_of(name).EXAMPLES)
    assert all(example.startswith(f"rsp {name}") for example in examples)


def run_example(example: str, **instead: object) -> Finished:
    """Run an example with a machine and files of this test for those that it names."""
    names = {
        ":1234": "target",
        "vmlinux": "symbols",
        "memory.bin": "file",
        "machine.core": "file",
        "oops.txt": "log",
    }
    words = [
        str(instead[names[word]]) if word in names else word for word in shlex.split(example)[1:]
    ]
    done = run(*words)
    assert (done.status, done.err.startswith("rsp: ")) == (0, False), done.err
    return done


@pytest.mark.parametrize("example", OTHERS)
def test_an_example_for_any_target(boot_qemu: BootQemu, tmp_path: Path, example: str) -> None:
    done = run_example(example, target=boot_qemu().address, file=tmp_path / "memory.bin")
    assert done.out or (tmp_path / "memory.bin").stat().st_size >= 1 << 20


@pytest.mark.parametrize("example", OF_KERNELS)
def test_an_example_for_a_kernel(shared_kernel: BootKernel, example: str) -> None:
    guest = shared_kernel("debian", kaslr=True)
    guest.start("insmod /dummy.ko")
    assert run_example(example, target=guest.address, symbols=guest.symbols).out
    assert guest.running
    guest.unload("dummy")


@pytest.mark.parametrize("example", OF_FILES)
def test_an_example_for_a_file(debian_kernel: DebianKernel, tmp_path: Path, example: str) -> None:
    log = tmp_path / "oops.txt"
    log.write_text("Oops: 0002 [#1]\n")
    assert run_example(example, symbols=debian_kernel.vmlinux, log=log).out


@pytest.mark.parametrize("example", CONSOLES)
def test_an_example_for_a_line(debian_kernel: DebianKernel, example: str) -> None:
    ours, theirs = os.openpty()
    try:
        assert "/dev/ttyS0" in example
        example = example.replace("/dev/ttyS0", os.ttyname(theirs))
        # Nothing comes, and what is typed is at its end from the start: so it ends.
        assert run_example(example, symbols=debian_kernel.vmlinux).out == ""
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_examples_that_listen(boot_qemu: BootQemu, tmp_path: Path) -> None:
    proxy, replay = (shlex.split(example)[1:] for example in LISTENING)
    log = str(tmp_path / "session.rsplog")
    names = {":2345": ":0", ":1234": boot_qemu().address, "session.rsplog": log}
    said = []
    for words, differs in ((proxy, {}), (replay, {":1234": ":0"})):
        with serving(*({**names, **differs}.get(word, word) for word in words)) as server:
            with rsp.connect(server.address) as target:
                said.append(target.registers.pc)
            assert server.finish().status == 0
    assert said == [0xFFFFFFF0, 0xFFFFFFF0]
