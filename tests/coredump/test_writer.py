"""What is written where: the file, its holes, memory that cannot be read, stubs that cannot."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING

import pytest

import rsp
from lab.cores import CoreFile
from rsp.coredump import write_core
from rsp.coredump.memory_map import Region, parse_maps
from rsp.coredump.ranges import Range, union, without
from rsp.coredump.write_elf import Core, Load, Run, note, write_elf
from rsp.errors import ArgumentError, MemoryFault, UnsupportedCommand
from rsp.testing.personalities import KGDB, PLAIN
from rsp.testing.serve import StubTransport, connected
from rsp.testing.stub import Stub

if TYPE_CHECKING:
    from pathlib import Path

    from lab.servers import StartServer

PAGE = 4096


def pattern(at: int, size: int) -> bytes:
    """Return memory of which every third page is zero."""
    out = bytearray()
    for address in range(at, at + size):
        page = address // PAGE
        out.append(0 if page % 3 == 0 else (page * 7 + address) % 256)
    return bytes(out)


def write(core: Core, path: Path) -> CoreFile:
    with path.open("wb") as file:
        write_elf(file, core, pattern)
    return CoreFile(path)


@pytest.mark.parametrize("word", [4, 8])
@pytest.mark.parametrize("size", [1, PAGE, 3 * PAGE, 3 * PAGE + 5, 2 << 20])
def test_memory_with_holes(word: int, size: int, tmp_path: Path) -> None:
    first, second = Run(0x3000, size), Run(0x40_0000, PAGE)
    loads = [
        Load(address=0x3000, size=size, run=first),
        Load(address=0x7000_0000, size=PAGE, run=None),
        Load(address=0x40_0000, physical=0x1000, size=PAGE, run=second),
    ]
    notes = note("CORE", 1, b"status") + note("VMCOREINFO", 0, b"OSRELEASE=1\n")
    core = Core(word_size=word, notes=notes, runs=[first, second], loads=loads)
    found = write(core, tmp_path / "core")
    assert found.notes == [("CORE", 1, b"status"), ("VMCOREINFO", 0, b"OSRELEASE=1\n")]
    assert found.virtual(0x3000, size) == pattern(0x3000, size)
    assert found.virtual(0x40_0000, PAGE) == pattern(0x40_0000, PAGE)
    assert [(each.size, each.kept) for each in found.segments] == [
        (size, size),
        (PAGE, 0),
        (PAGE, PAGE),
    ]


def test_zeros_take_no_room(tmp_path: Path) -> None:
    run = Run(0, 64 << 20)
    core = Core(word_size=8, notes=b"", runs=[run], loads=[Load(address=0, size=run.size, run=run)])
    with (tmp_path / "core").open("wb") as file:
        write_elf(file, core, lambda at, size: bytes(size))
    status = (tmp_path / "core").stat()
    assert status.st_size >= 64 << 20
    assert status.st_blocks * 512 < 1 << 20
    assert CoreFile(tmp_path / "core").virtual(0, 64 << 20) == bytes(64 << 20)


def test_what_cannot_be_read_is_not_claimed(tmp_path: Path) -> None:
    run, other = Run(0x1000, 8 * PAGE), Run(0x10_0000, PAGE)
    loads = [
        Load(address=0x1000, size=4 * PAGE, run=run),
        Load(address=0x9_0000, size=2 * PAGE, run=run, offset=4 * PAGE),
        Load(address=0x5_0000, size=2 * PAGE, run=run, offset=6 * PAGE),
        Load(address=0x10_0000, size=PAGE, run=other),
    ]
    core = Core(word_size=8, notes=b"", runs=[run, other], loads=loads)
    bad = 0x1000 + 5 * PAGE + 7

    def read(at: int, size: int) -> bytes:
        if at < bad < at + size:
            raise MemoryFault("no", address=bad, partial=pattern(at, bad - at))
        return pattern(at, size)

    told: list[tuple[int, int]] = []
    with (tmp_path / "core").open("wb") as file:
        write_elf(file, core, read, lambda done, total: told.append((done, total)))
    found = CoreFile(tmp_path / "core")
    assert [each.kept for each in found.segments] == [4 * PAGE, PAGE + 7, 0, PAGE]
    assert found.virtual(0x10_0000, PAGE) == pattern(0x10_0000, PAGE)
    assert told[-1] == (core.total, core.total)


def test_a_32_bit_machine_with_more_than_4_gib() -> None:
    run = Run(0x1_0000_0000, PAGE)
    core = Core(word_size=4, notes=b"", runs=[run], loads=[Load(address=0, size=PAGE, run=run)])
    file = io.BytesIO()
    write_elf(file, core, pattern)
    assert file.getvalue()[4] == 2
    assert file.getvalue()[18] == 3  # EM_386, as QEMU writes it


MAPS = b"""\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus daemon
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/dbus daemon
7f0000000000-7f0000001000 rw-s 00000000 00:05 77  /dev/dri/card0
7f0000001000-7f0000002000 rw-s 00000000 00:05 78  /dev/zero (deleted)
7f0000002000-7f0000003000 rw-s 00000000 08:02 79  /home/me/a file
7f0000003000-7f0000004000 rw-p 00000000 00:00 0
7f0000004000-7f0000005000 ---p 00000000 00:00 0
7f0000005000-7f0000006000 rw-s 00000000 00:01 80  /memfd:x (deleted)
7ffd00000000-7ffd00001000 r--p 00000000 00:00 0   [vvar]
7ffd00001000-7ffd00002000 r-xp 00000000 00:00 0   [vdso]
junk
7ffd00002000-7ffd00001000 r-xp 00000000 00:00 0
"""


def test_which_mappings_are_saved() -> None:
    regions = parse_maps(MAPS)
    assert len(regions) == 10
    assert regions[0] == Region(
        begin=0x400000,
        end=0x452000,
        permissions="r-x",
        inode=173521,
        path=b"/usr/bin/dbus daemon",
    )
    assert [region.is_memory for region in regions] == [
        *(True, True),  # a private mapping of a file
        False,  # a device
        True,  # shared, and of no file
        False,  # in its file
        True,
        False,  # not to be read
        True,
        False,  # [vvar]
        True,
    ]


def test_ranges() -> None:
    assert union([Range(5, 5), Range(3, 4), Range(4, 6)]) == [Range(3, 6)]
    assert list(without([Range(0, 100)], [])) == [Range(0, 100)]
    assert list(without([Range(0, 10), Range(10, 20)], [Range(0, 20)])) == []


def test_a_kernel_behind_kgdb_is_refused(tmp_path: Path) -> None:
    with (
        connected(Stub(KGDB)) as target,
        pytest.raises(UnsupportedCommand, match="physical memory"),
    ):
        write_core(target, tmp_path / "core")
    assert list(tmp_path.iterdir()) == []


def test_a_stub_that_knows_nothing_is_refused(tmp_path: Path) -> None:
    with (
        rsp.connect(StubTransport(Stub(PLAIN))) as target,
        pytest.raises(UnsupportedCommand, match="QEMU's can"),
    ):
        write_core(target, tmp_path / "core")
    assert list(tmp_path.iterdir()) == []


def test_no_file(gdbserver: StartServer, tmp_path: Path) -> None:
    with rsp.connect(gdbserver()) as target:
        with pytest.raises(ArgumentError, match="is no file"):
            write_core(target, tmp_path)
        with pytest.raises(ArgumentError):
            write_core(target, 3)  # type: ignore[arg-type]
        with pytest.raises(ArgumentError):
            write_core(target.inferior, tmp_path / "core")  # type: ignore[arg-type]
        with pytest.raises(FileNotFoundError):
            write_core(target, tmp_path / "none" / "core")
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        with pytest.raises(ArgumentError, match="is no file"):
            write_core(target, pipe)
        pipe.unlink()
        # What is there is as it was until the new one is complete; a link leads to it.
        old, link = tmp_path / "old", tmp_path / "link"
        old.write_bytes(b"old")
        link.symlink_to(old)

        def stop(done: int, total: int) -> None:
            assert old.read_bytes() == b"old"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_core(target, link, stop)
        assert old.read_bytes() == b"old"
        assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "old"]
        write_core(target, link)
        assert link.is_symlink()
        assert old.read_bytes().startswith(b"\x7fELF")
        assert threading.active_count() == 1
