"""Every block of the README does what it shows."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import rsp
from rsp.testing.boot import ELF, IMAGE

if TYPE_CHECKING:
    from lab.guest import BootKernel, Guest
    from lab.servers import BootQemu

VMLINUX = '"vmlinux"'
MODULES = '"modules"'
README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found
    return found


def test_every_block_is_tried_here() -> None:
    languages = re.findall(r"^```(\w+)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(languages) == {"python", "console"}


@pytest.mark.live("qemu-system-x86_64")
def test_the_python_blocks(boot_qemu: BootQemu) -> None:
    address = boot_qemu(IMAGE).address
    text = "\n".join(block for block in blocks("python") if VMLINUX not in block)
    assert '":1234"' in text
    text = text.replace('":1234"', repr(address)).replace('"boot.elf"', repr(str(ELF)))
    test = doctest.DocTestParser().get_doctest(text, {}, "README", str(README), 0)
    said: list[str] = []
    result = doctest.DocTestRunner().run(test, out=said.append)
    assert result.attempted > 10
    assert not result.failed, "".join(said)


@pytest.mark.live("qemu-system-x86_64")
def test_the_python_block_about_a_kernel(boot_kernel: BootKernel) -> None:
    (text,) = (block for block in blocks("python") if VMLINUX in block and MODULES not in block)
    check_with_kernel(text, boot_kernel("debian", cpus=1))


@pytest.mark.live("qemu-system-x86_64")
def test_the_python_block_about_the_running_kernel(boot_kernel: BootKernel) -> None:
    (text,) = (block for block in blocks("python") if MODULES in block)
    guest = boot_kernel("debian", cpus=1, kaslr=True)
    # While a debugger has it stopped, its time does not pass.
    guest.start("sleep 3; insmod /dummy.ko")
    check_with_kernel(text.replace(MODULES, repr(str(guest.modules["dummy"].parent))), guest)


def check_with_kernel(text: str, guest: Guest) -> None:
    text = text.replace('":1234"', repr(guest.address)).replace(VMLINUX, repr(str(guest.symbols)))
    text = re.sub(r"\.c:\d+$", ".c:...", text, flags=re.MULTILINE)  # another kernel's are others
    test = doctest.DocTestParser().get_doctest(text, {"rsp": rsp}, "README", str(README), 0)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert result.attempted > 5
    assert not result.failed, "".join(said)


@pytest.mark.live("qemu-system-x86_64")
def test_the_console_blocks(boot_qemu: BootQemu, boot_kernel: BootKernel) -> None:
    # The machine has no disk: it stays in its firmware however long it runs in between.
    for block in blocks("console"):
        for session in re.split(r"^\$ rsp ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = session.partition("\n")
            names = {"boot.elf": str(ELF)}
            if "vmlinux" in command:
                guest = boot_kernel("debian", cpus=1)
                names |= {":1234": guest.address, "vmlinux": str(guest.symbols)}
            else:
                names[":1234"] = boot_qemu(None).address
            words = [names.get(word, word) for word in command.split()]
            done = subprocess.run(
                [sys.executable, "-m", "rsp", *words],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.stdout + done.stderr == expected, command
