"""Every block of the README and of each page in docs/ does what it shows."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab import kernels
from lab.guest import Guest, boot_files
from lab.missing import kernels_needed
from lab.packages import FIXTURES, PACKAGES
from lab.pages import Block, Play, blocks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# How commands begin that are not run here, and where the same is done.
ELSEWHERE = {
    "pip install": "tests/test_packaging.py",
    ". env/bin/activate": "tests/test_packaging.py",
    "python3 -m venv": "tests/test_packaging.py",
    "apt-get": "tests/lab/obtain.py",
    "release=": "tests/lab/obtain.py",
    "for package in": "tests/lab/obtain.py",
    "tar xf": "tests/lab/obtain.py",
    "make": "tests/lab/obtain.py",
    "scripts/kconfig": "tests/lab/obtain.py",
}

# Pages about a guest of the lab.
GUESTS = ("linux.md", "kgdb.md")


def needs(block: Block) -> set[str]:
    """Return the programs that a block speaks of."""
    words = set(re.findall(r"[\w+-]+", block.text))
    if "QemuMachine" in words:
        words.add("qemu-system-x86_64")
    if block.page.name in GUESTS:
        words.update(FIXTURES["boot_kernel"])
    return words & PACKAGES.keys()


def blocks() -> list[Any]:
    found = []
    for page in PAGES:
        wanted: set[str] = set()  # by those before, too, which are played with it
        for block in blocks_of(page):
            wanted |= needs(block)
            live = wanted or "vmlinux" in block.text
            marks = [pytest.mark.live(*sorted(wanted))] if live else []
            found.append(pytest.param(block, id=str(block), marks=marks))
    return found


@pytest.fixture(scope="module")
def play() -> Iterator[Callable[[Path], Play]]:
    """Return the play of a page: one at a time."""
    playing: dict[Path, Play] = {}

    def of(page: Path) -> Play:
        if page not in playing:
            close()
            playing[page] = SCENES.get(page.name, plain)(page)
        return playing[page]

    def close() -> None:
        for each in playing.values():
            each.close()
        playing.clear()

    yield of
    close()


def plain(page: Path) -> Play:
    """A page that starts its own machines; with a kernel where it speaks of one."""
    files: dict[str, Path] = {}
    if "vmlinux" in "".join(block.text for block in blocks_of(page)):
        debian = kernels.debian_kernel()
        files = {"vmlinuz": debian.image, "vmlinux": debian.vmlinux}
    return Play(page, elsewhere=tuple(ELSEWHERE), files=files)


def tutorial(page: Path) -> Play:
    """The files are where Debian's packages have them."""
    debian = kernels.debian_kernel()
    files = {
        f"boot/{debian.image.name}": debian.image,
        f"usr/lib/debug/boot/{debian.vmlinux.name}": debian.vmlinux,
    }
    return Play(page, elsewhere=tuple(ELSEWHERE), files=files)


def linux(page: Path) -> Play:
    """A guest with KASLR is up, and its stub at :1234."""
    guest = Guest("debian", kaslr=True)
    files = {
        "vmlinux": guest.symbols,
        "modules": guest.modules["dummy"].parent,
        "other/vmlinux": kernels.built_kernel("x86_64").vmlinux,
    }
    return Play(page, guest=guest, names={":1234": guest.address}, files=files)


def kgdb(page: Path) -> Play:
    """A kernel with kgdb that the page boots; its shell has to be told which line is for it."""
    line = "console=ttyS0 kgdboc=ttyS0,115200 no_timer_check"
    names = {f"'{line}'": f"'{line} lab_console=ttyS0'"}
    return Play(page, elsewhere=tuple(ELSEWHERE), names=names, files=boot_files("x86_64"))


SCENES = {"tutorial.md": tutorial, "linux.md": linux, "kgdb.md": kgdb}


def test_no_command_is_left_out_for_nothing() -> None:
    commands = [
        command
        for page in PAGES
        for block in blocks_of(page)
        if block.language == "console"
        for _, command, _ in block.commands
    ]
    for beginning in ELSEWHERE:
        assert any(command.startswith(beginning) for command in commands), beginning


@pytest.mark.parametrize("block", blocks())
def test_the_block(block: Block, play: Callable[[Path], Play]) -> None:
    with kernels_needed():
        play(block.page).until(block)


def test_a_page_leaves_the_loggers_as_they_were(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\n"
        ">>> import logging\n"
        ">>> logging.getLogger('rsp.wire').setLevel(logging.DEBUG)\n"
        ">>> logging.getLogger('rsp.wire').addHandler(logging.StreamHandler())\n"
        "```\n"
    )
    logger = logging.getLogger("rsp.wire")
    before = logger.level, logger.handlers.copy()
    played = Play(page)
    played.until(blocks_of(page)[0])
    assert (logger.level, logger.handlers) != before
    played.close()
    assert (logger.level, logger.handlers) == before
